//! Commands: every durable fact, as it stands in the command log.

use std::collections::BTreeSet;
use std::fmt;

use qanat_proto::control::WithdrawnObjects;
use qanat_proto::ids::{Epoch, Generation, JobId, StartId, Token, TokenId};
use qanat_proto::manifest::PreparedHandle;
use qanat_proto::owner::TopicChange;
use qanat_proto::receipt::Receipt;
use qanat_proto::settings::JobSettings;
use qanat_proto::trace::TraceParent;
use qanat_proto::{Code, Error};
use serde::{Deserialize, Serialize};

use crate::access::AccessTokenFacts;
use crate::audit::Caller;
use crate::membership::Incarnation;
use crate::retention::{TopicCut, TopicStart};

/// A command with the leader's time of proposing it: what stands in the Raft log. Time is told and never
/// decides anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// Milliseconds since 1970 UTC.
    pub at_ms: i64,
    pub command: Command,
    /// Who asked for it; None for what the coordinators decide by themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<Box<Caller>>,
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.command.job() {
            Some(job) => write!(f, "a command for job {job}"),
            None => f.write_str("a command for the cluster"),
        }
    }
}

/// One entry of the command log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// A job with its epoch 0: start offsets, resolved once (P9).
    CreateJob {
        job: JobId,
        name: String,
        script_digest: String,
        manifest_key: String,
        checksum: String,
        /// What its generations run with, until told otherwise. None: whoever runs it says so each time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        run_with: Option<Box<RunWith>>,
    },
    /// All jobs of one script, or none of them. They are numbered in this order.
    CreateGroup { group: String, jobs: Vec<GroupJob> },
    /// A new incarnation on these executors (P1, P5). `expected` is the generation it follows, so that
    /// a repeated proposal opens one generation only. Parallelism and settings hold for the generation;
    /// the number of key groups stays what the state was made with.
    OpenGeneration {
        job: JobId,
        expected: Generation,
        placement: Vec<StartId>,
        parallelism: u32,
        settings: JobSettings,
    },
    /// The decision on an epoch (P4).
    Claim {
        token: Token,
        epoch: Epoch,
        manifest_key: String,
        checksum: String,
        handles: Vec<PreparedHandle>,
        is_final: bool,
        /// Kept here for as long as the log is, so that `audit` can prove every epoch.
        receipt: Box<Receipt>,
    },
    /// Every handle of the claimed epoch is visible (P2).
    Committed { token: Token, epoch: Epoch, manifest_key: String, handle_names: Vec<String> },
    /// A generation ended with an error.
    RecordFailure {
        token: Token,
        error: Error,
        /// What was read cannot be read again: the job ends with this failure.
        #[serde(default)]
        is_last: bool,
    },
    /// Stop with a last checkpoint: recorded before its trigger (P7).
    StopWithSavepoint { job: JobId },
    /// End the job without a further claim.
    Close { job: JobId, outcome: Outcome },
    /// A stopped or failed job runs again, unless another one that is active has its name.
    Resume { job: JobId },
    /// These manifests will never be restored again (P14).
    Retire { job: JobId, epochs: Vec<Epoch> },
    /// Whoever ran a finished job has seen its receipt: running its script again starts anew. Until then
    /// it shows the receipt once more, so that a process killed at its very end repeats nothing.
    Acknowledge { job: JobId },
    /// What only these retired manifests named is deleted, and so are they.
    Collected { job: JobId, epochs: Vec<Epoch> },
    /// The next generations of a job of the cluster have so many subtasks per operator.
    Rescale { job: JobId, parallelism: u32 },
    /// The next claimed epoch gets a name and is kept until that is dropped; of a job that ends or has ended, the last
    /// one. `request` tells a repeat from another savepoint.
    Savepoint { job: JobId, name: String, request: String },
    /// A name goes; the epoch is kept no longer than others.
    DropSavepoint { job: JobId, name: String },
    /// Everything after epoch `to` is withdrawn for ever, and the job goes on from there (P10). `expected` is the
    /// last claim as of which `objects` were listed; `starts` is where epoch `to` begins to read topics, whose rows may
    /// have gone if the job has finished (P15); `request` tells a repeat.
    Rollback {
        job: JobId,
        to: Epoch,
        expected: Epoch,
        objects: Vec<WithdrawnObjects>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        starts: Vec<TopicStart>,
        request: String,
    },
    /// What was to be withdrawn is (P10).
    Withdrawn { token: Token },
    /// An ended job goes, with its checkpoints.
    DropJob { job: JobId },
    /// This executor appends from now on to topics that have no other owner: whoever did so before is fenced (P11).
    OwnLog { start: StartId },
    /// This executor appends to these topics from now on.
    OwnTopics { start: StartId, topics: Vec<String> },
    /// An access token. The same again changes nothing.
    CreateToken { id: TokenId, facts: AccessTokenFacts },
    /// The token is known no more.
    RevokeToken { id: TokenId },
    /// An executor takes no new work: it is about to be stopped. Or it does again. Of those that are not `known` any
    /// more nothing is remembered. It is refused if none of the `usable` ones, on which work may run now, could take over
    /// what it has; None: nobody looked.
    Drain {
        start: StartId,
        undo: bool,
        known: Vec<StartId>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        usable: Option<Vec<StartId>>,
        object: String,
    },
    /// This start is the node of that name, unless another one is among those that are `known`: whose lease has not
    /// ended. Of nodes that are not known any more nothing is remembered.
    Register { node: String, start: StartId, incarnation: Incarnation, known: Vec<StartId> },
    /// A topic is made, or goes: unless a job that has not ended uses it, and no such job begins until that is done.
    ChangeTopic { topic: String, change: TopicChange },
    /// The change of this number is made, or cannot be.
    TopicChanged { topic: String, number: u64 },
    /// Rows of a topic that no epoch needs any more go, unless a job began or went back since `as_of` commands were
    /// applied (P15).
    CutTopic { topic: String, cut: TopicCut, as_of: u64 },
    /// A change that the coordinator keeps in memory alone: it stands in the audit log and nowhere else.
    Note { object: String },
}

