//! Liveness belongs to stores, not regions (D7): beats, silence, suspicion.

use types::StoreId;

use crate::message::Beat;

/// How a store could not be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// The connection broke or timed out.
    Broken,
    /// A new connection was refused: no process listens there.
    Refused,
}

/// Mail of the liveness worker.
pub(crate) enum LivenessMail {
    /// From another store.
    Beat { from: StoreId, beat: Beat },
    /// The transport could not deliver.
    Unreachable { store: StoreId, how: Unreachable },
    /// The stores of the cluster.
    Stores(Vec<StoreId>),
}
