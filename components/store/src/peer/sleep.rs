//! Sleep, as one peer knows it (docs/life-of-a-sleep.md): what it has offered or agreed to, and when it may sleep again.

use std::time::Duration;

use raft::SleepContract;
use types::{Incarnation, Instant, PeerId, StoreId};

use super::Peer;
use crate::{
    Config,
    limits::{AWAKE_MIN, AWAKE_PEERS_AMPLE, OFFER_RETRY_MAX, OFFER_RETRY_MIN},
    liveness::{Judgement, SleepOffer, Sleeper},
};

/// When and how a peer rests.
#[derive(Debug)]
pub(crate) struct Sleep {
    pub(crate) rest: Rest,
    /// When somebody wanted something of the region last.
    requested_at: Instant,
    /// When it woke, or had another role, last: whatever led to that may not be over.
    roused_at: Instant,
    /// Not before this, for the last offer came to nothing.
    next_offer: Instant,
    /// Offers in a row that came to nothing.
    failed_count: u32,
    /// When a message came last that only a leader sends, and none that is about to sleep.
    pub(super) leader_heard_at: Instant,
}

/// How a peer rests.
#[derive(Debug)]
pub(crate) enum Rest {
    /// Not at all.
    Awake,
    /// It leads, has offered sleep, and beats on until all have agreed.
    Offered(Box<Offered>),
    /// It sleeps, and leads.
    Leading(Box<LeadingSleep>),
    /// It sleeps, and follows.
    Following(Box<FollowingSleep>),
}

/// An offer under way.
#[derive(Debug)]
pub(crate) struct Offered {
    number: u64,
    contract: SleepContract,
    /// Who has to agree.
    expected: Vec<(PeerId, StoreId)>,
    /// Who has.
    agreed: Vec<(PeerId, StoreId)>,
    /// Whose stores are down.
    debts: Vec<StoreId>,
    /// It is given up then.
    until: Instant,
}

/// What a sleeping leader relies on.
#[derive(Debug)]
pub(crate) struct LeadingSleep {
    pub(crate) sleeper: Sleeper,
    /// The stores that have agreed.
    pub(crate) agreed: Box<[StoreId]>,
    /// Stores that were down, and do not have everything: the leader wakes when one of them is back.
    pub(crate) debts: Box<[StoreId]>,
}

/// What a sleeping follower relies on.
#[derive(Debug)]
pub(crate) struct FollowingSleep {
    pub(crate) sleeper: Sleeper,
    pub(crate) leader_store: StoreId,
    /// The run of that store in which it leads.
    pub(crate) incarnation: Incarnation,
}

impl Sleep {
    /// Being born, or loaded when a store starts, is no request.
    pub(super) fn new(now: Instant) -> Sleep {
        Sleep {
            rest: Rest::Awake,
            requested_at: Instant::ZERO,
            roused_at: now,
            next_offer: Instant::ZERO,
            failed_count: 0,
            leader_heard_at: Instant::ZERO,
        }
    }

    /// Somebody wants something of the region.
    pub(super) fn note_request(&mut self, now: Instant) {
        self.requested_at = now;
        self.failed_count = 0;
    }

    /// It has woken.
    pub(crate) fn wake(&mut self, now: Instant) {
        self.rest = Rest::Awake;
        self.stay_awake(now);
    }

    /// It has another role.
    pub(super) fn stay_awake(&mut self, now: Instant) {
        self.roused_at = now;
    }

    pub(crate) fn is_asleep(&self) -> bool {
        matches!(self.rest, Rest::Leading(_) | Rest::Following(_))
    }

    /// The offer came to nothing.
    fn fail(&mut self, now: Instant) {
        metrics::counter!(telemetry::names::SLEEP_OFFERS_FAILED).increment(1);
        let wait = OFFER_RETRY_MIN * 2_u32.saturating_pow(self.failed_count.min(8));
        self.failed_count += 1;
        self.rest = Rest::Awake;
        self.next_offer = now + wait.min(OFFER_RETRY_MAX);
    }

    /// When sleep shall be thought of.
    fn due(&self, patience: Patience) -> Instant {
        let unasked = self.requested_at + patience.without_request;
        unasked.max(self.roused_at + patience.once_roused).max(self.next_offer)
    }
}

/// How long a region stays awake.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// After the last request.
    without_request: Duration,
    /// After it woke, or had another leader.
    once_roused: Duration,
}

impl Patience {
    /// What holds where so many peers are awake.
    pub(crate) fn among(awake: u32, config: &Config) -> Patience {
        let shorten = |time: Duration, min: Duration| {
            if awake <= AWAKE_PEERS_AMPLE {
                return time;
            }
            (time.saturating_mul(AWAKE_PEERS_AMPLE) / awake).max(min.min(time))
        };
        let once_roused = shorten(AWAKE_MIN, 2 * config.heartbeat_interval);
        Patience { without_request: shorten(config.sleep_after, once_roused), once_roused }
    }
}

