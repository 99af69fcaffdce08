//! From a request on the wire to a proposal or a read: the checks that need no store.

use placement::KeyMode;
use proto::{
    convert::{self, ApiVersion},
    kvrpcpb,
};
use store::RequestContext;
use types::{Answer, ClusterId, Command, Query, RegionId, Request};

use super::{
    keyspace_codec::{decode_answer, encode_command, encode_query},
    region_error::Refusal,
};

/// What requests are checked against.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gate {
    pub(super) cluster_id: ClusterId,
    pub(super) key_mode: KeyMode,
}

impl Gate {
    /// A write as the store takes it.
    pub(super) fn write(
        self,
        context: Option<kvrpcpb::Context>,
        command: impl FnOnce() -> convert::Result<Command>,
    ) -> Result<(RequestContext, Request), Refusal> {
        let context = self.context(context)?;
        let command = command().map_err(|error| Refusal::text(error.to_string()))?;
        let command = match self.key_mode {
            KeyMode::Raw | KeyMode::Txn => command,
            KeyMode::Keyspaces => encode_command(command).map_err(Refusal::text)?,
        };
        Ok((store_context(&context), Request { session: context.session, command }))
    }

    /// A read as the store takes it.
    pub(super) fn read(
        self,
        context: Option<kvrpcpb::Context>,
        query: impl FnOnce() -> convert::Result<Query>,
    ) -> Result<(RequestContext, Query), Refusal> {
        let context = self.context(context)?;
        let query = query().map_err(|error| Refusal::text(error.to_string()))?;
        let query = match self.key_mode {
            KeyMode::Raw | KeyMode::Txn => query,
            KeyMode::Keyspaces => encode_query(query).map_err(Refusal::text)?,
        };
        Ok((store_context(&context), query))
    }

    /// An answer with keys as clients know them.
    pub(super) fn answer(self, answer: Answer) -> Answer {
        match self.key_mode {
            KeyMode::Raw | KeyMode::Txn => answer,
            KeyMode::Keyspaces => decode_answer(answer),
        }
    }

    /// A client's idea of a region, where it may ask for one.
    pub(super) fn context(
        self,
        context: Option<kvrpcpb::Context>,
    ) -> Result<convert::RequestContext, Refusal> {
        let context =
            convert::RequestContext::try_from(context).map_err(|error| Refusal::text(error.to_string()))?;
        if context.cluster_id.is_some_and(|cluster_id| cluster_id != self.cluster_id) {
            let text = format!(
                "the request is for cluster {}, this is cluster {}",
                context.cluster_id.unwrap_or_default(),
                self.cluster_id
            );
            return Err(Refusal::text(text));
        }
        if context.is_stale_read {
            let peer_id = context.peer.map_or(0, |peer| peer.id.0);
            return Err(Refusal::data_is_not_ready(context.region_id, peer_id));
        }
        // The placement group is never shown to clients (D8).
        if context.region_id == RegionId::PLACEMENT {
            return Err(Refusal::of(store::Error::RegionNotFound(context.region_id), context.region_id));
        }
        self.check_api_version(context.api_version)?;
        Ok(context)
    }

    fn check_api_version(self, version: ApiVersion) -> Result<(), Refusal> {
        match (self.key_mode, version) {
            (KeyMode::Raw, ApiVersion::V1 | ApiVersion::V1Ttl) | (KeyMode::Keyspaces, ApiVersion::V2) => {
                Ok(())
            }
            (KeyMode::Raw, ApiVersion::V2) => {
                Err(Refusal::text("this cluster has raw keys (API V1): connect without a keyspace"))
            }
            (KeyMode::Keyspaces, ApiVersion::V1 | ApiVersion::V1Ttl) => {
                Err(Refusal::text("this cluster has keyspaces (API V2): connect with one, such as DEFAULT"))
            }
            (KeyMode::Txn, ApiVersion::V1 | ApiVersion::V1Ttl | ApiVersion::V2) => {
                Err(Refusal::text("this cluster is for transactions, which this version does not offer"))
            }
        }
    }
}

fn store_context(context: &convert::RequestContext) -> RequestContext {
    RequestContext {
        region_id: context.region_id,
        peer: context.peer.map(|peer| (peer.id, peer.store_id)),
        epoch: Some(context.epoch),
        term: context.term,
        is_replica_read: context.is_replica_read,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proto::metapb;

    use super::*;

    fn context() -> kvrpcpb::Context {
        kvrpcpb::Context {
            region_id: 2,
            region_epoch: Some(metapb::RegionEpoch { conf_ver: 1, version: 1 }),
            ..kvrpcpb::Context::default()
        }
    }

    fn read(key_mode: KeyMode, context: kvrpcpb::Context) -> Result<(RequestContext, Query), Refusal> {
        let gate = Gate { cluster_id: ClusterId(7), key_mode };
        let query = Query::Get { key: Bytes::from_static(b"r\0\0\x01k") };
        gate.read(Some(context), || Ok(query))
    }

    #[test]
    fn requests_for_another_cluster_or_form_of_keys_are_refused() {
        assert!(read(KeyMode::Raw, context()).is_ok());
        assert!(read(KeyMode::Raw, kvrpcpb::Context { cluster_id: 7, ..context() }).is_ok());
        assert!(read(KeyMode::Raw, kvrpcpb::Context { cluster_id: 8, ..context() }).is_err());
        assert!(read(KeyMode::Raw, kvrpcpb::Context { api_version: 2, ..context() }).is_err());
        assert!(read(KeyMode::Keyspaces, context()).is_err());
        assert!(read(KeyMode::Keyspaces, kvrpcpb::Context { api_version: 2, ..context() }).is_ok());
    }

    #[test]
    fn a_stale_read_is_told_that_there_is_no_data_for_it() {
        let refusal =
            read(KeyMode::Raw, kvrpcpb::Context { stale_read: true, ..context() }).expect_err("refused");
        assert!(refusal.into_region_error().data_is_not_ready.is_some());
    }

    #[test]
    fn the_placement_group_is_not_there_for_clients() {
        let refusal =
            read(KeyMode::Raw, kvrpcpb::Context { region_id: 1, ..context() }).expect_err("refused");
        assert!(refusal.into_region_error().region_not_found.is_some());
    }

    #[test]
    fn a_replica_read_is_passed_on() {
        let (context, _) =
            read(KeyMode::Raw, kvrpcpb::Context { replica_read: true, ..context() }).expect("taken");
        assert!(context.is_replica_read);
    }
}
