//! The suite that every pair of engines passes: `engine::conformance_suite!(new_fixture)` in a test module makes one
//! test of each case.
//!
//! It kills the store's process, and never cuts the power: what that does to a disk only [`crate::mem`] can show.

pub mod kv;
pub mod log;
pub mod staged;

use std::sync::Arc;

use types::{
    Chain, ConfigurationChange, Entry, EntryKind, HardState, Index, LogPosition, Peer, PeerId, PeerRole,
    RegionId, StoreId, Term,
};

use crate::{KvEngine, LogEngine, RaftState};

/// One store's disk, empty at first.
pub trait Fixture {
    /// Opens the engines: for the first time, or after [`Fixture::crash`].
    fn open(&mut self) -> (Arc<dyn LogEngine>, Arc<dyn KvEngine>);

    /// Ends the store's process as a kill does; every handle was dropped before.
    fn crash(&mut self);
}

/// Makes a test of each case; `$fixture` is called for a new, empty [`Fixture`].
#[macro_export]
macro_rules! conformance_suite {
    ($fixture:expr) => {
        $crate::conformance_suite!(@cases $fixture;
            log::everything_of_a_batch_survives_a_crash,
            log::entries_are_read_within_bounds,
            log::regions_are_kept_apart,
            log::a_stale_suffix_is_removed,
            log::a_short_prefix_is_truncated,
            log::a_long_prefix_is_truncated,
            log::a_prefix_of_many_bytes_is_truncated,
            log::clearing_removes_one_region,
            log::clearing_comes_before_the_rest_of_the_write,
            log::clearing_removes_what_its_batch_has_written_before,
            log::clearing_a_long_log_leaves_room_for_a_new_one,
            log::raft_states_are_replaced,
            log::the_last_entry_of_each_region_is_found,
            log::lifecycle_records_come_back_in_order,
            log::the_ident_is_replaced,
            log::local_rows_are_set_and_removed,
            log::a_broken_chain_is_noticed,
            log::a_missing_entry_is_noticed,
            log::a_prefix_of_unsynced_batches_survives,
            kv::a_batch_is_applied_in_order,
            kv::keys_and_values_are_any_bytes,
            kv::a_deleted_range_excludes_its_end,
            kv::a_scan_stays_in_its_bounds,
            kv::a_scan_stops_when_told,
            kv::a_snapshot_does_not_change,
            kv::a_flush_makes_everything_durable,
            kv::a_prefix_of_writes_survives,
            kv::flushed_values_survive_a_crash,
            staged::only_synced_files_survive_a_crash,
            staged::a_new_file_replaces_the_old,
            staged::wrong_calls_are_refused,
            staged::names_are_refused_that_lead_elsewhere,
            staged::deleted_files_are_gone,
            staged::ingested_pairs_win_over_earlier_writes_only,
            staged::an_ingestion_is_whole_or_nothing,
            staged::ingested_pairs_survive_a_crash,
            staged::an_empty_file_is_ingested,
        );
    };
    (@cases $fixture:expr; $($module:ident :: $case:ident),* $(,)?) => {
        $(
            #[test]
            fn $case() {
                $crate::conformance::$module::$case(&mut $fixture()).expect("no engine call of this case fails");
            }
        )*
    };
}

/// A running store's engines.
struct Running<'a> {
    fixture: &'a mut dyn Fixture,
    log: Arc<dyn LogEngine>,
    kv: Arc<dyn KvEngine>,
}

impl<'a> Running<'a> {
    fn start(fixture: &'a mut dyn Fixture) -> Running<'a> {
        let (log, kv) = fixture.open();
        Running { fixture, log, kv }
    }

    /// The engines after a kill of the process.
    fn restart(self) -> Running<'a> {
        drop((self.log, self.kv));
        self.fixture.crash();
        Running::start(self.fixture)
    }
}

/// Entries of one term from `first` on, chained behind `previous`, with these payloads.
fn entries(first: u64, term: u64, previous: Chain, payloads: &[&[u8]]) -> Vec<Entry> {
    let mut chain = previous;
    let mut entry = |(at, payload): (usize, &&[u8])| {
        let (index, kind) = (Index(first + at as u64), EntryKind::Command);
        chain = chain.link(index, Term(term), kind, payload);
        Entry { index, term: Term(term), kind, payload: payload.to_vec().into(), chain }
    };
    payloads.iter().enumerate().map(&mut entry).collect()
}

/// A Raft state with something in every field.
fn raft_state(seed: u64) -> RaftState {
    let peer =
        |number: u64, role| Peer { id: PeerId(seed * 10 + number), store_id: StoreId(1000 + number), role };
    let joint = vec![
        peer(1, PeerRole::Voter),
        peer(2, PeerRole::IncomingVoter),
        peer(3, PeerRole::DemotingVoter),
        peer(4, PeerRole::Learner),
    ];
    RaftState {
        peer_id: PeerId(seed * 10 + 1),
        hard_state: HardState {
            term: Term(seed + 3),
            vote: Some(PeerId(seed * 10 + 2)),
            commit: Index(seed + 7),
        },
        truncated: LogPosition { index: Index(seed), term: Term(1), chain: BASE },
        last: LogPosition { index: Index(seed + 9), term: Term(seed + 2), chain: Chain(u128::MAX - 5) },
        configurations: vec![
            (Index(seed), ConfigurationChange { peers: vec![peer(1, PeerRole::Voter)], change_id: 0 }),
            (Index(seed + 8), ConfigurationChange { peers: joint, change_id: seed + 1 }),
        ],
    }
}

/// The chain that Raft states name at their truncation point.
const BASE: Chain = Chain(7 << 70 | 1);

/// A region id for cases that need one.
const REGION: RegionId = RegionId(258);
