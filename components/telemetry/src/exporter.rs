//! The recorder behind the `metrics` facade, and its text form.

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::names::{self, Kind, Metric};

/// Upper bounds of the buckets of every duration, in seconds: a fsync takes tenths of a millisecond, a failover a second.
const SECONDS_BUCKETS: [f64; 16] = [
    0.000_05, 0.000_1, 0.000_2, 0.000_4, 0.000_8, 0.001_6, 0.003_2, 0.006_4, 0.012_8, 0.025_6, 0.051_2,
    0.102_4, 0.204_8, 0.409_6, 0.819_2, 1.638_4,
];

/// The process's recorder.
#[derive(Clone)]
pub struct Exporter {
    handle: PrometheusHandle,
}

/// The recorder could not be installed.
#[derive(Debug, thiserror::Error)]
#[error("install the metrics recorder: {0}")]
pub struct InstallError(#[from] metrics_exporter_prometheus::BuildError);

impl Exporter {
    /// Installs the recorder for the whole process; handles made before this count nothing.
    pub fn install() -> Result<Exporter, InstallError> {
        let handle = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS_BUCKETS)?
            .install_recorder()?;
        for metric in names::ALL {
            match metric.kind {
                Kind::Counter => metrics::describe_counter!(metric.name, metric.help),
                Kind::Gauge => metrics::describe_gauge!(metric.name, metric.help),
                Kind::Histogram => metrics::describe_histogram!(metric.name, metric.help),
            }
            if metric.labels.is_empty() {
                show_at_zero(metric);
            }
        }
        Ok(Exporter { handle })
    }

    /// Every metric in the text format of Prometheus.
    #[must_use]
    pub fn render(&self) -> String {
        self.handle.render()
    }

    /// Moves samples into their buckets; to be called every few seconds, or the samples pile up.
    pub fn run_upkeep(&self) {
        self.handle.run_upkeep();
    }
}

/// What has not happened yet is seen as zero: a rate over a counter's first event is wrong otherwise.
fn show_at_zero(metric: &Metric) {
    match metric.kind {
        Kind::Counter => metrics::counter!(metric.name).increment(0),
        Kind::Gauge => metrics::gauge!(metric.name).increment(0.0),
        Kind::Histogram => {}
    }
}
