//! What is going to happen, in order of time.

use std::collections::BTreeMap;

use store::{StoreMessage, Unreachable};
use types::StoreId;

use super::{
    HostId, Moment,
    call::{Answered, Call},
    pool::Ticket,
};

/// Something that is going to happen.
pub(crate) enum Event {
    /// Something at a host. While the host is paused it waits.
    Host(HostId, HostEvent),
    /// A process starts (again).
    Start(HostId),
    /// A paused host goes on, if this is still the pause with this number.
    Resume(HostId, u64),
    /// The answer to a call arrives at its client.
    Answer(Box<Answered>),
    /// Something that clients or faults wanted to be reminded of.
    Alarm(Alarm),
}

/// Something that happens at a host. Those with a generation belong to one process.
pub(crate) enum HostEvent {
    /// An actor looks into its mailbox.
    Look { generation: u64, ticket: Ticket },
    /// An actor's round happens.
    Round { generation: u64, ticket: Ticket },
    /// Messages of another store arrive that were sent to the process of this generation.
    Frame { generation: u64, from: StoreId, messages: Vec<StoreMessage> },
    /// The connection to another store breaks, or is refused.
    Unreachable { generation: u64, store: StoreId, how: Unreachable },
    /// A client's call arrives.
    Call(Box<Call>),
}

/// A reminder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// A client wants to do something; the number tells its reminders apart.
    Client(usize, u64),
    /// The operator wants to do something.
    Operator(u64),
    /// The next step of the plan of faults.
    Fault(u64),
}

/// Events by time; those of one moment in the order in which they were added.
#[derive(Default)]
pub(crate) struct Agenda {
    events: BTreeMap<(Moment, u64), Event>,
    added: u64,
}

impl Agenda {
    pub(crate) fn add(&mut self, at: Moment, event: Event) {
        self.added += 1;
        self.events.insert((at, self.added), event);
    }

    pub(crate) fn take_first(&mut self) -> Option<(Moment, Event)> {
        self.events.pop_first().map(|((at, _), event)| (at, event))
    }

    pub(crate) fn first_at(&self) -> Option<Moment> {
        self.events.first_key_value().map(|((at, _), _)| *at)
    }
}
