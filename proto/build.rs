//! Turns the `.proto` files into Rust: needs no compiler of its own on the machine.

use prost::Message;

type Failure = Box<dyn std::error::Error>;

const FILES: [&str; 5] = ["raft.proto", "cluster.proto", "control.proto", "data.proto", "exchange.proto"];

fn main() -> Result<(), Failure> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(FILES, ["proto"])?;
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), files.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(files)?;
    Ok(())
}
