//! The end of a process that has opened engines.

use std::io::Write;

/// Ends the process without its exit handlers.
///
/// RocksDB registers destructors of its global state as exit handlers, while threads that nobody can join (the
/// runtime's, and its own) may still be inside it: an ordinary exit then now and then ends in an abort, or hangs. Nothing
/// is lost by leaving them out: what must be durable has been synced before.
pub(crate) fn at_once(code: u8) -> ! {
    // Nobody is left to be told that this failed.
    drop(std::io::stdout().flush());
    signal_hook::low_level::exit(i32::from(code))
}
