//! Sizes of files, links of documents.

use std::collections::BTreeMap;

use crate::{assert_none, files, read, relative};

/// Lines of a source file without its tests above which it must be divided.
const LINES_MAX: usize = 900;

/// Lines before the tests at the end of a file.
fn lines_without_tests(source: &str) -> usize {
    let end = source.find("#[cfg(test)]\nmod tests {").unwrap_or(source.len());
    source[..end].lines().count()
}

fn is_test(path: &str) -> bool {
    path.contains("/tests/")
        || path.ends_with("/tests.rs")
        || path.contains("/benches/")
        || path.contains("/examples/")
}

#[test]
fn no_file_is_too_long() {
    let mut sizes: BTreeMap<String, usize> = BTreeMap::new();
    let mut violations = Vec::new();
    for path in files(&[".rs"]) {
        let name = relative(&path);
        if is_test(&name) {
            continue;
        }
        let lines = lines_without_tests(&read(&path));
        let room = name.split("/src/").next().unwrap_or(&name).to_owned();
        *sizes.entry(room).or_default() += lines;
        if lines > LINES_MAX {
            violations.push(format!("{name}: {lines} lines"));
        }
    }
    for (room, lines) in &sizes {
        println!("{lines:6} {room}");
    }
    println!("{:6} in all", sizes.values().sum::<usize>());
    assert_none(&format!("files of more than {LINES_MAX} lines without tests"), &violations);
}

#[test]
fn every_relative_link_leads_somewhere() {
    let mut violations = Vec::new();
    for path in files(&[".md"]) {
        let text = read(&path);
        for (at, _) in text.match_indices("](") {
            let Some(target) = text[at + 2..].split(')').next() else { continue };
            let file = target.split('#').next().unwrap_or_default();
            if file.is_empty() || file.contains("://") || file.starts_with("mailto:") {
                continue;
            }
            let folder = path.parent().expect("a file lies in a folder");
            if !folder.join(file).exists() {
                violations.push(format!("{}: {target}", relative(&path)));
            }
        }
    }
    assert_none("links to files that do not exist", &violations);
}
