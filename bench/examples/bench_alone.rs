//! The load generator without the rest of the executable, and so without RocksDB: what the generator itself costs is
//! measured with it against the client's example `echo_server`. `--spawn` needs the whole executable.

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: bench::cli::Args,
}

fn main() -> ExitCode {
    bench::cli::run(Cli::parse().args)
}
