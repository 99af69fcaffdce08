//! What placement is told of leaders: each change once, and nothing while nothing changes.

use std::time::Duration;

use store::{AdminAction, LeadChanges};
use types::{PeerId, RegionId, StoreId};

use super::{FIRST, cluster::Cluster};

/// Led by which store, with how many peers, who is down; or led no longer.
type Said = Result<(StoreId, usize, Vec<PeerId>), RegionId>;

/// What was said of region 2 since the last call.
fn said(cluster: &Cluster) -> Vec<Said> {
    let changes = std::mem::take(&mut *cluster.placement.changes.lock().expect("no test panics here"));
    let each = changes.into_iter().flat_map(|LeadChanges { leads, leads_no_longer }| {
        let leads = leads.into_iter().filter(|lead| lead.region.id == RegionId::FIRST);
        let leads = leads.map(|lead| Ok((lead.leader.store_id, lead.region.peers.len(), lead.down_peers)));
        let lost = leads_no_longer.into_iter().filter(|id| *id == RegionId::FIRST).map(Err);
        leads.chain(lost).collect::<Vec<_>>()
    });
    each.collect()
}

#[test]
fn a_leader_says_what_changes_and_nothing_twice() {
    let mut cluster = Cluster::with_stores(3);
    assert_eq!(said(&cluster), [Ok((FIRST, 1, Vec::new()))], "it leads");
    cluster.grow_to_three_voters();
    let grown = said(&cluster);
    assert_eq!(grown.last(), Some(&Ok((FIRST, 3, Vec::new()))));
    assert!(grown.len() < 12, "one for each step, and for learners that catch up: {grown:?}");
    // Writes are no news, and time is none.
    for _ in 0..60 {
        cluster.put(FIRST, "a", "1").expect("it serves");
        cluster.advance(Duration::from_millis(500));
    }
    assert_eq!(said(&cluster), []);
    // A store that is not heard any more is, once; and so is that it is back.
    cluster.cut(StoreId(1_002));
    cluster.advance(Duration::from_secs(20));
    let heard = said(&cluster);
    assert_eq!(heard.last(), Some(&Ok((FIRST, 3, vec![PeerId(2_002)]))));
    assert!(heard.len() <= 2, "that it lags, that it is down: {heard:?}");
    cluster.heal(StoreId(1_002));
    cluster.advance(Duration::from_secs(20));
    assert_eq!(said(&cluster).last(), Some(&Ok((FIRST, 3, Vec::new()))));
    // Leadership goes elsewhere: both say so.
    cluster.admin(FIRST, AdminAction::TransferLeader(PeerId(2_001))).expect("it is begun");
    cluster.advance(Duration::from_secs(3));
    let mut moved = said(&cluster);
    moved.sort_by_key(Result::is_ok);
    assert_eq!(moved, [Err(RegionId::FIRST), Ok((StoreId(1_001), 3, Vec::new()))]);
}

/// A leader whose peer ends says that it leads no longer.
#[test]
fn a_leader_that_is_removed_leads_no_longer() {
    let mut cluster = Cluster::with_stores(3);
    cluster.grow_to_three_voters();
    let peers = cluster.region(FIRST).peers.iter().filter(|peer| peer.store_id != FIRST).copied().collect();
    said(&cluster);
    cluster.admin(FIRST, AdminAction::SetPeers { peers, change_id: 2 }).expect("the leader takes it on");
    cluster.advance(Duration::from_secs(5));
    let said = said(&cluster);
    assert_eq!(said.iter().filter(|said| said.is_err()).count(), 1, "{said:?}");
    let led_by = |said: &Said| said.as_ref().ok().map(|lead| lead.0);
    let last = said.iter().filter_map(led_by).next_back();
    assert!(last.is_some_and(|store| store != FIRST), "{said:?}");
}
