//! Generates the gRPC service traits from the descriptors that the `proto` crate compiled, and
//! those of the services that the gRPC project defines. The messages stay the types of their
//! crates. The codec of this crate decodes requests and bounds what a message can build.

use std::{env, error::Error, fs};

use prost::Message as _;
use tonic_prost_build::manual;

const CODEC: &str = "crate::grpc::codec::BoundedCodec";

fn main() -> Result<(), Box<dyn Error>> {
    let descriptors = fs::read(env::var("DEP_BLIP_PROTO_DESCRIPTORS")?)?;
    tonic_prost_build::configure()
        .build_client(false)
        .codec_path(CODEC)
        .extern_path(".blip.v1", "::proto")
        .extern_path(".inference", "::proto::inference")
        .extern_path(".google.rpc", "::tonic_types::pb")
        .compile_fds(prost_types::FileDescriptorSet::decode(descriptors.as_slice())?)?;
    let reflection = |package| {
        let info = method(
            "server_reflection_info",
            "ServerReflectionInfo",
            "::tonic_reflection::pb::v1::ServerReflection",
        );
        let info = info.client_streaming().server_streaming().build();
        manual::Service::builder().name("ServerReflection").package(package).method(info).build()
    };
    let check = method("check", "Check", "::tonic_health::pb::HealthCheck").build();
    let watch = method("watch", "Watch", "::tonic_health::pb::HealthCheck").server_streaming().build();
    let health = manual::Service::builder().name("Health").package("grpc.health.v1");
    manual::Builder::new().build_client(false).compile(&[
        health.method(check).method(watch).build(),
        reflection("grpc.reflection.v1"),
        // The reflection client of grpcio uses this version.
        reflection("grpc.reflection.v1alpha"),
    ]);
    // The tests of this crate find LibTorch without `LD_LIBRARY_PATH`.
    if let Ok(folder) = env::var("DEP_BLIP_LIBTORCH_LIB") {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{folder}");
    }
    Ok(())
}

/// Describes a method whose messages are `messages` with the suffixes `Request` and `Response`.
fn method(name: &str, route: &str, messages: &str) -> manual::MethodBuilder {
    manual::Method::builder()
        .name(name)
        .route_name(route)
        .input_type(format!("{messages}Request"))
        .output_type(format!("{messages}Response"))
        .codec_path(CODEC)
}
