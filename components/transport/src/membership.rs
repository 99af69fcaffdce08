//! Which stores there are, as far as the transport wants to know.

use futures::future::BoxFuture;
use tonic::{Code, Status};
use types::StoreId;

/// Knows which stores belong to the cluster.
pub trait Membership: Send + Sync {
    /// Whether a store of which no address is known was removed for good; if that cannot be found out, it was not. It may
    /// take as long as it takes: the store's messages are received meanwhile.
    fn was_removed(&self, store_id: StoreId) -> BoxFuture<'static, bool>;

    /// Another store of the cluster says that this one was removed for good.
    fn on_removed(&self);
}

/// What a store that was removed is told, and nobody else is.
pub(crate) fn removed(store_id: StoreId) -> Status {
    Status::permission_denied(format!("store {store_id} was removed from the cluster"))
}

pub(crate) fn says_removed(status: &Status) -> bool {
    status.code() == Code::PermissionDenied
}

/// Whether the store behind a lane may have been removed.
pub(crate) enum Doubt {
    /// An address of it is known.
    None,
    /// None is, and it is being found out why.
    Asked(BoxFuture<'static, bool>),
    /// None is, and it was not removed: it is new, or nobody knew.
    Stranger,
}

impl Doubt {
    /// Something comes from the store.
    pub(crate) fn on_heard(&mut self, store_id: StoreId, is_known: bool, membership: &dyn Membership) {
        match self {
            Doubt::None if !is_known => *self = Doubt::Asked(membership.was_removed(store_id)),
            Doubt::Asked(_) | Doubt::Stranger if is_known => *self = Doubt::None,
            Doubt::None | Doubt::Asked(_) | Doubt::Stranger => {}
        }
    }

    /// Comes when the store turns out to be removed. May be dropped and asked again until then.
    pub(crate) async fn confirmed(&mut self) {
        if let Doubt::Asked(answer) = self {
            if answer.await {
                return;
            }
            *self = Doubt::Stranger;
        }
        std::future::pending().await
    }
}
