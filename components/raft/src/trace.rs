//! What a group does, told to whoever listens: each message and each change of state as an event. A group without a
//! listener pays one comparison for each.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use types::{ConfigurationChange, Index, LogPosition, PeerId, Term};

use crate::{CampaignReason, Message, RoleChange};

/// Something that has happened in a group, told at the moment when it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A message has arrived.
    Received(&'a Message),
    /// A message was refused because it cannot be right.
    Refused {
        /// Who sent it.
        from: PeerId,
        /// Why.
        reason: &'static str,
    },
    /// A message leaves with the Ready that is being made.
    Sent {
        /// The message.
        message: &'a Message,
        /// Whether it waits for the Ready to be durable.
        is_after_persist: bool,
    },
    /// An election begins.
    Campaigned {
        /// Why.
        reason: CampaignReason,
        /// Whether it only asks.
        is_pre_vote: bool,
        /// The term that it is about.
        term: Term,
    },
    /// Role, term or leader are now these.
    Role(RoleChange),
    /// This peer's vote in this term is given.
    Voted {
        /// The term.
        term: Term,
        /// Whom it elects.
        candidate: PeerId,
    },
    /// The log has grown.
    Appended {
        /// The first new index.
        first: Index,
        /// The last position now.
        last: LogPosition,
    },
    /// The log has lost its end, to be replaced by the leader's.
    Truncated {
        /// The first index that is gone.
        from: Index,
    },
    /// The log now begins behind this position: a snapshot has replaced what was before, or it was not needed any more.
    Begins(LogPosition),
    /// Everything up to here is known to be committed.
    Committed(Index),
    /// Readies up to this number are durable, and the log up to this index.
    Persisted {
        /// The number.
        number: u64,
        /// The index.
        index: Index,
    },
    /// This configuration is in force, be it appended, be it what a truncation has left.
    Configuration {
        /// The index of its entry.
        index: Index,
        /// What it says.
        change: &'a ConfigurationChange,
    },
    /// A read-index attempt has begun.
    ReadAttempt {
        /// Its number.
        nonce: u64,
        /// What it will answer.
        index: Index,
    },
    /// TimeoutNow has been sent: no lease for the rest of the term.
    LeaseGivenUp,
    /// A peer has lost what it acknowledged.
    MemoryLost(PeerId),
    /// The group sleeps.
    Slept,
    /// The group is awake.
    Woke,
    /// This peer was told to lead without a quorum, if all survivors let it.
    Forcing {
        /// The peers given up.
        lost: &'a [PeerId],
    },
}

/// Listens to a group.
pub trait Trace: Send + Sync {
    /// Something has happened. Must not call the group.
    fn on_event(&self, event: Event<'_>);
}

/// The listener of one group, if it has one; a box so that the group without one stays small.
#[derive(Clone, Default)]
pub(crate) struct Tracer(Option<Box<Arc<dyn Trace>>>);

impl Tracer {
    pub(crate) fn new(listener: Arc<dyn Trace>) -> Tracer {
        Tracer(Some(Box::new(listener)))
    }

    /// Whether anyone listens: for what would take a loop to tell.
    pub(crate) fn is_set(&self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn emit(&self, event: Event<'_>) {
        if let Some(listener) = &self.0 {
            listener.on_event(event);
        }
    }
}

/// Who listens changes nothing of what the group does.
impl Hash for Tracer {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_set() { "Tracer(set)" } else { "Tracer(none)" })
    }
}
