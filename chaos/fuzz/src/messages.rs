//! Messages that cross the wire: each of gRPC, and the JSON that stands in some of them.
//!
//! An input is the name of a message, a line feed, and its bytes.

use std::collections::BTreeMap;

use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FileDescriptorSet};
use qanat_coordinator_core::State;
use qanat_coordinator_core::audit::AuditLog;
use qanat_coordinator_core::command::{Command, Proposal};
use qanat_proto::checkpoint::CheckpointReport;
use qanat_proto::control::{FromExecutor, ToExecutor};
use qanat_proto::ids::Token;
use qanat_proto::manifest::Manifest;
use qanat_proto::owner::{OwnerAnswer, OwnerTask};
use qanat_proto::rows::TailRows;
use qanat_proto::rpc::failure::{error_of, failure_of};
use qanat_proto::rpc::{DESCRIPTORS, cluster, control, exchange, raft};
use qanat_proto::{Code, Error};

use crate::mutate::Form;
use crate::verdict::{json, refused, sound};
use crate::{MODEST, Seed, Target, Verdict};

/// Every message of the `.proto` files.
pub const MESSAGES: Target = Target {
    name: "messages",
    body: messages,
    form: Form::Bytes,
    meaning: None,
    seeds: message_seeds,
    rounds: 10_000,
    memory: MODEST,
};

macro_rules! messages {
    ($($name:literal => $message:ty,)*) => {
        /// Names of all messages that are fuzzed, by package.
        pub const NAMES: &[&str] = &[$($name,)*];

        fn read_again(name: &str, bytes: &[u8]) -> Option<Verdict> {
            match name {
                $($name => Some(Verdict::of(again::<$message>(bytes))),)*
                _ => None,
            }
        }
    };
}

