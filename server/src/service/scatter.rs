//! Scattering, in PD's words: regions are spread over the stores, as far and as long as the client waits for it.

use std::{collections::BTreeSet, time::Duration};

use placement::{Error, PlacementAnswer, PlacementCall, ScatterRequest, limits::SCATTER_REGIONS_MAX};
use tokio::time::{Instant, sleep_until, timeout_at};
use tonic::{Status, metadata::MetadataMap};
use types::RegionId;

use super::{
    limits::{SCATTER_PAUSE, SCATTER_PAUSE_MAX, SCATTER_REGIONS_ASKED_MAX, SCATTER_RETRIES, SCATTER_TIMEOUT},
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
    let deadline = Instant::now() + time;
    let mut retries_left = if retry_limit == 0 { SCATTER_RETRIES } else { retry_limit };
    let mut pause = SCATTER_PAUSE;
    let mut missing = BTreeSet::new();
    // What is done by then is told as what is done: the rest can be asked for again.
    while let Ok(round) = timeout_at(deadline, ask(running, &left, group)).await {
        let Round { begun, missing: gone } = round?;
        let is_going_on = !begun.is_empty();
        missing.extend(gone);
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

/// How long a client waits for an answer to be of use to it: three quarters of the time that its request names.
pub(super) fn time_of(metadata: &MetadataMap) -> Duration {
    let named = metadata.get("grpc-timeout").and_then(|value| value.to_str().ok()).and_then(timeout_from);
    named.map_or(SCATTER_TIMEOUT, |time| SCATTER_TIMEOUT.min(time / 4 * 3))
}

/// The value of gRPC's header: up to eight digits and a unit.
fn timeout_from(text: &str) -> Option<Duration> {
    let (at, unit) = text.char_indices().next_back()?;
    let digits = &text[..at];
    let is_number = (1..=8).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.parse().ok().filter(|_| is_number)?;
    match unit {
        'H' => Some(Duration::from_secs(number * 3_600)),
        'M' => Some(Duration::from_secs(number * 60)),
        'S' => Some(Duration::from_secs(number)),
        'm' => Some(Duration::from_millis(number)),
        'u' => Some(Duration::from_micros(number)),
        'n' => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Duration {
        let mut metadata = MetadataMap::new();
        if let Ok(value) = text.parse() {
            metadata.insert("grpc-timeout", value);
        }
        time_of(&metadata)
    }

    #[test]
    fn a_client_is_answered_while_it_waits() {
        assert_eq!(time_of(&MetadataMap::new()), SCATTER_TIMEOUT);
        let cases = [("3S", 2_250), ("400m", 300), ("2999999u", 2_249), ("99999999n", 74), ("4M", 60_000)];
        for (text, millis) in cases {
            assert_eq!(time(text).as_millis(), millis, "{text}");
        }
        for nonsense in ["", "S", "3", "3X", "-3S", "+3S", "123456789S", "3.5S", "3ü"] {
            assert_eq!(time(nonsense), SCATTER_TIMEOUT, "{nonsense}");
        }
    }
}
