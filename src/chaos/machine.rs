//! The processes of this machine, as `/proc` shows them: who listens where, and how a process was started.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The state of a socket that listens, as `/proc/net/tcp` writes it.
const LISTENS: &str = "0A";
/// What the name of a program ends with whose file was replaced since.
const REPLACED: &str = " (deleted)";

/// The process that listens at `HOST:PORT`. None if it is on another machine, or of somebody else.
pub(super) fn listener(address: &str) -> Option<i32> {
    let at = address.to_socket_addrs().ok()?.find(|at| is_local(at.ip()))?;
    let mut sockets = BTreeSet::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        // A machine may have no IPv6.
        sockets.extend(listening(&std::fs::read_to_string(table).unwrap_or_default(), at));
    }
    let holds = |pid: &i32| {
        let links = std::fs::read_dir(folder(*pid).join("fd")).into_iter().flatten().flatten();
        let mut targets = links.filter_map(|link| std::fs::read_link(link.path()).ok());
        targets.any(|target| socket_of(&target).is_some_and(|socket| sockets.contains(&socket)))
    };
    pids().into_iter().find(holds)
}

/// A program that was built anew since is started as it is now.
fn current(program: PathBuf) -> PathBuf {
    match program.to_str().and_then(|path| path.strip_suffix(REPLACED)) {
        Some(path) => PathBuf::from(path),
        None => program,
    }
}

fn folder(pid: i32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}"))
}

fn pids() -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Only an address of this machine can be bound.
fn is_local(ip: IpAddr) -> bool {
    TcpListener::bind((ip, 0)).is_ok()
}

fn socket_of(link: &Path) -> Option<u64> {
    link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// The sockets of a table that are reached at an address: bound to it, or to all of the machine.
fn listening(table: &str, at: SocketAddr) -> Vec<u64> {
    let socket = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (bound, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        let (ip, port) = bound.split_once(':')?;
        let (ip, port) = (ip_of(ip)?, u16::from_str_radix(port, 16).ok()?);
        let is_reached = port == at.port() && (ip == at.ip() || ip.is_unspecified());
        (*state == LISTENS && is_reached).then(|| inode.parse().ok()).flatten()
    };
    table.lines().skip(1).filter_map(socket).collect()
}

/// Words of 32 bits, each as this machine keeps them.
fn ip_of(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let digits = hex.get(at * 8..at * 8 + 8)?;
        u32::from_str_radix(digits, 16).ok().map(u32::to_ne_bytes)
    };
    match hex.len() {
        8 => Some(IpAddr::V4(Ipv4Addr::from(word(0)?))),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?].concat();
            let ip = Ipv6Addr::from(<[u8; 16]>::try_from(words).ok()?);
            Some(ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4))
        }
        _ => None,
    }
}

/// How a process was started, and what starts it again.
#[derive(Clone, Debug)]
pub(super) struct Started {
    pub(super) program: PathBuf,
    /// Without the program's name.
    pub(super) arguments: Vec<OsString>,
    pub(super) folder: PathBuf,
    pub(super) variables: Vec<(OsString, OsString)>,
}

impl Started {
    /// None if there is no such process, or it is somebody else's.
    pub(super) fn of(pid: i32) -> Option<Self> {
        let folder = folder(pid);
        let parts = |name: &str| {
            let bytes = std::fs::read(folder.join(name)).ok()?;
            let parts = bytes.strip_suffix(&[0]).unwrap_or(&bytes).split(|byte| *byte == 0);
            Some(parts.map(<[u8]>::to_vec).collect::<Vec<_>>())
        };
        let arguments = parts("cmdline")?.into_iter().skip(1).map(OsString::from_vec).collect();
        let variable = |text: Vec<u8>| {
            let at = text.iter().position(|byte| *byte == b'=')?;
            let (name, value) = (text.get(..at)?.to_vec(), text.get(at + 1..)?.to_vec());
            Some((OsString::from_vec(name), OsString::from_vec(value)))
        };
        let variables = parts("environ")?.into_iter().filter_map(variable).collect();
        let program = current(std::fs::read_link(folder.join("exe")).ok()?);
        Some(Self { program, arguments, folder: std::fs::read_link(folder.join("cwd")).ok()?, variables })
    }

    /// The value of an option of its command line.
    pub(super) fn option(&self, name: &str) -> Option<&str> {
        let mut arguments = self.arguments.iter().filter_map(|argument| argument.to_str());
        while let Some(argument) = arguments.next() {
            if argument == name {
                return arguments.next();
            }
            if let Some(value) = argument.strip_prefix(name).and_then(|rest| rest.strip_prefix('=')) {
                return Some(value);
            }
        }
        None
    }

    /// Whether a word stands in the command line, as a verb does.
    pub(super) fn has(&self, word: &str) -> bool {
        self.arguments.iter().any(|argument| argument == word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 11 1 0 100 0 0 10 0
   1: 00000000:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 12 1 0 100 0 0 10 0
   2: 0100007F:1F90 0100007F:8000 01 00000000:00000000 00:00000000 00000000  1000        0 13 1 0 100 0 0 10 0
   3: 0200007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 14 1 0 100 0 0 10 0
";

    #[test]
    #[cfg(target_endian = "little")]
    fn a_table_tells_who_listens() {
        let at = |text: &str| listening(TABLE, text.parse().expect("an address"));
        assert_eq!(at("127.0.0.1:8080"), [11], "a connection does not listen, nor does another address");
        assert_eq!(at("127.0.0.1:8081"), [12], "all addresses of the machine");
        assert_eq!(at("127.0.0.1:8082"), [] as [u64; 0]);
        let six = "00000000000000000000000001000000";
        assert_eq!(ip_of(six), Some(IpAddr::V6(Ipv6Addr::LOCALHOST)));
        assert_eq!(ip_of("0000000000000000FFFF00000100007F"), Some(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        assert_eq!(ip_of("01"), None);
    }

    #[test]
    fn this_process_is_found_by_its_port() {
        let bound = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = bound.local_addr().expect("an address").to_string();
        let own = i32::try_from(std::process::id()).expect("a pid");
        assert_eq!(listener(&address), Some(own));
        drop(bound);
        assert_eq!(listener(&address), None);
        // Reserved for documentation: no machine has it.
        assert_eq!(listener("192.0.2.1:80"), None);
        assert_eq!(listener("no address"), None);
        let started = Started::of(own).expect("it runs");
        assert_eq!(started.program, std::env::current_exe().expect("a program"));
        assert_eq!(started.folder, std::env::current_dir().expect("a folder"));
        assert!(started.variables.iter().any(|(name, _)| name == "PATH"));
        assert!(Started::of(i32::MAX).is_none());
    }

    #[test]
    fn options_are_read_in_both_spellings() {
        let arguments = ["executor", "--node", "a", "--slots=2", "--last"].map(OsString::from).to_vec();
        let started = Started { program: "q".into(), arguments, folder: "/".into(), variables: Vec::new() };
        assert_eq!((started.option("--node"), started.option("--slots")), (Some("a"), Some("2")));
        assert_eq!((started.option("--last"), started.option("--slot")), (None, None));
        assert!(started.has("executor") && !started.has("coordinator"));
    }
}