messages! {
    "raft.RaftMessage" => raft::RaftMessage,
    "raft.SnapshotPart" => raft::SnapshotPart,
    "cluster.ExecutorEvent" => cluster::ExecutorEvent,
    "cluster.Register" => cluster::Register,
    "cluster.Heartbeat" => cluster::Heartbeat,
    "cluster.JobFigures" => cluster::JobFigures,
    "cluster.CoordinatorEvent" => cluster::CoordinatorEvent,
    "cluster.Registered" => cluster::Registered,
    "control.ScriptRequest" => control::ScriptRequest,
    "control.SubmitRequest" => control::SubmitRequest,
    "control.SubmitResponse" => control::SubmitResponse,
    "control.ValidateResponse" => control::ValidateResponse,
    "control.ValidateResponse.Planned" => control::validate_response::Planned,
    "control.ExplainResponse" => control::ExplainResponse,
    "control.ListRequest" => control::ListRequest,
    "control.ListResponse" => control::ListResponse,
    "control.JobRequest" => control::JobRequest,
    "control.StopRequest" => control::StopRequest,
    "control.SavepointRequest" => control::SavepointRequest,
    "control.Savepoint" => control::Savepoint,
    "control.SavepointsResponse" => control::SavepointsResponse,
    "control.DropSavepointRequest" => control::DropSavepointRequest,
    "control.RollbackRequest" => control::RollbackRequest,
    "control.RollbackResponse" => control::RollbackResponse,
    "control.RollbackResponse.Sink" => control::rollback_response::Sink,
    "control.DropRequest" => control::DropRequest,
    "control.DropResponse" => control::DropResponse,
    "control.AddCoordinatorRequest" => control::AddCoordinatorRequest,
    "control.RemoveCoordinatorRequest" => control::RemoveCoordinatorRequest,
    "control.RescaleRequest" => control::RescaleRequest,
    "control.DrainRequest" => control::DrainRequest,
    "control.DrainResponse" => control::DrainResponse,
    "control.CreateTokenRequest" => control::CreateTokenRequest,
    "control.AccessToken" => control::AccessToken,
    "control.ListTokensRequest" => control::ListTokensRequest,
    "control.ListTokensResponse" => control::ListTokensResponse,
    "control.RevokeTokenRequest" => control::RevokeTokenRequest,
    "control.AuditLogRequest" => control::AuditLogRequest,
    "control.AuditLogResponse" => control::AuditLogResponse,
    "control.AuditEntry" => control::AuditEntry,
    "control.Job" => control::Job,
    "control.Failure" => control::Failure,
    "control.Place" => control::Place,
    "control.Place.Sql" => control::place::Sql,
    "control.Place.Origin" => control::place::Origin,
    "control.StatusRequest" => control::StatusRequest,
    "control.StatusResponse" => control::StatusResponse,
    "control.OverviewRequest" => control::OverviewRequest,
    "control.OverviewResponse" => control::OverviewResponse,
    "control.JobOverview" => control::JobOverview,
    "control.Coordinator" => control::Coordinator,
    "control.Executor" => control::Executor,
    "control.ListTopicsRequest" => control::ListTopicsRequest,
    "control.ListTopicsResponse" => control::ListTopicsResponse,
    "control.CreateTopicRequest" => control::CreateTopicRequest,
    "control.DeleteTopicRequest" => control::DeleteTopicRequest,
    "control.DeleteTopicResponse" => control::DeleteTopicResponse,
    "control.TopicRequest" => control::TopicRequest,
    "control.Topic" => control::Topic,
    "control.Topic.Column" => control::topic::Column,
    "control.Topic.Partition" => control::topic::Partition,
    "control.TailRequest" => control::TailRequest,
    "control.OperatorName" => control::OperatorName,
    "control.TailEvent" => control::TailEvent,
    "control.TailStarted" => control::TailStarted,
    "control.TailRows" => control::TailRows,
    "control.SideRowsRequest" => control::SideRowsRequest,
    "control.SideRowsPart" => control::SideRowsPart,
    "control.ReadmitRequest" => control::ReadmitRequest,
    "control.ReadmitPart" => control::ReadmitPart,
    "control.Readmitted" => control::Readmitted,
    "control.LateRow" => control::LateRow,
    "control.DeadLetter" => control::DeadLetter,
    "control.CheckpointsRequest" => control::CheckpointsRequest,
    "control.CheckpointsResponse" => control::CheckpointsResponse,
    "control.Checkpoint" => control::Checkpoint,
    "control.CheckpointRequest" => control::CheckpointRequest,
    "control.CheckpointDescription" => control::CheckpointDescription,
    "control.AuditRequest" => control::AuditRequest,
    "control.AuditPart" => control::AuditPart,
    "exchange.TapRequest" => exchange::TapRequest,
    "exchange.TapRows" => exchange::TapRows,
    "exchange.OwnerRequest" => exchange::OwnerRequest,
    "exchange.OwnerResponse" => exchange::OwnerResponse,
    "exchange.Open" => exchange::Open,
    "exchange.Forwards" => exchange::Forwards,
    "exchange.Forward" => exchange::Forward,
    "exchange.Rows" => exchange::Rows,
    "exchange.Backward" => exchange::Backward,
    "exchange.Credit" => exchange::Credit,
    "exchange.Adopted" => exchange::Adopted,
}

fn messages(input: &[u8]) -> Verdict {
    let Some((name, bytes)) = named(input) else { return Verdict::Refused };
    let Some(verdict) = read_again(name, bytes) else { return Verdict::Refused };
    match name {
        "control.TailRows" => tail_rows(bytes),
        "control.CheckpointDescription" => checkpoint(bytes),
        "control.Failure" => failure(bytes),
        _ => {}
    }
    verdict
}

/// Splits an input into the name in its first line and the rest.
pub(crate) fn named(input: &[u8]) -> Option<(&str, &[u8])> {
    let end = input.iter().take(64).position(|byte| *byte == b'\n')?;
    let (name, rest) = input.split_at_checked(end)?;
    Some((std::str::from_utf8(name).ok()?, rest.get(1..)?))
}

