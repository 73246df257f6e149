//! A network of its own for every process of a cluster: network namespaces on a private bridge, where the system allows
//! them.
//!
//! Nothing of it has a name and nothing is left behind: each namespace lives as long as a shell that waits for its
//! standard input, which this process holds, and goes with it however it ends.
//!
//! ```text
//!   node 1                      node 2                       hub: clients are here
//!   eth0 127.77.0.1 ----------- eth0 127.77.0.2 ------------ bridge 127.77.0.254
//! ```
//!
//! Addresses are those of loopback, which is where a process without certificates listens, routed between the
//! namespaces. Every node knows the hardware address of every other one by heart; it is given a wrong one for a node
//! that its packets must not reach. So they vanish, and nobody is told, as behind a broken switch.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

/// A network's number of the hub.
const HUB: usize = 254;
/// Nobody has it.
const NOBODY: &str = "02:00:00:00:00:ff";
/// Lets addresses of loopback pass between namespaces, and takes them from the loopback device, but for one.
const LOOPBACK: &str = "echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet; ip link set lo up; \
    ip addr del 127.0.0.1/8 dev lo; ip addr add 127.0.0.1/32 dev lo; ";

/// A namespace of network and mounts that lives as long as this.
struct Holder {
    shell: Child,
}

impl Holder {
    fn new() -> Result<Self> {
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "--propagation", "private", "sh", "-c", "echo here; read nothing"]);
        let mut shell = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let mut line = String::new();
        BufReader::new(shell.stdout.take().context("no output")?).read_line(&mut line)?;
        let holder = Self { shell };
        ensure!(line.trim() == "here", "no namespaces here");
        Ok(holder)
    }

    /// In front of a command that runs there; with its mounts, such a command has no working directory.
    fn prefix(&self, mounts: bool) -> Vec<String> {
        let target = self.shell.id().to_string();
        let spaces: &[&str] = if mounts { &["--net", "--mount"] } else { &["--net"] };
        [&["nsenter", "--target", &target], spaces, &["--"]].concat().into_iter().map(str::to_owned).collect()
    }

    fn run(&self, script: &str) -> Result<String> {
        let prefix = self.prefix(true);
        let (program, arguments) = prefix.split_first().context("no command")?;
        let ended =
            Command::new(program).args(arguments).args(["sh", "-ec", script]).output().context(script.to_owned())?;
        let said = String::from_utf8_lossy(&ended.stderr);
        ensure!(ended.status.success(), "`{script}`: {}", said.trim());
        Ok(String::from_utf8_lossy(&ended.stdout).into_owned())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

/// The networks of all nodes, which are counted from 0.
pub struct Namespaces {
    hub: Holder,
    nodes: Vec<Holder>,
}

fn hardware(number: usize) -> String {
    format!("02:00:00:00:00:{number:02x}")
}

fn neighbour(number: usize, hardware: &str, device: &str) -> String {
    format!("ip neigh replace {} lladdr {hardware} dev {device} nud permanent; ", address(number))
}

fn address(number: usize) -> String {
    format!("127.77.0.{number}")
}

impl Namespaces {
    /// # Errors
    /// If the system does not allow it.
    pub fn new(nodes: usize) -> Result<Self> {
        let hub = Holder::new()?;
        hub.run(&format!(
            "{LOOPBACK} ip link add hub address {} type bridge; ip addr add {}/24 dev hub; ip link set hub up",
            hardware(HUB),
            address(HUB)
        ))?;
        let holders = (0..nodes).map(|_| Holder::new()).collect::<Result<Vec<_>>>()?;
        for (holder, number) in holders.iter().zip(1..) {
            let near = hardware(number);
            let link = format!("type veth peer name eth0 address {near} netns {}", holder.shell.id());
            let known = neighbour(number, &near, "hub");
            hub.run(&format!("ip link add v{number} {link}; ip link set v{number} master hub up; {known}"))?;
            let others = (1..=nodes).chain([HUB]).filter(|other| *other != number);
            let known: String = others.map(|other| neighbour(other, &hardware(other), "eth0")).collect();
            let near = address(number);
            holder.run(&format!("{LOOPBACK} ip addr add {near}/24 dev eth0; ip link set eth0 up; {known}"))?;
        }
        Ok(Self { hub, nodes: holders })
    }

    /// The host of a node.
    pub fn host(&self, node: usize) -> String {
        address(node + 1)
    }

    /// In front of the command of a node, or of a client.
    pub fn prefix(&self, node: Option<usize>) -> Vec<String> {
        match node.and_then(|node| self.nodes.get(node)) {
            Some(holder) => holder.prefix(true),
            None => self.hub.prefix(false),
        }
    }

    /// Runs a script as a node.
    ///
    /// # Errors
    /// If it fails.
    pub fn run(&self, node: usize, script: &str) -> Result<String> {
        self.nodes.get(node).context("no such node")?.run(script)
    }

    /// Where the files of a node are as others see them: its mounts are its own.
    pub fn root(&self, node: usize) -> String {
        self.nodes.get(node).map_or_else(String::new, |holder| format!("/proc/{}/root", holder.shell.id()))
    }

    /// Packets from one node to another one vanish, or do so no more.
    ///
    /// # Errors
    /// If the system does not do it.
    pub fn cut(&self, from: usize, to: usize, cut: bool) -> Result<()> {
        let right = hardware(to + 1);
        self.run(from, &neighbour(to + 1, if cut { NOBODY } else { &right }, "eth0")).map(drop)
    }

    /// What a node sends goes through a narrow pipe: `rate` and `queue` as `tc` has them.
    ///
    /// # Errors
    /// If the system does not do it.
    pub fn narrow(&self, node: usize, rate: &str, queue: &str) -> Result<()> {
        self.run(node, &format!("tc qdisc replace dev eth0 root tbf rate {rate} burst 4kb limit {queue}")).map(drop)
    }

    /// The pipe of a node is wide again. Returns how many packets had to wait in the narrow one, and how many it lost.
    ///
    /// # Errors
    /// If the system does not do it.
    pub fn widen(&self, node: usize) -> Result<(u64, u64)> {
        let said = self.run(node, "tc -s qdisc show dev eth0; tc qdisc del dev eth0 root")?;
        let count = |word: &str| {
            let rest = said.split(word).nth(1)?.trim_start();
            rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
        };
        Ok((count("overlimits").unwrap_or(0), count("dropped").unwrap_or(0)))
    }

    /// All connections of a node end at once, whatever they were about to carry.
    ///
    /// # Errors
    /// If the system does not do it.
    pub fn reset(&self, node: usize) -> Result<()> {
        self.run(node, "ss --no-header --tcp --kill state established").map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether what one node sends comes to another one, where nobody waits for it, which that one's system counts.
    fn comes(network: &Namespaces, from: usize, to: usize) -> Result<bool> {
        let count = || network.run(to, "awk '/^Udp: [0-9]/ { print $3 }' /proc/net/snmp");
        let before = count()?;
        network.run(from, &format!("bash -c 'echo x > /dev/udp/{}/9'", network.host(to)))?;
        Ok(count()? != before)
    }

    #[test]
    fn packets_vanish_in_the_direction_that_is_cut() -> Result<()> {
        let Ok(network) = Namespaces::new(3) else { return Ok(()) };
        ensure!(comes(&network, 0, 1)? && comes(&network, 1, 0)? && comes(&network, 1, 2)?, "nothing is cut");
        network.cut(0, 1, true)?;
        ensure!(!comes(&network, 0, 1)? && comes(&network, 1, 0)?, "one way alone");
        ensure!(comes(&network, 0, 2)? && comes(&network, 2, 1)?, "and between those two");
        network.cut(0, 1, false)?;
        ensure!(comes(&network, 0, 1)?, "whole again");
        Ok(())
    }
}
