//! Who a process of a cluster is, as its certificate says: `qanat://<cluster id>/<role>/<node id>`, as a URI among the
//! subject's alternative names.

use std::fmt;
use std::str::FromStr;

use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

use crate::names::Name;

/// What a process is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NodeRole {
    Coordinator,
    Executor,
}

impl NodeRole {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator",
            Self::Executor => "executor",
        }
    }
}

impl fmt::Display for NodeRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A process of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NodeIdentity {
    pub cluster: Name,
    pub role: NodeRole,
    /// A coordinator's number, an executor's name.
    pub node: Name,
}

const SCHEME: &str = "qanat://";

impl fmt::Display for NodeIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}/{}", self.cluster, self.role, self.node)
    }
}

impl FromStr for NodeIdentity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not `qanat://CLUSTER/ROLE/NODE`");
        let mut parts = text.strip_prefix(SCHEME).ok_or_else(wrong)?.split('/');
        let (Some(cluster), Some(role), Some(node), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(wrong());
        };
        let role = match role {
            "coordinator" => NodeRole::Coordinator,
            "executor" => NodeRole::Executor,
            _ => return Err(wrong()),
        };
        let name = |text| Name::new(text).map_err(|_| wrong());
        Ok(Self { cluster: name(cluster)?, role, node: name(node)? })
    }
}

impl NodeIdentity {
    /// The identity in a certificate, which has exactly one.
    ///
    /// # Errors
    /// What is wrong with the certificate.
    pub fn of_certificate(certificate: &CertificateDer<'_>) -> Result<Self, String> {
        let parsed = EndEntityCert::try_from(certificate).map_err(|e| format!("it cannot be read: {e}"))?;
        let mut found = parsed.valid_uri_names().filter(|name| name.starts_with(SCHEME));
        match (found.next(), found.next()) {
            (Some(name), None) => name.parse(),
            (None, _) => Err("it names no node of a cluster".to_owned()),
            (Some(_), Some(_)) => Err("it names more than one node".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_come_back_as_they_were() {
        let text = "qanat://0123abcd/executor/worker-1";
        let identity: NodeIdentity = text.parse().expect("an identity");
        assert_eq!((identity.role, identity.node.as_str()), (NodeRole::Executor, "worker-1"));
        assert_eq!(identity.to_string(), text);
        let wrong = [
            "",
            "qanat://a/executor",
            "qanat://a/executor/b/c",
            "qanat://a/boss/b",
            "qanat://a/executor/",
            "qanat:///executor/b",
            "http://a/executor/b",
            "qanat://a/executor/b c",
        ];
        for text in wrong {
            assert!(text.parse::<NodeIdentity>().is_err(), "{text}");
        }
    }
}
