//! Keys of API V2: `r`, three bytes of keyspace, the user's key. They are stored, compared and split in memcomparable
//! form, as region boundaries are told to clients (D9).

use bytes::{BufMut, Bytes, BytesMut};
use types::{Answer, Command, KeyRange, Query, Scan};

/// Bytes that are encoded together.
const GROUP: usize = 8;

/// What follows a group that is full.
const FULL: u8 = 0xff;

/// The kind of key that raw requests use.
const RAW_PREFIX: u8 = b'r';

/// The kind byte and the keyspace's number.
const PREFIX_BYTES: usize = 4;

/// Groups of eight bytes, padded with zeros, each followed by 255 less its padding: the order of encoded keys is that
/// of the keys, and no encoded key is the beginning of another.
pub(super) fn encode_key(key: &[u8]) -> Bytes {
    let mut encoded = BytesMut::with_capacity((key.len() / GROUP + 1) * (GROUP + 1));
    let mut rest = key;
    loop {
        let taken = rest.len().min(GROUP);
        encoded.put_slice(&rest[..taken]);
        encoded.put_bytes(0, GROUP - taken);
        let padding = u8::try_from(GROUP - taken).unwrap_or(0);
        encoded.put_u8(FULL - padding);
        rest = &rest[taken..];
        if taken < GROUP {
            return encoded.freeze();
        }
    }
}

/// The key of an encoded one; `None` if it is not the whole encoding of any.
pub(super) fn decode_key(encoded: &[u8]) -> Option<Bytes> {
    let mut key = BytesMut::with_capacity(encoded.len());
    let mut rest = encoded;
    loop {
        let (group, behind) = rest.split_at_checked(GROUP + 1)?;
        let padding = usize::from(FULL - group[GROUP]);
        if padding > GROUP {
            return None;
        }
        let (taken, zeros) = group[..GROUP].split_at(GROUP - padding);
        if zeros.iter().any(|byte| *byte != 0) {
            return None;
        }
        key.put_slice(taken);
        rest = behind;
        if padding > 0 {
            return rest.is_empty().then(|| key.freeze());
        }
    }
}

/// The command with keys as they are stored.
pub(super) fn encode_command(command: Command) -> Result<Command, String> {
    Ok(match command {
        Command::Put(mut pair) => {
            pair.key = stored(&pair.key)?;
            Command::Put(pair)
        }
        Command::BatchPut { mut pairs } => {
            for pair in &mut pairs {
                pair.key = stored(&pair.key)?;
            }
            Command::BatchPut { pairs }
        }
        Command::Delete { key } => Command::Delete { key: stored(&key)? },
        Command::BatchDelete { keys } => Command::BatchDelete { keys: all_stored(&keys)? },
        Command::DeleteRange { range } => Command::DeleteRange { range: bounds(&range) },
        Command::CompareAndSwap(mut swap) => {
            swap.key = stored(&swap.key)?;
            Command::CompareAndSwap(swap)
        }
        Command::Placement(txn) => Command::Placement(txn),
    })
}

/// The query with keys as they are stored.
pub(super) fn encode_query(query: Query) -> Result<Query, String> {
    let scan = |scan: Scan| Scan { range: bounds(&scan.range), ..scan };
    Ok(match query {
        Query::Get { key } => Query::Get { key: stored(&key)? },
        Query::BatchGet { keys } => Query::BatchGet { keys: all_stored(&keys)? },
        Query::Scan(one) => Query::Scan(scan(one)),
        Query::BatchScan { scans } => Query::BatchScan { scans: scans.into_iter().map(scan).collect() },
        Query::KeyTtl { key } => Query::KeyTtl { key: stored(&key)? },
        Query::Checksum { ranges } => Query::Checksum { ranges: ranges.iter().map(bounds).collect() },
        Query::PlacementRows { prefix } => Query::PlacementRows { prefix },
    })
}

/// The answer with keys as the client knows them. What is stored was encoded here, so a key that cannot be decoded was
/// written in another mode; it is left as it is.
pub(super) fn decode_answer(answer: Answer) -> Answer {
    match answer {
        Answer::Pairs(mut pairs) => {
            for (key, _) in &mut pairs {
                if let Some(decoded) = decode_key(key) {
                    *key = decoded;
                }
            }
            Answer::Pairs(pairs)
        }
        other @ (Answer::Value(_) | Answer::Ttl(_) | Answer::Checksum { .. }) => other,
    }
}

fn stored(key: &Bytes) -> Result<Bytes, String> {
    if key.len() < PREFIX_BYTES || key[0] != RAW_PREFIX {
        return Err(
            "a key of this cluster begins with \"r\" and the three bytes of its keyspace (API V2)".to_owned()
        );
    }
    Ok(encode_key(key))
}

fn all_stored(keys: &[Bytes]) -> Result<Vec<Bytes>, String> {
    keys.iter().map(stored).collect()
}

/// Ends need not be keys; an empty one stays "none".
fn bounds(range: &KeyRange) -> KeyRange {
    let bound = |key: &Bytes| if key.is_empty() { Bytes::new() } else { encode_key(key) };
    KeyRange { start_key: bound(&range.start_key), end_key: bound(&range.end_key) }
}

#[cfg(test)]
mod tests {
    use types::Pair;

    use super::*;

    #[test]
    fn known_encodings() {
        assert_eq!(encode_key(b"a").as_ref(), b"a\0\0\0\0\0\0\0\xf8");
        assert_eq!(encode_key(b"").as_ref(), b"\0\0\0\0\0\0\0\0\xf7");
        assert_eq!(encode_key(b"12345678").as_ref(), b"12345678\xff\0\0\0\0\0\0\0\0\xf7");
        assert_eq!(encode_key(&[0xff; 4]).as_ref(), b"\xff\xff\xff\xff\0\0\0\0\xfb");
    }

    #[test]
    fn keys_keep_their_order_and_come_back() {
        let mut keys: Vec<Vec<u8>> =
            vec![vec![], vec![0], vec![0, 0], vec![1; 7], vec![1; 8], vec![1; 9], vec![255; 20]];
        keys.sort();
        let encoded: Vec<_> = keys.iter().map(|key| encode_key(key)).collect();
        assert!(encoded.is_sorted());
        for (key, encoded) in keys.iter().zip(&encoded) {
            assert_eq!(decode_key(encoded).as_deref(), Some(key.as_slice()));
        }
    }

    #[test]
    fn what_is_no_encoding_is_refused() {
        for wrong in [
            &b""[..],
            b"short",
            b"12345678\xff",
            b"1\x001\0\0\0\0\0\xf8",
            b"12345678\x01",
            b"a\0\0\0\0\0\0\0\xf8x",
        ] {
            assert_eq!(decode_key(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn keys_of_other_modes_are_refused() {
        let put = |key: &'static [u8]| {
            let pair = Pair { key: Bytes::from_static(key), value: Bytes::new(), ttl_seconds: 0 };
            encode_command(Command::Put(pair))
        };
        assert!(put(b"r\0\0\x01k").is_ok());
        assert!(put(b"r\0\0").is_err());
        assert!(put(b"x\0\0\x01k").is_err());
    }

    #[test]
    fn answers_have_the_clients_keys() {
        let stored = encode_key(b"r\0\0\x01key");
        let answer = decode_answer(Answer::Pairs(vec![(stored, Bytes::from_static(b"v"))]));
        assert_eq!(
            answer,
            Answer::Pairs(vec![(Bytes::from_static(b"r\0\0\x01key"), Bytes::from_static(b"v"))])
        );
    }
}
