//! Deliberate faults, and whether the tests find them.
//!
//! Without arguments this checks that every fault in `mutations.txt` still fits the sources, and that
//! `docs/raft-mutations.md` lists them all (`REWRITE=1` writes it). With `--run`, and names if not all are meant, it copies
//! this crate out of the tree, makes one fault at a time there, and demands that the test named with it fails:
//! `make mutants`.
#![allow(clippy::print_stdout, reason = "it tells how far it is")]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

/// One fault.
struct Mutation {
    name: String,
    /// What is wrong then, as a clause.
    what: String,
    /// The file, below the crate.
    file: String,
    /// The test target and the test that finds it.
    found: (String, String),
    old: Vec<String>,
    new: Vec<String>,
}

/// Seconds after which a test that does not end has found its fault, too.
const SECONDS_MAX: &str = "300";

fn main() -> ExitCode {
    let mutations = parse(include_str!("mutations.txt"));
    let args: Vec<String> = env::args().skip(1).collect();
    let failures = if args.iter().any(|arg| arg == "--run") {
        let is_meant = |mutation: &&Mutation| args.len() == 1 || args.contains(&mutation.name);
        run(&mutations.iter().filter(is_meant).collect::<Vec<_>>())
    } else {
        check(&mutations)
    };
    for failure in &failures {
        println!("mutants: {failure}");
    }
    println!(
        "mutants: {} of {} in order",
        mutations.len() - failures.len().min(mutations.len()),
        mutations.len()
    );
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn crate_folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn root() -> PathBuf {
    crate_folder().join("../..")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

fn parse(text: &str) -> Vec<Mutation> {
    text.split("\n= ").skip(1).map(parse_one).collect()
}

fn parse_one(block: &str) -> Mutation {
    let (name, rest) = block.split_once('\n').expect("a fault has more than a name");
    let field = |key: &str| {
        let line = rest.lines().find_map(|line| line.strip_prefix(key));
        line.unwrap_or_else(|| panic!("{name} lacks {key}")).to_owned()
    };
    let lines = |sign: char| {
        let lines = rest.lines().filter_map(|line| line.strip_prefix(sign));
        lines.map(|line| line.strip_prefix(' ').unwrap_or(line).to_owned()).collect()
    };
    let found = field("found: ");
    let (target, test) = found.split_once(' ').expect("a test has a target and a name");
    Mutation {
        name: name.to_owned(),
        what: field("what: "),
        file: field("in: "),
        found: (target.to_owned(), test.to_owned()),
        old: lines('-'),
        new: lines('+'),
    }
}

impl Mutation {
    /// The text with the fault in it; an error if the lines to replace are not there exactly once.
    fn apply(&self, text: &str) -> Result<String, String> {
        let lines: Vec<&str> = text.lines().collect();
        let matches = |at: &usize| {
            let window = lines.get(*at..*at + self.old.len()).unwrap_or_default();
            window.len() == self.old.len()
                && window.iter().zip(&self.old).all(|(line, old)| line.trim() == old.trim())
        };
        let places: Vec<usize> = (0..lines.len()).filter(matches).collect();
        let [at] = places[..] else {
            return Err(format!("{}: its lines are {} times in {}", self.name, places.len(), self.file));
        };
        let new = self.new.iter().map(String::as_str);
        let (before, after) = (&lines[..at], &lines[at + self.old.len()..]);
        let all: Vec<&str> = before.iter().copied().chain(new).chain(after.iter().copied()).collect();
        Ok(all.join("\n") + "\n")
    }
}

/// Whether all fit the sources and the page.
fn check(mutations: &[Mutation]) -> Vec<String> {
    let fits = |mutation: &Mutation| mutation.apply(&read(&crate_folder().join(&mutation.file))).err();
    let mut failures: Vec<String> = mutations.iter().filter_map(fits).collect();
    let page = root().join("docs/raft-mutations.md");
    let expected = document(mutations);
    if env::var_os("REWRITE").is_some() {
        write(&page, &expected);
    } else if fs::read_to_string(&page).ok().as_deref() != Some(expected.as_str()) {
        failures.push("docs/raft-mutations.md is not what REWRITE=1 would write".to_owned());
    }
    failures
}

fn document(mutations: &[Mutation]) -> String {
    let mut page = format!(
        "# Faults that the tests of the Raft core find\n\n\
         {} deliberate faults, each made alone in a copy of [`components/raft`](../components/raft/src/lib.rs), and a test \
         that fails then.\n`make mutants` makes them all and runs those tests. The lines are in\n\
         [`mutations.txt`](../components/raft/tests/mutants/mutations.txt), from which this page is written; \
         `cargo test -p raft --test mutants`\nchecks that both are up to date.\n\n\
         Tests called `model::…` are the model check; most faults that it finds are found by others too.\n\n\
         | fault | what is wrong then | where | found by |\n| --- | --- | --- | --- |\n",
        mutations.len()
    );
    for Mutation { name, what, file, found: (_, test), .. } in mutations {
        page += &format!("| {name} | {what} | [`{file}`](../components/raft/{file}) | `{test}` |\n");
    }
    page
}

/// Makes one fault after the other in a copy, and demands that its test fails.
fn run(mutations: &[&Mutation]) -> Vec<String> {
    let folder = env::temp_dir().join(format!("sheaf-mutants-{}", std::process::id()));
    copy_workspace(&folder);
    let mut failures = Vec::new();
    for mutation in mutations {
        let path = folder.join("components/raft").join(&mutation.file);
        let original = read(&path);
        let result = mutation.apply(&original).and_then(|text| {
            write(&path, &text);
            try_one(&folder, mutation)
        });
        write(&path, &original);
        match result {
            Ok(()) => println!("{}: found by {}", mutation.name, mutation.found.1),
            Err(failure) => failures.push(failure),
        }
    }
    fs::remove_dir_all(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    failures
}

/// A workspace of this crate and what it imports.
fn copy_workspace(folder: &Path) {
    for name in ["components/raft", "components/types"] {
        copy(&root().join(name), &folder.join(name));
    }
    for name in ["Cargo.lock", "rust-toolchain.toml"] {
        write(&folder.join(name), &read(&root().join(name)));
    }
    let manifest = read(&root().join("Cargo.toml"));
    let (_, rest) = manifest.split_once("[workspace.package]").expect("the root manifest has this section");
    let members = "[workspace]\nresolver = \"3\"\nmembers = [\"components/raft\", \"components/types\"]\n\n";
    write(&folder.join("Cargo.toml"), &format!("{members}[workspace.package]{rest}"));
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap_or_else(|error| panic!("{}: {error}", to.display()));
    for entry in fs::read_dir(from).expect("a folder of this workspace is readable") {
        let entry = entry.expect("a folder of this workspace is readable");
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if !path.is_dir() {
            fs::copy(&path, &to).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        } else if !["target", "fuzz"].iter().any(|name| entry.file_name() == *name) {
            copy(&path, &to);
        }
    }
}

fn try_one(folder: &Path, mutation: &Mutation) -> Result<(), String> {
    let (target, test) = &mutation.found;
    let cargo = |rest: &[&str]| {
        let mut command = Command::new("timeout");
        command.args([SECONDS_MAX, env!("CARGO"), "test", "--quiet", "--offline", "--package", "raft"]);
        match target.as_str() {
            "lib" => command.arg("--lib"),
            other => command.args(["--test", other]),
        };
        let target_folder = env::var_os("CARGO_TARGET_DIR").map(|folder| Path::new(&folder).join("mutants"));
        command.env("CARGO_TARGET_DIR", target_folder.unwrap_or_else(|| folder.join("target")));
        command.args(rest).current_dir(folder).output().expect("cargo runs")
    };
    let built = cargo(&["--no-run"]);
    if !built.status.success() {
        return Err(format!(
            "{} does not compile:\n{}",
            mutation.name,
            String::from_utf8_lossy(&built.stderr)
        ));
    }
    let tested = cargo(&["--", "--exact", test]);
    let said = String::from_utf8_lossy(&tested.stdout);
    if said.contains("0 passed; 0 failed") {
        return Err(format!("{}: there is no test {test}", mutation.name));
    }
    // A test that does not end, or ends the process, has found it too.
    if tested.status.success() {
        return Err(format!("{} is not found by {test}", mutation.name));
    }
    Ok(())
}
