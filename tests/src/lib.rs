//! What the tests of real processes share. `tests/tidy` checks the layout of the workspace.
