//! Random clusters: everything goes wrong, nothing may come of it.

use std::{sync::Arc, time::Duration};

use raft::{Behaviour, Options};
use types::{Index, PeerId};

use crate::cluster::{Cluster, Faults};

const PEER_COUNT: u64 = 6;

fn options() -> Options {
    // Small, so that pages, windows and probes are cut in odd places.
    let behaviour = Behaviour {
        append_bytes_max: 300,
        inflight_bytes_max: 1_500,
        committed_bytes_max: 400,
        uncommitted_bytes_max: 6_000,
        ..Behaviour::default()
    };
    Options { behaviour: Arc::new(behaviour), ..Options::new(PeerId(1), 0) }
}

/// One random history.
struct Run {
    cluster: Cluster,
    proposal_count: u64,
    read_count: u64,
    change_count: u64,
    sleep_count: u64,
}

impl Run {
    fn new(seed: u64) -> Run {
        let voter_count = 3 + seed % 3;
        let voters: Vec<u64> = (1..=voter_count).collect();
        let mut cluster = Cluster::new(seed, PEER_COUNT, &voters, &[], &options());
        let delay_max = [2, 20, 150][(cluster.random() % 3) as usize];
        let write_max = [1, 10, 60][(cluster.random() % 3) as usize];
        cluster.faults = Faults {
            drop: [0, 20, 150][(cluster.random() % 3) as usize],
            duplicate: [0, 50][(cluster.random() % 2) as usize],
            delay_min: Duration::from_micros(200),
            delay_max: Duration::from_millis(delay_max),
            write_max: Duration::from_millis(write_max),
            ready_max: Duration::from_millis(cluster.random() % 3),
            not_in_memory: [0, 300][(cluster.random() % 2) as usize],
        };
        for id in 1..=PEER_COUNT {
            // Lease and promise differ by a fifth; two clocks may drift apart by half of that.
            let drift_ppm = (cluster.random() % 100_000) as i64 - 50_000;
            let now = cluster.now;
            if let Some(host) = cluster.hosts.get_mut(&PeerId(id)) {
                host.set_drift(now, drift_ppm);
            }
        }
        Run { cluster, proposal_count: 0, read_count: 0, change_count: 0, sleep_count: 0 }
    }

    fn any_peer(&mut self) -> u64 {
        1 + self.cluster.random() % PEER_COUNT
    }

    /// A leader if there is one, mostly; sometimes just anyone.
    fn some_leader(&mut self) -> u64 {
        let leaders = self.cluster.leaders();
        let at = self.cluster.random() as usize;
        if leaders.is_empty() || self.cluster.chance(50) {
            self.any_peer()
        } else {
            leaders[at % leaders.len()]
        }
    }

    fn act(&mut self) {
        let id = self.any_peer();
        let leader = self.some_leader();
        match self.cluster.random() % 102 {
            0..=39 => {
                let size = self.cluster.random() as usize % 120;
                self.proposal_count += 1;
                let payload = format!("{}-{}", self.proposal_count, "x".repeat(size));
                self.cluster.propose(leader, &payload);
            }
            40..=59 => {
                self.read_count += 1;
                let count = self.read_count;
                let from = if self.cluster.chance(500) { leader } else { id };
                self.cluster.read(from, count);
            }
            60..=64 => self.cluster.crash(id),
            65..=72 => self.cluster.restart(id),
            73..=77 => self.cluster.compact(id),
            78..=81 => self.change(leader),
            82..=84 => {
                self.cluster.with(leader, |group, now| group.transfer_leader(now, PeerId(id)).is_ok());
            }
            85..=87 => self.partition(),
            88..=91 => self.cluster.blocked.clear(),
            92..=93 => {
                self.cluster.with(id, |group, now| group.suspect_leader(now));
            }
            94 => self.depose(leader),
            95 => {
                self.cluster.with(leader, |group, now| group.quorum_lost(now));
            }
            96 => {
                self.cluster.with(leader, |group, now| group.report_unreachable(now, PeerId(id)));
            }
            97 => {
                // Back at once: what it has promised must still bind it.
                self.cluster.crash(id);
                self.cluster.restart(id);
            }
            98 => {
                // Whether there is anything to abandon or not.
                self.cluster.with(leader, |group, now| group.abort_change(now).is_ok());
            }
            99 => self.sleep(leader),
            100 => {
                let millis = self.cluster.random() % 1_000;
                self.cluster.run(millis);
            }
            _ => self.cluster.run(50),
        }
    }

    /// Those who may sleep, do; some wake at any time.
    fn sleep(&mut self, leader: u64) {
        let contract = self.cluster.with(leader, |group, _| group.sleep_contract(|_| false).ok());
        for id in 1..=PEER_COUNT {
            if let Some(Some(contract)) = contract {
                let is_asleep = self.cluster.with(id, |group, _| group.sleep(contract).is_ok());
                self.sleep_count += u64::from(is_asleep == Some(true));
            }
            if self.cluster.chance(200) {
                self.cluster.with(id, |group, now| group.wake(now));
            }
        }
    }

