//! Bad neighbours of a cluster: processes of another one, on the same folders or at the same addresses, and requests
//! that come twice or ask for too much. Each gets one clear error, and the job that runs is not disturbed.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::folder::Folder;
use crate::process::{Invocation, Outcome};
use crate::sink;

/// Whatever is waited for comes in this time.
const PATIENCE: Duration = Duration::from_secs(90);

/// A cluster of one coordinator and one executor, which ends with the test.
pub(crate) struct Dev {
    child: Child,
    pub(crate) told: Value,
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}

impl Dev {
    pub(crate) fn start(folder: &Folder) -> Self {
        Self::start_with(folder, &[])
    }

    /// With variables of the environment for all processes.
    fn start_with(folder: &Folder, variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_qanat"));
        command.args(["-o", "json", "dev", "--data", "dev", "--coordinators", "1", "--executors", "1", "--slots", "4"]);
        command.current_dir(folder.path()).env_remove("QANAT_DATA").env_remove("QANAT_CLUSTER");
        command.envs(variables.iter().copied());
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { told: serde_json::from_str(&line).unwrap(), child }
    }

    fn api(&self) -> &str {
        self.told["api"].as_str().unwrap()
    }

    fn command(&self, folder: &Folder, arguments: &[&str]) -> Outcome {
        let arguments = [&["-o", "json"], arguments, &["--cluster", self.api()]].concat();
        Invocation::new(folder.path(), arguments).run().unwrap()
    }

    #[track_caller]
    pub(crate) fn ask(&self, folder: &Folder, arguments: &[&str]) -> Value {
        let outcome = self.command(folder, arguments);
        assert_eq!(outcome.code, Some(0), "{}", outcome.describe());
        outcome.json().unwrap()
    }

