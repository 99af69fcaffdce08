//! The folder of an engine.

use std::{
    ffi::OsStr,
    fs::{self, File, TryLockError},
    io,
    path::Path,
};

use engine::{Operation, Result};

use crate::error;

/// A folder that this process alone uses, until it is dropped. RocksDB locks its folder too, but only after files in it
/// were looked at and mended.
pub(crate) struct FolderLock {
    _file: File,
}

impl FolderLock {
    /// Creates the folder if it is missing, and locks it.
    pub(crate) fn take(path: &Path) -> Result<FolderLock> {
        let open = || {
            fs::create_dir_all(path)?;
            File::options().create(true).truncate(false).write(true).open(path.join("in-use"))
        };
        let file = open().map_err(|failure| error::of(Operation::Open, failure))?;
        match file.try_lock() {
            Ok(()) => Ok(FolderLock { _file: file }),
            Err(TryLockError::WouldBlock) => {
                let message = format!("{} is already in use by another process", path.display());
                Err(error::io_error(Operation::Open, message))
            }
            Err(TryLockError::Error(failure)) => Err(error::of(Operation::Open, failure)),
        }
    }
}

/// Refuses a folder whose `CURRENT` is missing while data is there: RocksDB would begin a new, empty database over it.
pub(crate) fn check_current(path: &Path) -> Result<()> {
    let find = || -> io::Result<Option<String>> {
        if path.join("CURRENT").exists() {
            return Ok(None);
        }
        for file in fs::read_dir(path)? {
            let file = file?;
            let name = file.file_name().to_string_lossy().into_owned();
            // An empty log file may remain of a first start that was cut short.
            if name.ends_with(".sst") || (name.ends_with(".log") && file.metadata()?.len() > 0) {
                return Ok(Some(name));
            }
        }
        Ok(None)
    };
    match find().map_err(|failure| error::of(Operation::Open, failure))? {
        None => Ok(()),
        Some(name) => {
            let message = format!("{} has {name} and lacks the file CURRENT", path.display());
            Err(error::corruption(Operation::Open, message))
        }
    }
}

/// Bytes that the files of a folder take, those of its own folders included. What vanishes meanwhile is not counted.
pub(crate) fn disk_bytes(path: &Path) -> u64 {
    let Ok(files) = fs::read_dir(path) else { return 0 };
    let sizes = files.flatten().map(|file| match file.metadata() {
        Ok(metadata) if metadata.is_dir() => disk_bytes(&file.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

/// Bytes free for us on the device of a folder. Where the system does not say it means nothing.
pub(crate) fn free_bytes(path: &Path) -> u64 {
    rustix::fs::statvfs(path).map_or(u64::MAX, |stat| stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Makes the names in a folder durable.
pub(crate) fn sync_names(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// The name without this ending, if it has it.
pub(crate) fn strip_ending(name: &OsStr, ending: &str) -> Option<String> {
    name.to_str()?.strip_suffix(ending).map(str::to_owned)
}
