//! Compiles the contract. `protoc` is not required.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let proto = "../../proto";
    println!("cargo::rerun-if-changed={proto}");
    let compiled = protox::compile(["blip/v1/blip.proto"], [proto])?;
    tonic_prost_build::configure()
        .build_server(false)
        .extern_path(".google.rpc", "::tonic_types::pb")
        .compile_fds(compiled)?;
    Ok(())
}
