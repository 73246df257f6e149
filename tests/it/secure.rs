//! A cluster with certificates and tokens, as its operator meets it: `cluster init`, the processes, their clients.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use serde_json::Value;

use crate::folder::Folder;
use crate::process::{Invocation, Outcome};

/// Until a process says that it serves.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process of the cluster, which ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Cluster {
    folder: Folder,
    address: String,
    processes: Vec<Process>,
}

fn text(parts: &[&str]) -> Vec<String> {
    parts.iter().map(|part| (*part).to_owned()).collect()
}

impl Cluster {
    /// Certificates for one coordinator and one executor at loopback; nothing runs yet.
    fn init(name: &str) -> Self {
        let folder = Folder::new(name);
        // Its number stands in the files before the process is there to ask for one.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let cluster = Self { folder, address, processes: Vec::new() };
        let coordinator = format!("1={}", cluster.address);
        let made = cluster.qanat(&[
            "-o",
            "json",
            "cluster",
            "init",
            "--out",
            "secure",
            "--coordinator",
            &coordinator,
            "--executor",
            "a=127.0.0.1,localhost",
        ]);
        assert_eq!(made.code, Some(0), "{}", made.describe());
        cluster
    }

    fn qanat(&self, arguments: &[&str]) -> Outcome {
        Invocation::new(self.folder.path(), text(arguments)).run().unwrap()
    }

    /// A command of a client that has a CA and a token.
    fn client(&self, arguments: &[&str], ca: &str, token: Option<&str>) -> Outcome {
        let mut all = vec!["-o", "json"];
        all.extend(arguments);
        all.extend(["--cluster", &self.address, "--ca", ca]);
        all.extend(token.iter().flat_map(|token| ["--token-file", token]));
        self.qanat(&all)
    }

    fn admin(&self, arguments: &[&str]) -> Outcome {
        self.client(arguments, "secure/ca.pem", Some("secure/admin.token"))
    }

    /// Starts a process and waits until it says that it serves.
    fn start(&mut self, arguments: &[&str]) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_qanat"))
            .args(arguments)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().unwrap();
        self.processes.push(Process(child));
        let (sender, serves) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if line.contains(" serves") {
                    let _ = sender.send(());
                }
            }
        });
        assert_eq!(serves.recv_timeout(PATIENCE), Ok(()), "{arguments:?} does not serve");
    }

    fn start_coordinator(&mut self) {
        let listen = self.address.clone();
        self.start(&[
            "coordinator",
            "--security",
            "secure/coordinator-1",
            "--listen",
            &listen,
            "--found",
            "--data",
            "c1",
            "--storage",
            "storage",
            "--files-root",
            ".",
        ]);
    }
}

#[track_caller]
fn refused(outcome: &Outcome, code: &str) {
    let found = outcome.error().map(|error| error["code"].clone());
    assert_eq!(found, Some(Value::from(code)), "{}", outcome.describe());
}

#[track_caller]
fn done(outcome: &Outcome) -> Value {
    assert_eq!(outcome.code, Some(0), "{}", outcome.describe());
    outcome.json().unwrap()
}

