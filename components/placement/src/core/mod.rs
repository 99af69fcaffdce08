//! Everything that placement decides, without store, clock, thread or chance that is not seeded.
//!
//! - `api`, `record`: what is asked and answered, and the stores.
//! - `host`: what happens where the placement group is led; `rows` are its truth, `registry`, `directory`, `tso`, `ids` and
//!   `operation` the parts of it, `scheduler` what it decides.
//! - `agent`: what happens on every store.
//! - `protocol`, `codec`: what stores say to the host, and the bytes of that and of the rows.

pub mod agent;
pub mod api;
pub mod bootstrap;
pub mod codec;
pub mod directory;
pub mod division;
pub mod host;
pub mod ids;
pub mod limits;
pub mod operation;
pub mod protocol;
pub mod record;
pub mod registry;
pub mod rows;
pub mod scheduler;
pub mod tso;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
