//! Makes what a cluster needs to be safe: its own certificate authority, a folder for each process, and the
//! administrator's first token.
//!
//! ```text
//! <out>/ca.pem              for clients
//! <out>/ca-key.pem          makes more certificates; belongs where no process of the cluster runs
//! <out>/admin.token         shows who may do everything
//! <out>/coordinator-<id>/   the folder that `--security` of that process names
//! <out>/executor-<name>/
//! <out>/cluster.json        written last: a folder without it is not whole
//! ```

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use chrono::Datelike;
use qanat_proto::access::AccessToken;
use qanat_proto::names::Name;
use qanat_proto::rpc::identity::{NodeIdentity, NodeRole};
use qanat_proto::{Code, Error, Place, Result};
use qanat_storage::crash_safe;
use qanat_storage::env::Env;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

use crate::cluster::security::{
    AUTHORITY, AdminToken, CERTIFICATE, CLUSTER, ClusterFile, KEY, read_cluster, read_file,
};

const AUTHORITY_KEY: &str = "ca-key.pem";
const ADMIN_TOKEN: &str = "admin.token";
/// The authority outlives what it signs many times over.
const AUTHORITY_DAYS: i64 = 7_300;
const DAY_MS: i64 = 86_400_000;

/// A process that gets a certificate.
#[derive(Clone, Debug)]
pub(crate) struct NewNode {
    pub(crate) role: NodeRole,
    pub(crate) node: Name,
    /// Names and IP addresses at which others reach it.
    pub(crate) hosts: Vec<String>,
}

impl NewNode {
    /// # Errors
    /// E0501 if `address` is not `HOST:PORT`.
    pub(crate) fn coordinator(id: u64, address: &str) -> Result<Self> {
        Ok(Self { role: NodeRole::Coordinator, node: Name::new(&id.to_string())?, hosts: vec![host_of(address)?] })
    }

    /// # Errors
    /// E0501 for a host that is none.
    pub(crate) fn executor(name: &Name, hosts: &[String]) -> Result<Self> {
        let hosts = hosts.iter().map(|host| checked_host(host)).collect::<Result<_>>()?;
        Ok(Self { role: NodeRole::Executor, node: name.clone(), hosts })
    }

    /// The folder of this process within that of its cluster.
    pub(crate) fn folder(&self) -> String {
        format!("{}-{}", self.role, self.node)
    }
}

/// What a new cluster is made of.
pub(crate) struct InitOptions {
    pub(crate) out: PathBuf,
    /// `HOST:PORT` by number.
    pub(crate) coordinators: BTreeMap<u64, String>,
    /// Hosts by name.
    pub(crate) executors: BTreeMap<Name, Vec<String>>,
    pub(crate) days: u32,
}

/// Signs certificates for the processes of one cluster.
struct Authority {
    cluster: Name,
    issuer: Issuer<'static, KeyPair>,
    not_before: i64,
}

fn failed(what: &str) -> impl Fn(rcgen::Error) -> Error {
    move |e| Error::internal(format!("{what}: {e}"))
}

impl Authority {
    /// Names and uses of an authority, which are all that its signatures depend on beside its key.
    fn parameters(cluster: &Name) -> CertificateParams {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = DistinguishedName::new();
        parameters.distinguished_name.push(DnType::CommonName, format!("qanat cluster {cluster}"));
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        parameters
    }

    fn new(cluster: Name, key: KeyPair, now_ms: i64) -> Self {
        let issuer = Issuer::new(Self::parameters(&cluster), key);
        // Clocks differ.
        Self { cluster, issuer, not_before: now_ms - DAY_MS }
    }

    fn certificate(&self) -> Result<String> {
        let mut parameters = Self::parameters(&self.cluster);
        (parameters.not_before, parameters.not_after) = self.validity(AUTHORITY_DAYS)?;
        let signed = parameters.self_signed(self.issuer.key()).map_err(failed("make the authority's certificate"))?;
        Ok(signed.pem())
    }

    fn validity(&self, days: i64) -> Result<(time::OffsetDateTime, time::OffsetDateTime)> {
        let day = |ms: i64| {
            let date = chrono::DateTime::from_timestamp_millis(ms);
            let date = date.ok_or_else(|| Error::new(Code::Usage, "the certificates would last too long"))?;
            let (month, day) = (u8::try_from(date.month()), u8::try_from(date.day()));
            Ok::<_, Error>(rcgen::date_time_ymd(date.year(), month.unwrap_or(1), day.unwrap_or(1)))
        };
        Ok((day(self.not_before)?, day(self.not_before + (days + 1) * DAY_MS)?))
    }

