//! What this store tells the host: leaders as changes, itself every second, everything to a new host.
//!
//! A report says all that has changed since the last one that was acknowledged, so that it does not matter how many between
//! the two were lost. One waits for its acknowledgement at a time; whatever changes meanwhile joins the next one. Its size
//! and its cost follow from what has changed, never from how many regions are led here.

use std::collections::{BTreeMap, BTreeSet};

use types::{Instant, KeyRange, PeerId, Region, RegionId, Term};

use super::Locals;
use crate::core::{
    directory::end_order,
    limits::{CALL_RETRY_AFTER, HEARTBEAT_INTERVAL, REPORT_REGIONS_MAX, REPORT_RESEND_AFTER},
    protocol::{LeaderReport, StoreReport},
    record::{StoreLoad, StoreRecord},
};

/// What is to be told, and what has been.
#[derive(Debug, Default)]
pub(super) struct Reports {
    leads: BTreeMap<RegionId, LeaderReport>,
    /// Leads that the host does not know as they are.
    changed: BTreeSet<RegionId>,
    /// Regions that were reported and are not led here any more.
    no_longer: BTreeSet<RegionId>,
    /// Descriptors that belong to those of leads.
    siblings: BTreeMap<RegionId, Region>,
    /// The last report that was sent.
    number: u64,
    /// The last report that was acknowledged.
    acknowledged: u64,
    /// By the host of this term; zero: by none, so that the first report is a full one.
    placement_term: Term,
    is_full_wanted: bool,
    outstanding: Option<Outstanding>,
    /// Not before this, after a failure.
    retry_at: Instant,
    heartbeat_at: Instant,
}

/// The report that waits to be acknowledged, and what it says: to be said again if it is not.
#[derive(Debug)]
struct Outstanding {
    request_id: u64,
    sent_at: Instant,
    is_full: bool,
    changed: Vec<RegionId>,
    no_longer: Vec<RegionId>,
    siblings: BTreeMap<RegionId, Region>,
}

impl Reports {
    /// A region is led here, and this is new of it.
    pub(super) fn add(&mut self, mut report: LeaderReport, locals: &dyn Locals) {
        let id = report.region.id;
        self.no_longer.remove(&id);
        let known = self.leads.get(&id);
        if let Some(known) = known
            && known.region.range != report.region.range
        {
            self.siblings.extend(siblings_in(&known.region.range, Some(id), locals));
        }
        match known {
            // What the host has heard stays, so that a size that creeps becomes news.
            Some(known) if !report.is_news_after(known) => report.size = known.size,
            Some(_) | None => drop(self.changed.insert(id)),
        }
        self.leads.insert(id, report);
    }

    /// A region is not led here any more.
    pub(super) fn remove(&mut self, id: RegionId) {
        if self.leads.remove(&id).is_some() {
            self.changed.remove(&id);
            self.no_longer.insert(id);
        }
    }

    /// Whether the leader here of a region counts on a peer.
    pub(super) fn counts_on(&self, region_id: RegionId, peer_id: PeerId) -> bool {
        let has = |ids: &[PeerId]| ids.contains(&peer_id);
        self.leads.get(&region_id).is_none_or(|lead| !has(&lead.down_peers) && !has(&lead.pending_peers))
    }

    /// How many regions are led here.
    pub(super) fn lead_count(&self) -> usize {
        self.leads.len()
    }

    /// The host lacks descriptors of these keys.
    pub(super) fn add_siblings(&mut self, range: &KeyRange, locals: &dyn Locals) {
        self.siblings.extend(siblings_in(range, None, locals));
    }

