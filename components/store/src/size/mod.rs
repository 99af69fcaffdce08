//! How much regions hold, and where they can be divided.
//!
//! ```text
//!  applier                         sizer                     raft worker             placement
//!   estimate over the limit ──────▶ counts, slice by slice
//!   ◀─────── size and cuts ────────────┘
//!   corrects the estimate
//!   └───── too large: keys ────────────────────────────────▶ leads, nothing else
//!                                                            under way: the wish ────▶ ids, and the split
//! ```
//!
//! The estimate ([`SizeEstimate`]) is free; counting is not, so it happens in a worker of its own, in slices, with pauses,
//! and [`policy`] says when.

mod cut;
mod estimate;
pub(crate) mod policy;
mod sizer;

pub(crate) use self::{
    cut::{Counted, Cut},
    estimate::SizeEstimate,
    sizer::{Measured, SizeMail, Sizer},
};
