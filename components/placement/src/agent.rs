//! The actor of a store's placement, and how the rest of the process reaches it.

use std::{collections::BTreeMap, sync::Arc};

use actor::{Mailbox, Now, Worker};
use store::{
    AdminAction, AdminRequest, Lane, LeadChanges, PlacementClient, PlacementMessage, RegionReport, SplitKeys,
    SplitKeysWish, SplitWish, Store, StoreMessage, Transport,
};
use types::{Instant, Region, RegionId, Split, StoreId, Term};

use crate::{
    core::{
        agent::{Agent, AgentConfig, Effect, FoundKeys, LocalRegion, Locals},
        api::{Error, PlacementCall, Responder, SplitRequest},
        codec,
        host::{Host, HostConfig},
        operation::Goal,
        protocol::{Caller, LeaderReport, LonelyPeer, Request, Response},
        record::{KeyMode, StoreLoad, StoreRecord},
    },
    host::HostShell,
};

pub use crate::host::HostMail;

/// Agent and host of one store take turns within a round so often at the most; what is left has the next round.
const TURNS_MAX: usize = 8;

/// Mail of a [`PlacementWorker`].
#[derive(Debug)]
pub enum PlacementMail {
    /// The process asks.
    Call(PlacementCall, Responder),
    /// What has changed about the regions that are led from this store.
    Leads(LeadChanges),
    /// Where the placement group is led.
    PlacementLeader {
        /// The store, where known.
        leader: Option<StoreId>,
        /// If it is this one: the term, with every entry of earlier terms applied.
        led_here: Option<Term>,
    },
    /// From the placement of another store.
    Message(StoreId, PlacementMessage),
    /// From this store, to what the host asked of it.
    Host(HostMail),
    /// From this store: how a split has ended, by its change id.
    SplitEnded(u64, store::Result<()>),
    /// From this store: where a region can be divided, for the split of this change id.
    KeysFound(u64, store::Result<SplitKeys>),
    /// From this store: a region that it leads is too large.
    SplitWanted(SplitWish),
}

/// What placement tells the process beside answers, and asks of it. Calls must not block.
pub trait PlacementEvents: Send + Sync {
    /// The address book has changed: every store that is not removed, in order of id, this one included. To be done:
    /// tell the transport, [`Store::set_stores`], and persist it.
    fn on_stores(&self, stores: Vec<StoreRecord>);

    /// This store was removed from the cluster: it must not go on under its id.
    fn on_removed(&self);

    /// The space on this store's device, for its heartbeat.
    fn disk_space(&self) -> DiskSpace;
}

/// Space on a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskSpace {
    /// Bytes in all.
    pub capacity_bytes: u64,
    /// Bytes free.
    pub available_bytes: u64,
}

/// What a [`PlacementWorker`] is made of.
pub struct PlacementSetup {
    /// The store.
    pub store: Store,
    /// To the other stores.
    pub transport: Arc<dyn Transport>,
    /// The worker's own mailbox: answers of the store arrive there.
    pub mailbox: Arc<Mailbox<PlacementMail>>,
    /// This store, with its id and incarnation.
    pub self_record: StoreRecord,
    /// The address book as persisted; it may be empty and may contain this store.
    pub known_stores: Vec<StoreRecord>,
    /// What `init` was told; the settings row takes it from the first leader.
    pub key_mode: KeyMode,
    /// Who hears of stores.
    pub events: Arc<dyn PlacementEvents>,
    /// Seeds request ids and the scheduler.
    pub seed: u64,
}

/// The actor: an agent, and a host that acts only while the placement group is led here.
pub struct PlacementWorker {
    store: Store,
    mailbox: Arc<Mailbox<PlacementMail>>,
    this_store: StoreId,
    transport: Arc<dyn Transport>,
    events: Arc<dyn PlacementEvents>,
    agent: Agent,
    host: HostShell,
    /// Messages of this round, by receiver.
    outbox: BTreeMap<StoreId, Vec<StoreMessage>>,
    /// Whether agent and host had not finished with each other when the last round ended.
    is_unsettled: bool,
}

