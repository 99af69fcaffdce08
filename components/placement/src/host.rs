//! The shell of the host: carries out the effects that `core::host` asks for.
