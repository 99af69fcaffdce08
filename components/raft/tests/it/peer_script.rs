//! Scripts of one peer alone: messages made by hand go in, and everything that leaves is printed.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use raft::{CampaignReason, Message, MessageBody, SnapshotMeta, Stamp, confchange::Changer};
use types::{ConfigurationChange, HardState, Index, Instant, LogPosition, PeerId, Term};

use crate::{
    cluster::{change_to, configuration, first_position, kind},
    disk::Disk,
    scripts::{find, list, number},
    solo::{Solo, entries, options},
};

/// The peer, and what the script has named.
pub(crate) struct PeerScript {
    solo: Solo,
    /// Whether its disk hangs.
    is_hung: bool,
    stamps: BTreeMap<String, Stamp>,
    seen_ready: usize,
    seen_committed: usize,
}

/// The configuration that the words name: joint if there are outgoing voters.
fn configuration_of(words: &[&str]) -> ConfigurationChange {
    let (voters, outgoing, learners) =
        (list(words, "voters"), list(words, "outgoing"), list(words, "learners"));
    if outgoing.is_empty() {
        return configuration(&voters, &learners);
    }
    let old = configuration(&outgoing, &[]);
    let goal = configuration(&voters, &learners).peers;
    Changer::new(&old).enter_joint(&goal, 1).expect("it is a change of voters")
}

/// The position at `index` of a log with entries of these terms.
fn position(terms: &[u64], index: u64) -> LogPosition {
    let found = entries(terms).into_iter().find(|entry| entry.index.0 == index);
    found.map_or_else(first_position, |entry| entry.position())
}

/// `last=index/term`.
fn pair(words: &[&str], name: &str) -> (Index, Term) {
    let (index, term) = find(words, name).split_once('/').expect("it is index/term");
    (Index(number(index)), Term(number(term)))
}

fn index(words: &[&str], name: &str) -> Index {
    Index(find(words, name).parse().unwrap_or_default())
}

impl PeerScript {
    /// `peer 1 voters=1,2,3 log=1,1,2 term=2 [commit=1] [restarted]`
    pub(crate) fn new(words: &[&str]) -> PeerScript {
        let terms = list(words, "log");
        let mut disk = Disk::first(&configuration_of(words), first_position());
        disk.entries.extend(entries(&terms).into_iter().map(|entry| (entry.index, entry)));
        let commit = index(words, "commit").max(Index::FIRST);
        disk.hard_state = HardState { term: Term(number(find(words, "term"))), vote: None, commit };
        if words.contains(&"empty") {
            disk = Disk::default();
        }
        let not_before = if words.contains(&"restarted") { Instant::from_millis(501) } else { Instant::ZERO };
        let solo = Solo::start(options(number(words[1])), disk, not_before);
        PeerScript { solo, is_hung: false, stamps: BTreeMap::new(), seen_ready: 0, seen_committed: 0 }
    }

    pub(crate) fn run_line(&mut self, words: &[&str], output: &mut String) {
        let now = self.solo.now;
        let group = &mut self.solo.group;
        let mut result = Ok(());
        match words[0] {
            "receive" => self.receive(words),
            "wait" => self.solo.now = now + Duration::from_millis(number(words[1])),
            "tick" => group.tick(now),
            "propose" => {
                let payload = bytes::Bytes::copy_from_slice(words[1].as_bytes());
                result = group.propose(now, payload).map(|_| ());
            }
            "campaign" => group.campaign(now, CampaignReason::Wish),
            "suspect" => group.suspect_leader(now),
            "transfer" => result = group.transfer_leader(now, PeerId(number(words[1]))),
            "read" => group.read_index(now, number(words[1])),
            "change" => {
                let present = group.status().configuration.1;
                let change = change_to(&present, &list(words, "voters"), &list(words, "learners"));
                result = group.propose_conf_change(now, change).map(|_| ());
            }
            "abandon" => result = group.abort_change(now).map(|_| ()),
            "elect" => self.elect(words),
            "hang" => self.is_hung = true,
            "written" => self.is_hung = false,
            "mark" => {
                let stamp = self.solo.last_stamp();
                self.stamps.insert(words[1].to_owned(), stamp);
            }
            "state" => self.print_state(output),
            other => panic!("{other} is no command of a peer"),
        }
        if let Err(error) = result {
            writeln!(output, "{error}").expect("a string takes it");
        }
        self.settle(output, words[0] == "elect");
    }

