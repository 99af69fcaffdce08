//! How a store comes to be: the first one of a cluster by `init`, every other by joining.

use engine::{LifecycleChange, LifecycleRecord, LogBatch, LogEngine, LogWrite, RaftState, StoreIdent};
use types::{
    Chain, ClusterId, ConfigurationChange, Epoch, HardState, Incarnation, Index, KeyRange, LogPosition, Peer,
    PeerId, PeerRole, Region, RegionId, StoreId, Term,
};

/// The first id that a cluster gives out: the first store's.
pub const FIRST_ID: u64 = 1_000;

/// The position behind which the first log of a region begins (D15).
#[must_use]
pub fn first_position(cluster_id: ClusterId, region_id: RegionId) -> LogPosition {
    LogPosition { index: Index::FIRST, term: Term::FIRST, chain: Chain::of_first_log(cluster_id, region_id) }
}

/// Makes a cluster: group 1 and region 2, with this store as their only voter. One durable batch; done before, it
/// changes nothing and returns who the store is already.
pub fn init(log: &dyn LogEngine, cluster_id: ClusterId) -> engine::Result<StoreIdent> {
    if let Some(ident) = log.ident()? {
        return Ok(ident);
    }
    let ident = StoreIdent { cluster_id, store_id: StoreId(FIRST_ID), incarnation: Incarnation(0) };
    let regions: Vec<_> = [RegionId::PLACEMENT, RegionId::FIRST]
        .into_iter()
        .zip(FIRST_ID + 1..)
        .map(|(id, peer_id)| Region {
            id,
            range: KeyRange::ALL,
            epoch: Epoch::FIRST,
            peers: vec![Peer { id: PeerId(peer_id), store_id: ident.store_id, role: PeerRole::Voter }],
        })
        .collect();
    let writes = regions.iter().map(|region| first_write(cluster_id, region)).collect();
    let record = LifecycleRecord { sequence: 1, cause: None, change: LifecycleChange::Create { regions } };
    let batch = LogBatch { writes, records: vec![record], ident: Some(ident), ..LogBatch::default() };
    log.write(&batch, true)?;
    Ok(ident)
}

fn first_write(cluster_id: ClusterId, region: &Region) -> LogWrite {
    let position = first_position(cluster_id, region.id);
    let configuration = ConfigurationChange { peers: region.peers.clone(), change_id: 0 };
    let raft_state = RaftState {
        peer_id: region.peers[0].id,
        hard_state: HardState { term: Term::FIRST, vote: None, commit: position.index },
        truncated: position,
        last: position,
        configurations: vec![(position.index, configuration)],
    };
    LogWrite { region_id: region.id, raft_state: Some(raft_state), ..LogWrite::default() }
}

/// Makes this store a member of a cluster that has given it an id. A store that has an identity keeps it.
pub fn join(log: &dyn LogEngine, cluster_id: ClusterId, store_id: StoreId) -> engine::Result<StoreIdent> {
    if let Some(ident) = log.ident()? {
        return Ok(ident);
    }
    let ident = StoreIdent { cluster_id, store_id, incarnation: Incarnation(0) };
    log.write(&LogBatch { ident: Some(ident), ..LogBatch::default() }, true)?;
    Ok(ident)
}

/// Begins a run of a store that has an identity: counts its incarnation up, durably.
pub fn start(log: &dyn LogEngine) -> engine::Result<Option<StoreIdent>> {
    let Some(ident) = log.ident()? else { return Ok(None) };
    let ident = StoreIdent { incarnation: Incarnation(ident.incarnation.0 + 1), ..ident };
    log.write(&LogBatch { ident: Some(ident), ..LogBatch::default() }, true)?;
    Ok(Some(ident))
}
