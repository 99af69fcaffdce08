//! The demo's directory. It is removed at the end; if the demo is killed before, by the next one.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

/// Names of such directories begin with this.
const PREFIX: &str = "sheaf-demo-";

/// Locked by the demo for as long as it lives.
const LOCK: &str = "demo.lock";
/// The lock's name before it is locked.
const LOCK_DRAFT: &str = "demo.lock.draft";

/// A directory of this process.
pub(super) struct Folder {
    folder: TempDir,
    _lock: File,
}

impl Folder {
    /// Makes a directory, and removes those of demos that were killed.
    pub(super) fn create() -> io::Result<Folder> {
        sweep(&std::env::temp_dir());
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir()?;
        // Under its name the lock is always taken while its owner lives: another demo that finds it free may remove all.
        let draft = folder.path().join(LOCK_DRAFT);
        let lock = File::create(&draft)?;
        lock.try_lock().map_err(io::Error::from)?;
        fs::rename(&draft, folder.path().join(LOCK))?;
        Ok(Folder { folder, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn remove(self) -> io::Result<()> {
        self.folder.close()
    }
}

/// Removes what demos of this user have left that were killed. What cannot be removed stays: the demo works beside it.
fn sweep(temp_dir: &Path) {
    let Ok(entries) = fs::read_dir(temp_dir) else { return };
    let own_user = rustix::process::getuid().as_raw();
    for entry in entries.flatten() {
        let is_demo = entry.file_name().to_string_lossy().starts_with(PREFIX);
        // Not through a link: it could lead anywhere.
        let is_own = entry.metadata().is_ok_and(|found| found.is_dir() && found.uid() == own_user);
        if is_demo && is_own && is_left(&entry.path()) && fs::remove_dir_all(entry.path()).is_err() {
            tracing::debug!(path = %entry.path().display(), "a directory of an earlier demo stays");
        }
    }
}

/// Whether the demo that made a directory has ended.
fn is_left(folder: &Path) -> bool {
    let lock: PathBuf = folder.join(LOCK);
    File::options().write(true).open(lock).is_ok_and(|lock| lock.try_lock().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_dead_demo_has_left_is_removed() {
        let temp_dir = tempfile::tempdir().expect("a folder");
        let make = |name: &str| {
            let folder = temp_dir.path().join(name);
            fs::create_dir(&folder).expect("a folder");
            File::create(folder.join(LOCK)).expect("a lock")
        };
        let living = make("sheaf-demo-living");
        living.lock().expect("it is free");
        drop(make("sheaf-demo-dead"));
        drop(make("another"));
        fs::create_dir(temp_dir.path().join("sheaf-demo-beginning")).expect("a folder");

        sweep(temp_dir.path());
        let mut left: Vec<_> = fs::read_dir(temp_dir.path())
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
            .collect();
        left.sort();
        assert_eq!(left, ["another", "sheaf-demo-beginning", "sheaf-demo-living"]);
    }
}
