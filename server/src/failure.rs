//! How the program says that it could not do what it was asked: what, why, and what to do about it.

use std::{error::Error, fmt};

/// Ends the program, or one of its verbs.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
    code: Code,
}

/// What the exit code says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// It failed.
    Failed,
    /// The command line or the configuration is wrong.
    Usage,
    /// No endpoint can be reached.
    Unreachable,
    /// It is refused as things are.
    Refused,
}

pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Failure {
        Failure { message: message.into(), causes: Vec::new(), hint: None, code }
    }

    /// Why: the error and what caused it.
    pub(crate) fn because(mut self, error: &(dyn Error + 'static)) -> Failure {
        let mut next = Some(error);
        while let Some(error) = next {
            let text = error.to_string();
            // Some errors repeat their source in their own text.
            if self.causes.last().is_none_or(|last| !last.contains(&text)) {
                self.causes.push(text);
            }
            next = error.source();
        }
        self
    }

    /// What to do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn exit_code(&self) -> u8 {
        match self.code {
            Code::Failed => 1,
            Code::Usage => 2,
            Code::Unreachable => 3,
            Code::Refused => 5,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        for cause in &self.causes {
            write!(f, "\ncause: {cause}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Failure {
        let mut causes = error.chain().map(ToString::to_string);
        let message = causes.next().unwrap_or_default();
        Failure { message, causes: causes.collect(), hint: None, code: Code::Failed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_why_and_what_to_do() {
        let cause = std::io::Error::other("the moon is full");
        let failure = Failure::new(Code::Refused, "howl").because(&cause).hint("wait a day");
        assert_eq!(failure.to_string(), "error: howl\ncause: the moon is full\nhint: wait a day");
    }
}
