//! What is generated from the `.proto` files, by the name of each package, and how connections are opened.

pub mod dial;
pub mod edge;
pub mod failure;
pub mod identity;
pub mod status;
pub mod tls;

/// What all packages hold, as servers tell clients that ask (gRPC reflection).
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Between coordinators.
#[allow(clippy::all, clippy::or_fun_call, reason = "generated")]
pub mod raft {
    tonic::include_proto!("qanat.raft.v1");
}

/// Between the leader and its executors.
#[allow(clippy::all, clippy::or_fun_call, reason = "generated")]
pub mod cluster {
    tonic::include_proto!("qanat.cluster.v1");
}

/// The public interface, for clients.
#[allow(clippy::all, clippy::or_fun_call, reason = "generated")]
pub mod control {
    tonic::include_proto!("qanat.control.v1");
}

/// Between executors, beside Arrow's own messages.
#[allow(clippy::all, clippy::or_fun_call, reason = "generated")]
pub mod exchange {
    tonic::include_proto!("qanat.exchange.v1");
}
