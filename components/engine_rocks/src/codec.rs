//! Rows of the log (see the crate's documentation for the layout).

use bytes::Bytes;
use engine::{BornRegion, Error, LifecycleChange, LifecycleRecord, Operation, RaftState, Result, StoreIdent};
use proto::{Message, convert, disk, vocabulary};
use types::{
    Chain, ClusterId, ConfigurationChange, Entry, EntryKind, Incarnation, Index, LogPosition, PeerId, Region,
    RegionId, SplitTrace, StoreId, Term, WallTime,
};

use crate::error::{corruption, io_error};

/// First bytes of keys.
pub(crate) const ENTRY: u8 = 1;
pub(crate) const RAFT_STATE: u8 = 2;
pub(crate) const LIFECYCLE: u8 = 3;
pub(crate) const IDENT: u8 = 4;
pub(crate) const LOCAL: u8 = 5;

/// The version of rows and keys that this code writes, and the only one that it reads.
const FORMAT_VERSION: u32 = 1;
/// The upper half of an entry's first byte.
const ENTRY_FORMAT: u8 = 1 << 4;
const ENTRY_HEAD_LEN: usize = 25;
const ENTRY_KEY_LEN: usize = 17;

pub(crate) fn entry_key(region: RegionId, index: Index) -> [u8; ENTRY_KEY_LEN] {
    let mut key = [ENTRY; ENTRY_KEY_LEN];
    key[1..9].copy_from_slice(&region.0.to_be_bytes());
    key[9..].copy_from_slice(&index.0.to_be_bytes());
    key
}

/// The smallest key behind that of an entry.
pub(crate) fn behind_entry_key(region: RegionId, index: Index) -> [u8; ENTRY_KEY_LEN + 1] {
    let mut key = [0; ENTRY_KEY_LEN + 1];
    key[..ENTRY_KEY_LEN].copy_from_slice(&entry_key(region, index));
    key
}

/// The key of a Raft state or a lifecycle record.
pub(crate) fn numbered_key(kind: u8, number: u64) -> [u8; 9] {
    let mut key = [kind; 9];
    key[1..].copy_from_slice(&number.to_be_bytes());
    key
}

/// The number in a key of [`numbered_key`].
pub(crate) fn decode_number(key: &[u8]) -> Result<u64> {
    let number = key.get(1..).and_then(|number| number.try_into().ok()).map(u64::from_be_bytes);
    number.ok_or_else(|| corruption(Operation::Read, format!("key {key:02x?} has no number")))
}

/// Puts the value of an entry's row into `buffer`, replacing what is there.
pub(crate) fn encode_entry(entry: &Entry, buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.push(ENTRY_FORMAT | entry.kind as u8);
    buffer.extend_from_slice(&entry.term.0.to_be_bytes());
    buffer.extend_from_slice(&entry.chain.0.to_be_bytes());
    buffer.extend_from_slice(&entry.payload);
}

/// Reads a row of an entry.
pub(crate) fn decode_entry(region: RegionId, key: &[u8], value: &[u8]) -> Result<Entry> {
    let malformed = |what: &str| of_region(region, format!("{what} in the entry row with key {key:02x?}"));
    let index = key.get(9..).and_then(|index| index.try_into().ok()).map(u64::from_be_bytes);
    let index = index.ok_or_else(|| malformed("no index"))?;
    let (head, payload) =
        value.split_at_checked(ENTRY_HEAD_LEN).ok_or_else(|| malformed("not enough bytes"))?;
    if head[0] & 0xf0 != ENTRY_FORMAT {
        return Err(malformed("an unknown format"));
    }
    let kind = match head[0] & 0x0f {
        0 => EntryKind::Empty,
        1 => EntryKind::Command,
        2 => EntryKind::Configuration,
        3 => EntryKind::Region,
        _ => return Err(malformed("an unknown kind")),
    };
    let term = u64::from_be_bytes(std::array::from_fn(|at| head[1 + at]));
    let chain = u128::from_be_bytes(std::array::from_fn(|at| head[9 + at]));
    let payload = Bytes::copy_from_slice(payload);
    Ok(Entry { index: Index(index), term: Term(term), kind, payload, chain: Chain(chain) })
}

pub(crate) fn encode_raft_state(state: &RaftState) -> Vec<u8> {
    let message = disk::RaftState {
        peer_id: state.peer_id.0,
        hard_state: Some(state.hard_state.into()),
        truncated: Some(state.truncated.into()),
        last: Some(state.last.into()),
        configurations: state.configurations.iter().map(encode_configuration).collect(),
    };
    message.encode_to_vec()
}

