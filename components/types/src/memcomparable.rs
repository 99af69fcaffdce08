//! Keys in memcomparable form: as clusters with keyspaces store and compare them, and as boundaries of regions are told
//! to clients (D9).

use bytes::{BufMut, Bytes, BytesMut};

/// Bytes that are encoded together.
const GROUP: usize = 8;

/// What follows a group that is full.
const FULL: u8 = 0xff;

/// Groups of eight bytes, padded with zeros, each followed by 255 less its padding: the order of encoded keys is that
/// of the keys, and no encoded key is the beginning of another.
#[must_use]
pub fn encode_key(key: &[u8]) -> Bytes {
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
#[must_use]
pub fn decode_key(encoded: &[u8]) -> Option<Bytes> {
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

/// The encoding of a longest beginning of `key` that is not above it; `key` itself where it is an encoding; `None` below the
/// first one. Where a key that nobody chose shall become a boundary, it becomes this one.
#[must_use]
pub fn round_down(key: &[u8]) -> Option<Bytes> {
    let full_count = key.chunks_exact(GROUP + 1).take_while(|group| group[GROUP] == FULL).count();
    let (full, rest) = key.split_at(full_count * (GROUP + 1));
    let mut decoded: Vec<u8> =
        full.chunks_exact(GROUP + 1).flat_map(|group| &group[..GROUP]).copied().collect();
    // Of the last group no more counts than is there: as many bytes as its end allows, and then fewer.
    let whole = decoded.len();
    decoded.extend_from_slice(&rest[..rest.len().min(GROUP)]);
    loop {
        let encoded = encode_key(&decoded);
        if encoded.as_ref() <= key {
            return Some(encoded);
        }
        if decoded.len() == whole {
            break;
        }
        decoded.pop();
    }
    // Not even an empty last group fits: the full group before it is the end of no key then.
    (whole > 0).then(|| {
        decoded.truncate(whole - 1);
        encode_key(&decoded)
    })
}

#[cfg(test)]
mod tests {
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
    fn rounding_gives_an_encoding_that_is_not_above() {
        let keys: [&[u8]; 7] = [b"", b"a", b"ab", b"abcdefgh", b"abcdefghi", b"abcdefgi", b"b"];
        let encoded: Vec<_> = keys.iter().map(|key| encode_key(key)).collect();
        for encoded in encoded {
            assert_eq!(round_down(&encoded), Some(encoded.clone()), "an encoding is its own");
            let mut above = encoded.to_vec();
            above.push(0);
            assert_eq!(round_down(&above), Some(encoded), "{above:?}");
        }
        assert_eq!(round_down(b""), None);
        assert_eq!(round_down(b"\0\0"), None, "shorter than the first");
        for key in
            [&b"a"[..], b"abcdefgh", b"abcdefgh\x03", b"abcdefgh\xffabc", b"abcdefgh\xff", b"zzz\xff\xff"]
        {
            let rounded = round_down(key).expect("there is one below");
            assert!(rounded.as_ref() <= key && decode_key(&rounded).is_some(), "{key:?}: {rounded:?}");
        }
    }
}
