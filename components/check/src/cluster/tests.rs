use types::{
    Chain, Configuration, Epoch, HardState, Incarnation, Index, KeyRange, LogPosition, Peer, PeerId,
    PeerRole, Region, StoreId, Term,
};

use super::*;

const REGION_ID: RegionId = RegionId(2);
const NOW: Instant = Instant(1_000);

/// A position whose chain follows from index and term.
fn at(index: u64, term: u64) -> LogPosition {
    LogPosition { index: Index(index), term: Term(term), chain: Chain(u128::from(index * 1_000 + term)) }
}

fn region(id: RegionId, range: KeyRange, peer_ids: [u64; 3]) -> Region {
    let peer =
        |(place, id)| Peer { id: PeerId(id), store_id: StoreId(place as u64 + 1), role: PeerRole::Voter };
    Region { id, range, epoch: Epoch::FIRST, peers: peer_ids.into_iter().enumerate().map(peer).collect() }
}

/// Adds a region with a peer on each store. The first one leads term 3; all have applied index 10.
fn add_region(picture: &mut ClusterPicture, region: &Region) {
    let leader = region.peers[0].id;
    for peer in &region.peers {
        let log = LogPicture {
            vote: Some(leader),
            durable: HardState { term: Term(3), vote: Some(leader), commit: Index(8) },
            persisted_index: Index(12),
            truncated: at(4, 1),
            last: at(12, 3),
            positions: vec![at(6, 2)],
            flushed_index: Some(Index(5)),
            configuration: (Index(1), Configuration::of_voters(region.peers.iter().map(|peer| peer.id))),
        };
        let store = picture.stores.iter_mut().find(|store| store.id == peer.store_id).unwrap();
        store.peers.push(PeerPicture {
            region_id: region.id,
            peer_id: peer.id,
            is_leader: peer.id == leader,
            term: Term(3),
            commit_index: Index(10),
            applied: at(10, 3),
            descriptor: Some(region.clone()),
            digest: Some(77),
            log: Some(log),
            ..PeerPicture::default()
        });
    }
}

/// Three stores with one region.
fn cluster() -> ClusterPicture {
    let store = |id| StorePicture { id: StoreId(id), incarnation: Incarnation(1), ..StorePicture::default() };
    let mut picture = ClusterPicture { stores: (1..=3).map(store).collect() };
    add_region(&mut picture, &region(REGION_ID, KeyRange::ALL, [11, 12, 13]));
    picture
}

fn peer(picture: &mut ClusterPicture, store: usize) -> &mut PeerPicture {
    &mut picture.stores[store].peers[0]
}

fn log(picture: &mut ClusterPicture, store: usize) -> &mut LogPicture {
    peer(picture, store).log.as_mut().unwrap()
}

/// Shows the cluster, a change of it, and a change of that.
fn observe(
    first: impl FnOnce(&mut ClusterPicture),
    second: impl FnOnce(&mut ClusterPicture),
) -> Result<(), Violation> {
    let mut checker = Checker::new();
    let mut picture = cluster();
    checker.observe(NOW, &picture).unwrap();
    first(&mut picture);
    checker.observe(NOW, &picture)?;
    second(&mut picture);
    checker.observe(NOW, &picture)
}

fn nothing(_: &mut ClusterPicture) {}

#[track_caller]
fn assert_broken(invariant: Invariant, change: impl FnOnce(&mut ClusterPicture)) -> Violation {
    assert_broken_after(invariant, nothing, change)
}

#[track_caller]
fn assert_broken_after(
    invariant: Invariant,
    first: impl FnOnce(&mut ClusterPicture),
    second: impl FnOnce(&mut ClusterPicture),
) -> Violation {
    let violation = observe(first, second).expect_err("nothing was found");
    assert_eq!(violation.invariant, invariant, "{violation}");
    violation
}

/// Peer 12 follows peer 13, which has been elected in term 4.
fn elect_third(picture: &mut ClusterPicture) {
    peer(picture, 0).is_leader = false;
    peer(picture, 2).is_leader = true;
    for store in 0..3 {
        peer(picture, store).term = Term(4);
        log(picture, store).vote = Some(PeerId(13));
        log(picture, store).durable = HardState { term: Term(4), vote: Some(PeerId(13)), commit: Index(8) };
    }
}

/// All peers get and apply entries of a term.
fn advance(picture: &mut ClusterPicture, index: u64, term: u64) {
    for store in 0..3 {
        let peer = peer(picture, store);
        (peer.commit_index, peer.applied, peer.digest) = (Index(index), at(index, term), None);
        log(picture, store).last = at(index, term);
        log(picture, store).persisted_index = Index(index);
    }
}

