//! Sleep: what it costs, what ends it, and what nobody may sleep through (docs/life-of-a-sleep.md).

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use store::{AdminAction, SleepMessage, StoreMessage};
use types::{Outcome, Peer, PeerId, PeerRole, RegionId, StoreId};

use super::{FIRST, get, value};
use crate::cluster::{Cluster, STORES};

const SECOND: StoreId = STORES[1];
const THIRD: StoreId = STORES[2];

/// A cluster of three in which regions 1 and 2 and so many more sleep.
fn sleeping(count: u64) -> (Cluster, Vec<RegionId>) {
    let mut cluster = Cluster::with_stores(3);
    cluster.grow_to_three_voters();
    let mut regions = cluster.split_into(FIRST, count);
    regions.push(RegionId::FIRST);
    cluster.advance(Duration::from_secs(6));
    for (store, expected) in STORES.iter().zip([count + 2, count + 1, count + 1]) {
        assert_eq!(cluster.asleep_count(*store) as u64, expected, "store {store}");
    }
    cluster.sent.clear();
    (cluster, regions)
}

/// A cluster in which region 2 has two voters, and a learner on the third store.
fn with_learner() -> Cluster {
    let mut cluster = Cluster::with_stores(3);
    let mut peers = cluster.region(FIRST).peers.clone();
    for (store, role) in [(SECOND, PeerRole::Voter), (THIRD, PeerRole::Learner)] {
        peers.push(Peer { id: PeerId(store.0 + 1_000), store_id: store, role });
    }
    assert_eq!(cluster.admin(FIRST, AdminAction::SetPeers { peers, change_id: 1 }), Ok(()));
    cluster
}

/// From now on what a store agrees to does not arrive, but is kept here.
fn hold_agreements(cluster: &mut Cluster, of: StoreId) -> Rc<RefCell<Vec<StoreMessage>>> {
    let held = Rc::new(RefCell::new(Vec::new()));
    let holding = Rc::clone(&held);
    cluster.lose(move |from, _, message| {
        let is_held = from == of && matches!(message, StoreMessage::Sleep(SleepMessage::Agreed { .. }));
        if is_held {
            holding.borrow_mut().push(message.clone());
        }
        is_held
    });
    held
}

fn raft_count(cluster: &Cluster) -> usize {
    cluster.sent.iter().filter(|(_, message)| matches!(message, StoreMessage::Raft(_))).count()
}

#[test]
fn idle_regions_say_nothing_and_stores_say_no_more_for_many_than_for_one() {
    let mut told = Vec::new();
    for count in [1, 60] {
        let (mut cluster, _) = sleeping(count);
        cluster.advance(Duration::from_secs(20));
        assert_eq!(raft_count(&cluster), 0, "who sleeps says nothing");
        told.push(cluster.sent.len());
    }
    assert_eq!(told[0], told[1], "beats and digests are of stores");
}

#[test]
fn a_store_at_rest_beats_half_as_often() {
    let (mut cluster, regions) = sleeping(1);
    let beats_in_two_seconds = |cluster: &mut Cluster| {
        cluster.sent.clear();
        cluster.advance(Duration::from_secs(2));
        cluster.sent.iter().filter(|(_, message)| matches!(message, StoreMessage::Beat(_))).count()
    };
    let at_rest = beats_in_two_seconds(&mut cluster);
    cluster.put_to_each(&regions);
    // Liveness asks the raft workers twice a second.
    cluster.advance(Duration::from_millis(700));
    let at_work = beats_in_two_seconds(&mut cluster);
    assert!((57..=63).contains(&at_rest), "{at_rest} beats of three stores to two others each");
    assert!((117..=123).contains(&at_work), "{at_work} beats of three stores to two others each");
    // Nor does it where it waits for a store to come back.
    cluster.kill(THIRD);
    cluster.advance(Duration::from_secs(8));
    assert_ne!(cluster.asleep_count(FIRST), 0);
    let with_debt = beats_in_two_seconds(&mut cluster);
    assert!((77..=83).contains(&with_debt), "{with_debt} beats of two stores to two others each");
}

#[test]
fn regions_fall_asleep_in_a_few_messages_whatever_their_number() {
    let mut cluster = Cluster::with_stores(3);
    cluster.grow_to_three_voters();
    cluster.split_into(FIRST, 60);
    cluster.sent.clear();
    cluster.advance(Duration::from_secs(6));
    assert_eq!(cluster.asleep_count(FIRST), 62);
    let offers = cluster.sent.iter().filter(|(_, message)| {
        matches!(message, StoreMessage::Sleep(SleepMessage::Offer { .. } | SleepMessage::Agreed { .. }))
    });
    let count = offers.count();
    assert!(count <= 24, "61 regions took {count} messages");
}

