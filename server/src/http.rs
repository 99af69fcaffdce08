//! What is asked by plain HTTP: metrics, health, configuration, and the one question that a TiKV client asks so.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Query, State as Extracted},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use metrics::gauge;
use placement::{KeyMode, PlacementAnswer, PlacementCall, limits::SCAN_REGIONS_MAX};
use serde_json::json;
use telemetry::names;
use types::KeyRange;

use crate::{
    book::name_of,
    state::{Phase, Running, State, VERSION},
};

/// The kernel tells a process's times in hundredths of a second.
const TICKS_PER_SECOND: f64 = 100.0;

/// Every path.
pub(crate) fn router(state: Arc<State>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/config", get(config))
        .route("/pd/api/v1/regions", get(regions))
        .with_state(state)
}

/// Prometheus' text format.
async fn metrics(Extracted(state): Extracted<Arc<State>>) -> Response {
    if let Some(running) = state.running() {
        let regions = running.store.regions();
        gauge!(names::STORE_REGIONS).set(regions.len() as f64);
        gauge!(names::STORE_LEADERS).set(running.store.leader_count() as f64);
    }
    gauge!(names::PROCESS_START_SECONDS).set(state.started.0 as f64 / 1_000.0);
    let cpu_seconds = observe_process();
    let mut text = state.exporter.render();
    if let Some(seconds) = cpu_seconds {
        // Written by hand: the recorder's counters are whole numbers.
        let name = names::PROCESS_CPU_SECONDS;
        text.push_str(&format!("# TYPE {name} counter\n{name} {seconds}\n"));
    }
    ([("content-type", "text/plain; version=0.0.4")], text).into_response()
}

/// The process lives: it answers.
async fn livez() -> &'static str {
    "ok\n"
}

/// Whether requests of clients are served here; `?verbose` says what is missing.
async fn readyz(
    Extracted(state): Extracted<Arc<State>>,
    Query(query): Query<Vec<(String, String)>>,
) -> Response {
    let phase = state.phase();
    let leader_is_known = match state.running() {
        Some(running) => knows_placement_leader(running).await,
        None => false,
    };
    let checks = [
        ("engines-open", phase > Phase::Opening),
        ("in-cluster", phase > Phase::WaitingForInit),
        ("store-open", phase > Phase::Starting),
        ("placement-leader-known", leader_is_known),
        ("not-draining", phase < Phase::Draining),
    ];
    let is_ready = checks.iter().all(|(_, is_passed)| *is_passed);
    let mut text = String::new();
    if query.iter().any(|(name, _)| name == "verbose") {
        for (name, is_passed) in checks {
            let sign = if is_passed { '+' } else { '-' };
            text.push_str(&format!("[{sign}] {name}\n"));
        }
    }
    let waits = phase == Phase::WaitingForInit;
    text.push_str(match (is_ready, waits) {
        (true, _) => "ready\n",
        (false, true) => "not ready: waiting for `sheaf init`\n",
        (false, false) => "not ready\n",
    });
    (if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, text).into_response()
}

async fn knows_placement_leader(running: &Running) -> bool {
    matches!(
        running.ask(PlacementCall::ClusterInfo).await,
        Ok(PlacementAnswer::Cluster(cluster)) if cluster.placement_leader.is_some()
    )
}

/// What clients' tests look for, and how this store was told to be.
async fn config(Extracted(state): Extracted<Arc<State>>) -> Response {
    let key_mode = state.running().map(|running| running.key_mode).unwrap_or_default();
    let api_version = match key_mode {
        KeyMode::Raw | KeyMode::Txn => 1,
        KeyMode::Keyspaces => 2,
    };
    let settings = &state.settings;
    let body = json!({
        "storage": { "api-version": api_version, "enable-ttl": true },
        "sheaf": {
            "version": VERSION,
            "keys": name_of(key_mode),
            "data_dir": settings.data_dir,
            "addr": settings.addr,
            "advertise_addr": state.address,
            "join": settings.join,
            "single": settings.is_single,
            "insecure": settings.is_insecure,
            "log_filter": settings.log_filter,
            "runtime_threads": settings.runtime_thread_count,
            "raft_workers": settings.store.raft_worker_count,
            "apply_workers": settings.store.apply_worker_count,
            "read_workers": settings.store.read_worker_count,
            "election_timeout_seconds": settings.store.election_timeout.as_secs_f64(),
            "heartbeat_interval_seconds": settings.store.heartbeat_interval.as_secs_f64(),
            "flush_size_bytes": settings.store.flush_bytes,
            "reserve_space_bytes": settings.store.reserve_bytes,
            "block_cache_size_bytes": settings.engines.block_cache_bytes,
            "drain_timeout_seconds": settings.drain_timeout.as_secs_f64(),
        },
    });
    json_response(StatusCode::OK, &body)
}

/// How many regions there are.
async fn regions(Extracted(state): Extracted<Arc<State>>) -> Response {
    let Some(running) = state.running() else {
        return json_response(
            StatusCode::SERVICE_UNAVAILABLE,
            &json!({ "error": "the store has not started yet" }),
        );
    };
    match count_regions(running).await {
        Ok(count) => json_response(StatusCode::OK, &json!({ "count": count })),
        Err(error) => json_response(StatusCode::SERVICE_UNAVAILABLE, &json!({ "error": error.to_string() })),
    }
}

async fn count_regions(running: &Running) -> placement::Result<usize> {
    let mut count = 0;
    let mut range = KeyRange::ALL;
    loop {
        let call = PlacementCall::ScanRegions { range: range.clone(), limit: 0 };
        let PlacementAnswer::Regions(page) = running.ask(call).await? else {
            let reason = "placement answered another question".to_owned();
            return Err(placement::Error::Unavailable { reason });
        };
        count += page.len();
        match page.last().map(|route| route.region.range.end_key.clone()) {
            Some(end_key) if !end_key.is_empty() && page.len() >= SCAN_REGIONS_MAX => {
                range.start_key = end_key
            }
            Some(_) | None => return Ok(count),
        }
    }
}

fn json_response(status: StatusCode, body: &serde_json::Value) -> Response {
    (status, [("content-type", "application/json")], format!("{body}\n")).into_response()
}

/// Sets the memory of the process, and returns its CPU time in seconds; where the kernel does not tell, nothing.
fn observe_process() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is a name in parentheses that may hold anything; fields are counted behind it.
    let (_, behind) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = behind.split_whitespace().collect();
    let number = |place: usize| fields.get(place)?.parse::<u64>().ok();
    if let Some(pages) = number(21) {
        gauge!(names::PROCESS_RESIDENT_BYTES).set(pages as f64 * 4_096.0);
    }
    Some((number(11)? + number(12)?) as f64 / TICKS_PER_SECOND)
}
