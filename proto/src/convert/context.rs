//! What stands beside every data request: `kvrpcpb.Context`.

use types::{ClusterId, Epoch, Peer, RegionId, SessionStamp, Term};

use super::{Error, Result, error::required};
use crate::kvrpcpb as wire;

/// Where a client believes that its request belongs, and how it wants it answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestContext {
    /// The region; an id that no region has is the store's to refuse.
    pub region_id: RegionId,
    /// The region's epoch as the client knows it.
    pub epoch: Epoch,
    /// The peer that the client means to reach.
    pub peer: Option<Peer>,
    /// The term of the leader that it means.
    pub term: Option<Term>,
    /// The cluster that it means.
    pub cluster_id: Option<ClusterId>,
    /// What its keys look like.
    pub api_version: ApiVersion,
    /// Whether a follower may answer, by read index.
    pub is_replica_read: bool,
    /// Whether an old answer will do; never to be ignored, for its reader may not be the newest one's.
    pub is_stale_read: bool,
    /// Which request of which session it is.
    pub session: Option<SessionStamp>,
}

/// What a client's keys look like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ApiVersion {
    /// Plain keys.
    #[default]
    V1,
    /// Plain keys, values with a TTL.
    V1Ttl,
    /// Keys that begin with a keyspace.
    V2,
}

impl From<RequestContext> for wire::Context {
    fn from(context: RequestContext) -> wire::Context {
        let api_version = match context.api_version {
            ApiVersion::V1 => wire::ApiVersion::V1,
            ApiVersion::V1Ttl => wire::ApiVersion::V1ttl,
            ApiVersion::V2 => wire::ApiVersion::V2,
        };
        let session = context.session.unwrap_or_default();
        wire::Context {
            region_id: context.region_id.0,
            region_epoch: Some(context.epoch.into()),
            peer: context.peer.map(Into::into),
            term: context.term.map_or(0, |term| term.0),
            cluster_id: context.cluster_id.map_or(0, |cluster| cluster.0),
            api_version: api_version.into(),
            replica_read: context.is_replica_read,
            stale_read: context.is_stale_read,
            sheaf_client_id: session.client_id,
            sheaf_sequence: session.sequence,
            sheaf_low_water_mark: session.low_water_mark,
            ..wire::Context::default()
        }
    }
}

impl TryFrom<wire::Context> for RequestContext {
    type Error = Error;

    fn try_from(context: wire::Context) -> Result<RequestContext> {
        const NAME: &str = "kvrpcpb.Context";
        let api_version = match wire::ApiVersion::try_from(context.api_version) {
            Ok(wire::ApiVersion::V1) => ApiVersion::V1,
            Ok(wire::ApiVersion::V1ttl) => ApiVersion::V1Ttl,
            Ok(wire::ApiVersion::V2) => ApiVersion::V2,
            Err(_) => {
                let number = context.api_version.into();
                return Err(Error::UnknownNumber { message: NAME, field: "api_version", number });
            }
        };
        let session = SessionStamp {
            client_id: context.sheaf_client_id,
            sequence: context.sheaf_sequence,
            low_water_mark: context.sheaf_low_water_mark,
        };
        Ok(RequestContext {
            region_id: RegionId(context.region_id),
            epoch: required(context.region_epoch, NAME, "region_epoch")?.into(),
            peer: context.peer.map(Peer::try_from).transpose()?,
            term: (context.term != 0).then_some(Term(context.term)),
            cluster_id: (context.cluster_id != 0).then_some(ClusterId(context.cluster_id)),
            api_version,
            is_replica_read: context.replica_read,
            is_stale_read: context.stale_read,
            session: (session.client_id != 0).then_some(session),
        })
    }
}

impl TryFrom<Option<wire::Context>> for RequestContext {
    type Error = Error;

    /// The field of a request, as `request.context.take()` gives it.
    fn try_from(context: Option<wire::Context>) -> Result<RequestContext> {
        required(context, "request", "context")?.try_into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::{PeerId, PeerRole, StoreId};

    #[test]
    fn contexts_round_trip() {
        let sparse = RequestContext {
            region_id: RegionId(2),
            epoch: Epoch::FIRST,
            peer: None,
            term: None,
            cluster_id: None,
            api_version: ApiVersion::V1,
            is_replica_read: false,
            is_stale_read: false,
            session: None,
        };
        let full = RequestContext {
            peer: Some(Peer { id: PeerId(3), store_id: StoreId(4), role: PeerRole::Learner }),
            term: Some(Term(5)),
            cluster_id: Some(ClusterId(6)),
            api_version: ApiVersion::V2,
            is_replica_read: true,
            is_stale_read: true,
            session: Some(SessionStamp { client_id: 7, sequence: 8, low_water_mark: 9 }),
            ..sparse.clone()
        };
        for context in [sparse, full] {
            assert_eq!(RequestContext::try_from(wire::Context::from(context.clone())), Ok(context));
        }
    }

    #[test]
    fn incomplete_contexts_are_refused() {
        assert!(RequestContext::try_from(None).is_err());
        let with_epoch =
            wire::Context { region_epoch: Some(Epoch::FIRST.into()), ..wire::Context::default() };
        assert!(RequestContext::try_from(wire::Context::default()).is_err());
        assert!(RequestContext::try_from(with_epoch.clone()).is_ok());
        let unknown_version = wire::Context { api_version: 3, ..with_epoch.clone() };
        assert!(RequestContext::try_from(unknown_version).is_err());
        let broken_peer = wire::Context { peer: Some(crate::metapb::Peer::default()), ..with_epoch };
        assert!(RequestContext::try_from(broken_peer).is_err());
    }
}
