//! Region → mailbox. A region's peer lives in one raft worker and one apply worker, chosen by its id, so that routing
//! needs no table: whether the peer exists is the worker's own knowledge, and a sleeping peer costs the router nothing.

use std::sync::Arc;

use actor::Mailbox;
use types::{RegionId, StoreId};

use crate::{
    liveness::{LivenessMail, SleepMessage, SleepOffer, Sleeper},
    log_writer::LogTask,
    message::{ApplyMail, ConfirmedRead, RaftMail, ReadMail, SnapshotMail},
    size::SizeMail,
    upkeep::UpkeepMail,
};

/// The mailboxes of a store's actors.
pub(crate) struct Router {
    pub(crate) raft: Vec<Arc<Mailbox<RaftMail>>>,
    pub(crate) apply: Vec<Arc<Mailbox<ApplyMail>>>,
    pub(crate) read: Vec<Arc<Mailbox<ReadMail>>>,
    pub(crate) log_writer: Arc<Mailbox<LogTask>>,
    pub(crate) snapshot: Arc<Mailbox<SnapshotMail>>,
    pub(crate) liveness: Arc<Mailbox<LivenessMail>>,
    pub(crate) upkeep: Arc<Mailbox<UpkeepMail>>,
    pub(crate) sizer: Arc<Mailbox<SizeMail>>,
}

impl Router {
    /// Which raft worker a region belongs to.
    pub(crate) fn raft_at(&self, region_id: RegionId) -> usize {
        spread(region_id, self.raft.len())
    }

    /// Which apply worker a region belongs to.
    pub(crate) fn apply_at(&self, region_id: RegionId) -> usize {
        spread(region_id, self.apply.len())
    }

    /// To the raft worker of a region.
    pub(crate) fn send_raft(&self, region_id: RegionId, mail: RaftMail) {
        self.raft[self.raft_at(region_id)].send(mail);
    }

    /// To every raft worker.
    pub(crate) fn broadcast_raft(&self, mail: impl Fn() -> RaftMail) {
        self.raft.iter().for_each(|mailbox| mailbox.send(mail()));
    }

    /// To the apply worker of a region.
    pub(crate) fn send_apply(&self, region_id: RegionId, mail: ApplyMail) {
        self.apply[self.apply_at(region_id)].send(mail);
    }

    /// Confirmed reads go to the read worker of their region.
    pub(crate) fn send_confirmed(&self, region_id: RegionId, reads: Vec<ConfirmedRead>) {
        self.read[spread(region_id, self.read.len())].send(ReadMail::Applied(reads));
    }

    /// What another store says about sleepers: each raft worker gets what is about its regions.
    pub(crate) fn send_sleep(&self, from: StoreId, message: SleepMessage) {
        let count = self.raft.len();
        let of_offer = |offer: &SleepOffer| offer.region_id;
        let of_sleeper = |sleeper: &Sleeper| sleeper.region_id;
        match message {
            SleepMessage::Offer { incarnation, offers } => {
                for (at, offers) in Router::by_worker(count, offers, of_offer) {
                    self.raft[at].send(RaftMail::Sleep(from, SleepMessage::Offer { incarnation, offers }));
                }
            }
            SleepMessage::Agreed { leader_incarnation, follower_incarnation, offers } => {
                for (at, offers) in Router::by_worker(count, offers, of_offer) {
                    let agreed = SleepMessage::Agreed { leader_incarnation, follower_incarnation, offers };
                    self.raft[at].send(RaftMail::Sleep(from, agreed));
                }
            }
            SleepMessage::Wake(sleepers) => {
                for (at, sleepers) in Router::by_worker(count, sleepers, of_sleeper) {
                    self.raft[at].send(RaftMail::Sleep(from, SleepMessage::Wake(sleepers)));
                }
            }
            SleepMessage::NotLed(sleepers) => {
                for (at, sleepers) in Router::by_worker(count, sleepers, of_sleeper) {
                    self.raft[at].send(RaftMail::Sleep(from, SleepMessage::NotLed(sleepers)));
                }
            }
            SleepMessage::Sleepers(list) => {
                self.broadcast_raft(|| RaftMail::Sleep(from, SleepMessage::Sleepers(list.clone())));
            }
            SleepMessage::Digest(digest) => self.liveness.send(LivenessMail::Digest { from, digest }),
            SleepMessage::Compare => self.liveness.send(LivenessMail::Compare { from }),
        }
    }

    /// Messages to `store` cannot be delivered.
    pub(crate) fn on_unreachable(&self, store: StoreId) {
        self.broadcast_raft(|| RaftMail::StoreUnreachable(store));
    }

    /// Groups `items` by worker and hands each group over with one send.
    pub(crate) fn by_worker<T>(
        count: usize,
        items: Vec<T>,
        region_of: impl Fn(&T) -> RegionId,
    ) -> Vec<(usize, Vec<T>)> {
        if count == 1 {
            return vec![(0, items)];
        }
        let mut groups: Vec<Vec<T>> = (0..count).map(|_| Vec::new()).collect();
        for item in items {
            groups[spread(region_of(&item), count)].push(item);
        }
        groups.into_iter().enumerate().filter(|(_, group)| !group.is_empty()).collect()
    }
}

/// Consecutive region ids go to different workers.
fn spread(region_id: RegionId, count: usize) -> usize {
    usize::try_from(region_id.0 % count as u64).unwrap_or(0)
}
