//! The KV at one moment.

use std::sync::Arc;

use bytes::Bytes;
use engine::{Error, KvSnapshot, Operation, Result, Visit};
use rocksdb::{ReadOptions, Snapshot};
use self_cell::self_cell;

use crate::{error, kv::Database};

self_cell! {
    /// A snapshot together with the database that it belongs to.
    pub(crate) struct OwnedSnapshot {
        owner: Arc<Database>,
        #[covariant]
        dependent: Snapshot,
    }
}

impl OwnedSnapshot {
    pub(crate) fn take(database: &Arc<Database>) -> OwnedSnapshot {
        OwnedSnapshot::new(Arc::clone(database), |database| database.db.snapshot())
    }
}

impl KvSnapshot for OwnedSnapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        let value = self.borrow_dependent().get_pinned(key);
        let value = value.map_err(|failure| error::of(Operation::Read, failure))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn scan(&self, start_key: &[u8], end_key: &[u8], is_reverse: bool, visit: Visit<'_>) -> Result<()> {
        if !end_key.is_empty() && start_key >= end_key {
            return Ok(());
        }
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(start_key);
        if !end_key.is_empty() {
            options.set_iterate_upper_bound(end_key);
        }
        let mut rows = self.borrow_dependent().raw_iterator_opt(options);
        if is_reverse {
            rows.seek_to_last();
        } else {
            rows.seek_to_first();
        }
        while let Some((key, value)) = rows.item() {
            if visit(key, value).is_break() {
                return Ok(());
            }
            if is_reverse {
                rows.prev();
            } else {
                rows.next();
            }
        }
        rows.status().map_err(|failure| error::of(Operation::Read, failure))
    }
}

/// What an engine gives when it may not be read any more.
pub(crate) struct NoSnapshot;

impl KvSnapshot for NoSnapshot {
    fn get(&self, _: &[u8]) -> Result<Option<Bytes>> {
        Err(Error::Poisoned)
    }

    fn scan(&self, _: &[u8], _: &[u8], _: bool, _: Visit<'_>) -> Result<()> {
        Err(Error::Poisoned)
    }
}
