//! Sleepers, as a raft worker knows them: offers and agreements, wakes, and what follows from judgements of stores.
//!
//! Everything goes out in one message for each other store and round, whatever the number of regions.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use raft::MessageBody;
use telemetry::names;
use types::{Incarnation, Instant, RegionId, StoreId};

use super::{Judgement, LivenessMail, SleepChange, SleepMessage, SleepOffer, Sleeper, SleeperList};
use crate::{
    limits::{OFFER_TIMEOUTS, SLEEP_ITEMS_MAX},
    message::{RaftEnvelope, StoreMessage},
    peer::{Patience, Peer, Rest},
    ports::Lane,
    round::RaftWorker,
};

/// What a raft worker keeps for its sleepers; nothing for each of them.
#[derive(Default)]
pub(crate) struct Sleepers {
    /// What liveness thinks of other stores.
    judgements: BTreeMap<StoreId, Judgement>,
    /// Leaders without work, to be offered sleep together.
    drowsy: BTreeSet<RegionId>,
    /// When they are.
    offer_at: Option<Instant>,
    /// How many offers were made in this run: the last one's number.
    offer_count: u64,
    /// Followers that have woken and want their leader awake, each since when, and how long it has to show itself.
    wakes: BTreeMap<RegionId, Wish>,
    /// When the wishes are repeated.
    wakes_at: Option<Instant>,
    /// What liveness is to be told at the end of the round.
    changes: BTreeMap<StoreId, SleepChange>,
    /// To be sent at the end of the round.
    offers: BTreeMap<StoreId, Vec<SleepOffer>>,
    /// What other stores have offered in this round: answered when the round's peers have said what they had to say.
    offered: Vec<(StoreId, Incarnation, Vec<SleepOffer>)>,
}

/// That a leader wakes.
#[derive(Clone, Copy, Debug)]
struct Wish {
    since: Instant,
    /// Not told before this: a leader that has woken its followers itself shows itself soon.
    due: Instant,
}

impl Sleepers {
    /// When the worker has something to do for the sake of sleep.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        [self.offer_at, self.wakes_at].into_iter().flatten().min()
    }

    pub(crate) fn judge(&self, store: StoreId) -> Judgement {
        self.judgements.get(&store).copied().unwrap_or_default()
    }

    /// A peer has fallen asleep.
    fn add(&mut self, rest: &Rest) {
        metrics::counter!(names::SLEEPS).increment(1);
        metrics::gauge!(names::SLEEPING_PEERS).increment(1.0);
        self.count(rest, super::SleepDigest::add);
    }

    /// A peer sleeps no more, or is no more.
    pub(crate) fn remove(&mut self, rest: &Rest) {
        if matches!(rest, Rest::Leading(_) | Rest::Following(_)) {
            metrics::counter!(names::WAKES).increment(1);
            metrics::gauge!(names::SLEEPING_PEERS).decrement(1.0);
            self.count(rest, super::SleepDigest::remove);
        }
    }

    /// A peer that has said what it had to say may have fallen asleep, woken, or have nothing to do any more.
    pub(crate) fn settle(&mut self, now: Instant, beat: Duration, patience: Patience, peer: &mut Peer) {
        if peer.sleep.is_asleep() && peer.group.is_asleep() && peer.has_work() {
            peer.group.wake(now);
        }
        match &peer.sleep.rest {
            Rest::Awake => {
                if peer.grows_drowsy(now, patience) {
                    self.drowsy.insert(peer.region_id);
                    self.offer_at.get_or_insert(now + beat);
                }
            }
            Rest::Offered(_) => {
                if peer.settle_offer(now, |store| self.judge(store)) {
                    self.add(&peer.sleep.rest);
                }
            }
            Rest::Leading(_) | Rest::Following(_) => {
                if !peer.group.is_asleep() {
                    self.remove(&peer.sleep.rest);
                    if matches!(peer.sleep.rest, Rest::Following(_)) {
                        self.wish_leader_awake(now, beat, peer);
                    }
                    peer.sleep.wake(now);
                }
            }
        }
    }

    /// A follower has woken. Unless its leader has woken it, and goes on to show itself, the leader is to wake, too: else
    /// the followers that are awake would campaign against a leader that merely sleeps.
    fn wish_leader_awake(&mut self, now: Instant, beat: Duration, peer: &Peer) {
        let due = if peer.leader_heard_at() >= now { now + 2 * beat } else { now };
        self.wakes.insert(peer.region_id, Wish { since: now, due });
        let at = self.wakes_at.get_or_insert(due);
        *at = due.min(*at);
    }

    /// Whether a message asks for an election that nobody who sleeps needs: its sender has been cut off, and is not trusted
    /// to be back. When it is, the leader wakes to pay its debt; until then a flapping link would wake every region with
    /// every flap.
    pub(crate) fn is_premature(&self, peer: &Peer, envelope: &RaftEnvelope) -> bool {
        let is_pre_vote = matches!(envelope.message.body, MessageBody::VoteRequest { is_pre_vote: true, .. });
        is_pre_vote && peer.sleep.is_asleep() && !self.judge(envelope.from.store_id).is_live
    }

    fn count(&mut self, rest: &Rest, count: impl Fn(&mut super::SleepDigest, Sleeper)) {
        match rest {
            Rest::Leading(asleep) => {
                for store in &asleep.agreed {
                    count(&mut self.changes.entry(*store).or_default().leading, asleep.sleeper);
                }
            }
            Rest::Following(asleep) => {
                let change = self.changes.entry(asleep.leader_store).or_default();
                count(&mut change.following, asleep.sleeper);
            }
            Rest::Awake | Rest::Offered(_) => {}
        }
    }
}