pub(crate) fn with_name(name: &str, bytes: &[u8]) -> Vec<u8> {
    [name.as_bytes(), b"\n", bytes].concat()
}

/// Whether the bytes are such a message.
fn again<M: Message + Default + PartialEq>(bytes: &[u8]) -> bool {
    let Ok(message) = M::decode(bytes) else { return false };
    let written = message.encode_to_vec();
    assert_eq!(written.len(), message.encoded_len());
    let read = M::decode(written.as_slice()).unwrap_or_else(|e| panic!("what was written is refused: {e}"));
    // What is not equal to itself (a number that is none) is so in bytes; a map is written in any order.
    assert!(read == message || read.encode_to_vec() == written, "what is read again is another message");
    true
}

fn tail_rows(bytes: &[u8]) {
    let Ok(wire) = control::TailRows::decode(bytes) else { return };
    match TailRows::of_wire(wire) {
        Ok(batches) => batches.iter().for_each(|batch| sound(&batch.rows)),
        Err(error) => {
            refused(&error, &[Code::Internal]);
        }
    }
}

fn checkpoint(bytes: &[u8]) {
    let Ok(wire) = control::CheckpointDescription::decode(bytes) else { return };
    match CheckpointReport::of_wire(wire) {
        Ok(report) => {
            let wire = report.clone().into_wire().expect("what was read can be written");
            assert_eq!(CheckpointReport::of_wire(wire).expect("what was written is read"), report);
        }
        Err(error) => {
            refused(&error, &[Code::Internal]);
        }
    }
}

fn failure(bytes: &[u8]) {
    let Ok(wire) = control::Failure::decode(bytes) else { return };
    let error = error_of(wire);
    assert_eq!(error_of(failure_of(&error)), error);
}

/// A real encoding of every message: each field of it with a value.
fn message_seeds() -> Vec<Seed> {
    let files = FileDescriptorSet::decode(DESCRIPTORS).expect("our own descriptors");
    let known = all_messages(&files);
    let seed = |(name, descriptor): (&String, &&DescriptorProto)| {
        let short = name.trim_start_matches(".qanat.").replacen(".v1", "", 1);
        (format!("ok-{short}"), with_name(&short, &sample(descriptor, &known, 3)))
    };
    let mut seeds: Vec<Seed> = known.iter().map(seed).collect();
    let rows = crate::formats::rows();
    let tail = control::TailRows {
        arrow: qanat_proto::rows::encode(&rows).expect("rows can be sent"),
        count: rows.num_rows() as u32,
        ..control::TailRows::default()
    };
    seeds.push(("ok-rows".to_owned(), with_name("control.TailRows", &tail.encode_to_vec())));
    seeds.push(("bad-no-such-message".to_owned(), with_name("control.Nothing", b"")));
    seeds
}

/// Descriptors by full name (`.qanat.control.v1.Job`), maps' entries left out.
pub fn all_messages(files: &FileDescriptorSet) -> BTreeMap<String, &DescriptorProto> {
    fn add<'a>(prefix: &str, messages: &'a [DescriptorProto], found: &mut BTreeMap<String, &'a DescriptorProto>) {
        for message in messages.iter().filter(|m| !m.options.as_ref().is_some_and(|o| o.map_entry())) {
            let name = format!("{prefix}.{}", message.name());
            add(&name, &message.nested_type, found);
            found.insert(name, message);
        }
    }
    let mut found = BTreeMap::new();
    for file in &files.file {
        add(&format!(".{}", file.package()), &file.message_type, &mut found);
    }
    found
}

