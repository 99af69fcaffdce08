//! What one store is told: from its command line, its environment, its file, and defaults, in this order. The settings
//! of the cluster live in the cluster and are refused here (D14).

mod keys;
mod value;

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use keys::KEYS;
use telemetry::LogFormat;
pub(crate) use value::duration;

use crate::failure::{Code, Failure, Result};

/// Everything that a store is told at its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) addr: String,
    pub(crate) advertise_addr: Option<String>,
    pub(crate) join: Vec<String>,
    pub(crate) is_single: bool,
    pub(crate) is_insecure: bool,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) log_format: LogFormat,
    pub(crate) log_filter: String,
    pub(crate) runtime_thread_count: usize,
    pub(crate) drain_timeout: Duration,
    pub(crate) store: store::Config,
    pub(crate) engines: EngineSettings,
}

/// How the two engines are opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EngineSettings {
    pub(crate) block_cache_bytes: usize,
    pub(crate) log_memtable_bytes: usize,
    pub(crate) kv_memtable_bytes: usize,
    pub(crate) open_files_max: u16,
}

/// Where a value comes from, for messages and for `/config`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Flag,
    Environment,
    File(PathBuf),
}

/// Values as they were given, by key, with their origin; the strongest one wins.
pub(crate) type Given = BTreeMap<&'static str, (String, Origin)>;

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            data_dir: None,
            addr: "127.0.0.1:20160".to_owned(),
            advertise_addr: None,
            join: Vec::new(),
            is_single: false,
            is_insecure: false,
            labels: Vec::new(),
            log_format: LogFormat::Text,
            log_filter: "info".to_owned(),
            runtime_thread_count: 2,
            drain_timeout: Duration::from_secs(10),
            store: store::Config::default(),
            engines: EngineSettings {
                block_cache_bytes: 256 << 20,
                log_memtable_bytes: 64 << 20,
                kv_memtable_bytes: 64 << 20,
                open_files_max: 100,
            },
        }
    }
}

impl Settings {
    /// Puts together what was given: `flags` of the command line, the environment, the file.
    pub(crate) fn load(flags: Vec<(String, String)>, file: Option<&Path>) -> Result<Settings> {
        let mut given = Given::new();
        if let Some(path) = file {
            for (name, value) in read_file(path)? {
                let key = find_key(&name).map_err(|failure| at_file(failure, path))?;
                given.insert(key, (value, Origin::File(path.to_owned())));
            }
        }
        for key in KEYS {
            if let Ok(value) = env::var(key.environment()) {
                given.insert(key.name, (value, Origin::Environment));
            }
        }
        for (name, value) in flags {
            given.insert(find_key(&name)?, (value, Origin::Flag));
        }
        Settings::from_given(&given)
    }

    fn from_given(given: &Given) -> Result<Settings> {
        let mut settings = Settings::default();
        for key in KEYS {
            let Some((text, origin)) = given.get(key.name) else { continue };
            (key.set)(&mut settings, text).map_err(|reason| {
                Failure::new(Code::Usage, format!("{} = {text:?} {}: {reason}", key.name, name_of(origin)))
                    .hint(format!(
                        "{}: {} It is {}; its default is {}",
                        key.name, key.doc, key.range, key.default
                    ))
            })?;
        }
        settings.check()?;
        Ok(settings)
    }

    /// Rules between keys.
    fn check(&self) -> Result<()> {
        let refuse = |text: &str, hint: &str| Err(Failure::new(Code::Usage, text).hint(hint));
        if self.store.heartbeat_interval * 3 > self.store.election_timeout {
            return refuse(
                "heartbeat_interval is more than a third of election_timeout",
                "a leader must be able to miss a heartbeat without losing its followers",
            );
        }
        if self.is_single && !self.join.is_empty() {
            return refuse(
                "both `single` and `join` are given",
                "a store is alone (--single) or one of several (--join)",
            );
        }
        Ok(())
    }
}

/// The key of this name; an error names the nearest one.
fn find_key(name: &str) -> Result<&'static str> {
    if let Some(key) = KEYS.iter().find(|key| key.name == name) {
        return Ok(key.name);
    }
    if let Some((_, hint)) = keys::CLUSTER_SETTINGS.iter().find(|(cluster, _)| *cluster == name) {
        return Err(Failure::new(Code::Usage, format!("{name} is a setting of the cluster, not of a store"))
            .hint(*hint));
    }
    let nearest = KEYS.iter().map(|key| (value::distance(name, key.name), key.name)).min();
    let failure = Failure::new(Code::Usage, format!("there is no setting {name}"));
    Err(match nearest {
        Some((distance, nearest)) if distance <= 1 + name.len() / 3 => {
            failure.hint(format!("did you mean {nearest}?"))
        }
        Some(_) | None => failure.hint("docs/configuration.md has every setting"),
    })
}

