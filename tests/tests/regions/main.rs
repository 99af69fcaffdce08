#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "I/O shell: real processes, real time"
)]
//! Real stores whose regions move under load, while stores die, stop and are cut off.

mod blow;
mod faults;
mod moves;
mod repair;
mod scans;
mod splits;
