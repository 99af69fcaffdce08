//! The values of clients' pairs, byte by byte.
//!
//! | bytes | what |
//! | --- | --- |
//! | flags:1 | bit 0: an expiry follows; the other bits are zero, and a reader refuses them |
//! | expiry:8 | only with bit 0: milliseconds since 1970 UTC, big-endian; from this moment on the value does not exist |
//! | the rest | the client's value |

use types::WallTime;

/// The flag of a value with an expiry.
const FLAG_EXPIRY: u8 = 1;
const EXPIRY_LEN: usize = 8;

/// What stands before a client's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    bytes: [u8; 1 + EXPIRY_LEN],
    has_expiry: bool,
}

/// A stored value, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored<'a> {
    /// From when on it does not exist; `None`: it never expires.
    pub expiry: Option<WallTime>,
    /// The client's value.
    pub user_value: &'a [u8],
}

/// Bytes that are no stored value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed value: {reason}")]
pub struct Malformed {
    /// What is wrong with them.
    pub reason: &'static str,
}

/// What to write before a client's value: `batch.put(&user_key(key), &[header(expiry).as_slice(), value])`.
#[must_use]
pub fn header(expiry: Option<WallTime>) -> Header {
    let mut bytes = [0; 1 + EXPIRY_LEN];
    if let Some(expiry) = expiry {
        bytes[0] = FLAG_EXPIRY;
        bytes[1..].copy_from_slice(&expiry.0.to_be_bytes());
    }
    Header { bytes, has_expiry: expiry.is_some() }
}

/// Takes a stored value apart.
pub fn decode(bytes: &[u8]) -> Result<Stored<'_>, Malformed> {
    let (flags, rest) = bytes.split_first().ok_or(Malformed { reason: "no flags byte" })?;
    match *flags {
        0 => Ok(Stored { expiry: None, user_value: rest }),
        FLAG_EXPIRY => {
            let (expiry, user_value) =
                rest.split_first_chunk::<EXPIRY_LEN>().ok_or(Malformed { reason: "expiry cut short" })?;
            Ok(Stored { expiry: Some(WallTime(u64::from_be_bytes(*expiry))), user_value })
        }
        _ => Err(Malformed { reason: "unknown flags" }),
    }
}

/// Whether a value with this expiry does not exist any more at `clock`.
#[must_use]
pub fn is_expired(expiry: Option<WallTime>, clock: WallTime) -> bool {
    expiry.is_some_and(|expiry| expiry <= clock)
}

/// The expiry of a value that gets `ttl_seconds` at `clock`; zero: never. A time to live beyond the end of time ends there.
#[must_use]
pub fn expiry_after(clock: WallTime, ttl_seconds: u64) -> Option<WallTime> {
    (ttl_seconds != 0).then(|| WallTime(clock.0.saturating_add(ttl_seconds.saturating_mul(1_000))))
}

impl Header {
    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        if self.has_expiry { &self.bytes } else { &self.bytes[..1] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(expiry: Option<u64>, user_value: &[u8]) -> Vec<u8> {
        [header(expiry.map(WallTime)).as_slice(), user_value].concat()
    }

    #[test]
    fn the_format_does_not_change() {
        assert_eq!(encoded(None, b"v"), b"\0v");
        assert_eq!(encoded(Some(0x0102), b"v"), b"\x01\0\0\0\0\0\0\x01\x02v");
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        for expiry in [None, Some(0), Some(1), Some(u64::MAX)] {
            for user_value in [&b""[..], b"v", b"\x01\x02\x03\x04\x05\x06\x07\x08\x09"] {
                let bytes = encoded(expiry, user_value);
                assert_eq!(decode(&bytes), Ok(Stored { expiry: expiry.map(WallTime), user_value }));
            }
        }
    }

    #[test]
    fn damage_is_noticed() {
        assert_eq!(decode(b""), Err(Malformed { reason: "no flags byte" }));
        assert_eq!(decode(b"\x01\0\0\0\0\0\0\0"), Err(Malformed { reason: "expiry cut short" }));
        for flags in 2..=u8::MAX {
            assert_eq!(decode(&[flags; 12]), Err(Malformed { reason: "unknown flags" }));
        }
    }

    #[test]
    fn a_value_ends_at_its_expiry() {
        let expiry = expiry_after(WallTime(500), 2);
        assert_eq!(expiry, Some(WallTime(2_500)));
        assert!(!is_expired(expiry, WallTime(2_499)));
        assert!(is_expired(expiry, WallTime(2_500)));
        assert!(!is_expired(None, WallTime(u64::MAX)));
        assert_eq!(expiry_after(WallTime(500), 0), None);
        assert_eq!(expiry_after(WallTime(500), u64::MAX), Some(WallTime(u64::MAX)));
    }
}
