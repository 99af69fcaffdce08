//! Why a key's history is wrong, in a form that a person can follow.

use std::fmt;

use super::{
    Operation, Outcome, Record,
    search::{Register, Step, Stuck},
};

/// Operations that are listed of each kind; the rest is only counted.
const LISTED_COUNT_MAX: usize = 8;

/// Why no order of a key's operations explains their answers: where the longest attempt at one ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The key.
    pub key: Vec<u8>,
    /// The operations that fit behind each other, in that order.
    pub placed: Vec<Record>,
    /// The value that they leave.
    pub value: Option<Vec<u8>>,
    /// The operations of which one had to be next, because they were called before any other was answered. Each of them
    /// finds something else, or writes while `later_readers` still have to find the value.
    pub open: Vec<Record>,
    /// Operations behind those that find the value that the placed ones leave.
    pub later_readers: Vec<Record>,
    /// How many operations there are in all.
    pub total_count: usize,
}

impl Explanation {
    pub(super) fn new(key: &[u8], register: &Register<'_>, stuck: &Stuck) -> Explanation {
        let steps = register.steps();
        let mut is_placed = vec![false; steps.len()];
        stuck.taken.iter().for_each(|step| is_placed[*step] = true);
        let left: Vec<usize> = (0..steps.len()).filter(|step| !is_placed[*step]).collect();
        let first_return =
            left.iter().filter_map(|step| return_place(&steps[*step])).min().unwrap_or(u64::MAX);
        let (open, later): (Vec<usize>, Vec<usize>) =
            left.into_iter().partition(|step| steps[*step].record.call_place < first_return);
        let records = |places: &[usize]| places.iter().map(|step| steps[*step].record.clone()).collect();
        let later_readers: Vec<usize> =
            later.into_iter().filter(|step| register.finds_value_after(*step, &stuck.taken)).collect();
        Explanation {
            key: key.to_vec(),
            placed: records(&stuck.taken),
            value: register.value_after(&stuck.taken).map(<[u8]>::to_vec),
            open: records(&open),
            later_readers: records(&later_readers),
            total_count: steps.len(),
        }
    }
}

fn return_place(step: &Step<'_>) -> Option<u64> {
    step.record.return_place.filter(|_| step.record.outcome != Outcome::Undetermined)
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Explanation { key, placed, value, open, later_readers, total_count } = self;
        writeln!(
            f,
            "key \"{}\" is not linearizable: {} of {total_count} operations fit behind each other, and none can follow",
            key.escape_ascii(),
            placed.len()
        )?;
        writeln!(f, "  the last that fit:")?;
        let skipped_count = placed.len().saturating_sub(LISTED_COUNT_MAX);
        if skipped_count > 0 {
            writeln!(f, "    ({skipped_count} before)")?;
        }
        placed[skipped_count..].iter().try_for_each(|record| writeln!(f, "    {record}"))?;
        writeln!(f, "  they leave {}; one of these had to be next:", Shown(value.as_deref()))?;
        write_first(f, open)?;
        if !later_readers.is_empty() {
            writeln!(f, "  these were called later and still find {}:", Shown(value.as_deref()))?;
            write_first(f, later_readers)?;
        }
        Ok(())
    }
}

fn write_first(f: &mut fmt::Formatter<'_>, records: &[Record]) -> fmt::Result {
    records.iter().take(LISTED_COUNT_MAX).try_for_each(|record| writeln!(f, "    {record}"))?;
    match records.len().saturating_sub(LISTED_COUNT_MAX) {
        0 => Ok(()),
        skipped_count => writeln!(f, "    ({skipped_count} more)"),
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} .. ", self.called_at)?;
        match self.returned_at {
            Some(returned_at) => write!(f, "{returned_at}")?,
            None => write!(f, "no answer")?,
        }
        write!(f, "  client {}: {} -> {}", self.client.0, self.operation, self.outcome)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Operation::Get => write!(f, "get"),
            Operation::Put { value } => write!(f, "put {}", Shown(Some(value))),
            Operation::Delete => write!(f, "delete"),
            Operation::CompareAndSwap { expected, replacement } => {
                write!(f, "swap {} for {}", Shown(expected.as_deref()), Shown(replacement.as_deref()))
            }
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Done => write!(f, "done"),
            Outcome::Value(value) => write!(f, "{}", Shown(value.as_deref())),
            Outcome::Swapped { is_swapped: true, previous } => {
                write!(f, "swapped, was {}", Shown(previous.as_deref()))
            }
            Outcome::Swapped { is_swapped: false, previous } => {
                write!(f, "kept, was {}", Shown(previous.as_deref()))
            }
            Outcome::Failed => write!(f, "failed"),
            Outcome::Undetermined => write!(f, "undetermined"),
        }
    }
}

/// A value for readers: long ones are cut.
struct Shown<'a>(Option<&'a [u8]>);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const BYTES_MAX: usize = 32;
        match self.0 {
            None => write!(f, "nothing"),
            Some(value) if value.len() <= BYTES_MAX => write!(f, "\"{}\"", value.escape_ascii()),
            Some(value) => write!(f, "\"{}…\" ({} bytes)", value[..BYTES_MAX].escape_ascii(), value.len()),
        }
    }
}
