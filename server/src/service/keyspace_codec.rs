//! Keys of API V2: `r`, three bytes of keyspace, the user's key. They are stored, compared and split in memcomparable
//! form, as region boundaries are told to clients (D9).

use bytes::Bytes;
use types::{
    Answer, Command, KeyRange, Query, Scan,
    memcomparable::{decode_key, encode_key},
};

/// The kind of key that raw requests use.
const RAW_PREFIX: u8 = b'r';

/// The kind byte and the keyspace's number.
const PREFIX_BYTES: usize = 4;

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
