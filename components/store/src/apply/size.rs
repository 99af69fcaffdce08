//! What is known of a region's size, at its applier: when it is counted, and what follows.

use kv::keys;
use types::{Index, Instant, LogPosition, Region, RegionId, RegionSize, WallTime};

use super::{ApplyWorker, applier::Applier};
use crate::{
    Config, codec,
    lifecycle::Birth,
    limits::SPLIT_PARTS_MAX,
    message::{ApplyState, RaftMail},
    size::{
        Cut, Measured, SizeEstimate,
        policy::{self, Counting},
    },
};

/// An applier's part in it.
#[derive(Debug, Default)]
pub(super) struct Sizing {
    counting: Counting,
    /// Counts of an earlier position say nothing: a snapshot, a split or another count came behind them.
    since: Index,
    /// Where the region was found to be divisible when it was counted last, and what it held then.
    cuts: Vec<Cut>,
    total: RegionSize,
}

impl Sizing {
    fn since(position: LogPosition) -> Sizing {
        Sizing { since: position.index, ..Sizing::default() }
    }

    /// What the parts of a region hold that is divided: exact to what was written since it was counted, if it is divided
    /// where that said; else equal shares.
    fn sizes_of_parts(&self, size: &SizeEstimate, regions: &[Region]) -> Vec<SizeEstimate> {
        let mut before = Vec::new();
        for region in regions.iter().skip(1) {
            match self.cuts.iter().find(|cut| cut.key == region.range.start_key) {
                Some(cut) => before.push(cut.before),
                None => return equal_parts(size, regions),
            }
        }
        let since = SizeEstimate { measured: RegionSize::default(), is_rough: false, ..*size };
        let since = since.share(regions.len() as u64);
        let starts = std::iter::once(RegionSize::default()).chain(before.iter().copied());
        let ends = before.iter().copied().chain([self.total]);
        let parts = starts.zip(ends).map(|(start, end)| SizeEstimate {
            measured: RegionSize {
                size_bytes: end.size_bytes - start.size_bytes,
                key_count: end.key_count - start.key_count,
            },
            written: since.estimate(),
            removed_count: since.removed_count,
            is_rough: size.is_rough,
        });
        parts.collect()
    }
}

fn equal_parts(size: &SizeEstimate, regions: &[Region]) -> Vec<SizeEstimate> {
    vec![size.share(regions.len() as u64); regions.len()]
}

impl Applier {
    /// Whether the region shall be counted now; if so, it is under way.
    pub(super) fn begin_counting(&mut self, now: Instant, config: &Config) -> bool {
        let led_term = self
            .view
            .read(|view| view.leader.is_some_and(|leader| leader.id == view.peer.id).then_some(view.term));
        let Some(term) = led_term else { return false };
        let begin =
            |counting: &mut Counting| counting.begin(now, &self.region, &self.state.size, term, config);
        if let Some(sizing) = &mut self.sizing {
            return begin(&mut sizing.counting);
        }
        let mut counting = Counting::default();
        let begins = begin(&mut counting);
        if begins {
            self.sizing = Some(Box::new(Sizing { counting, ..Sizing::since(self.state.position) }));
        }
        begins
    }

    /// The region was counted. Gives back where it should be divided, if it is too large.
    fn on_measured(&mut self, measured: Measured, config: &Config) -> Option<Vec<Cut>> {
        let Measured { position, known, counted } = measured;
        let is_paused = self.is_paused();
        // Else it was begun by the applier of what a snapshot has replaced.
        let sizing = self.sizing.as_mut()?;
        if position.index < sizing.since || is_paused {
            return None;
        }
        sizing.since = position.index;
        // What was written behind the count comes on top of it.
        let size = &mut self.state.size;
        size.written = RegionSize {
            size_bytes: size.written.size_bytes.saturating_sub(known.written.size_bytes),
            key_count: size.written.key_count.saturating_sub(known.written.key_count),
        };
        size.removed_count = size.removed_count.saturating_sub(known.removed_count);
        size.measured = counted.size;
        size.is_rough = false;
        let part_count = policy::part_count(counted.size, config).min(SPLIT_PARTS_MAX);
        let cuts = counted.divide(part_count);
        (sizing.cuts, sizing.total) = (cuts.clone(), counted.size);
        tracing::debug!(region = self.region.id.0, size = ?counted.size, parts = cuts.len() + 1, "region is counted");
        policy::is_too_large(counted.size, config).then_some(cuts)
    }

    /// The region is divided; gives back what each part holds, its own first.
    pub(super) fn divide_size(&mut self, regions: &[Region], position: LogPosition) -> Vec<SizeEstimate> {
        let parts = match &mut self.sizing {
            Some(sizing) => std::mem::replace(&mut **sizing, Sizing::since(position))
                .sizes_of_parts(&self.state.size, regions),
            None => equal_parts(&self.state.size, regions),
        };
        if let Some(mine) = parts.first() {
            self.state.size = *mine;
        }
        parts
    }
}

impl ApplyWorker {
    /// The sizer has counted a region, or could not.
    pub(super) fn on_measured(&mut self, region_id: RegionId, measured: Option<Box<Measured>>) {
        let Some(applier) = self.regions.get_mut(&region_id) else { return };
        if let Some(sizing) = &mut applier.sizing {
            sizing.counting.end();
        }
        let Some(measured) = measured else { return };
        let cuts = applier.on_measured(*measured, &self.shared.config);
        // What is known now goes into the row and the view with the round's end.
        self.effects.dirty.insert(region_id);
        let Some(cuts) = cuts else { return };
        let (keys, version) = (cuts.into_iter().map(|cut| cut.key).collect(), applier.region.epoch.version);
        self.shared.router.send_raft(region_id, RaftMail::TooLarge { region_id, version, keys });
    }

    /// The rows of a split's children say what they hold, as far as the parent's applier knows it better.
    pub(super) fn write_sizes_of_children(
        &mut self,
        births: &[Birth],
        regions: &[Region],
        parts: &[SizeEstimate],
        region_clock: WallTime,
    ) {
        for (region, size) in regions.iter().zip(parts).filter(|(_, size)| !size.is_rough) {
            let Some(birth) = births.iter().find(|birth| birth.region().id == region.id) else { continue };
            let state = ApplyState { position: birth.first(), region_clock, size: *size };
            let key = keys::apply_state_key(region.id);
            self.round.batch_mut().put(&[&key], &[&codec::encode_apply_state(&state)]);
        }
    }
}
