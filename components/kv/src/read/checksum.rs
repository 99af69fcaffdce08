//! Checksums of ranges, as clients compute them: CRC-64/XZ over key and value of each pair, XOR-ed.

use std::ops::ControlFlow;

use engine::KvSnapshot;
use types::{Answer, KeyRange};

use super::{ReadScope, live};
use crate::Result;

/// The polynomial of ECMA-182, its bits reversed.
const POLYNOMIAL: u64 = 0xc96c_5795_d787_0f42;

/// What a byte adds, for each byte.
const TABLE: [u64; 256] = table();

/// The checksum of the pairs in `ranges`. A pair in two of them counts twice.
pub(super) fn checksum(
    ranges: &[KeyRange],
    scope: &ReadScope<'_>,
    snapshot: &dyn KvSnapshot,
) -> Result<Answer> {
    let (mut checksum, mut total_pairs, mut total_bytes) = (0, 0, 0);
    for range in ranges {
        live::visit(range, false, scope, snapshot, &mut |key, value| {
            checksum ^= crc64(&[key, value]);
            total_pairs += 1;
            total_bytes += (key.len() + value.len()) as u64;
            Ok(ControlFlow::Continue(()))
        })?;
    }
    Ok(Answer::Checksum { checksum, total_pairs, total_bytes })
}

fn crc64(parts: &[&[u8]]) -> u64 {
    let bytes = parts.iter().copied().flatten();
    let remainder =
        bytes.fold(u64::MAX, |crc, byte| (crc >> 8) ^ TABLE[usize::from(crc.to_le_bytes()[0] ^ byte)]);
    !remainder
}

const fn table() -> [u64; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < table.len() {
        let mut crc = byte as u64;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check value that catalogues of CRCs list for CRC-64/XZ.
    #[test]
    fn this_is_crc_64_xz() {
        assert_eq!(crc64(&[b"123456789"]), 0x995d_c9bb_df19_39fa);
        assert_eq!(crc64(&[b"1234", b"", b"56789"]), 0x995d_c9bb_df19_39fa);
        assert_eq!(crc64(&[]), 0);
    }
}