impl LeadingSleep {
    fn ends_with_return_of(&self, store: StoreId, is_restarted: bool) -> bool {
        self.debts.contains(&store) || (is_restarted && self.agreed.contains(&store))
    }
}

impl Offered {
    /// Whether it does not hold any more when a store is heard again, which may have started anew.
    fn ends_with_return_of(&self, store: StoreId, is_restarted: bool) -> bool {
        self.debts.contains(&store)
            || (is_restarted && self.expected.iter().any(|(_, other)| *other == store))
    }

    fn is_complete(&self) -> bool {
        self.expected.len() == self.agreed.len()
    }
}

impl Peer {
    /// When this peer wants a round for the sake of sleep.
    pub(super) fn sleep_deadline(&self, patience: Patience) -> Instant {
        match &self.sleep.rest {
            Rest::Awake if self.is_leader() => self.sleep.due(patience),
            Rest::Offered(offered) => offered.until,
            Rest::Awake | Rest::Leading(_) | Rest::Following(_) => Instant::MAX,
        }
    }

    /// Whether this leader has had nothing to do for long enough. Asks again later, whatever the answer.
    pub(crate) fn grows_drowsy(&mut self, now: Instant, patience: Patience) -> bool {
        let is_awake_leader = matches!(self.sleep.rest, Rest::Awake) && self.is_leader();
        if !is_awake_leader || now < self.sleep.due(patience) {
            return false;
        }
        if self.view.update(|view| std::mem::take(&mut view.was_read)) {
            self.sleep.note_request(now);
            return false;
        }
        self.sleep.next_offer = now + OFFER_RETRY_MIN;
        true
    }

    /// Offers sleep: what the other stores are told. Void at `until`, unless all have agreed.
    pub(crate) fn offer_sleep(
        &mut self,
        number: u64,
        until: Instant,
        judge: impl Fn(StoreId) -> Judgement,
    ) -> Vec<(StoreId, SleepOffer)> {
        if !matches!(self.sleep.rest, Rest::Awake) {
            return Vec::new();
        }
        let Some(offered) = self.contract(number, until, judge) else { return Vec::new() };
        let contract = offered.contract;
        let offer_of = |(follower, store): &(PeerId, StoreId)| {
            let offer = SleepOffer {
                region_id: self.region_id,
                leader: self.me.id,
                follower: *follower,
                term: contract.term,
                last_index: contract.last_index,
                number,
            };
            (*store, offer)
        };
        let offers = offered.expected.iter().map(offer_of).collect();
        self.sleep.rest = Rest::Offered(Box::new(offered));
        self.group.offer_sleep(contract);
        offers
    }

    /// What has to be agreed to before this leader's region sleeps. `None`: it does not sleep now.
    fn contract(&self, number: u64, until: Instant, judge: impl Fn(StoreId) -> Judgement) -> Option<Offered> {
        if !self.is_leader() || self.has_work() {
            return None;
        }
        let others = self.group.configuration().peers().into_iter().filter(|id| *id != self.me.id);
        let others: Option<Vec<_>> = others.map(|id| self.find_store(id).map(|store| (id, store))).collect();
        let others = others?;
        let is_down = |store: StoreId| !judge(store).is_live;
        // A store that lives and does not hear this one would not agree.
        if others.iter().any(|(_, store)| judge(*store).is_live && !judge(*store).is_confirming) {
            return None;
        }
        let store_of = |id: PeerId| others.iter().find(|(peer, _)| *peer == id).map(|(_, store)| *store);
        let contract = self.group.sleep_contract(|id| store_of(id).is_none_or(is_down)).ok()?;
        let (down, expected): (Vec<_>, Vec<_>) =
            others.iter().copied().partition(|(_, store)| is_down(*store));
        let debts = down.into_iter().map(|(_, store)| store).collect();
        Some(Offered { number, contract, expected, agreed: Vec::new(), debts, until })
    }

    fn withdraw_offer(&mut self, now: Instant) {
        self.group.withdraw_sleep();
        self.sleep.fail(now);
    }

    /// A store's peer sleeps by the offer of this one.
    pub(crate) fn on_agreed(&mut self, from: StoreId, offer: &SleepOffer) {
        let Rest::Offered(offered) = &mut self.sleep.rest else { return };
        let agreed = (offer.follower, from);
        // That term and log are the same says nothing: whoever agreed to an earlier offer may have been woken since.
        if offer.leader == self.me.id
            && offer.number == offered.number
            && offered.expected.contains(&agreed)
            && !offered.agreed.contains(&agreed)
        {
            offered.agreed.push(agreed);
        }
    }

