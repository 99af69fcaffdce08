//! The data directory: whose it is, which format it has, and that one process has it.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use crate::failure::{Code, Failure, Result};

/// Says that a directory is ours, and its format.
const MARKER: &str = "SHEAF";
/// The marker while it is being written.
const MARKER_DRAFT: &str = "SHEAF.draft";

/// The format of everything in the directory.
const FORMAT: u32 = 1;

/// Locked while a process has the directory.
const LOCK: &str = "LOCK";

/// A data directory that this process has.
pub(crate) struct DataDir {
    path: PathBuf,
    /// The lock is released when this is dropped, and by the operating system when the process dies.
    _lock: File,
}

impl DataDir {
    /// Takes the directory `path`; creates it if it is not there, or empty.
    pub(crate) fn open(path: &Path) -> Result<DataDir> {
        let failed = |error: &io::Error| {
            Failure::new(Code::Failed, format!("open data directory {}", path.display())).because(error)
        };
        fs::create_dir_all(path).map_err(|error| failed(&error))?;
        // Looked at before the lock file appears: that alone would make any directory look used.
        let is_new = is_unused(path).map_err(|error| failed(&error))?;
        let marker = path.join(MARKER);
        if !is_new && !marker.exists() {
            return Err(Failure::new(
                Code::Refused,
                format!("{} is not empty and not a data directory of sheaf", path.display()),
            )
            .hint("name an empty directory with --data-dir, or one that sheaf has made"));
        }
        let lock = File::create(path.join(LOCK)).map_err(|error| failed(&error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Failure::new(
                    Code::Refused,
                    format!("another process uses data directory {}", path.display()),
                )
                .hint("stop it first, or give each store a directory of its own with --data-dir"));
            }
            Err(TryLockError::Error(error)) => return Err(failed(&error)),
        }
        if is_new {
            write_marker(path, &marker).map_err(|error| failed(&error))?;
        }
        check_marker(path, &marker)?;
        Ok(DataDir { path: path.to_owned(), _lock: lock })
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    pub(crate) fn kv(&self) -> PathBuf {
        self.path.join("kv")
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Whether nothing is in it, or only what the start of a new store leaves that was interrupted.
fn is_unused(path: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        if name != LOCK && name != MARKER_DRAFT {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Under its name the marker is always whole: a power loss in between leaves the draft, which is written anew.
fn write_marker(path: &Path, marker: &Path) -> io::Result<()> {
    let draft = path.join(MARKER_DRAFT);
    fs::write(&draft, format!("sheaf data directory, format {FORMAT}\n"))?;
    File::open(&draft)?.sync_all()?;
    fs::rename(&draft, marker)?;
    File::open(path)?.sync_all()
}

fn check_marker(path: &Path, marker: &Path) -> Result<()> {
    let text = fs::read_to_string(marker)
        .map_err(|error| Failure::new(Code::Failed, format!("read {}", marker.display())).because(&error))?;
    let format = text.trim().strip_prefix("sheaf data directory, format ").map(str::parse::<u32>);
    match format {
        Some(Ok(FORMAT)) => Ok(()),
        Some(Ok(other)) => Err(Failure::new(
            Code::Refused,
            format!(
                "data directory {} has format {other}, and this binary knows format {FORMAT}",
                path.display()
            ),
        )
        .hint("use the version of sheaf that wrote it, or a newer one")),
        Some(Err(_)) | None => Err(Failure::new(
            Code::Refused,
            format!("{} does not say which format data directory {} has", marker.display(), path.display()),
        )
        .hint("name a directory that sheaf has made, or an empty one, with --data-dir")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure_of(path: &Path) -> String {
        DataDir::open(path).err().expect("it is refused").to_string()
    }

    #[test]
    fn a_directory_has_one_owner_at_a_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("data");
        let first = DataDir::open(&path).expect("it is free");
        assert!(failure_of(&path).contains("another process uses"));
        drop(first);
        DataDir::open(&path).expect("it is free again");
    }

    #[test]
    fn foreign_and_newer_directories_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("letters.txt"), "dear").expect("a file");
        assert!(failure_of(folder.path()).contains("not a data directory of sheaf"));
        assert!(!folder.path().join(LOCK).exists(), "nothing is left in a foreign directory");

        let newer = tempfile::tempdir().expect("a folder");
        fs::write(newer.path().join(MARKER), "sheaf data directory, format 99\n").expect("a file");
        assert!(failure_of(newer.path()).contains("has format 99"));

        let damaged = tempfile::tempdir().expect("a folder");
        fs::write(damaged.path().join(MARKER), "\0\0\0").expect("a file");
        assert!(failure_of(damaged.path()).contains("does not say which format"));
    }
}
