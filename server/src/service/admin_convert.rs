//! Placement's answers in the words of the operators' service.

use placement::{OperationKind, OperationPicture, OperationState, RegionRoute, Settings, StorePicture};
use proto::placement as wire;

use super::key_mode_to_number;
use crate::book::row_of;

/// What is true of the cluster.
pub(super) fn settings_row(settings: Settings) -> wire::SettingsRow {
    wire::SettingsRow {
        cluster_id: settings.cluster_id.0,
        keys: key_mode_to_number(settings.key_mode),
        cluster_version: settings.cluster_version,
        created_at_millis: settings.created.0,
        voter_count: settings.voter_count,
        is_balance_stopped: !settings.is_balancing,
        ..wire::SettingsRow::default()
    }
}

/// A store.
pub(super) fn store_view(picture: StorePicture) -> wire::StoreView {
    let stats = picture.load.map(|load| wire::StoreStats {
        capacity_bytes: load.capacity_bytes,
        available_bytes: load.available_bytes,
        peer_count: load.region_count,
        leader_count: load.leader_count,
        ..wire::StoreStats::default()
    });
    wire::StoreView {
        store: Some(row_of(picture.record)),
        stats,
        last_report_at_millis: picture.last_heard.0,
        is_alive: picture.is_live,
    }
}

/// A region.
pub(super) fn region_view(route: RegionRoute) -> wire::RegionView {
    let down_peers = route.down_peers.iter().map(|id| wire::DownPeer { peer_id: id.0, down_seconds: 0 });
    wire::RegionView {
        leader_peer_id: route.leader.map_or(0, |leader| leader.id.0),
        down_peers: down_peers.collect(),
        pending_peers: route.pending_peers.iter().map(|id| id.0).collect(),
        size_bytes: route.size.size_bytes,
        key_count: route.size.key_count,
        region: Some(route.region.into()),
        ..wire::RegionView::default()
    }
}

/// An operation.
pub(super) fn operation_row(picture: OperationPicture) -> wire::OperationRow {
    let state = match picture.state {
        OperationState::Running => wire::OperationState::Running,
        OperationState::Done => wire::OperationState::Done,
        OperationState::Cancelled => wire::OperationState::Cancelled,
        OperationState::Failed => wire::OperationState::Failed,
    };
    let kind = match picture.kind() {
        OperationKind::MovePeers => wire::OperationKind::MovePeers,
        OperationKind::TransferLeader => wire::OperationKind::TransferLeader,
        OperationKind::Scatter => wire::OperationKind::Scatter,
    };
    let leader = picture.leader.filter(|_| picture.peers.is_empty());
    let peers = picture.peers.into_iter().chain(leader);
    let eta = picture.eta.map_or(0, |eta| u64::try_from(eta.as_millis()).unwrap_or(u64::MAX));
    wire::OperationRow {
        id: picture.id,
        kind: kind.into(),
        goal_leader: picture.leader.map_or(0, |leader| leader.id.0),
        deadline_at_millis: picture.deadline.0,
        eta_millis: eta,
        state: state.into(),
        region_id: picture.region_id.0,
        goal_peers: peers.map(Into::into).collect(),
        created_at_millis: picture.created.0,
        progress_percent: picture.progress_percent,
        reason: picture.reason,
        epoch: Some(picture.epoch.into()),
        ..wire::OperationRow::default()
    }
}
