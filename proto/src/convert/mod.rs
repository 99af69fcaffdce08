//! The only place that knows both vocabularies: generated messages and domain types.
//!
//! One file per subject. What can fail is a `TryFrom` with [`Error`]; conversions take their input by value, and keys and
//! values stay slices of the bytes that were received.

/// Both directions between a domain type and a message that have the same name and the same fields.
macro_rules! same_fields {
    ($($name:ident { $($field:ident),* })*) => {$(
        impl From<$name> for wire::$name {
            fn from(value: $name) -> wire::$name {
                wire::$name { $($field: value.$field),* }
            }
        }

        impl From<wire::$name> for $name {
            fn from(value: wire::$name) -> $name {
                $name { $($field: value.$field),* }
            }
        }
    )*};
}

mod command;
mod context;
mod error;
mod kvrpcpb;
mod metapb;
mod raft;
mod vocabulary;

pub use command::{decode_command, decode_split, encode_command, encode_split};
pub use context::{ApiVersion, RequestContext};
pub use error::{Error, Result, non_zero, required};
pub use raft::PeerMessage;
