//! Turns the `.proto` files into Rust: needs no compiler of its own on the machine.

type Failure = Box<dyn std::error::Error>;

const FILES: [&str; 4] = ["raft.proto", "cluster.proto", "control.proto", "exchange.proto"];

fn main() -> Result<(), Failure> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(FILES, ["proto"])?;
    tonic_prost_build::configure().compile_fds(files)?;
    Ok(())
}
