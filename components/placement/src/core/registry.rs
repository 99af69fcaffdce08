//! The stores of the cluster, and who may have which address and id.

use std::collections::BTreeMap;

use types::StoreId;

use super::{
    api::Error,
    limits::{RECORD_LABELS_MAX, RECORD_TEXT_BYTES_MAX},
    record::{StoreRecord, StoreState},
};

/// The store rows and the address index.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    stores: BTreeMap<StoreId, StoreRecord>,
    /// The store that an address belongs to: one that is not removed.
    by_address: BTreeMap<String, StoreId>,
}

/// What a registration comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The rows say so already.
    Known(StoreId),
    /// These rows have to change.
    Change(Change),
    /// The process gets a new id: call again with one.
    NeedsId,
}

/// New store rows, and what becomes of the address index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The rows.
    pub records: Vec<StoreRecord>,
    /// Addresses with the store that they belong to from now on.
    pub addresses: Vec<(String, Option<StoreId>)>,
}

impl Registry {
    /// The registry with these rows.
    #[must_use]
    pub fn new(records: Vec<StoreRecord>, addresses: Vec<(String, StoreId)>) -> Registry {
        Registry {
            stores: records.into_iter().map(|record| (record.id, record)).collect(),
            by_address: addresses.into_iter().collect(),
        }
    }

    /// A store's row.
    #[must_use]
    pub fn find(&self, id: StoreId) -> Option<&StoreRecord> {
        self.stores.get(&id)
    }

    /// Every row, in order of id.
    pub fn records(&self) -> impl Iterator<Item = &StoreRecord> {
        self.stores.values()
    }

    /// Decides about a registration. `is_live` says which stores may be alive: their addresses are not given away.
    /// `new_id` is what a process without id gets.
    pub fn register(
        &self,
        record: &StoreRecord,
        new_id: Option<StoreId>,
        is_live: impl Fn(StoreId) -> bool,
    ) -> Result<Verdict, Error> {
        check_texts(record)?;
        let holder = self.by_address.get(&record.address).copied();
        if record.id == StoreId(0) {
            return self.register_new(record, holder, new_id, is_live);
        }
        let Some(row) = self.stores.get(&record.id) else { return Err(Error::StoreNotFound(record.id)) };
        if row.state == StoreState::Removed {
            return Err(Error::StoreRemoved(record.id));
        }
        if record.incarnation < row.incarnation {
            return Err(Error::Invalid(format!("store {} has been started anew since", record.id)));
        }
        let new =
            StoreRecord { state: row.state, registration_nonce: row.registration_nonce, ..record.clone() };
        if new == *row {
            return Ok(Verdict::Known(record.id));
        }
        let mut change = Change { records: vec![new], addresses: Vec::new() };
        if holder != Some(record.id) {
            self.take_address(&mut change, record, holder, is_live)?;
            if !row.address.is_empty() && row.address != record.address {
                change.addresses.push((row.address.clone(), None));
            }
        }
        Ok(Verdict::Change(change))
    }

    /// Decides what is intended with a store. `None`: that is so already. `may_go`: it is silent, or has nothing to lose.
    pub fn set_state(&self, id: StoreId, state: StoreState, may_go: bool) -> Result<Option<Change>, Error> {
        let row = self.stores.get(&id).ok_or(Error::StoreNotFound(id))?;
        if row.state == state {
            return Ok(None);
        }
        if row.state == StoreState::Removed {
            return Err(Error::StoreRemoved(id));
        }
        let mut change = Change { records: vec![StoreRecord { state, ..row.clone() }], ..Change::default() };
        if state == StoreState::Removed {
            if !may_go {
                return Err(Error::Invalid(format!(
                    "store {id} is alive and has peers: drain it first, or stop it for ten seconds"
                )));
            }
            // Whoever comes to this address next finds it free.
            if self.by_address.get(&row.address) == Some(&id) {
                change.addresses.push((row.address.clone(), None));
            }
        }
        Ok(Some(change))
    }

    /// A change has happened.
    pub fn commit(&mut self, change: Change) {
        for record in change.records {
            self.stores.insert(record.id, record);
        }
        for (address, holder) in change.addresses {
            match holder {
                Some(id) => self.by_address.insert(address, id),
                None => self.by_address.remove(&address),
            };
        }
    }

    fn register_new(
        &self,
        record: &StoreRecord,
        holder: Option<StoreId>,
        new_id: Option<StoreId>,
        is_live: impl Fn(StoreId) -> bool,
    ) -> Result<Verdict, Error> {
        let old = holder.and_then(|id| self.stores.get(&id));
        if let Some(old) = old {
            // The same process asks again, because its answer was lost.
            if old.registration_nonce == record.registration_nonce && record.registration_nonce != 0 {
                return Ok(Verdict::Known(old.id));
            }
            if is_live(old.id) {
                return Err(Error::Busy {
                    reason: format!("store {} at {} was alive a moment ago", old.id, old.address),
                });
            }
        }
        let Some(id) = new_id else { return Ok(Verdict::NeedsId) };
        let mut change = Change::default();
        if let Some(old) = old {
            // Whoever listens there now has no id: the old store has lost its disk, or is gone.
            change.records.push(StoreRecord { state: StoreState::Removed, ..old.clone() });
        }
        change.records.push(StoreRecord { id, state: StoreState::Up, ..record.clone() });
        change.addresses.push((record.address.clone(), Some(id)));
        Ok(Verdict::Change(change))
    }

