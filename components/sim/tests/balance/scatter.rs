//! Regions that somebody wants to be scattered over the stores: each group on its own, and nothing else moves.

use placement::ScatterRequest;

use super::*;

/// How often it is asked again for those that have to wait.
const ASK_INTERVAL: Duration = Duration::from_millis(300);

impl Cluster {
    /// Four stores, the last without regions, and nothing moves by itself.
    fn with_an_empty_store(seed: u64, region_count: usize) -> Cluster {
        let mut cluster = Cluster::new(seed, region_count);
        cluster.found();
        cluster.set_balancing(false);
        cluster.pass(Duration::from_secs(2));
        cluster.join(HostId(3));
        cluster
            .advance(Duration::from_secs(5), "a fourth store", |cluster| cluster.world.stores().len() == 4);
        // Placement has to know what it has.
        cluster.pass(Duration::from_secs(3));
        cluster
    }

    fn pass(&mut self, duration: Duration) {
        let end = self.world.now() + duration;
        self.advance(duration + Duration::from_secs(1), "time", |cluster| cluster.world.now() >= end);
    }

    /// Asks for those of these regions that have not begun, in one call or one by one.
    fn ask_to_scatter(&mut self, group: &str, is_one_by_one: bool) {
        let all: Vec<RegionId> = self.unscattered.iter().copied().collect();
        let size = if is_one_by_one { 1 } else { all.len().max(1) };
        for region_ids in all.chunks(size) {
            let request = ScatterRequest { region_ids: region_ids.to_vec(), group: group.to_owned() };
            let body = CallBody::Placement(PlacementCall::ScatterRegions(request));
            self.ask(self.door(), body, Question::Scatter);
        }
    }

    /// Until all have begun, and ended.
    fn scatter(&mut self, region_ids: &[RegionId], group: &str, is_one_by_one: bool) {
        self.unscattered = region_ids.iter().copied().collect();
        let end = self.world.now() + Duration::from_secs(60);
        while !self.unscattered.is_empty() {
            assert!(self.world.now() < end, "{:?} are not scattered", self.unscattered);
            self.ask_to_scatter(group, is_one_by_one);
            self.pass(ASK_INTERVAL);
        }
        // What has begun is in the next list of operations.
        self.pass(Duration::from_secs(1));
        self.advance(Duration::from_secs(30), "the end of all operations", |cluster| !cluster.is_running);
    }

    /// Peers and leaders of these regions on each store.
    fn spread(&self, region_ids: &[RegionId]) -> Vec<(usize, usize)> {
        let pictures: Vec<_> = region_ids.iter().filter_map(|id| self.leader(*id)).collect();
        let counts = |id| {
            let peers = pictures.iter().filter(|picture| has_peer(picture, id));
            let led = pictures.iter().filter(|picture| picture.peer.store_id == id);
            (peers.count(), led.count())
        };
        self.world.stores().into_iter().map(counts).collect()
    }

    /// Where the peers of these regions are.
    fn homes(&self, region_ids: &[RegionId]) -> Vec<Vec<StoreId>> {
        let regions = region_ids.iter().filter_map(|id| self.leader(*id)?.region);
        let stores = |region: std::sync::Arc<Region>| {
            let mut stores: Vec<_> = region.peers.iter().map(|peer| peer.store_id).collect();
            stores.sort_unstable();
            stores
        };
        regions.map(stores).collect()
    }
}

/// As many peers of a group on each store, and as many of its leaders: with one call for all, and with a call for each while
/// the store dies that leads the placement group. Whoever asks again changes nothing, and so does levelling.
#[test]
fn scattered_regions_are_spread_evenly_group_by_group() {
    let mut cluster = Cluster::with_an_empty_store(13, 48);
    let regions = cluster.world.client_regions();
    let (table, index) = regions.split_at(24);
    assert_eq!(cluster.spread(table)[3], (0, 0), "the fourth store has nothing");
    let index_homes = cluster.homes(index);

    cluster.scatter(table, "table", false);
    assert_eq!(cluster.spread(table), [(18, 6); 4]);
    assert_eq!(cluster.homes(index), index_homes, "nobody has asked for these");
    assert!(!cluster.operations.is_empty());

    // Again: all are where they should be.
    let operation_count = cluster.operations.len();
    cluster.scatter(table, "table", false);
    cluster.pass(Duration::from_secs(5));
    assert_eq!(cluster.operations.len(), operation_count);

    let table_homes = cluster.homes(table);
    cluster.unscattered = index.iter().copied().collect();
    cluster.ask_to_scatter("index", true);
    // It may have ended before anybody lists it as running.
    cluster.advance(Duration::from_secs(2), "the first operation", |cluster| {
        cluster.unscattered.len() < index.len()
    });
    let (leader, _) = cluster.world.leader_of(RegionId::PLACEMENT).expect("somebody leads");
    cluster.world.crash(leader, Duration::from_millis(900));
    cluster.scatter(index, "index", true);
    // Its leaders went elsewhere when it died: asked once more, each group is even again.
    cluster.scatter(table, "table", false);
    cluster.scatter(index, "index", true);
    assert_eq!((cluster.spread(table), cluster.spread(index)), (vec![(18, 6); 4], vec![(18, 6); 4]));
    assert_eq!(cluster.homes(table), table_homes, "one group does not move another's peers");

    cluster.set_balancing(true);
    cluster.be_still();
    println!("{} operations, {} writes", cluster.operations.len(), cluster.written_count);
}
