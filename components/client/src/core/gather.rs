//! Puts the replies of an operation's calls together.

use bytes::Bytes;
use types::{Answer, Outcome};

use super::{Reply, Work};
use crate::Cause;

/// What an operation has got so far.
#[derive(Debug)]
pub(super) enum Gather {
    /// One call answers it.
    One(Option<Reply>),
    /// Its calls answer "done", every one.
    Done,
    /// Its calls answer pairs.
    Pairs {
        pairs: Vec<(Bytes, Bytes)>,
        /// Calls of a batch end in any order; those of a scan in the order of the pairs.
        is_ordered: bool,
    },
    /// Its calls answer checksums.
    Checksum { checksum: u64, total_pairs: u64, total_bytes: u64 },
}

impl Gather {
    pub(super) fn new(work: &Work) -> Gather {
        match work {
            Work::Get { .. } | Work::KeyTtl { .. } | Work::CompareAndSwap(_) => Gather::One(None),
            Work::BatchGet { .. } => Gather::Pairs { pairs: Vec::new(), is_ordered: false },
            Work::Scan(_) => Gather::Pairs { pairs: Vec::new(), is_ordered: true },
            Work::Checksum { .. } => Gather::Checksum { checksum: 0, total_pairs: 0, total_bytes: 0 },
            Work::Put(_)
            | Work::BatchPut { .. }
            | Work::Delete { .. }
            | Work::BatchDelete { .. }
            | Work::DeleteRange { .. } => Gather::Done,
        }
    }

    /// Adds the reply of one call, if it answers what the call asked.
    pub(super) fn add(&mut self, work: &Work, reply: Reply) -> Result<(), Cause> {
        if !fits(work, &reply) {
            return Err(Cause::Malformed("it is of another kind"));
        }
        match (self, reply) {
            (Gather::One(slot), reply) => *slot = Some(reply),
            (Gather::Pairs { pairs, .. }, Reply::Read(Answer::Pairs(more))) => pairs.extend(more),
            (
                Gather::Checksum { checksum, total_pairs, total_bytes },
                Reply::Read(Answer::Checksum {
                    checksum: more,
                    total_pairs: more_pairs,
                    total_bytes: more_bytes,
                }),
            ) => {
                *checksum ^= more;
                *total_pairs += more_pairs;
                *total_bytes += more_bytes;
            }
            (Gather::Done | Gather::Pairs { .. } | Gather::Checksum { .. }, _) => {}
        }
        Ok(())
    }

    /// What the operation answers.
    pub(super) fn finish(&mut self) -> Result<Reply, Cause> {
        match self {
            Gather::One(reply) => reply.take().ok_or(Cause::Malformed("there is none")),
            Gather::Done => Ok(Reply::Written(Outcome::Done)),
            Gather::Pairs { pairs, is_ordered } => {
                let mut pairs = std::mem::take(pairs);
                if !*is_ordered {
                    pairs.sort_unstable();
                }
                Ok(Reply::Read(Answer::Pairs(pairs)))
            }
            Gather::Checksum { checksum, total_pairs, total_bytes } => Ok(Reply::Read(Answer::Checksum {
                checksum: *checksum,
                total_pairs: *total_pairs,
                total_bytes: *total_bytes,
            })),
        }
    }
}

/// Whether a reply is of the kind that the work asks for.
fn fits(work: &Work, reply: &Reply) -> bool {
    match work {
        Work::Get { .. } => matches!(reply, Reply::Read(Answer::Value(_))),
        Work::BatchGet { .. } | Work::Scan(_) => matches!(reply, Reply::Read(Answer::Pairs(_))),
        Work::KeyTtl { .. } => matches!(reply, Reply::Read(Answer::Ttl(_))),
        Work::Checksum { .. } => matches!(reply, Reply::Read(Answer::Checksum { .. })),
        Work::CompareAndSwap(_) => matches!(reply, Reply::Written(Outcome::Swapped { .. })),
        Work::Put(_)
        | Work::BatchPut { .. }
        | Work::Delete { .. }
        | Work::BatchDelete { .. }
        | Work::DeleteRange { .. } => matches!(reply, Reply::Written(Outcome::Done)),
    }
}
