//! Generates the messages, and with feature `grpc` the services, from the .proto files beside this one. `protox` reads
//! them, so that no `protoc` is needed (D17).

use std::error::Error;

const FILES: [&str; 14] = [
    "vocabulary.proto",
    "raft.proto",
    "command.proto",
    "disk.proto",
    "placement.proto",
    "admin.proto",
    "tikv/metapb.proto",
    "tikv/errorpb.proto",
    "tikv/kvrpcpb.proto",
    "tikv/tikvpb.proto",
    "tikv/pdpb.proto",
    "tikv/keyspacepb.proto",
    "tikv/meta_storagepb.proto",
    "health.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    for file in FILES {
        println!("cargo::rerun-if-changed={file}");
    }
    let has_services = std::env::var_os("CARGO_FEATURE_GRPC").is_some();
    let files = protox::compile(FILES, ["."])?;
    tonic_prost_build::configure()
        .build_client(has_services)
        .build_server(has_services)
        // Keys and values are slices of the frame that they came in, never copies.
        .bytes(".")
        // The order of a hash map would make an encoding depend on the process.
        .btree_map(".")
        .emit_rerun_if_changed(false)
        .compile_fds(files)?;
    Ok(())
}
