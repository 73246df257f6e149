//! Opens connections to the processes of a cluster: the one place that does.

use std::time::Duration;

use tonic::transport::{Channel, Endpoint};

use crate::limits;

/// Makes channels to peers.
pub trait Dial: Send + Sync {
    /// A channel to `address` (`HOST:PORT`), which connects when it is first used.
    ///
    /// # Errors
    /// What is wrong with the address.
    fn dial(&self, address: &str) -> Result<Channel, String>;
}

/// Over TCP.
pub struct TcpDial;

impl Dial for TcpDial {
    fn dial(&self, address: &str) -> Result<Channel, String> {
        let (stream, connection) = limits::RPC_WINDOW_BYTES;
        let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|e| e.to_string())?;
        Ok(endpoint
            .connect_timeout(Duration::from_millis(limits::CONNECT_TIMEOUT_MS))
            .tcp_nodelay(true)
            .initial_stream_window_size(stream)
            .initial_connection_window_size(connection)
            .http2_keep_alive_interval(Duration::from_millis(limits::EXECUTOR_LEASE_MS))
            .keep_alive_timeout(Duration::from_millis(2 * limits::EXECUTOR_LEASE_MS))
            .connect_lazy())
    }
}
