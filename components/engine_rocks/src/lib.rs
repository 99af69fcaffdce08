//! engine_rocks
