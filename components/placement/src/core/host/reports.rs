//! Reports of stores: soft state, and the source of every change of the directory.

use actor::Now;
use telemetry::names;
use types::{Epoch, Region, RegionId, StoreId};

use super::{
    Effect,
    serving::Serving,
    soft::{Soft, StoreSoft},
};
use crate::core::{
    api::Error,
    directory::Offer,
    limits::HOST_WAITING_MAX,
    protocol::{LonelyPeer, ReportAnswer, Response, StoreReport},
    record::{StoreRecord, StoreState},
};

/// Where a report stands among those of its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sequence {
    /// It says what has changed since one that was taken.
    Next,
    /// A later one was taken already.
    Late,
    /// It says what has changed since one that this host never had.
    Gap,
}

impl Serving {
    pub(super) fn on_report(
        &mut self,
        now: Now,
        from: StoreId,
        report: StoreReport,
        soft: &mut Soft,
    ) -> Result<ReportAnswer, Error> {
        self.check_reporter(from, &report.record)?;
        let was_complete = soft.is_live(now, from) && soft.has_all_of(from);
        self.refresh_row(&report.record);
        let sequence = self.take_store_soft(now, from, &report, soft)?;
        if !was_complete {
            // It may be what a region waits for.
            self.timers.schedule_soon(now);
        }
        match sequence {
            Sequence::Next => {}
            // Newer ones have said what it says: only the address book is worth anything in the answer.
            Sequence::Late => {
                let is_full_wanted = soft.stores.get(&from).is_some_and(|store| store.is_full_wanted);
                return Ok(ReportAnswer { number: report.number, ..self.news(is_full_wanted) });
            }
            Sequence::Gap => return Ok(ReportAnswer { number: report.number, ..self.news(true) }),
        }
        metrics::counter!(names::PLACEMENT_REPORTS).increment(report.leads.len() as u64);
        if report.is_full {
            soft.clear_leaders_on(from);
        }
        // What only brings what was asked for is not answered with the same question: the next heartbeat is.
        let is_answer = report.leads.is_empty() && !report.siblings.is_empty();
        let mentioned: Vec<(RegionId, Epoch)> =
            report.leads.iter().map(|lead| (lead.region.id, lead.region.epoch)).collect();
        let mut is_complete = true;
        for lead in report.leads {
            is_complete &= self.take_descriptor(now, &lead.region, soft);
            soft.set_leader(lead);
        }
        for region_id in report.leads_no_longer {
            soft.clear_leader(region_id, from);
        }
        for region in report.siblings {
            is_complete &= self.take_descriptor(now, &region, soft);
        }
        if !is_complete {
            soft.want_full_reports();
        }
        let goals = mentioned
            .into_iter()
            // A goal for the epoch that is just being replaced would be refused; with the new row's commit it is told.
            .filter(|(id, epoch)| self.find_region(soft, *id).is_some_and(|region| region.epoch == *epoch))
            .filter_map(|(region_id, _)| self.goal_for(now, region_id, soft))
            .filter(|(store_id, _)| *store_id == from)
            .map(|(_, goal)| goal)
            .collect();
        let is_led_there = |region: &Region| soft.leads(from, region.id);
        let wanted = if is_answer { Vec::new() } else { self.directory.untiled(is_led_there) };
        let destroys =
            report.lonely_peers.iter().filter_map(|lonely| self.find_removal(lonely, soft)).collect();
        let is_full_wanted = soft.stores.get(&from).is_some_and(|store| store.is_full_wanted);
        Ok(ReportAnswer {
            placement_term: self.term,
            number: report.number,
            is_full_wanted,
            goals,
            destroys,
            wanted,
            stores: self.address_book(),
            settings: self.settings,
        })
    }

    /// The descriptor that shows that a peer was removed: it is newer than the peer's own, and does not name it. Whoever
    /// has it applied has applied the removal. Of a peer that has nothing yet it shows that only where no operation may have
    /// added it: the row hears of that later than the peer.
    fn find_removal(&self, lonely: &LonelyPeer, soft: &Soft) -> Option<Region> {
        let region = self.find_region(soft, lonely.region_id)?;
        if lonely.epoch == Epoch::default() && self.operations.find_by_region(region.id).is_some() {
            return None;
        }
        let is_newer = region.epoch.conf_version > lonely.epoch.conf_version;
        (is_newer && region.find_peer(lonely.peer_id).is_none()).then(|| region.clone())
    }

    /// Every store that is not removed, in order of id.
    pub(super) fn address_book(&self) -> Vec<StoreRecord> {
        self.registry.records().filter(|record| record.state != StoreState::Removed).cloned().collect()
    }

