//! How much regions hold.

mod estimate;

pub(crate) use estimate::SizeEstimate;
