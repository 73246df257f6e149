//! What is wrong between the nodes of a cluster, as all of its links see it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use qanat_storage::env::sim::Random;

/// What a node sends takes so much longer while it is slow, and passes at so many bytes a millisecond.
const SLOW: Duration = Duration::from_millis(30);
const SLOW_BYTES_PER_MS: u64 = 250;
/// What becomes of a lost packet: it is sent once more, after this time.
const RESENT: Duration = Duration::from_millis(200);
/// One in so many pieces that a lossy node sends is lost.
const LOST_ONE_IN: u64 = 12;

/// What may be wrong with what a node sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    Slow,
    Lossy,
}

/// Shared by all links of a cluster.
pub struct Weather {
    /// From the first to the second nothing passes.
    cuts: Mutex<BTreeSet<(usize, usize)>>,
    troubles: Mutex<BTreeSet<(Trouble, usize)>>,
    /// How often the connections of each node were to break; one that began before breaks in its next piece.
    resets: Vec<AtomicU64>,
    /// Pieces that were late, and connections that broke.
    met: AtomicU64,
    random: Mutex<Random>,
    /// Of the process of each node.
    pids: Mutex<Vec<i32>>,
}

impl Weather {
    pub fn new(nodes: usize) -> Self {
        Self {
            cuts: Mutex::default(),
            troubles: Mutex::default(),
            resets: (0..nodes).map(|_| AtomicU64::new(0)).collect(),
            met: AtomicU64::new(0),
            random: Mutex::new(Random::new(nodes as u64)),
            pids: Mutex::new(vec![0; nodes]),
        }
    }

    pub fn cut(&self, from: usize, to: usize, cut: bool) {
        let mut cuts = self.cuts.lock().unwrap_or_else(PoisonError::into_inner);
        if cut {
            cuts.insert((from, to))
        } else {
            cuts.remove(&(from, to))
        };
    }

    pub fn trouble(&self, trouble: Trouble, node: usize, is_on: bool) {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        if is_on {
            troubles.insert((trouble, node))
        } else {
            troubles.remove(&(trouble, node))
        };
    }

    pub fn reset(&self, node: usize) {
        if let Some(resets) = self.resets.get(node) {
            resets.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// How much was late or broke since this was asked last.
    pub fn take_met(&self) -> u64 {
        self.met.swap(0, Ordering::AcqRel)
    }

    /// Which process a node is now.
    pub fn is_process(&self, node: usize, pid: i32) {
        if let Some(place) = self.pids.lock().unwrap_or_else(PoisonError::into_inner).get_mut(node) {
            *place = pid;
        }
    }

    pub(super) fn is_cut(&self, from: Option<usize>, to: Option<usize>) -> bool {
        let (Some(from), Some(to)) = (from, to) else { return false };
        self.cuts.lock().unwrap_or_else(PoisonError::into_inner).contains(&(from, to))
    }

    /// How much later a piece of so many bytes arrives.
    pub(super) fn lateness(&self, from: Option<usize>, bytes: usize) -> Duration {
        let Some(from) = from else { return Duration::ZERO };
        let has = |trouble| {
            let troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
            troubles.contains(&(trouble, from))
        };
        let mut late = Duration::ZERO;
        if has(Trouble::Slow) {
            late += SLOW + Duration::from_millis(bytes as u64 / SLOW_BYTES_PER_MS);
        }
        if has(Trouble::Lossy) && self.random.lock().unwrap_or_else(PoisonError::into_inner).below(LOST_ONE_IN) == 0 {
            late += RESENT;
        }
        self.met.fetch_add(u64::from(!late.is_zero()), Ordering::AcqRel);
        late
    }

    /// How often connections between the two were to break so far.
    pub(super) fn resets(&self, ends: [Option<usize>; 2]) -> u64 {
        let of = |node: usize| self.resets.get(node).map_or(0, |resets| resets.load(Ordering::Acquire));
        ends.into_iter().flatten().map(of).sum()
    }

    pub(super) fn broke(&self) {
        self.met.fetch_add(1, Ordering::AcqRel);
    }

    /// The node whose process has the near end of a connection; none if it is a client.
    pub(super) fn node_of(&self, peer: SocketAddr) -> Option<usize> {
        let pids = self.pids.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let socket = format!("socket:[{}]", inode_of(peer)?);
        pids.into_iter().position(|pid| has_open(pid, &socket))
    }
}

/// The system's number for the socket whose own address this is.
fn inode_of(address: SocketAddr) -> Option<String> {
    let SocketAddr::V4(address) = address else { return None };
    let bytes = address.ip().octets();
    let wanted = format!("{:08X}:{:04X}", u32::from_le_bytes(bytes), address.port());
    let sockets = std::fs::read_to_string("/proc/net/tcp").ok()?;
    let mut of_socket = sockets.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    of_socket.find(|fields| fields.get(1) == Some(&wanted.as_str()))?.get(9).map(|inode| (*inode).to_owned())
}

fn has_open(pid: i32, file: &str) -> bool {
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    open.filter_map(|entry| std::fs::read_link(entry.path()).ok()).any(|target| target.as_os_str() == file)
}
