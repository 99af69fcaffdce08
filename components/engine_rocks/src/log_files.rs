//! A look at the log's write-ahead files before RocksDB reads them.
//!
//! RocksDB tells a record that was cut short from damage by whether it reaches behind the end of the file; so a flipped
//! bit in the length of a record near the end passes for the first, and everything behind it, acknowledged or not, is
//! dropped without a word. Here, what is taken for a record cut short must not hold a whole one, and only the last file
//! may end with it. Such a tail is removed, so that it is never found again in a file that is no longer the last.
//!
//! The format: blocks of 32 KiB; in them records of a masked CRC-32C over type and payload (4 bytes), the payload's
//! length (2), a type (1), all little-endian, and the payload; a record never crosses the end of a block, fewer than 7
//! bytes there are padding. A write is one record of type 1, or several: type 2, any number of type 3, type 4.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use engine::{Operation, Result};

use crate::{error, folder};

const BLOCK_LEN: usize = 32 << 10;
const HEAD_LEN: usize = 7;
const WHOLE: u8 = 1;
const FIRST: u8 = 2;
const MIDDLE: u8 = 3;
const LAST: u8 = 4;

/// What a file's records are like.
struct Scan {
    /// The bytes up to the end of the last whole write.
    whole_len: u64,
    file_len: u64,
}

/// Why a file's records are not as they were written.
enum Flaw {
    /// The file cannot be read.
    Unreadable(io::Error),
    /// What is wrong, and where.
    Damaged(&'static str, u64),
}

/// Checks every file of the write-ahead log in a folder, and removes from the last one what is behind its last whole
/// write, if that is a write cut short.
pub(crate) fn mend_tail(path: &Path) -> Result<()> {
    let files = find_files(path).map_err(|failure| error::of(Operation::Open, failure))?;
    for (at, file_path) in files.iter().enumerate() {
        let refuse = |what: &str, offset: u64| {
            let message = format!("{what} at byte {offset} of {}", file_path.display());
            Err(error::corruption(Operation::Open, message))
        };
        let scan = match scan(file_path) {
            Ok(scan) => scan,
            Err(Flaw::Unreadable(failure)) => return Err(error::of(Operation::Open, failure)),
            Err(Flaw::Damaged(what, offset)) => return refuse(what, offset),
        };
        if scan.whole_len == scan.file_len {
            continue;
        }
        if at + 1 < files.len() {
            return refuse("a record is cut short, though newer log files follow,", scan.whole_len);
        }
        cut(file_path, scan.whole_len).map_err(|failure| error::of(Operation::Open, failure))?;
    }
    Ok(())
}

/// The files of the write-ahead log, oldest first.
fn find_files(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for file in fs::read_dir(path)? {
        let file = file?;
        let number =
            folder::strip_ending(&file.file_name(), ".log").and_then(|number| number.parse::<u64>().ok());
        files.extend(number.map(|number| (number, file.path())));
    }
    files.sort_unstable();
    Ok(files.into_iter().map(|(_, path)| path).collect())
}

fn scan(path: &Path) -> std::result::Result<Scan, Flaw> {
    let mut file = File::open(path).map_err(Flaw::Unreadable)?;
    let mut scan = Scan { whole_len: 0, file_len: 0 };
    let mut is_within_write = false;
    let mut block = Vec::with_capacity(BLOCK_LEN);
    loop {
        block.clear();
        file.by_ref().take(BLOCK_LEN as u64).read_to_end(&mut block).map_err(Flaw::Unreadable)?;
        scan_block(&block, &mut scan, &mut is_within_write)?;
        scan.file_len += block.len() as u64;
        if block.len() < BLOCK_LEN {
            return Ok(scan);
        }
    }
}

/// Takes in one block that begins at `scan.file_len`; one that is not full is the file's last.
fn scan_block(block: &[u8], scan: &mut Scan, is_within_write: &mut bool) -> std::result::Result<(), Flaw> {
    let mut at = 0;
    while block.len() - at >= HEAD_LEN {
        let offset = scan.file_len + at as u64;
        let rest = &block[at..];
        let Some(record) = Record::of(rest) else {
            if block.len() == BLOCK_LEN {
                return Err(Flaw::Damaged("a record crosses the end of its block", offset));
            }
            return check_tail(rest).map_err(|what| Flaw::Damaged(what, offset));
        };
        if !record.is_intact() {
            return Err(Flaw::Damaged("a record's checksum does not match", offset));
        }
        *is_within_write = match (record.kind, *is_within_write) {
            (FIRST, false) | (MIDDLE, true) => true,
            (LAST, true) | (WHOLE, false) => false,
            (FIRST | MIDDLE | LAST | WHOLE, _) => {
                return Err(Flaw::Damaged("a part of a write is missing", offset));
            }
            // Records that are not writes (options of the file) stand alone.
            (_, within) => within,
        };
        at += HEAD_LEN + record.payload.len();
        if !*is_within_write {
            scan.whole_len = scan.file_len + at as u64;
        }
    }
    if block.len() == BLOCK_LEN && !*is_within_write {
        // The padding belongs to what is before it.
        scan.whole_len = scan.file_len + BLOCK_LEN as u64;
    }
    Ok(())
}

/// Refuses bytes that begin with a record longer than them, but cannot be one that was cut short.
fn check_tail(rest: &[u8]) -> std::result::Result<(), &'static str> {
    let claimed = Record { payload: &rest[HEAD_LEN..], ..Record::head_of(rest) };
    if claimed.is_intact() {
        return Err("a record has a wrong length");
    }
    let is_whole = |record: Record<'_>| matches!(record.kind, WHOLE..=LAST) && record.is_intact();
    let has_whole = (1..rest.len()).any(|at| Record::of(&rest[at..]).is_some_and(is_whole));
    if has_whole { Err("a record with a wrong length is followed by others") } else { Ok(()) }
}

/// Shortens a file for good.
fn cut(path: &Path, len: u64) -> io::Result<()> {
    let file = File::options().write(true).open(path)?;
    file.set_len(len)?;
    file.sync_all()
}

struct Record<'a> {
    checksum: u32,
    kind: u8,
    payload: &'a [u8],
}

impl<'a> Record<'a> {
    /// The record at the beginning of `bytes`, if they reach to its end.
    fn of(bytes: &'a [u8]) -> Option<Record<'a>> {
        let (head, behind) = bytes.split_at_checked(HEAD_LEN)?;
        let len = usize::from(u16::from_le_bytes([head[4], head[5]]));
        Some(Record { payload: behind.get(..len)?, ..Record::head_of(bytes) })
    }

    /// What the head says, without a payload; `bytes` hold at least a head.
    fn head_of(bytes: &[u8]) -> Record<'a> {
        let checksum = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        Record { checksum, kind: bytes[6], payload: &[] }
    }

    fn is_intact(&self) -> bool {
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&[self.kind]), self.payload);
        // The mask keeps checksums of data that holds checksums from cancelling out.
        let masked = checksum.rotate_right(15).wrapping_add(0xa282_ead8);
        masked == self.checksum
    }
}