impl RaftWorker {
    fn offer(&mut self, now: Instant, region_id: RegionId) {
        let until = now + OFFER_TIMEOUTS * self.shared.config.election_timeout;
        let Some(peer) = self.peers.get_mut(&region_id) else { return };
        self.sleepers.offer_count += 1;
        let number = self.sleepers.offer_count;
        for (store, offer) in peer.offer_sleep(number, until, |store| self.sleepers.judge(store)) {
            self.sleepers.offers.entry(store).or_default().push(offer);
        }
        self.touch(region_id);
    }

    /// What the round's peers have come to in [`Sleepers::settle`] goes out, and others' offers are answered: after the
    /// peers have said what they had to say, for whoever has something to say does not sleep.
    pub(crate) fn settle_sleep(&mut self, now: Instant) {
        for (from, incarnation, offers) in std::mem::take(&mut self.sleepers.offered) {
            self.on_offers(from, incarnation, &offers);
        }
        if self.sleepers.offer_at.is_some_and(|at| at <= now) {
            self.sleepers.offer_at = None;
            for region_id in std::mem::take(&mut self.sleepers.drowsy) {
                self.offer(now, region_id);
            }
        }
        if self.sleepers.wakes_at.is_some_and(|at| at <= now) {
            self.repeat_wakes(now);
        }
        self.send_offers();
        let changes = std::mem::take(&mut self.sleepers.changes);
        if !changes.is_empty() {
            self.shared.router.liveness.send(LivenessMail::Slept(changes.into_iter().collect()));
        }
    }

    fn send_offers(&mut self) {
        let incarnation = self.shared.ident.incarnation;
        for (store, offers) in std::mem::take(&mut self.sleepers.offers) {
            for offers in offers.chunks(SLEEP_ITEMS_MAX) {
                let offers = offers.to_vec();
                self.tell(store, SleepMessage::Offer { incarnation, offers });
            }
        }
    }