#[test]
fn secrets_are_private_and_nothing_is_overwritten() {
    let cluster = Cluster::init("secure-init");
    let mode = |name: &str| {
        let path = cluster.folder.path().join("secure").join(name);
        path.metadata().unwrap_or_else(|e| panic!("{name}: {e}")).permissions().mode() & 0o777
    };
    for secret in ["ca-key.pem", "admin.token", "coordinator-1/key.pem", "executor-a/key.pem"] {
        assert_eq!(mode(secret), 0o600, "{secret}");
    }
    for public in ["ca.pem", "cluster.json", "executor-a/ca.pem", "executor-a/cert.pem", "executor-a/cluster.json"] {
        assert_ne!(mode(public) & 0o400, 0, "{public}");
    }
    let secure = cluster.folder.path().join("secure");
    let token = std::fs::read_to_string(secure.join("admin.token")).unwrap();
    assert!(token.starts_with("qanat_") && token.trim().len() == 6 + 16 + 1 + 64);
    let public = std::fs::read_to_string(secure.join("executor-a/cluster.json")).unwrap();
    assert!(!public.contains(token.trim().rsplit('_').next().unwrap()), "the secret is nobody's but its owner's");
    let before = std::fs::read(secure.join("ca.pem")).unwrap();
    let again = cluster.qanat(&["-o", "json", "cluster", "init", "--out", "secure", "--coordinator", "1=localhost:1"]);
    refused(&again, "E0501");
    assert_eq!(std::fs::read(secure.join("ca.pem")).unwrap(), before);
    // A process takes the folder that is its own, and listens where others reach it only with one.
    let wrong = cluster.qanat(&[
        "-o",
        "json",
        "coordinator",
        "--security",
        "secure/executor-a",
        "--listen",
        "127.0.0.1:0",
        "--data",
        "c1",
        "--storage",
        "storage",
    ]);
    refused(&wrong, "E0608");
    // Nor does one start that others would not believe where they are told to find it.
    let unnamed = |arguments: &[&str], host: &str, named: &str| {
        let outcome = cluster.qanat(&[&["-o", "json"], arguments, &["--storage", "storage"]].concat());
        refused(&outcome, "E0608");
        let message = outcome.error().unwrap()["message"].to_string();
        assert!(message.contains(&format!("`{host}`")) && message.contains(named), "{}", outcome.describe());
    };
    let executor = ["executor", "--security", "secure/executor-a", "--advertise"];
    unnamed(&[&executor[..], &["elsewhere.example:7072"]].concat(), "elsewhere.example", "127.0.0.1, localhost");
    unnamed(&[&executor[..], &["[::1]:7072"]].concat(), "::1", "127.0.0.1, localhost");
    let moved = ["--out", "moved", "--coordinator", "1=elsewhere.example:7071"];
    let certified = cluster.qanat(&[&["cluster", "certify", "--authority", "secure"], &moved[..]].concat());
    assert_eq!(certified.code, Some(0), "{}", certified.describe());
    let coordinator = ["coordinator", "--security", "moved", "--listen", "127.0.0.1:0", "--data", "c1"];
    unnamed(&coordinator, "127.0.0.1", "elsewhere.example");
    // A file that is none is told of by its name.
    cluster.folder.write("not.pem", "ca\n");
    let nothing = cluster.client(&["jobs", "list"], "not.pem", None);
    refused(&nothing, "E0501");
    assert_eq!(nothing.error().unwrap()["place"]["named"], "not.pem", "{}", nothing.describe());
    let open = cluster.qanat(&[
        "-o",
        "json",
        "coordinator",
        "--cluster-id",
        "x",
        "--id",
        "1",
        "--members",
        "1=h:1",
        "--listen",
        "0.0.0.0:0",
        "--data",
        "c1",
        "--storage",
        "storage",
    ]);
    refused(&open, "E0501");
}

