//! What happened, line by line: hashed always, kept where someone wants to read it.

use std::fmt::{Arguments, Write};

use xxhash_rust::xxh3::Xxh3;

use super::Moment;

/// The trace of a run. Two runs of one seed have the same lines.
pub struct Trace {
    hasher: Xxh3,
    line: String,
    line_count: u64,
    kept: Option<String>,
}

impl Trace {
    /// An empty trace; with `is_kept` its lines can be read afterwards.
    #[must_use]
    pub fn new(is_kept: bool) -> Trace {
        Trace { hasher: Xxh3::new(), line: String::new(), line_count: 0, kept: is_kept.then(String::new) }
    }

    /// Adds a line.
    pub fn line(&mut self, now: Moment, what: Arguments<'_>) {
        self.line.clear();
        writeln!(self.line, "{now} {what}").expect("writing to a string does not fail");
        self.hasher.update(self.line.as_bytes());
        self.line_count += 1;
        if let Some(kept) = &mut self.kept {
            kept.push_str(&self.line);
        }
    }

    /// The hash of all lines.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.hasher.digest()
    }

    /// How many lines there are.
    #[must_use]
    pub fn line_count(&self) -> u64 {
        self.line_count
    }

    /// The lines, if they were kept.
    #[must_use]
    pub fn into_text(self) -> Option<String> {
        self.kept
    }
}
