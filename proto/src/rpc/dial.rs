//! Opens connections to the processes of a cluster: the one place that does.

use std::time::Duration;

use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use crate::limits;
use crate::rpc::tls::Credentials;

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
        endpoint("http", address).map(|endpoint| endpoint.connect_lazy())
    }
}

/// Over TLS. The other end must have a certificate of the authority that is believed, which names its address.
pub struct TlsDial(ClientTlsConfig);

impl TlsDial {
    /// As a client, which has no certificate of its own. `authority` is PEM.
    pub fn of_client(authority: &[u8]) -> Self {
        Self(ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority)))
    }

    /// As a process of the cluster.
    pub fn of_node(credentials: &Credentials) -> Self {
        Self(credentials.client())
    }
}

impl Dial for TlsDial {
    fn dial(&self, address: &str) -> Result<Channel, String> {
        let endpoint = endpoint("https", address)?.tls_config(self.0.clone());
        endpoint.map(|endpoint| endpoint.connect_lazy()).map_err(|e| {
            let why = std::error::Error::source(&e).map_or_else(|| e.to_string(), ToString::to_string);
            format!("TLS: {why}")
        })
    }
}

/// What every connection to `SCHEME://ADDRESS` is made with.
///
/// # Errors
/// What is wrong with the address.
pub fn endpoint(scheme: &str, address: &str) -> Result<Endpoint, String> {
    let (stream, connection) = limits::RPC_WINDOW_BYTES;
    let endpoint = Endpoint::from_shared(format!("{scheme}://{address}")).map_err(|e| e.to_string())?;
    Ok(endpoint
        .connect_timeout(Duration::from_millis(limits::CONNECT_TIMEOUT_MS))
        .tcp_nodelay(true)
        .initial_stream_window_size(stream)
        .initial_connection_window_size(connection)
        .http2_keep_alive_interval(Duration::from_millis(limits::EXECUTOR_LEASE_MS))
        .keep_alive_timeout(Duration::from_millis(2 * limits::EXECUTOR_LEASE_MS)))
}
