//! Commands: what is checked before they are proposed, and what they write when they are applied. One file for each.
//!
//! To add a command, write its file with a [`Handler`], and add it to [`with_handler`].

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
