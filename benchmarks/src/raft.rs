//! A group of coordinators on one machine: real disks, real connections over loopback.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use qanat_coordinator::raft::{Leadership, Member, MemberConfig, MemberId, RunSummary, plant};
use qanat_coordinator::service::RaftService;
use qanat_coordinator_core::command::{Proposal, RunWith};
use qanat_coordinator_core::{Command, State};
use qanat_proto::ids::{Epoch, Generation, JobId, OperatorId, StartId, SubtaskId, Token};
use qanat_proto::manifest::{PreparedHandle, SinkChannel};
use qanat_proto::receipt::{Receipt, Totals};
use qanat_proto::rpc::dial::TcpDial;
use qanat_proto::settings::JobSettings;
use qanat_proto::{Error, Result, limits};
use qanat_storage::env::{Env, File, OpenMode};
use qanat_storage::log::GroupCommit;
use serde_json::json;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;

use crate::measure::time;

/// Nothing here takes longer, unless it is broken.
const PATIENCE: Duration = Duration::from_secs(120);
const CLUSTER: &str = "benchmark";

/// One coordinator, as the binary starts it, with a runtime of its own.
pub struct Server {
    pub member: Arc<Member>,
    pub address: String,
    pub runtime: Arc<Runtime>,
}

impl Server {
    /// # Errors
    /// What keeps it from starting.
    pub fn start(env: &Env, folder: &Path, id: MemberId) -> Result<Self> {
        Self::start_at(env, folder, id, "127.0.0.1:0")
    }

    /// # Errors
    /// What keeps it from starting.
    pub fn start_at(env: &Env, folder: &Path, id: MemberId, address: &str) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = Arc::new(runtime.map_err(|e| Error::io("start a runtime", &e))?);
        let listener = runtime.block_on(tokio::net::TcpListener::bind(address)).map_err(|e| Error::io("listen", &e))?;
        let address = listener.local_addr().map_err(|e| Error::io("listen", &e))?.to_string();
        let member = Arc::new(Member::start(MemberConfig {
            env: env.clone(),
            runtime: runtime.handle().clone(),
            folder: folder.to_path_buf(),
            commit: GroupCommit::spawn()?,
            id,
            cluster: CLUSTER.into(),
            dial: Arc::new(TcpDial),
        })?);
        let (stream, connection) = limits::RPC_WINDOW_BYTES;
        let server = tonic::transport::Server::builder()
            .initial_stream_window_size(stream)
            .initial_connection_window_size(connection)
            .tcp_nodelay(true)
            .add_service(RaftService::server(member.clone(), CLUSTER.into()));
        runtime.spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Ok(Self { member, address, runtime })
    }
}

/// Three members that agree on who leads.
pub struct Group {
    pub servers: Vec<Server>,
}

impl Group {
    /// A new group with its logs in `folder`.
    ///
    /// # Errors
    /// What keeps it from starting.
    pub fn start(env: &Env, folder: &Path) -> Result<Self> {
        let servers = (1..=3)
            .map(|id| Server::start(env, &folder.join(format!("member-{id}")), id))
            .collect::<Result<Vec<_>>>()?;
        let members: BTreeMap<MemberId, String> =
            servers.iter().map(|server| (server.member.id(), server.address.clone())).collect();
        if let Some(first) = servers.first() {
            first.member.found(members)?;
        }
        Ok(Self { servers })
    }