#[test]
fn a_cluster_that_moves_on_is_right() {
    observe(|picture| advance(picture, 12, 3), nothing).unwrap();
    observe(elect_third, |picture| advance(picture, 13, 4)).unwrap();
}

#[test]
fn one_leader() {
    let violation = assert_broken(Invariant::OneLeader, |picture| peer(picture, 1).is_leader = true);
    assert_eq!(violation.to_string(), "0.000001s: I1 OneLeader, region 2: peers 11 and 12 both lead term 3");
    // Also one after the other.
    let resign = |picture: &mut ClusterPicture| peer(picture, 0).is_leader = false;
    assert_broken_after(Invariant::OneLeader, resign, |picture| peer(picture, 1).is_leader = true);
}

#[test]
fn log_matching() {
    assert_broken(Invariant::LogMatching, |picture| log(picture, 1).last.chain = Chain(1));
    assert_broken(Invariant::LogMatching, |picture| log(picture, 2).positions[0].chain = Chain(1));
    // Another term at the same index is another entry, as long as it is not committed.
    observe(|picture| log(picture, 1).last = at(12, 2), nothing).unwrap();
}

#[test]
fn committed_stays() {
    // A peer has applied another entry.
    assert_broken(Invariant::CommittedStays, |picture| peer(picture, 1).applied = at(10, 2));
    // It was seen committed earlier.
    let forget = |picture: &mut ClusterPicture| advance(picture, 11, 3);
    assert_broken_after(Invariant::CommittedStays, forget, |picture| {
        peer(picture, 0).log.as_mut().unwrap().positions = vec![at(10, 2)];
    });
}

#[test]
fn a_leader_has_what_was_committed() {
    assert_broken_after(Invariant::CommittedStays, elect_third, |picture| {
        peer(picture, 2).commit_index = Index(9);
        peer(picture, 2).applied = at(9, 3);
        log(picture, 2).last = at(9, 3);
        log(picture, 2).persisted_index = Index(9);
        // That is a restart: nothing else may be found before.
        picture.stores[2].incarnation = Incarnation(2);
    });
    // It has another entry at a committed index.
    assert_broken(Invariant::CommittedStays, |picture| {
        elect_third(picture);
        picture.stores[2].incarnation = Incarnation(2);
        peer(picture, 2).commit_index = Index(9);
        peer(picture, 2).applied = at(9, 3);
        log(picture, 2).positions = vec![at(10, 2)];
    });
}

#[test]
fn a_deposed_leader_may_lag() {
    // Peer 11 still leads term 3, and does not know what peer 13 has committed in term 4.
    let mut checker = Checker::new();
    let mut picture = cluster();
    checker.observe(NOW, &picture).unwrap();
    let old = picture.stores[0].clone();
    elect_third(&mut picture);
    advance(&mut picture, 20, 4);
    picture.stores[0] = old;
    checker.observe(NOW, &picture).unwrap();
}

#[test]
fn same_data() {
    assert_broken(Invariant::SameData, |picture| peer(picture, 1).digest = Some(78));
}

#[test]
fn durable_quorum() {
    let lose = |picture: &mut ClusterPicture, store: usize| log(picture, store).persisted_index = Index(9);
    observe(|picture| lose(picture, 1), nothing).unwrap();
    assert_broken(Invariant::DurableQuorum, |picture| {
        lose(picture, 1);
        lose(picture, 2);
    });
    // Of a store that is down nothing is known.
    observe(
        |picture| {
            lose(picture, 1);
            picture.stores.pop();
        },
        nothing,
    )
    .unwrap();
    // Both halves of a joint configuration count, once it is committed itself.
    let join = |picture: &mut ClusterPicture, index: u64| {
        let (since, configuration) = &mut log(picture, 0).configuration;
        *since = Index(index);
        configuration.voters = vec![PeerId(11)];
        configuration.outgoing = vec![PeerId(12), PeerId(13)];
        lose(picture, 1);
    };
    assert_broken(Invariant::DurableQuorum, |picture| join(picture, 10));
    observe(|picture| join(picture, 11), nothing).unwrap();
}