#[test]
fn a_write_to_a_cold_region_costs_no_round_trip_more() {
    let (mut cluster, _) = sleeping(0);
    let put = cluster.start_put(FIRST, "a", "1");
    // Nothing but what is under way now: no time passes.
    cluster.settle();
    assert_eq!(put.lock().expect("no test panics here").take(), Some(Ok(Outcome::Done)));
    let appends = cluster.sent.iter().filter(|(lane, _)| *lane == store::Lane::Append).count();
    assert!(appends <= 4, "an append to each follower and an answer of each: {appends}");
    // It goes back to sleep.
    cluster.advance(Duration::from_secs(5));
    assert_eq!(cluster.asleep_count(FIRST), 2);
    assert_eq!(cluster.asleep_count(THIRD), 1);
}

#[test]
fn a_region_that_is_read_stays_awake_and_a_cold_one_is_read_by_read_index() {
    let (mut cluster, _) = sleeping(0);
    assert_eq!(cluster.put(FIRST, "a", "1"), Ok(Outcome::Done));
    for _ in 0..60 {
        cluster.advance(Duration::from_millis(100));
        assert_eq!(cluster.read(FIRST, get("a")), value("1"));
        assert_eq!(cluster.asleep_count(THIRD), 0, "somebody reads");
    }
    cluster.advance(Duration::from_secs(8));
    assert_eq!(cluster.asleep_count(THIRD), 1);
    cluster.sent.clear();
    assert_eq!(cluster.read(FIRST, get("a")), value("1"));
    assert!(raft_count(&cluster) > 0, "a sleeping leader holds no lease: it asks");
    assert_eq!(cluster.read_replica(THIRD, get("a")), value("1"));
}

#[test]
fn the_followers_of_a_leader_whose_store_dies_elect_another_at_once() {
    let (mut cluster, regions) = sleeping(20);
    cluster.kill(FIRST);
    cluster.advance(Duration::from_millis(1_200));
    for region in regions {
        assert_eq!(cluster.leaders(region).len(), 1, "region {region}");
    }
    cluster.advance(Duration::from_secs(6));
    for store in [SECOND, THIRD] {
        assert_eq!(cluster.asleep_count(store), 21, "a dead store keeps nobody awake: {store}");
    }
}

#[test]
fn a_debt_is_paid_when_the_store_is_back() {
    let (mut cluster, regions) = sleeping(3);
    // Cut off, not killed: it comes back in the same run.
    cluster.cut(THIRD);
    cluster.advance(Duration::from_secs(1));
    assert_eq!(cluster.put(FIRST, "a", "1"), Ok(Outcome::Done));
    cluster.advance(Duration::from_secs(6));
    assert_eq!(
        cluster.asleep_count(FIRST),
        regions.len() + 1,
        "it sleeps although one store lacks the write"
    );
    cluster.heal(THIRD);
    cluster.advance(Duration::from_millis(1_500));
    assert_eq!(cluster.stored(THIRD, "a").as_deref(), Some(b"1".as_slice()));
    cluster.advance(Duration::from_secs(8));
    assert_eq!(cluster.asleep_count(THIRD), regions.len());
}

#[test]
fn a_store_that_starts_again_wakes_what_it_led_and_what_it_followed() {
    let (mut cluster, regions) = sleeping(10);
    for restarted in [SECOND, FIRST] {
        cluster.restart(restarted);
        cluster.advance(Duration::from_millis(2_000));
        for region in &regions {
            let leaders = cluster.leaders(*region);
            assert_eq!(leaders.len(), 1, "region {region}");
            let terms = STORES.map(|id| cluster.picture(id, *region).expect("it has a peer").term);
            assert!(terms.iter().all(|term| *term == terms[0]), "region {region}: {terms:?}");
        }
        cluster.advance(Duration::from_secs(6));
        assert_eq!(cluster.asleep_count(SECOND), regions.len());
        assert_eq!(cluster.asleep_count(THIRD), regions.len());
    }
}

