//! What this crate writes into logs and rows, as bytes. The only file of this crate that knows protobuf.

use bytes::Bytes;
use proto::{Message, convert, disk};
use types::{LogCommand, Region, RegionSize, Split, SplitTrace, WallTime};

use crate::{message::ApplyState, size::SizeEstimate};

/// Bytes that are not what this version writes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Malformed(String);

/// The payload of a command entry.
pub(crate) fn encode_command(command: LogCommand) -> Bytes {
    convert::encode_command(command)
}

/// Its content; keys and values are slices of `payload`.
pub(crate) fn decode_command(payload: Bytes) -> Result<LogCommand, Malformed> {
    convert::decode_command(payload).map_err(malformed)
}

/// The payload of a region entry.
pub(crate) fn encode_split(split: Split) -> Bytes {
    convert::encode_split(split)
}

pub(crate) fn decode_split(payload: Bytes) -> Result<Split, Malformed> {
    convert::decode_split(payload).map_err(malformed)
}

pub(crate) fn encode_apply_state(state: &ApplyState) -> Vec<u8> {
    let row = disk::ApplyState {
        position: Some(state.position.into()),
        region_clock_millis: state.region_clock.0,
        configuration: None,
        size: Some(disk::SizeEstimate {
            measured_bytes: state.size.measured.size_bytes,
            measured_keys: state.size.measured.key_count,
            written_bytes: state.size.written.size_bytes,
            written_keys: state.size.written.key_count,
            removed_keys: state.size.removed_count,
            is_rough: state.size.is_rough,
        }),
    };
    row.encode_to_vec()
}

pub(crate) fn decode_apply_state(row: &[u8]) -> Result<ApplyState, Malformed> {
    let row = disk::ApplyState::decode(row).map_err(malformed)?;
    let position = row.position.ok_or_else(|| malformed("an apply state without a position"))?;
    let size = row.size.map_or(SizeEstimate::UNKNOWN, |size| SizeEstimate {
        measured: RegionSize { size_bytes: size.measured_bytes, key_count: size.measured_keys },
        written: RegionSize { size_bytes: size.written_bytes, key_count: size.written_keys },
        removed_count: size.removed_keys,
        is_rough: size.is_rough,
    });
    Ok(ApplyState { position: position.into(), region_clock: WallTime(row.region_clock_millis), size })
}

pub(crate) fn encode_region(region: &Region, last_split: Option<&SplitTrace>) -> Vec<u8> {
    let row = disk::RegionRow {
        region: Some(region.clone().into()),
        last_split: last_split.cloned().map(Into::into),
        ..disk::RegionRow::default()
    };
    row.encode_to_vec()
}

pub(crate) fn decode_region_row(row: &[u8]) -> Result<(Region, Option<SplitTrace>), Malformed> {
    let row = disk::RegionRow::decode(row).map_err(malformed)?;
    let region = row.region.ok_or_else(|| malformed("a region row without a region"))?;
    let last_split = row.last_split.map(SplitTrace::try_from);
    let region = Region::try_from(region).map_err(malformed)?;
    Ok((region, last_split.transpose().map_err(malformed)?))
}

fn malformed(error: impl std::fmt::Display) -> Malformed {
    Malformed(error.to_string())
}
