//! tonic over simulated connections.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::Stream;
use hyper_util::rt::TokioIo;
use qanat_proto::rpc::dial::{Dial, endpoint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::{Connected, TcpConnectInfo};
use tonic::transport::{Channel, Uri};
use turmoil::net::{TcpListener, TcpStream};

/// Connects through the simulated network.
pub(super) struct SimDial;

impl SimDial {
    pub(super) fn shared() -> Arc<dyn Dial> {
        Arc::new(Self)
    }
}

impl Dial for SimDial {
    fn dial(&self, address: &str) -> Result<Channel, String> {
        let connect = tower::service_fn(|uri: Uri| async move {
            let refused = || io::Error::from(io::ErrorKind::InvalidInput);
            let address = (uri.host().ok_or_else(refused)?.to_owned(), uri.port_u16().ok_or_else(refused)?);
            TcpStream::connect(address).await.map(TokioIo::new)
        });
        endpoint("http", address).map(|endpoint| endpoint.connect_with_connector_lazy(connect))
    }
}

/// What arrives at a port.
///
/// # Errors
/// If it is taken.
pub(super) async fn incoming(port: u16) -> io::Result<impl Stream<Item = io::Result<Connection>>> {
    let listener = TcpListener::bind((std::net::Ipv4Addr::UNSPECIFIED, port)).await?;
    Ok(futures::stream::unfold(listener, |listener| async {
        let accepted = listener.accept().await.map(|(stream, _)| Connection(stream));
        Some((accepted, listener))
    }))
}

/// One connection, as tonic wants it.
pub(super) struct Connection(TcpStream);

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        TcpConnectInfo { local_addr: self.0.local_addr().ok(), remote_addr: self.0.peer_addr().ok() }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