impl Command {
    /// The jobs that it makes.
    pub fn makes(&self) -> Vec<(JobId, &str)> {
        match self {
            Self::CreateJob { job, name, .. } => vec![(*job, name)],
            Self::CreateGroup { jobs, .. } => jobs.iter().map(|job| (job.job, job.name.as_str())).collect(),
            _ => Vec::new(),
        }
    }

    /// The job it is about; none if it is about the cluster or about several.
    pub fn job(&self) -> Option<JobId> {
        Some(match self {
            Self::OwnLog { .. }
            | Self::OwnTopics { .. }
            | Self::CreateGroup { .. }
            | Self::CreateToken { .. }
            | Self::RevokeToken { .. }
            | Self::Drain { .. }
            | Self::Register { .. }
            | Self::ChangeTopic { .. }
            | Self::TopicChanged { .. }
            | Self::CutTopic { .. }
            | Self::Note { .. } => return None,
            Self::CreateJob { job, .. }
            | Self::OpenGeneration { job, .. }
            | Self::StopWithSavepoint { job }
            | Self::Close { job, .. }
            | Self::Resume { job }
            | Self::Retire { job, .. }
            | Self::Rescale { job, .. }
            | Self::Acknowledge { job }
            | Self::Savepoint { job, .. }
            | Self::DropSavepoint { job, .. }
            | Self::Rollback { job, .. }
            | Self::DropJob { job }
            | Self::Collected { job, .. } => *job,
            Self::Claim { token, .. }
            | Self::Committed { token, .. }
            | Self::Withdrawn { token }
            | Self::RecordFailure { token, .. } => token.job,
        })
    }
}

/// A job of a group, as [`Command::CreateJob`] has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupJob {
    pub job: JobId,
    pub name: String,
    pub script_digest: String,
    pub manifest_key: String,
    pub checksum: String,
    pub run_with: Option<Box<RunWith>>,
}

/// Parallelism and settings of a job's next generations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunWith {
    pub parallelism: u32,
    pub settings: JobSettings,
    /// All of it runs in one process: its subtasks share more than rows.
    #[serde(default)]
    pub together: bool,
    /// Of the request that made the job: its logs show it in every process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceParent>,
    /// Topics that it reads or writes, side tables included. None for jobs of versions that did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topics: Option<JobTopics>,
}

/// Topics of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobTopics {
    pub names: BTreeSet<String>,
    /// Where it begins to read them. Told when it is made, and not kept: manifests tell it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub starts: Vec<TopicStart>,
}

/// What a closing job becomes once its last claim is committed (P7).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Finished,
    Stopped,
    Failed(Error),
}

