//! The shell of the host: carries out what `core::host` asks of the store.

use std::sync::Arc;

use actor::{Mailbox, Now};
use bytes::Bytes;
use store::{Proposal, ReadRequest, RequestContext, Responder, Store};
use types::{Answer, Command, Outcome, Query, Region, RegionId, Request, Term};

use crate::{
    agent::PlacementMail,
    core::{
        host::{Effect, Host, Proposed, Tag},
        protocol::{Caller, Response},
        rows::RowKey,
    },
};

/// Answers of the store to what the host asked of it.
#[derive(Debug)]
pub enum HostMail {
    /// Every row of the placement group, or why it could not be read.
    Rows(Tag, Result<Vec<(Bytes, Bytes)>, String>),
    /// How a transaction ended.
    Proposed(Tag, Proposed),
    /// Whether leadership was shown.
    Confirmed(Tag, bool),
}

/// A response on its way: to whom, under which name, and what.
pub(crate) struct Outgoing {
    pub(crate) caller: Caller,
    pub(crate) response: Response,
}

/// The host with its store.
pub(crate) struct HostShell {
    pub(crate) host: Host,
    store: Store,
    mailbox: Arc<Mailbox<PlacementMail>>,
}

impl HostShell {
    pub(crate) fn new(host: Host, store: Store, mailbox: Arc<Mailbox<PlacementMail>>) -> HostShell {
        HostShell { host, store, mailbox }
    }

    pub(crate) fn on_mail(&mut self, now: Now, mail: HostMail) {
        match mail {
            HostMail::Rows(tag, rows) => self.host.on_rows(now, tag, rows, &self.local_regions()),
            HostMail::Proposed(tag, outcome) => self.host.on_proposed(now, tag, outcome),
            HostMail::Confirmed(tag, is_confirmed) => self.host.on_confirmed(tag, is_confirmed),
        }
    }

    /// Ends the host's round; returns the responses to be sent.
    pub(crate) fn end_round(&mut self, now: Now) -> Vec<Outgoing> {
        let mut outgoing = Vec::new();
        for effect in self.host.end_round(now) {
            match effect {
                Effect::ReadRows(tag) => self.read_rows(tag),
                Effect::Confirm(tag) => self.confirm(tag),
                Effect::Propose(tag, txn) => self.propose(tag, Command::Placement(txn)),
                Effect::Respond(caller, response) => outgoing.push(Outgoing { caller, response }),
                Effect::Push(store_id, response) => {
                    outgoing.push(Outgoing { caller: Caller { store_id, request_id: 0 }, response });
                }
            }
        }
        if cfg!(debug_assertions) {
            self.host.check_invariants();
        }
        outgoing
    }

    fn local_regions(&self) -> Vec<Region> {
        [RegionId::PLACEMENT, RegionId::FIRST]
            .into_iter()
            .filter_map(|id| self.store.region(id)?.region)
            .map(|region| Region::clone(&region))
            .collect()
    }

    fn read_rows(&self, tag: Tag) {
        self.read(tag.term, Bytes::new(), move |result| {
            let rows = match result {
                Ok(Answer::Pairs(rows)) => Ok(rows),
                Ok(Answer::Value(_) | Answer::Ttl(_) | Answer::Checksum { .. }) => {
                    Err("the store answered another query".to_owned())
                }
                Err(error) => Err(error.to_string()),
            };
            HostMail::Rows(tag, rows)
        });
    }

    /// Any read will do: that it is answered, in this term, shows that nobody else leads.
    fn confirm(&self, tag: Tag) {
        self.read(tag.term, RowKey::Bound.encode(), move |result| HostMail::Confirmed(tag, result.is_ok()));
    }

    fn read(
        &self,
        term: Term,
        prefix: Bytes,
        mail_of: impl FnOnce(store::Result<Answer>) -> HostMail + Send + 'static,
    ) {
        let mailbox = Arc::clone(&self.mailbox);
        let responder = Responder::new(move |result| mailbox.send(PlacementMail::Host(mail_of(result))));
        let query = Query::PlacementRows { prefix };
        self.store.read(vec![ReadRequest { context: context(term), query, responder }]);
    }

    fn propose(&self, tag: Tag, command: Command) {
        let mailbox = Arc::clone(&self.mailbox);
        let responder = Responder::new(move |result| {
            let outcome = match result {
                Ok(Outcome::Placement { is_committed: true }) => Proposed::Committed,
                Ok(Outcome::Placement { is_committed: false }) => Proposed::Refused,
                Ok(Outcome::Done | Outcome::Swapped { .. }) => Proposed::Unknown,
                Err(error) => {
                    tracing::debug!(%error, "a placement transaction was not applied");
                    Proposed::Unknown
                }
            };
            mailbox.send(PlacementMail::Host(HostMail::Proposed(tag, outcome)));
        });
        let request = Request { session: None, command };
        self.store.submit(vec![Proposal { context: context(tag.term), request, responder }]);
    }
}

/// The placement group, led by this store in `term` and in no other.
fn context(term: Term) -> RequestContext {
    RequestContext { region_id: RegionId::PLACEMENT, term: Some(term), ..RequestContext::default() }
}
