//! The processes of one cluster, the network between them, and what a client asks of them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use super::console::Console;
use super::network::Network;
use super::process::Qanat;
use super::server::Server;
use super::shim::Shim;
use super::workload::{FOLDER, JOB};

/// Coordinators and executors of the cluster. Nodes are counted from 0, coordinators first.
pub const COORDINATORS: usize = 3;
pub const EXECUTORS: usize = 3;
pub const NODES: usize = COORDINATORS + EXECUTORS;
/// What a client has asked for comes about.
pub const PATIENCE: Duration = Duration::from_secs(60);
const CLUSTER_ID: &str = "chaos";
/// The node whose disk is small, where a disk can be made, and its size: more than a campaign needs.
const SMALL_DISK: (usize, &str) = (0, "1g");

/// All processes of a cluster; they end with this.
pub struct Members {
    pub qanat: Qanat,
    /// Of a client that knows all coordinators.
    pub console: Console,
    pub servers: Vec<Server>,
    /// Of the coordinators, as their group knows them now.
    ids: [u64; COORDINATORS],
    /// The next number of a coordinator that was never used.
    next_id: u64,
    has_small_disk: bool,
    /// Goes last: processes run in it.
    pub network: Network,
}

/// Name of a node; a coordinator keeps it when it gets another number.
pub fn name(node: usize) -> String {
    match node.checked_sub(COORDINATORS) {
        Some(executor) => format!("executor-{}", executor + 1),
        None => format!("coordinator-{}", node + 1),
    }
}

impl Members {
    /// Starts a cluster in the folder of `qanat`, below which its jobs may write.
    ///
    /// # Errors
    /// If a process does not start.
    pub fn start(qanat: &Qanat, network: Network) -> Result<Self> {
        let shim = Shim::build(&qanat.folder)?;
        let root = qanat.folder.join(FOLDER);
        std::fs::create_dir_all(root.join("storage")).context("make the folder of the cluster")?;
        let disk = root.join(name(SMALL_DISK.0)).display().to_string();
        let has_small_disk = network.small_disk(SMALL_DISK.0, &disk, SMALL_DISK.1);
        let mut servers = Vec::new();
        for node in 0..NODES {
            let name = name(node);
            let control = shim.control(&name)?;
            // A coordinator writes to its own folder, an executor to that of all.
            let full = root.join(if node < COORDINATORS { &name } else { "storage" });
            let variables = shim.variables(&control, &[full]);
            servers.push(Server::new(&name, &qanat.folder, control, variables));
        }
        let ids = std::array::from_fn(|node| node as u64 + 1);
        let next_id = COORDINATORS as u64 + 1;
        let addresses = (0..COORDINATORS).map(|node| network.address(node)).collect::<Result<Vec<_>>>()?;
        let console = Console::new(qanat, &network, addresses);
        let mut members = Self { qanat: qanat.clone(), console, servers, ids, next_id, has_small_disk, network };
        let group = (0..COORDINATORS).map(|node| Ok(format!("{}={}", node + 1, members.network.address(node)?)));
        let group = group.collect::<Result<Vec<_>>>()?.join(",");
        for node in 0..COORDINATORS {
            let founds: &[&str] = if node == 0 { &["--found"] } else { &[] };
            let command = members.coordinator(node, &[&["--members", &group], founds].concat())?;
            members.servers[node].becomes(command);
            members.begin(node)?;
            let command = members.coordinator(node, &["--members", &group])?;
            members.servers[node].becomes(command);
        }
        for node in COORDINATORS..NODES {
            let command = members.executor(node)?;
            members.servers[node].becomes(command);
            members.begin(node)?;
        }
        Ok(members)
    }

    fn folder(&self, node: usize) -> PathBuf {
        self.qanat.folder.join(FOLDER).join(name(node))
    }

    fn command_of(&self, node: usize, arguments: &[&str]) -> Vec<String> {
        let mut command = self.network.prefix(Some(node));
        command.push(self.qanat.binary.display().to_string());
        let storage = self.qanat.folder.join(FOLDER).join("storage").display().to_string();
        let data = self.folder(node).display().to_string();
        let own = std::process::id().to_string();
        let listens = self.network.listens(node);
        let all = ["--cluster-id", CLUSTER_ID, "--storage", &storage, "--data", &data, "--listen", &listens];
        command.extend(arguments.iter().chain(&all).chain(&["--parent", &own]).map(|text| (*text).to_owned()));
        command
    }

    fn coordinator(&self, node: usize, more: &[&str]) -> Result<Vec<String>> {
        let id = self.ids.get(node).context("no such coordinator")?.to_string();
        let root = self.qanat.folder.display().to_string();
        let arguments = ["coordinator", "--id", &id, "--files-root", &root];
        Ok(self.command_of(node, &[&arguments[..], more].concat()))
    }

    fn executor(&self, node: usize) -> Result<Vec<String>> {
        let (node_name, all) = (name(node), self.console.addresses());
        let advertised = self.network.address(node)?;
        let arguments = ["executor", "--node", &node_name, "--slots", "2", "--coordinators", all];
        let more = ["--advertise", &advertised, "--metrics", "127.0.0.1:0"];
        Ok(self.command_of(node, &[&arguments[..], &more].concat()))
    }

