//! `sheaf start`: from a directory and a few addresses to a store that serves, and back to nothing.

mod events;
mod found;
mod greet;
mod open;
mod open_files;
mod stop;

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use telemetry::Exporter;
use tokio::net::TcpListener;
use transport::Credentials;

use crate::{
    cli::print_error,
    config::Settings,
    data_dir::DataDir,
    exit,
    failure::{Code, Failure, Result},
    listener, service,
    state::{Phase, State},
};

/// How often samples are moved into their buckets.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Runs a store until it is told to stop. With `ends_with_parent` it also stops when its standard input ends.
pub(crate) fn start(settings: Settings, ends_with_parent: bool) -> Result<()> {
    telemetry::start_logging(settings.log_format, &settings.log_filter)
        .map_err(|error| Failure::new(Code::Usage, "start logging").because(&error))?;
    let exporter = Exporter::install().map_err(|error| Failure::new(Code::Failed, error.to_string()))?;
    abort_on_panic();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(settings.runtime_thread_count)
        .thread_name("runtime")
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Code::Failed, "start the runtime").because(&error))?;
    let result = runtime.block_on(run(settings, exporter, ends_with_parent));
    // Everything is flushed or given up: nothing that still waits on a socket is worth waiting for.
    runtime.shutdown_background();
    result
}

async fn run(settings: Settings, exporter: Exporter, ends_with_parent: bool) -> Result<()> {
    let began = Instant::now();
    let Some(path) = settings.data_dir.clone() else {
        return Err(Failure::new(Code::Usage, "no data directory is given")
            .hint("name one with --data-dir; it is created if it is not there"));
    };
    open_files::check(&settings.engines)?;
    let stop = stop::Signals::listen(ends_with_parent)?;
    let credentials = Credentials::plaintext(settings.is_insecure);
    let listener = bind(&settings, credentials).await?;
    let address = advertised(&settings, &listener)?;
    let data_dir = DataDir::open(&path)?;
    let (state, wishes) = State::new(settings, address, credentials, exporter);
    let stores = service::Services::new(&state);
    tokio::spawn(listener::serve(listener, stores.router(&state)));
    tokio::spawn(upkeep(Arc::clone(&state)));
    tracing::info!(address = %state.address, data_dir = %path.display(), "listening");

    let engines = open::engines(&state, &data_dir).await?;
    tokio::select! {
        result = found::identity(&state, &engines, wishes) => result?,
        signal = stop.first() => {
            tracing::info!(signal, "stopped before the store belonged to a cluster");
            return Ok(());
        }
    };
    state.enter(Phase::Starting);
    let threads = open::store(&state, &engines, &data_dir, &stores).await?;
    state.enter(Phase::Serving);
    let elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(store = threads.ident.store_id.0, elapsed_ms, "serving");
    let greeting = tokio::spawn(greet::greet(Arc::clone(&state)));

    let signal = tokio::select! {
        signal = stop.first() => signal,
        // Nothing is handed over: a store that is not where it belongs ends as if it had not been started.
        Ok(failure) = greeting => return Err(failure),
    };
    tracing::info!(signal, "stopping");
    tokio::select! {
        result = stop::drain_and_stop(&state, threads) => result,
        signal = stop.next() => Err(Failure::new(Code::Failed, format!("{signal} came twice: stopped at once"))),
    }
}

async fn bind(settings: &Settings, credentials: Credentials) -> Result<TcpListener> {
    let failed = |error: &std::io::Error| {
        Failure::new(Code::Failed, format!("listen on {}", settings.addr)).because(error)
    };
    let listener = TcpListener::bind(&settings.addr)
        .await
        .map_err(|error| failed(&error).hint("another process may have the port: choose one with --addr"))?;
    let bound = listener.local_addr().map_err(|error| failed(&error))?;
    credentials.check(bound).map_err(|error| {
        Failure::new(Code::Refused, format!("listen on {}", settings.addr))
            .because(&error)
            .hint("listen on 127.0.0.1, or say --insecure where the network is trusted")
    })?;
    Ok(listener)
}

/// Where others reach this process.
fn advertised(settings: &Settings, listener: &TcpListener) -> Result<String> {
    if let Some(address) = &settings.advertise_addr {
        return Ok(address.clone());
    }
    let bound = listener.local_addr().map_err(|error| {
        Failure::new(Code::Failed, format!("listen on {}", settings.addr)).because(&error)
    })?;
    if bound.ip().is_unspecified() {
        return Err(Failure::new(
            Code::Usage,
            format!("{} is no address that others can reach", settings.addr),
        )
        .hint("name one with --advertise-addr"));
    }
    // A name stays a name: it may point elsewhere tomorrow. Only a free port had to be found out.
    match settings.addr.rsplit_once(':') {
        Some((host, "0")) => Ok(format!("{host}:{}", bound.port())),
        Some(_) | None => Ok(settings.addr.clone()),
    }
}

async fn upkeep(state: Arc<State>) {
    let mut interval = tokio::time::interval(UPKEEP_INTERVAL);
    loop {
        interval.tick().await;
        state.exporter.run_upkeep();
    }
}

/// Half a store is worse than none: a panic on any thread ends the process.
fn abort_on_panic() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        default(panic);
        tracing::error!(%panic, "a panic is a defect of sheaf: the process ends");
        std::process::abort();
    }));
}

/// Ends the process because it cannot go on: what the disk holds is not known any more.
fn fatal(path: &Path, message: &str) {
    tracing::error!(message, data_dir = %path.display(), "the store cannot go on");
    let failure = Failure::new(Code::Failed, format!("the store cannot go on: {message}")).hint(
        "after a failure of the disk, replace it and start the store with an empty data directory: its peers have the data",
    );
    print_error(&failure.to_string());
    exit::at_once(failure.exit_code());
}
