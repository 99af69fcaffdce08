//! The store's errors in TiKV's words. A fate that is unknown is said to be unknown, never "not leader" (D9).

use std::time::Duration;

use metrics::counter;
use proto::errorpb;
use store::Error;
use telemetry::names;
use types::RegionId;

/// Why a request was not carried out, as a client is told.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Something that the client acts on by itself.
    Region(Box<errorpb::Error>),
    /// Something that its user must change.
    Text(String),
}

impl Refusal {
    /// The store's error to a request for `region_id`.
    pub(super) fn of(error: Error, region_id: RegionId) -> Refusal {
        counter!(names::SERVER_REFUSED, "error" => label_of(&error)).increment(1);
        let message = error.to_string();
        if let Error::Invalid(text) = error {
            return Refusal::Text(text);
        }
        let mut answer = errorpb::Error { message, ..errorpb::Error::default() };
        fill(&mut answer, error, region_id);
        Refusal::Region(Box::new(answer))
    }

    /// What the client sent makes no sense.
    pub(super) fn text(text: impl Into<String>) -> Refusal {
        counter!(names::SERVER_REFUSED, "error" => "invalid").increment(1);
        Refusal::Text(text.into())
    }

    /// A stale read: there is no data of which it would be known how old it is.
    pub(super) fn data_is_not_ready(region_id: RegionId, peer_id: u64) -> Refusal {
        counter!(names::SERVER_REFUSED, "error" => "data_is_not_ready").increment(1);
        Refusal::Region(Box::new(errorpb::Error {
            message: "stale reads are not offered: read from the leader, or with replica_read".to_owned(),
            data_is_not_ready: Some(errorpb::DataIsNotReady { region_id: region_id.0, peer_id, safe_ts: 0 }),
            ..errorpb::Error::default()
        }))
    }

    /// As a region error, for the responses that have no field for a text.
    pub(super) fn into_region_error(self) -> errorpb::Error {
        match self {
            Refusal::Region(error) => *error,
            Refusal::Text(message) => errorpb::Error { message, ..errorpb::Error::default() },
        }
    }
}

fn fill(answer: &mut errorpb::Error, error: Error, region_id: RegionId) {
    match error {
        Error::StoreNotMatch { requested, actual } => {
            answer.store_not_match =
                Some(errorpb::StoreNotMatch { request_store_id: requested.0, actual_store_id: actual.0 });
        }
        Error::RegionNotFound(id) => {
            answer.region_not_found = Some(errorpb::RegionNotFound { region_id: id.0 });
        }
        Error::PeerMismatch { requested, actual } => {
            answer.mismatch_peer_id =
                Some(errorpb::MismatchPeerId { request_peer_id: requested.0, store_peer_id: actual.0 });
        }
        Error::NotLeader { region_id, leader } => {
            answer.not_leader =
                Some(errorpb::NotLeader { region_id: region_id.0, leader: leader.map(Into::into) });
        }
        Error::NotInitialized(id) => {
            answer.region_not_initialized = Some(errorpb::RegionNotInitialized { region_id: id.0 });
        }
        Error::StaleTerm => answer.stale_command = Some(errorpb::StaleCommand {}),
        Error::EpochNotMatch { current } => {
            let current_regions = current.into_iter().map(Into::into).collect();
            answer.epoch_not_match = Some(errorpb::EpochNotMatch { current_regions });
        }
        Error::KeyNotInRegion { region_id, key, range } => {
            answer.key_not_in_region = Some(errorpb::KeyNotInRegion {
                key,
                region_id: region_id.0,
                start_key: range.start_key,
                end_key: range.end_key,
            });
        }
        Error::EntryTooLarge { region_id, size_bytes, .. } => {
            answer.raft_entry_too_large =
                Some(errorpb::RaftEntryTooLarge { region_id: region_id.0, entry_size: size_bytes });
        }
        Error::Busy { reason, retry_after } => {
            answer.server_is_busy = Some(errorpb::ServerIsBusy {
                reason: reason.to_owned(),
                backoff_ms: millis(retry_after),
                ..errorpb::ServerIsBusy::default()
            });
        }
        Error::DiskFull(store_id) => {
            let reason = answer.message.clone();
            answer.disk_full = Some(errorpb::DiskFull { store_id: vec![store_id.0], reason });
        }
        Error::ReadIndexNotReady(id) => {
            let reason = answer.message.clone();
            answer.read_index_not_ready = Some(errorpb::ReadIndexNotReady { reason, region_id: id.0 });
        }
        Error::Undetermined(text) => {
            answer.undetermined_result = Some(errorpb::UndeterminedResult { message: text.to_owned() });
        }
        // Nothing was done, and another store will lead soon: clients look for it and ask again.
        Error::Stopping => {
            answer.not_leader = Some(errorpb::NotLeader { region_id: region_id.0, leader: None });
        }
        // The message says it all; clients look the region up anew and ask again.
        Error::Refused(_) | Error::Changing { .. } | Error::Invalid(_) => {}
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn label_of(error: &Error) -> &'static str {
    match error {
        Error::StoreNotMatch { .. } => "store_not_match",
        Error::RegionNotFound(_) => "region_not_found",
        Error::PeerMismatch { .. } => "mismatch_peer_id",
        Error::NotLeader { .. } => "not_leader",
        Error::NotInitialized(_) => "region_not_initialized",
        Error::StaleTerm => "stale_command",
        Error::EpochNotMatch { .. } => "epoch_not_match",
        Error::KeyNotInRegion { .. } => "key_not_in_region",
        Error::Invalid(_) => "invalid",
        Error::EntryTooLarge { .. } => "raft_entry_too_large",
        Error::Busy { .. } => "server_is_busy",
        Error::DiskFull(_) => "disk_full",
        Error::ReadIndexNotReady(_) => "read_index_not_ready",
        Error::Refused(_) => "refused",
        Error::Changing { .. } => "changing",
        Error::Undetermined(_) => "undetermined_result",
        Error::Stopping => "stopping",
    }
}

#[cfg(test)]
mod tests {
    use types::{Peer, PeerId, PeerRole, StoreId};

    use super::*;

    fn told(error: Error) -> errorpb::Error {
        match Refusal::of(error, RegionId(2)) {
            Refusal::Region(error) => *error,
            Refusal::Text(text) => panic!("a text: {text}"),
        }
    }

    #[test]
    fn a_leader_that_is_not_known_is_left_out() {
        let unknown = told(Error::NotLeader { region_id: RegionId(2), leader: None });
        assert_eq!(unknown.not_leader, Some(errorpb::NotLeader { region_id: 2, leader: None }));
        let peer = Peer { id: PeerId(5), store_id: StoreId(1000), role: PeerRole::Voter };
        let known = told(Error::NotLeader { region_id: RegionId(2), leader: Some(peer) });
        assert_eq!(known.not_leader.and_then(|error| error.leader).map(|peer| peer.id), Some(5));
    }

    #[test]
    fn an_unknown_fate_is_never_not_leader() {
        let error = told(Error::Undetermined("the entry was replaced"));
        assert!(error.undetermined_result.is_some());
        assert!(error.not_leader.is_none() && error.stale_command.is_none());
    }

    #[test]
    fn a_wait_is_told_in_milliseconds() {
        let error = told(Error::Busy { reason: "queue", retry_after: Duration::from_millis(40) });
        assert_eq!(error.server_is_busy.map(|busy| busy.backoff_ms), Some(40));
    }

    #[test]
    fn what_the_user_must_change_is_a_text() {
        assert!(matches!(Refusal::of(Error::Invalid("no".to_owned()), RegionId(2)), Refusal::Text(_)));
    }
}
