//! Client library of Qanat: submit jobs to a cluster and follow them.
//!
//! ```no_run
//! use qanat_client::{Client, Submit};
//!
//! # async fn example() -> qanat_client::Result<()> {
//! let client = Client::new(["127.0.0.1:7070"])?;
//! let submitted = client.submit(Submit::new("sales", "INSERT INTO out SELECT * FROM sales")).await?;
//! let mut job = client.watch(&submitted.jobs[0].id).await?;
//! while let Some(job) = job.next().await? {
//!     println!("{} is {} at epoch {}", job.name, job.state().as_str_name(), job.committed_epoch);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Rows of topics, and of operators while their job runs, are followed as Arrow batches:
//!
//! ```no_run
//! use qanat_client::{Client, Tail};
//!
//! # async fn example() -> qanat_client::Result<()> {
//! let client = Client::new(["127.0.0.1:7070"])?;
//! let mut rows = client.tail(Tail::topic("sales").from("earliest").limit(100));
//! while let Some(batch) = rows.next().await? {
//!     println!("{} rows from {:?}", batch.rows.num_rows(), batch.from);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The client finds the leader of the coordinators by itself and tries again where an answer is lost. Every call
//! ends: after [`Client::with_deadline`], with E0602; after [`Client::with_connect_timeout`] if nobody was ever heard.
//! A call that is tried again never does its work twice: a submit carries a request id, and all others say what is to be
//! and not what is to happen. One that finds its work done by a try whose answer was lost has succeeded.

mod call;
mod client;
mod data;
pub mod history;
mod readmit;
mod rollback;
mod submit;
mod tail;
mod watch;

pub use client::Client;
pub use data::{NewTopic, SideQuery};
pub use qanat_proto::access::{AccessToken, Role};
pub use qanat_proto::audit;
pub use qanat_proto::checkpoint::{CheckpointDetails, CheckpointReport};
pub use qanat_proto::error::{Code, Error, Result};
pub use qanat_proto::owner::Readmitted;
pub use qanat_proto::rows::{TailFrom, TailRows};
pub use qanat_proto::rpc::control::rollback_response::Sink as RolledBackSink;
pub use qanat_proto::rpc::control::topic::{Column as TopicColumn, Partition as TopicPartition};
pub use qanat_proto::rpc::control::{
    AccessToken as TokenFacts, AuditEntry, AuditLogResponse as AuditLog, Coordinator, DropResponse, Executor, Failure,
    Job, JobOverview, JobState, OverviewResponse as Overview, RollbackResponse, Savepoint, SavepointsResponse,
    StatusResponse as ClusterStatus, SubmitResponse as Submitted, ValidateResponse as Validated,
};
pub use qanat_proto::rpc::control::{Checkpoint, DeadLetter, LateRow, Topic};
pub use qanat_proto::rpc::failure::error_of as error_of_failure;
pub use readmit::Readmit;
pub use rollback::Rollback;
pub use submit::Submit;
pub use tail::{Tail, TailStream};
pub use watch::JobWatch;
