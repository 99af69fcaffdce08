//! The command line: `sheaf <verb>`.

use std::{io::Write, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{
    config::Settings,
    demo, exit,
    failure::{Code, Failure, Result},
    operate, start,
    state::VERSION,
};

/// A replicated, sharded key-value store that stock TiKV clients talk to.
#[derive(Parser)]
#[command(name = "sheaf", version, arg_required_else_help = true, infer_subcommands = false)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run a store.
    Start(Box<StartArgs>),
    /// Make the stores a cluster; repeated, it names the same cluster.
    Init(InitArgs),
    /// Show the cluster: its stores, regions and leader.
    Status(StatusArgs),
    /// Empty a store, or give it up.
    #[command(subcommand)]
    Store(StoreVerb),
    /// Start a cluster of several stores on this machine, put load on it, and leave nothing behind.
    Demo(DemoArgs),
    /// Put load on a cluster and measure it.
    Bench(Box<bench::cli::Args>),
    /// Print the version.
    Version,
}

/// What `start` is told on the command line; each flag is a key of the configuration.
#[derive(Args)]
#[command(
    after_help = "Example: sheaf start --data-dir /var/lib/sheaf --addr 10.0.0.1:20160 --join 10.0.0.1:20160,10.0.0.2:20160,10.0.0.3:20160 --insecure"
)]
struct StartArgs {
    /// Where everything is kept.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "HOST:PORT")]
    addr: Option<String>,
    /// Where others reach this store, if not there.
    #[arg(long, value_name = "HOST:PORT")]
    advertise_addr: Option<String>,
    /// The stores that found the cluster, this one included, or some that belong to it.
    #[arg(long, value_name = "HOST:PORT,…", conflicts_with = "single")]
    join: Option<String>,
    /// Found a cluster alone.
    #[arg(long)]
    single: bool,
    /// A file with configuration keys (TOML).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Any configuration key.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// How log lines look: text or json.
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// Allow plaintext beyond the loopback interface.
    #[arg(long)]
    insecure: bool,
    /// Exit when standard input ends: when the parent dies.
    #[arg(long, hide = true)]
    exit_with_parent: bool,
}

#[derive(Args)]
#[command(after_help = "Example: sheaf init --addr 127.0.0.1:20160")]
struct InitArgs {
    #[command(flatten)]
    store: AnyStore,
    /// What clients' keys look like; fixed for ever.
    #[arg(long, value_enum, default_value_t = Keys::Raw)]
    keys: Keys,
}

#[derive(Args)]
#[command(after_help = "Example: sheaf status --addr 127.0.0.1:20160")]
struct StatusArgs {
    #[command(flatten)]
    store: AnyStore,
}

/// Whom to ask.
#[derive(Args)]
struct AnyStore {
    /// Any store of the cluster.
    #[arg(long, value_name = "HOST:PORT", env = "SHEAF_ADDR", default_value = "127.0.0.1:20160")]
    addr: String,
    /// Allow plaintext beyond the loopback interface.
    #[arg(long)]
    insecure: bool,
}

#[derive(Subcommand)]
enum StoreVerb {
    /// Move every peer and every leader off a store; it goes on serving until they are gone.
    Drain(DrainArgs),
    /// Give up a store that is dead or empty: its peers are replaced, and its id never comes back.
    Forget(ForgetArgs),
}

#[derive(Args)]
#[command(after_help = "Example: sheaf store drain 1004 --addr 127.0.0.1:20160")]
struct DrainArgs {
    /// The store's id, as `sheaf status` shows it.
    #[arg(value_name = "ID")]
    store_id: u64,
    /// End the drain: the store is filled again.
    #[arg(long)]
    undo: bool,
    #[command(flatten)]
    store: AnyStore,
}

#[derive(Args)]
#[command(after_help = "Example: sheaf store forget 1004 --addr 127.0.0.1:20160")]
struct ForgetArgs {
    /// The store's id, as `sheaf status` shows it.
    #[arg(value_name = "ID")]
    store_id: u64,
    #[command(flatten)]
    store: AnyStore,
}