    /// Starts `executor-2` beside the first one.
    pub(crate) fn second_executor(&self, folder: &Folder, slots: u32) -> Process {
        let processes = self.told["processes"].as_array().unwrap();
        let first = processes.iter().find(|process| process["role"] == "executor").unwrap();
        let words = first["command"].as_array().unwrap().iter().skip(1).map(|word| word.as_str().unwrap());
        let mut arguments: Vec<String> = words.map(|word| word.replace("executor-1", "executor-2")).collect();
        let at = arguments.iter().position(|word| word == "--slots").unwrap();
        arguments[at + 1] = slots.to_string();
        Process::start(folder, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Waits until the job has ended as it should.
    #[track_caller]
    pub(crate) fn finishes(&self, folder: &Folder, job: &str) -> Value {
        let begun = Instant::now();
        loop {
            let shown = self.ask(folder, &["job", "describe", job]);
            match shown["status"].as_str().unwrap() {
                "FINISHED" => return shown,
                "FAILED" | "STOPPED" => panic!("{shown}"),
                _ => assert!(begun.elapsed() < PATIENCE, "{shown}"),
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Copies numbers from 0 on into `out`.
fn numbers(out: &Path, rows: u64, per_second: u64) -> String {
    format!(
        "SET 'execution.checkpointing.interval' = '100 ms';\n\
         CREATE TABLE g (id BIGINT) WITH ('connector' = 'datagen', 'fields.id.kind' = 'sequence', \
         'fields.id.start' = '0', 'fields.id.end' = '{}', 'rows-per-second' = '{per_second}');\n\
         CREATE TABLE o (id BIGINT) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'csv');\n\
         INSERT INTO o SELECT id FROM g;\n",
        rows - 1,
        out.display()
    )
}

#[track_caller]
fn is_exact(out: &Path, rows: u64) {
    let found = sink::committed(out).unwrap().into_iter().filter_map(|mut row| row.remove(0));
    let mut ids: Vec<u64> = found.map(|id| id.parse().unwrap()).collect();
    ids.sort_unstable();
    assert!(ids.iter().copied().eq(0..rows), "{} ids, not 0 to {}", ids.len(), rows - 1);
}

#[track_caller]
fn refused(outcome: &Outcome, code: &str) -> Value {
    let error = outcome.error().unwrap_or_else(|| panic!("no error: {}", outcome.describe()));
    assert_eq!(error["code"], code, "{}", outcome.describe());
    assert!(error["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "{error}");
    assert!(!outcome.stderr.contains("panicked") && outcome.code != Some(0), "{}", outcome.describe());
    error
}

#[test]
fn others_on_the_folders_and_addresses_of_a_cluster_are_refused_and_its_job_goes_on() {
    const ROWS: u64 = 30_000;
    let folder = Folder::new("neighbours");
    let out = folder.path().join("out");
    let dev = Dev::start(&folder);
    folder.write("q.sql", numbers(&out, ROWS, 3_000));
    dev.ask(&folder, &["submit", "q.sql", "--parallelism", "2"]);
    let begun = Instant::now();
    while sink::visible(&out).is_empty() {
        assert!(begun.elapsed() < PATIENCE, "no row");
        std::thread::sleep(Duration::from_millis(10));
    }
    let run = |arguments: &[&str]| {
        let arguments = [&["-o", "json"], arguments].concat();
        Invocation::new(folder.path(), arguments).run().unwrap()
    };
    let coordinator = |cluster: &str, data: &str, storage: &str| {
        run(&[
            "coordinator",
            "--cluster-id",
            cluster,
            "--id",
            "1",
            "--listen",
            "127.0.0.1:0",
            "--members",
            "1=127.0.0.1:1",
            "--found",
            "--data",
            data,
            "--storage",
            storage,
        ])
    };
    let executor = |cluster: &str, storage: &str| {
        let coordinators = ["--coordinators", dev.api()];
        let fixed = ["executor", "--cluster-id", cluster, "--node", "stranger", "--storage", storage];
        run(&[&fixed[..], &coordinators].concat())
    };
    let own = dev.told["processes"][0]["command"].as_array().unwrap();
    let own = own.iter().position(|word| word == "--cluster-id").map(|at| own[at + 1].as_str().unwrap()).unwrap();
    // A second cluster, and a second process of this one, on folders that have an owner.
    refused(&run(&["dev", "--data", "dev"]), "E0303");
    refused(&coordinator("another", "dev/coordinator-1", "elsewhere"), "E0303");
    refused(&coordinator(own, "dev/coordinator-1", "dev/storage"), "E0303");
    // Folders of their own, and the storage of this cluster.
    refused(&coordinator("another", "mine", "dev/storage"), "E0302");
    refused(&executor("another", "dev/storage"), "E0302");
    // Everything of their own, but the address.
    let told = refused(&executor("another", "their-storage"), "E0501");
    assert!(told["message"].as_str().unwrap().contains("another cluster"), "{told}");
    assert_eq!(told["place"]["named"].as_str().or_else(|| told["place"].as_str()), Some(dev.api()), "{told}");
    // Nobody but its own executor was ever let in, and the job never had to begin again.
    let status = dev.ask(&folder, &["cluster", "status"]);
    assert_eq!(status["executors"].as_array().map(Vec::len), Some(1), "{status}");
    let shown = dev.finishes(&folder, "q");
    assert_eq!(shown["generation"], 1, "{shown}");
    is_exact(&out, ROWS);
}

/// The executor that a cluster shows under a name: its start, if it is attached.
fn attached(dev: &Dev, folder: &Folder, node: &str) -> Option<String> {
    let status = dev.ask(folder, &["cluster", "status"]);
    let executors = status["executors"].as_array().unwrap();
    assert!(executors.len() <= 1, "{status}");
    let found = executors.iter().find(|executor| executor["node"] == node && executor["attached"] == true);
    found.map(|executor| executor["start"].as_str().unwrap().to_owned())
}

/// A process that ends with the test.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn start(folder: &Folder, arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_qanat"));
        command.args(arguments).current_dir(folder.path()).stdin(Stdio::null()).stdout(Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_second_executor_of_a_name_is_refused_and_a_restarted_one_gets_in() {
    const ROWS: u64 = 40_000;
    let folder = Folder::new("neighbours-names");
    let out = folder.path().join("out");
    let dev = Dev::start(&folder);
    folder.write("q.sql", numbers(&out, ROWS, 2_000));
    dev.ask(&folder, &["submit", "q.sql"]);
    let own = dev.told["processes"].as_array().unwrap().iter().find(|process| process["role"] == "executor").unwrap();
    let command: Vec<&str> = own["command"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    let with_data = |data: &'static str| -> Vec<&str> {
        let at = command.iter().position(|word| *word == "--data").unwrap();
        [&command[1..=at], &[data], &command[at + 2..]].concat()
    };
    let first = attached(&dev, &folder, "executor-1").unwrap();
    // One of the same name that has another folder, one without any, and one on the same folder.
    let run = |arguments: &[&str]| {
        let arguments = [&["-o", "json"], arguments].concat();
        Invocation::new(folder.path(), arguments).run().unwrap()
    };
    let told = refused(&run(&with_data("elsewhere")), "E0611");
    assert_eq!(told["place"]["named"].as_str().or_else(|| told["place"].as_str()), Some("executor-1"), "{told}");
    let at = command.iter().position(|word| *word == "--data").unwrap();
    refused(&run(&[&command[1..at], &command[at + 2..]].concat()), "E0611");
    refused(&run(&command[1..]), "E0303");
    assert_eq!(attached(&dev, &folder, "executor-1"), Some(first.clone()), "it was not disturbed");
    assert_eq!(dev.ask(&folder, &["job", "describe", "q"])["generation"], 1);
    // It is killed, and started again: first on its folder, then on an empty one.
    let kill = |pid: &str| assert!(Command::new("kill").args(["-KILL", pid]).status().unwrap().success());
    let gets_in = |arguments: &[&str], not: &str| {
        let begun = Instant::now();
        let mut process = Process::start(&folder, arguments);
        loop {
            match attached(&dev, &folder, "executor-1") {
                Some(start) if start != not => return (process, start),
                shown => assert!(begun.elapsed() < PATIENCE, "{shown:?}"),
            }
            if process.0.try_wait().unwrap().is_some() {
                // The lock of the one before goes with the last of it.
                process = Process::start(&folder, arguments);
            }
        }
    };
    kill(&own["pid"].to_string());
    let (again, second) = gets_in(&command[1..], &first);
    drop(again);
    let (_wiped, _) = gets_in(&with_data("wiped"), &second);
    dev.finishes(&folder, "q");
    is_exact(&out, ROWS);
}

#[test]
fn the_last_executor_is_not_drained_and_goes_on() {
    const ROWS: u64 = 40_000;
    let folder = Folder::new("neighbours-drain");
    let out = folder.path().join("out");
    let dev = Dev::start(&folder);
    folder.write("q.sql", numbers(&out, ROWS, 4_000));
    dev.ask(&folder, &["cluster", "drain", "executor-1"]);
    dev.ask(&folder, &["cluster", "drain", "executor-1", "--undo"]);
    dev.ask(&folder, &["submit", "q.sql", "--parallelism", "3"]);
    let shown = |node: &str| {
        let status = dev.ask(&folder, &["cluster", "status"]);
        let executors = status["executors"].as_array().unwrap();
        executors.iter().find(|executor| executor["node"] == node).cloned().unwrap_or_default()
    };
    let begun = Instant::now();
    let until = |is_so: &dyn Fn() -> bool| {
        while !is_so() {
            assert!(begun.elapsed() < PATIENCE);
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    until(&|| shown("executor-1")["jobs"][0] == "q");
    let refused_drain = |node: &str| {
        let told = refused(&dev.command(&folder, &["cluster", "drain", node]), "E0612");
        assert!(told["message"].as_str().unwrap().contains("`q`"), "{told}");
        assert_eq!(shown(node)["draining"], false);
    };
    refused_drain("executor-1");
    // With a smaller one beside it the job moves, and is told to be squeezed there.
    let _other = dev.second_executor(&folder, 1);
    until(&|| shown("executor-2")["attached"] == true);
    let drained = dev.ask(&folder, &["cluster", "drain", "executor-1"]);
    assert_eq!(drained["squeezed"][0], "q", "{drained}");
    assert!(shown("executor-1")["jobs"].as_array().unwrap().is_empty());
    assert_eq!(shown("executor-2")["jobs"][0], "q");
    refused_drain("executor-2");
    dev.finishes(&folder, "q");
    is_exact(&out, ROWS);
}

#[test]
fn a_submit_that_comes_twice_makes_one_job() {
    const ROWS: u64 = 2_000;
    let folder = Folder::new("neighbours-twice");
    let out = folder.path().join("out");
    let dev = Dev::start(&folder);
    folder.write("q.sql", numbers(&out, ROWS, 2_000));
    let id = "0123456789abcdef0123456789abcdef";
    let submit = || dev.ask(&folder, &["submit", "q.sql", "--request-id", id])["jobs"][0]["job"].clone();
    let (first, second) = std::thread::scope(|scope| {
        let other = scope.spawn(submit);
        (submit(), other.join().unwrap())
    });
    assert_eq!(first, second, "at once");
    dev.finishes(&folder, "q");
    assert_eq!(submit(), first, "and when it has ended");
    let listed = dev.ask(&folder, &["jobs", "list", "--all"]);
    assert_eq!(listed.as_array().or_else(|| listed["jobs"].as_array()).map(Vec::len), Some(1), "{listed}");
    is_exact(&out, ROWS);
    // The id stands for this submit and for no other.
    folder.write("other.sql", numbers(&folder.path().join("other"), ROWS, 2_000).replace("SELECT id", "SELECT id + 1"));
    refused(&dev.command(&folder, &["submit", "other.sql", "--request-id", id]), "E0501");
    assert!(sink::visible(&folder.path().join("other")).is_empty());
}

/// A script of two graphs, and each one's output.
fn two_graphs(folder: &Folder, rows: u64) -> (String, [std::path::PathBuf; 2]) {
    let outs = ["out-1", "out-2"].map(|name| folder.path().join(name));
    let second = numbers(&outs[1], rows, rows).replace("TABLE g ", "TABLE h ").replace("TABLE o ", "TABLE p ");
    let second = second.replace("INTO o SELECT id FROM g", "INTO p SELECT id FROM h");
    // Settings stand once.
    let second = second.split_once('\n').unwrap().1;
    (format!("{}{second}", numbers(&outs[0], rows, rows)), outs)
}

/// The names and groups of all jobs, in the order they were made.
fn listed(dev: &Dev, folder: &Folder) -> Vec<[String; 2]> {
    let listed = dev.ask(folder, &["jobs", "list", "--all"]);
    let jobs = listed.as_array().or_else(|| listed["jobs"].as_array()).unwrap();
    jobs.iter().map(|job| ["name", "group"].map(|field| job[field].as_str().unwrap().to_owned())).collect()
}

#[test]
fn a_script_of_several_jobs_is_made_as_a_whole() {
    const ROWS: u64 = 1_000;
    let folder = Folder::new("neighbours-group");
    let dev = Dev::start(&folder);
    let (script, outs) = two_graphs(&folder, ROWS);
    folder.write("pair.sql", script);
    // The second one's name is taken.
    folder.write("other.sql", numbers(&folder.path().join("other"), 1_000_000, 1_000));
    dev.ask(&folder, &["submit", "other.sql", "--name", "pair-2"]);
    refused(&dev.command(&folder, &["submit", "pair.sql"]), "E0302");
    let pair = |name: &str, group: &str| [name.to_owned(), group.to_owned()];
    assert_eq!(listed(&dev, &folder), [pair("pair-2", "pair-2")], "the first one was not made either");
    dev.ask(&folder, &["job", "stop", "pair-2", "--no-savepoint"]);
    let ended = dev.command(&folder, &["job", "watch", "pair-2"]);
    assert_eq!(ended.code, Some(0), "{}", ended.describe());
    let id = "00112233445566778899aabbccddeeff";
    let submit = || dev.ask(&folder, &["submit", "pair.sql", "--request-id", id])["jobs"].clone();
    let (first, again) = (submit(), submit());
    let ids = |jobs: &Value| [jobs[0]["job"].clone(), jobs[1]["job"].clone()];
    assert_eq!(ids(&first), ids(&again));
    let all = [pair("pair-2", "pair-2"), pair("pair-1", "pair"), pair("pair-2", "pair")];
    assert_eq!(listed(&dev, &folder), all);
    for (name, out) in ["pair-1", "pair-2"].iter().zip(&outs) {
        assert_eq!(dev.finishes(&folder, name)["group"], "pair");
        is_exact(out, ROWS);
    }
}

#[test]
fn a_coordinator_that_dies_in_a_submit_leaves_no_half_of_a_script() {
    const ROWS: u64 = 1_000;
    let folder = Folder::new("neighbours-half");
    let dev = Dev::start_with(&folder, &[("QANAT_FAILPOINT", "submit.written:1")]);
    let (script, outs) = two_graphs(&folder, ROWS);
    folder.write("pair.sql", script);
    let id = "00112233445566778899aabbccddeeff";
    let submit = ["submit", "pair.sql", "--request-id", id, "--cluster", dev.api()];
    let client = Process::start(&folder, &submit);
    let begun = Instant::now();
    while std::net::TcpStream::connect(dev.api()).is_ok() {
        assert!(begun.elapsed() < PATIENCE, "the coordinator does not die");
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(client);
    let own =
        dev.told["processes"].as_array().unwrap().iter().find(|process| process["role"] == "coordinator").unwrap();
    let own: Vec<&str> = own["command"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    let _coordinator = Process::start(&folder, &own[1..]);
    assert!(listed(&dev, &folder).is_empty(), "epoch 0 of the first one is durable, and nobody knows it");
    dev.ask(&folder, &["submit", "pair.sql", "--request-id", id]);
    for (name, out) in ["pair-1", "pair-2"].iter().zip(&outs) {
        dev.finishes(&folder, name);
        is_exact(out, ROWS);
    }
}

#[test]
fn what_asks_for_too_much_is_refused_and_other_jobs_do_not_notice() {
    const ROWS: u64 = 60_000;
    let folder = Folder::new("neighbours-limits");
    let out = folder.path().join("out");
    let dev = Dev::start(&folder);
    folder.write("good.sql", numbers(&out, ROWS, 2_000));
    dev.ask(&folder, &["submit", "good.sql"]);
    // Plans over their limits, and a text that is larger than any message.
    let body = |select: &str| numbers(&folder.path().join("bad"), 10, 10).replace("SELECT id", select);
    folder.write("chain.sql", body(&format!("SELECT id{}", " + 1".repeat(2_000))));
    folder.write("deep.sql", body(&format!("SELECT {}id{}", "(".repeat(500), ")".repeat(500))));
    folder.write("text.sql", body(&format!("SELECT '{}' || CAST(id AS STRING)", "x".repeat(8 << 20))));
    for script in ["chain.sql", "deep.sql", "text.sql"] {
        let outcome = dev.command(&folder, &["submit", script]);
        assert_eq!(outcome.error().map(|error| error["code"].clone()), Some("E0107".into()), "{}", outcome.describe());
    }
    // State over its budget: it fails alone, and says why.
    folder.write(
        "hungry.sql",
        format!(
            "SET 'job.memory' = '16 mb';\n\
             CREATE TABLE g (id BIGINT, ts AS TO_TIMESTAMP_LTZ(id, 3), WATERMARK FOR ts AS ts) WITH \
             ('connector' = 'datagen', 'fields.id.kind' = 'sequence', 'fields.id.start' = '0', \
             'fields.id.end' = '1000000000');\n\
             CREATE TABLE o (id BIGINT, n BIGINT) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'csv');\n\
             INSERT INTO o SELECT id, COUNT(*) FROM TABLE(TUMBLE(TABLE g, DESCRIPTOR(ts), INTERVAL '30' DAY)) \
             GROUP BY window_start, window_end, id;\n",
            folder.path().join("hungry").display()
        ),
    );
    let outcome = dev.command(&folder, &["submit", "hungry.sql", "--wait"]);
    refused(&outcome, "E0401");
    let shown = dev.finishes(&folder, "good");
    assert_eq!(shown["generation"], 1, "{shown}");
    is_exact(&out, ROWS);
}
