//! What makes a message impossible to translate.

use types::ConfigurationError;

/// What translations return.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a message is refused. The text is for whoever sent it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// The bytes are no encoding of the message.
    #[error("malformed message: {0}")]
    Undecodable(#[from] prost::DecodeError),
    /// A field that must be there is not, or is zero where zero means absent.
    #[error("{message} without {field}")]
    Missing {
        /// The message.
        message: &'static str,
        /// The field, or the oneof of which no known field is set.
        field: &'static str,
    },
    /// A number that no value of the enum has: a newer version's, or damage.
    #[error("{message} with unknown {field} {number}")]
    UnknownNumber {
        /// The message.
        message: &'static str,
        /// The field.
        field: &'static str,
        /// What it says.
        number: i64,
    },
    /// Fields that contradict one another.
    #[error("{message}: {reason}")]
    Inconsistent {
        /// The message.
        message: &'static str,
        /// What is wrong.
        reason: &'static str,
    },
    /// A Raft configuration that is not well formed.
    #[error("configuration: {0}")]
    Configuration(#[from] ConfigurationError),
    /// A column family other than the default one.
    #[error("column family \"{0}\" does not exist: only \"default\" does")]
    ColumnFamily(String),
    /// The number of TTLs fits neither none, one for all nor one for each pair.
    #[error("{ttl_count} TTLs for {pair_count} pairs: send none, one for all, or one for each")]
    TtlCount {
        /// TTLs sent.
        ttl_count: usize,
        /// Pairs sent.
        pair_count: usize,
    },
    /// A write to the empty key.
    #[error("a key must not be empty")]
    EmptyKey,
    /// An answer of another kind than the response needs: a defect of the caller.
    #[error("the answer does not fit {response}")]
    OtherAnswer {
        /// The response.
        response: &'static str,
    },
}

/// The message in the field, or the error that it is not there.
pub fn required<T>(value: Option<T>, message: &'static str, field: &'static str) -> Result<T> {
    value.ok_or(Error::Missing { message, field })
}

/// The number in the field, or the error that it is zero.
pub fn non_zero(value: u64, message: &'static str, field: &'static str) -> Result<u64> {
    if value == 0 { Err(Error::Missing { message, field }) } else { Ok(value) }
}