    /// Ends the offer that is under way, if all have agreed or it is time: whether this leader sleeps now.
    pub(crate) fn settle_offer(&mut self, now: Instant, judge: impl Fn(StoreId) -> Judgement) -> bool {
        let Rest::Offered(offered) = &self.sleep.rest else { return false };
        let is_unchanged = self.is_leader()
            && !self.has_work()
            && self.group.sleep_contract(|id| !offered.expected.iter().any(|(peer, _)| *peer == id))
                == Ok(offered.contract);
        // Whoever has agreed and is down since has lost the agreement.
        let is_kept = offered.expected.iter().all(|(_, store)| judge(*store).is_live);
        if !is_unchanged || !is_kept || now >= offered.until {
            self.withdraw_offer(now);
            return false;
        }
        if !offered.is_complete() {
            return false;
        }
        let has_quorum = raft::quorum::joint(self.group.configuration(), |id| {
            id == self.me.id || offered.agreed.iter().any(|(peer, _)| *peer == id)
        });
        let contract = offered.contract;
        let sleeper = Sleeper { region_id: self.region_id, term: contract.term };
        let agreed = offered.agreed.iter().map(|(_, store)| *store).collect();
        let debts = offered.debts.iter().copied().collect();
        if !has_quorum || self.group.sleep(contract).is_err() {
            self.withdraw_offer(now);
            return false;
        }
        self.shrink();
        self.sleep.rest = Rest::Leading(Box::new(LeadingSleep { sleeper, agreed, debts }));
        self.sleep.failed_count = 0;
        true
    }

    /// Falls asleep as the leader on another store offers, if this peer is where the offer says.
    pub(crate) fn accept_sleep(
        &mut self,
        from: StoreId,
        incarnation: Incarnation,
        offer: &SleepOffer,
    ) -> bool {
        let contract = SleepContract { term: offer.term, last_index: offer.last_index };
        let is_for_me = offer.follower == self.me.id
            && self.group.leader() == Some(offer.leader)
            && self.find_store(offer.leader) == Some(from);
        if !is_for_me || self.is_leader() || self.has_work() {
            return false;
        }
        if let Rest::Following(asleep) = &self.sleep.rest {
            // Its agreement may have been lost.
            let own = SleepContract { term: asleep.sleeper.term, last_index: self.group.last().index };
            return self.group.is_asleep() && asleep.incarnation == incarnation && own == contract;
        }
        if self.group.sleep(contract).is_err() {
            return false;
        }
        let sleeper = Sleeper { region_id: self.region_id, term: contract.term };
        let asleep = FollowingSleep { sleeper, leader_store: from, incarnation };
        self.shrink();
        self.sleep.rest = Rest::Following(Box::new(asleep));
        true
    }

    /// When a leader last showed itself that is not about to sleep.
    pub(crate) fn leader_heard_at(&self) -> Instant {
        self.sleep.leader_heard_at
    }

    /// A store is heard again, which may have started anew: a leader that owes it a debt, or whose peer there has
    /// forgotten its sleep, wakes, or does not even fall asleep. Gives back whether this is one.
    pub(crate) fn on_store_back(&mut self, now: Instant, store: StoreId, is_restarted: bool) -> bool {
        let is_concerned = match &self.sleep.rest {
            Rest::Leading(asleep) => asleep.ends_with_return_of(store, is_restarted),
            Rest::Offered(offered) => offered.ends_with_return_of(store, is_restarted),
            Rest::Awake | Rest::Following(_) => false,
        };
        if is_concerned {
            self.on_follower_awake(now);
        }
        is_concerned
    }

    /// A follower of this leader is awake.
    pub(crate) fn on_follower_awake(&mut self, now: Instant) {
        if self.group.is_asleep() {
            self.group.wake(now);
        } else if matches!(self.sleep.rest, Rest::Offered(_)) {
            self.withdraw_offer(now);
        }
    }

    /// Whether a quorum of the region's stores confirms that it hears this one.
    pub(crate) fn has_quorum_of(&self, judge: impl Fn(StoreId) -> Judgement) -> bool {
        raft::quorum::joint(self.group.configuration(), |id| {
            let confirms = |store| judge(store).is_live && judge(store).is_confirming;
            id == self.me.id || self.find_store(id).is_some_and(confirms)
        })
    }

    /// Whether anything is open here that Raft does not know of.
    pub(crate) fn has_work(&self) -> bool {
        self.is_removed
            || self.change.is_some()
            || self.proposed_split.is_some()
            || self.splitting.is_some()
            || self.wish.is_some()
            || self.received.is_some()
            || self.installing.is_some()
            || self.region.is_none()
            || self.requests.as_ref().is_some_and(|requests| requests.has_any())
    }
}
