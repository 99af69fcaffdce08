//! What a process tells about itself: the names of all metrics, log lines, and the text that Prometheus scrapes.
//!
//! Any crate may take a name from [`names`] and count under it with the `metrics` facade; without a recorder (in tests
//! and under simulation) counting does nothing. Only the binary enables the feature `exporter`, which installs the
//! recorder and the log lines' subscriber.
//!
//! It must not know what is counted or why, and it starts no thread and opens no socket: the server asks for the text.
//!
//! Start with [`names`]; `docs/metrics.md` is the same table, and a test keeps the two equal.

#[cfg(feature = "exporter")]
mod exporter;
#[cfg(feature = "exporter")]
mod logging;
pub mod names;

#[cfg(feature = "exporter")]
pub use exporter::{Exporter, InstallError};
#[cfg(feature = "exporter")]
pub use logging::{LogFormat, LoggingError, start_logging};