#[test]
fn a_restarted_follower_disturbs_no_leader() {
    let (mut cluster, regions) = sleeping(10);
    let before: Vec<_> =
        regions.iter().map(|id| cluster.picture(FIRST, *id).expect("it leads").term).collect();
    cluster.restart(SECOND);
    cluster.advance(Duration::from_secs(3));
    let after: Vec<_> =
        regions.iter().map(|id| cluster.picture(FIRST, *id).expect("it leads").term).collect();
    assert_eq!(before, after);
}

#[test]
fn a_cluster_that_starts_again_is_led_soon_with_votes_in_few_batches() {
    let (mut cluster, regions) = sleeping(60);
    cluster.sent.clear();
    let disks = STORES.map(|id| cluster.kill(id));
    for (id, disk) in STORES.into_iter().zip(disks) {
        cluster.revive(id, disk);
    }
    cluster.advance(Duration::from_millis(2_000));
    for region in &regions {
        assert_eq!(cluster.leaders(*region).len(), 1, "region {region}");
    }
}

#[test]
fn a_sleeping_leader_that_no_quorum_confirms_steps_down() {
    let (mut cluster, regions) = sleeping(5);
    // It hears both others, and is not heard.
    cluster.cut_link(FIRST, SECOND);
    cluster.cut_link(FIRST, THIRD);
    cluster.advance(Duration::from_millis(1_500));
    for region in &regions {
        let leaders = cluster.leaders(*region);
        assert!(!leaders.contains(&FIRST), "region {region} is led from {leaders:?}");
        assert_eq!(leaders.len(), 1, "region {region}");
    }
    cluster.heal_link(FIRST, SECOND);
    cluster.heal_link(FIRST, THIRD);
    cluster.advance(Duration::from_secs(10));
    assert_eq!(cluster.asleep_count(THIRD), regions.len());
}

#[test]
fn one_deaf_follower_deposes_no_leader() {
    let (mut cluster, regions) = sleeping(5);
    let before: Vec<_> =
        regions.iter().map(|id| cluster.picture(FIRST, *id).expect("it leads").term).collect();
    cluster.cut_link(FIRST, SECOND);
    cluster.advance(Duration::from_secs(10));
    cluster.heal_link(FIRST, SECOND);
    cluster.advance(Duration::from_secs(10));
    for (region, term) in regions.iter().zip(before) {
        assert_eq!(cluster.leaders(*region), [FIRST], "region {region}");
        assert_eq!(cluster.picture(THIRD, *region).expect("it has a peer").term, term);
    }
    assert_eq!(cluster.asleep_count(SECOND), regions.len());
}

/// Where thousands of regions are awake, rounds take long, and agreements with them: who gave up on them and woke the
/// others again would never fall asleep.
#[test]
fn an_agreement_that_takes_long_counts_and_those_who_agreed_sleep_on() {
    let (mut cluster, _) = sleeping(0);
    let held = hold_agreements(&mut cluster, THIRD);
    cluster.put(FIRST, "a", "1").expect("the region wakes");
    cluster.advance(Duration::from_millis(3_300));
    assert_eq!(held.borrow().len(), 1, "an offer is under way");
    for _ in 0..20 {
        cluster.advance(Duration::from_millis(100));
        assert_eq!(cluster.asleep_count(SECOND), 1, "who has agreed sleeps through the leader's heartbeats");
        assert!(!cluster.picture(FIRST, RegionId::FIRST).expect("it leads").is_asleep);
    }
    cluster.lose_nothing();
    let agreed = held.borrow_mut().pop().expect("it was held");
    cluster.receive(FIRST, THIRD, agreed);
    assert_eq!((cluster.asleep_count(FIRST), cluster.asleep_count(THIRD)), (2, 1));
}

