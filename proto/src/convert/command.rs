//! What a log entry holds: `sheaf.command.v1`. Written once, at propose; read once per peer, at apply. Keys and values of
//! the decoded command are slices of the payload.

use bytes::Bytes;
use prost::Message;
use types::{
    Command, CompareAndSwap, Condition, LogCommand, Pair, PeerId, PlacementTxn, RegionId, Request,
    SessionStamp, Split, SplitChild, StoreId, Term, WallTime,
};

use super::{
    Error, Result,
    error::{non_zero, required},
};
use crate::command as wire;

/// The version of the payload that this code writes, and the only one that it reads.
const VERSION: u32 = 1;

/// The payload of a command entry.
#[must_use]
pub fn encode_command(command: LogCommand) -> Bytes {
    wire::LogCommand::from(command).encode_to_vec().into()
}

/// Reads the payload of a command entry.
pub fn decode_command(payload: Bytes) -> Result<LogCommand> {
    LogCommand::try_from(wire::LogCommand::decode(payload)?)
}

/// The payload of a region entry.
#[must_use]
pub fn encode_split(split: Split) -> Bytes {
    let child = |child: SplitChild| wire::SplitChild {
        start_key: child.start_key,
        region_id: child.region_id.0,
        peer_ids: child.peer_ids.iter().map(|id| id.0).collect(),
    };
    let split = wire::Split {
        change_id: split.change_id,
        epoch: Some(split.epoch.into()),
        leader_store_ids: split.leader_stores.iter().map(|id| id.0).collect(),
        children: split.children.into_iter().map(child).collect(),
    };
    let command = Some(wire::region_command::Command::Split(split));
    wire::RegionCommand { version: VERSION, command }.encode_to_vec().into()
}

/// Reads the payload of a region entry.
pub fn decode_split(payload: Bytes) -> Result<Split> {
    let command = wire::RegionCommand::decode(payload)?;
    if command.version != VERSION {
        let number = command.version.into();
        return Err(Error::UnknownNumber { message: "RegionCommand", field: "version", number });
    }
    let wire::region_command::Command::Split(split) =
        required(command.command, "RegionCommand", "a known command")?;
    let child = |child: wire::SplitChild| -> Result<SplitChild> {
        let peer_ids =
            child.peer_ids.into_iter().map(|id| non_zero(id, "SplitChild", "peer_ids").map(PeerId));
        Ok(SplitChild {
            start_key: child.start_key,
            region_id: RegionId(non_zero(child.region_id, "SplitChild", "region_id")?),
            peer_ids: peer_ids.collect::<Result<_>>()?,
        })
    };
    required(split.leader_store_ids.first(), "Split", "leader_store_ids")?;
    let leader_stores = split.leader_store_ids.into_iter();
    let leader_stores = leader_stores.map(|id| non_zero(id, "Split", "leader_store_ids").map(StoreId));
    Ok(Split {
        change_id: split.change_id,
        epoch: required(split.epoch, "Split", "epoch")?.into(),
        leader_stores: leader_stores.collect::<Result<_>>()?,
        children: split.children.into_iter().map(child).collect::<Result<_>>()?,
    })
}

impl From<LogCommand> for wire::LogCommand {
    fn from(command: LogCommand) -> wire::LogCommand {
        wire::LogCommand {
            version: VERSION,
            wall_millis: command.wall.0,
            requests: command.requests.into_iter().map(wire::Request::from).collect(),
        }
    }
}

impl TryFrom<wire::LogCommand> for LogCommand {
    type Error = Error;

    fn try_from(command: wire::LogCommand) -> Result<LogCommand> {
        if command.version != VERSION {
            let number = command.version.into();
            return Err(Error::UnknownNumber { message: "LogCommand", field: "version", number });
        }
        let requests = command.requests.into_iter().map(Request::try_from).collect::<Result<_>>()?;
        Ok(LogCommand { wall: WallTime(command.wall_millis), requests })
    }
}

impl From<Request> for wire::Request {
    fn from(request: Request) -> wire::Request {
        wire::Request { session: request.session.map(Into::into), command: Some(request.command.into()) }
    }
}

impl TryFrom<wire::Request> for Request {
    type Error = Error;

    fn try_from(request: wire::Request) -> Result<Request> {
        let command = required(request.command, "Request", "a known command")?.try_into()?;
        Ok(Request { session: request.session.map(Into::into), command })
    }
}

