//! TLS between the processes of a cluster, and of clients with them. Every process has a certificate of the cluster's
//! own authority; clients have none and show an access token instead.

use std::net::SocketAddr;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tonic::Status;
use tonic::codegen::http::Extensions;
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};
use tonic::transport::{Certificate, ClientTlsConfig, Identity, ServerTlsConfig};
use webpki::{EndEntityCert, anchor_from_trusted_cert};

use crate::limits;
use crate::rpc::identity::{NodeIdentity, NodeRole};
use crate::{Code, Error, Place, Result};

/// What a process shows to others, and whom it believes. All of it PEM. No `Debug`: it holds the key.
#[derive(Clone)]
pub struct Credentials {
    authority: Vec<u8>,
    certificate: Vec<u8>,
    key: Vec<u8>,
    identity: NodeIdentity,
}

/// Whether those who connect must show a certificate of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peers {
    /// All of them: only processes of the cluster call.
    Nodes,
    /// Those that have one: clients call, too, and are known by what they show with each call.
    NodesAndClients,
}

impl Credentials {
    /// # Errors
    /// E0608 if the certificate names no node.
    pub fn new(authority: Vec<u8>, certificate: Vec<u8>, key: Vec<u8>) -> Result<Self> {
        let refused = |why: String| Error::new(Code::CertificateRefused, format!("this process's certificate: {why}"));
        let parsed = CertificateDer::from_pem_slice(&certificate).map_err(|e| refused(format!("no PEM: {e}")))?;
        let identity = NodeIdentity::of_certificate(&parsed).map_err(refused)?;
        Ok(Self { authority, certificate, key, identity })
    }

    /// Who this process is.
    pub fn identity(&self) -> &NodeIdentity {
        &self.identity
    }

    /// Checks that others take this process for itself when they dial it at `host`, a name or an IP address.
    ///
    /// # Errors
    /// E0608, with the hosts that the certificate names.
    pub fn check_host(&self, host: &str) -> Result<()> {
        let refused = |why: String| Error::new(Code::CertificateRefused, why);
        let unread = |e: String| refused(format!("this process's certificate cannot be read: {e}"));
        let certificate = CertificateDer::from_pem_slice(&self.certificate).map_err(|e| unread(e.to_string()))?;
        let parsed = EndEntityCert::try_from(&certificate).map_err(|e| unread(e.to_string()))?;
        let name = ServerName::try_from(host).map_err(|e| Error::new(Code::Usage, format!("`{host}` is no host: {e}")));
        let names = match parsed.verify_is_valid_for_subject_name(&name?) {
            Ok(()) => return Ok(()),
            Err(webpki::Error::CertNotValidForName(context)) => context.presented,
            Err(e) => return Err(unread(e.to_string())),
        };
        let hosts: Vec<&str> = names.iter().filter_map(|name| host_in(name)).collect();
        let has = if hosts.is_empty() { "no host".to_owned() } else { hosts.join(", ") };
        Err(refused(format!("the certificate of `{}` does not name the host `{host}`: it names {has}", self.identity)))
    }

    pub(super) fn server(&self, peers: Peers) -> ServerTlsConfig {
        ServerTlsConfig::new()
            .identity(Identity::from_pem(&self.certificate, &self.key))
            .client_ca_root(Certificate::from_pem(&self.authority))
            .client_auth_optional(peers == Peers::NodesAndClients)
            .timeout(Duration::from_millis(limits::TLS_HANDSHAKE_MS))
    }

    pub(super) fn client(&self) -> ClientTlsConfig {
        ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&self.authority))
            .identity(Identity::from_pem(&self.certificate, &self.key))
    }
}

/// The host in a name of a certificate, as webpki writes it.
fn host_in(name: &str) -> Option<&str> {
    let inner = |before: &str, behind: &str| name.strip_prefix(before)?.strip_suffix(behind);
    inner("DnsName(\"", "\")").or_else(|| inner("IpAddress(", ")"))
}

/// Checks that `pem` holds the certificate of an authority. Whoever believes a file without one believes nobody, and
/// hears of it with the first connection only.
///
/// # Errors
/// E0501 if it does not.
pub fn check_authority(pem: &[u8]) -> Result<()> {
    let refused = |why: String| {
        Error::new(Code::Usage, format!("this file holds no certificate of an authority: {why}"))
            .hint("it is `ca.pem` of the folder that `qanat cluster init` made")
    };
    let certificate = CertificateDer::from_pem_slice(pem).map_err(|e| refused(format!("no PEM: {e}")))?;
    anchor_from_trusted_cert(&certificate).map(drop).map_err(|e| refused(e.to_string()))
}

/// Where a call comes from.
pub fn peer_address(extensions: &Extensions) -> Option<SocketAddr> {
    match extensions.get::<TlsConnectInfo<TcpConnectInfo>>() {
        Some(tls) => tls.get_ref().remote_addr(),
        None => extensions.get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr),
    }
}

/// The process of `cluster` that makes a call, if it has the role that the call is for.
///
/// # Errors
/// E0608 without a certificate, or with one of another cluster or role.
pub fn admit(extensions: &Extensions, cluster: &str, role: NodeRole) -> Result<NodeIdentity> {
    let refused = |why: String| Error::new(Code::CertificateRefused, why);
    let certificates = extensions.get::<TlsConnectInfo<TcpConnectInfo>>().and_then(TlsConnectInfo::peer_certs);
    let certificate = certificates.as_ref().and_then(|certificates| certificates.first());
    let certificate = certificate.ok_or_else(|| {
        refused(format!("this call is for {role}s of the cluster alone: it came without a certificate"))
    })?;
    let identity = NodeIdentity::of_certificate(certificate)
        .map_err(|why| refused(format!("the caller's certificate was refused: {why}")))?;
    let at = Place::Named(identity.to_string());
    if identity.cluster.as_str() != cluster {
        return Err(refused("the caller's certificate is of another cluster".to_owned()).at(at));
    }
    if identity.role != role {
        let why = format!("this call is for {role}s, and the caller's certificate is of a {}", identity.role);
        return Err(refused(why).at(at));
    }
    Ok(identity)
}

/// What one end says of the other's certificate when they part over it.
pub(super) fn refusal_in(status: &Status) -> Option<Error> {
    let mut source: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(status);
    while let Some(error) = source {
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let tls = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if let Some(tls) = tls.or_else(|| error.downcast_ref::<rustls::Error>()) {
            return Some(refusal(tls));
        }
        // HTTP/2 keeps nothing of an error below it but its text.
        if error.to_string().contains("received fatal alert") {
            return Some(refused(error).hint(ALERTED));
        }
        source = error.source();
    }
    None
}

const ALERTED: &str = "the other end refused the certificate of this one";

fn refused(error: &dyn std::fmt::Display) -> Error {
    Error::new(Code::CertificateRefused, format!("the two ends do not trust each other: {error}"))
}

fn refusal(error: &rustls::Error) -> Error {
    let refused = refused(error);
    match error {
        rustls::Error::InvalidCertificate(_) => {
            refused.hint("the CA must be the one of this cluster, and the address one that the certificate names")
        }
        rustls::Error::AlertReceived(_) => refused.hint(ALERTED),
        _ => refused.hint("one end may be without TLS: name --ca, or start the cluster with --security"),
    }
}
