//! Answers of many pairs, and their bound.

use bytes::Bytes;

use crate::{
    Error, Result,
    limits::{ANSWER_BYTES_MAX, PAIR_OVERHEAD_BYTES},
};

/// What an answer may still take.
pub(super) struct Allowance {
    left_bytes: usize,
}

/// Pairs copied out of a scan: one behind the other in one buffer, so that a long scan allocates a few times, not twice
/// for each pair.
pub(super) struct PairBuffer {
    allowance: Allowance,
    buffer: Vec<u8>,
    /// Where each key and each value ends in `buffer`.
    ends: Vec<(usize, usize)>,
}

impl Allowance {
    pub(super) fn new() -> Allowance {
        Allowance { left_bytes: ANSWER_BYTES_MAX }
    }

    /// Counts one pair.
    pub(super) fn take(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let pair_bytes = key.len() + value.len() + PAIR_OVERHEAD_BYTES;
        match self.left_bytes.checked_sub(pair_bytes) {
            Some(left_bytes) => {
                self.left_bytes = left_bytes;
                Ok(())
            }
            None => Err(Error::AnswerTooLarge { bytes_max: ANSWER_BYTES_MAX }),
        }
    }
}

impl PairBuffer {
    pub(super) fn new() -> PairBuffer {
        PairBuffer { allowance: Allowance::new(), buffer: Vec::new(), ends: Vec::new() }
    }

    pub(super) fn push(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.allowance.take(key, value)?;
        self.buffer.extend_from_slice(key);
        let key_end = self.buffer.len();
        self.buffer.extend_from_slice(value);
        self.ends.push((key_end, self.buffer.len()));
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn into_pairs(self) -> Vec<(Bytes, Bytes)> {
        let bytes = Bytes::from(self.buffer);
        let mut start = 0;
        let slice_up_to = |(key_end, value_end)| {
            let pair = (bytes.slice(start..key_end), bytes.slice(key_end..value_end));
            start = value_end;
            pair
        };
        self.ends.into_iter().map(slice_up_to).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_come_out_as_they_went_in() {
        let mut buffer = PairBuffer::new();
        let pairs: [(&[u8], &[u8]); 4] = [(b"a", b"1"), (b"", b""), (b"bb", b""), (b"c", b"22")];
        for (key, value) in pairs {
            buffer.push(key, value).unwrap();
        }
        assert_eq!(buffer.len(), 4);
        let expected: Vec<_> = pairs.map(|(key, value)| (Bytes::from(key), Bytes::from(value))).into();
        assert_eq!(buffer.into_pairs(), expected);
    }

    #[test]
    fn the_allowance_is_exact() {
        let value = vec![0; ANSWER_BYTES_MAX - PAIR_OVERHEAD_BYTES - 1];
        Allowance::new().take(b"k", &value).unwrap();
        let error = Allowance::new().take(b"kk", &value).unwrap_err();
        assert!(matches!(error, Error::AnswerTooLarge { bytes_max: ANSWER_BYTES_MAX }));
    }
}