#[test]
fn tiling() {
    let split = |picture: &mut ClusterPicture, start_key: &'static str| {
        add_region(picture, &region(RegionId(3), KeyRange::new(start_key, ""), [21, 22, 23]));
        for store in 0..3 {
            let descriptor = peer(picture, store).descriptor.as_mut().unwrap();
            descriptor.range = KeyRange::new("", "m");
            descriptor.epoch.version += 1;
        }
    };
    observe(|picture| split(picture, "m"), nothing).unwrap();
    let violation = assert_broken(Invariant::Tiling, |picture| split(picture, "l"));
    assert!(violation.message.contains("region 2 with"), "{violation}");

    let mut picture = cluster();
    split(&mut picture, "m");
    for store in 0..3 {
        for peer in &mut picture.stores[store].peers {
            peer.commit_index = Index(10);
        }
    }
    check_settled(NOW, &picture).unwrap();
    let mut gap = cluster();
    split(&mut gap, "n");
    assert_eq!(check_settled(NOW, &gap).unwrap_err().invariant, Invariant::Tiling);
    for store in &mut gap.stores {
        store.peers.pop();
    }
    assert_eq!(check_settled(NOW, &gap).unwrap_err().invariant, Invariant::Tiling);
    assert_eq!(check_settled(NOW, &ClusterPicture::default()).unwrap_err().invariant, Invariant::Tiling);
}

#[test]
fn the_placement_group_has_no_range() {
    observe(|picture| add_region(picture, &region(RegionId::PLACEMENT, KeyRange::ALL, [1, 2, 3])), nothing)
        .unwrap();
}

#[test]
fn epochs() {
    let change = |picture: &mut ClusterPicture| {
        peer(picture, 1).descriptor.as_mut().unwrap().range = KeyRange::new("", "m");
    };
    assert_broken(Invariant::Epochs, change);
    let raise = |picture: &mut ClusterPicture| {
        change(picture);
        peer(picture, 1).descriptor.as_mut().unwrap().epoch.version = 2;
    };
    observe(raise, nothing).unwrap();
    assert_broken_after(Invariant::Epochs, raise, |picture| {
        peer(picture, 1).descriptor = peer(picture, 0).descriptor.clone();
    });
}

#[test]
fn no_return() {
    let destroyed = || cluster().stores[1].peers.pop().unwrap();
    let destroy = |picture: &mut ClusterPicture| drop(picture.stores[1].peers.pop());
    assert_broken_after(Invariant::NoReturn, destroy, |picture| picture.stores[1].peers.push(destroyed()));
    // A new peer may come, and a store that was down brings its peers back.
    observe(destroy, |picture| {
        picture.stores[1].peers.push(PeerPicture { peer_id: PeerId(14), ..destroyed() });
    })
    .unwrap();
    let down = cluster().stores.pop().unwrap();
    observe(|picture| drop(picture.stores.pop()), |picture| picture.stores.push(down)).unwrap();
    // A peer has one home, and a region one peer on a store.
    assert_broken(Invariant::NoReturn, |picture| picture.stores[2].id = StoreId(4));
    assert_broken(Invariant::NoReturn, |picture| {
        picture.stores[1].peers.push(PeerPicture { peer_id: PeerId(14), ..destroyed() });
    });
}

#[test]
fn one_lease() {
    let lease =
        |picture: &mut ClusterPicture, store, until| peer(picture, store).lease_until = Some(Instant(until));
    observe(|picture| lease(picture, 0, 2_000), nothing).unwrap();
    assert_broken(Invariant::OneLease, |picture| {
        lease(picture, 0, 2_000);
        lease(picture, 1, 1_001);
    });
    observe(
        |picture| {
            lease(picture, 0, 2_000);
            lease(picture, 1, 1_000);
        },
        nothing,
    )
    .unwrap();
    // Nobody else leads meanwhile.
    let elect_early = |picture: &mut ClusterPicture, until| {
        let mut old = picture.stores[0].clone();
        old.peers[0].lease_until = Some(Instant(until));
        elect_third(picture);
        picture.stores[0] = old;
    };
    assert_broken(Invariant::OneLease, |picture| elect_early(picture, 1_001));
    observe(|picture| elect_early(picture, 1_000), nothing).unwrap();
}

#[test]
fn no_step_back() {
    let broken = |change: fn(&mut ClusterPicture)| assert_broken(Invariant::NoStepBack, change);
    broken(|picture| {
        peer(picture, 1).commit_index = Index(9);
        peer(picture, 1).applied = at(9, 3);
    });
    broken(|picture| peer(picture, 1).applied = at(9, 3));
    broken(|picture| {
        peer(picture, 1).term = Term(2);
        log(picture, 1).durable.term = Term(2);
    });
    broken(|picture| log(picture, 1).vote = Some(PeerId(13)));
    broken(|picture| log(picture, 1).durable.vote = Some(PeerId(13)));
    broken(|picture| log(picture, 1).durable.term = Term(2));
    broken(|picture| log(picture, 1).flushed_index = Some(Index(4)));
    broken(|picture| picture.stores[1].incarnation = Incarnation(0));
}

