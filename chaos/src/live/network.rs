//! What lies between the nodes of a cluster, and what can be wrong with it.
//!
//! Where the system allows it every node has a [network namespace](super::namespaces) of its own, and packets are lost;
//! elsewhere all nodes share one loopback and have a [proxy](super::link) in front of them, and bytes are held up.

use std::sync::Arc;

use anyhow::{Context, Result};

use super::link::Link;
use super::namespaces::Namespaces;
use super::weather::{Trouble, Weather};

/// Where a node listens in its own network.
const PORT: u16 = 7070;
/// A slow node: so much a second, and what waits for longer than this many bytes take is lost.
const SLOW: (&str, &str) = ("1mbit", "64kb");
/// A lossy one: of more than two packets at a time some are lost.
const LOSSY: (&str, &str) = ("20mbit", "5kb");

/// Between all nodes, which are counted from 0, and clients.
pub enum Network {
    Links { weather: Arc<Weather>, links: Vec<Link> },
    Namespaces(Namespaces),
}

impl Network {
    /// Namespaces where they are allowed, else links.
    ///
    /// # Errors
    /// If there is neither.
    pub fn new(nodes: usize) -> Result<Self> {
        // All that a fault may want is tried once: a system may lack a part of it.
        let found = Namespaces::new(nodes).and_then(|found| {
            found.narrow(0, SLOW.0, SLOW.1)?;
            found.widen(0)?;
            found.reset(0)?;
            Ok(found)
        });
        found.map_or_else(|_| Self::of_links(nodes), |found| Ok(Self::Namespaces(found)))
    }

    /// # Errors
    /// If no port is free.
    pub fn of_links(nodes: usize) -> Result<Self> {
        let weather = Arc::new(Weather::new(nodes));
        let links = (0..nodes).map(|node| Link::new(node, weather.clone())).collect::<Result<Vec<_>>>()?;
        Ok(Self::Links { weather, links })
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::Links { .. } => "links",
            Self::Namespaces(_) => "namespaces",
        }
    }

    /// In front of the command of a node; of a client if none.
    pub fn prefix(&self, node: Option<usize>) -> Vec<String> {
        match self {
            Self::Links { .. } => Vec::new(),
            Self::Namespaces(all) => all.prefix(node),
        }
    }

    /// Where a node listens.
    pub fn listens(&self, node: usize) -> String {
        match self {
            Self::Links { .. } => "127.0.0.1:0".to_owned(),
            Self::Namespaces(all) => format!("{}:{PORT}", all.host(node)),
        }
    }

    /// What others are told.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn address(&self, node: usize) -> Result<String> {
        match self {
            Self::Links { links, .. } => Ok(links.get(node).context("no such node")?.address().to_string()),
            Self::Namespaces(_) => Ok(self.listens(node)),
        }
    }

    /// A node has begun: its process, and where it listens now.
    ///
    /// # Errors
    /// If that is no address.
    pub fn has_begun(&self, node: usize, pid: i32, listens: &str) -> Result<()> {
        if let Self::Links { weather, links } = self {
            weather.is_process(node, pid);
            let listens = listens.parse().with_context(|| format!("no address: {listens}"))?;
            links.get(node).context("no such node")?.lead_to(listens);
        }
        Ok(())
    }

    /// What the first sends to the second does not arrive, or does again.
    ///
    /// # Errors
    /// If the system does not do it.
    pub fn cut(&self, from: usize, to: usize, cut: bool) -> Result<()> {
        match self {
            Self::Links { weather, .. } => weather.cut(from, to, cut),
            Self::Namespaces(all) => all.cut(from, to, cut)?,
        }
        Ok(())
    }

    /// What a node sends is slow or gets lost.
    ///
    /// # Errors
    /// If the system does not do it.
    pub fn trouble(&self, trouble: Trouble, node: usize) -> Result<()> {
        let (rate, queue) = match trouble {
            Trouble::Slow => SLOW,
            Trouble::Lossy => LOSSY,
        };
        match self {
            Self::Links { weather, .. } => weather.trouble(trouble, node, true),
            Self::Namespaces(all) => all.narrow(node, rate, queue)?,
        }
        Ok(())
    }

    /// It is fast and keeps everything again. Returns how much was late, or lost.
    ///
    /// # Errors
    /// If the system does not do it.
    pub fn soothe(&self, trouble: Trouble, node: usize) -> Result<u64> {
        match self {
            Self::Links { weather, .. } => {
                weather.trouble(trouble, node, false);
                Ok(weather.take_met())
            }
            Self::Namespaces(all) => {
                let (late, lost) = all.widen(node)?;
                Ok(if trouble == Trouble::Slow { late } else { lost })
            }
        }
    }

    /// The connections of a node break, in the middle of whatever they carry.
    ///
    /// # Errors
    /// If the system does not do it.
    pub fn reset(&self, node: usize) -> Result<()> {
        match self {
            Self::Links { weather, .. } => weather.reset(node),
            Self::Namespaces(all) => all.reset(node)?,
        }
        Ok(())
    }

    /// Where the files of a node are as others see them: in front of their paths.
    pub fn root(&self, node: usize) -> String {
        match self {
            Self::Links { .. } => String::new(),
            Self::Namespaces(all) => all.root(node),
        }
    }

    /// Gives a node a small disk of its own at a folder. False: that is not possible here.
    pub fn small_disk(&self, node: usize, folder: &str, size: &str) -> bool {
        let Self::Namespaces(all) = self else { return false };
        all.run(node, &format!("mkdir -p {folder}; mount -t tmpfs -o size={size} qanat-chaos {folder}")).is_ok()
    }

    /// The small disk of a node is hardly larger than what is on it.
    ///
    /// # Errors
    /// If the system does not do it.
    pub fn fill_disk(&self, node: usize, folder: &str) -> Result<()> {
        let Self::Namespaces(all) = self else { return Ok(()) };
        // It may grow between the two.
        let fill = format!("mount -o remount,size=$(($(df --output=used -k {folder} | tail -n 1) + 16))k {folder}");
        all.run(node, &format!("for _ in 1 2 3 4 5 6 7 8; do {fill} && exit; done; exit 1")).map(drop)
    }

    /// The small disk of a node has `size` again.
    ///
    /// # Errors
    /// If the system does not do it.
    pub fn empty_disk(&self, node: usize, folder: &str, size: &str) -> Result<()> {
        let Self::Namespaces(all) = self else { return Ok(()) };
        all.run(node, &format!("mount -o remount,size={size} {folder}")).map(drop)
    }
}
