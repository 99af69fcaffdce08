//! The address book: where the stores of the cluster are, so that they find one another also when placement is silent
//! (D8). Placement's word replaces it; a Hello of a newer incarnation corrects an address; it is kept on disk.

use std::collections::BTreeMap;

use bytes::Bytes;
use engine::{LogBatch, LogEngine};
use parking_lot::Mutex;
use placement::{KeyMode, StoreRecord, StoreState};
use proto::{Message, placement as wire};
use tokio::sync::watch;
use types::{Incarnation, StoreId, WallTime};

/// Local rows of the log engine: a store of the book, by id.
const STORE_PREFIX: &[u8] = b"store:";

/// What clients' keys look like in this cluster, as `init` was told.
const KEY_MODE_ROW: &[u8] = b"key-mode";

/// The nonce under which this store asks for an id.
const NONCE_ROW: &[u8] = b"registration-nonce";

/// Where stores are.
#[derive(Default)]
pub(crate) struct AddressBook {
    entries: Mutex<Entries>,
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct Entries {
    records: BTreeMap<StoreId, StoreRecord>,
    /// Placement has said who is there: nobody else is, whatever they say (a removed store may still run).
    is_placements: bool,
}

/// What the log engine's local rows hold.
pub(crate) struct LocalRows {
    pub(crate) records: Vec<StoreRecord>,
    pub(crate) key_mode: Option<KeyMode>,
    pub(crate) registration_nonce: Option<u64>,
}

impl AddressBook {
    /// Every store, in order of id.
    pub(crate) fn records(&self) -> Vec<StoreRecord> {
        self.entries.lock().records.values().cloned().collect()
    }

    /// Where every store is, except those whose address is not known.
    pub(crate) fn addresses(&self) -> Vec<(StoreId, String)> {
        let entries = self.entries.lock();
        let known = entries.records.values().filter(|record| !record.address.is_empty());
        known.map(|record| (record.id, record.address.clone())).collect()
    }

    /// Where one store is.
    pub(crate) fn address_of(&self, id: StoreId) -> Option<String> {
        self.entries
            .lock()
            .records
            .get(&id)
            .map(|record| record.address.clone())
            .filter(|address| !address.is_empty())
    }

    /// Told at every change; the number only counts.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// What the last run knew.
    pub(crate) fn load(&self, stores: Vec<StoreRecord>) {
        self.entries.lock().records = stores.into_iter().map(|record| (record.id, record)).collect();
        self.changes.send_modify(|count| *count += 1);
    }

    /// Placement's word: these are the stores. A newer incarnation's address that only a Hello has told is kept.
    pub(crate) fn replace(&self, stores: Vec<StoreRecord>) {
        {
            let mut entries = self.entries.lock();
            entries.is_placements = true;
            let mut next: BTreeMap<_, _> = stores.into_iter().map(|record| (record.id, record)).collect();
            for (id, record) in &mut next {
                if let Some(known) = entries.records.get(id)
                    && known.incarnation > record.incarnation
                {
                    record.address.clone_from(&known.address);
                    record.incarnation = known.incarnation;
                }
            }
            if entries.records == next {
                return;
            }
            entries.records = next;
        }
        self.changes.send_modify(|count| *count += 1);
    }

    /// A Hello's word: there is a store, and a start of it had this address.
    pub(crate) fn learn(&self, id: StoreId, address: &str, incarnation: Incarnation) {
        {
            let mut entries = self.entries.lock();
            if entries.is_placements && !entries.records.contains_key(&id) {
                return;
            }
            let record =
                entries.records.entry(id).or_insert_with(|| StoreRecord { id, ..StoreRecord::default() });
            let is_newer = incarnation > record.incarnation || record.address.is_empty();
            if !is_newer || (record.address == address && record.incarnation == incarnation) {
                return;
            }
            address.clone_into(&mut record.address);
            record.incarnation = incarnation;
        }
        self.changes.send_modify(|count| *count += 1);
    }

    /// Writes the book. Not synced: it is lost only together with what was written behind it, and can be learnt again.
    pub(crate) fn persist(&self, log: &dyn LogEngine) -> engine::Result<()> {
        let records = self.records();
        let kept: Vec<Bytes> = records.iter().map(|record| row_key(record.id)).collect();
        let mut local_rows: Vec<(Bytes, Option<Bytes>)> = Vec::new();
        for (key, _) in log.local_rows()? {
            if key.starts_with(STORE_PREFIX) && !kept.contains(&key) {
                local_rows.push((key, None));
            }
        }
        for (key, record) in kept.into_iter().zip(records) {
            local_rows.push((key, Some(row_of(record).encode_to_vec().into())));
        }
        log.write(&LogBatch { local_rows, ..LogBatch::default() }, false)
    }
}

impl LocalRows {
    /// Reads the rows; one that cannot be read is as good as absent, for all of this can be learnt again.
    pub(crate) fn read(log: &dyn LogEngine) -> engine::Result<LocalRows> {
        let mut rows = LocalRows { records: Vec::new(), key_mode: None, registration_nonce: None };
        for (key, value) in log.local_rows()? {
            if key.starts_with(STORE_PREFIX) {
                match wire::StoreRow::decode(value) {
                    Ok(row) => rows.records.push(record_of(row)),
                    Err(error) => tracing::warn!(%error, "a row of the address book cannot be read"),
                }
            } else if key == KEY_MODE_ROW {
                rows.key_mode = key_mode_of(&value);
            } else if key == NONCE_ROW {
                rows.registration_nonce = value.as_ref().try_into().ok().map(u64::from_be_bytes);
            }
        }
        Ok(rows)
    }

