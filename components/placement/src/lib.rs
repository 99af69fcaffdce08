//! Placement: where every region lives, what time it is, which ids are free, and which region shall move where (D8).
//!
//! Placement is data in a system region. Its rows are those of group 1, a Raft group like any other; whichever store
//! leads group 1 is the *host*: it answers questions, gives out ids and timestamps, and decides about peers. Every change
//! of truth is a conditional transaction fenced by the host's term. `docs/placement.md` has the table of rows.
//!
//! ```text
//!   server (PD service, admin)     store (leader reports)        other stores
//!        │ Client::call                 │ PlacementClient             │ PlacementMessage
//!  ┌─────▼──────────────────────────────▼─────────────────────────────▼────┐
//!  │ PlacementWorker: one actor a store                                     │
//!  │  agent  (every store): passes calls on to the host, remembers routes,  │
//!  │          lays this store's own newer descriptors over its answers      │
//!  │  host   (acts only where group 1 is led): rows + soft state → effects  │
//!  └─────┬───────────────────────────────┬─────────────────────────────┬────┘
//!        │ Store::submit, read, admin    │ Transport                   │ PlacementEvents
//! ```
//!
//! `core` is pure: it knows no store, and not that its rows are replicated. `agent` and `host` are the shell that carries
//! out what it asks for. Nothing here reads a clock, starts a thread or draws chance that is not seeded.
//!
//! How a process uses it: make the mailbox, `Store::open` with [`Client`] as its `PlacementClient` port, make the
//! [`PlacementWorker`] with the store, run it as an actor behind that mailbox, and ask through [`Client::call`].
//!
//! A process without a store id has neither store nor placement: it sends its record to any store of the cluster, which
//! runs [`PlacementCall::RegisterStore`] for it. See [`first_address`] for who begins a cluster.
//!
//! Start reading with `core/api.rs`, then `core/host/mod.rs`.

mod agent;
pub mod core;
mod host;

pub use agent::{
    Client, DiskSpace, HostMail, PlacementEvents, PlacementMail, PlacementSetup, PlacementWorker,
};

pub use crate::core::{
    api::{
        ChangeRequest, ClusterPicture, Error, OperationKind, OperationPicture, OperationState,
        PlacementAnswer, PlacementCall, RegionChange, RegionRoute, Responder, Result, ScatterRequest,
        SplitAt, SplitRequest, Timestamp,
    },
    bootstrap::first_address,
    division::Division,
    limits,
    record::{KeyMode, Settings, StoreLoad, StorePicture, StoreRecord, StoreState},
};