    /// Wins an election with the votes of all others named.
    fn elect(&mut self, words: &[&str]) {
        self.solo.group.campaign(self.solo.now, CampaignReason::Wish);
        self.solo.settle();
        let term = self.solo.group.term().next();
        for is_pre_vote in [true, false] {
            for voter in list(words, "votes") {
                let body = MessageBody::VoteResponse { is_pre_vote, is_granted: true };
                self.solo.step(voter, term.0, body);
            }
        }
    }

    /// `receive FROM TERM KIND …`; answers are to the newest message that left, or to the one that `stamp=` names.
    fn receive(&mut self, words: &[&str]) {
        let (from, term) = (number(words[1]), number(words[2]));
        let stamp = || match find(words, "stamp") {
            "" => self.solo.last_stamp(),
            name => self.stamps[name],
        };
        let terms = list(words, "log");
        let body = match words[3] {
            "append" => {
                let prev = position(&terms, number(find(words, "prev")));
                let entries = entries(&terms).into_iter().filter(|entry| entry.index > prev.index).collect();
                let commit = index(words, "commit");
                MessageBody::Append { prev, entries, commit, stamp: Stamp::default() }
            }
            "heartbeat" => MessageBody::Heartbeat {
                commit: index(words, "commit"),
                stamp: Stamp::default(),
                offers_sleep: false,
            },
            "alive" => MessageBody::HeartbeatResponse { stamp: stamp(), last_index: index(words, "last") },
            "accepted" => MessageBody::AppendAccepted { match_index: index(words, "match"), stamp: stamp() },
            "rejected" => {
                let (at, term) = pair(words, "hint");
                let hint = LogPosition { index: at, term, ..LogPosition::default() };
                let (prev_index, last_index) = (index(words, "prev"), index(words, "last"));
                MessageBody::AppendRejected { prev_index, last_index, hint, stamp: stamp() }
            }
            "vote?" | "pre-vote?" => {
                let (last_index, last_term) = pair(words, "last");
                let is_forced = words.contains(&"forced");
                MessageBody::VoteRequest {
                    is_pre_vote: words[3] == "pre-vote?",
                    is_forced,
                    last_index,
                    last_term,
                }
            }
            "vote" | "pre-vote" => MessageBody::VoteResponse {
                is_pre_vote: words[3] == "pre-vote",
                is_granted: words[4] == "yes",
            },
            "snapshot" => MessageBody::Snapshot {
                meta: SnapshotMeta {
                    position: position(&terms, number(find(words, "at"))),
                    configuration: (Index::FIRST, configuration_of(words)),
                },
            },
            "timeout-now" => MessageBody::TimeoutNow,
            "read?" => MessageBody::ReadIndexRequest { id: number(find(words, "id")) },
            other => panic!("{other} is no message"),
        };
        let refused = self.solo.group.rejected_count();
        self.solo.step_only(from, term, body);
        if self.solo.group.rejected_count() > refused {
            self.stamps.insert("refused".to_owned(), Stamp::default());
        }
    }