    fn change(&mut self, leader: u64) {
        let mask = self.cluster.random();
        let voters: Vec<u64> = (1..=PEER_COUNT).filter(|id| mask >> id & 1 == 1).collect();
        let learners: Vec<u64> =
            (1..=PEER_COUNT).filter(|id| mask >> (id + 8) & 1 == 1 && !voters.contains(id)).collect();
        if !voters.is_empty()
            && self.cluster.change(leader, &voters, &learners).is_some_and(|result| result.is_ok())
        {
            self.change_count += 1;
            if self.cluster.chance(300) {
                // Between those who voted so far and those who shall: neither half may decide alone.
                let configuration = self.cluster.group(leader).configuration();
                let old: Vec<u64> =
                    configuration.outgoing.iter().map(|id| id.0).filter(|id| *id != leader).collect();
                let rest: Vec<u64> = (1..=PEER_COUNT).filter(|id| !old.contains(id)).collect();
                self.cluster.partition(&[&old, &rest]);
                self.cluster.run(2_000);
            }
        }
    }

    /// The leader is cut off, perhaps only from what the others say, and they know it: the quickest election there is.
    fn depose(&mut self, leader: u64) {
        let others: Vec<u64> = (1..=PEER_COUNT).filter(|id| *id != leader).collect();
        self.cluster.partition(&[&[leader], &others]);
        if self.cluster.chance(300) {
            self.cluster.blocked.retain(|(from, _)| from.0 == leader);
        }
        for id in others {
            if self.cluster.chance(200) {
                self.cluster.crash(id);
                self.cluster.restart(id);
            }
            self.cluster.with(id, |group, now| group.suspect_leader(now));
            self.cluster.with(id, |group, now| group.campaign(now, raft::CampaignReason::Wish));
        }
        self.cluster.run(300);
    }

    fn partition(&mut self) {
        let mask = self.cluster.random();
        let (left, right): (Vec<u64>, Vec<u64>) = (1..=PEER_COUNT).partition(|id| mask >> id & 1 == 1);
        self.cluster.partition(&[&left, &right]);
        if self.cluster.chance(300) {
            // One way only.
            self.cluster.blocked.retain(|(from, _)| left.contains(&from.0));
        }
    }

    /// With the faults off, the group must serve.
    fn finish(&mut self) {
        let cluster = &mut self.cluster;
        cluster.faults = Faults::NONE;
        cluster.blocked.clear();
        for id in 1..=PEER_COUNT {
            cluster.restart(id);
            // Whose leader has died in its sleep is woken by its store.
            cluster.with(id, |group, now| group.wake(now));
        }
        cluster.run(5_000);
        // A leader that has sent TimeoutNow has no lease for the rest of its term: the last word shall be a fresh one's.
        let leaders = cluster.leaders();
        for id in leaders {
            cluster.with(id, |group, now| group.quorum_lost(now));
        }
        cluster.run(5_000);
        let leader = cluster.leader().unwrap_or_else(|| panic!("no leader:\n{}", cluster.picture()));
        let (last, _) = cluster.propose(leader, "last").expect("it is up").expect("it leads");
        cluster.read(leader, u64::MAX);
        cluster.run(3_000);
        assert!(cluster.memory_lost.is_empty(), "no disk forgets: {:?}", cluster.memory_lost);
        let members = cluster.group(leader).configuration().peers();
        for id in members {
            let applied = cluster.group(id.0).applied_index();
            assert!(applied >= last, "peer {id} has not applied {last}:\n{}", cluster.picture());
        }
        let answer = cluster.host(leader).answers.iter().rfind(|(id, _)| *id == u64::MAX).expect("answered");
        assert!(answer.1 >= Some(last.prev()));
        assert!(!cluster.group(leader).configuration().is_joint());
        assert!(cluster.group(leader).lease(cluster.host(leader).clock(cluster.now)).is_some());
    }
}

fn run(seed: u64, action_count: u64) -> Run {
    let mut run = Run::new(seed);
    for _ in 0..action_count {
        run.act();
        let micros = run.cluster.random() % 40_000;
        let until = run.cluster.now + Duration::from_micros(micros);
        run.cluster.run(until.since(run.cluster.now).as_millis() as u64);
    }
    run.finish();
    run
}

/// `RAFT_SEEDS=first..end` runs others than the usual ones.
fn seeds() -> std::ops::Range<u64> {
    let text = std::env::var("RAFT_SEEDS").unwrap_or_default();
    let parsed = text.split_once("..").and_then(|(first, end)| Some(first.parse().ok()?..end.parse().ok()?));
    parsed.unwrap_or(0..150)
}

#[test]
fn no_seed_breaks_safety_and_all_recover() {
    let mut committed = Index(0);
    let (mut elections, mut changes, mut sleeps) = (0, 0, 0);
    let mut failed = Vec::new();
    for seed in seeds() {
        let Ok(run) = std::panic::catch_unwind(|| run(seed, 400)) else {
            println!("seed {seed} failed: RAFT_SEEDS={seed}..{}", seed + 1);
            failed.push(seed);
            continue;
        };
        committed = committed.max(run.cluster.ghost.last_committed());
        elections += run.cluster.ghost.term_leaders().len();
        changes += run.change_count;
        sleeps += run.sleep_count;
    }
    println!("most entries {committed}, elections {elections}, changes {changes}, sleeps {sleeps}");
    assert!(failed.is_empty(), "failed seeds: {failed:?}");
}