/// A follower that agreed and was woken, because its agreement did not come in time, is awake when the next offer goes
/// out: of the same term and the same log. What it said of the first one must not let the leader fall asleep without it:
/// a learner, which never campaigns, would be awake beside it for ever.
#[test]
fn an_agreement_to_an_earlier_offer_does_not_count_for_the_next() {
    let mut cluster = with_learner();
    cluster.advance(Duration::from_secs(6));
    assert_eq!(STORES.map(|store| cluster.asleep_count(store)), [2, 1, 1]);
    let (held, is_lost) = (Rc::new(RefCell::new(None)), Rc::new(Cell::new(false)));
    let (holding, losing) = (Rc::clone(&held), Rc::clone(&is_lost));
    // The third store hears of one offer, and what it says of that comes late.
    cluster.lose(move |from, to, message| {
        let StoreMessage::Sleep(message) = message else { return false };
        let mut held = holding.borrow_mut();
        if to == THIRD && matches!(message, SleepMessage::Offer { .. }) {
            losing.set(held.is_some());
            return held.is_some();
        }
        let is_held = from == THIRD && matches!(message, SleepMessage::Agreed { .. });
        if is_held {
            *held = Some(StoreMessage::Sleep(message.clone()));
        }
        is_held
    });
    assert_eq!(cluster.put(FIRST, "a", "1"), Ok(Outcome::Done));
    while !is_lost.get() {
        cluster.advance(Duration::from_millis(1));
    }
    assert_eq!(cluster.asleep_count(SECOND), 1, "the second offer is out");
    assert_eq!(cluster.asleep_count(THIRD), 0, "the first offer was void");
    cluster.lose_nothing();
    let agreed = held.borrow_mut().take().expect("it was held");
    cluster.receive(FIRST, THIRD, agreed);
    assert!(!cluster.picture(FIRST, RegionId::FIRST).expect("it leads").is_asleep, "a follower is awake");
    cluster.advance(Duration::from_secs(60));
    assert_eq!(STORES.map(|store| cluster.asleep_count(store)), [2, 1, 1]);
}

/// A follower that has agreed wakes while the leader waits for another one. The heartbeats by which the leader waits do not
/// show that it knows: else it would fall asleep beside a learner that is awake for ever.
#[test]
fn a_follower_that_wakes_while_sleep_is_offered_says_so() {
    let mut cluster = with_learner();
    cluster.advance(Duration::from_secs(6));
    assert_eq!(STORES.map(|store| cluster.asleep_count(store)), [2, 1, 1]);
    let held = hold_agreements(&mut cluster, SECOND);
    assert_eq!(cluster.put(FIRST, "a", "1"), Ok(Outcome::Done));
    while held.borrow().is_empty() {
        cluster.advance(Duration::from_millis(1));
    }
    assert_eq!(STORES.map(|store| cluster.asleep_count(store)), [1, 1, 1], "the leader waits for an answer");
    let heartbeat = cluster.late_heartbeat(FIRST, THIRD);
    cluster.receive(THIRD, FIRST, heartbeat);
    assert_eq!(cluster.asleep_count(THIRD), 0, "it does not say that the leader waits");
    cluster.advance(Duration::from_millis(400));
    cluster.lose_nothing();
    let agreed = held.borrow_mut().pop().expect("it was held");
    cluster.receive(FIRST, SECOND, agreed);
    assert!(!cluster.picture(FIRST, RegionId::FIRST).expect("it leads").is_asleep, "a follower is awake");
    cluster.advance(Duration::from_secs(60));
    assert_eq!(STORES.map(|store| cluster.asleep_count(store)), [2, 1, 1]);
}

#[test]
fn a_wake_that_is_lost_is_said_again() {
    let (mut cluster, _) = sleeping(0);
    // A read at a follower wakes it; neither its question nor its first wakes arrive.
    let mut lost = 0;
    cluster.lose(move |from, _, message| {
        let is_wake = matches!(message, StoreMessage::Sleep(SleepMessage::Wake(_)));
        let is_lost = from == THIRD && (matches!(message, StoreMessage::Raft(_)) || is_wake) && lost < 3;
        lost += usize::from(is_lost);
        is_lost
    });
    let read = cluster.start_read_at_replica(THIRD, get("a"));
    cluster.advance(Duration::from_millis(400));
    assert_eq!(cluster.asleep_count(FIRST), 1, "the leader is awake, long before anyone campaigns");
    assert!(!cluster.picture(FIRST, RegionId::FIRST).expect("it leads").is_asleep);
    drop(read);
}

#[test]
fn a_leader_that_fell_asleep_while_a_heartbeat_was_under_way_is_woken_and_not_deposed() {
    let (mut cluster, _) = sleeping(0);
    let term = cluster.picture(FIRST, RegionId::FIRST).expect("it leads").term;
    let heartbeat = cluster.late_heartbeat(FIRST, SECOND);
    cluster.receive(SECOND, FIRST, heartbeat);
    assert!(!cluster.picture(SECOND, RegionId::FIRST).expect("it follows").is_asleep);
    cluster.advance(Duration::from_secs(5));
    assert_eq!(cluster.picture(SECOND, RegionId::FIRST).expect("it follows").term, term);
    assert_eq!(cluster.asleep_count(SECOND), 1);
}

