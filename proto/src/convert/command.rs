//! What a log entry holds: `sheaf.command.v1`. Written once, at propose; read once per peer, at apply. Keys and values of
//! the decoded command are slices of the payload.

use bytes::Bytes;
use prost::Message;
use types::{
    Command, CompareAndSwap, Condition, LogCommand, Pair, PlacementTxn, Request, SessionStamp, Term, WallTime,
};

use super::{Error, Result, error::required};
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
