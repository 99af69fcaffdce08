//! Tests of the whole crate: scripts with their output, and comparison with a map.

mod model;
mod script;
