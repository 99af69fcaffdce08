//! Everything that placement decides, without store, clock, thread or seedless chance.

pub mod api;
pub mod bootstrap;
pub mod limits;
pub mod record;
