//! What is wrong with a command that must not be proposed.

use crate::limits::{COMMAND_BYTES_MAX, KEY_BYTES_MAX};

/// Why a command is refused before it is proposed; the text says what its sender can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// A key without bytes.
    #[error("a key is empty: give each key at least one byte")]
    EmptyKey,
    /// A key that is too long.
    #[error("a key has {size_bytes} bytes, and {KEY_BYTES_MAX} are allowed: shorten it, or use a hash of it")]
    KeyTooLong {
        /// Its length.
        size_bytes: usize,
    },
    /// A command that is too large.
    #[error(
        "the command has {size_bytes} bytes, and {COMMAND_BYTES_MAX} are allowed: \
         divide the batch into smaller ones, or the value over several keys"
    )]
    TooLarge {
        /// Its size.
        size_bytes: usize,
    },
}

/// Refuses keys that cannot be written.
pub(super) fn check_key(key: &[u8]) -> Result<(), Invalid> {
    match key.len() {
        0 => Err(Invalid::EmptyKey),
        1..=KEY_BYTES_MAX => Ok(()),
        size_bytes => Err(Invalid::KeyTooLong { size_bytes }),
    }
}