fn sample(message: &DescriptorProto, known: &BTreeMap<String, &DescriptorProto>, depth: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for field in &message.field {
        let tag = field.number() as u32;
        let mut put = |wire: u32, value: &[u8]| {
            prost::encoding::encode_varint(u64::from(tag << 3 | wire), &mut bytes);
            if wire == 2 {
                prost::encoding::encode_varint(value.len() as u64, &mut bytes);
            }
            bytes.extend_from_slice(value);
        };
        match field.r#type() {
            Type::String | Type::Bytes => put(2, format!("{}-7", field.name()).as_bytes()),
            Type::Double => put(1, &0.5_f64.to_le_bytes()),
            Type::Fixed64 => put(1, &7_u64.to_le_bytes()),
            Type::Message => {
                // An entry of a map is no message of its own: an empty one stands for it.
                let inner = known.get(field.type_name()).filter(|_| depth > 0);
                put(2, &inner.map(|inner| sample(inner, known, depth - 1)).unwrap_or_default());
            }
            // Numbers of any width and booleans; packed where they are repeated.
            _ if field.label() == Label::Repeated => put(2, &[5, 0x81, 1]),
            _ => put(0, &[1]),
        }
    }
    bytes
}

/// JSON within messages: of the leader and its executors, of the owner of topics, and what stands in the log of
/// commands.
pub const CONTROL: Target = Target {
    name: "control",
    body: control_json,
    form: Form::Text,
    meaning: None,
    seeds: control_seeds,
    rounds: 2_000,
    memory: MODEST,
};

fn control_json(input: &[u8]) -> Verdict {
    let Some((name, bytes)) = named(input) else { return Verdict::Refused };
    Verdict::of(match name {
        "to_executor" => json::<ToExecutor>(bytes).is_some(),
        "from_executor" => json::<FromExecutor>(bytes).is_some(),
        "owner_task" => json::<OwnerTask>(bytes).is_some(),
        "owner_answer" => json::<OwnerAnswer>(bytes).is_some(),
        "holds" => json::<Vec<Token>>(bytes).is_some(),
        "error" => json::<Error>(bytes).is_some(),
        "audit_log" => json::<AuditLog>(bytes).is_some(),
        "manifest" => json::<Manifest>(bytes).is_some(),
        "state" => json::<State>(bytes).is_some(),
        "command" => json::<Command>(bytes).is_some_and(|command| applies(&command)),
        _ => false,
    })
}

/// Whatever a command says, all replicas apply it or refuse it, to the same end.
fn applies(command: &Command) -> bool {
    let proposal = Proposal { at_ms: 1, command: command.clone(), caller: None };
    let [first, second] = [crate::documents::state(), crate::documents::state()].map(|mut state| {
        let answer = state.apply_proposal(&proposal);
        (answer, state.digest())
    });
    assert_eq!(first, second, "two replicas part");
    true
}

fn control_seeds() -> Vec<Seed> {
    let mut seeds = crate::documents::control_values();
    seeds.push(("bad-no-such-value".to_owned(), with_name("nothing", b"{}")));
    seeds
}

/// What members of the group of coordinators say to each other.
pub const RAFT: Target = Target {
    name: "raft",
    body: raft_json,
    form: Form::Text,
    meaning: None,
    seeds: raft_seeds,
    rounds: 5_000,
    memory: MODEST,
};

fn raft_json(input: &[u8]) -> Verdict {
    let Some((name, bytes)) = named(input) else { return Verdict::Refused };
    let Some(Ok(written)) = qanat_coordinator::raft::reread(name, bytes) else { return Verdict::Refused };
    let again = qanat_coordinator::raft::reread(name, &written);
    let again = again.and_then(Result::ok).expect("what was written is read");
    let value = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).expect("it is JSON");
    assert_eq!(value(&again), value(&written));
    Verdict::Accepted
}

fn raft_seeds() -> Vec<Seed> {
    let samples = qanat_coordinator::raft::samples().into_iter();
    samples.map(|(name, body)| (format!("ok-{name}"), with_name(name, &body))).collect()
}
