//! What clients asked for and what they were answered.
//!
//! Each key is a register: absent at first, changed by puts, deletes and compare-and-swaps. A history is right if for
//! each key there is one order of its operations in which each takes effect at one moment between its call and its
//! reply, and answers what the register then holds (Herlihy and Wing, 1990). Registers are independent, so keys are
//! checked one by one. An operation of several keys is recorded as one of each key.
//!
//! # Caveats
//!
//! Expiry is not modelled: record values with a time to live under keys of their own, and do not check them here.
//!
//! Give each write a value of its own. It makes more faults visible (a stale value is not mistaken for a new one), and
//! thousands of operations of a key are then decided in milliseconds; many writes of few values may stay undecided.

mod explanation;
mod search;

use std::collections::BTreeMap;

use types::Instant;

use self::search::{Decision, Register};

pub use explanation::Explanation;

/// Who asks; each client has one operation under way at most, or none that it still waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Client(pub u64);

/// An operation that was called, to reply to.
#[derive(Debug)]
pub struct Call(usize);

/// What a client asks of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Reads.
    Get,
    /// Writes.
    Put {
        /// The value.
        value: Vec<u8>,
    },
    /// Removes.
    Delete,
    /// Writes or removes, if the key is as expected.
    CompareAndSwap {
        /// What it must hold; `None`: nothing.
        expected: Option<Vec<u8>>,
        /// What it holds afterwards; `None`: nothing.
        replacement: Option<Vec<u8>>,
    },
}

/// How an operation ended for its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A put or delete has happened.
    Done,
    /// A get found this.
    Value(Option<Vec<u8>>),
    /// A compare-and-swap was decided.
    Swapped {
        /// Whether it wrote.
        is_swapped: bool,
        /// What it found.
        previous: Option<Vec<u8>>,
    },
    /// It has not happened and will not.
    Failed,
    /// It may have happened, may happen later, or never.
    Undetermined,
}

/// One operation of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Who asked.
    pub client: Client,
    /// Of which key.
    pub key: Vec<u8>,
    /// For what.
    pub operation: Operation,
    /// What came of it; `Undetermined` as long as there is no reply.
    pub outcome: Outcome,
    /// When it was called: for display.
    pub called_at: Instant,
    /// When it was answered: for display.
    pub returned_at: Option<Instant>,
    /// The place of its call among all events of the history.
    call_place: u64,
    /// The place of its reply.
    return_place: Option<u64>,
}

/// A recorder of operations.
///
/// The order in which [`History::call`] and [`History::reply`] are called is the order of events that is checked: call the
/// one before the request is sent, the other after its answer has come. Instants are for readers.
#[derive(Debug, Default)]
pub struct History {
    records: Vec<Record>,
    event_count: u64,
}

/// What was checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Keys.
    pub key_count: usize,
    /// Operations that constrain the order: those with a known outcome.
    pub determined_count: usize,
    /// Writes that may have happened.
    pub undetermined_count: usize,
    /// Orders tried, over all keys.
    pub step_count: u64,
}

/// Why a history was not found to be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// No order of a key's operations explains the answers.
    #[error("{0}")]
    NotLinearizable(Box<Explanation>),
    /// The search was given up. The history may be right.
    #[error("key \"{}\": undecided after {step_count} steps", key.escape_ascii())]
    Undecided {
        /// The key.
        key: Vec<u8>,
        /// How far the search went.
        step_count: u64,
    },
}

impl History {
    /// An empty history.
    #[must_use]
    pub fn new() -> History {
        History::default()
    }

    /// Records that a client asks.
    pub fn call(&mut self, client: Client, key: &[u8], operation: Operation, now: Instant) -> Call {
        let call_place = self.next_place();
        self.records.push(Record {
            client,
            key: key.to_vec(),
            operation,
            outcome: Outcome::Undetermined,
            called_at: now,
            returned_at: None,
            call_place,
            return_place: None,
        });
        Call(self.records.len() - 1)
    }

    /// Records what the client is answered.
    pub fn reply(&mut self, call: Call, outcome: Outcome, now: Instant) {
        let place = self.next_place();
        let record = &mut self.records[call.0];
        record.outcome = outcome;
        record.returned_at = Some(now);
        record.return_place = Some(place);
    }

    /// The operations, in the order of their calls.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Whether the answers can be explained. What has no reply yet counts as undetermined.
    pub fn check(&self) -> Result<Summary, Violation> {
        let mut summary = Summary::default();
        for (key, records) in self.by_key() {
            let register = Register::new(&records);
            let (decision, step_count) = register.decide();
            summary.key_count += 1;
            summary.determined_count += register.determined_count();
            summary.undetermined_count += register.undetermined_count();
            summary.step_count += step_count;
            match decision {
                Decision::Linearizable => {}
                Decision::Stuck(stuck) => {
                    let explanation = Explanation::new(key, &register, &stuck);
                    return Err(Violation::NotLinearizable(Box::new(explanation)));
                }
                Decision::Undecided => return Err(Violation::Undecided { key: key.to_vec(), step_count }),
            }
        }
        Ok(summary)
    }

    fn by_key(&self) -> BTreeMap<&[u8], Vec<&Record>> {
        let mut keys: BTreeMap<&[u8], Vec<&Record>> = BTreeMap::new();
        for record in &self.records {
            keys.entry(&record.key).or_default().push(record);
        }
        keys
    }

    fn next_place(&mut self) -> u64 {
        self.event_count += 1;
        self.event_count
    }
}

#[cfg(test)]
mod tests;
