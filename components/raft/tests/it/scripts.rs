//! Scripts: a file of `testdata` holds commands, a line of dashes, and what they print. `REWRITE=1` writes what they
//! print into the file.

use std::{fmt::Write as _, fs, path::Path};

use raft::Options;
use types::{EntryKind, HardState, Index, PeerId, Term};

use crate::{
    cluster::{Cluster, change_to, first_position},
    disk::Disk,
    peer_script::PeerScript,
    solo::entries,
};

const SEPARATOR: &str = "----";

#[test]
fn scripts_print_what_they_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let mut paths: Vec<_> =
        fs::read_dir(folder).expect("it exists").map(|file| file.expect("readable").path()).collect();
    paths.sort();
    assert!(!paths.is_empty());
    for path in paths {
        check(&path);
    }
}

fn check(path: &Path) {
    let text = fs::read_to_string(path).expect("it is readable");
    let mut world = None;
    let mut rewritten = Vec::new();
    for block in text.trim().split("\n\n") {
        let (input, _) = block.split_once(SEPARATOR).unwrap_or((block, ""));
        let mut output = String::new();
        for line in input.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            run_line(&mut world, line, &mut output);
        }
        let output = if output.is_empty() { "ok\n".to_owned() } else { output };
        rewritten.push(format!("{}\n{SEPARATOR}\n{}", input.trim(), output.trim_end()));
    }
    let rewritten = rewritten.join("\n\n") + "\n";
    if std::env::var_os("REWRITE").is_some() {
        fs::write(path, rewritten).expect("it is writable");
    } else {
        assert_eq!(rewritten, text, "{} (REWRITE=1 to accept)", path.display());
    }
}

/// The value of `name=value` among the words; empty if there is none.
pub(crate) fn find<'a>(words: &[&'a str], name: &str) -> &'a str {
    words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default()
}

/// `a=1,2` among the words.
pub(crate) fn list(words: &[&str], name: &str) -> Vec<u64> {
    find(words, name).split(',').filter(|id| !id.is_empty()).map(number).collect()
}

pub(crate) fn number(word: &str) -> u64 {
    word.parse().unwrap_or_else(|_| panic!("{word} is no number"))
}

/// What a script is about.
enum World {
    Cluster(Box<Cluster>),
    Peer(Box<PeerScript>),
}

fn run_line(slot: &mut Option<World>, line: &str, output: &mut String) {
    let words: Vec<&str> = line.split_whitespace().collect();
    if words[0] == "cluster" {
        let peer_count = list(&words, "peers")[0];
        let mut options = Options::new(PeerId(1), 0);
        options.behaviour_mut().append_bytes_max = 4_096;
        let (voters, learners) = (list(&words, "voters"), list(&words, "learners"));
        *slot = Some(World::Cluster(Box::new(Cluster::new(3, peer_count, &voters, &learners, &options))));
        return;
    }
    if words[0] == "peer" {
        *slot = Some(World::Peer(Box::new(PeerScript::new(&words))));
        return;
    }
    match slot.as_mut().expect("a script begins with `cluster` or `peer`") {
        World::Cluster(cluster) => run_cluster_line(cluster, &words, line, output),
        World::Peer(peer) => peer.run_line(&words, output),
    }
}

fn run_cluster_line(cluster: &mut Cluster, words: &[&str], line: &str, output: &mut String) {
    match words[0] {
        "step" => (0..number(words[1])).for_each(|_| cluster.step()),
        "cut" => drop(cluster.blocked.insert((PeerId(number(words[1])), PeerId(number(words[2]))))),
        "remember" => remember(cluster, number(words[1]), words),
        "abandon" => {
            let result = cluster.with(number(words[1]), |group, now| group.abort_change(now));
            let result = result.expect("it is up").map(|index| format!("@{index}"));
            writeln!(output, "{}", say(result)).expect("a string takes it");
        }
        "force" => {
            let lost: Vec<_> = list(words, "lost").into_iter().map(PeerId).collect();
            let result = cluster.with(number(words[1]), |group, now| group.force_leader(now, &lost, 9));
            let result = result.expect("it is up").map(|()| "ok".to_owned());
            writeln!(output, "{}", say(result)).expect("a string takes it");
        }
        _ => run_plain_line(cluster, words, line, output),
    }
}

fn run_plain_line(cluster: &mut Cluster, words: &[&str], line: &str, output: &mut String) {
    match words[0] {
        "partition" => {
            let rest = line["partition".len()..].split('|');
            let sides: Vec<Vec<u64>> =
                rest.map(|side| side.split_whitespace().map(number).collect()).collect();
            cluster.partition(&sides.iter().map(Vec::as_slice).collect::<Vec<_>>());
        }
        "heal" => cluster.blocked.clear(),
        "run" => cluster.run(number(words[1])),
        "status" => writeln!(output, "{}", cluster.picture()).expect("a string takes it"),
        "trace" => {
            let lines = std::mem::take(&mut cluster.trace);
            writeln!(output, "{}", lines.join("\n")).expect("a string takes it");
        }
        "messages" => {
            let counts = std::mem::take(&mut cluster.delivered);
            let words: Vec<_> = counts.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
            writeln!(output, "{}", words.join(", ")).expect("a string takes it");
        }
        _ => run_peer_line(cluster, words, number(words[1]), output),
    }
}

