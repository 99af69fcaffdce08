//! The apply worker: one write batch for all regions of a round.

mod applier;
mod catch_up;
mod install;
mod size;

use std::{collections::BTreeMap, sync::Arc};

use actor::{Now, Worker, give_back};
use types::{Instant, RegionId};

use self::applier::{Applier, Effects};
pub(crate) use self::{applier::from_kv, catch_up::catch_up};
use crate::{
    limits::APPLY_BATCH_BYTES_MAX,
    message::{AppliedNotice, ApplyMail, RaftMail},
    shared::Shared,
    size::SizeMail,
};

/// The actor that applies the entries of every n-th region.
pub(crate) struct ApplyWorker {
    shared: Arc<Shared>,
    regions: BTreeMap<RegionId, Box<Applier>>,
    /// Writes of the round, and what the commands of the round see of them.
    round: kv::Round,
    effects: Effects,
    /// When the round began.
    now: Instant,
}

impl Worker for ApplyWorker {
    type Mail = ApplyMail;

    fn round(&mut self, now: Now, mail: &mut Vec<ApplyMail>) {
        self.now = now.monotonic;
        // 1. Every region's entries go into one batch.
        for mail in mail.drain(..) {
            self.on_mail(mail);
            if self.round.batch().size_bytes() >= APPLY_BATCH_BYTES_MAX {
                self.commit();
            }
        }
        self.commit();
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }
}

impl ApplyWorker {
    pub(crate) fn new(shared: Arc<Shared>) -> ApplyWorker {
        ApplyWorker {
            shared,
            regions: BTreeMap::new(),
            round: kv::Round::new(),
            effects: Effects::default(),
            now: Instant::ZERO,
        }
    }

    fn on_mail(&mut self, mail: ApplyMail) {
        match mail {
            ApplyMail::Open(region_id) => self.open(region_id),
            ApplyMail::Commit(committed) => {
                let region_id = committed.region_id;
                let Some(applier) = self.regions.get_mut(&region_id) else {
                    return (self.shared.fatal)(&format!(
                        "region {region_id} has entries to apply and no data"
                    ));
                };
                if let Err(error) =
                    applier.apply(committed, &*self.shared.kv, &mut self.round, &mut self.effects)
                {
                    (self.shared.fatal)(&format!("apply region {region_id}: {error}"));
                }
            }
            ApplyMail::Install(install) => {
                self.commit();
                self.install(*install);
            }
            ApplyMail::Split { record, births } => {
                self.commit();
                self.split(*record, births);
            }
            ApplyMail::End(record) => {
                self.commit();
                self.end(*record);
            }
            ApplyMail::Measured { region_id, measured } => self.on_measured(region_id, measured),
            ApplyMail::Await { region_id, index, read } => match self.regions.get_mut(&region_id) {
                Some(applier) => applier.wait(index, *read, &mut self.effects),
                None => read.request.responder.reply(Err(crate::Error::NotInitialized(region_id))),
            },
        }
    }

    /// A region whose rows the KV engine holds.
    fn open(&mut self, region_id: RegionId) {
        let Some(view) = self.shared.views.find(region_id) else { return };
        let loaded = Applier::load(region_id, &*self.shared.kv, view);
        match loaded {
            Ok(applier) => drop(self.regions.insert(region_id, Box::new(applier))),
            Err(error) => (self.shared.fatal)(&format!("load region {region_id}: {error}")),
        }
    }

    /// Ends a round: one write, then everything that may only follow it.
    fn commit(&mut self) {
        // 2. How far each region is goes into the same batch as its data.
        for region_id in &self.effects.dirty {
            if let Some(applier) = self.regions.get(region_id) {
                applier.write_state(&mut self.round);
            }
        }
        // 3. One write for all regions.
        if !self.round.batch().is_empty() {
            let began = self.shared.clock.monotonic();
            let result = self.shared.kv.write(self.round.batch());
            if self.shared.or_fatal("write the data", result).is_none() {
                return;
            }
            self.effects.count(self.shared.clock.monotonic().since(began));
            self.round.clear();
        }
        // 4. Views and directory before answers: a client that has its answer reads its write.
        let mut notices: Vec<Vec<AppliedNotice>> =
            self.shared.router.raft.iter().map(|_| Vec::new()).collect();
        for region_id in std::mem::take(&mut self.effects.dirty) {
            let Some(applier) = self.regions.get_mut(&region_id) else { continue };
            let region = applier.publish(&self.shared.meta);
            if applier.begin_counting(self.now, &self.shared.config) {
                self.shared.router.sizer.send(SizeMail::Measure(region_id));
            }
            let last_split = applier.last_split();
            let notice = AppliedNotice { region_id, position: applier.position(), region, last_split };
            notices[self.shared.router.raft_at(region_id)].push(notice);
            self.effects.reads.extend(applier.take_ready_reads().map(|read| (region_id, read)));
        }
        // 5. Answers.
        let answer_count = self.effects.answers.len();
        for (responder, result) in self.effects.answers.drain(..) {
            responder.reply(result);
        }
        give_back(&mut self.effects.answers, answer_count);
        // 6. Raft workers and read workers.
        for (mailbox, notices) in self.shared.router.raft.iter().zip(notices) {
            if !notices.is_empty() {
                mailbox.send(RaftMail::Applied(notices));
            }
        }
        for draft in self.effects.splits.drain(..) {
            self.shared.router.send_raft(draft.region.id, RaftMail::SplitReached(Box::new(draft)));
        }
        let mut reads: BTreeMap<RegionId, Vec<_>> = BTreeMap::new();
        for (region_id, read) in self.effects.reads.drain(..) {
            reads.entry(region_id).or_default().push(read);
        }
        for (region_id, reads) in reads {
            self.shared.router.send_confirmed(region_id, reads);
        }
    }
}
