//! The folder that `--security` names: who a process is, whom it believes, and what it knows of its cluster.
//!
//! ```text
//! <folder>/ca.pem         the cluster's authority
//! <folder>/cert.pem       this process's certificate: its hosts, and `qanat://<cluster>/<role>/<node>`
//! <folder>/key.pem        its key; mode 0600
//! <folder>/cluster.json   id of the cluster, addresses of its coordinators, digest of the administrator's token
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use qanat_coordinator::service::Security;
use qanat_proto::access::{AccessToken, TokenDigest};
use qanat_proto::ids::TokenId;
use qanat_proto::names::Name;
use qanat_proto::rpc::identity::{NodeIdentity, NodeRole};
use qanat_proto::rpc::tls::{Credentials, check_authority};
use qanat_proto::{Code, Error, Place, Result};
use qanat_storage::env::Env;
use serde::{Deserialize, Serialize};

use crate::cluster::authority::host_of;
use qanat_storage::small_file;

pub(super) const AUTHORITY: &str = "ca.pem";
pub(super) const CERTIFICATE: &str = "cert.pem";
pub(super) const KEY: &str = "key.pem";
pub(super) const CLUSTER: &str = "cluster.json";

/// No file of the folder is larger.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// `cluster.json`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClusterFile {
    pub(super) cluster: Name,
    /// The group as it is founded.
    pub(super) coordinators: BTreeMap<u64, String>,
    pub(super) admin_token: AdminToken,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AdminToken {
    pub(super) id: TokenId,
    /// SHA-256 of the token's text.
    pub(super) digest: TokenDigest,
}

/// The folder, read.
pub(crate) struct NodeSecurity {
    file: ClusterFile,
    credentials: Credentials,
}

impl NodeSecurity {
    /// Reads the folder of a process that is to be a coordinator or an executor.
    ///
    /// # Errors
    /// E0206 for a file that is not there; E0501 for one that cannot be read as what it is; E0608 for a certificate of
    /// another cluster or role.
    pub(crate) fn read(env: &Env, folder: &Path, role: NodeRole) -> Result<Self> {
        let file = read_cluster(env, folder)?;
        let read = |name: &str| read_file(env, &folder.join(name));
        let credentials =
            Credentials::new(read_authority(env, &folder.join(AUTHORITY))?, read(CERTIFICATE)?, read(KEY)?)
                .map_err(|error| error.or_at(|| Place::Named(folder.display().to_string())))?;
        let identity = credentials.identity();
        if identity.cluster != file.cluster || identity.role != role {
            let message = format!("the certificate is of `{identity}`, not of {role}s of cluster {}", file.cluster);
            return Err(Error::new(Code::CertificateRefused, message)
                .at(Place::Named(folder.display().to_string()))
                .hint("each process has a folder of its own, which `qanat cluster init` made"));
        }
        Ok(Self { file, credentials })
    }

    pub(crate) fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    pub(crate) fn identity(&self) -> &NodeIdentity {
        self.credentials.identity()
    }

    /// Checks that the certificate names the host at which others are told to reach this process.
    ///
    /// # Errors
    /// E0501 if `address` is not `HOST:PORT`; E0608 for another host.
    pub(crate) fn check_address(&self, address: &str) -> Result<()> {
        self.credentials.check_host(&host_of(address)?).map_err(|error| {
            error
                .at(Place::Named(address.to_owned()))
                .hint("use a host that it names, or make another certificate with `qanat cluster certify`")
        })
    }

    /// The group as it is founded.
    pub(crate) fn coordinators(&self) -> &BTreeMap<u64, String> {
        &self.file.coordinators
    }

    /// What the services of a coordinator go by.
    pub(crate) fn for_services(&self) -> Security {
        let AdminToken { id, digest } = self.file.admin_token;
        Security { cluster: self.file.cluster.to_string(), admin: (id, digest) }
    }
}

pub(super) fn read_cluster(env: &Env, folder: &Path) -> Result<ClusterFile> {
    let path = folder.join(CLUSTER);
    serde_json::from_slice(&read_file(env, &path)?).map_err(|e| {
        Error::new(Code::Usage, format!("this is no file of `qanat cluster init`: {e}"))
            .at(Place::Named(path.display().to_string()))
    })
}

/// A small file that must be there.
pub(crate) fn read_file(env: &Env, path: &Path) -> Result<Vec<u8>> {
    let at = || Place::Named(path.display().to_string());
    small_file::read(env, path, FILE_BYTES_MAX)?
        .ok_or_else(|| Error::new(Code::PathNotFound, "there is no such file").at(at()))
}

/// The certificate of an authority, as PEM.
///
/// # Errors
/// E0206 if there is no such file; E0501 if it holds something else.
pub(crate) fn read_authority(env: &Env, path: &Path) -> Result<Vec<u8>> {
    let pem = read_file(env, path)?;
    check_authority(&pem).map_err(|error| error.at(Place::Named(path.display().to_string())))?;
    Ok(pem)
}

/// The access token in a file.
///
/// # Errors
/// E0206 if there is no such file; E0605 if it holds something else.
pub(crate) fn read_token(env: &Env, path: &Path) -> Result<AccessToken> {
    let bytes = read_file(env, path)?;
    let text = std::str::from_utf8(&bytes).unwrap_or_default();
    AccessToken::parse(text.trim()).map_err(|error| error.at(Place::Named(path.display().to_string())))
}