impl From<Command> for wire::request::Command {
    fn from(command: Command) -> wire::request::Command {
        use wire::request::Command as Wire;
        match command {
            Command::Put(pair) => Wire::Put(pair.into()),
            Command::BatchPut { pairs } => {
                Wire::BatchPut(wire::BatchPut { pairs: pairs.into_iter().map(Into::into).collect() })
            }
            Command::Delete { key } => Wire::Delete(wire::Delete { key }),
            Command::BatchDelete { keys } => Wire::BatchDelete(wire::BatchDelete { keys }),
            Command::DeleteRange { range } => Wire::DeleteRange(range.into()),
            Command::CompareAndSwap(swap) => Wire::CompareAndSwap(swap.into()),
            Command::Placement(txn) => Wire::Placement(txn.into()),
        }
    }
}

impl TryFrom<wire::request::Command> for Command {
    type Error = Error;

    fn try_from(command: wire::request::Command) -> Result<Command> {
        use wire::request::Command as Wire;
        Ok(match command {
            Wire::Put(pair) => Command::Put(pair.into()),
            Wire::BatchPut(batch) => {
                Command::BatchPut { pairs: batch.pairs.into_iter().map(Into::into).collect() }
            }
            Wire::Delete(delete) => Command::Delete { key: delete.key },
            Wire::BatchDelete(batch) => Command::BatchDelete { keys: batch.keys },
            Wire::DeleteRange(range) => Command::DeleteRange { range: range.into() },
            Wire::CompareAndSwap(swap) => Command::CompareAndSwap(swap.into()),
            Wire::Placement(txn) => Command::Placement(txn.try_into()?),
        })
    }
}

same_fields! {
    SessionStamp { client_id, sequence, low_water_mark }
    Pair { key, value, ttl_seconds }
    CompareAndSwap { key, expected, replacement, ttl_seconds }
}

impl From<PlacementTxn> for wire::PlacementTxn {
    fn from(txn: PlacementTxn) -> wire::PlacementTxn {
        wire::PlacementTxn {
            term: txn.term.0,
            conditions: txn.conditions.into_iter().map(Into::into).collect(),
            writes: txn.writes.into_iter().map(|(key, value)| wire::RowWrite { key, value }).collect(),
        }
    }
}

impl TryFrom<wire::PlacementTxn> for PlacementTxn {
    type Error = Error;

    fn try_from(txn: wire::PlacementTxn) -> Result<PlacementTxn> {
        Ok(PlacementTxn {
            term: Term(txn.term),
            conditions: txn.conditions.into_iter().map(Condition::try_from).collect::<Result<_>>()?,
            writes: txn.writes.into_iter().map(|write| (write.key, write.value)).collect(),
        })
    }
}

impl From<Condition> for wire::Condition {
    fn from(condition: Condition) -> wire::Condition {
        use wire::condition::Must;
        let (key, must) = match condition {
            Condition::Absent { key } => (key, Must::BeAbsent(wire::Absent {})),
            Condition::Equals { key, value } => (key, Must::Equal(value)),
            Condition::AtMost { key, number } => (key, Must::BeAtMost(number)),
        };
        wire::Condition { key, must: Some(must) }
    }
}

impl TryFrom<wire::Condition> for Condition {
    type Error = Error;

