//! Scattering, in PD's words: regions are spread over the stores, as far and as long as the client waits for it.

use std::{collections::BTreeSet, time::Duration};

use placement::{Error, PlacementAnswer, PlacementCall, ScatterRequest, limits::SCATTER_REGIONS_MAX};
use tokio::time::{Instant, sleep_until, timeout_at};
use tonic::Status;
use types::RegionId;

use super::{
    limits::{
        SCATTER_PAUSE, SCATTER_PAUSE_MAX, SCATTER_REGIONS_ASKED_MAX, SCATTER_RETRIES, UNKNOWN_REGION_PATIENCE,
    },
    pd::{other_answer, status_of},
};
use crate::state::Running;

/// How far regions are scattered.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Those that are where they should be, or on their way, of those that were named.
    pub(super) finished_percentage: u64,
    /// Those that do not exist.
    pub(super) missing: Vec<RegionId>,
}

/// Spreads regions over the stores. What there is no room for waits until there is; where nothing goes on any more it is
/// tried again so often as the client says.
pub(super) async fn scatter(
    running: &Running,
    regions: impl IntoIterator<Item = u64>,
    group: &str,
    retry_limit: u64,
    time: Duration,
) -> Result<Outcome, Status> {
    let mut left: BTreeSet<RegionId> = regions.into_iter().map(RegionId).collect();
    let count = left.len();
    if count > SCATTER_REGIONS_ASKED_MAX {
        return Err(Status::invalid_argument(format!(
            "{count} regions at once: the limit is {SCATTER_REGIONS_ASKED_MAX}"
        )));
    }
    let began = Instant::now();
    let deadline = began + time;
    let mut retries_left = if retry_limit == 0 { SCATTER_RETRIES } else { retry_limit };
    let mut pause = SCATTER_PAUSE;
    let mut missing = BTreeSet::new();
    // What is done by then is told as what is done: the rest can be asked for again.
    while let Ok(round) = timeout_at(deadline, ask(running, &left, group)).await {
        let Round { begun, missing: gone } = round?;
        // Whoever has just split a region knows of the new ones before the directory does.
        let may_come = !gone.is_empty() && began.elapsed() < UNKNOWN_REGION_PATIENCE;
        if !may_come {
            missing.extend(gone);
        }
        let is_going_on = !begun.is_empty() || may_come;
        left.retain(|id| !begun.contains(id) && !missing.contains(id));
        if left.is_empty() || (!is_going_on && retries_left == 0) {
            break;
        }
        if is_going_on {
            pause = SCATTER_PAUSE;
        } else {
            retries_left -= 1;
            pause = SCATTER_PAUSE_MAX.min(pause * 2);
        }
        sleep_until(deadline.min(Instant::now() + pause)).await;
    }
    let finished = count - left.len() - missing.len();
    let finished_percentage = (100 * finished).checked_div(count).unwrap_or(100) as u64;
    Ok(Outcome { finished_percentage, missing: missing.into_iter().collect() })
}

/// What one attempt has come to.
#[derive(Default)]
struct Round {
    begun: BTreeSet<RegionId>,
    missing: BTreeSet<RegionId>,
}

async fn ask(running: &Running, left: &BTreeSet<RegionId>, group: &str) -> Result<Round, Status> {
    let ids: Vec<RegionId> = left.iter().copied().collect();
    let mut round = Round::default();
    for region_ids in ids.chunks(SCATTER_REGIONS_MAX) {
        let request = ScatterRequest { region_ids: region_ids.to_vec(), group: group.to_owned() };
        match running.ask(PlacementCall::ScatterRegions(request)).await {
            Ok(PlacementAnswer::Scattered { begun, missing }) => {
                round.begun.extend(begun);
                round.missing.extend(missing);
            }
            Ok(_) => return Err(other_answer()),
            Err(error @ (Error::Unavailable { .. } | Error::Busy { .. })) => {
                tracing::info!(%error, "regions are not scattered yet");
            }
            Err(error) => return Err(status_of(error)),
        }
    }
    Ok(round)
}
