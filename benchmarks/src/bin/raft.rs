//! `raft [FOLDER [CASE]]`: a replicated command of a group of three against the disk's own `fdatasync`, one at a time
//! and from 64 clients; and how long a member with an empty disk takes to hold the metadata of 100,000 jobs. Logs go
//! into FOLDER (`target`); CASE is a part of the names of those to run.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use qanat_benchmarks::measure::{Folder, arguments, print, quantile};
use qanat_benchmarks::raft::{Bare, Driven, Group, Server, bytes_of, rejoin};
use qanat_coordinator_core::Command;
use qanat_proto::{Error, Result};
use qanat_storage::env::Env;
use serde_json::{Map, Value, json};

/// Commands that are measured one at a time, after some that are not.
const IDLE: usize = 2_000;
const WARM: usize = 200;
const CLIENTS: u128 = 64;
/// How long they propose, after a while that is not counted.
const LOAD: Duration = Duration::from_secs(10);
const LOAD_WARM: Duration = Duration::from_secs(2);
const JOBS: u32 = 100_000;
/// What an idle command may take: fdatasyncs, and time beside them.
const SYNCS: u32 = 3;
const BESIDE: Duration = Duration::from_millis(2);

fn main() -> ExitCode {
    print(measure())
}

fn measure() -> Result<Value> {
    let env = Env::real();
    let (parent, wanted) = arguments();
    let folder = Folder::new(&env, &parent)?;
    let mut report = Map::new();
    if "one at a time".contains(&wanted) || "64 clients".contains(&wanted) {
        let group = Group::start(&env, folder.path())?;
        let leader = group.leader(&env)?;
        if "one at a time".contains(&wanted) {
            report.insert("one at a time".to_owned(), idle(&env, leader, &folder)?);
        }
        if "64 clients".contains(&wanted) {
            report.insert("64 clients".to_owned(), load(&env, leader)?);
        }
    }
    if "snapshot".contains(&wanted) {
        let found = rejoin(&env, folder.path(), JOBS)?;
        let line = json!({
            "jobs": JOBS,
            "mb": found.bytes as f64 / 1e6,
            "s_until_the_empty_member_holds_all": found.joined.as_secs_f64(),
            "s_until_the_full_members_lead": found.started.as_secs_f64(),
        });
        report.insert("snapshot".to_owned(), line);
    }
    Ok(Value::Object(report))
}

fn propose(leader: &Server, command: &Command) -> Result<()> {
    leader.member.propose(command)?.map(drop).map_err(|refusal| Error::internal(format!("refused: {refusal}")))
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// A command and a bare sync of as many bytes, in turn.
fn idle(env: &Env, leader: &Server, folder: &Folder) -> Result<Value> {
    let mut bare = Bare::create(env, folder.path().join("bare"))?;
    let (mut driven, begin) = Driven::begin(u128::MAX);
    begin.iter().try_for_each(|command| propose(leader, command))?;
    let (mut commands, mut syncs, mut bytes) = (Vec::new(), Vec::new(), 0);
    for round in 0..WARM + IDLE {
        let command = driven.next_command();
        let size = bytes_of(&command);
        let begun = env.clock.monotonic();
        propose(leader, &command)?;
        let took = env.clock.monotonic().saturating_sub(begun);
        let sync = bare.append(env, size)?;
        if round >= WARM {
            commands.push(took);
            syncs.push(sync);
            bytes += size;
        }
    }
    let [command, command_99] = [0.5, 0.99].map(|q| quantile(&mut commands, q));
    let [sync, sync_99] = [0.5, 0.99].map(|q| quantile(&mut syncs, q));
    let bound = sync * SYNCS + BESIDE;
    Ok(json!({
        "bytes_of_a_command": bytes / IDLE,
        "command_ms": { "p50": ms(command), "p99": ms(command_99) },
        "fdatasync_ms": { "p50": ms(sync), "p99": ms(sync_99) },
        "p50_at_most_ms": ms(bound),
        "holds": command <= bound,
    }))
}

/// Clients that each wait for their command before they propose the next.
fn load(env: &Env, leader: &Server) -> Result<Value> {
    let mut clients = Vec::new();
    for job in 1..=CLIENTS {
        let (driven, begin) = Driven::begin(job);
        begin.iter().try_for_each(|command| propose(leader, command))?;
        clients.push(driven);
    }
    let clock = env.clock.clone();
    let begun = clock.monotonic() + LOAD_WARM;
    let end = begun + LOAD;
    let tasks = clients.into_iter().map(|mut driven| {
        let (member, clock) = (leader.member.clone(), Arc::clone(&clock));
        leader.runtime.spawn(async move {
            let mut times = Vec::new();
            loop {
                let command = driven.next_command();
                let asked = clock.monotonic();
                let decision = member.propose_async(command).await?;
                decision.map_err(|refusal| Error::internal(format!("refused: {refusal}")))?;
                let now = clock.monotonic();
                if now >= end {
                    return Ok::<_, Error>(times);
                }
                if asked >= begun {
                    times.push(now.saturating_sub(asked));
                }
            }
        })
    });
    let tasks: Vec<_> = tasks.collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(leader.runtime.block_on(task).map_err(|e| Error::internal(format!("a client: {e}")))??);
    }
    let count = times.len();
    let [p50, p99] = [0.5, 0.99].map(|q| quantile(&mut times, q));
    Ok(json!({
        "commands_per_s": count as f64 / LOAD.as_secs_f64(),
        "command_ms": { "p50": ms(p50), "p99": ms(p99) },
    }))
}
