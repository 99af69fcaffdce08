//! Staged snapshot files: written aside, ingested when they are whole.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use engine::{Error, Operation, Result, StagedFile};
use rocksdb::SstFileWriter;
use self_cell::self_cell;

use crate::{
    error::{self, Failure, Health},
    folder,
};

const SYNCED: &str = ".sst";
const UNFINISHED: &str = ".part";

/// The folder of staged files.
pub(crate) struct Staging {
    path: PathBuf,
    options: Arc<rocksdb::Options>,
    health: Arc<Health>,
    writing: BTreeMap<String, Writing>,
}

/// A file that is being written.
struct Writing {
    writer: OwnedWriter,
    last_key: Option<Bytes>,
}

self_cell! {
    /// A writer together with the options that it was made with.
    struct OwnedWriter {
        owner: Arc<rocksdb::Options>,
        #[covariant]
        dependent: SstFileWriter,
    }
}

impl Staging {
    /// The folder `staged` in `path`, without what an earlier process left unfinished.
    pub(crate) fn open(path: &Path, options: rocksdb::Options, health: Arc<Health>) -> Result<Staging> {
        let options = Arc::new(options);
        let staging = Staging { path: path.join("staged"), options, health, writing: BTreeMap::new() };
        let open = || {
            fs::create_dir_all(&staging.path)?;
            for file in fs::read_dir(&staging.path)? {
                let file = file?;
                if folder::strip_ending(&file.file_name(), UNFINISHED).is_some() {
                    fs::remove_file(file.path())?;
                }
            }
            folder::sync_names(path)
        };
        open().map_err(|failure| error::of(Operation::Open, failure))?;
        Ok(staging)
    }

    pub(crate) fn create(&mut self, name: &str) -> Result<()> {
        StagedFile::check_name(name)?;
        self.delete(name)?;
        let path = self.path_of(name, UNFINISHED);
        let options = Arc::clone(&self.options);
        let writer = OwnedWriter::try_new(options, |options| {
            let writer = SstFileWriter::create(options);
            writer.open(&path)?;
            Ok(writer)
        });
        let writer = writer.map_err(|failure: rocksdb::Error| self.failed(failure))?;
        self.writing.insert(name.to_owned(), Writing { writer, last_key: None });
        Ok(())
    }

    pub(crate) fn append(&mut self, name: &str, pairs: &[(Bytes, Bytes)]) -> Result<()> {
        StagedFile::check_name(name)?;
        let Some(writing) = self.writing.get_mut(name) else { return Err(self.not_writing(name)) };
        let mut last_key = writing.last_key.as_ref();
        for (key, _) in pairs {
            if last_key.is_some_and(|last_key| last_key >= key) {
                return Err(refused(format!("keys for staged file {name} are not ascending")));
            }
            last_key = Some(key);
        }
        writing.last_key = last_key.cloned();
        let put =
            |writer: &mut SstFileWriter<'_>| pairs.iter().try_for_each(|(key, value)| writer.put(key, value));
        let result = writing.writer.with_dependent_mut(|_, writer| put(writer));
        result.or_else(|failure| self.abandon(name, failure))
    }

    pub(crate) fn sync(&mut self, name: &str) -> Result<()> {
        StagedFile::check_name(name)?;
        let Some(mut writing) = self.writing.remove(name) else {
            return if self.path_of(name, SYNCED).exists() { Ok(()) } else { Err(self.not_writing(name)) };
        };
        self.finish(name, &mut writing).or_else(|failure| self.abandon(name, failure))
    }

    pub(crate) fn list(&self) -> Result<Vec<StagedFile>> {
        let mut files = BTreeMap::new();
        let synced = || -> io::Result<Vec<(String, u64)>> {
            let mut synced = Vec::new();
            for file in fs::read_dir(&self.path)? {
                let file = file?;
                if let Some(name) = folder::strip_ending(&file.file_name(), SYNCED) {
                    synced.push((name, file.metadata()?.len()));
                }
            }
            Ok(synced)
        };
        files.extend(synced().map_err(|failure| self.failed(failure))?);
        let size = |writing: &Writing| writing.writer.borrow_dependent().file_size();
        files.extend(self.writing.iter().map(|(name, writing)| (name.clone(), size(writing))));
        Ok(files.into_iter().map(|(name, size_bytes)| StagedFile { name, size_bytes }).collect())
    }

    pub(crate) fn delete(&mut self, name: &str) -> Result<()> {
        StagedFile::check_name(name)?;
        if self.writing.remove(name).is_some() {
            remove(&self.path_of(name, UNFINISHED)).map_err(|failure| self.failed(failure))?;
        }
        let delete = || -> io::Result<()> {
            // The caller may rely on the file being gone for good, so its name must not come back after a power loss.
            if remove(&self.path_of(name, SYNCED))? { folder::sync_names(&self.path) } else { Ok(()) }
        };
        delete().map_err(|failure| self.failed(failure))
    }

    /// Paths of synced files, without those that have no pairs.
    pub(crate) fn paths_of(&self, names: &[String]) -> Result<Vec<PathBuf>> {
        let mut paths = Vec::with_capacity(names.len());
        for name in names {
            StagedFile::check_name(name)?;
            let path = self.path_of(name, SYNCED);
            match fs::metadata(&path) {
                Ok(metadata) if metadata.len() == 0 => {}
                Ok(_) => paths.push(path),
                Err(failure) if failure.kind() == io::ErrorKind::NotFound => {
                    return Err(error::io_error(Operation::Ingest, format!("no synced staged file {name}")));
                }
                Err(failure) => return Err(error::of(Operation::Ingest, failure)),
            }
        }
        Ok(paths)
    }

    /// Makes a file whole and durable under its name.
    fn finish(&self, name: &str, writing: &mut Writing) -> std::result::Result<(), Failure> {
        let (unfinished, synced) = (self.path_of(name, UNFINISHED), self.path_of(name, SYNCED));
        if writing.last_key.is_some() {
            writing.writer.with_dependent_mut(|_, writer| writer.finish())?;
            File::open(&unfinished)?.sync_all()?;
        } else {
            // RocksDB has no files without pairs.
            File::create(&unfinished)?.sync_all()?;
        }
        fs::rename(unfinished, synced)?;
        folder::sync_names(&self.path)?;
        Ok(())
    }

    /// Gives up a file that could not be written; a full disk gets its bytes back.
    fn abandon<T>(&mut self, name: &str, failure: impl Into<Failure>) -> Result<T> {
        self.writing.remove(name);
        let error = self.failed(failure);
        // The failure that led here says more than one of the removal, and the next start removes the file too.
        remove(&self.path_of(name, UNFINISHED)).ok();
        Err(error)
    }

    fn failed(&self, failure: impl Into<Failure>) -> Error {
        self.health.side_step(Operation::Stage, failure)
    }

    fn not_writing(&self, name: &str) -> Error {
        if self.path_of(name, SYNCED).exists() {
            refused(format!("staged file {name} is finished"))
        } else {
            refused(format!("no staged file {name}"))
        }
    }

    fn path_of(&self, name: &str, ending: &str) -> PathBuf {
        self.path.join(format!("{name}{ending}"))
    }
}

/// Removes a file; tells whether it was there.
fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(failure) if failure.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(failure) => Err(failure),
    }
}

fn refused(message: String) -> Error {
    error::io_error(Operation::Stage, message)
}