fn run_peer_line(cluster: &mut Cluster, words: &[&str], id: u64, output: &mut String) {
    let result = match words[0] {
        "campaign" => cluster
            .with(id, |group, now| group.campaign(now, raft::CampaignReason::Wish))
            .map(|()| String::new()),
        "suspect" => cluster.with(id, |group, now| group.suspect_leader(now)).map(|()| String::new()),
        "stepdown" => cluster.with(id, |group, now| group.quorum_lost(now)).map(|()| String::new()),
        "propose" => {
            cluster.propose(id, words[2]).map(|result| say(result.map(|at| format!("({}, {})", at.1, at.0))))
        }
        "change" => {
            let result = cluster.change(id, &list(words, "voters"), &list(words, "learners"));
            result.map(|result| say(result.map(|index| format!("@{index}"))))
        }
        "transfer" => {
            let to = PeerId(number(words[2]));
            let result = cluster.with(id, |group, now| group.transfer_leader(now, to));
            result.map(|result| say(result.map(|()| String::new())))
        }
        "read" => {
            cluster.read(id, number(words[2]));
            Some(String::new())
        }
        "answers" => {
            let answers = std::mem::take(&mut cluster.hosts.get_mut(&PeerId(id)).expect("it exists").answers);
            let say = |(id, index): &(u64, Option<types::Index>)| match index {
                Some(index) => format!("{id} at {index}"),
                None => format!("{id} ask again"),
            };
            Some(answers.iter().map(say).collect::<Vec<_>>().join(", "))
        }
        "lease" => {
            let now = cluster.host(id).clock(cluster.now);
            let lease = cluster.group(id).lease(now);
            Some(lease.map_or_else(
                || "none".to_owned(),
                |lease| format!("{} ms left", lease.until.since(now).as_millis()),
            ))
        }
        "crash" => {
            cluster.crash(id);
            Some(String::new())
        }
        "restart" => {
            cluster.restart(id);
            Some(String::new())
        }
        "compact" => {
            cluster.compact(id);
            Some(String::new())
        }
        "log" => Some(log(cluster, id)),
        other => panic!("{other} is no command"),
    };
    let text = result.unwrap_or_else(|| "down".to_owned());
    if !text.is_empty() {
        writeln!(output, "{id}: {text}").expect("a string takes it");
    }
}

/// `remember 4 log=1,1,4 term=7 [change=1,4,5 [left] [more=1]]`: what a peer wakes up with. `change` appends the joint
/// configuration that leads there, `left` the one behind it, `more` commands.
fn remember(cluster: &mut Cluster, id: u64, words: &[&str]) {
    let now = cluster.now;
    let (present, term) = (cluster.first.clone(), Term(number(find(words, "term"))));
    let host = cluster.hosts.get_mut(&PeerId(id)).expect("it exists");
    let mut disk = Disk::first(&present, first_position());
    disk.entries.extend(entries(&list(words, "log")).into_iter().map(|entry| (entry.index, entry)));
    let voters = list(words, "change");
    if !voters.is_empty() {
        let joint = change_to(&present, &voters, &[]);
        disk.append(term, EntryKind::Configuration, joint.encode());
        if words.contains(&"left") {
            disk.append(term, EntryKind::Configuration, joint.leave_joint().encode());
        }
        for _ in 0..find(words, "more").parse().unwrap_or(0) {
            disk.append(term, EntryKind::Command, bytes::Bytes::from_static(b"more"));
        }
    }
    disk.hard_state = HardState { term, vote: None, commit: Index::FIRST };
    host.crash(0);
    host.flushed = (disk.truncated.index, disk.truncated.chain);
    host.disk = disk;
    host.start(now, true);
}

fn say(result: raft::Result<String>) -> String {
    result.unwrap_or_else(|error| error.to_string())
}

/// What is durable.
fn log(cluster: &Cluster, id: u64) -> String {
    let entry = |entry: &types::Entry| match entry.kind {
        EntryKind::Empty => format!("{}:empty", entry.term),
        EntryKind::Configuration => format!("{}:configuration", entry.term),
        EntryKind::Region => format!("{}:region", entry.term),
        EntryKind::Command => format!("{}:{}", entry.term, String::from_utf8_lossy(&entry.payload)),
    };
    let disk = &cluster.host(id).disk;
    let entries: Vec<_> = disk.entries.values().map(entry).collect();
    format!("({}, {}] {}", disk.truncated.term, disk.truncated.index, entries.join(" "))
}