#[test]
fn clients_need_the_right_authority_token_and_role() {
    let mut cluster = Cluster::init("secure-cluster");
    cluster.start_coordinator();
    cluster.start(&["executor", "--security", "secure/executor-a", "--slots", "2", "--storage", "storage"]);
    let status = done(&cluster.admin(&["cluster", "status"]));
    assert_eq!(status["executors"][0]["node"], "a");
    // Who has not what it takes.
    let listing: &[&str] = &["jobs", "list"];
    refused(&cluster.client(listing, "secure/ca.pem", None), "E0605");
    let other = Cluster::init("secure-other");
    let path = |name: &str| other.folder.path().join("secure").join(name).display().to_string();
    refused(&cluster.client(listing, &path("ca.pem"), Some("secure/admin.token")), "E0608");
    refused(&cluster.client(listing, "secure/ca.pem", Some(&path("admin.token"))), "E0605");
    refused(&cluster.qanat(&["-o", "json", "jobs", "list", "--cluster", &cluster.address]), "E0602");
    let token_alone =
        ["-o", "json", "jobs", "list", "--cluster", &cluster.address, "--token-file", "secure/admin.token"];
    refused(&cluster.qanat(&token_alone), "E0501");
    // A token of each kind.
    for role in ["viewer", "submitter"] {
        done(&cluster.admin(&["cluster", "token", "create", role, "--role", role, "--out", role]));
    }
    // One whose secret could not be kept is not made.
    let lost = cluster.admin(&["cluster", "token", "create", "lost", "--role", "viewer", "--out", "missing/lost"]);
    refused(&lost, "E0206");
    let short = done(&cluster.admin(&["cluster", "token", "create", "short", "--role", "viewer", "--expires", "1s"]));
    cluster.folder.write("short", short["token"].as_str().unwrap());
    let root = cluster.folder.path().display().to_string();
    cluster.folder.write("numbers.csv", "n\n1\n2\n3\n");
    cluster.folder.write(
        "sum.sql",
        format!(
            "CREATE TABLE numbers (n BIGINT) WITH ('connector' = 'filesystem', 'path' = '{root}/numbers.csv', \
             'format' = 'csv');\n\
             CREATE TABLE copy (n BIGINT) WITH ('connector' = 'filesystem', 'path' = '{root}/copy', \
             'format' = 'csv');\n\
             INSERT INTO copy SELECT n FROM numbers;\n"
        ),
    );
    let submit: &[&str] = &["submit", "sum.sql", "--wait"];
    refused(&cluster.client(submit, "secure/ca.pem", Some("viewer")), "E0607");
    let submitted = done(&cluster.client(submit, "secure/ca.pem", Some("submitter")));
    assert_eq!(submitted["jobs"][0]["status"], "FINISHED");
    refused(&cluster.client(&["job", "stop", "sum"], "secure/ca.pem", Some("submitter")), "E0607");
    done(&cluster.client(&["jobs", "list", "--all"], "secure/ca.pem", Some("viewer")));
    // Looking at what is there is for viewers, and executors show rows to coordinators alone.
    for look in [&["topics", "list"][..], &["audit", "sum"], &["checkpoints", "list", "sum"], &["late", "list", "sum"]]
    {
        refused(&cluster.client(look, "secure/ca.pem", None), "E0605");
        done(&cluster.client(look, "secure/ca.pem", Some("viewer")));
    }
    cluster.folder.write(
        "on.sql",
        format!(
            "CREATE TABLE numbers (n BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '100');\n\
             CREATE TABLE copy (n BIGINT) WITH ('connector' = 'filesystem', 'path' = '{root}/on', 'format' = 'csv');\n\
             INSERT INTO copy SELECT n FROM numbers;\n"
        ),
    );
    done(&cluster.client(&["submit", "on.sql"], "secure/ca.pem", Some("submitter")));
    let rows = cluster.client(&["tail", "on/numbers", "--limit", "3"], "secure/ca.pem", Some("viewer"));
    assert_eq!((rows.code, rows.stdout.lines().count()), (Some(0), 3), "{}", rows.describe());
    done(&cluster.admin(&["job", "stop", "on"]));
    // Its second is over when the cluster says so.
    let started = std::time::Instant::now();
    loop {
        let outcome = cluster.client(listing, "secure/ca.pem", Some("short"));
        if outcome.code != Some(0) {
            refused(&outcome, "E0606");
            break;
        }
        assert!(started.elapsed() < PATIENCE);
    }
    done(&cluster.admin(&["cluster", "token", "revoke", "viewer"]));
    refused(&cluster.client(listing, "secure/ca.pem", Some("viewer")), "E0605");
    // All of it is known, across a restart of the coordinator too.
    cluster.processes.remove(0);
    cluster.start_coordinator();
    let log = done(&cluster.admin(&["cluster", "audit-log"]));
    let entries = log["entries"].as_array().unwrap();
    for last in [0, 2] {
        let log = done(&cluster.admin(&["cluster", "audit-log", "--last", &last.to_string()]));
        assert_eq!(log["entries"].as_array().unwrap()[..], entries[entries.len() - last..], "{last}");
    }
    let told: Vec<_> = entries.iter().map(|e| (e["who"].as_str().unwrap(), e["object"].as_str().unwrap())).collect();
    let expected = [
        ("admin", "token viewer (viewer)"),
        ("admin", "token submitter (submitter)"),
        ("admin", "token short (viewer)"),
        ("submitter", "job sum"),
        ("submitter", "job on"),
        ("admin", "job on"),
        ("admin", "token viewer"),
    ];
    assert_eq!(told, expected);
    assert_eq!(entries[3]["what"], "Jobs.Submit");
    assert!(entries.iter().all(|entry| entry["from"].as_str().unwrap().starts_with("127.0.0.1:")));
    let tokens = done(&cluster.admin(&["cluster", "token", "list"]));
    let names: Vec<_> = tokens.as_array().unwrap().iter().map(|token| token["name"].as_str().unwrap()).collect();
    assert_eq!(names.len(), 3);
    assert!(["admin", "submitter", "short"].iter().all(|name| names.contains(name)), "{names:?}");
    // Without certificates there is no way off the machine.
    let open = cluster.qanat(&[
        "-o",
        "json",
        "executor",
        "--cluster-id",
        "x",
        "--node",
        "a",
        "--coordinators",
        "127.0.0.1:1",
        "--listen",
        "0.0.0.0:0",
        "--storage",
        "elsewhere",
    ]);
    refused(&open, "E0501");
}

/// It may have everything else: the address, a name that the cluster knows, a folder of its own.
#[test]
fn a_process_with_another_clusters_certificate_stays_outside() {
    let mut cluster = Cluster::init("secure-inside");
    cluster.start_coordinator();
    cluster.start(&["executor", "--security", "secure/executor-a", "--slots", "2", "--storage", "storage"]);
    let other = Cluster::init("secure-outside");
    let mut stranger = Command::new(env!("CARGO_BIN_EXE_qanat"))
        .args(["executor", "--security", "secure/executor-a", "--storage", "storage", "--coordinators"])
        .arg(&cluster.address)
        .current_dir(other.folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stderr = stranger.stderr.take().unwrap();
    let stranger = Process(stranger);
    let (sender, told) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if line.contains("E0608") {
                let _ = sender.send(());
            }
        }
    });
    assert_eq!(told.recv_timeout(PATIENCE), Ok(()), "it is not told why");
    let status = done(&cluster.admin(&["cluster", "status"]));
    assert_eq!(status["executors"].as_array().map(Vec::len), Some(1), "{status}");
    assert!(status["executors"][0]["attached"] == true, "the one that belongs there is not disturbed: {status}");
    drop(stranger);
}
