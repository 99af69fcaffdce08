//! Disks that lose power, and whose fsync fails or hangs: the preload library of `tests/power`, compiled for the run.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

/// A command may take this long to be in force.
const PATIENCE: Duration = Duration::from_secs(60);

/// What fsync does from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fsync {
    /// It succeeds and makes nothing durable: the switch under which a test of durability must fail.
    Lies,
    /// It fails.
    Fails,
    /// It does not return.
    Hangs,
    /// It goes on where it hung.
    GoesOn,
}

impl Fsync {
    fn command(self) -> u8 {
        match self {
            Fsync::Lies => b'i',
            Fsync::Fails => b'e',
            Fsync::Hangs => b'h',
            Fsync::GoesOn => b'g',
        }
    }
}

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
        compile("power.c", &library, &["-shared", "-fPIC", "-ldl", "-lpthread"])?;
        Ok(PowerSupply { library, directory })
    }

    /// Puts a store's disk on this supply.
    pub(crate) fn plug_in(&self, command: &mut Command, data_dir: &Path) -> Result<()> {
        let control = self.control(data_dir)?;
        if !control.exists() {
            let status = Command::new("mkfifo").arg(&control).status()?;
            ensure!(status.success(), "mkfifo failed");
        }
        command.env("LD_PRELOAD", &self.library).env("POWER_DIR", data_dir).env("POWER_CONTROL", control);
        Ok(())
    }

    /// The running store with this data directory loses power.
    pub(crate) fn cut(&self, data_dir: &Path) -> Result<()> {
        self.command(data_dir, b'x')
    }

    /// Changes what fsync does in the running store with this data directory. It is so when this returns.
    pub(crate) async fn set_fsync(&self, data_dir: &Path, fsync: Fsync) -> Result<()> {
        let taken = self.control(data_dir)?.with_extension("taken");
        let count = || fs::read(&taken).map_or(0, |taken| taken.len());
        let before = count();
        self.command(data_dir, fsync.command())?;
        crate::eventually("the disk to obey", PATIENCE, async || {
            ensure!(count() > before, "{fsync:?} is not in force");
            Ok(())
        })
        .await
    }

    fn command(&self, data_dir: &Path, command: u8) -> Result<()> {
        let mut control = OpenOptions::new().write(true).open(self.control(data_dir)?)?;
        control.write_all(&[command]).context("tell the disk")
    }

    fn control(&self, data_dir: &Path) -> Result<PathBuf> {
        let name = data_dir.file_name().context("a data directory has a name")?;
        Ok(self.directory.path().join(name))
    }
}

/// Compiles a source of `tests/power`.
fn compile(source: &str, output: &Path, options: &[&str]) -> Result<()> {
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("power").join(source);
    let status = Command::new(&compiler)
        .args(["-O2", "-o"])
        .arg(output)
        .arg(&source)
        .args(options)
        .status()
        .with_context(|| format!("run the C compiler {compiler}"))?;
    ensure!(status.success(), "{} does not compile", source.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUNDS: usize = 20;
    const FILES: usize = 64;

    /// Between the restoring of the first file and the process's end there is a while: what is written then is lost too.
    #[test]
    fn nothing_is_written_behind_a_loss_of_power() -> Result<()> {
        let power = PowerSupply::build()?;
        let writer = power.directory.path().join("writer");
        compile("writer.c", &writer, &[])?;
        for _ in 0..ROUNDS {
            let disk = TempDir::new()?;
            let files: Vec<PathBuf> = (0..FILES).map(|at| disk.path().join(at.to_string())).collect();
            files.iter().try_for_each(|file| fs::write(file, "synced"))?;
            let mut command = Command::new(&writer);
            power.plug_in(command.args(&files), disk.path())?;
            let mut process = command.spawn()?;
            let is_written = || fs::metadata(&files[FILES - 1]).is_ok_and(|file| file.len() > 6);
            while !is_written() {
                ensure!(process.try_wait()?.is_none(), "the writer ended by itself");
                std::thread::yield_now();
            }
            power.cut(disk.path())?;
            assert_eq!(process.wait()?.code(), Some(99));
            for file in &files {
                assert_eq!(fs::read_to_string(file)?, "synced");
            }
        }
        Ok(())
    }
}
