//! What an operator asks and looks at, of whichever store answers.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Error, Result, bail, ensure};
use proto::{
    admin::{
        ClusterStatusRequest, ClusterStatusResponse, ListOperationsRequest, ListRegionsRequest,
        MovePeersRequest, OperationStarted, SetBalancingRequest, TransferLeaderRequest,
        admin_client::AdminClient,
    },
    pdpb::{RequestHeader, SplitRegionsRequest, pd_client::PdClient},
    placement::{OperationRow, OperationState, RegionView, StoreState, StoreView},
    vocabulary::{KeyRange, Peer, PeerRole, Region},
};
use tokio::time::timeout;
use tonic::{Code, Response, Status, transport::Channel};

use crate::{Cluster, eventually};

/// A store that answers at all answers within this time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// Moves, elections and repair end within this time also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// The placement group's region.
const PLACEMENT: u64 = 1;

/// The status with which a store refused; any other error comes back as it is.
pub fn refusal<T>(result: Result<T>) -> Result<Status> {
    match result {
        Ok(_) => Err(Error::msg("it is not refused")),
        Err(error) => error.downcast::<Status>(),
    }
}

impl Cluster {
    /// Asks the stores that answer for something, one after the other, until one does it or refuses for good.
    pub async fn operate<T>(
        &self,
        ask: impl AsyncFn(AdminClient<Channel>) -> Result<Response<T>, Status>,
    ) -> Result<T> {
        let mut last = Error::msg("no store runs");
        for at in self.answering() {
            let channel = match self.channel(at).await {
                Ok(channel) => channel,
                Err(error) => {
                    last = error;
                    continue;
                }
            };
            match timeout(ANSWER_TIMEOUT, ask(AdminClient::new(channel))).await {
                Ok(Ok(response)) => return Ok(response.into_inner()),
                Ok(Err(status)) if !may_pass(status.code()) => return Err(status.into()),
                Ok(Err(status)) => last = status.into(),
                Err(_) => last = Error::msg(format!("store {at} is silent")),
            }
        }
        Err(last)
    }

    /// What the operators' service says of the cluster.
    pub async fn status(&self) -> Result<ClusterStatusResponse> {
        self.operate(async |mut admin| admin.cluster_status(ClusterStatusRequest {}).await).await
    }

    /// Every region of the client keyspace, in order of their keys; an error if there is a gap between two.
    pub async fn regions(&self) -> Result<Vec<RegionView>> {
        let mut regions: Vec<RegionView> = Vec::new();
        let mut start_key = Some(bytes::Bytes::new());
        while let Some(key) = start_key {
            let range = Some(KeyRange { start_key: key, end_key: bytes::Bytes::new() });
            let request = ListRegionsRequest { range, ..ListRegionsRequest::default() };
            let page = self.operate(async |mut admin| admin.list_regions(request.clone()).await).await?;
            regions.extend(page.regions);
            start_key = page.next_key;
        }
        let mut end = Some(bytes::Bytes::new());
        for view in &regions {
            let range = range_of(view)?;
            ensure!(end.as_ref() == Some(&range.start_key), "a gap or an overlap before {range:?}");
            end = Some(range.end_key.clone()).filter(|key| !key.is_empty());
        }
        ensure!(end.is_none(), "nothing lies behind {end:?}");
        Ok(regions)
    }

    /// A region, the placement group's too, with the id of the store that leads it.
    pub async fn region(&self, region_id: u64) -> Result<(Region, u64)> {
        if region_id == PLACEMENT {
            let status = self.status().await?;
            return Ok((
                status.placement_group.context("no placement group")?,
                status.placement_leader_store_id,
            ));
        }
        let regions = self.regions().await?;
        let found = regions
            .into_iter()
            .find(|view| view.region.as_ref().is_some_and(|region| region.id == region_id));
        let view = found.with_context(|| format!("no region {region_id}"))?;
        let region = view.region.context("no region")?;
        let leader = region.peers.iter().find(|peer| peer.id == view.leader_peer_id);
        let leader_store = leader.map_or(0, |peer| peer.store_id);
        Ok((region, leader_store))
    }

