//! Who may import whom.

use std::collections::{BTreeMap, BTreeSet};

use crate::{assert_none, files, read, relative, root};

/// Workspaces of their own, so that what they depend on reaches nothing else.
const APART: &[&str] = &["raft-fuzz", "raft_mixed"];

/// Each crate with the crates of ours that it may import: dependencies point inward. Dev-dependencies on crates that
/// are listed further up are always allowed.
const ALLOWED: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("raft", &["types"]),
    ("proto", &["types", "raft"]),
    ("engine", &["types"]),
    ("actor", &["types"]),
    ("telemetry", &[]),
    ("kv", &["types", "engine"]),
    ("check", &["types"]),
    ("store", &["types", "raft", "kv", "engine", "actor", "check", "telemetry", "proto"]),
    ("placement", &["types", "actor", "telemetry", "store", "proto"]),
    ("engine_rocks", &["types", "engine", "proto"]),
    ("transport", &["types", "raft", "store", "telemetry", "proto"]),
    ("client", &["types", "proto"]),
    (
        "sim",
        &["types", "raft", "kv", "engine", "actor", "store", "placement", "client", "check", "engine_rocks"],
    ),
    ("bench", &["types", "client", "check", "telemetry", "proto"]),
    (
        "server",
        &[
            "types",
            "raft",
            "proto",
            "engine",
            "actor",
            "telemetry",
            "kv",
            "check",
            "store",
            "placement",
            "engine_rocks",
            "transport",
            "client",
            "bench",
        ],
    ),
    ("tests", &["types", "proto", "check", "client"]),
    ("raft_mixed", &["types", "raft"]),
];

fn manifests() -> BTreeMap<String, toml::Table> {
    let manifests = files(&["Cargo.toml"]).into_iter().filter(|path| *path != root().join("Cargo.toml"));
    let parse = |path: std::path::PathBuf| {
        let table: toml::Table =
            read(&path).parse().unwrap_or_else(|error| panic!("{}: {error}", relative(&path)));
        let name = table["package"]["name"].as_str().expect("a package has a name").to_owned();
        (name, table)
    };
    manifests.map(parse).collect()
}

fn imports(manifest: &toml::Table, section: &str) -> BTreeSet<String> {
    manifest
        .get(section)
        .and_then(toml::Value::as_table)
        .map(|table| table.keys().cloned().collect())
        .unwrap_or_default()
}

#[test]
fn dependencies_point_inward() {
    let ours: BTreeSet<&str> = ALLOWED.iter().map(|(name, _)| *name).collect();
    let mut violations = Vec::new();
    for (name, manifest) in manifests() {
        let Some((_, allowed)) = ALLOWED.iter().find(|(listed, _)| *listed == name) else {
            if !APART.contains(&name.as_str()) {
                violations.push(format!("{name} is not in the table"));
            }
            continue;
        };
        for import in imports(&manifest, "dependencies") {
            if ours.contains(import.as_str()) && !allowed.contains(&import.as_str()) {
                violations.push(format!("{name} imports {import}"));
            }
        }
    }
    assert_none("imports that the table in tests/tests/tidy/dependencies.rs does not allow", &violations);
}

#[test]
fn every_crate_has_the_lints_of_the_workspace() {
    let violations: Vec<_> = manifests()
        .into_iter()
        .filter(|(name, _)| !APART.contains(&name.as_str()))
        .filter(|(_, manifest)| {
            let inherited = manifest.get("lints").and_then(|lints| lints.get("workspace"));
            inherited.and_then(toml::Value::as_bool) != Some(true)
        })
        .map(|(name, _)| name)
        .collect();
    assert_none("crates without `lints.workspace = true`", &violations);
}

#[test]
fn versions_are_declared_once() {
    let mut violations = Vec::new();
    for (name, manifest) in manifests() {
        if APART.contains(&name.as_str()) {
            continue;
        }
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let Some(table) = manifest.get(section).and_then(toml::Value::as_table) else { continue };
            for (import, spec) in table {
                if spec.get("workspace").and_then(toml::Value::as_bool) != Some(true) {
                    violations.push(format!("{name}: {import}"));
                }
            }
        }
    }
    assert_none("third-party versions outside [workspace.dependencies]", &violations);
}
