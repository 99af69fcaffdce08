//! Commands of a region about itself: one file each. What is checked before they are proposed is checked again where they
//! are applied, against the region as it is at their index.

pub(crate) mod split;