    /// Tells the stores of leaders which followers are awake, as often as they beat, until each leader has shown itself.
    fn repeat_wakes(&mut self, now: Instant) {
        let mut wishes: BTreeMap<StoreId, Vec<Sleeper>> = BTreeMap::new();
        let (peers, sleepers) = (&self.peers, &mut self.sleepers);
        let judgements = &sleepers.judgements;
        sleepers.wakes.retain(|region_id, wish| {
            let Some(peer) = peers.get(region_id) else { return false };
            let Some(leader) = peer.leader_identity().filter(|leader| leader.id != peer.me.id) else {
                return false;
            };
            let is_live = judgements.get(&leader.store_id).is_some_and(|store| store.is_live);
            if peer.group.is_asleep() || peer.leader_heard_at() > wish.since || !is_live {
                return false;
            }
            if wish.due <= now {
                let sleeper = Sleeper { region_id: *region_id, term: peer.group.term() };
                wishes.entry(leader.store_id).or_default().push(sleeper);
            }
            true
        });
        let next = sleepers.wakes.values().map(|wish| wish.due).min();
        sleepers.wakes_at = next.map(|due| due.max(now + self.shared.config.heartbeat_interval));
        for (store, wishes) in wishes {
            for wishes in wishes.chunks(SLEEP_ITEMS_MAX) {
                self.tell(store, SleepMessage::Wake(wishes.to_vec()));
            }
        }
    }

    fn tell(&mut self, store: StoreId, message: SleepMessage) {
        self.out.messages.push(store, Lane::Liveness, StoreMessage::Sleep(message));
    }

    /// Another store speaks of sleepers.
    pub(crate) fn on_sleep(&mut self, now: Instant, from: StoreId, message: SleepMessage) {
        match message {
            SleepMessage::Offer { incarnation, offers } => {
                self.sleepers.offered.push((from, incarnation, offers));
            }
            SleepMessage::Agreed { leader_incarnation, follower_incarnation, offers } => {
                let is_of_these_runs = leader_incarnation == self.shared.ident.incarnation
                    && follower_incarnation == self.sleepers.judge(from).incarnation;
                if is_of_these_runs {
                    offers.iter().for_each(|offer| self.on_agreed(from, offer));
                }
            }
            SleepMessage::Wake(wishes) => self.on_wake(now, from, wishes),
            SleepMessage::NotLed(sleepers) => {
                sleepers.into_iter().for_each(|sleeper| self.on_not_led(now, from, sleeper));
            }
            SleepMessage::Sleepers(list) => self.on_list(now, from, &list),
            SleepMessage::Digest(_) | SleepMessage::Compare => {}
        }
    }

    /// A leader's store offers sleep.
    fn on_offers(&mut self, from: StoreId, incarnation: Incarnation, offers: &[SleepOffer]) {
        // Nobody sleeps but on the word of a store that this one hears, and of its present run.
        let judgement = self.sleepers.judge(from);
        if !judgement.is_live || judgement.incarnation != incarnation {
            return;
        }
        let mut agreed = Vec::new();
        for offer in offers {
            let Some(peer) = self.peers.get_mut(&offer.region_id) else { continue };
            let was_asleep = peer.sleep.is_asleep();
            if peer.accept_sleep(from, incarnation, offer) {
                agreed.push(*offer);
                if !was_asleep {
                    self.sleepers.add(&peer.sleep.rest);
                    self.touch(offer.region_id);
                }
            }
        }
        if !agreed.is_empty() {
            let follower_incarnation = self.shared.ident.incarnation;
            let answer = SleepMessage::Agreed {
                leader_incarnation: incarnation,
                follower_incarnation,
                offers: agreed,
            };
            self.tell(from, answer);
        }
    }

    fn on_agreed(&mut self, from: StoreId, offer: &SleepOffer) {
        if let Some(peer) = self.peers.get_mut(&offer.region_id) {
            peer.on_agreed(from, offer);
            self.touch(offer.region_id);
        }
    }

    /// Followers on another store are awake.
    fn on_wake(&mut self, now: Instant, from: StoreId, wishes: Vec<Sleeper>) {
        let mut not_led = Vec::new();
        for wish in wishes {
            match self.peers.get_mut(&wish.region_id) {
                Some(peer) if peer.is_leader() && peer.group.term() == wish.term => {
                    peer.on_follower_awake(now);
                    self.touch(wish.region_id);
                }
                Some(_) | None => not_led.push(wish),
            }
        }
        if !not_led.is_empty() {
            self.tell(from, SleepMessage::NotLed(not_led));
        }
    }

