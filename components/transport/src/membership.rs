//! Which stores there are, as far as the transport wants to know.

use futures::future::BoxFuture;
use proto::{Message, raft::StoreRemoved};
use tonic::{Code, Status};
use types::{ClusterId, StoreId};

use crate::Identity;

/// Knows which stores belong to the cluster.
pub trait Membership: Send + Sync {
    /// Whether a store of which no address is known was removed for good; if that cannot be found out, it was not. It may
    /// take as long as it takes: the store's messages are received meanwhile.
    fn was_removed(&self, store_id: StoreId) -> BoxFuture<'static, bool>;

    /// Another store of the cluster says that this one was removed for good.
    fn on_removed(&self);
}

/// With what the lanes of a store end that was removed.
pub(crate) fn removed(cluster_id: ClusterId, store_id: StoreId) -> Status {
    let details = StoreRemoved { cluster_id: cluster_id.0, store_id: store_id.0 };
    let text = format!("store {store_id} was removed from the cluster");
    Status::with_details(Code::PermissionDenied, text, details.encode_to_vec().into())
}

/// Whether a lane has ended because its store was removed. It ends the store's process, so the code is not enough: whatever
/// listens at the address might use it.
pub(crate) fn says_removed(status: &Status, own: &Identity) -> bool {
    status.code() == Code::PermissionDenied
        && StoreRemoved::decode(status.details())
            .is_ok_and(|removed| removed.cluster_id == own.cluster_id.0 && removed.store_id == own.store_id.0)
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

#[cfg(test)]
mod tests {
    use types::Incarnation;

    use super::*;

    #[test]
    fn only_the_own_removal_counts() {
        let own = |cluster, store| Identity {
            cluster_id: ClusterId(cluster),
            store_id: StoreId(store),
            incarnation: Incarnation(1),
        };
        let status = removed(ClusterId(7), StoreId(3));
        assert!(says_removed(&status, &own(7, 3)));
        assert!(!says_removed(&status, &own(7, 4)));
        assert!(!says_removed(&status, &own(8, 3)));
        assert!(!says_removed(&Status::permission_denied(status.message()), &own(7, 3)));
    }
}