    /// # Errors
    /// If there is no such node.
    pub fn server(&mut self, node: usize) -> Result<&mut Server> {
        self.servers.get_mut(node).context("no such node")
    }

    /// Starts a node on its disk.
    ///
    /// # Errors
    /// If it does not start.
    pub fn begin(&mut self, node: usize) -> Result<()> {
        if !self.try_begin(node)? {
            bail!("{} does not start: {}", name(node), self.server(node)?.said()?);
        }
        Ok(())
    }

    /// Starts a node on its disk. False if it ends at once.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn try_begin(&mut self, node: usize) -> Result<bool> {
        let Ok(first) = self.server(node)?.try_start()? else { return Ok(false) };
        let listens = first.rsplit(' ').next().unwrap_or_default();
        self.network.has_begun(node, self.servers[node].pid(), listens)?;
        Ok(true)
    }

    /// Sends a signal that ends a node, and waits for its end.
    ///
    /// # Errors
    /// If it does not end.
    pub fn end(&mut self, node: usize, signal: Signal) -> Result<()> {
        self.server(node)?.end(signal).map(drop)
    }

    /// Which coordinator leads, as a node.
    ///
    /// # Errors
    /// If nobody does.
    pub fn leader(&self) -> Result<usize> {
        let status = self.console.insist(&["cluster", "status"], |_| false)?;
        let coordinators = status["coordinators"].as_array().context("no coordinators")?;
        let leads = coordinators.iter().find(|coordinator| coordinator["leads"] == true).context("nobody leads")?;
        self.ids.iter().position(|id| leads["id"] == *id).with_context(|| format!("nobody has the number of {leads}"))
    }

    /// Whether a coordinator takes part: it leads, or it knows who does.
    ///
    /// # Errors
    /// If the client cannot be run.
    pub fn takes_part(&self, node: usize) -> Result<bool> {
        Ok(self.console.at(self.network.address(node)?).command(&["cluster", "status"])?.success())
    }

    /// The job's state, generation and newest visible epoch.
    ///
    /// # Errors
    /// If the cluster does not say.
    pub fn job(&self) -> Result<(String, u64, u64)> {
        let job = self.console.insist(&["job", "describe", JOB], |_| false)?;
        let number = |name: &str| job[name].as_u64().unwrap_or(0);
        Ok((job["status"].as_str().unwrap_or_default().to_owned(), number("generation"), number("committed_epoch")))
    }

    /// A coordinator that ended and whose folder is not to be believed comes back as the guide has it: it is removed
    /// from the group, and another one with an empty folder and a new number is added at its address.
    ///
    /// # Errors
    /// If the group does not take it.
    pub fn readmit(&mut self, node: usize) -> Result<()> {
        let old = self.ids.get(node).context("no such coordinator")?.to_string();
        // Repeated after it came about it is a member no more.
        let removed = self.console.insist(&["cluster", "remove", &old], |error| error.contains("E0501"));
        let status = self.console.insist(&["cluster", "status"], |_| false)?;
        let stays = status["coordinators"].as_array().is_none_or(|all| all.iter().any(|c| c["id"] == self.ids[node]));
        if stays {
            removed?;
            bail!("coordinator {old} was removed and is there: {status}");
        }
        self.wipe(node)?;
        self.ids[node] = self.next_id;
        self.next_id += 1;
        let command = self.coordinator(node, &[])?;
        self.server(node)?.becomes(command);
        self.begin(node)?;
        let member = format!("{}={}", self.ids[node], self.network.address(node)?);
        self.console.insist(&["cluster", "add", &member], |_| false).map(drop)
    }

    /// Where the files of a node are.
    pub fn disk(&self, node: usize) -> PathBuf {
        let folder = self.folder(node);
        let below = folder.strip_prefix("/").unwrap_or(&folder);
        match self.network.root(node) {
            root if root.is_empty() => folder,
            root => Path::new(&root).join(below),
        }
    }

    /// Removes all that is on the disk of a node that does not run.
    ///
    /// # Errors
    /// If something stays.
    pub fn wipe(&self, node: usize) -> Result<()> {
        let disk = self.disk(node);
        for entry in std::fs::read_dir(&disk).with_context(|| format!("read {}", disk.display()))? {
            let path = entry?.path();
            let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            removed.with_context(|| format!("remove {}", path.display()))?;
        }
        Ok(())
    }

    /// Whether the disk of a node can be filled without the shim.
    pub fn has_small_disk(&self, node: usize) -> bool {
        self.has_small_disk && node == SMALL_DISK.0
    }

    /// Fills the small disk of a node, or makes room on it again.
    ///
    /// # Errors
    /// If the system does not do it.
    pub fn fill_disk(&self, node: usize, is_full: bool) -> Result<()> {
        let folder = self.folder(node).display().to_string();
        match is_full {
            true => self.network.fill_disk(node, &folder),
            false => self.network.empty_disk(node, &folder, SMALL_DISK.1),
        }
    }

    /// What all processes have said on stderr.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn said(&self) -> Result<String> {
        self.servers.iter().map(Server::said).collect()
    }
}