    fn settle(&mut self, output: &mut String, is_quiet: bool) {
        if self.stamps.remove("refused").is_some() {
            writeln!(output, "refused").expect("a string takes it");
        }
        let messages = if self.is_hung {
            let mut messages = Vec::new();
            while self.solo.group.has_ready() {
                messages.extend(self.solo.take_ready());
            }
            messages
        } else {
            let mut messages = Vec::new();
            // What waited for the disk.
            while !self.solo.writes.is_empty() {
                messages.extend(self.solo.write_one());
            }
            messages.extend(self.solo.settle());
            messages
        };
        if is_quiet {
            self.seen_ready = self.solo.readies.len();
            self.seen_committed = self.solo.committed.len();
            return;
        }
        for message in &messages {
            writeln!(output, "{}", say(message)).expect("a string takes it");
        }
        for ready in &self.solo.readies[self.seen_ready..] {
            for read in &ready.reads {
                let index = read.index.map_or_else(|| "ask again".to_owned(), |index| format!("at {index}"));
                writeln!(output, "read {} {index}", read.id).expect("a string takes it");
            }
            for peer in &ready.memory_lost {
                writeln!(output, "{peer} has lost its memory").expect("a string takes it");
            }
            for peer in &ready.snapshot_wanted {
                writeln!(output, "{peer} needs a snapshot").expect("a string takes it");
            }
        }
        let applied = &self.solo.committed[self.seen_committed..];
        if let (Some(first), Some(last)) = (applied.first(), applied.last()) {
            writeln!(output, "applies {}..={}", first.index, last.index).expect("a string takes it");
        }
        self.seen_ready = self.solo.readies.len();
        self.seen_committed = self.solo.committed.len();
    }

    fn print_state(&self, output: &mut String) {
        let status = self.solo.group.status();
        let name = |peer: Option<PeerId>| peer.map_or_else(|| "none".to_owned(), |peer| peer.to_string());
        let lease = self.solo.group.lease(self.solo.now).map_or_else(
            || "no lease".to_owned(),
            |lease| format!("lease {} ms", lease.until.since(self.solo.now).as_millis()),
        );
        let configuration = status.configuration.1.configuration();
        let ids = |peers: &[PeerId]| peers.iter().map(PeerId::to_string).collect::<Vec<_>>().join(",");
        let mut voters = format!("voters {}", ids(&configuration.voters));
        if configuration.is_joint() {
            voters += &format!(" outgoing {}", ids(&configuration.outgoing));
        }
        if !configuration.learners.is_empty() {
            voters += &format!(" learners {}", ids(&configuration.learners));
        }
        writeln!(
            output,
            "{:?} term {} vote {} leader {} last ({}, {}) commit {} {voters} {lease}",
            status.role,
            status.term,
            name(status.vote),
            name(status.leader),
            status.last.term,
            status.last.index,
            status.commit_index
        )
        .expect("a string takes it");
        for peer in status.peers {
            writeln!(
                output,
                "  {} {} match {} next {}",
                peer.id, peer.state, peer.match_index, peer.next_index
            )
            .expect("a string takes it");
        }
    }
}

fn say(message: &Message) -> String {
    let what = match &message.body {
        MessageBody::Append { prev, entries, commit, .. } => {
            let last = entries.last().map_or(prev.index, |entry| entry.index);
            format!(" behind ({}, {}) up to {last} commit {commit}", prev.term, prev.index)
        }
        MessageBody::AppendAccepted { match_index, .. } => format!(" {match_index}"),
        MessageBody::AppendRejected { prev_index, last_index, hint, .. } => {
            format!(" {prev_index} last {last_index} hint ({}, {})", hint.term, hint.index)
        }
        MessageBody::Heartbeat { commit, .. } => format!(" commit {commit}"),
        MessageBody::HeartbeatResponse { last_index, .. } => format!(" last {last_index}"),
        MessageBody::VoteRequest { is_forced, last_index, last_term, .. } => {
            format!(" last ({last_term}, {last_index}){}", if *is_forced { " forced" } else { "" })
        }
        MessageBody::VoteResponse { is_granted, .. } => if *is_granted { " yes" } else { " no" }.to_owned(),
        MessageBody::ReadIndexResponse { id, index } => match index {
            Some(index) => format!(" {id} at {index}"),
            None => format!(" {id} ask again"),
        },
        MessageBody::Snapshot { .. } | MessageBody::TimeoutNow | MessageBody::ReadIndexRequest { .. } => {
            String::new()
        }
    };
    format!("-> {} term {} {}{what}", message.to, message.term, kind(&message.body))
}