    /// Certificate and key of a process, as PEM.
    fn certify(&self, node: &NewNode, days: u32) -> Result<(String, String)> {
        let identity = NodeIdentity { cluster: self.cluster.clone(), role: node.role, node: node.node.clone() };
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = DistinguishedName::new();
        parameters.distinguished_name.push(DnType::CommonName, node.folder());
        (parameters.not_before, parameters.not_after) = self.validity(i64::from(days))?;
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        parameters.use_authority_key_identifier_extension = true;
        let text = |text: String| text.as_str().try_into().map_err(failed("a name in a certificate"));
        parameters.subject_alt_names.push(SanType::URI(text(identity.to_string())?));
        for host in &node.hosts {
            parameters.subject_alt_names.push(match host.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(text(host.clone())?),
            });
        }
        let key = KeyPair::generate().map_err(failed("make a key"))?;
        let signed = parameters.signed_by(&key, &self.issuer).map_err(failed("sign a certificate"))?;
        Ok((signed.pem(), key.serialize_pem()))
    }
}

/// Makes the folder of a new cluster; returns its id.
///
/// # Errors
/// E0501 for a host that is none, or if the folder holds anything already.
pub(crate) fn init(env: &Env, options: &InitOptions) -> Result<Name> {
    let out = &options.out;
    // Before anything is written: a folder that is not whole is in the way of the next try.
    let coordinators = options.coordinators.iter().map(|(id, address)| NewNode::coordinator(*id, address));
    let executors = options.executors.iter().map(|(name, hosts)| NewNode::executor(name, hosts));
    let nodes = coordinators.chain(executors).collect::<Result<Vec<_>>>()?;
    new_folder(env, out)?;
    let cluster = Name::new(&format!("{:032x}", env.entropy.u128()))?;
    let mut secret = [0; 32];
    env.entropy.fill(&mut secret);
    let token = AccessToken::new(env.entropy.u64(), secret);
    let file = ClusterFile {
        cluster: cluster.clone(),
        coordinators: options.coordinators.clone(),
        admin_token: AdminToken { id: token.id(), digest: token.digest() },
    };
    let key = KeyPair::generate().map_err(failed("make the authority's key"))?;
    let key_pem = key.serialize_pem();
    let authority = Authority::new(cluster.clone(), key, env.clock.now_ms());
    let certificate = authority.certificate()?;
    write(env, &out.join(AUTHORITY), certificate.as_bytes())?;
    write_private(env, &out.join(AUTHORITY_KEY), key_pem.as_bytes())?;
    write_private(env, &out.join(ADMIN_TOKEN), format!("{}\n", token.reveal()).as_bytes())?;
    for node in nodes {
        write_node(env, &out.join(node.folder()), &authority, &node, options.days, &certificate, &file)?;
    }
    write(env, &out.join(CLUSTER), &json(&file)?)?;
    Ok(cluster)
}

/// Makes the folder of one more process, or a new certificate for one there is, in `out`.
///
/// # Errors
/// E0206 without the authority's files in `folder`; E0501 if `out` holds anything already.
pub(crate) fn certify(env: &Env, folder: &Path, out: &Path, node: &NewNode, days: u32) -> Result<()> {
    let file = read_cluster(env, folder)?;
    let pem = |name: &str| {
        let path = folder.join(name);
        String::from_utf8(read_file(env, &path)?)
            .map_err(|_| Error::new(Code::Usage, "this is no PEM").at(Place::Named(path.display().to_string())))
    };
    let certificate = pem(AUTHORITY)?;
    let key = KeyPair::from_pem(&pem(AUTHORITY_KEY)?).map_err(|e| {
        Error::new(Code::Usage, format!("the authority's key cannot be read: {e}"))
            .at(Place::Named(folder.join(AUTHORITY_KEY).display().to_string()))
    })?;
    let authority = Authority::new(file.cluster.clone(), key, env.clock.now_ms());
    new_folder(env, out)?;
    write_node(env, out, &authority, node, days, &certificate, &file)
}

fn write_node(
    env: &Env,
    folder: &Path,
    authority: &Authority,
    node: &NewNode,
    days: u32,
    ca: &str,
    file: &ClusterFile,
) -> Result<()> {
    let (certificate, key) = authority.certify(node, days)?;
    crash_safe::create_folder(env.disk.as_ref(), folder).map_err(Error::from)?;
    write(env, &folder.join(AUTHORITY), ca.as_bytes())?;
    write(env, &folder.join(CERTIFICATE), certificate.as_bytes())?;
    write_private(env, &folder.join(KEY), key.as_bytes())?;
    write(env, &folder.join(CLUSTER), &json(file)?)
}

fn json(file: &ClusterFile) -> Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(file).map_err(|e| Error::internal(format!("encode a file: {e}")))?;
    text.push(b'\n');
    Ok(text)
}

fn write(env: &Env, path: &Path, bytes: &[u8]) -> Result<()> {
    crash_safe::write_new(env, path, bytes).map_err(Error::from)
}