    /// Waits for the member that leads.
    ///
    /// # Errors
    /// E0503 if nobody does.
    pub fn leader(&self, env: &Env) -> Result<&Server> {
        let begun = env.clock.monotonic();
        while env.clock.monotonic().saturating_sub(begun) < PATIENCE {
            for server in &self.servers {
                let leads = server.runtime.block_on(server.member.leadership());
                if matches!(leads, Leadership::Leading { .. }) {
                    return Ok(server);
                }
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(Error::internal("nobody leads"))
    }
}

/// A job in the state that commands have led it to, and the commands that its driver proposes next.
pub struct Driven {
    token: Token,
    epoch: Epoch,
    step: usize,
}

impl Driven {
    /// The commands that make it.
    pub fn begin(job: u128) -> (Self, [Command; 2]) {
        let token = Token { job: JobId(job), generation: Generation(1) };
        let create = Command::CreateJob {
            job: token.job,
            name: format!("job-{job}"),
            script_digest: "5f0f0a3c1e3a7b6f5f0f0a3c1e3a7b6f".to_owned(),
            manifest_key: manifest_key(token, Epoch(0)),
            checksum: "xxh3:5f0f0a3c1e3a7b6f".to_owned(),
            run_with: Some(Box::new(RunWith {
                parallelism: 2,
                settings: JobSettings::default(),
                together: false,
                trace: None,
                topics: None,
            })),
        };
        let open = Command::OpenGeneration {
            job: token.job,
            expected: Generation(0),
            placement: vec![StartId(0x1234_5678_9abc_def0), StartId(0x0fed_cba9_8765_4321)],
            parallelism: 2,
            settings: JobSettings::default(),
        };
        (Self { token, epoch: Epoch(0), step: 0 }, [create, open])
    }

    /// What its driver proposes next: an epoch is claimed, committed, and lets the one before it go.
    pub fn next_command(&mut self) -> Command {
        let step = self.step % 4;
        self.step += 1;
        let Token { job, .. } = self.token;
        if step == 0 {
            self.epoch = self.epoch.next();
        }
        let (token, epoch) = (self.token, self.epoch);
        let before = vec![Epoch(epoch.0 - 1)];
        match step {
            0 => Command::Claim {
                token,
                epoch,
                manifest_key: manifest_key(token, epoch),
                checksum: "xxh3:5f0f0a3c1e3a7b6f".to_owned(),
                handles: handles(token, epoch),
                is_final: false,
                receipt: Box::new(receipt(token, epoch)),
            },
            1 => Command::Committed {
                token,
                epoch,
                manifest_key: manifest_key(token, epoch),
                handle_names: handles(token, epoch).into_iter().map(|handle| handle.name).collect(),
            },
            2 => Command::Retire { job, epochs: before },
            _ => Command::Collected { job, epochs: before },
        }
    }
}

fn manifest_key(token: Token, epoch: Epoch) -> String {
    format!("jobs/{}/manifests/{:010}-{}-5f0f0a3c.json", token.job, epoch.0, token.generation)
}

fn handles(token: Token, epoch: Epoch) -> Vec<PreparedHandle> {
    let handle = |index| PreparedHandle {
        subtask: SubtaskId { operator: OperatorId(0x9e37_79b9_7f4a_7c15), index },
        channel: SinkChannel::Table,
        name: format!("{token}/{:010}/part-{index}.csv", epoch.0),
        sum: receipt_sum(),
        detail: json!({ "files": [{ "name": format!("part-{index}-{:010}.csv", epoch.0), "bytes": 48_211 }] }),
    };
    vec![handle(0), handle(1)]
}

fn receipt_sum() -> qanat_proto::receipt::RowSum {
    qanat_proto::receipt::RowSum { rows: 8_192, hash: qanat_proto::receipt::RowHash(u128::MAX / 3) }
}

/// As a job with a source, an aggregation in two phases and a sink leaves it.
fn receipt(token: Token, epoch: Epoch) -> Receipt {
    let operator = |id: u64, name: &str, role: &str| {
        json!({ "operator": OperatorId(id), "name": name, "role": role, "rows_in": 16_384, "rows_out": 16_384,
            "filtered": 0, "late": 0, "dead_lettered": 0, "accumulated": 0, "expanded": 0 })
    };
    let edge = |from: u64, to: u64| {
        json!({ "from": OperatorId(from), "to": OperatorId(to), "port": 0, "sent": receipt_sum(),
            "received": receipt_sum() })
    };
    let split = |index: u64| {
        json!({ "id": format!("part-{index}.csv"), "from": { "byte": epoch.0 * 48_211 },
            "to": { "byte": epoch.0 * 48_211 + 48_211 }, "rows": 8_192 })
    };
    let value = json!({
        "job": token.job, "generation": token.generation, "epoch": epoch,
        "sources": [{ "operator": OperatorId(1), "table": "orders", "splits": [split(0), split(1)] }],
        "operators": [operator(1, "orders", "source"), operator(2, "partial aggregate", "windowed"),
            operator(3, "aggregate", "windowed"), operator(4, "totals", "sink")],
        "edges": [edge(1, 2), edge(2, 3), edge(3, 4)],
        "sinks": [{ "operator": OperatorId(4), "table": "totals",
            "objects": [{ "name": format!("part-0-{:010}.csv", epoch.0), "rows": 8_192,
                "hash": qanat_proto::receipt::RowHash(u128::MAX / 3) }] }],
    });
    serde_json::from_value(value).unwrap_or_default()
}

/// Bytes of a command as it stands in the log.
pub fn bytes_of(command: &Command) -> usize {
    let proposal = Proposal { at_ms: 1_700_000_000_000, command: command.clone(), caller: None };
    serde_json::to_vec(&proposal).map_or(0, |text| text.len())
}

/// A file whose space is there and holds zeros: the best that a disk is asked for.
pub struct Bare {
    file: Arc<dyn File>,
    room: u64,
    at: u64,
}

impl Bare {
    /// # Errors
    /// What the disk says.
    pub fn create(env: &Env, path: PathBuf) -> Result<Self> {
        let failed = |e: std::io::Error| Error::io("write a file", &e);
        let file = env.disk.open(&path, OpenMode::CreateNew).map_err(failed)?;
        let room = 64 << 20;
        file.write_all_at(&vec![0; room], 0).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        Ok(Self { file, room: room as u64, at: 0 })
    }

    /// Writes so many bytes behind those before and makes them durable; how long that took.
    ///
    /// # Errors
    /// What the disk says.
    pub fn append(&mut self, env: &Env, bytes: usize) -> Result<Duration> {
        let text = vec![0x5a_u8; bytes];
        if self.at + bytes as u64 > self.room {
            self.at = 0;
        }
        let (took, result) =
            time(env.clock.as_ref(), || self.file.write_all_at(&text, self.at).and_then(|()| self.file.sync_data()));
        result.map_err(|e| Error::io("write a file", &e))?;
        self.at += bytes as u64;
        Ok(took)
    }
}

/// The state of a group with so many jobs, each with a claimed epoch and one that is retired.
///
/// # Errors
/// E0503 if the commands that make one are refused.
pub fn state_of(jobs: u32) -> Result<(State, Vec<RunSummary>)> {
    let refused = |refusal| Error::internal(format!("a command was refused: {refusal}"));
    let (mut whole, mut runs) = (State::default(), Vec::new());
    for job in 0..jobs {
        // Each by itself, through the commands that its driver proposes.
        let mut state = State::default();
        let (mut driven, begin) = Driven::begin(u128::from(job) + 1);
        let mut totals = Totals::default();
        for command in begin {
            state.apply(&command).map_err(refused)?;
        }
        for _ in 0..7 {
            let command = driven.next_command();
            if let Command::Claim { receipt, .. } = &command {
                totals.add(receipt);
            }
            state.apply(&command).map_err(refused)?;
        }
        whole.applied += state.applied;
        for (id, mut job) in state.jobs {
            job.number = whole.applied;
            whole.jobs.insert(id, job);
            runs.push(RunSummary {
                job: id,
                created_ms: 1_700_000_000_000,
                changed_ms: 1_700_000_000_000,
                totals: totals.clone(),
                totals_at: BTreeMap::new(),
            });
        }
    }
    Ok((whole, runs))
}

/// What [`rejoin`] found.
pub struct Rejoined {
    /// JSON of the state, as it travels and as it is kept.
    pub bytes: usize,
    /// From the call that adds the empty member until it holds all and votes.
    pub joined: Duration,
    /// From its first start to the group's first leader: a snapshot is read.
    pub started: Duration,
}

/// A member whose disk was wiped joins a group that knows `jobs` jobs.
///
/// # Errors
/// What goes wrong.
pub fn rejoin(env: &Env, folder: &Path, jobs: u32) -> Result<Rejoined> {
    let (state, runs) = state_of(jobs)?;
    let bytes = serde_json::to_vec(&state).map_or(0, |text| text.len())
        + serde_json::to_vec(&runs).map_or(0, |text| text.len());
    // Their addresses are part of the log: two ports that are free now.
    let ports = [free_port()?, free_port()?];
    let members: BTreeMap<MemberId, String> = (1..).zip(ports.iter().cloned()).collect();
    for id in members.keys() {
        plant(env, &folder.join(format!("full-{id}")), &members, state.clone(), runs.clone())?;
    }
    let (started, group) = time(env.clock.as_ref(), || {
        let start = |(id, address): (&MemberId, &String)| {
            Server::start_at(env, &folder.join(format!("full-{id}")), *id, address)
        };
        let group = Group { servers: members.iter().map(start).collect::<Result<Vec<_>>>()? };
        group.leader(env)?;
        Ok::<_, Error>(group)
    });
    let group = group?;
    let wiped = Server::start(env, &folder.join("wiped"), 3)?;
    let (joined, added) = time(env.clock.as_ref(), || {
        let leader = group.leader(env)?;
        leader.runtime.block_on(leader.member.add(3, wiped.address.clone()))?;
        let begun = env.clock.monotonic();
        while wiped.member.state(|state| state.jobs.len()) < jobs as usize {
            if env.clock.monotonic().saturating_sub(begun) > PATIENCE {
                return Err(Error::internal("the new member does not catch up"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    });
    added?;
    let same = wiped.member.state(State::digest) == group.leader(env)?.member.state(State::digest);
    if !same {
        return Err(Error::internal("the new member knows something else"));
    }
    Ok(Rejoined { bytes, joined, started })
}

fn free_port() -> Result<String> {
    let failed = |e: std::io::Error| Error::io("find a free port", &e);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(failed)?;
    Ok(listener.local_addr().map_err(failed)?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_driver_proposes_is_taken() {
        let (state, runs) = state_of(3).expect("none is refused");
        assert_eq!((state.jobs.len(), runs.len()), (3, 3));
        assert!(state.jobs.values().all(|job| job.claims.len() == 1 && job.retired.len() == 1 && job.has_output));
        assert_eq!(runs[0].totals.sinks["totals"].rows, 2 * 8_192);
    }
}
