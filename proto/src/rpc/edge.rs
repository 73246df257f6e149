//! The server behind every port of a cluster: its limits stand here and nowhere else.

use std::time::Duration;

use tonic::transport::Server;

use crate::rpc::tls::{Credentials, Peers};
use crate::{Code, Error, Result, limits};

/// A server that bounds what a connection may ask for. With credentials it speaks TLS and nothing else.
///
/// # Errors
/// E0608 for credentials that do not fit each other.
pub fn server(credentials: Option<&Credentials>, peers: Peers) -> Result<Server> {
    let (stream, connection) = limits::RPC_WINDOW_BYTES;
    let (interval, timeout) = limits::RPC_KEEP_ALIVE_MS;
    let streams = match peers {
        Peers::Nodes => limits::EXCHANGE_STREAMS_MAX,
        Peers::NodesAndClients => limits::RPC_STREAMS_MAX,
    };
    let server = Server::builder()
        .initial_stream_window_size(stream)
        .initial_connection_window_size(connection)
        .max_concurrent_streams(streams)
        .http2_max_header_list_size(limits::RPC_HEADER_BYTES)
        .http2_max_pending_accept_reset_streams(Some(limits::RPC_PENDING_RESETS))
        .http2_keepalive_interval(Some(Duration::from_millis(interval)))
        .http2_keepalive_timeout(Some(Duration::from_millis(timeout)))
        .tcp_nodelay(true);
    let Some(credentials) = credentials else { return Ok(server) };
    server.tls_config(credentials.server(peers)).map_err(|e| {
        // The source says what is wrong; tonic's own text is `transport error`.
        let why = std::error::Error::source(&e).map_or_else(|| e.to_string(), ToString::to_string);
        Error::new(Code::CertificateRefused, format!("this process's certificate or key cannot be used: {why}"))
    })
}
