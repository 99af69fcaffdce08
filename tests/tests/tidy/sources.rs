//! Words and calls that sources do not contain.

use std::path::Path;

use crate::{assert_none, files, read, relative};

/// Crates that may touch clocks, threads, sockets and the runtime.
const SHELLS: &[&str] = &[
    "components/engine_rocks",
    "components/transport",
    "components/telemetry",
    "components/client",
    "components/sim/src/bin",
    "components/sim/src/runner",
    "components/sim/tests",
    "components/actor/src/pool.rs",
    "server",
    "bench",
    "tests",
    "components/engine/src/conformance",
];

/// The only files of deterministic crates that may know protobuf.
const CODECS: &[&str] = &["components/store/src/codec.rs", "components/placement/src/core/codec"];

/// Words that name nothing in particular, or another thing in other systems.
const VAGUE: &[&str] = &["Manager", "Util", "Utils", "Helper", "Helpers", "Common", "Misc", "Shard"];

fn sources() -> impl Iterator<Item = (String, String)> {
    files(&[".rs"])
        .into_iter()
        .map(|path| (relative(&path), read(&path)))
        .filter(|(name, _)| !name.contains("/tidy/"))
}

/// Names of the items that a line declares.
fn declared(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let line = line.strip_prefix("pub(crate) ").or_else(|| line.strip_prefix("pub ")).unwrap_or(line);
    let (keyword, rest) = line.split_once(' ')?;
    if !["struct", "enum", "trait", "mod", "fn", "type"].contains(&keyword) {
        return None;
    }
    rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()
}

#[test]
fn only_shells_opt_out_of_determinism() {
    let violations: Vec<_> = sources()
        .filter(|(_, source)| source.contains("allow(clippy::disallowed_methods, reason = \"I/O shell"))
        .map(|(name, _)| name)
        .filter(|name| !SHELLS.iter().any(|shell| name.starts_with(shell)))
        .collect();
    assert_none("crates that are no shells and opt out of the banned calls", &violations);
}

#[test]
fn protobuf_stays_at_the_border() {
    let rooms =
        ["components/store/src", "components/placement/src", "components/kv/src", "components/raft/src"];
    let violations: Vec<_> = sources()
        .filter(|(name, _)| rooms.iter().any(|room| name.starts_with(room)))
        .filter(|(name, _)| !CODECS.iter().any(|codec| name.starts_with(codec)))
        .filter(|(_, source)| {
            source.lines().any(|line| line.trim_start().starts_with("use proto") || line.contains(" proto::"))
        })
        .map(|(name, _)| name)
        .collect();
    assert_none("files that import proto", &violations);
}

#[test]
fn nothing_is_left_unfinished() {
    // Assembled, so that this file does not find itself.
    let words = [
        ["FIX", "ME"].concat(),
        ["to", "do!("].concat(),
        ["unimple", "mented!("].concat(),
        ["#[ign", "ore"].concat(),
    ];
    let mut violations = Vec::new();
    for (name, source) in sources() {
        for (number, line) in source.lines().enumerate() {
            if words.iter().any(|word| line.contains(word)) {
                violations.push(format!("{name}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    assert_none("unfinished places", &violations);
}

#[test]
fn names_say_what_things_are() {
    let mut violations = Vec::new();
    for (name, source) in sources() {
        let stem = Path::new(&name).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
        if ["util", "utils", "helper", "helpers", "common", "misc", "manager"].contains(&stem.as_str()) {
            violations.push(format!("{name}: the file's name"));
        }
        for line in source.lines() {
            let Some(item) = declared(line) else { continue };
            let is_vague = VAGUE.iter().any(|word| item.ends_with(word) || item == word.to_lowercase());
            if is_vague {
                violations.push(format!("{name}: {item}"));
            }
        }
    }
    assert_none("names that say nothing", &violations);
}

#[test]
fn no_path_of_a_machine_is_named() {
    let words = [["/ro", "ot/"].concat(), ["/wo", "rk/"].concat(), ["/ho", "me/"].concat()];
    let mut violations = Vec::new();
    for path in files(&[".rs", ".md", ".toml", ".sh", ".proto", "Makefile", ".c"]) {
        let text = read(&path);
        if let Some(word) = words.iter().find(|word| text.contains(word.as_str())) {
            violations.push(format!("{}: {word}", relative(&path)));
        }
    }
    assert_none("paths of somebody's machine", &violations);
}

/// A table of metrics that nothing records would be a promise that no store keeps. The generator only reads them.
#[test]
fn every_documented_metric_is_recorded() {
    let (names, others): (Vec<_>, Vec<_>) =
        sources().partition(|(path, _)| path == "components/telemetry/src/names.rs");
    let (_, names) = names.first().expect("the names have a file of their own");
    let recorders: Vec<_> = others.iter().filter(|(path, _)| !path.starts_with("bench/")).collect();
    let constant = |line: &str| {
        let (name, rest) = line.trim().split_once(" = \"")?;
        (rest.contains("Counter") || rest.contains("Gauge") || rest.contains("Histogram"))
            .then(|| name.to_owned())
    };
    let constants: Vec<_> = names.lines().filter_map(constant).collect();
    assert!(constants.len() > 50, "the table is not read any more");
    let is_recorded = |name: &String| {
        recorders.iter().any(|(_, source)| {
            source.match_indices(name.as_str()).any(|(at, _)| {
                let next = source[at + name.len()..].chars().next();
                source[..at].ends_with("names::")
                    && !next.is_some_and(|next| next.is_alphanumeric() || next == '_')
            })
        })
    };
    let violations: Vec<_> = constants.into_iter().filter(|name| !is_recorded(name)).collect();
    assert_none("metrics that are documented and never recorded", &violations);
}