    fn try_from(condition: wire::Condition) -> Result<Condition> {
        use wire::condition::Must;
        let key = condition.key;
        Ok(match required(condition.must, "Condition", "a known kind")? {
            Must::BeAbsent(wire::Absent {}) => Condition::Absent { key },
            Must::Equal(value) => Condition::Equals { key, value },
            Must::BeAtMost(number) => Condition::AtMost { key, number },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::KeyRange;

    fn every_command() -> LogCommand {
        let pair =
            |key: &'static str, ttl_seconds| Pair { key: key.into(), value: "value".into(), ttl_seconds };
        let swap = |expected: Option<&'static str>, replacement: Option<&'static str>| {
            let (expected, replacement) = (expected.map(Bytes::from), replacement.map(Bytes::from));
            Command::CompareAndSwap(CompareAndSwap { key: "k".into(), expected, replacement, ttl_seconds: 3 })
        };
        let commands = vec![
            Command::Put(pair("a", 0)),
            Command::BatchPut { pairs: vec![pair("a", 1), pair("", 0)] },
            Command::Delete { key: "d".into() },
            Command::BatchDelete { keys: vec!["d".into(), Bytes::new()] },
            Command::DeleteRange { range: KeyRange::new("a", "") },
            // An empty value is a value: it must not turn into "does not exist", nor the other way round.
            swap(None, Some("")),
            swap(Some(""), None),
            swap(Some("x"), Some("y")),
            Command::Placement(PlacementTxn {
                term: Term(7),
                conditions: vec![
                    Condition::Absent { key: "1".into() },
                    Condition::Equals { key: "2".into(), value: Bytes::new() },
                    Condition::AtMost { key: "3".into(), number: 0 },
                ],
                writes: vec![("1".into(), Some(Bytes::new())), ("2".into(), None)],
            }),
        ];
        let session = Some(SessionStamp { client_id: 1, sequence: u64::MAX, low_water_mark: 0 });
        let requests = commands.into_iter().enumerate();
        let requests = requests
            .map(|(at, command)| Request { session: session.filter(|_| at % 2 == 0), command })
            .collect();
        LogCommand { wall: WallTime(1_700_000_000_000), requests }
    }

    #[test]
    fn every_command_round_trips() {
        let command = every_command();
        assert_eq!(decode_command(encode_command(command.clone())), Ok(command));
        let empty = LogCommand { wall: WallTime(0), requests: Vec::new() };
        assert_eq!(decode_command(encode_command(empty.clone())), Ok(empty));
    }

    #[test]
    fn splits_round_trip() {
        let child = |key: &'static str, id: u64| SplitChild {
            start_key: key.into(),
            region_id: RegionId(id),
            peer_ids: vec![PeerId(id + 1), PeerId(id + 2)],
        };
        let split = Split {
            change_id: 7,
            epoch: types::Epoch { conf_version: 3, version: 4 },
            leader_stores: vec![StoreId(1_001), StoreId(1_002)],
            children: vec![child("b", 10), child("c", 20)],
        };
        let payload = encode_split(split.clone());
        assert_eq!(decode_split(payload.clone()), Ok(split.clone()));
        assert!(decode_split(payload.slice(..payload.len() - 1)).is_err());
        assert!(decode_split(Bytes::new()).is_err());
        let unnamed = Split { children: vec![child("b", 0)], ..split.clone() };
        assert!(decode_split(encode_split(unnamed)).is_err());
        for leader_stores in [vec![], vec![StoreId(1_001), StoreId(0)]] {
            assert!(decode_split(encode_split(Split { leader_stores, ..split.clone() })).is_err());
        }
    }

    /// The format that lies in logs: a change of these bytes is a new version.
    #[test]
    fn bytes_of_version_1() {
        let put = Command::Put(Pair { key: "k".into(), value: "v".into(), ttl_seconds: 5 });
        let session = Some(SessionStamp { client_id: 9, sequence: 2, low_water_mark: 1 });
        let command = LogCommand { wall: WallTime(300), requests: vec![Request { session, command: put }] };
        let expected = [
            &[0x08, 1][..],
            &[0x10, 0xac, 0x02],
            &[0x1a, 18],
            &[0x0a, 6, 0x08, 9, 0x10, 2, 0x18, 1],
            &[0x12, 8, 0x0a, 1, b'k', 0x12, 1, b'v', 0x18, 5],
        ];
        assert_eq!(encode_command(command), expected.concat());
    }

    #[test]
    fn keys_and_values_are_slices_of_the_payload() {
        let payload = encode_command(every_command());
        let within = payload.as_ptr_range();
        let command = decode_command(payload).unwrap();
        let Command::Put(pair) = &command.requests[0].command else { panic!("{command:?}") };
        assert!(within.contains(&pair.key.as_ptr()));
        assert!(within.contains(&pair.value.as_ptr()));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let version = |version| wire::LogCommand { version, ..wire::LogCommand::default() };
        for number in [0, 2] {
            let refused =
                Error::UnknownNumber { message: "LogCommand", field: "version", number: number.into() };
            assert_eq!(LogCommand::try_from(version(number)), Err(refused));
        }
        // A request whose only field has a number from the future.
        let unknown = Bytes::from_static(&[0x08, 1, 0x1a, 3, 0xfa, 0x06, 0]);
        assert!(matches!(decode_command(unknown), Err(Error::Missing { message: "Request", .. })));
        let payload = encode_command(every_command());
        let cut = decode_command(payload.slice(..payload.len() - 1));
        assert!(matches!(cut, Err(Error::Undecodable(_))), "{cut:?}");
    }
}