    /// The stores that are not removed, as placement sees them.
    pub async fn stores(&self) -> Result<Vec<StoreView>> {
        let is_there = |view: &StoreView| {
            view.store.as_ref().is_some_and(|row| row.state != i32::from(StoreState::Removed))
        };
        Ok(self.status().await?.stores.into_iter().filter(is_there).collect())
    }

    /// The id of a store, once it is in the cluster.
    pub async fn store_id(&self, at: usize) -> Result<u64> {
        let address = self.addresses()[at].clone();
        let mut found = None;
        eventually("the store to join", PATIENCE, async || {
            let rows = self.stores().await?.into_iter().filter_map(|view| view.store);
            found = rows.filter(|row| row.address == address).map(|row| row.id).max();
            ensure!(found.is_some(), "no store has the address {address}");
            Ok(())
        })
        .await?;
        found.context("no id")
    }

    /// Which store has this id.
    pub async fn find_store(&self, store_id: u64) -> Result<usize> {
        let rows = self.stores().await?.into_iter().filter_map(|view| view.store);
        let address = rows.filter(|row| row.id == store_id).map(|row| row.address).next();
        let address = address.with_context(|| format!("no store {store_id}"))?;
        self.addresses().iter().position(|own| *own == address).context("another cluster's store")
    }

    /// Which store leads a region, once one that answers does.
    pub async fn leader_of(&self, region_id: u64) -> Result<usize> {
        let mut found = 0;
        eventually("a leader", PATIENCE, async || {
            let (_, store_id) = self.region(region_id).await?;
            found = self.find_store(store_id).await?;
            ensure!(self.answering().any(|at| at == found), "store {found} leads, and does not answer");
            Ok(())
        })
        .await?;
        Ok(found)
    }

    /// Lets another voter lead a region, and waits until it does.
    pub async fn transfer_leader(&self, region_id: u64, to: usize) -> Result<()> {
        let to_store_id = self.store_id(to).await?;
        let request = TransferLeaderRequest { region_id, to_store_id };
        eventually("the leader to move", PATIENCE, async || {
            let asked = self.operate(async |mut admin| admin.transfer_leader(request).await);
            let answer = asked.await;
            let leader = self.region(region_id).await?.1;
            ensure!(leader == to_store_id, "store {leader} leads: {answer:?}");
            Ok(())
        })
        .await
    }

    /// Lets placement level peers and leaders, or not.
    pub async fn set_balancing(&self, is_balancing: bool) -> Result<()> {
        let request = SetBalancingRequest { is_balancing };
        self.operate(async |mut admin| admin.set_balancing(request).await).await?;
        Ok(())
    }

    /// Switches levelling off, and waits until every store has joined and no region's peers change any more: each has
    /// this many voters.
    pub async fn settle(&self, voters: usize) -> Result<()> {
        for at in 0..self.addresses().len() {
            self.store_id(at).await?;
        }
        self.set_balancing(false).await?;
        self.whole(voters).await
    }

    /// Begins to move a region's voters to exactly these stores; the id of the operation.
    pub async fn move_peers(&self, region_id: u64, to: &[u64]) -> Result<u64> {
        let request = MovePeersRequest { region_id, store_ids: to.to_vec(), terms: None };
        let mut id = 0;
        // The placement group may change its leader just now, or the region another thing.
        eventually("the move to begin", PATIENCE, async || {
            let started: OperationStarted =
                self.operate(async |mut admin| admin.move_peers(request.clone()).await).await?;
            id = started.operation_id;
            Ok(())
        })
        .await?;
        Ok(id)
    }