/// Why `apply` changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    UnknownJob,
    DuplicateJob,
    NameTaken,
    /// The token is not the current one.
    OldGeneration,
    /// The job is closing or ended.
    Closing,
    /// Not the next epoch.
    NotNext {
        next: Epoch,
    },
    /// The epoch before is not recorded as committed.
    CommitPending {
        epoch: Epoch,
    },
    /// A commit names another manifest or lacks handles.
    WrongCommit,
    /// The epoch may still be restored.
    StillNeeded {
        epoch: Epoch,
    },
    /// The command does not fit the job's status.
    WrongStatus,
    /// Another token has this name or id.
    TokenTaken,
    UnknownToken,
    /// As many tokens as there may be.
    TooManyTokens,
    /// The job has another savepoint of this name.
    SavepointExists {
        epoch: Option<Epoch>,
    },
    UnknownSavepoint,
    TooManySavepoints,
    /// The epoch cannot be restored: it was withdrawn or retired, or never claimed.
    NotRestorable {
        epoch: Epoch,
    },
    /// Epochs are still to be withdrawn.
    WithdrawalPending,
    /// Another executor has this name.
    NodeTaken,
    /// No other executor could run these.
    NoRoom {
        jobs: Vec<String>,
    },
    /// A job that has not ended uses the topic.
    TopicInUse {
        topic: String,
        job: String,
    },
    /// The topic is being made or deleted.
    TopicChanging {
        topic: String,
    },
    /// A job began or went back to an earlier epoch meanwhile.
    JobsChanged,
    /// Rows that the job would begin with are decided to go.
    RowsGo {
        topic: String,
    },
    /// As many topics are being changed as may be at a time.
    TooManyTopicChanges,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownJob => f.write_str("no such job"),
            Self::DuplicateJob => f.write_str("the job id exists"),
            Self::NameTaken => f.write_str("an active job has this name"),
            Self::OldGeneration => f.write_str("the token is not current"),
            Self::Closing => f.write_str("the job is closing"),
            Self::NotNext { next } => write!(f, "the next epoch is {next}"),
            Self::CommitPending { epoch } => write!(f, "the commit of epoch {epoch} is not recorded"),
            Self::WrongCommit => f.write_str("the commit does not match the claim"),
            Self::StillNeeded { epoch } => write!(f, "epoch {epoch} may still be restored"),
            Self::SavepointExists { epoch: Some(epoch) } => write!(f, "epoch {epoch} has this name"),
            Self::SavepointExists { epoch: None } => f.write_str("the next epoch gets this name"),
            Self::UnknownSavepoint => f.write_str("the job has no savepoint of this name"),
            Self::TooManySavepoints => f.write_str("the job has as many savepoints as it may"),
            Self::NotRestorable { epoch } => write!(f, "epoch {epoch} cannot be restored"),
            Self::WithdrawalPending => f.write_str("epochs are still to be withdrawn"),
            Self::NoRoom { jobs } => {
                write!(f, "no other executor can take over its work: {}", shortened(jobs))
            }
            Self::NodeTaken => f.write_str("another executor of this name lives"),
            Self::WrongStatus => f.write_str("the job's status does not allow it"),
            Self::TokenTaken => f.write_str("another token has this name"),
            Self::UnknownToken => f.write_str("no such token"),
            Self::TopicInUse { topic, job } => write!(f, "job `{job}` uses topic `{topic}`"),
            Self::TopicChanging { topic } => write!(f, "topic `{topic}` is being made or deleted"),
            Self::JobsChanged => f.write_str("a job began or went back meanwhile"),
            Self::RowsGo { topic } => {
                write!(f, "rows of topic `{topic}` are just being removed, as all have read them")
            }
            Self::TooManyTopicChanges => f.write_str("too many topics are being made or deleted"),
            Self::TooManyTokens => f.write_str("there are as many tokens as a cluster may have"),
        }
    }
}

/// Names of jobs as a message can hold them.
pub(crate) fn shortened(jobs: &[String]) -> String {
    const SHOWN: usize = 8;
    let named = jobs.iter().take(SHOWN).map(|job| format!("`{job}`")).collect::<Vec<_>>().join(", ");
    match jobs.len().saturating_sub(SHOWN) {
        0 => format!("job {named}"),
        more => format!("jobs {named} and {more} more"),
    }
}

/// What a refusal tells people.
impl From<&Refusal> for Error {
    fn from(refusal: &Refusal) -> Self {
        let (code, hint) = match refusal {
            Refusal::UnknownJob => (Code::UnknownJob, "`qanat jobs list --all` lists the jobs"),
            Refusal::NameTaken => (Code::ForeignState, "stop the job that has its name first"),
            Refusal::Closing => (Code::CommitPending, "try again when it has ended"),
            Refusal::UnknownSavepoint | Refusal::NotRestorable { .. } => {
                (Code::NotRestorable, "`qanat job savepoints` shows what the job has")
            }
            Refusal::SavepointExists { .. } => (Code::Usage, "choose another name, or drop that one first"),
            Refusal::TooManySavepoints => (Code::Usage, "drop some: `qanat job savepoint JOB --drop NAME`"),
            Refusal::TokenTaken | Refusal::UnknownToken => (Code::Usage, "`qanat cluster token list` lists them"),
            Refusal::NodeTaken => (
                Code::NodeNameTaken,
                "choose another name for this one (--node); or stop that one, and wait for the second in which its lease ends",
            ),
            Refusal::NoRoom { .. } => (Code::NoRoom, "start another executor first, or stop the jobs"),
            Refusal::TopicInUse { .. } => (Code::TopicInUse, "stop the job first: `qanat job stop`"),
            Refusal::TopicChanging { .. } | Refusal::TooManyTopicChanges => {
                (Code::TopicInUse, "try again in a moment; it needs an executor that owns the log")
            }
            Refusal::RowsGo { .. } => (Code::OffsetGone, "submit the job again: it begins after them"),
            Refusal::TooManyTokens => (Code::Usage, "revoke some: `qanat cluster token revoke`"),
            _ => (Code::Usage, "look at the job: `qanat job describe`"),
        };
        Self::new(code, refusal.to_string()).hint(hint)
    }
}