fn read_file(path: &Path) -> Result<Vec<(String, String)>> {
    let failed = |error: &(dyn std::error::Error + 'static)| {
        Failure::new(Code::Usage, format!("read configuration {}", path.display())).because(error)
    };
    let text = fs::read_to_string(path).map_err(|error| failed(&error))?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| failed(&error))?;
    table
        .into_iter()
        .map(|(name, value)| {
            let text = value::text_of(&value).ok_or_else(|| {
                Failure::new(Code::Usage, format!("{name} in {} is not one value", path.display()))
                    .hint("a setting is a text, a number, true or false, or a list of texts")
            })?;
            Ok((name, text))
        })
        .collect()
}

fn at_file(failure: Failure, path: &Path) -> Failure {
    let cause = std::io::Error::other(format!("in configuration {}", path.display()));
    failure.because(&cause)
}

fn name_of(origin: &Origin) -> String {
    match origin {
        Origin::Flag => "on the command line".to_owned(),
        Origin::Environment => "in the environment".to_owned(),
        Origin::File(path) => format!("in {}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    fn given(values: &[(&'static str, &str)]) -> Given {
        values.iter().map(|(key, value)| (*key, ((*value).to_owned(), Origin::Flag))).collect()
    }

    fn load(text: &str) -> Result<Settings> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("sheaf.toml");
        fs::write(&path, text).expect("a file");
        Settings::load(Vec::new(), Some(&path))
    }

    #[test]
    fn every_default_is_what_its_key_says() {
        let all: Vec<_> =
            KEYS.iter().map(|key| (key.name, key.default)).filter(|(_, text)| *text != "none").collect();
        assert_eq!(Settings::from_given(&given(&all)).expect("defaults are allowed"), Settings::default());
        assert!(KEYS.len() <= 40, "D14: forty keys at the most");
    }

    #[test]
    fn a_flag_is_stronger_than_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("sheaf.toml");
        fs::write(&path, "drain_timeout = \"3s\"\nraft_workers = 2\njoin = [\"a:1\", \"b:2\"]\n")
            .expect("a file");
        let flags = vec![("drain_timeout".to_owned(), "5s".to_owned())];
        let settings = Settings::load(flags, Some(&path)).expect("it is well formed");
        assert_eq!(settings.drain_timeout, Duration::from_secs(5));
        assert_eq!(settings.store.raft_worker_count, 2);
        assert_eq!(settings.join, ["a:1", "b:2"]);
    }

    #[test]
    fn mistakes_are_named() {
        let refused = |text: &str| load(text).expect_err("it is refused").to_string();
        assert!(refused("drian_timeout = \"3s\"").contains("did you mean drain_timeout?"));
        assert!(refused("voter_count = 5").contains("is a setting of the cluster"));
        assert!(refused("drain_timeout = \"3 parsecs\"").contains("drain_timeout"));
        assert!(refused("raft_workers = 0").contains("1 to 64"));
        assert!(refused("raft_workers = { a = 1 }").contains("is not one value"));
        assert!(refused("raft_workers = ").contains("read configuration"));
        assert!(refused("heartbeat_interval = \"500ms\"").contains("more than a third"));
    }

    #[test]
    fn the_documentation_has_every_key() {
        let mut text = String::from(
            "# Configuration\n\n\
             A store takes each setting from its command line (`--set key=value`, or a flag of its own), else from the\n\
             environment (`SHEAF_KEY`), else from the file that `--config` names (TOML, `key = value`), else the default.\n\
             Settings of the cluster do not belong here.\n\n\
             | key | default | allowed | meaning |\n| --- | --- | --- | --- |\n",
        );
        for key in KEYS {
            writeln!(text, "| `{}` | {} | {} | {} |", key.name, key.default, key.range, key.doc)
                .expect("a string takes all");
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
        if env::var_os("REWRITE").is_some() {
            fs::write(&path, &text).expect("docs can be written");
        }
        let found = fs::read_to_string(&path).expect("docs/configuration.md is there");
        assert_eq!(found, text, "run `REWRITE=1 cargo test --release -p server`");
    }
}