#[test]
fn a_restart_forgets_what_was_not_durable_and_nothing_else() {
    let restart = |picture: &mut ClusterPicture, commit: u64, applied: u64| {
        picture.stores[1].incarnation = Incarnation(2);
        peer(picture, 1).commit_index = Index(commit);
        peer(picture, 1).applied = at(applied, 3);
        peer(picture, 1).digest = None;
    };
    observe(|picture| restart(picture, 8, 5), nothing).unwrap();
    assert_broken(Invariant::NoStepBack, |picture| restart(picture, 7, 5));
    assert_broken(Invariant::NoStepBack, |picture| {
        restart(picture, 8, 4);
        log(picture, 1).truncated = at(4, 1);
        log(picture, 1).flushed_index = Some(Index(4));
    });
    assert_broken(Invariant::NoStepBack, |picture| {
        restart(picture, 8, 5);
        peer(picture, 1).term = Term(2);
        log(picture, 1).durable.term = Term(2);
    });
}

#[test]
fn log_and_data() {
    let broken = |change: fn(&mut ClusterPicture)| assert_broken(Invariant::LogAndData, change);
    broken(|picture| peer(picture, 1).applied = at(11, 3));
    broken(|picture| peer(picture, 1).commit_index = Index(13));
    broken(|picture| log(picture, 1).persisted_index = Index(13));
    broken(|picture| log(picture, 1).flushed_index = Some(Index(11)));
    broken(|picture| log(picture, 1).truncated = at(6, 2));
    broken(|picture| log(picture, 1).durable.term = Term(4));
    // A snapshot that is not flushed: its record stands for it.
    observe(
        |picture| {
            log(picture, 1).truncated = at(10, 3);
            log(picture, 1).flushed_index = None;
        },
        nothing,
    )
    .unwrap();
}

#[test]
fn budget() {
    let reserve = |picture: &mut ClusterPicture, reserved_bytes| {
        picture.stores[0].budget = Some(BudgetPicture { reserved_bytes, limit_bytes: 100 });
    };
    observe(|picture| reserve(picture, 100), nothing).unwrap();
    let violation = assert_broken(Invariant::Budget, |picture| reserve(picture, 101));
    assert_eq!(violation.region_id, None);
}

#[test]
fn quarantine() {
    let isolate = |picture: &mut ClusterPicture| {
        peer(picture, 1).is_quarantined = true;
        peer(picture, 1).digest = Some(78);
        log(picture, 1).last.chain = Chain(1);
    };
    observe(isolate, nothing).unwrap();
    assert_broken_after(Invariant::Quarantine, isolate, |picture| peer(picture, 1).is_leader = true);
}

#[test]
fn served() {
    check_settled(NOW, &cluster()).unwrap();
    let unserved = |change: fn(&mut ClusterPicture)| {
        let mut picture = cluster();
        change(&mut picture);
        let violation = check_settled(NOW, &picture).unwrap_err();
        assert_eq!(
            (violation.invariant, violation.region_id),
            (Invariant::Served, Some(REGION_ID)),
            "{violation}"
        );
    };
    unserved(|picture| peer(picture, 0).is_leader = false);
    unserved(|picture| peer(picture, 1).is_leader = true);
    unserved(|picture| peer(picture, 1).applied = at(9, 3));
    unserved(|picture| peer(picture, 1).commit_index = Index(11));
    unserved(|picture| peer(picture, 1).peer_id = PeerId(14));
    unserved(|picture| peer(picture, 1).is_quarantined = true);
    unserved(|picture| drop(picture.stores.pop()));
    unserved(|picture| {
        for store in 0..3 {
            peer(picture, store).descriptor.as_mut().unwrap().peers[0].role = PeerRole::IncomingVoter;
        }
    });
}

#[test]
fn what_a_later_leader_must_have() {
    let mut committed = CommittedLog::default();
    committed.record(at(10, 2), Term(5)).unwrap();
    committed.record(at(20, 6), Term(6)).unwrap();
    committed.record(at(15, 5), Term(7)).unwrap();
    let must_reach = |committed: &CommittedLog| [4, 5, 6, 7].map(|term| committed.must_reach(Term(term)).0);
    assert_eq!(must_reach(&committed), [0, 10, 20, 20]);
    committed.record(at(15, 5), Term(5)).unwrap();
    assert_eq!(must_reach(&committed), [0, 15, 20, 20]);
    assert_eq!(committed.must_have(Index(15), Term(5)), Some(at(15, 5)));
    assert_eq!(committed.must_have(Index(15), Term(4)), None);
    committed.record(at(20, 6), Term(5)).unwrap();
    assert_eq!(must_reach(&committed), [0, 20, 20, 20]);
    assert!(committed.record(at(10, 3), Term(9)).is_err());
}