    /// The store that was believed to lead a region does not.
    fn on_not_led(&mut self, now: Instant, from: StoreId, sleeper: Sleeper) {
        let Some(peer) = self.peers.get_mut(&sleeper.region_id) else { return };
        let is_led_there = peer.leader_identity().is_some_and(|leader| leader.store_id == from);
        if is_led_there && !peer.is_leader() && peer.group.term() == sleeper.term {
            peer.group.suspect_leader(now);
            self.touch(sleeper.region_id);
        }
    }

    /// What sleeps on another store, led there: a follower that is not among them relies on nobody.
    fn on_list(&mut self, now: Instant, from: StoreId, list: &SleeperList) {
        self.for_each_peer(|peer| {
            let Rest::Following(asleep) = &peer.sleep.rest else { return false };
            let is_missing = asleep.leader_store == from
                && list.section.contains(asleep.sleeper.region_id)
                && !list.contains(asleep.sleeper);
            if is_missing {
                tracing::info!(
                    region = peer.region_id.0,
                    store = from.0,
                    "a sleeper's leader is not asleep there"
                );
                peer.group.wake(now);
            }
            is_missing
        });
    }

    /// Another store wants to compare.
    pub(crate) fn list_sleepers(&mut self, to: StoreId) {
        let is_agreed = |peer: &Peer| match &peer.sleep.rest {
            Rest::Leading(asleep) if asleep.agreed.contains(&to) => Some(asleep.sleeper),
            Rest::Leading(_) | Rest::Following(_) | Rest::Offered(_) | Rest::Awake => None,
        };
        let sleepers: Vec<_> = self.peers.values().filter_map(|peer| is_agreed(peer)).collect();
        let count = self.shared.router.raft.len() as u64;
        for list in SleeperList::of(self.at as u64, count, &sleepers) {
            self.tell(to, SleepMessage::Sleepers(list));
        }
    }

    /// Liveness thinks otherwise of a store than before.
    pub(crate) fn on_judged(&mut self, now: Instant, store: StoreId, judgement: Judgement) {
        let before = self.sleepers.judgements.insert(store, judgement).unwrap_or_default();
        let is_restarted = before.incarnation.0 > 0 && before.incarnation != judgement.incarnation;
        if is_restarted || (judgement.is_suspected && !before.is_suspected) {
            self.suspect_leaders(now, store);
        }
        if judgement.is_live && (is_restarted || !before.is_live) {
            self.wake_leaders(now, store, is_restarted);
        }
        let confirms = |judgement: Judgement| judgement.is_live && judgement.is_confirming;
        if confirms(before) && !confirms(judgement) {
            self.end_unconfirmed(now);
        }
    }

    /// Regions that are led from a store that is down, or were before it started again, look for another leader.
    fn suspect_leaders(&mut self, now: Instant, store: StoreId) {
        self.for_each_peer(|peer| {
            let is_led_there =
                !peer.is_leader() && peer.leader_identity().is_some_and(|leader| leader.store_id == store);
            if is_led_there {
                peer.group.suspect_leader(now);
            }
            is_led_there
        });
    }

    /// A store is back: leaders that it owes a debt, or whose peers there have forgotten their sleep, wake.
    fn wake_leaders(&mut self, now: Instant, store: StoreId, is_restarted: bool) {
        self.for_each_peer(|peer| peer.on_store_back(now, store, is_restarted));
    }

    /// Sleeping leaders that no quorum of stores confirms any more step down.
    fn end_unconfirmed(&mut self, now: Instant) {
        let judgements = std::mem::take(&mut self.sleepers.judgements);
        let judge = |store: StoreId| judgements.get(&store).copied().unwrap_or_default();
        self.for_each_peer(|peer| {
            let ends = matches!(peer.sleep.rest, Rest::Leading(_)) && !peer.has_quorum_of(judge);
            if ends {
                peer.group.quorum_lost(now);
            }
            ends
        });
        self.sleepers.judgements = judgements;
    }
}
