//! Records of changes to the set of regions and peers (D5).

use types::{ConfigurationChange, Index, LogPosition, PeerId, Region, RegionId, WallTime};

/// One change of the set of regions or peers of a store, written to the log engine before its effect is written to the
/// KV engine, and replayed at start if the flushed KV lacks its mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LifecycleRecord {
    /// Its place in the store's order of such changes; from 1, without gaps.
    pub sequence: u64,
    /// The entry that caused it; `None` for `init` and for snapshots, whose replay needs no log.
    pub cause: Option<(RegionId, Index)>,
    /// What changes.
    pub change: LifecycleChange,
}

/// What a record changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LifecycleChange {
    /// Regions begin on this store, empty, each with a log that begins behind (1, 1).
    Create {
        /// Their descriptors.
        regions: Vec<Region>,
    },
    /// A region's log and data are replaced by a snapshot.
    Snapshot {
        /// The descriptor at the snapshot's position.
        region: Region,
        /// This store's peer.
        peer_id: PeerId,
        /// What the snapshot replaces: the log up to here.
        position: LogPosition,
        /// The configuration in force at `position`, and the index of its entry.
        configuration: (Index, ConfigurationChange),
        /// The region clock at `position`.
        region_clock: WallTime,
        /// Staged files with the data, kept until the flush behind their ingestion.
        files: Vec<String>,
    },
}
