//! What the leader says in its log about decisions.

use qanat_coordinator_core::command::Command;
use qanat_proto::trace::TraceParent;

use crate::raft::{Decision, Member};

/// Logs what the group has decided on a command, with the trace of the request that made the job.
pub(crate) fn log(member: &Member, command: &Command, decision: &Decision) {
    if let (Command::CreateGroup { group, jobs }, Ok(_)) = (command, decision) {
        let trace = jobs.first().and_then(|job| job.run_with.as_ref()?.trace.as_ref());
        let trace_id = trace.map(TraceParent::trace_id);
        for job in jobs {
            let span = tracing::info_span!("decision", job = job.name, id = %job.job.short(), trace_id);
            span.in_scope(|| tracing::info!(group, "a job was created"));
        }
    }
    let Some(id) = command.job() else { return };
    let is_silent = matches!(command, Command::Retire { .. } | Command::Acknowledge { .. } | Command::Collected { .. });
    if is_silent && decision.is_ok() {
        return;
    }
    // Nothing is written while the state is held.
    let facts = member.state(|state| {
        let job = state.job(id)?;
        let trace = job.run_with.as_ref().and_then(|run_with| run_with.trace.clone());
        Some((job.name.clone(), job.generation.0, trace))
    });
    let Some((job, generation, trace)) = facts else { return };
    let trace_id = trace.as_ref().map(TraceParent::trace_id);
    let span = tracing::info_span!("decision", job, id = %id.short(), generation, trace_id);
    let _inside = span.enter();
    if let Err(refusal) = decision {
        tracing::info!(%refusal, "a command was refused");
        return;
    }
    match command {
        Command::CreateJob { .. } => tracing::info!("a job was created"),
        Command::OpenGeneration { parallelism, .. } => tracing::info!(parallelism, "a generation opens"),
        Command::Claim { epoch, .. } => tracing::info!(epoch = epoch.0, "an epoch is claimed"),
        Command::Committed { epoch, .. } => tracing::info!(epoch = epoch.0, "an epoch is committed"),
        Command::RecordFailure { error, .. } => tracing::warn!(%error, "a generation failed; the job recovers"),
        Command::StopWithSavepoint { .. } => tracing::info!("a job is to stop"),
        Command::Close { .. } => tracing::info!("a job closes"),
        Command::Resume { .. } => tracing::info!("a job is resumed"),
        Command::Rescale { parallelism, .. } => tracing::info!(parallelism, "a job is rescaled"),
        Command::Savepoint { name, .. } => tracing::info!(name, "an epoch is to have a name"),
        Command::DropSavepoint { name, .. } => tracing::info!(name, "a savepoint is dropped"),
        Command::Rollback { to, .. } => tracing::info!(to = to.0, "a job is rolled back"),
        Command::Withdrawn { .. } => tracing::info!("what was rolled back is withdrawn"),
        Command::DropJob { .. } => tracing::info!("a job is dropped"),
        Command::Retire { .. }
        | Command::CreateGroup { .. }
        | Command::Acknowledge { .. }
        | Command::Collected { .. }
        | Command::OwnLog { .. }
        | Command::OwnTopics { .. }
        | Command::CreateToken { .. }
        | Command::RevokeToken { .. }
        | Command::Drain { .. }
        | Command::Register { .. }
        | Command::ChangeTopic { .. }
        | Command::TopicChanged { .. }
        | Command::CutTopic { .. }
        | Command::Note { .. } => {}
    }
}