    /// Tells every store that this host has begun, which makes each report everything that it knows.
    pub(super) fn announce(&self, effects: &mut Vec<Effect>) {
        self.ask_for_full_reports(effects, |_| true);
    }

    /// Asks stores that have not reported to this host yet again: what they were told may have been lost.
    pub(super) fn announce_again(&self, soft: &Soft, effects: &mut Vec<Effect>) {
        self.ask_for_full_reports(effects, |id| !soft.stores.contains_key(&id));
    }

    /// Tells every store where stores are.
    pub(super) fn push_address_book(&self, effects: &mut Vec<Effect>) {
        for record in self.address_book() {
            effects.push(Effect::Push(record.id, Response::Report(Box::new(self.news(false)))));
        }
    }

    fn ask_for_full_reports(&self, effects: &mut Vec<Effect>, is_asked: impl Fn(StoreId) -> bool) {
        for record in self.address_book() {
            if is_asked(record.id) {
                effects.push(Effect::Push(record.id, Response::Report(Box::new(self.news(true)))));
            }
        }
    }

    /// What every store should know, unasked.
    fn news(&self, is_full_wanted: bool) -> ReportAnswer {
        ReportAnswer {
            placement_term: self.term,
            is_full_wanted,
            stores: self.address_book(),
            settings: self.settings,
            ..ReportAnswer::default()
        }
    }

    fn check_reporter(&self, from: StoreId, record: &StoreRecord) -> Result<(), Error> {
        if record.id != from {
            return Err(Error::Invalid(format!("store {from} reports as store {}", record.id)));
        }
        let Some(row) = self.registry.find(from) else { return Err(Error::StoreNotFound(from)) };
        if row.state == StoreState::Removed {
            return Err(Error::StoreRemoved(from));
        }
        if record.incarnation < row.incarnation {
            return Err(Error::Invalid(format!("store {from} has been started anew since")));
        }
        Ok(())
    }

    /// Notes that a store was heard, and where its report stands among those that were taken.
    fn take_store_soft(
        &self,
        now: Now,
        from: StoreId,
        report: &StoreReport,
        soft: &mut Soft,
    ) -> Result<Sequence, Error> {
        let known = soft.stores.get(&from).copied();
        if known.is_some_and(|known| known.incarnation > report.incarnation()) {
            return Err(Error::Invalid(format!("store {from} has been started anew since")));
        }
        let known = known.filter(|known| known.incarnation == report.incarnation());
        let last = known.map_or(0, |known| known.report_number);
        let sequence = match known {
            Some(_) if report.number <= last => Sequence::Late,
            Some(_) if report.follows <= last => Sequence::Next,
            Some(_) | None if report.is_full => Sequence::Next,
            Some(_) | None => Sequence::Gap,
        };
        let is_taken = sequence == Sequence::Next;
        let is_begun = report.is_full || known.is_some_and(|known| !known.is_complete);
        let soft_of_store = StoreSoft {
            heard_at: now.monotonic,
            heard_at_wall: now.wall,
            load: report.load,
            incarnation: report.incarnation(),
            report_number: if is_taken { report.number } else { last },
            is_complete: match known {
                Some(known) if !is_taken => known.is_complete,
                Some(_) if is_begun => !report.has_more,
                Some(_) => true,
                None => is_taken && !report.has_more,
            },
            is_full_wanted: known.is_some_and(|known| known.is_full_wanted) && !(is_taken && report.is_full),
        };
        soft.stores.insert(from, soft_of_store);
        Ok(sequence)
    }

    /// Queues a change of the store's row, if what it says of itself is not what the row says.
    fn refresh_row(&mut self, record: &StoreRecord) {
        let Some(row) = self.registry.find(record.id) else { return };
        let new =
            StoreRecord { state: row.state, registration_nonce: row.registration_nonce, ..record.clone() };
        let is_queued = self.waiting.registrations.iter().any(|(_, waiting)| waiting.id == record.id);
        if new != *row && !is_queued && self.waiting.registrations.len() < HOST_WAITING_MAX {
            self.waiting.registrations.push_back((None, record.clone()));
        }
    }

    /// Whether the descriptor was taken; if not, everybody has to report anew.
    fn take_descriptor(&mut self, now: Now, region: &Region, soft: &mut Soft) -> bool {
        if region.id == RegionId::PLACEMENT {
            let known = soft.placement_group.as_ref();
            if known.is_none_or(|known| region.epoch.covers(known.epoch) && region != known) {
                soft.placement_group = Some(region.clone());
                self.timers.schedule_soon(now);
            }
            return true;
        }
        match self.directory.offer(region.clone()) {
            Offer::Known => true,
            Offer::Waiting => {
                self.waiting.is_directory_changed = true;
                true
            }
            Offer::Overflow => false,
        }
    }
}