    /// Keeps what `init` or the cluster said of keys; durable on return.
    pub(crate) fn write_key_mode(log: &dyn LogEngine, key_mode: KeyMode) -> engine::Result<()> {
        write_row(log, KEY_MODE_ROW, Bytes::from_static(name_of(key_mode).as_bytes()))
    }

    /// Keeps the nonce; durable on return.
    pub(crate) fn write_nonce(log: &dyn LogEngine, nonce: u64) -> engine::Result<()> {
        write_row(log, NONCE_ROW, Bytes::copy_from_slice(&nonce.to_be_bytes()))
    }
}

/// A key mode's name, on disk and on the command line.
pub(crate) fn name_of(key_mode: KeyMode) -> &'static str {
    match key_mode {
        KeyMode::Raw => "raw",
        KeyMode::Txn => "txn",
        KeyMode::Keyspaces => "keyspaces",
    }
}

fn key_mode_of(name: &[u8]) -> Option<KeyMode> {
    [KeyMode::Raw, KeyMode::Txn, KeyMode::Keyspaces]
        .into_iter()
        .find(|mode| name_of(*mode).as_bytes() == name)
}

fn write_row(log: &dyn LogEngine, key: &'static [u8], value: Bytes) -> engine::Result<()> {
    let local_rows = vec![(Bytes::from_static(key), Some(value))];
    log.write(&LogBatch { local_rows, ..LogBatch::default() }, true)
}

fn row_key(id: StoreId) -> Bytes {
    [STORE_PREFIX, &id.0.to_be_bytes()].concat().into()
}

/// A store's record in the words of the wire.
pub(crate) fn row_of(record: StoreRecord) -> wire::StoreRow {
    let state = match record.state {
        StoreState::Up => wire::StoreState::Up,
        StoreState::Draining => wire::StoreState::Draining,
        StoreState::Removed => wire::StoreState::Removed,
    };
    let labels = record.labels.into_iter().map(|(key, value)| wire::StoreLabel { key, value });
    wire::StoreRow {
        id: record.id.0,
        address: record.address,
        status_address: record.status_address,
        labels: labels.collect(),
        binary_version: record.version,
        cluster_version_min: transport::CLUSTER_VERSION,
        cluster_version_max: transport::CLUSTER_VERSION,
        incarnation: record.incarnation.0,
        state: state.into(),
        started_at_millis: record.started.0,
        registration_nonce: record.registration_nonce,
    }
}

/// A store's record as another process sent it. An unknown state is that of a store nobody intends anything with.
pub(crate) fn record_of(row: wire::StoreRow) -> StoreRecord {
    let state = match wire::StoreState::try_from(row.state) {
        Ok(wire::StoreState::Draining) => StoreState::Draining,
        Ok(wire::StoreState::Removed) => StoreState::Removed,
        Ok(wire::StoreState::Up | wire::StoreState::Unspecified) | Err(_) => StoreState::Up,
    };
    StoreRecord {
        id: StoreId(row.id),
        address: row.address,
        status_address: row.status_address,
        version: row.binary_version,
        labels: row.labels.into_iter().map(|label| (label.key, label.value)).collect(),
        incarnation: Incarnation(row.incarnation),
        started: WallTime(row.started_at_millis),
        state,
        registration_nonce: row.registration_nonce,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: u64, address: &str, incarnation: u64) -> StoreRecord {
        StoreRecord {
            id: StoreId(id),
            address: address.to_owned(),
            incarnation: Incarnation(incarnation),
            labels: vec![("zone".to_owned(), "a".to_owned())],
            state: StoreState::Draining,
            registration_nonce: 7,
            ..StoreRecord::default()
        }
    }

    #[test]
    fn the_newest_incarnation_says_where_a_store_is() {
        let book = AddressBook::default();
        book.load(vec![record(1, "a:1", 3), record(2, "b:1", 1)]);
        book.learn(StoreId(1), "old:1", Incarnation(2));
        assert_eq!(book.address_of(StoreId(1)).as_deref(), Some("a:1"));
        book.learn(StoreId(1), "a:2", Incarnation(4));
        assert_eq!(book.address_of(StoreId(1)).as_deref(), Some("a:2"));
        // Placement has not heard of the newer start yet.
        book.replace(vec![record(1, "a:1", 3)]);
        assert_eq!(book.addresses(), [(StoreId(1), "a:2".to_owned())]);
        book.replace(vec![record(1, "a:5", 5)]);
        assert_eq!(book.addresses(), [(StoreId(1), "a:5".to_owned())]);
    }

    #[test]
    fn nobody_is_there_but_whom_placement_names() {
        let book = AddressBook::default();
        book.learn(StoreId(9), "z:1", Incarnation(1));
        assert_eq!(book.address_of(StoreId(9)).as_deref(), Some("z:1"));
        book.replace(vec![record(1, "a:1", 3)]);
        book.learn(StoreId(9), "z:1", Incarnation(1));
        assert_eq!(book.address_of(StoreId(9)), None);
    }

    #[test]
    fn records_survive_the_wire() {
        let record = record(1, "a:1", 3);
        assert_eq!(record_of(row_of(record.clone())), record);
    }

    #[test]
    fn key_modes_have_names() {
        for mode in [KeyMode::Raw, KeyMode::Txn, KeyMode::Keyspaces] {
            assert_eq!(key_mode_of(name_of(mode).as_bytes()), Some(mode));
        }
        assert_eq!(key_mode_of(b"nonsense"), None);
    }
}