#[derive(Args)]
#[command(after_help = "Example: sheaf demo --load-seconds 5 --exit-after 10s")]
struct DemoArgs {
    /// How many stores.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
    stores: u8,
    /// Stop by itself after this long, counted from the start (such as 30s); without it, at Ctrl-C.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    exit_after: Option<Duration>,
    /// How long to put load on it; 0: not at all.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=86_400))]
    load_seconds: u32,
}

/// What clients' keys look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Keys {
    /// Any bytes (API V1).
    Raw,
    /// Behind a keyspace (API V2).
    Keyspaces,
}

/// Runs what the command line says.
#[must_use]
pub fn run() -> ExitCode {
    let result = match Cli::parse().verb {
        Verb::Start(args) => exit::at_once(exit_code(run_start(*args))),
        Verb::Init(args) => operate::init(&args.store.addr, args.keys, args.store.insecure),
        Verb::Status(args) => operate::status(&args.store.addr, args.store.insecure),
        Verb::Store(StoreVerb::Drain(args)) => {
            operate::drain_store(&args.store.addr, args.store_id, args.undo, args.store.insecure)
        }
        Verb::Store(StoreVerb::Forget(args)) => {
            operate::forget_store(&args.store.addr, args.store_id, args.store.insecure)
        }
        Verb::Demo(args) => demo::demo(&demo::Options {
            store_count: args.stores.into(),
            exit_after: args.exit_after,
            load: Duration::from_secs(args.load_seconds.into()),
        }),
        Verb::Bench(args) => return bench::cli::run(*args),
        Verb::Version => {
            print_line(&format!("sheaf {VERSION}"));
            Ok(())
        }
    };
    ExitCode::from(exit_code(result))
}

/// Says what went wrong, if anything did.
fn exit_code(result: Result<()>) -> u8 {
    match result {
        Ok(()) => 0,
        Err(failure) => {
            print_error(&failure.to_string());
            failure.exit_code()
        }
    }
}

fn run_start(args: StartArgs) -> Result<()> {
    let exits_with_parent = args.exit_with_parent;
    let file = args.config.clone();
    let settings = Settings::load(flags_of(args)?, file.as_deref())?;
    start::start(settings, exits_with_parent)
}

/// The flags as configuration keys; a flag of its own is stronger than `--set`.
fn flags_of(args: StartArgs) -> Result<Vec<(String, String)>> {
    let mut flags = Vec::new();
    for text in args.set {
        let (key, value) = text.split_once('=').ok_or_else(|| {
            Failure::new(Code::Usage, format!("--set {text} is not KEY=VALUE"))
                .hint("for example --set raft_workers=2")
        })?;
        flags.push((key.to_owned(), value.to_owned()));
    }
    let texts = [
        ("data_dir", args.data_dir.map(|path| path.to_string_lossy().into_owned())),
        ("addr", args.addr),
        ("advertise_addr", args.advertise_addr),
        ("join", args.join),
        ("log_format", args.log_format),
        ("single", args.single.then(|| "true".to_owned())),
        ("insecure", args.insecure.then(|| "true".to_owned())),
    ];
    flags.extend(texts.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
    Ok(flags)
}

fn parse_duration(text: &str) -> std::result::Result<Duration, String> {
    crate::config::duration(text, 0, 86_400_000)
}

/// A line of output: what was asked for, and nothing else. Whoever reads it may have gone away (`| head`).
pub(crate) fn print_line(text: &str) {
    drop(writeln!(std::io::stdout().lock(), "{text}"));
}

/// A line for people, whatever the log looks like.
pub(crate) fn print_error(text: &str) {
    drop(writeln!(std::io::stderr().lock(), "{text}"));
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_are_configuration_keys() {
        let cli = Cli::try_parse_from([
            "sheaf",
            "start",
            "--data-dir",
            "/d",
            "--set",
            "raft_workers=3",
            "--single",
        ])
        .expect("it is well formed");
        let Verb::Start(args) = cli.verb else { panic!("another verb") };
        let settings = Settings::load(flags_of(*args).expect("flags"), None).expect("settings");
        assert_eq!(settings.data_dir, Some(PathBuf::from("/d")));
        assert_eq!(settings.store.raft_worker_count, 3);
        assert!(settings.is_single);
    }
}