pub(crate) fn decode_raft_state(region: RegionId, value: &[u8]) -> Result<RaftState> {
    let decode = || -> convert::Result<RaftState> {
        let row = disk::RaftState::decode(value)?;
        let required = |position: Option<vocabulary::LogPosition>, field| {
            convert::required(position, "RaftState", field).map(LogPosition::from)
        };
        Ok(RaftState {
            peer_id: PeerId(row.peer_id),
            hard_state: convert::required(row.hard_state, "RaftState", "hard_state")?.into(),
            truncated: required(row.truncated, "truncated")?,
            last: required(row.last, "last")?,
            configurations: row
                .configurations
                .into_iter()
                .map(<(Index, ConfigurationChange)>::try_from)
                .collect::<convert::Result<_>>()?,
        })
    };
    decode().map_err(|error| of_region(region, format!("Raft state: {error}")))
}

pub(crate) fn encode_record(record: &LifecycleRecord) -> Vec<u8> {
    use disk::lifecycle_record::Change;
    let change = match &record.change {
        LifecycleChange::Create { regions } => Change::Create(disk::LifecycleCreate {
            regions: regions.iter().cloned().map(Into::into).collect(),
        }),
        LifecycleChange::Snapshot {
            region,
            peer_id,
            position,
            configuration,
            region_clock,
            files,
            replaced_range,
            last_split,
        } => Change::Snapshot(disk::LifecycleSnapshot {
            region: Some(region.clone().into()),
            peer_id: peer_id.0,
            position: Some((*position).into()),
            configuration: Some(encode_configuration(configuration)),
            region_clock_millis: region_clock.0,
            files: files.clone(),
            replaced_range: replaced_range.clone().map(Into::into),
            last_split: last_split.clone().map(Into::into),
        }),
        LifecycleChange::Split { region, position, region_clock, change_id, children } => {
            Change::Split(disk::LifecycleSplit {
                region: Some(region.clone().into()),
                position: Some((*position).into()),
                region_clock_millis: region_clock.0,
                change_id: *change_id,
                children: children.iter().map(encode_born).collect(),
            })
        }
        LifecycleChange::Destroy { region_id, peer_id, range } => Change::Destroy(disk::LifecycleDestroy {
            region_id: region_id.0,
            peer_id: peer_id.0,
            range: range.clone().map(Into::into),
        }),
    };
    let cause =
        record.cause.map(|(region, index)| disk::LifecycleCause { region_id: region.0, index: index.0 });
    disk::LifecycleRecord { sequence: record.sequence, cause, change: Some(change) }.encode_to_vec()
}

pub(crate) fn decode_record(value: &[u8]) -> Result<LifecycleRecord> {
    use disk::lifecycle_record::Change;
    let decode = || -> convert::Result<LifecycleRecord> {
        let row = disk::LifecycleRecord::decode(value)?;
        let change = match convert::required(row.change, "LifecycleRecord", "change")? {
            Change::Create(create) => LifecycleChange::Create {
                regions: create.regions.into_iter().map(Region::try_from).collect::<convert::Result<_>>()?,
            },
            Change::Snapshot(snapshot) => decode_snapshot(snapshot)?,
            Change::Split(split) => decode_split(split)?,
            Change::Destroy(destroy) => {
                let message = "LifecycleDestroy";
                LifecycleChange::Destroy {
                    region_id: RegionId(convert::non_zero(destroy.region_id, message, "region_id")?),
                    peer_id: PeerId(convert::non_zero(destroy.peer_id, message, "peer_id")?),
                    range: destroy.range.map(Into::into),
                }
            }
        };
        let cause = row.cause.map(|cause| (RegionId(cause.region_id), Index(cause.index)));
        Ok(LifecycleRecord { sequence: row.sequence, cause, change })
    };
    decode().map_err(|error| corruption(Operation::Read, format!("lifecycle record: {error}")))
}

fn decode_snapshot(snapshot: disk::LifecycleSnapshot) -> convert::Result<LifecycleChange> {
    let message = "LifecycleSnapshot";
    Ok(LifecycleChange::Snapshot {
        region: convert::required(snapshot.region, message, "region")?.try_into()?,
        peer_id: PeerId(convert::non_zero(snapshot.peer_id, message, "peer_id")?),
        position: convert::required(snapshot.position, message, "position")?.into(),
        configuration: convert::required(snapshot.configuration, message, "configuration")?.try_into()?,
        region_clock: WallTime(snapshot.region_clock_millis),
        files: snapshot.files,
        replaced_range: snapshot.replaced_range.map(Into::into),
        last_split: snapshot.last_split.map(SplitTrace::try_from).transpose()?,
    })
}

