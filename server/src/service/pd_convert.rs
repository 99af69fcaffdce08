//! Placement's answers in PD's words.

use placement::{
    OperationKind, OperationPicture, OperationState, RegionRoute, StorePicture, StoreRecord, StoreState,
};
use proto::{metapb, pdpb};
use types::{ClusterId, PeerId};

/// What clients compare with what they need; the version of TiKV whose interface is served.
const PUBLIC_VERSION: &str = "8.5.0";

/// The header of every response.
pub(super) fn header(cluster_id: ClusterId) -> pdpb::ResponseHeader {
    pdpb::ResponseHeader { cluster_id: cluster_id.0, error: None }
}

/// The header of a response that says no.
pub(super) fn refusal(cluster_id: ClusterId, kind: pdpb::ErrorType, message: String) -> pdpb::ResponseHeader {
    let error = pdpb::Error { r#type: kind.into(), message };
    pdpb::ResponseHeader { cluster_id: cluster_id.0, error: Some(error) }
}

/// A store as a member of PD: with a scheme, which some clients need here.
pub(super) fn member(record: &StoreRecord) -> pdpb::Member {
    let url = format!("http://{}", record.address);
    pdpb::Member {
        name: format!("store-{}", record.id),
        member_id: record.id.0,
        peer_urls: vec![url.clone()],
        client_urls: vec![url],
    }
}

/// A store: without a scheme, which some clients need here.
pub(super) fn store(picture: StorePicture) -> metapb::Store {
    let StorePicture { record, last_heard, .. } = picture;
    let (state, stage) = match record.state {
        StoreState::Up => (metapb::StoreState::Up, metapb::NodeState::Serving),
        StoreState::Draining => (metapb::StoreState::Offline, metapb::NodeState::Removing),
        StoreState::Removed => (metapb::StoreState::Tombstone, metapb::NodeState::Removed),
    };
    let labels = record.labels.into_iter().map(|(key, value)| metapb::StoreLabel { key, value });
    metapb::Store {
        id: record.id.0,
        peer_address: record.address.clone(),
        address: record.address,
        state: state.into(),
        labels: labels.collect(),
        version: PUBLIC_VERSION.to_owned(),
        status_address: record.status_address,
        git_hash: format!("sheaf-{}", record.version),
        start_timestamp: i64::try_from(record.started.as_secs()).unwrap_or(i64::MAX),
        last_heartbeat: i64::try_from(last_heard.0.saturating_mul(1_000_000)).unwrap_or(i64::MAX),
        node_state: stage.into(),
    }
}

/// What a store tells of its load.
pub(super) fn stats(picture: &StorePicture) -> Option<pdpb::StoreStats> {
    picture.load.map(|load| pdpb::StoreStats {
        store_id: picture.record.id.0,
        capacity: load.capacity_bytes,
        available: load.available_bytes,
        region_count: u32::try_from(load.region_count).unwrap_or(u32::MAX),
    })
}

/// A region with its leader. Like PD, it names who led it last while nobody does: some clients never ask again for a region
/// that has no leader when they ask, and every one of them learns from `not_leader`.
pub(super) fn region(route: RegionRoute) -> pdpb::Region {
    let (down_peers, pending_peers) = peers_of(&route);
    pdpb::Region {
        leader: route.leader_or_stand_in().map(Into::into),
        region: Some(route.region.into()),
        down_peers,
        pending_peers,
    }
}

/// The same, as the answer to a question for one region.
pub(super) fn region_response(
    header: pdpb::ResponseHeader,
    route: Option<RegionRoute>,
) -> pdpb::GetRegionResponse {
    let found = route.map(region).unwrap_or_default();
    pdpb::GetRegionResponse {
        header: Some(header),
        region: found.region,
        leader: found.leader,
        down_peers: found.down_peers,
        pending_peers: found.pending_peers,
    }
}

/// The same, in the answer to many questions.
pub(super) fn queried_region(route: RegionRoute) -> pdpb::RegionResponse {
    let found = region(route);
    pdpb::RegionResponse {
        region: found.region,
        leader: found.leader,
        down_peers: found.down_peers,
        pending_peers: found.pending_peers,
    }
}

/// An operation as `GetOperator` tells it.
pub(super) fn operator(
    header: pdpb::ResponseHeader,
    picture: &OperationPicture,
) -> pdpb::GetOperatorResponse {
    let status = match picture.state {
        OperationState::Running => pdpb::OperatorStatus::Running,
        OperationState::Done => pdpb::OperatorStatus::Success,
        OperationState::Cancelled | OperationState::Failed => pdpb::OperatorStatus::Cancel,
    };
    let (kind, desc) = match picture.kind() {
        OperationKind::MovePeers => ("move-peers", picture.reason.clone()),
        OperationKind::TransferLeader => ("transfer-leader", picture.reason.clone()),
        // Clients that wait for a region to be scattered look for these very words.
        OperationKind::Scatter => ("scatter", "scatter-region".to_owned()),
    };
    pdpb::GetOperatorResponse {
        header: Some(header),
        region_id: picture.region_id.0,
        desc: desc.into(),
        status: status.into(),
        kind: kind.into(),
    }
}

fn peers_of(route: &RegionRoute) -> (Vec<pdpb::PeerStats>, Vec<metapb::Peer>) {
    let find = |ids: &[PeerId]| -> Vec<metapb::Peer> {
        ids.iter().filter_map(|id| route.region.find_peer(*id)).map(Into::into).collect()
    };
    // How long a peer has been down is its leader's knowledge; clients only look whether it is named.
    let down =
        find(&route.down_peers).into_iter().map(|peer| pdpb::PeerStats { peer: Some(peer), down_seconds: 0 });
    (down.collect(), find(&route.pending_peers))
}
