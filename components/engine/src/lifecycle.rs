//! Records of changes to the set of regions and peers (D5).

use types::{
    ConfigurationChange, Index, KeyRange, LogPosition, PeerId, Region, RegionId, SplitTrace, WallTime,
};

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

/// A region that a split brings into being on this store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BornRegion {
    /// Its descriptor.
    pub region: Region,
    /// This store's peer.
    pub peer_id: PeerId,
    /// The peer was destroyed before it was born: it does not come into being, and the data goes.
    pub is_dropped: bool,
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
        /// The keys that the region held here before, if it held any: what is in them goes.
        replaced_range: Option<KeyRange>,
        /// How the region's last split ended, if it was split before `position`.
        last_split: Option<SplitTrace>,
    },
    /// A region is divided; the log of each child begins behind (1, 1).
    Split {
        /// The parent's descriptor afterwards.
        region: Region,
        /// The entry of the parent's log that says so.
        position: LogPosition,
        /// The region clock at `position`; the children's begins there.
        region_clock: WallTime,
        /// Names the change.
        change_id: u64,
        /// The new regions, in order of their keys.
        children: Vec<BornRegion>,
    },
    /// A peer ends here, with its log and its data.
    Destroy {
        /// Its region.
        region_id: RegionId,
        /// The peer; it never comes back.
        peer_id: PeerId,
        /// The keys that it held; `None`: it had no data yet.
        range: Option<KeyRange>,
    },
}