fn decode_split(split: disk::LifecycleSplit) -> convert::Result<LifecycleChange> {
    let message = "LifecycleSplit";
    let born = |born: disk::BornRegion| -> convert::Result<BornRegion> {
        Ok(BornRegion {
            region: convert::required(born.region, "BornRegion", "region")?.try_into()?,
            peer_id: PeerId(convert::non_zero(born.peer_id, "BornRegion", "peer_id")?),
            is_dropped: born.is_dropped,
        })
    };
    Ok(LifecycleChange::Split {
        region: convert::required(split.region, message, "region")?.try_into()?,
        position: convert::required(split.position, message, "position")?.into(),
        region_clock: WallTime(split.region_clock_millis),
        change_id: split.change_id,
        children: split.children.into_iter().map(born).collect::<convert::Result<_>>()?,
    })
}

fn encode_born(born: &BornRegion) -> disk::BornRegion {
    disk::BornRegion {
        region: Some(born.region.clone().into()),
        peer_id: born.peer_id.0,
        is_dropped: born.is_dropped,
    }
}

pub(crate) fn encode_ident(ident: &StoreIdent) -> Vec<u8> {
    let message = disk::StoreIdent {
        format_version: FORMAT_VERSION,
        cluster_id: ident.cluster_id.0,
        store_id: ident.store_id.0,
        incarnation: ident.incarnation.0,
    };
    message.encode_to_vec()
}

pub(crate) fn decode_ident(value: &[u8]) -> Result<StoreIdent> {
    let malformed = |error: convert::Error| corruption(Operation::Read, format!("store ident: {error}"));
    let row = disk::StoreIdent::decode(value).map_err(|error| malformed(error.into()))?;
    if row.format_version != FORMAT_VERSION {
        let found = row.format_version;
        let message =
            format!("the store has format version {found}, this binary reads version {FORMAT_VERSION}");
        return Err(io_error(Operation::Read, message));
    }
    Ok(StoreIdent {
        cluster_id: ClusterId(
            convert::non_zero(row.cluster_id, "StoreIdent", "cluster_id").map_err(malformed)?,
        ),
        store_id: StoreId(convert::non_zero(row.store_id, "StoreIdent", "store_id").map_err(malformed)?),
        incarnation: Incarnation(row.incarnation),
    })
}

fn encode_configuration((index, change): &(Index, ConfigurationChange)) -> vocabulary::IndexedConfiguration {
    vocabulary::IndexedConfiguration { index: index.0, change: change.encode() }
}

fn of_region(region: RegionId, message: String) -> Error {
    Error::Corruption { operation: Operation::Read, region: Some(region), message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_row_has_the_documented_layout() {
        let entry = Entry {
            index: Index(0x0203),
            term: Term(0x0405),
            kind: EntryKind::Configuration,
            payload: Bytes::from("xy"),
            chain: Chain(0x0607),
        };
        let key = entry_key(RegionId(0x0809), entry.index);
        assert_eq!(key, [1, 0, 0, 0, 0, 0, 0, 8, 9, 0, 0, 0, 0, 0, 0, 2, 3]);
        let mut value = Vec::new();
        encode_entry(&entry, &mut value);
        let head = [0x12, 0, 0, 0, 0, 0, 0, 4, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 6, 7];
        assert_eq!(value, [&head[..], b"xy"].concat());
        assert_eq!(decode_entry(RegionId(0x0809), &key, &value).unwrap(), entry);
    }

    #[test]
    fn malformed_rows_are_corruption_of_their_region() {
        let key = entry_key(RegionId(3), Index(9));
        let mut value = Vec::new();
        encode_entry(&Entry::default(), &mut value);
        let changed = |head: u8| [&[head], &value[1..]].concat();
        for value in [&[][..], &value[..24], &changed(0x14), &changed(0x20), &changed(0x01)] {
            let result = decode_entry(RegionId(3), &key, value);
            assert!(
                matches!(result, Err(Error::Corruption { region: Some(RegionId(3)), .. })),
                "{value:02x?}"
            );
        }
        assert!(decode_entry(RegionId(3), &key[..12], &value).is_err());
        assert!(decode_raft_state(RegionId(3), &[]).is_err(), "a Raft state without a hard state");
        assert!(decode_raft_state(RegionId(3), &[0xff; 5]).is_err());
        assert!(decode_record(&[]).is_err());
        assert!(decode_number(&[LIFECYCLE, 1, 2]).is_err());
    }

    #[test]
    fn a_store_of_another_format_is_refused_and_not_called_damaged() {
        let row = disk::StoreIdent { format_version: 2, cluster_id: 1, store_id: 1, incarnation: 1 }
            .encode_to_vec();
        let error = decode_ident(&row).unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{error}");
        assert!(error.to_string().contains("format version 2"), "{error}");
    }
}
