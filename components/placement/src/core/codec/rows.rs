//! The values of placement's rows, and what of them messages carry too.

use std::time::Duration;

use bytes::Bytes;
use proto::{Message, convert, placement as wire};
use types::{ClusterId, Epoch, Incarnation, Peer, Region, RegionId, StoreId, WallTime};

use super::{Result, all, unknown};
use crate::core::{
    api::{OperationKind, OperationPicture, OperationState},
    record::{KeyMode, Settings, StoreRecord, StoreState},
};

/// The value of the settings row.
#[must_use]
pub fn encode_settings(settings: &Settings) -> Bytes {
    settings_to(settings).encode_to_vec().into()
}

/// What the settings row says.
pub fn decode_settings(value: &Bytes) -> Result<Settings> {
    settings_from(wire::SettingsRow::decode(value.clone())?)
}

/// The value of a store row.
#[must_use]
pub fn encode_store(record: &StoreRecord) -> Bytes {
    store_to(record.clone()).encode_to_vec().into()
}

/// What a store row says.
pub fn decode_store(value: &Bytes) -> Result<StoreRecord> {
    store_from(wire::StoreRow::decode(value.clone())?)
}

/// The value of a directory row.
#[must_use]
pub fn encode_region(region: &Region) -> Bytes {
    wire::RegionRow { region: Some(region.clone().into()) }.encode_to_vec().into()
}

/// What a directory row says.
pub fn decode_region(value: &Bytes) -> Result<Region> {
    let row = wire::RegionRow::decode(value.clone())?;
    convert::required(row.region, "RegionRow", "region")?.try_into()
}

/// The value of an operation's row: of one that runs, or as it ended.
#[must_use]
pub fn encode_operation(picture: OperationPicture) -> Bytes {
    operation_to(picture).encode_to_vec().into()
}

/// What an operation's row says.
pub fn decode_operation(value: &Bytes) -> Result<OperationPicture> {
    operation_from(wire::OperationRow::decode(value.clone())?)
}

pub(super) fn store_to(record: StoreRecord) -> wire::StoreRow {
    wire::StoreRow {
        id: record.id.0,
        address: record.address,
        status_address: record.status_address,
        labels: record.labels.into_iter().map(|(key, value)| wire::StoreLabel { key, value }).collect(),
        binary_version: record.version,
        incarnation: record.incarnation.0,
        state: state_to(record.state).into(),
        started_at_millis: record.started.0,
        registration_nonce: record.registration_nonce,
        ..Default::default()
    }
}

/// A store that has an id.
pub(super) fn store_from(row: wire::StoreRow) -> Result<StoreRecord> {
    convert::non_zero(row.id, "StoreRow", "id")?;
    record_from(row)
}

pub(super) fn record_from(row: wire::StoreRow) -> Result<StoreRecord> {
    Ok(StoreRecord {
        state: state_from(row.state)?,
        id: StoreId(row.id),
        address: row.address,
        status_address: row.status_address,
        version: row.binary_version,
        labels: row.labels.into_iter().map(|label| (label.key, label.value)).collect(),
        incarnation: Incarnation(row.incarnation),
        started: WallTime(row.started_at_millis),
        registration_nonce: row.registration_nonce,
    })
}

pub(super) fn state_to(state: StoreState) -> wire::StoreState {
    match state {
        StoreState::Up => wire::StoreState::Up,
        StoreState::Draining => wire::StoreState::Draining,
        StoreState::Removed => wire::StoreState::Removed,
    }
}

pub(super) fn state_from(state: i32) -> Result<StoreState> {
    match wire::StoreState::try_from(state) {
        // What a store says of itself has no state.
        Ok(wire::StoreState::Up | wire::StoreState::Unspecified) => Ok(StoreState::Up),
        Ok(wire::StoreState::Draining) => Ok(StoreState::Draining),
        Ok(wire::StoreState::Removed) => Ok(StoreState::Removed),
        Err(_) => Err(unknown("StoreRow", "state", state)),
    }
}

pub(super) fn settings_to(settings: &Settings) -> wire::SettingsRow {
    let keys = match settings.key_mode {
        KeyMode::Raw => wire::KeysMode::Raw,
        KeyMode::Txn => wire::KeysMode::Txn,
        KeyMode::Keyspaces => wire::KeysMode::Keyspaces,
    };
    wire::SettingsRow {
        cluster_id: settings.cluster_id.0,
        keys: keys.into(),
        cluster_version: settings.cluster_version,
        created_at_millis: settings.created.0,
        voter_count: settings.voter_count,
        is_balance_stopped: !settings.is_balancing,
        ..Default::default()
    }
}

