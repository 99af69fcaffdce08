//! Disks that lose power: the preload library of `tests/power`, compiled for the run.

use std::{
    fs::OpenOptions,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

/// Makes stores' disks lose what was not fsynced.
pub struct PowerSupply {
    library: PathBuf,
    directory: TempDir,
}

impl PowerSupply {
    /// Compiles the library.
    pub fn build() -> Result<PowerSupply> {
        let directory = TempDir::new()?;
        let library = directory.path().join("power.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("power/power.c");
        let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
        let status = Command::new(&compiler)
            .args(["-O2", "-shared", "-fPIC", "-o"])
            .arg(&library)
            .arg(source)
            .args(["-ldl", "-lpthread"])
            .status()
            .with_context(|| format!("run the C compiler {compiler}"))?;
        ensure!(status.success(), "the preload library does not compile");
        Ok(PowerSupply { library, directory })
    }

    /// Puts a store's disk on this supply.
    pub(crate) fn plug_in(
        &self,
        command: &mut Command,
        data_dir: &Path,
        is_fsync_ignored: bool,
    ) -> Result<()> {
        let control = self.control(data_dir)?;
        if !control.exists() {
            let status = Command::new("mkfifo").arg(&control).status()?;
            ensure!(status.success(), "mkfifo failed");
        }
        command.env("LD_PRELOAD", &self.library).env("POWER_DIR", data_dir).env("POWER_CONTROL", control);
        if is_fsync_ignored {
            command.env("POWER_IGNORE_FSYNC", "1");
        }
        Ok(())
    }

    /// The store with this data directory loses power.
    pub(crate) fn cut(&self, data_dir: &Path) -> Result<()> {
        OpenOptions::new().write(true).open(self.control(data_dir)?)?.write_all(b"x").context("cut the power")
    }

    fn control(&self, data_dir: &Path) -> Result<PathBuf> {
        let name = data_dir.file_name().context("a data directory has a name")?;
        Ok(self.directory.path().join(name))
    }
}