#[test]
fn nobody_sleeps_by_the_word_of_a_leader_that_is_gone_behind_a_healthy_beat() {
    let (mut cluster, _) = sleeping(2);
    // The leader's peer forgets, as a defect might make it, that it led: its store goes on to beat. All that would tell
    // the followers is lost but for what stores compare.
    cluster.lose(|from, _, message| from == FIRST && matches!(message, StoreMessage::Raft(_)));
    cluster.admin(FIRST, AdminAction::TransferLeader(PeerId(2_001))).expect("it is begun");
    cluster.advance(Duration::from_secs(1));
    cluster.lose_nothing();
    cluster.advance(Duration::from_secs(12));
    assert_eq!(cluster.leaders(RegionId::FIRST).len(), 1);
}

#[test]
fn a_store_whose_raft_worker_does_nothing_any_more_does_not_pass_for_alive() {
    let (mut cluster, regions) = sleeping(4);
    cluster.hang(FIRST, "raft-0");
    cluster.advance(Duration::from_millis(3_500));
    for region in &regions {
        let leaders = cluster.leaders(*region);
        assert!(
            leaders.contains(&SECOND) || leaders.contains(&THIRD),
            "region {region} is led from {leaders:?}"
        );
    }
}

#[test]
fn a_store_that_was_stalled_itself_suspects_nobody() {
    let (mut cluster, regions) = sleeping(4);
    let before: Vec<_> =
        regions.iter().map(|id| cluster.picture(FIRST, *id).expect("it leads").term).collect();
    // Long enough to be silent for the others' taste, but not for long.
    cluster.stall(SECOND, Duration::from_millis(550));
    cluster.advance(Duration::from_secs(5));
    cluster.stall(SECOND, Duration::from_millis(3_000));
    cluster.advance(Duration::from_secs(15));
    let after: Vec<_> =
        regions.iter().map(|id| cluster.picture(FIRST, *id).expect("it leads").term).collect();
    assert_eq!(before, after);
    assert_eq!(cluster.asleep_count(SECOND), regions.len());
}

#[test]
fn a_flapping_link_does_not_wake_regions_with_every_flap() {
    let (mut cluster, regions) = sleeping(4);
    cluster.cut(THIRD);
    cluster.advance(Duration::from_secs(5));
    assert_eq!(cluster.asleep_count(FIRST), regions.len() + 1);
    // Up for 300 ms, down for 700: after some flaps the store is trusted no more until it is up for longer.
    for _ in 0..6 {
        cluster.heal(THIRD);
        cluster.advance(Duration::from_millis(300));
        cluster.cut(THIRD);
        cluster.advance(Duration::from_millis(700));
    }
    cluster.advance(Duration::from_secs(4));
    cluster.sent.clear();
    for _ in 0..6 {
        cluster.heal(THIRD);
        cluster.advance(Duration::from_millis(300));
        cluster.cut(THIRD);
        cluster.advance(Duration::from_millis(700));
    }
    let from_leader = cluster
        .sent
        .iter()
        .filter(|(_, message)| matches!(message, StoreMessage::Sleep(SleepMessage::Offer { .. })));
    assert_eq!(from_leader.count(), 0, "nobody has woken for it");
}

/// A store that comes back while sleep is being agreed to finds the leader awake: else nobody would pay the debt, for
/// its return has been noticed already. A learner would not even ask.
#[test]
fn a_store_that_comes_back_while_sleep_is_offered_is_not_slept_without() {
    let mut cluster = with_learner();
    // Whoever was live for long is trusted again after two beats.
    cluster.pass(Duration::from_secs(70));
    cluster.cut(THIRD);
    cluster.advance(Duration::from_secs(1));
    assert_eq!(cluster.put(FIRST, "a", "1"), Ok(Outcome::Done));
    let is_offered = |cluster: &Cluster| {
        let is_offer =
            |message: &StoreMessage| matches!(message, StoreMessage::Sleep(SleepMessage::Offer { .. }));
        cluster.sent.iter().any(|(_, message)| is_offer(message))
    };
    cluster.sent.clear();
    cluster.advance(Duration::from_millis(2_900));
    cluster.hang(SECOND, "raft-0");
    while !is_offered(&cluster) {
        cluster.advance(Duration::from_millis(1));
    }
    cluster.heal(THIRD);
    cluster.advance(Duration::from_millis(250));
    cluster.resume(SECOND, "raft-0");
    cluster.advance(Duration::from_secs(4));
    assert_eq!(cluster.stored(THIRD, "a").as_deref(), Some(b"1".as_slice()));
}
