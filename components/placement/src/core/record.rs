//! What placement keeps of the cluster and of its stores, as everyone sees it.

use types::{ClusterId, Incarnation, StoreId, WallTime};

/// What clients' keys look like; fixed by `init` for ever (D9).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyMode {
    /// API V1, any bytes.
    #[default]
    Raw,
    /// API V1, memcomparable user keys.
    Txn,
    /// API V2, memcomparable user keys behind a keyspace.
    Keyspaces,
}

/// What is true of the whole cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Its name; never zero.
    pub cluster_id: ClusterId,
    /// What keys look like.
    pub key_mode: KeyMode,
    /// Formats and messages of versions up to this one are in use (D18).
    pub cluster_version: u32,
    /// When placement first had a leader.
    pub created: WallTime,
    /// Voters that a region of the client keyspace shall have; odd.
    pub voter_count: u32,
    /// Whether placement levels peers and leaders over the stores. Repair never stops.
    pub is_balancing: bool,
}

/// What is intended with a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StoreState {
    /// It serves and may be given peers.
    #[default]
    Up,
    /// It serves, but is given no further peers.
    Draining,
    /// It never comes back under this id; its peers are replaced. TiKV's clients call it a tombstone.
    Removed,
}

/// One store, as it registers and as its row says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreRecord {
    /// Its id; zero where a process asks for one.
    pub id: StoreId,
    /// `host:port` of its listener, without a scheme; also that of the public API. Empty where another store has taken
    /// the address and this one has not been heard since.
    pub address: String,
    /// `host:port` of its HTTP listener; may be empty.
    pub status_address: String,
    /// The version of its binary.
    pub version: String,
    /// What operators call it: (key, value), in order of key.
    pub labels: Vec<(String, String)>,
    /// Its last start that registered.
    pub incarnation: Incarnation,
    /// When that was, by its own wall clock.
    pub started: WallTime,
    /// What is intended with it; what a store says of itself here is ignored.
    pub state: StoreState,
    /// Drawn at random by a process without id and kept while it asks for one: a registration that is repeated, because
    /// its answer was lost, gets the same id.
    pub registration_nonce: u64,
}

/// What a store tells every second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreLoad {
    /// Bytes of its device.
    pub capacity_bytes: u64,
    /// Bytes free on it.
    pub available_bytes: u64,
    /// Regions with a peer there.
    pub region_count: u64,
    /// Regions that are led there.
    pub leader_count: u64,
}

/// A store with what is known of its present.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StorePicture {
    /// Its row.
    pub record: StoreRecord,
    /// What it told last; `None`: nothing yet to this placement leader.
    pub load: Option<StoreLoad>,
    /// When it was heard last, by the placement leader's wall clock; zero: not yet by this one.
    pub last_heard: WallTime,
    /// Whether it was heard within ten seconds.
    pub is_live: bool,
}
