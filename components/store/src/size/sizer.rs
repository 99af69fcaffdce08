//! The sizer: counts regions and finds where they can be divided, a slice at a time, so that nobody waits for it.

use std::{collections::VecDeque, ops::ControlFlow, sync::Arc};

use actor::{Now, Worker};
use engine::KvSnapshot;
use kv::{
    export::{self, Extent},
    keys,
};
use telemetry::names;
use types::{Instant, LogPosition, Region, RegionId, SplitTrace, WallTime};

use super::{
    Counted, SizeEstimate,
    cut::{Cut, Cutter},
};
use crate::{
    ApplyState, Error, Result, codec,
    limits::{COUNT_PARTS_MAX, COUNT_RETRY_AFTER, COUNT_SLICE_BYTES, COUNT_SLICE_PAIRS, COUNTS_ASKED_MAX},
    message::{ApplyMail, LastSplit, Responder, SplitKeys, SplitKeysWish},
    shared::Shared,
};

/// Mail of the sizer.
pub(crate) enum SizeMail {
    /// Somebody waits for keys.
    Find {
        /// The region.
        region_id: RegionId,
        /// What for.
        wish: SplitKeysWish,
        /// Who is answered.
        responder: Responder<SplitKeys>,
    },
    /// The region's applier wants to know, whenever there is time.
    Measure(RegionId),
}

/// A region, counted at one moment.
#[derive(Debug)]
pub(crate) struct Measured {
    /// The position up to which it was applied then.
    pub(crate) position: LogPosition,
    /// What its row said then.
    pub(crate) known: SizeEstimate,
    /// What it held.
    pub(crate) counted: Counted,
}

/// The actor that counts.
pub(crate) struct Sizer {
    shared: Arc<Shared>,
    asked: VecDeque<(RegionId, SplitKeysWish, Responder<SplitKeys>)>,
    wanted: VecDeque<RegionId>,
    running: Option<Scan>,
    /// Not before this.
    next_slice: Instant,
}

/// What a scan is for.
enum Purpose {
    Answer(SplitKeysWish, Responder<SplitKeys>),
    Applier,
}

struct Scan {
    purpose: Purpose,
    region: Region,
    last_split: Option<SplitTrace>,
    position: LogPosition,
    region_clock: WallTime,
    known: SizeEstimate,
    snapshot: Box<dyn KvSnapshot>,
    /// The engine key from which the next slice goes on.
    resume_key: Vec<u8>,
    cutter: Cutter,
}

impl Worker for Sizer {
    type Mail = SizeMail;

    fn round(&mut self, now: Now, mail: &mut Vec<SizeMail>) {
        for mail in mail.drain(..) {
            self.on_mail(mail);
        }
        if self.next_slice > now.monotonic && self.asked.is_empty() {
            return;
        }
        if self.running.is_none() {
            self.start_next();
        }
        // One slice a round: what has come meanwhile is looked at, and the thread's core is free for others.
        self.run_slice(now.monotonic);
    }

    fn deadline(&self) -> Option<Instant> {
        if !self.asked.is_empty() {
            return Some(Instant::ZERO);
        }
        (self.running.is_some() || !self.wanted.is_empty()).then_some(self.next_slice)
    }
}

impl Sizer {
    pub(crate) fn new(shared: Arc<Shared>) -> Sizer {
        let (asked, wanted) = (VecDeque::new(), VecDeque::new());
        Sizer { shared, asked, wanted, running: None, next_slice: Instant::ZERO }
    }

    fn on_mail(&mut self, mail: SizeMail) {
        match mail {
            SizeMail::Find { region_id, wish, responder } => {
                if let Err(error) = check_wish(region_id, wish) {
                    return responder.reply(Err(error));
                }
                if self.asked.len() >= COUNTS_ASKED_MAX {
                    let reason = "regions wait to be counted";
                    return responder.reply(Err(Error::Busy { reason, retry_after: COUNT_RETRY_AFTER }));
                }
                self.asked.push_back((region_id, wish, responder));
            }
            // An applier has one count under way, so there are no more than regions.
            SizeMail::Measure(region_id) => self.wanted.push_back(region_id),
        }
    }

    fn start_next(&mut self) {
        let (region_id, purpose) = match (self.asked.pop_front(), self.wanted.is_empty()) {
            (Some((region_id, wish, responder)), _) => (region_id, Purpose::Answer(wish, responder)),
            (None, true) => return,
            (None, false) => {
                let Some(region_id) = self.wanted.pop_front() else { return };
                (region_id, Purpose::Applier)
            }
        };
        metrics::counter!(names::SIZE_COUNTS).increment(1);
        let snapshot = self.shared.kv.snapshot();
        match read_rows(region_id, &*snapshot) {
            Ok(Some(Rows { region, last_split, state })) => {
                self.running = Some(Scan {
                    purpose,
                    region,
                    last_split,
                    position: state.position,
                    region_clock: state.region_clock,
                    known: state.size,
                    snapshot,
                    resume_key: Vec::new(),
                    cutter: Cutter::new(),
                });
            }
            Ok(None) => self.give_up(region_id, purpose, Error::RegionNotFound(region_id)),
            Err(error) => self.fail(region_id, purpose, error),
        }
    }