impl PlacementWorker {
    /// A worker that has not run yet.
    #[must_use]
    pub fn new(setup: PlacementSetup) -> PlacementWorker {
        let PlacementSetup { store, transport, mailbox, self_record, known_stores, key_mode, events, seed } =
            setup;
        let cluster_id = store.ident().cluster_id;
        let host = Host::new(HostConfig { cluster_id, key_mode, record: self_record.clone(), seed });
        let this_store = self_record.id;
        let agent = Agent::new(AgentConfig { cluster_id, key_mode, record: self_record, known_stores, seed });
        PlacementWorker {
            host: HostShell::new(host, store.clone(), Arc::clone(&mailbox)),
            mailbox,
            store,
            this_store,
            transport,
            events,
            agent,
            outbox: BTreeMap::new(),
            is_unsettled: false,
        }
    }

    fn on_mail(&mut self, now: Now, mail: PlacementMail) {
        match mail {
            PlacementMail::Call(call, responder) => {
                self.agent.on_call(now, call, responder, &Here(&self.store));
            }
            PlacementMail::Leads(LeadChanges { leads, leads_no_longer }) => {
                let leads = leads.into_iter().map(lead_of).collect();
                self.agent.on_leads(leads, leads_no_longer, &Here(&self.store));
            }
            PlacementMail::PlacementLeader { leader, led_here } => {
                self.host.host.on_leader(now, leader, led_here);
                self.agent.on_leader(now, leader, led_here);
            }
            PlacementMail::Message(from, message) if message.is_response => {
                self.on_response_message(now, from, message);
            }
            PlacementMail::Message(from, message) => self.on_request_message(now, from, message),
            PlacementMail::Host(mail) => self.host.on_mail(now, mail),
            PlacementMail::SplitEnded(change_id, result) => {
                let result = result.map_err(refusal_of_split);
                self.agent.on_split_ended(now, change_id, result, &Here(&self.store));
            }
            PlacementMail::KeysFound(change_id, result) => {
                let found = result.map(found_keys).map_err(refusal_of_split);
                self.agent.on_keys_found(now, change_id, found, &Here(&self.store));
            }
            PlacementMail::SplitWanted(SplitWish { region_id, epoch, keys }) => {
                let request = SplitRequest { epoch: Some(epoch), ..SplitRequest::new(region_id, keys) };
                self.agent.on_split_wanted(now, request, &Here(&self.store));
            }
        }
    }

    fn on_response_message(&mut self, now: Now, from: StoreId, message: PlacementMessage) {
        match codec::decode_response(message.body) {
            Ok(response) => self.agent.on_response(now, from, message.id, response, &Here(&self.store)),
            Err(error) => tracing::warn!(store = %from, %error, "a response of placement makes no sense"),
        }
    }

    fn on_request_message(&mut self, now: Now, from: StoreId, message: PlacementMessage) {
        let caller = Caller { store_id: from, request_id: message.id };
        match codec::decode_request(message.body) {
            Ok(Request::Split(request)) => {
                self.agent.on_split_request(now, caller, request, &Here(&self.store));
            }
            Ok(request) => self.host.host.on_request(now, caller, request),
            Err(error) => {
                tracing::warn!(store = %from, %error, "a request to placement makes no sense");
                self.respond(caller, Response::Failed(Error::Invalid(error.to_string())));
            }
        }
    }

    /// One turn of the agent.
    fn agent_turn(&mut self, now: Now) {
        let (store, events) = (&self.store, &self.events);
        let effects = self.agent.end_round(now, || load_of(store, &**events), &Here(store));
        for effect in effects {
            match effect {
                Effect::Send { to, request_id, request } if to == self.this_store => {
                    let caller = Caller { store_id: to, request_id };
                    self.host.host.on_request(now, caller, request);
                }
                Effect::Send { to, request_id, request } => {
                    let body = codec::encode_request(request);
                    let message = PlacementMessage { id: request_id, is_response: false, body };
                    self.outbox.entry(to).or_default().push(StoreMessage::Placement(message));
                }
                Effect::Reply(responder, result) => responder.reply(result),
                Effect::Respond(caller, response) => self.respond(caller, response),
                Effect::Split { region_id, split } => self.split(region_id, split),
                Effect::FindKeys { change_id, region_id, part_count } => {
                    self.find_keys(change_id, region_id, part_count);
                }
                Effect::Goal(goal) => self.carry_out(goal),
                Effect::Destroy(region) => self.destroy(region),
                Effect::Stores(stores) => self.events.on_stores(stores),
                Effect::Removed => self.events.on_removed(),
            }
        }
    }

