//! Messages that cannot be right.

use bytes::Bytes;
use raft::{Message, MessageBody, SleepContract, SnapshotMeta, SnapshotOutcome, Stamp};
use types::{Chain, Entry, EntryKind, Index, Instant, LogPosition, PeerId, Term};

use super::{Solo, disk};
use crate::{
    cluster::{change_to, configuration},
    disk::Disk,
};

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    /// Mostly small, sometimes absurd.
    fn number(&mut self) -> u64 {
        match self.roll(40) {
            0 => u64::MAX,
            1 => u64::MAX - 1,
            2 => u64::MAX / 2,
            _ => self.roll(9),
        }
    }

    fn position(&mut self) -> LogPosition {
        LogPosition {
            index: Index(self.number()),
            term: Term(self.number()),
            chain: Chain(u128::from(self.roll(2))),
        }
    }

    fn entry(&mut self, index: u64) -> Entry {
        let kind = [EntryKind::Empty, EntryKind::Command, EntryKind::Configuration][self.roll(3) as usize];
        let index = if self.roll(9) == 0 { self.number() } else { index };
        let payload = match kind {
            EntryKind::Configuration if self.roll(4) > 0 => {
                configuration(&[1, 2, 1 + self.roll(2) + 3], &[]).encode()
            }
            _ => Bytes::from_static(b"x"),
        };
        Entry { index: Index(index), term: Term(1 + self.roll(4)), kind, payload, chain: Chain(0) }
    }

    fn stamp(&mut self) -> Stamp {
        Stamp { nonce: self.number(), sent_at: Instant(self.number()) }
    }

    fn body(&mut self, log: &[LogPosition]) -> MessageBody {
        let known = log[self.roll(log.len() as u64) as usize];
        let prev = if self.roll(2) == 0 { known } else { self.position() };
        match self.roll(12) {
            0..=2 => {
                let count = self.roll(4);
                let entries = (1..=count).map(|at| self.entry(prev.index.0.wrapping_add(at))).collect();
                MessageBody::Append { prev, entries, commit: Index(self.number()), stamp: self.stamp() }
            }
            3 => MessageBody::AppendAccepted { match_index: Index(self.number()), stamp: self.stamp() },
            4 => MessageBody::AppendRejected {
                prev_index: Index(self.number()),
                last_index: Index(self.number()),
                hint: prev,
                stamp: self.stamp(),
            },
            5 => MessageBody::Heartbeat {
                commit: Index(self.number()),
                stamp: self.stamp(),
                offers_sleep: false,
            },
            6 => MessageBody::HeartbeatResponse { stamp: self.stamp(), last_index: Index(self.number()) },
            7 => MessageBody::VoteRequest {
                is_pre_vote: self.roll(2) == 0,
                is_forced: self.roll(2) == 0,
                last_index: Index(self.number()),
                last_term: Term(self.number()),
            },
            8 => MessageBody::VoteResponse { is_pre_vote: self.roll(2) == 0, is_granted: self.roll(3) > 0 },
            9 => MessageBody::Snapshot {
                meta: SnapshotMeta {
                    position: prev,
                    configuration: (Index(self.number()), configuration(&[1, 2, 3], &[])),
                },
            },
            10 => MessageBody::TimeoutNow,
            _ => match self.roll(2) {
                0 => MessageBody::ReadIndexRequest { id: self.number() },
                _ => MessageBody::ReadIndexResponse { id: self.number(), index: Some(Index(self.number())) },
            },
        }
    }
}

/// Whatever arrives, nothing panics and the state stays whole.
#[test]
fn nonsense_is_refused() {
    let mut refused = 0;
    for seed in 0..300 {
        let mut dice = Dice(seed);
        let start = if seed % 5 == 0 { Disk::default() } else { disk(&[1, 2, 3], &[1, 1, 2], 2) };
        let mut solo = Solo::new(1, start);
        for _ in 0..300 {
            let log = [solo.group.truncated(), solo.group.last()];
            let term = if dice.roll(30) == 0 { dice.number() } else { solo.group.term().0 + dice.roll(2) };
            let body = dice.body(&log);
            let message = Message { from: PeerId(dice.roll(5)), to: PeerId(1), term: Term(term), body };
            solo.group.step(solo.now, message);
            solo.group.check_invariants();
            match dice.roll(8) {
                0 => solo.wait(dice.roll(700)),
                1 => {
                    solo.group.campaign(solo.now, raft::CampaignReason::Wish);
                }
                // Refused unless it leads, which is as good.
                2 => drop(solo.group.propose(solo.now, Bytes::from_static(b"p"))),
                3 => solo.group.read_index(solo.now, 1),
                4 => call_something(&mut solo, &mut dice),
                _ => {}
            }
            solo.group.tick(solo.now);
            if dice.roll(2) == 0 && !settle(&mut solo) {
                break;
            }
        }
        refused += solo.group.rejected_count();
    }
    assert!(refused > 1_000, "{refused}");
}

/// What a caller may ask for at any time; refusals are as good.
fn call_something(solo: &mut Solo, dice: &mut Dice) {
    let (now, peer) = (solo.now, PeerId(dice.roll(5)));
    match dice.roll(9) {
        0 => drop(solo.group.transfer_leader(now, peer)),
        1 => drop(solo.group.abort_change(now)),
        2 => drop(solo.group.force_leader(now, &[PeerId(2), peer], 1)),
        3 => {
            let last_index = solo.group.last().index;
            drop(solo.group.sleep(SleepContract { term: solo.group.term(), last_index }));
        }
        4 => solo.group.wake(now),
        5 => solo.group.quorum_lost(now),
        6 => solo.group.report_snapshot(now, peer, SnapshotOutcome::Sent(Index(dice.number()))),
        7 => {
            let present = solo.group.status().configuration.1;
            let change = change_to(&present, &[1, 1 + dice.roll(3), 4], &[]);
            drop(solo.group.propose_conf_change(now, change));
        }
        _ => solo.group.report_unreachable(now, peer),
    }
}

/// As [`Solo::settle`], with snapshots applied. False if it does not end.
fn settle(solo: &mut Solo) -> bool {
    for _ in 0..200 {
        if !solo.group.has_ready() && solo.writes.is_empty() {
            return true;
        }
        solo.take_ready();
        while !solo.writes.is_empty() {
            let snapshot = solo.writes[0].snapshot.clone();
            solo.write_one();
            if let Some(meta) = snapshot {
                solo.group.advance(solo.now, meta.position.index);
            }
        }
    }
    panic!("it never settles");
}
