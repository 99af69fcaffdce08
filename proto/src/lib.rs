//! Every message that crosses the network or lies on disk, and the one place where they become domain types.
//!
//! The .proto files stand beside `src`: our own formats (`vocabulary`, `raft`, `command`, `disk`, `placement`, `admin`)
//! and the public protocol of TiKV's clients (`tikv/*`, `health`). `build.rs` generates the modules below; feature
//! `grpc` adds the clients and servers of the services. [`convert`] translates: malformed input is an error there, and
//! nothing behind it sees a protobuf type.
//!
//! It must not know what anything is for: no routing, no checks against state, no I/O.
//!
//! Start with [`convert`].

pub mod convert;
mod generated;

pub use generated::{
    errorpb,
    grpc::health::v1 as health,
    keyspacepb, kvrpcpb, meta_storagepb, metapb, pdpb,
    sheaf::{
        admin::v1 as admin, command::v1 as command, disk::v1 as disk, placement::v1 as placement,
        raft::v1 as raft, vocabulary::v1 as vocabulary,
    },
    tikvpb,
};

pub use prost::Message;
