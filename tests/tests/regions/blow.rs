//! What happens to a store.

use anyhow::Result;
use rustix::process::Signal;
use tests::Cluster;

/// How a store goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blow {
    /// Its process ends.
    Kill,
    /// Its process stands still.
    Stop,
    /// It hears nobody, and nobody hears it. The cluster must have wires.
    CutOff,
}

impl Blow {
    pub(crate) const ALL: [Blow; 3] = [Blow::Kill, Blow::Stop, Blow::CutOff];

    pub(crate) fn strike(self, cluster: &mut Cluster, store: usize) -> Result<()> {
        match self {
            Blow::Kill => cluster.kill(store),
            Blow::Stop => cluster.signal(store, Signal::STOP),
            Blow::CutOff => cluster.set_cut_off(store, true),
        }
    }

    /// The store is back, as it was.
    pub(crate) fn heal(self, cluster: &mut Cluster, store: usize) -> Result<()> {
        match self {
            Blow::Kill => cluster.spawn(store),
            Blow::Stop => cluster.signal(store, Signal::CONT),
            Blow::CutOff => cluster.set_cut_off(store, false),
        }
    }
}