    /// One turn of the host; returns whether it answered the agent on this store.
    fn host_turn(&mut self, now: Now) -> bool {
        let mut is_agent_answered = false;
        for outgoing in self.host.end_round(now) {
            let Caller { store_id, request_id } = outgoing.caller;
            if store_id == self.this_store {
                let response = outgoing.response;
                self.agent.on_response(now, store_id, request_id, response, &Here(&self.store));
                is_agent_answered = true;
            } else {
                self.respond(outgoing.caller, outgoing.response);
            }
        }
        is_agent_answered
    }

    fn respond(&mut self, caller: Caller, response: Response) {
        let body = codec::encode_response(response);
        let message = PlacementMessage { id: caller.request_id, is_response: true, body };
        self.outbox.entry(caller.store_id).or_default().push(StoreMessage::Placement(message));
    }

    fn carry_out(&self, goal: Goal) {
        let Goal { region_id, epoch, peers, leader, operation_id, .. } = goal;
        let action = match leader {
            Some(leader) => AdminAction::TransferLeader(leader),
            None => AdminAction::SetPeers { peers, change_id: operation_id },
        };
        let responder = store::Responder::new(move |result: store::Result<()>| {
            if let Err(error) = result {
                // The host tells it again, with the epoch that this leader reports, as long as it wants it.
                tracing::debug!(region = %region_id, operation_id, %error, "a goal is refused");
            }
        });
        self.store.admin(AdminRequest { region_id, epoch: Some(epoch), action, responder });
    }
}

impl PlacementWorker {
    /// Lets the leader of a region, which is here, split it.
    fn split(&self, region_id: RegionId, split: Split) {
        let (mailbox, change_id) = (Arc::clone(&self.mailbox), split.change_id);
        let responder = store::Responder::new(move |result: store::Result<()>| {
            mailbox.send(PlacementMail::SplitEnded(change_id, result));
        });
        let epoch = Some(split.epoch);
        self.store.admin(AdminRequest { region_id, epoch, action: AdminAction::Split(split), responder });
    }

    /// Lets the store look for keys that divide a region evenly.
    fn find_keys(&self, change_id: u64, region_id: RegionId, part_count: u32) {
        let mailbox = Arc::clone(&self.mailbox);
        let responder = store::Responder::new(move |result: store::Result<SplitKeys>| {
            mailbox.send(PlacementMail::KeysFound(change_id, result));
        });
        self.store.find_split_keys(region_id, SplitKeysWish::Parts(part_count), responder);
    }

    /// Ends a peer that was removed and has not heard of it.
    fn destroy(&self, region: Region) {
        let region_id = region.id;
        let responder = store::Responder::new(move |result: store::Result<()>| {
            if let Err(error) = result {
                // If it still knows no leader it is listed again in a minute.
                tracing::info!(region = %region_id, %error, "a peer that was removed does not end yet");
            }
        });
        let action = AdminAction::DestroyPeer(region);
        self.store.admin(AdminRequest { region_id, epoch: None, action, responder });
    }
}

impl Worker for PlacementWorker {
    type Mail = PlacementMail;

    fn round(&mut self, now: Now, mail: &mut Vec<PlacementMail>) {
        // 1. Whatever came.
        for mail in mail.drain(..) {
            self.on_mail(now, mail);
        }
        // 2. Agent and host of this store, until neither has anything for the other.
        self.is_unsettled = true;
        for _ in 0..TURNS_MAX {
            self.agent_turn(now);
            if !self.host_turn(now) {
                self.is_unsettled = false;
                break;
            }
        }
        // 3. What other stores are told, one batch each.
        for (to, messages) in std::mem::take(&mut self.outbox) {
            self.transport.send(to, Lane::Liveness, messages);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        if self.is_unsettled {
            return Some(Instant::ZERO);
        }
        self.agent.deadline().into_iter().chain(self.host.host.deadline()).min()
    }
}

/// Reaches the placement of this store. Clones share it; it is also the store's `PlacementClient` port.
#[derive(Clone)]
pub struct Client {
    mailbox: Arc<Mailbox<PlacementMail>>,
}

impl Client {
    /// The client of the worker behind `mailbox`.
    #[must_use]
    pub fn new(mailbox: Arc<Mailbox<PlacementMail>>) -> Client {
        Client { mailbox }
    }