    /// Whether a report should be sent now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        match &self.outstanding {
            Some(outstanding) => now.since(outstanding.sent_at) >= REPORT_RESEND_AFTER,
            None => self.retry_at <= now && (self.heartbeat_at <= now || self.has_news()),
        }
    }

    /// Whether the next report is also a heartbeat.
    pub(super) fn is_heartbeat_due(&self, now: Instant) -> bool {
        self.heartbeat_at <= now
    }

    /// Whether a report has waited too long to be acknowledged.
    pub(super) fn is_timed_out(&self, now: Instant) -> bool {
        self.outstanding.as_ref().is_some_and(|sent| now.since(sent.sent_at) >= REPORT_RESEND_AFTER)
    }

    /// When a report is due.
    pub(super) fn deadline(&self) -> Instant {
        match &self.outstanding {
            Some(outstanding) => outstanding.sent_at + REPORT_RESEND_AFTER,
            None if self.has_news() => self.retry_at,
            None => self.heartbeat_at.max(self.retry_at),
        }
    }

    /// Makes the report that is due.
    pub(super) fn make(
        &mut self,
        now: Instant,
        request_id: u64,
        record: StoreRecord,
        load: StoreLoad,
    ) -> StoreReport {
        self.take_back();
        let is_full = self.is_full_wanted || self.placement_term == Term(0);
        if is_full {
            self.changed.extend(self.leads.keys());
        }
        let changed = take_first(&mut self.changed);
        // What is said of a region as its leader need not be said twice.
        self.siblings.retain(|id, _| changed.binary_search(id).is_err());
        let mut siblings = std::mem::take(&mut self.siblings);
        if let Some(next) = siblings.keys().nth(REPORT_REGIONS_MAX).copied() {
            self.siblings = siblings.split_off(&next);
        }
        let no_longer = take_first(&mut self.no_longer);
        self.number += 1;
        let report = StoreReport {
            record,
            number: self.number,
            follows: self.acknowledged,
            is_full,
            has_more: self.has_changes(),
            load,
            leads: changed.iter().filter_map(|id| self.leads.get(id)).cloned().collect(),
            leads_no_longer: no_longer.clone(),
            siblings: siblings.values().cloned().collect(),
            lonely_peers: Vec::new(),
        };
        self.outstanding =
            Some(Outstanding { request_id, sent_at: now, is_full, changed, no_longer, siblings });
        self.heartbeat_at = now + HEARTBEAT_INTERVAL;
        report
    }

    /// Whether this request is the report that waits.
    pub(super) fn is_awaiting(&self, request_id: u64) -> bool {
        self.outstanding.as_ref().is_some_and(|outstanding| outstanding.request_id == request_id)
    }

    /// A host has a report.
    pub(super) fn on_acknowledged(
        &mut self,
        now: Instant,
        request_id: u64,
        number: u64,
        placement_term: Term,
        is_full_wanted: bool,
    ) {
        let Some(outstanding) = self.outstanding.take_if(|sent| sent.request_id == request_id) else {
            return;
        };
        self.acknowledged = number;
        self.retry_at = now;
        let is_new_host = placement_term != self.placement_term && !outstanding.is_full;
        self.placement_term = placement_term;
        self.is_full_wanted = is_full_wanted || is_new_host;
    }

    /// A host begins, and knows nothing of what earlier ones were told.
    pub(super) fn want_full(&mut self, now: Instant) {
        self.take_back();
        self.is_full_wanted = true;
        self.retry_at = now;
        self.heartbeat_at = now;
    }

    /// A report was not taken.
    pub(super) fn on_failed(&mut self, now: Instant, request_id: u64) {
        if self.is_awaiting(request_id) {
            self.take_back();
            self.retry_at = now + CALL_RETRY_AFTER;
        }
    }

    /// The host may be another one: whatever is outstanding is sent again.
    pub(super) fn retry(&mut self, now: Instant) {
        self.take_back();
        self.retry_at = now;
        self.heartbeat_at = now;
    }

    fn has_news(&self) -> bool {
        self.is_full_wanted || self.has_changes()
    }

    fn has_changes(&self) -> bool {
        !self.changed.is_empty() || !self.no_longer.is_empty() || !self.siblings.is_empty()
    }

    /// What the outstanding report says has to be said again.
    fn take_back(&mut self) {
        let Some(outstanding) = self.outstanding.take() else { return };
        self.changed.extend(outstanding.changed.into_iter().filter(|id| self.leads.contains_key(id)));
        for id in outstanding.no_longer {
            if !self.leads.contains_key(&id) {
                self.no_longer.insert(id);
            }
        }
        for (id, region) in outstanding.siblings {
            self.siblings.entry(id).or_insert(region);
        }
    }
}

/// The first ids, as many as a report has room for.
fn take_first(ids: &mut BTreeSet<RegionId>) -> Vec<RegionId> {
    let mut taken = Vec::new();
    while taken.len() < REPORT_REGIONS_MAX
        && let Some(id) = ids.pop_first()
    {
        taken.push(id);
    }
    taken
}

/// This store's descriptors of the keys that a region had, from their start as far as they go.
fn siblings_in(
    range: &KeyRange,
    except: Option<RegionId>,
    locals: &dyn Locals,
) -> BTreeMap<RegionId, Region> {
    let mut siblings = BTreeMap::new();
    let mut cursor = range.start_key.clone();
    while siblings.len() < REPORT_REGIONS_MAX
        && let Some(local) = locals.find(&cursor)
    {
        if Some(local.region.id) != except {
            siblings.insert(local.region.id, Region::clone(&local.region));
        }
        cursor = local.region.range.end_key.clone();
        if end_order(&cursor, &range.end_key).is_ge() {
            break;
        }
    }
    siblings
}
