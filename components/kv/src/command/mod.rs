//! Commands: what is checked before they are proposed, and what they write when they are applied. One file for each.
//!
//! To add a command, write its file with a `Handler`, and add it to `with_handler`.

mod batch_delete;
mod batch_put;
mod bounds;
mod compare_and_swap;
mod delete;
mod delete_range;
mod invalid;
mod placement;
mod put;

use engine::KvEngine;
use types::{Command, KeyRange, Outcome, RegionId, Term, WallTime};

use crate::{Result, Round};

pub use crate::limits::{COMMAND_BYTES_MAX as SIZE_BYTES_MAX, KEY_BYTES_MAX};
pub use bounds::Bounds;
pub use invalid::Invalid;

/// Where and when a command is applied. Every part is the same on each peer of the region.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// The region.
    pub region_id: RegionId,
    /// The keys that it holds at the command's index; of no meaning for the placement group.
    pub range: &'a KeyRange,
    /// The term of the command's entry.
    pub term: Term,
    /// The region clock, raised to the wall time in the command's entry already (D11).
    pub clock: WallTime,
}

/// What each command can do.
trait Handler<'a> {
    /// Refuses what must not be proposed, except for its size.
    fn check(&self) -> std::result::Result<(), Invalid>;

    /// The keys that it reads or writes.
    fn bounds(&self) -> Bounds<'a>;

    /// Bytes of keys and values, and a fixed number for each pair.
    fn size_bytes(&self) -> usize;

    /// Adds its writes to the round and says what came of it. Its bounds lie within the scope. An error that is
    /// deterministic must be found before anything is written.
    fn apply(&self, scope: &Scope<'_>, engine: &dyn KvEngine, round: &mut Round) -> Result<Outcome>;
}

/// Applies a command: adds its writes to the round, and says what came of it. A command with a key that is not in the
/// scope's range is refused whole.
pub fn apply(
    command: &Command,
    scope: &Scope<'_>,
    engine: &dyn KvEngine,
    round: &mut Round,
) -> Result<Outcome> {
    with_handler(command, |handler| {
        handler.bounds().check_within(scope.region_id, scope.range)?;
        handler.apply(scope, engine, round)
    })
}

/// Refuses a command that must not be proposed; the error says what its sender can do.
pub fn check(command: &Command) -> std::result::Result<(), Invalid> {
    with_handler(command, |handler| {
        let size_bytes = handler.size_bytes();
        if size_bytes > SIZE_BYTES_MAX {
            return Err(Invalid::TooLarge { size_bytes });
        }
        handler.check()
    })
}

/// The keys that a command reads or writes.
#[must_use]
pub fn bounds(command: &Command) -> Bounds<'_> {
    with_handler(command, |handler| handler.bounds())
}

/// Bytes that a command counts in budgets: its keys and values, and a fixed number for each pair.
#[must_use]
pub fn size_bytes(command: &Command) -> usize {
    with_handler(command, |handler| handler.size_bytes())
}

/// Cuts a command that may reach beyond its region down to it, once, before it is proposed (D6).
///
/// Only the end of a range is cut, because only that can be right: clients send a whole range to the region of its
/// first key and go on where that region ends. A range that begins outside stays as it is, and [`Bounds::check_within`]
/// refuses it.
pub fn clip(command: &mut Command, range: &KeyRange) {
    if let Command::DeleteRange { range: deleted } = command {
        delete_range::clip(deleted, range);
    }
}

fn with_handler<'a, T>(command: &'a Command, ask: impl FnOnce(&dyn Handler<'a>) -> T) -> T {
    match command {
        Command::Put(pair) => ask(&put::Put(pair)),
        Command::BatchPut { pairs } => ask(&batch_put::BatchPut(pairs)),
        Command::Delete { key } => ask(&delete::Delete(key)),
        Command::BatchDelete { keys } => ask(&batch_delete::BatchDelete(keys)),
        Command::DeleteRange { range } => ask(&delete_range::DeleteRange(range)),
        Command::CompareAndSwap(swap) => ask(&compare_and_swap::Swap(swap)),
        Command::Placement(txn) => ask(&placement::Transaction(txn)),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use types::{CompareAndSwap, Condition, Pair, PlacementTxn};

    use super::*;

    fn pair(key_bytes: usize, value_bytes: usize) -> Pair {
        Pair { key: vec![b'k'; key_bytes].into(), value: vec![b'v'; value_bytes].into(), ttl_seconds: 0 }
    }

    /// Every command that names a key of this length.
    fn commands_with(key_bytes: usize) -> Vec<Command> {
        let key = Bytes::from(vec![b'k'; key_bytes]);
        let good = Bytes::from("good");
        let condition = Condition::AtMost { key: key.clone(), number: 1 };
        vec![
            Command::Put(pair(key_bytes, 1)),
            Command::BatchPut { pairs: vec![pair(1, 1), pair(key_bytes, 1)] },
            Command::Delete { key: key.clone() },
            Command::BatchDelete { keys: vec![good.clone(), key.clone()] },
            Command::CompareAndSwap(CompareAndSwap {
                key: key.clone(),
                expected: None,
                replacement: None,
                ttl_seconds: 0,
            }),
            Command::Placement(PlacementTxn {
                term: Term(1),
                conditions: vec![condition],
                writes: vec![(good.clone(), None)],
            }),
            Command::Placement(PlacementTxn {
                term: Term(1),
                conditions: vec![],
                writes: vec![(key, Some(good))],
            }),
        ]
    }

    #[test]
    fn keys_have_a_length() {
        for (key_bytes, expected) in [
            (0, Err(Invalid::EmptyKey)),
            (1, Ok(())),
            (KEY_BYTES_MAX, Ok(())),
            (KEY_BYTES_MAX + 1, Err(Invalid::KeyTooLong { size_bytes: KEY_BYTES_MAX + 1 })),
        ] {
            for command in commands_with(key_bytes) {
                assert_eq!(check(&command), expected, "a key of {key_bytes} bytes in {command:?}");
            }
        }
    }

    #[test]
    fn bounds_of_ranges_may_be_empty_or_long() {
        let range = KeyRange::new("", vec![0xff; KEY_BYTES_MAX + 1]);
        assert_eq!(check(&Command::DeleteRange { range }), Ok(()));
    }

    #[test]
    fn commands_have_a_size() {
        let overhead = size_bytes(&Command::Put(pair(1, 0)));
        let fits = SIZE_BYTES_MAX - overhead;
        assert_eq!(check(&Command::Put(pair(1, fits))), Ok(()));
        let too_large = Err(Invalid::TooLarge { size_bytes: SIZE_BYTES_MAX + 1 });
        assert_eq!(check(&Command::Put(pair(1, fits + 1))), too_large);
        let half = SIZE_BYTES_MAX / 2 - overhead;
        assert_eq!(check(&Command::BatchPut { pairs: vec![pair(1, half), pair(1, half)] }), Ok(()));
        assert_eq!(check(&Command::BatchPut { pairs: vec![pair(1, half), pair(1, half + 1)] }), too_large);
        let value = Some(Bytes::from(vec![0; SIZE_BYTES_MAX / 2]));
        let swap =
            CompareAndSwap { key: "k".into(), expected: value.clone(), replacement: value, ttl_seconds: 0 };
        assert!(matches!(check(&Command::CompareAndSwap(swap)), Err(Invalid::TooLarge { .. })));
    }
}