fn write_private(env: &Env, path: &Path, bytes: &[u8]) -> Result<()> {
    crash_safe::write_new_private(env, path, bytes).map_err(Error::from)
}

/// A folder with nothing in it. What another cluster lives by is never overwritten.
fn new_folder(env: &Env, path: &Path) -> Result<()> {
    crash_safe::create_folder(env.disk.as_ref(), path).map_err(Error::from)?;
    let failed = |e: std::io::Error| Error::io(format!("list `{}`", path.display()), &e);
    if env.disk.list(path).map_err(failed)?.is_empty() {
        return Ok(());
    }
    Err(Error::new(Code::Usage, "this folder is not empty, and nothing is ever overwritten")
        .at(Place::Named(path.display().to_string()))
        .hint("name a new one with --out; one without `cluster.json` is what an interrupted try left"))
}

/// The host of `HOST:PORT`.
///
/// # Errors
/// E0501 if it is none.
pub(crate) fn host_of(address: &str) -> Result<String> {
    if let Ok(address) = address.parse::<SocketAddr>() {
        return Ok(address.ip().to_string());
    }
    let parts = address.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok());
    match parts {
        Some((host, _)) => checked_host(host),
        None => Err(Error::new(Code::Usage, format!("`{address}` is not HOST:PORT"))),
    }
}

/// A host as a certificate may name it.
fn checked_host(host: &str) -> Result<String> {
    let is_name = !host.is_empty()
        && host.len() <= 253
        && host.split('.').all(|label| {
            let is_letter = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
            (1..=63).contains(&label.len()) && label.bytes().all(is_letter) && !label.starts_with('-')
        });
    if host.parse::<IpAddr>().is_ok() || is_name {
        return Ok(host.to_owned());
    }
    Err(Error::new(Code::Usage, format!("`{host}` is no host")).hint("write a name or an IP address"))
}

#[cfg(test)]
mod tests {
    use qanat_storage::env::OpenMode;

    use super::*;
    use crate::cluster::security::{NodeSecurity, read_token};

    fn options(out: &str) -> InitOptions {
        let name = |text: &str| Name::new(text).expect("a name");
        InitOptions {
            out: out.into(),
            coordinators: [(1, "10.0.0.1:7071".to_owned()), (2, "two.example:7071".to_owned())].into(),
            executors: [(name("a"), vec!["10.0.0.3".to_owned(), "a.example".to_owned()])].into(),
            days: 30,
        }
    }

    #[test]
    fn every_process_gets_what_it_needs_and_nothing_is_overwritten() {
        let sim = Env::sim(1);
        let cluster = init(&sim.env, &options("/secure")).expect("made");
        let folder = Path::new("/secure/coordinator-2");
        let security = NodeSecurity::read(&sim.env, folder, NodeRole::Coordinator).expect("whole");
        assert_eq!(security.identity().to_string(), format!("qanat://{cluster}/coordinator/2"));
        assert_eq!(security.coordinators().len(), 2);
        let token = read_token(&sim.env, Path::new("/secure/admin.token")).expect("a token");
        assert_eq!(security.for_services().admin, (token.id(), token.digest()));
        let executor = Path::new("/secure/executor-a");
        NodeSecurity::read(&sim.env, executor, NodeRole::Executor).expect("whole");
        let refused = NodeSecurity::read(&sim.env, executor, NodeRole::Coordinator).err().expect("an executor's");
        assert_eq!(refused.code(), Code::CertificateRefused);
        let again = init(&sim.env, &options("/secure")).expect_err("there is one");
        assert_eq!(again.code(), Code::Usage);
        // One more process, of the same authority.
        let node = NewNode {
            role: NodeRole::Executor,
            node: Name::new("b").expect("a name"),
            hosts: vec!["b.example".to_owned()],
        };
        certify(&sim.env, Path::new("/secure"), Path::new("/secure/executor-b"), &node, 30).expect("made");
        let security = NodeSecurity::read(&sim.env, Path::new("/secure/executor-b"), NodeRole::Executor);
        assert_eq!(security.expect("whole").identity().cluster, cluster);
        assert!(sim.env.disk.open(Path::new("/secure/executor-b/ca-key.pem"), OpenMode::Read).is_err());
    }

    #[test]
    fn hosts_are_checked() {
        assert_eq!(host_of("[::1]:7071").expect("an address"), "::1");
        assert_eq!(host_of("two.example:7071").expect("a name"), "two.example");
        for wrong in ["", "a", "a:x", ":7071", "a b:7071", "-a:7071", "a..b:1", "*:1"] {
            assert_eq!(host_of(wrong).map_err(|e| e.code()), Err(Code::Usage), "{wrong}");
        }
    }
}
