//! Numbers that nobody can foresee, a few in the life of a process.

use std::hash::{BuildHasher, Hasher, RandomState};

/// A random number that is not zero. The keys of a standard hasher come from the operating system.
pub(crate) fn random_number() -> u64 {
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    hasher.finish().max(1)
}
