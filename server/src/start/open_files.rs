//! How many files the process may open. A store that found out under load would stop in the middle of its work.

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::{
    config::EngineSettings,
    failure::{Code, Failure, Result},
};

/// Files that each engine opens beside those that `open_files_max` counts: its log, manifest, lock, and what flushes and
/// compactions write.
const PER_ENGINE: u64 = 32;

/// Connections of other stores and of clients, and what the process itself has open.
const CONNECTIONS_MIN: u64 = 128;

/// Takes as many open files as the system gives, and refuses to start with too few.
pub(super) fn check(engines: &EngineSettings) -> Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let most = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
        match setrlimit(Resource::Nofile, most) {
            Ok(()) => limit = most,
            Err(error) => tracing::debug!(%error, "the limit of open files stays as it is"),
        }
    }
    let needed = needed(engines);
    match limit.current {
        Some(allowed) if allowed < needed => Err(Failure::new(
            Code::Refused,
            format!("a store needs {needed} open files, and this process is allowed {allowed} open files"),
        )
        .hint(format!(
            "raise the limit (`ulimit -n {needed}` or more, LimitNOFILE= of a systemd unit), or lower open_files_max"
        ))),
        Some(_) | None => Ok(()),
    }
}

fn needed(engines: &EngineSettings) -> u64 {
    2 * (u64::from(engines.open_files_max) + PER_ENGINE) + CONNECTIONS_MIN
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    #[test]
    fn the_usual_limit_is_enough_for_the_defaults() {
        assert!(needed(&Settings::default().engines) <= 1_024);
    }
}
