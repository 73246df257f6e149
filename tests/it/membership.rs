//! A coordinator that leaves its group, for good or for a restart: what its process says, and how it ends.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use crate::folder::Folder;
use crate::process::Invocation;

/// Until a process says that it serves, or ends.
const PATIENCE: Duration = Duration::from_secs(60);

/// The process of a coordinator, which ends with the test.
struct Coordinator {
    child: Child,
    serves: Receiver<()>,
    /// All that it says on stderr, when it has ended.
    said: Receiver<String>,
}

impl Coordinator {
    fn start(folder: &Folder, id: u64, listen: &str, more: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_qanat"))
            .args(["coordinator", "--cluster-id", "small", "--storage", "storage", "--listen", listen])
            .args(["--id", &id.to_string(), "--data", &format!("c{id}")])
            .args(more)
            .env("QANAT_LOG", "info,openraft=off")
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let (serving, serves) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if line.contains(" serves") {
                    let _ = serving.send(());
                }
            }
        });
        let (saying, said) = channel();
        std::thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            let _ = saying.send(text);
        });
        Self { child, serves, said }
    }

    fn serves(&self) {
        assert_eq!(self.serves.recv_timeout(PATIENCE), Ok(()), "it does not serve");
    }

    /// Asks it to end, as a service manager does.
    fn terminate(&self) {
        assert!(Command::new("kill").arg(self.child.id().to_string()).status().unwrap().success());
    }

    /// From now on its disk takes nothing more.
    fn fills_disk(&self) {
        let process = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).unwrap();
        let limit = Rlimit { current: Some(1), ..getrlimit(Resource::Fsize) };
        prlimit(Some(process), Resource::Fsize, limit).unwrap();
    }

    /// Waits for its end.
    fn ended(mut self) -> (Option<i32>, String) {
        let said = self.said.recv_timeout(PATIENCE).expect("it does not end");
        (self.child.wait().unwrap().code(), said)
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command that succeeds.
fn qanat(folder: &Folder, cluster: &str, arguments: &[&str]) {
    let arguments = [arguments, &["--cluster", cluster]].concat().into_iter().map(str::to_owned);
    let outcome = Invocation::new(folder.path(), arguments.collect::<Vec<_>>()).run().unwrap();
    assert_eq!(outcome.code, Some(0), "{}", outcome.describe());
}

#[test]
fn a_removed_coordinator_says_so_and_ends() {
    let folder = Folder::new("membership");
    // Their numbers stand in arguments before the processes are there to ask for them.
    let ports = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let addresses = ports.map(|port| port.local_addr().unwrap().to_string());
    let [first, second] = &addresses;
    let qanat = |arguments: &[&str]| qanat(&folder, first, arguments);
    let founder = Coordinator::start(&folder, 1, first, &["--found", "--members", &format!("1={first}")]);
    founder.serves();
    let joining = Coordinator::start(&folder, 2, second, &[]);
    joining.serves();
    qanat(&["cluster", "add", &format!("2={second}")]);
    qanat(&["cluster", "remove", "2"]);
    let (code, said) = joining.ended();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("E0610") && said.contains("coordinator 2 was removed"), "{said}");
    // A service manager that starts it again gets the same answer.
    let (code, said) = Coordinator::start(&folder, 2, second, &[]).ended();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("E0610"), "{said}");
    qanat(&["cluster", "status"]);
    drop(founder);
}

/// Three coordinators, by number.
struct Group {
    folder: Folder,
    addresses: [String; 3],
    processes: BTreeMap<u64, Coordinator>,
}

impl Group {
    fn new(name: &str) -> Self {
        let ports = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let addresses = ports.map(|port| port.local_addr().unwrap().to_string());
        let mut group = Self { folder: Folder::new(name), addresses, processes: BTreeMap::new() };
        group.start(2, &[]);
        group.start(3, &[]);
        group.start(1, &["--found"]);
        group
    }

    fn start(&mut self, id: u64, more: &[&str]) {
        let all = self.addresses.iter().zip(1..).map(|(address, id)| format!("{id}={address}"));
        let all = all.collect::<Vec<_>>().join(",");
        let process = Coordinator::start(&self.folder, id, self.address(id), &[&["--members", &all], more].concat());
        process.serves();
        self.processes.insert(id, process);
    }

    fn address(&self, id: u64) -> &str {
        &self.addresses[usize::try_from(id).unwrap() - 1]
    }

    /// The one that leads, as some of them say. A coordinator that has just started may know of none yet.
    fn leader(&self, known: &str) -> u64 {
        let begun = Instant::now();
        loop {
            let arguments = ["-o", "json", "cluster", "status", "--cluster", known].map(str::to_owned);
            let outcome = Invocation::new(self.folder.path(), arguments).run().unwrap();
            if outcome.code == Some(0) {
                let status = outcome.json().unwrap();
                let coordinators = status["coordinators"].as_array().unwrap();
                let leads = coordinators.iter().find(|coordinator| coordinator["leads"] == true).unwrap();
                return leads["id"].as_u64().unwrap();
            }
            assert!(begun.elapsed() < PATIENCE, "{}", outcome.describe());
        }
    }

    /// Waits until those that are left show a coordinator as up, or as down.
    fn shows(&self, id: u64, is_up: bool) {
        let begun = Instant::now();
        loop {
            let arguments = ["-o", "json", "cluster", "status", "--cluster", &self.all()].map(str::to_owned);
            let outcome = Invocation::new(self.folder.path(), arguments).run().unwrap();
            let status = outcome.json().unwrap_or_default();
            let found = status["coordinators"].as_array().into_iter().flatten().find(|found| found["id"] == id);
            if found.is_some_and(|found| found["up"] == is_up && found["votes"] == true) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{}", outcome.describe());
        }
    }

    fn all(&self) -> String {
        self.addresses.join(",")
    }
}

#[test]
fn a_leader_that_is_asked_to_end_hands_over() {
    let mut group = Group::new("hand-over");
    // Each of those that led is back with its vote, or the third one would have no majority.
    for _ in 0..3 {
        let led = group.leader(&group.all());
        let process = group.processes.remove(&led).unwrap();
        process.terminate();
        let (code, said) = process.ended();
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("another coordinator leads"), "{said}");
        let next = group.leader(&group.all());
        assert_ne!(next, led);
        group.shows(led, false);
        group.shows(next, true);
        group.start(led, &[]);
        // It takes part when it knows who leads.
        assert_eq!(group.leader(group.address(led)), next);
        group.shows(led, true);
    }
}

#[test]
fn a_coordinator_whose_disk_fails_says_so_and_ends() {
    let mut group = Group::new("coordinator-disk");
    group.folder.write(
        "numbers.sql",
        "CREATE TABLE numbers (n BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '10');\n\
         CREATE TABLE nowhere (n BIGINT) WITH ('connector' = 'blackhole');\n\
         INSERT INTO nowhere SELECT n FROM numbers;\n",
    );
    for name in ["of-the-leader", "of-a-follower"] {
        qanat(&group.folder, &group.all(), &["submit", "numbers.sql", "--name", name]);
        let led = group.leader(&group.all());
        let id = if name == "of-the-leader" { led } else { led % 3 + 1 };
        group.processes[&id].fills_disk();
        // What is decided is written by all.
        qanat(&group.folder, &group.all(), &["job", "stop", name, "--no-savepoint"]);
        let (code, said) = group.processes.remove(&id).unwrap().ended();
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("E0305") && !said.contains("panicked"), "{said}");
        group.start(id, &[]);
        assert_ne!(group.leader(group.address(id)), id);
    }
}
