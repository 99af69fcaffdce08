//! What `build.rs` generates, in the module tree that its paths among packages expect.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::pedantic,
    clippy::nursery,
    clippy::all,
    clippy::restriction,
    reason = "generated"
)]

macro_rules! package {
    ($file:literal) => {
        include!(concat!(env!("OUT_DIR"), "/", $file, ".rs"));
    };
}

pub mod errorpb {
    package!("errorpb");
}
pub mod keyspacepb {
    package!("keyspacepb");
}
pub mod kvrpcpb {
    package!("kvrpcpb");
}
pub mod meta_storagepb {
    package!("meta_storagepb");
}
pub mod metapb {
    package!("metapb");
}
pub mod pdpb {
    package!("pdpb");
}
pub mod tikvpb {
    package!("tikvpb");
}
pub mod grpc {
    pub mod health {
        pub mod v1 {
            package!("grpc.health.v1");
        }
    }
}
pub mod sheaf {
    pub mod admin {
        pub mod v1 {
            package!("sheaf.admin.v1");
        }
    }
    pub mod command {
        pub mod v1 {
            package!("sheaf.command.v1");
        }
    }
    pub mod disk {
        pub mod v1 {
            package!("sheaf.disk.v1");
        }
    }
    pub mod placement {
        pub mod v1 {
            package!("sheaf.placement.v1");
        }
    }
    pub mod raft {
        pub mod v1 {
            package!("sheaf.raft.v1");
        }
    }
    pub mod vocabulary {
        pub mod v1 {
            package!("sheaf.vocabulary.v1");
        }
    }
}