pub(super) fn settings_from(row: wire::SettingsRow) -> Result<Settings> {
    let key_mode = match wire::KeysMode::try_from(row.keys) {
        Ok(wire::KeysMode::Raw) => KeyMode::Raw,
        Ok(wire::KeysMode::Txn) => KeyMode::Txn,
        Ok(wire::KeysMode::Keyspaces) => KeyMode::Keyspaces,
        Ok(wire::KeysMode::Unspecified) | Err(_) => return Err(unknown("SettingsRow", "keys", row.keys)),
    };
    Ok(Settings {
        cluster_id: ClusterId(convert::non_zero(row.cluster_id, "SettingsRow", "cluster_id")?),
        key_mode,
        cluster_version: row.cluster_version,
        created: WallTime(row.created_at_millis),
        voter_count: row.voter_count,
        is_balancing: !row.is_balance_stopped,
    })
}

pub(super) fn operation_to(operation: OperationPicture) -> wire::OperationRow {
    let state = match operation.state {
        OperationState::Running => wire::OperationState::Running,
        OperationState::Done => wire::OperationState::Done,
        OperationState::Cancelled => wire::OperationState::Cancelled,
        OperationState::Failed => wire::OperationState::Failed,
    };
    let kind = match operation.kind() {
        OperationKind::MovePeers => wire::OperationKind::MovePeers,
        OperationKind::TransferLeader => wire::OperationKind::TransferLeader,
        OperationKind::Scatter => wire::OperationKind::Scatter,
    };
    let leader = operation.leader.filter(|_| operation.peers.is_empty());
    let peers = operation.peers.into_iter().chain(leader);
    let eta = operation.eta.map_or(0, |eta| u64::try_from(eta.as_millis()).unwrap_or(u64::MAX).max(1));
    wire::OperationRow {
        id: operation.id,
        kind: kind.into(),
        state: state.into(),
        region_id: operation.region_id.0,
        goal_leader: operation.leader.map_or(0, |leader| leader.id.0),
        goal_peers: peers.map(Into::into).collect(),
        created_at_millis: operation.created.0,
        deadline_at_millis: operation.deadline.0,
        progress_percent: operation.progress_percent,
        eta_millis: eta,
        reason: operation.reason,
        epoch: Some(operation.epoch.into()),
        ..Default::default()
    }
}

pub(super) fn operation_from(row: wire::OperationRow) -> Result<OperationPicture> {
    let peers = all(row.goal_peers, Peer::try_from)?;
    let (peers, leader) = match wire::OperationKind::try_from(row.kind) {
        Ok(wire::OperationKind::MovePeers) => (peers, None),
        Ok(wire::OperationKind::TransferLeader) => {
            (Vec::new(), Some(*convert::required(peers.first(), "OperationRow", "goal_peers")?))
        }
        Ok(wire::OperationKind::Scatter) => {
            let leader = peers.iter().find(|peer| peer.id.0 == row.goal_leader).copied();
            let leader = convert::required(leader, "OperationRow", "goal_leader")?;
            (peers, Some(leader))
        }
        Ok(wire::OperationKind::Unspecified | wire::OperationKind::Split | wire::OperationKind::Drain)
        | Err(_) => return Err(unknown("OperationRow", "kind", row.kind)),
    };
    let state = match wire::OperationState::try_from(row.state) {
        Ok(wire::OperationState::Running) => OperationState::Running,
        Ok(wire::OperationState::Done) => OperationState::Done,
        Ok(wire::OperationState::Cancelled) => OperationState::Cancelled,
        Ok(wire::OperationState::Failed) => OperationState::Failed,
        Ok(wire::OperationState::Unspecified) | Err(_) => {
            return Err(unknown("OperationRow", "state", row.state));
        }
    };
    Ok(OperationPicture {
        id: convert::non_zero(row.id, "OperationRow", "id")?,
        region_id: RegionId(convert::non_zero(row.region_id, "OperationRow", "region_id")?),
        state,
        peers,
        leader,
        epoch: row.epoch.map(Epoch::from).unwrap_or_default(),
        created: WallTime(row.created_at_millis),
        deadline: WallTime(row.deadline_at_millis),
        progress_percent: row.progress_percent,
        eta: (row.eta_millis != 0).then(|| Duration::from_millis(row.eta_millis)),
        reason: row.reason,
    })
}
