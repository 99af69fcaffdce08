//! Runs of `sheaf` that end by themselves.

use std::{process::Stdio, time::Duration};

use anyhow::{Context, Result};
use tokio::{process::Command, time::timeout};

/// A run may take this long; a machine that is busy with other tests needs a small part of it.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a run of `sheaf` ended.
#[derive(Debug)]
pub struct Verb {
    /// Its exit code.
    pub code: Option<i32>,
    /// What it printed to standard output.
    pub output: String,
    /// What it printed to standard error.
    pub error: String,
}

impl Verb {
    /// Runs `sheaf` with these arguments to its end. One that does not end is killed, and is an error.
    pub async fn run(arguments: &[&str]) -> Result<Verb> {
        let mut command = Command::new(crate::binary()?);
        command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
        let output = timeout(PATIENCE, command.output())
            .await
            .with_context(|| format!("sheaf {arguments:?} did not end within {PATIENCE:?}"))??;
        Ok(Verb {
            code: output.status.code(),
            output: String::from_utf8(output.stdout)?,
            error: String::from_utf8(output.stderr)?,
        })
    }
}