    /// A store with an id has moved to an address that another one holds: unless that one is alive it has moved too and
    /// has not said so yet, or is gone.
    fn take_address(
        &self,
        change: &mut Change,
        record: &StoreRecord,
        holder: Option<StoreId>,
        is_live: impl Fn(StoreId) -> bool,
    ) -> Result<(), Error> {
        if let Some(other) = holder.and_then(|id| self.stores.get(&id)) {
            if is_live(other.id) {
                return Err(Error::Invalid(format!(
                    "{} is the address of store {}, which is alive",
                    record.address, other.id
                )));
            }
            change.records.push(StoreRecord { address: String::new(), ..other.clone() });
        }
        change.addresses.push((record.address.clone(), Some(record.id)));
        Ok(())
    }
}

fn check_texts(record: &StoreRecord) -> Result<(), Error> {
    let texts = [&record.address, &record.status_address, &record.version];
    let labels = record.labels.iter().flat_map(|(key, value)| [key, value]);
    if record.address.is_empty() {
        return Err(Error::Invalid("a store without an address cannot be reached: give it one".to_owned()));
    }
    if record.labels.len() > RECORD_LABELS_MAX {
        return Err(Error::Invalid(format!("a store may have {RECORD_LABELS_MAX} labels at the most")));
    }
    match texts.into_iter().chain(labels).find(|text| text.len() > RECORD_TEXT_BYTES_MAX) {
        Some(text) => Err(Error::Invalid(format!(
            "{} bytes are too long for an address, version or label: {RECORD_TEXT_BYTES_MAX} are allowed",
            text.len()
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use types::Incarnation;

    use super::*;

    fn record(id: u64, address: &str, nonce: u64) -> StoreRecord {
        StoreRecord {
            id: StoreId(id),
            address: address.to_owned(),
            registration_nonce: nonce,
            ..StoreRecord::default()
        }
    }

    fn register(
        registry: &mut Registry,
        record: &StoreRecord,
        new_id: u64,
        live: &[u64],
    ) -> Result<u64, Error> {
        let is_live = |id: StoreId| live.contains(&id.0);
        match registry.register(record, Some(StoreId(new_id)), is_live)? {
            Verdict::Known(id) => Ok(id.0),
            Verdict::Change(change) => {
                let id = change.records.iter().find(|row| row.address == record.address).map(|row| row.id.0);
                let id = change
                    .records
                    .iter()
                    .rev()
                    .find(|row| row.state == StoreState::Up && row.address == record.address)
                    .map_or(id, |row| Some(row.id.0));
                registry.commit(change);
                Ok(id.unwrap())
            }
            Verdict::NeedsId => panic!("an id was offered"),
        }
    }

    #[test]
    fn one_address_has_one_live_id() {
        let mut registry = Registry::default();
        assert_eq!(register(&mut registry, &record(0, "a:1", 7), 1_000, &[]), Ok(1_000));
        assert_eq!(register(&mut registry, &record(0, "a:1", 7), 1_001, &[1_000]), Ok(1_000), "asked again");
        assert!(matches!(
            register(&mut registry, &record(0, "a:1", 8), 1_001, &[1_000]),
            Err(Error::Busy { .. })
        ));
        assert_eq!(register(&mut registry, &record(0, "a:1", 8), 1_001, &[]), Ok(1_001));
        assert_eq!(registry.find(StoreId(1_000)).unwrap().state, StoreState::Removed);
        assert_eq!(
            register(&mut registry, &record(1_000, "a:1", 7), 0, &[]),
            Err(Error::StoreRemoved(StoreId(1_000)))
        );
        assert_eq!(register(&mut registry, &record(1_001, "a:1", 0), 0, &[1_001]), Ok(1_001));
    }

    #[test]
    fn a_store_moves_with_its_id() {
        let mut registry = Registry::default();
        register(&mut registry, &record(0, "a:1", 7), 1_000, &[]).unwrap();
        register(&mut registry, &record(0, "b:1", 8), 1_001, &[]).unwrap();
        assert_eq!(register(&mut registry, &record(1_000, "c:1", 0), 0, &[]), Ok(1_000));
        assert_eq!(
            register(&mut registry, &record(0, "a:1", 9), 1_002, &[1_000]),
            Ok(1_002),
            "a is free again"
        );
        assert!(matches!(
            register(&mut registry, &record(1_000, "b:1", 0), 0, &[1_001]),
            Err(Error::Invalid(_))
        ));
        assert_eq!(register(&mut registry, &record(1_000, "b:1", 0), 0, &[]), Ok(1_000));
        assert_eq!(registry.find(StoreId(1_001)).unwrap().address, "", "its new address is not known yet");
        assert_eq!(registry.find(StoreId(1_001)).unwrap().state, StoreState::Up);
        assert_eq!(register(&mut registry, &record(1_001, "d:1", 0), 0, &[]), Ok(1_001));
        assert_eq!(registry.by_address.get("b:1"), Some(&StoreId(1_000)));
        assert_eq!(registry.by_address.get("d:1"), Some(&StoreId(1_001)));
        assert_eq!(registry.by_address.get("c:1"), None);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let mut registry = Registry::default();
        assert!(matches!(register(&mut registry, &record(0, "", 7), 1_000, &[]), Err(Error::Invalid(_))));
        let long = "x".repeat(RECORD_TEXT_BYTES_MAX + 1);
        assert!(matches!(register(&mut registry, &record(0, &long, 7), 1_000, &[]), Err(Error::Invalid(_))));
        assert_eq!(
            register(&mut registry, &record(5, "a:1", 7), 1_000, &[]),
            Err(Error::StoreNotFound(StoreId(5)))
        );
        register(&mut registry, &record(0, "a:1", 7), 1_000, &[]).unwrap();
        let newer = StoreRecord { incarnation: Incarnation(2), ..record(1_000, "a:1", 0) };
        register(&mut registry, &newer, 0, &[]).unwrap();
        assert!(matches!(register(&mut registry, &record(1_000, "a:1", 0), 0, &[]), Err(Error::Invalid(_))));
    }
}