    /// Splits regions until one begins at each of these keys.
    pub async fn split_at(&self, keys: &[String]) -> Result<()> {
        let request = SplitRegionsRequest {
            header: Some(RequestHeader::default()),
            split_keys: keys.iter().cloned().map(Into::into).collect(),
            retry_limit: 0,
        };
        eventually("the regions to be split", PATIENCE, async || {
            let starts: BTreeSet<_> = self
                .regions()
                .await?
                .iter()
                .map(|view| Ok(range_of(view)?.start_key.clone()))
                .collect::<Result<_>>()?;
            let Some(missing) = keys.iter().find(|key| !starts.contains(key.as_bytes())) else {
                return Ok(());
            };
            for at in self.answering() {
                let mut placement = PdClient::new(self.channel(at).await?);
                // What a store that is just dying says does not matter: the directory shows what has happened.
                if let Ok(Ok(_)) = timeout(PATIENCE, placement.split_regions(request.clone())).await {
                    break;
                }
            }
            bail!("no region begins at {missing}")
        })
        .await
    }

    /// The operations that run, and the last that have ended.
    pub async fn operations(&self) -> Result<Vec<OperationRow>> {
        let request = ListOperationsRequest { has_ended: true, ..ListOperationsRequest::default() };
        Ok(self.operate(async |mut admin| admin.list_operations(request).await).await?.operations)
    }

    /// Waits until an operation has ended, and how.
    pub async fn ended(&self, operation_id: u64) -> Result<OperationRow> {
        let mut found = None;
        eventually("the operation to end", PATIENCE, async || {
            let rows = self.operations().await?;
            let row = rows.into_iter().find(|row| row.id == operation_id);
            let row = row.with_context(|| format!("no operation {operation_id}"))?;
            ensure!(row.state() != OperationState::Running, "it runs: {row:?}");
            found = Some(row);
            Ok(())
        })
        .await?;
        found.context("no operation")
    }

    /// Waits until every region, the placement group's too, has this many peers, all voters, each on a live store of its
    /// own, and a leader; and until no operation runs.
    pub async fn whole(&self, voters: usize) -> Result<()> {
        eventually("every region to be whole", PATIENCE, async || {
            let status = self.status().await?;
            let live: BTreeSet<u64> = status
                .stores
                .iter()
                .filter(|view| view.is_alive)
                .filter_map(|view| view.store.as_ref().map(|row| row.id))
                .collect();
            let group = status.placement_group.context("no placement group")?;
            check_whole(&group, &live, voters)?;
            for view in self.regions().await? {
                let region = view.region.context("no region")?;
                check_whole(&region, &live, voters)?;
                let leader = region.peers.iter().find(|peer| peer.id == view.leader_peer_id);
                let leads = |peer: &Peer| live.contains(&peer.store_id);
                ensure!(leader.is_some_and(leads), "region {} has no leader", region.id);
            }
            let running = self.operations().await?;
            let running = running.iter().find(|row| row.state() == OperationState::Running);
            ensure!(running.is_none(), "an operation runs: {running:?}");
            Ok(())
        })
        .await
    }
}

/// Whether another store, or the same a little later, may well answer otherwise.
fn may_pass(code: Code) -> bool {
    [Code::Unavailable, Code::DeadlineExceeded, Code::Unknown, Code::Cancelled].contains(&code)
}

fn range_of(view: &RegionView) -> Result<&KeyRange> {
    view.region.as_ref().and_then(|region| region.range.as_ref()).context("no range")
}

fn check_whole(region: &Region, live: &BTreeSet<u64>, voters: usize) -> Result<()> {
    let stores: BTreeSet<u64> = region
        .peers
        .iter()
        .filter(|peer| peer.role() == PeerRole::Voter && live.contains(&peer.store_id))
        .map(|peer| peer.store_id)
        .collect();
    let (id, peers) = (region.id, &region.peers);
    ensure!(stores.len() == voters && peers.len() == voters, "region {id}: {peers:?}, live: {live:?}");
    Ok(())
}
