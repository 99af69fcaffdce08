//! Effects of lifecycle records on a region's state machine.

use engine::{LifecycleChange, LifecycleRecord};
use std::{collections::BTreeMap, sync::Arc};

use types::LogPosition;

use super::ApplyWorker;
use crate::{
    Error,
    lifecycle::{Birth, parts, write_effect},
    message::{ApplyMail, RaftMail, SnapshotInstall},
    size::SizeEstimate,
    upkeep::UpkeepMail,
    view::{RegionView, ViewState},
};

impl ApplyWorker {
    /// Puts the snapshot of a durable record in place.
    pub(super) fn install(&mut self, install: SnapshotInstall) {
        let SnapshotInstall { record, size } = install;
        let LifecycleChange::Snapshot { region, position, .. } = &record.change else { return };
        let region_id = region.id;
        tracing::info!(region = region_id.0, index = position.index.0, "install snapshot");
        let written = write_effect(&*self.shared.kv, &record, |_| LogPosition::default());
        if self.shared.or_fatal("install a snapshot", written).is_none() {
            return;
        }
        // Reads that waited for an index may find it reached now.
        let waiting = self.regions.remove(&region_id).map(|mut applier| applier.take_waiting());
        self.open(region_id);
        if let Some(applier) = self.regions.get_mut(&region_id) {
            applier.set_waiting(waiting.unwrap_or_default());
            applier.set_measured(size);
            self.effects.dirty.insert(region_id);
        }
        // The keys are the region's now, and nobody else's reservation can have come between.
        self.commit();
        self.shared.meta.release(region_id);
        self.shared.router.upkeep.send(UpkeepMail::RecordApplied(Box::new(record)));
    }

    /// Lets a split of a durable record take effect: rows, views, directory, and then the children begin.
    pub(super) fn split(&mut self, record: LifecycleRecord, births: Vec<Birth>) {
        let LifecycleChange::Split { region, position, region_clock, change_id, children } = &record.change
        else {
            return;
        };
        let parent = region.id;
        // Behind a snapshot that came meanwhile there is nothing to divide.
        let Some(applier) = self.regions.get_mut(&parent).filter(|applier| applier.is_paused()) else {
            return;
        };
        if children.iter().any(|child| child.is_dropped) {
            // Keys go, of which reads in the parent's old range may still be answered: they see that.
            applier.view.update(|view| view.installing_to = position.index);
        }
        let written = write_effect(&*self.shared.kv, &record, |_| LogPosition::default());
        if self.shared.or_fatal("split a region", written).is_none() {
            return;
        }
        tracing::info!(
            region = parent.0,
            children = births.len(),
            index = position.index.0,
            "region is split"
        );
        let regions = parts(region, children);
        let parts = applier.divide_size(&regions, *position);
        let waiting = applier.finish_split(region.clone(), *position, *change_id);
        let divided = Arc::clone(&applier.region);
        self.effects.dirty.insert(parent);
        self.write_sizes_of_children(&births, &regions, &parts, *region_clock);
        let sizes: BTreeMap<_, _> =
            regions.iter().map(|region| region.id).zip(parts.iter().map(SizeEstimate::estimate)).collect();
        for birth in &births {
            let (child, first) = (birth.region(), birth.first());
            self.shared.views.insert(
                child.id,
                RegionView::new(ViewState {
                    region: Some(Arc::clone(child)),
                    term: first.term,
                    last: first,
                    applied: first,
                    size: sizes.get(&child.id).copied().unwrap_or_default(),
                    commit_index: first.index,
                    ..ViewState::new(child.id, birth.me())
                }),
            );
        }
        let regions = std::iter::once(&divided).chain(births.iter().map(Birth::region));
        self.shared.meta.set_all(regions);
        // The parent is published before its children can be heard of.
        self.commit();
        for birth in births {
            let child = birth.region().id;
            self.shared.router.send_apply(child, ApplyMail::Open(child));
            self.shared.router.send_raft(child, RaftMail::Born(Box::new(birth)));
        }
        self.shared.router.upkeep.send(UpkeepMail::RecordApplied(Box::new(record)));
        for committed in waiting {
            self.on_mail(ApplyMail::Commit(committed));
        }
    }

    /// Ends the peer of a durable record: whoever waits is told, and its data goes.
    pub(super) fn end(&mut self, record: LifecycleRecord) {
        let LifecycleChange::Destroy { region_id, .. } = &record.change else { return };
        let region_id = *region_id;
        if let Some(mut applier) = self.regions.remove(&region_id) {
            for read in applier.take_waiting().into_values().flatten() {
                read.request.responder.reply(Err(Error::RegionNotFound(region_id)));
            }
        }
        // Nobody finds the data before it goes, and whoever has found it sees behind its engine snapshot that it was going.
        if let Some(view) = self.shared.views.find(region_id) {
            view.update(|state| state.region = None);
        }
        self.shared.views.remove(region_id);
        let written = write_effect(&*self.shared.kv, &record, |_| LogPosition::default());
        if self.shared.or_fatal("end a peer", written).is_none() {
            return;
        }
        self.shared.meta.remove(region_id);
        self.shared.router.upkeep.send(UpkeepMail::RecordApplied(Box::new(record)));
    }
}