    /// Asks. The responder is called exactly once, within about three seconds.
    pub fn call(&self, call: PlacementCall, responder: Responder) {
        self.mailbox.send(PlacementMail::Call(call, responder));
    }
}

impl PlacementClient for Client {
    fn report(&self, changes: LeadChanges) {
        self.mailbox.send(PlacementMail::Leads(changes));
    }

    fn on_placement_leader(&self, leader: Option<StoreId>, led_here: Option<Term>) {
        self.mailbox.send(PlacementMail::PlacementLeader { leader, led_here });
    }

    fn split_wanted(&self, wish: SplitWish) {
        self.mailbox.send(PlacementMail::SplitWanted(wish));
    }

    fn receive(&self, from: StoreId, message: PlacementMessage) {
        self.mailbox.send(PlacementMail::Message(from, message));
    }
}

/// The store's regions, as the agent looks at them.
struct Here<'a>(&'a Store);

impl Locals for Here<'_> {
    fn find(&self, key: &[u8]) -> Option<LocalRegion> {
        let region = self.0.find_region(key)?;
        let leader = self.0.region(region.id).and_then(|picture| picture.leader);
        Some(LocalRegion { region, leader })
    }

    fn find_by_id(&self, id: RegionId) -> Option<LocalRegion> {
        let picture = self.0.region(id)?;
        Some(LocalRegion { region: picture.region?, leader: picture.leader })
    }

    fn lonely_peers(&self) -> Vec<LonelyPeer> {
        let lonely = self.0.regions().into_iter().filter(|picture| picture.leader.is_none());
        let epoch_of = |region: Option<&Arc<Region>>| region.map(|region| region.epoch).unwrap_or_default();
        lonely
            .map(|picture| LonelyPeer {
                region_id: picture.id,
                peer_id: picture.peer.id,
                epoch: epoch_of(picture.region.as_ref()),
            })
            .collect()
    }
}

/// Regions that are led here are counted by the agent.
fn load_of(store: &Store, events: &dyn PlacementEvents) -> StoreLoad {
    let DiskSpace { capacity_bytes, available_bytes } = events.disk_space();
    let region_count = store.region_count() as u64;
    StoreLoad { capacity_bytes, available_bytes, region_count, leader_count: 0 }
}

fn found_keys(found: SplitKeys) -> FoundKeys {
    let SplitKeys { region, keys, size, last_split } = found;
    let last_split = last_split.map(|split| (split.change_id, split.keys));
    FoundKeys { epoch: region.epoch, keys, key_count: size.key_count, last_split }
}

/// Why a store did not split a region, as the agent tells others.
fn refusal_of_split(error: store::Error) -> Error {
    let text = error.to_string();
    match error {
        store::Error::NotLeader { leader, .. } => {
            Error::NotLeader { hint: leader.map(|leader| leader.store_id), term: Term(0) }
        }
        store::Error::RegionNotFound(_)
        | store::Error::NotInitialized(_)
        | store::Error::StoreNotMatch { .. }
        | store::Error::PeerMismatch { .. }
        | store::Error::StaleTerm => Error::NotLeader { hint: None, term: Term(0) },
        store::Error::EpochNotMatch { current } => match current.first() {
            Some(region) => Error::EpochNotMatch { region_id: region.id, current: region.epoch },
            None => Error::Unavailable { reason: text },
        },
        store::Error::Changing { region_id, change_id, stage } => {
            Error::Changing { region_id, operation_id: change_id, stage: stage.to_owned() }
        }
        store::Error::KeyNotInRegion { .. }
        | store::Error::EntryTooLarge { .. }
        | store::Error::Invalid(_) => Error::Invalid(text),
        store::Error::Busy { .. } | store::Error::DiskFull(_) | store::Error::Refused(_) => {
            Error::Busy { reason: text }
        }
        store::Error::ReadIndexNotReady(_) | store::Error::Undetermined(_) | store::Error::Stopping => {
            Error::Unavailable { reason: text }
        }
    }
}

fn lead_of(report: RegionReport) -> LeaderReport {
    let RegionReport { region, leader, term, down_peers, pending_peers, size } = report;
    LeaderReport { region, leader, term, down_peers, pending_peers, size }
}
