//! The catalogue, and what a broken invariant looks like.

use std::fmt;

use types::{Instant, RegionId};

/// What holds at every moment in a cluster, as far as pictures of it can show.
///
/// The numbers are those of the project's list of invariants. The others are looked for elsewhere: linearizability (I6),
/// acknowledged writes that survive (I7) and reads that see them (I13) by [`crate::history`]; answers that are given once
/// (I8), what a session may rely on (I14), and that placement comes to rest (I19) show in what clients are answered and
/// in how operations go on, not in a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// I1: a term of a region has one leader at most.
    OneLeader,
    /// I2: positions of a region's logs that agree in index and term agree in everything before.
    LogMatching,
    /// I3: what is committed stays, and every later leader has it.
    CommittedStays,
    /// I4: peers that have applied the same index hold the same data.
    SameData,
    /// I5: what is committed is durable on a quorum of every configuration in force.
    DurableQuorum,
    /// I9: the regions of a store do not overlap, and those of a settled cluster tile the keys.
    Tiling,
    /// I10: a descriptor never gets older, and its epoch says all of it.
    Epochs,
    /// I11: a peer that was destroyed does not come back, and no region has two peers on a store.
    NoReturn,
    /// I12: while a peer holds a lease, no other does, and none leads a later term.
    OneLease,
    /// I15: terms, votes, and what is committed or applied do not go back.
    NoStepBack,
    /// I16: log and data fit together: the log is kept from what is durably applied on, and reaches what is committed.
    LogAndData,
    /// I17: what is reserved stays within its limit.
    Budget,
    /// I18: in a settled cluster each region has a leader, and each peer has all that it has.
    Served,
    /// I20: a peer whose data is damaged does not lead.
    Quarantine,
}

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {invariant}{}: {message}", OfRegion(*region_id))]
pub struct Violation {
    /// Which one.
    pub invariant: Invariant,
    /// Where, if it is about one region.
    pub region_id: Option<RegionId>,
    /// When it was seen.
    pub at: Instant,
    /// What was seen.
    pub message: String,
}

/// What a rule found: the invariant, and what is wrong.
pub(super) type Finding = (Invariant, String);

impl Invariant {
    /// Its number in the project's list.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Invariant::OneLeader => 1,
            Invariant::LogMatching => 2,
            Invariant::CommittedStays => 3,
            Invariant::SameData => 4,
            Invariant::DurableQuorum => 5,
            Invariant::Tiling => 9,
            Invariant::Epochs => 10,
            Invariant::NoReturn => 11,
            Invariant::OneLease => 12,
            Invariant::NoStepBack => 15,
            Invariant::LogAndData => 16,
            Invariant::Budget => 17,
            Invariant::Served => 18,
            Invariant::Quarantine => 20,
        }
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "I{} {self:?}", self.number())
    }
}

struct OfRegion(Option<RegionId>);

impl fmt::Display for OfRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |region_id| write!(f, ", region {region_id}"))
    }
}

/// Answers with a finding unless the condition holds.
pub(super) fn ensure(
    is_right: bool,
    invariant: Invariant,
    message: impl FnOnce() -> String,
) -> Result<(), Finding> {
    if is_right { Ok(()) } else { Err((invariant, message())) }
}