    fn run_slice(&mut self, began: Instant) {
        let Some(mut scan) = self.running.take() else { return };
        let is_waited_for = matches!(scan.purpose, Purpose::Answer(..));
        match scan.run_slice() {
            Ok(true) => self.finish(scan),
            Ok(false) => self.running = Some(scan),
            Err(error) => self.fail(scan.region.id, scan.purpose, error),
        }
        // What nobody waits for takes a part of a core at the most.
        let took = self.shared.clock.monotonic().since(began);
        let rest = if is_waited_for { std::time::Duration::ZERO } else { took * 3 };
        self.next_slice = self.shared.clock.monotonic() + rest;
    }

    fn finish(&self, scan: Scan) {
        let region_id = scan.region.id;
        let counted = scan.cutter.finish();
        metrics::counter!(names::SIZE_COUNTED_BYTES).increment(counted.size.size_bytes);
        match scan.purpose {
            Purpose::Answer(wish, responder) => {
                let cuts = counted.divide(part_count(wish));
                let keys = cuts.into_iter().map(|Cut { key, .. }| key).collect();
                let last_split = scan.last_split.map(|split| LastSplit::of(&split));
                let found = SplitKeys { region: scan.region, keys, size: counted.size, last_split };
                responder.reply(Ok(found));
            }
            Purpose::Applier => {
                let measured = Measured { position: scan.position, known: scan.known, counted };
                self.answer_applier(region_id, Some(measured));
            }
        }
    }

    /// The data cannot be read as it should: whoever reads these keys will be told the same.
    fn fail(&self, region_id: RegionId, purpose: Purpose, error: kv::Error) {
        match error {
            kv::Error::Engine(error) => {
                (self.shared.fatal)(&format!("count region {region_id}: {error}"));
            }
            error @ (kv::Error::Corruption { .. }
            | kv::Error::NotInRegion { .. }
            | kv::Error::WrongGroup { .. }
            | kv::Error::AnswerTooLarge { .. }) => {
                tracing::warn!(region = region_id.0, %error, "the region cannot be counted");
                let error = Error::Refused(format!("region {region_id} cannot be read: {error}"));
                self.give_up(region_id, purpose, error);
            }
        }
    }

    fn give_up(&self, region_id: RegionId, purpose: Purpose, error: Error) {
        match purpose {
            Purpose::Answer(_, responder) => responder.reply(Err(error)),
            Purpose::Applier => self.answer_applier(region_id, None),
        }
    }

    fn answer_applier(&self, region_id: RegionId, measured: Option<Measured>) {
        let measured = measured.map(Box::new);
        self.shared.router.send_apply(region_id, ApplyMail::Measured { region_id, measured });
    }
}

impl Scan {
    /// Goes on for a while; returns whether the region is at its end.
    fn run_slice(&mut self) -> kv::Result<bool> {
        let extent =
            Extent { region_id: self.region.id, range: &self.region.range, clock: self.region_clock };
        let (mut bytes_left, mut pairs_left) = (COUNT_SLICE_BYTES, COUNT_SLICE_PAIRS);
        let cutter = &mut self.cutter;
        let resume_key =
            export::visit(&extent, Some(&self.resume_key), &*self.snapshot, &mut |key, value| {
                let size_bytes = key.len() + value.len();
                // Rows of the placement group are never cut.
                cutter.visit(keys::parse_user(key).unwrap_or(key), size_bytes as u64);
                bytes_left = bytes_left.saturating_sub(size_bytes);
                pairs_left -= 1;
                if bytes_left == 0 || pairs_left == 0 {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            })?;
        match resume_key {
            Some(resume_key) => self.resume_key = resume_key,
            None => return Ok(true),
        }
        Ok(false)
    }
}

fn check_wish(region_id: RegionId, wish: SplitKeysWish) -> Result<()> {
    if region_id == RegionId::PLACEMENT {
        return Err(Error::Invalid("the placement group has no keys to divide".to_owned()));
    }
    let count = part_count(wish);
    if !(2..=COUNT_PARTS_MAX).contains(&count) {
        return Err(Error::Invalid(format!(
            "a region is divided into 2 to {COUNT_PARTS_MAX} parts, not {count}"
        )));
    }
    Ok(())
}

fn part_count(wish: SplitKeysWish) -> u64 {
    match wish {
        SplitKeysWish::Middle => 2,
        SplitKeysWish::Parts(count) => u64::from(count),
    }
}

impl LastSplit {
    fn of(trace: &SplitTrace) -> LastSplit {
        // The parent comes first.
        let children = trace.regions.iter().skip(1);
        let keys = children.map(|region| region.range.start_key.clone()).collect();
        LastSplit { change_id: trace.change_id, keys }
    }
}

/// A region as a snapshot has it.
struct Rows {
    region: Region,
    last_split: Option<SplitTrace>,
    state: ApplyState,
}

/// The region and how far it was applied, as the snapshot has them; `None` where it has no data here.
fn read_rows(region_id: RegionId, snapshot: &dyn KvSnapshot) -> kv::Result<Option<Rows>> {
    let region = snapshot.get(&keys::region_state_key(region_id))?;
    let state = snapshot.get(&keys::apply_state_key(region_id))?;
    let region = region.and_then(|row| codec::decode_region_row(&row).ok());
    let state = state.and_then(|row| codec::decode_apply_state(&row).ok());
    Ok(region.zip(state).map(|((region, last_split), state)| Rows { region, last_split, state }))
}
