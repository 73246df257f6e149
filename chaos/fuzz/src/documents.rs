//! Durable documents beside the log: manifests, state files, the coordinators' journal, records of commits, small
//! files; and the values that stand in them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, UInt16Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use bytes::Bytes;
use qanat_connectors::Registry;
use qanat_connectors::contract::{CommitScope, Context, Opener};
use qanat_connectors::filesystem::committed::{self, CommitRecord};
use qanat_coordinator::raft;
use qanat_coordinator_core::State;
use qanat_coordinator_core::command::Command;
use qanat_proto::connector::TableDescriptor;
use qanat_proto::control::{
    CommitPermit, CoordinatorMessage, Deployment, ExecutorMessage, FromExecutor, Host, SubtaskReport, ToExecutor,
};
use qanat_proto::error::{Place, Result};
use qanat_proto::graph::{JobGraph, SinkNode};
use qanat_proto::ids::{Epoch, Generation, JobId, KeyGroupRange, OperatorId, SplitId, StartId, SubtaskId, Token};
use qanat_proto::manifest::{
    Manifest, OperatorState, PreparedHandle, SinkChannel, SourceState, SplitState, StateFile, TableState,
};
use qanat_proto::names::{Name, Origin};
use qanat_proto::owner::{NewTopic, OwnerAnswer, OwnerTask, OwnerTopic, TopicChange};
use qanat_proto::receipt::{OperatorCounts, OperatorReceipt, Receipt, RowHash, RowSum, SplitReceipt};
use qanat_proto::settings::JobSettings;
use qanat_proto::{Code, Error};
use qanat_storage::checkpoint::{CheckpointStore, ManifestKey, StateWriter};
use qanat_storage::env::{Env, OpenMode};
use qanat_storage::log::{AppendOptions, GroupCommit, Isolation, Start, TopicSpec, Topics};
use qanat_storage::object::Objects;
use qanat_storage::small_file;
use qanat_storage::state::{StateBytes, Table, TableDelta, TableSpec};
use serde::Serialize;

use crate::messages::with_name;
use crate::mutate::Form;
use crate::verdict::{refused, sound};
use crate::{MODEST, Seed, Target, Verdict};

const JOB: JobId = JobId(7);
const TOKEN: Token = Token { job: JOB, generation: Generation(3) };
const GROUPS: KeyGroupRange = KeyGroupRange { start: 0, end: 8 };

/// Puts a file on a simulated disk.
pub(crate) fn put(env: &Env, path: &Path, bytes: &[u8]) {
    let folder = path.parent().unwrap_or(path);
    env.disk.create_dir_all(folder).expect("a folder");
    let file = env.disk.open(path, OpenMode::OpenOrCreate).expect("a file");
    file.set_len(0).and_then(|()| file.write_all_at(bytes, 0)).expect("bytes");
}

/// Makes folders on a simulated disk.
pub(crate) fn put_folders(env: &Env, folders: &[PathBuf]) {
    folders.iter().for_each(|folder| env.disk.create_dir_all(folder).expect("a folder"));
}

/// All folders under one.
pub(crate) fn folders(env: &Env, folder: &Path) -> Vec<PathBuf> {
    let inner = env.disk.list(folder).expect("a folder").into_iter().filter(|entry| entry.is_dir);
    inner.flat_map(|entry| [folders(env, &entry.path), vec![entry.path]].concat()).collect()
}

/// All files under a folder.
pub(crate) fn files(env: &Env, folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in env.disk.list(folder).expect("a folder") {
        if entry.is_dir {
            found.extend(files(env, &entry.path));
        } else {
            let mut bytes = vec![0; entry.len as usize];
            let file = env.disk.open(&entry.path, OpenMode::Read).expect("a file");
            file.read_exact_at(&mut bytes, 0).expect("bytes");
            found.push((entry.path, bytes));
        }
    }
    found
}

pub(crate) fn origin() -> Origin {
    Origin { token: TOKEN, epoch: Epoch(5), subtask: SubtaskId { operator: OperatorId(9), index: 1 } }
}

pub(crate) fn manifest_key() -> ManifestKey {
    ManifestKey { job: JOB, epoch: Epoch(5), generation: Generation(3), attempt: 1 }
}

fn handle() -> PreparedHandle {
    PreparedHandle {
        subtask: origin().subtask,
        channel: SinkChannel::Table,
        name: origin().object(4),
        sum: RowSum { rows: 12, hash: RowHash(99) },
        detail: serde_json::json!({"topic": "t", "partitions": [{"partition": 0, "rows": 12}]}),
    }
}

fn state_file() -> StateFile {
    StateFile {
        object: format!("state/{}", origin().object(1)),
        bytes: 512,
        crc: 17,
        rows: 4,
        epoch: Epoch(5),
        key_groups: GROUPS,
        expires_after: Some(9),
        continues: false,
    }
}

fn split() -> SplitState {
    SplitState {
        id: SplitId("in/a.csv#0".to_owned()),
        detail: Arc::new(serde_json::json!({"path": "in/a.csv"})),
        position: Arc::new(serde_json::json!({"byte": 120, "line": 7})),
        rows: 7,
        watermark: Some(1_357_000_000_000),
        idle: false,
        finished: true,
    }
}

fn receipt() -> Receipt {
    let counts = OperatorCounts { rows_in: 12, rows_out: 11, late: 1, ..OperatorCounts::default() };
    Receipt {
        job: JOB,
        generation: TOKEN.generation,
        epoch: Epoch(5),
        operators: vec![OperatorReceipt {
            operator: OperatorId(9),
            name: "Calc".to_owned(),
            role: "stateless".to_owned(),
            counts,
        }],
        ..Receipt::default()
    }
}

fn manifest() -> Manifest {
    let sources = vec![SourceState { operator: OperatorId(1), splits: vec![split()] }];
    let graph = JobGraph { operators: Vec::new(), edges: Vec::new() };
    Manifest {
        generation: TOKEN.generation,
        epoch: Epoch(5),
        parallelism: 2,
        operators: vec![OperatorState {
            operator: OperatorId(9),
            watermarks: vec![(GROUPS, Some(5)), (KeyGroupRange { start: 8, end: 16 }, None)],
            tables: vec![TableState { name: "counts".to_owned(), files: vec![state_file()] }],
        }],
        prepared: vec![handle()],
        receipt: receipt(),
        ..Manifest::epoch_zero(JOB, "delays".to_owned(), 1, graph, JobSettings::default(), sources)
    }
}

/// What a command of the corpus is applied to: a job that runs, with a claimed epoch.
pub(crate) fn state() -> State {
    let mut state = State::default();
    for command in commands().into_iter().take(3) {
        state.apply(&command).unwrap_or_else(|e| panic!("{command:?}: {e}"));
    }
    state
}

fn commands() -> Vec<Command> {
    let key = |epoch: u64| format!("manifests/{JOB}/{epoch:012}");
    vec![
        Command::CreateJob {
            job: JOB,
            name: "delays".to_owned(),
            script_digest: "d".to_owned(),
            manifest_key: key(0),
            checksum: "c".to_owned(),
            run_with: None,
        },
        Command::OpenGeneration {
            job: JOB,
            expected: Generation(0),
            placement: vec![StartId(5)],
            parallelism: 2,
            settings: JobSettings::default(),
        },
        Command::Claim {
            token: Token { job: JOB, generation: Generation(1) },
            epoch: Epoch(1),
            manifest_key: key(1),
            checksum: "c".to_owned(),
            handles: vec![handle()],
            is_final: false,
            receipt: Box::new(Receipt { epoch: Epoch(1), generation: Generation(1), ..receipt() }),
        },
        Command::Committed {
            token: Token { job: JOB, generation: Generation(1) },
            epoch: Epoch(1),
            manifest_key: key(1),
            handle_names: vec![handle().name],
        },
        Command::RecordFailure { token: Token { job: JOB, generation: Generation(1) }, error: error(), is_last: false },
        Command::StopWithSavepoint { job: JOB },
        Command::Savepoint { job: JOB, name: "friday".to_owned(), request: "r".to_owned() },
        Command::Rollback {
            job: JOB,
            to: Epoch(0),
            expected: Epoch(1),
            objects: Vec::new(),
            starts: Vec::new(),
            request: "r".to_owned(),
        },
        Command::Retire { job: JOB, epochs: vec![Epoch(0)] },
        Command::Rescale { job: JOB, parallelism: 4 },
        Command::OwnTopics { start: StartId(5), topics: vec!["t".to_owned()] },
        Command::ChangeTopic { topic: "t".to_owned(), change: TopicChange::Delete { id: 7 } },
        Command::Drain {
            start: StartId(5),
            undo: false,
            known: vec![StartId(5)],
            usable: None,
            object: "n".to_owned(),
        },
        Command::Note { object: "job delays".to_owned() },
    ]
}

fn error() -> Error {
    let place = Place::Origin { origin: "in/a.csv".to_owned(), offset: Some(7), unit: "line".to_owned() };
    Error::new(Code::BadRecord, "a record cannot be decoded").at(place).hint("mend it")
}

/// A text of each value that travels or stands as JSON.
pub(crate) fn control_values() -> Vec<Seed> {
    fn seed(kind: &str, name: &str, value: &impl Serialize) -> Seed {
        let json = serde_json::to_vec(value).expect("it is JSON");
        (format!("ok-{kind}-{name}"), with_name(kind, &json))
    }
    let to = |message| ToExecutor { start: StartId(5), token: TOKEN, message };
    let from = |message| FromExecutor { start: StartId(5), token: TOKEN, message };
    let permit = || CommitPermit {
        token: TOKEN,
        epoch: Epoch(5),
        manifest_key: manifest_key().to_string(),
        handles: vec![handle()],
    };
    let deployment = Deployment {
        job_name: "delays".to_owned(),
        graph: JobGraph { operators: Vec::new(), edges: Vec::new() },
        settings: JobSettings::default(),
        parallelism: 2,
        hosts: vec![Host { start: StartId(5), address: "host:7001".to_owned() }],
        restore: manifest(),
        replay_only: false,
        trace: None,
        withdrawn_to: Epoch(0),
    };
    let report = SubtaskReport {
        parts: vec![qanat_proto::control::OperatorReport {
            subtask: origin().subtask,
            key_groups: GROUPS,
            watermark: Some(4),
            counts: OperatorCounts::default(),
            splits: vec![split()],
            split_receipts: vec![SplitReceipt {
                id: split().id,
                from: split().position,
                to: split().position,
                rows: 7,
            }],
            tables: vec![("counts".to_owned(), vec![state_file()])],
            prepared: vec![handle()],
            sent: Vec::new(),
            received: Vec::new(),
            ended: false,
        }],
    };
    let change = NewTopic { id: 7, partitions: 2, bytes: Some(1 << 20), age_ms: None, consumed: false };
    let topic = OwnerTopic { topic: "t".to_owned(), id: 7, offsets: BTreeMap::from([(0, 12)]) };
    let mut seeds = vec![
        seed("to_executor", "deploy", &to(ExecutorMessage::Deploy(Box::new(deployment)))),
        seed("to_executor", "commit", &to(ExecutorMessage::Commit(permit()))),
        seed("to_executor", "trigger", &to(ExecutorMessage::Trigger { epoch: Epoch(5) })),
        seed("to_executor", "abort", &to(ExecutorMessage::AbortLower { keep: vec![handle()] })),
        seed(
            "from_executor",
            "prepared",
            &from(CoordinatorMessage::Prepared { epoch: Epoch(5), report: Box::new(report) }),
        ),
        seed("from_executor", "failed", &from(CoordinatorMessage::Failed { subtask: None, error: error() })),
        seed(
            "owner_task",
            "change",
            &OwnerTask::Change { topic: "t".to_owned(), number: 3, change: TopicChange::Create(change) },
        ),
        seed("owner_task", "remove", &OwnerTask::Remove(topic)),
        seed("owner_answer", "removable", &OwnerAnswer::Removable(BTreeMap::from([(0, 12)]))),
        seed("holds", "one", &vec![TOKEN]),
        seed("error", "placed", &error()),
        seed("manifest", "whole", &manifest()),
        seed("state", "running", &state()),
    ];
    for (index, command) in commands().iter().enumerate() {
        seeds.push(seed("command", &format!("{index:02}"), command));
    }
    seeds
}

/// The manifest of an epoch, in its envelope.
pub const MANIFEST: Target = Target {
    name: "manifest",
    body: manifest_bytes,
    form: Form::Text,
    meaning: Some(manifest_meaning),
    seeds: manifest_seeds,
    rounds: 1_000,
    memory: MODEST,
};

const MANIFEST_HEAD: usize = 40;

fn read_manifest(bytes: &[u8]) -> Result<Manifest> {
    let sim = Env::sim(1);
    let store = CheckpointStore::new(Objects::in_directory(&sim.env, Path::new("/checkpoints"))?);
    let key = manifest_key().to_string();
    let _ = store.objects().put_new(&key, Bytes::copy_from_slice(bytes))?;
    let (manifest, checksum) = store.inspect_manifest(&key)?;
    assert!(store.read_manifest(&key, &checksum)? == manifest);
    assert!(store.read_manifest(&key, "another").is_err(), "any checksum will do");
    Ok(manifest)
}

fn manifest_bytes(input: &[u8]) -> Verdict {
    let check = |bytes: &[u8]| match read_manifest(bytes) {
        Ok(manifest) => {
            let written = serde_json::to_vec(&manifest).expect("a manifest is JSON");
            assert!(serde_json::from_slice::<Manifest>(&written).expect("read again") == manifest);
            Verdict::Accepted
        }
        Err(error) => refused(&error, &[Code::CorruptCheckpoint, Code::UnknownVersion]),
    };
    let as_it_is = check(input);
    let Some(payload) = input.get(MANIFEST_HEAD..) else { return as_it_is };
    let mut sealed = input.to_vec();
    sealed[12..20].copy_from_slice(&(payload.len() as u64).to_le_bytes());
    sealed[20..24].copy_from_slice(&crc32c::crc32c(payload).to_le_bytes());
    sealed[24..40].copy_from_slice(&xxhash_rust::xxh3::xxh3_128(payload).to_le_bytes());
    check(&sealed)
}

fn manifest_meaning(input: &[u8]) -> Option<String> {
    read_manifest(input).ok().map(|manifest| format!("{manifest:?}"))
}

fn manifest_seeds() -> Vec<Seed> {
    let sim = Env::sim(1);
    let store = CheckpointStore::new(Objects::in_directory(&sim.env, Path::new("/checkpoints")).expect("a store"));
    let seed = |name: &str, manifest: &Manifest, attempt| {
        let (key, _) = store.put_manifest(manifest, attempt).expect("written");
        (name.to_owned(), store.objects().get(&key).expect("there").to_vec())
    };
    vec![
        seed("ok-epoch", &manifest(), 1),
        seed("bad-of-another-epoch", &Manifest { epoch: Epoch(6), ..manifest() }, 1),
        ("bad-empty".to_owned(), Vec::new()),
    ]
}

/// A file of keyed state. What a manifest says of it (length, checksum, rows) is made to fit.
pub const STATE_FILE: Target = Target {
    name: "state_file",
    body: state_bytes,
    form: Form::Bytes,
    meaning: Some(state_meaning),
    seeds: state_seeds,
    rounds: 1_000,
    memory: MODEST,
};

struct OneObject<'a>(&'a [u8]);

impl StateBytes for OneObject<'_> {
    fn read(&self, object: &str, range: std::ops::Range<u64>) -> Result<Bytes> {
        let bytes = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
        let bytes = bytes.and_then(|(start, end)| self.0.get(start..end));
        let missing = || Error::new(Code::CorruptCheckpoint, format!("object `{object}` is shorter"));
        bytes.map(Bytes::copy_from_slice).ok_or_else(missing)
    }
}

fn table_spec() -> TableSpec {
    let schema: SchemaRef = Arc::new(Schema::new(vec![
        Field::new("group", DataType::UInt16, false),
        Field::new("key", DataType::Utf8, true),
        Field::new("count", DataType::Int64, false),
        Field::new("until", DataType::Int64, false),
    ]));
    TableSpec { name: "counts".to_owned(), schema, key_columns: 1, time_column: Some(3), append_only: false }
}

fn state_rows(count: u16) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(UInt16Array::from_iter_values((0..count).map(|n| n % GROUPS.end))),
        Arc::new(StringArray::from_iter((0..count).map(|n| (n % 3 != 1).then(|| format!("key {n}"))))),
        Arc::new(Int64Array::from_iter_values((0..count).map(i64::from))),
        Arc::new(Int64Array::from_iter_values((0..count).map(|n| i64::from(n) + 100))),
    ];
    RecordBatch::try_new(table_spec().schema, columns).expect("columns fit")
}

/// A state file of its own, as written, and its entry in a manifest.
fn written_state() -> &'static (Vec<u8>, StateFile) {
    static WRITTEN: OnceLock<(Vec<u8>, StateFile)> = OnceLock::new();
    WRITTEN.get_or_init(|| {
        let sim = Env::sim(1);
        let store = CheckpointStore::new(Objects::in_directory(&sim.env, Path::new("/checkpoints")).expect("a store"));
        let mut table = Table::new(table_spec(), GROUPS);
        let keys = state_rows(14).slice(10, 4).project(&[0, 1]).expect("keys");
        let delta = TableDelta {
            table: "counts".to_owned(),
            upserts: vec![state_rows(10)],
            deletes: vec![keys],
            closed: Some(50),
        };
        table.write(&delta, &mut StateWriter::new(&store, origin())).expect("written");
        let file = table.files()[0].clone();
        (store.objects().get(&file.object).expect("there").to_vec(), file)
    })
}

fn read_state(bytes: &[u8], entry: &StateFile) -> Result<Vec<String>> {
    let mut table = Table::restored(table_spec(), GROUPS, std::slice::from_ref(entry));
    let mut texts = Vec::new();
    table.read(&OneObject(bytes), &mut |rows| {
        sound(&rows);
        assert_eq!(rows.schema_ref().fields(), table_spec().schema.fields());
        texts.extend(crate::formats::texts(&rows));
        Ok(())
    })?;
    Ok(texts)
}

fn state_bytes(input: &[u8]) -> Verdict {
    let check = |bytes: &[u8], entry: &StateFile| match read_state(bytes, entry) {
        Ok(_) => Verdict::Accepted,
        Err(error) => refused(&error, &[Code::CorruptCheckpoint, Code::UnknownVersion]),
    };
    let _ = check(input, &written_state().1);
    let (sealed, rows) = resealed_state(input);
    let entry =
        StateFile { bytes: sealed.len() as u64, crc: crc32c::crc32c(&sealed), rows, ..written_state().1.clone() };
    check(&sealed, &entry)
}

/// Checksums of sections and footer made right, and the rows that the footer tells of.
fn resealed_state(bytes: &[u8]) -> (Vec<u8>, u64) {
    const TRAILER: usize = 20;
    let as_it_is = || (bytes.to_vec(), written_state().1.rows);
    let Some(end) = bytes.len().checked_sub(TRAILER) else { return as_it_is() };
    let length = bytes.get(end..end + 4).and_then(|field| field.try_into().ok()).map_or(0, u32::from_le_bytes);
    let Some(start) = end.checked_sub(length as usize) else { return as_it_is() };
    let mut rows: u64 = 0;
    let mut footer = bytes[start..end].to_vec();
    if let Ok(mut json) = serde_json::from_slice::<serde_json::Value>(&footer) {
        for section in json.get_mut("sections").and_then(|list| list.as_array_mut()).into_iter().flatten() {
            let number = |name: &str| section[name].as_u64().and_then(|number| usize::try_from(number).ok());
            let range = number("start").zip(number("length")).and_then(|(at, n)| Some(at..at.checked_add(n)?));
            let crc = range.and_then(|range| bytes.get(range)).map(crc32c::crc32c);
            rows = rows.wrapping_add(section["rows"].as_u64().unwrap_or(0));
            if let (Some(section), Some(crc)) = (section.as_object_mut(), crc) {
                section.insert("crc".to_owned(), crc.into());
            }
        }
        footer = serde_json::to_vec(&json).unwrap_or(footer);
    }
    let (length, crc) = (footer.len() as u32, crc32c::crc32c(&footer));
    let trailer = [&length.to_le_bytes()[..], &crc.to_le_bytes()[..], &bytes[end + 8..]].concat();
    ([&bytes[..start], &footer, &trailer].concat(), rows)
}

fn state_meaning(input: &[u8]) -> Option<String> {
    read_state(input, &written_state().1).ok().map(|texts| texts.join("\n"))
}

fn state_seeds() -> Vec<Seed> {
    vec![("ok-rows".to_owned(), written_state().0.clone()), ("bad-empty".to_owned(), Vec::new())]
}

/// The journal of a coordinator: a row of it per line.
pub const JOURNAL: Target = Target {
    name: "journal",
    body: journal,
    form: Form::Text,
    meaning: None,
    seeds: journal_seeds,
    rounds: 200,
    memory: (24 << 20, 1 << 10),
};

const JOURNAL_FOLDER: &str = "/commands";

fn journal(input: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(input) else { return Verdict::Refused };
    let sim = Env::sim(1);
    let rows: Vec<&str> = text.lines().collect();
    let column: ArrayRef = Arc::new(StringArray::from(rows.clone()));
    let schema = Arc::new(Schema::new(vec![Field::new("command", DataType::Utf8, false)]));
    let batch = RecordBatch::try_new(schema, vec![column]).expect("one column");
    {
        let topics = Topics::open(sim.env.clone(), JOURNAL_FOLDER, GroupCommit::inline()).expect("a folder");
        let topic = topics.create(&Name::new("commands").expect("a name"), TopicSpec::new(1)).expect("a topic");
        let begins_segment = rows.first().is_some_and(|row| row.contains("snapshot"));
        let options = AppendOptions { begins_segment, ..AppendOptions::default() };
        topic.append(0, &batch, &options).expect("rows");
    }
    let folder = Path::new(JOURNAL_FOLDER);
    let codes = &[Code::UnknownVersion, Code::CorruptLog];
    let mut verdict = Verdict::Accepted;
    for reach in [raft::Reach::History, raft::Reach::State] {
        if let Err(error) = raft::look(&sim.env, folder, reach, u64::MAX) {
            verdict = refused(&error, codes);
        }
    }
    // A member opens it to go on from there; one that is planted only looks whether there is something.
    let planted = raft::plant(&sim.env, folder, &BTreeMap::new(), State::default(), Vec::new());
    if let Err(error) = planted {
        refused(&error, &[codes, &[Code::Usage][..]].concat());
        if error.code() != Code::Usage {
            return Verdict::Refused;
        }
    }
    verdict
}

fn journal_seeds() -> Vec<Seed> {
    let sim = Env::sim(1);
    let members = BTreeMap::from([(1, "host:7001".to_owned())]);
    raft::plant(&sim.env, Path::new(JOURNAL_FOLDER), &members, state(), Vec::new()).expect("planted");
    let topics = Topics::open_read_only(sim.env.clone(), JOURNAL_FOLDER);
    let topic = topics.topic(&Name::new("commands").expect("a name")).expect("a topic");
    let mut batches = topic.read_to_latest(0, Start::Earliest, Isolation::Committed).expect("rows");
    let mut texts = Vec::new();
    while let Some(batch) = batches.next().expect("rows") {
        texts.extend(crate::formats::texts(&batch.rows));
    }
    let entry = |index: u64, more: serde_json::Value| {
        let mut row = serde_json::json!({
            "row": "entry",
            "id": {"leader_id": 1, "index": index},
        });
        row.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        row.to_string()
    };
    let commands = commands();
    let entries: Vec<String> = (2..)
        .zip(&commands[3..6])
        .map(|(index, command)| entry(index, serde_json::json!({"at_ms": index, "command": command})))
        .collect();
    let from_the_start: Vec<String> = (1..)
        .zip(&commands[..4])
        .map(|(index, command)| entry(index, serde_json::json!({"at_ms": index, "command": command})))
        .collect();
    let truncate = r#"{"row":"truncate","after":{"leader_id":1,"index":2}}"#;
    let vote = r#"{"row":"vote","vote":{"leader_id":{"term":2,"voted_for":1},"committed":true}}"#;
    let lines = |parts: &[&[String]]| {
        let lines: Vec<String> = parts.concat();
        (lines.join("\n") + "\n").into_bytes()
    };
    vec![
        ("ok-snapshot".to_owned(), lines(&[&texts])),
        ("ok-entries-behind-a-snapshot".to_owned(), lines(&[&texts, &entries, &[vote.to_owned()]])),
        (
            "ok-entries".to_owned(),
            lines(&[&[vote.to_owned(), entry(0, serde_json::json!({}))], &from_the_start, &[truncate.to_owned()]]),
        ),
        ("bad-row".to_owned(), b"{\"row\":\"nothing\"}\n".to_vec()),
        ("bad-gap".to_owned(), lines(&[&texts, &entries[1..]])),
    ]
}

/// What an epoch of a file sink made visible.
pub const COMMIT_RECORD: Target = Target {
    name: "commit_record",
    body: commit_record,
    form: Form::Text,
    meaning: Some(commit_meaning),
    seeds: commit_seeds,
    rounds: 2_000,
    memory: MODEST,
};

fn read_commit(bytes: &[u8]) -> Result<CommitRecord> {
    let sim = Env::sim(1);
    let path = Path::new("/out/record.json");
    put(&sim.env, path, bytes);
    let record = committed::read_record(sim.env.disk.as_ref(), path)?;
    Ok(record.expect("it is there"))
}

fn commit_record(input: &[u8]) -> Verdict {
    let check = |bytes: &[u8]| match read_commit(bytes) {
        Ok(record) => {
            let written = serde_json::to_vec(&record).expect("a record is JSON");
            assert!(read_commit(&written).expect("what was written is read") == record);
            Verdict::Accepted
        }
        Err(error) => refused(&error, &[Code::CorruptCheckpoint, Code::UnknownVersion]),
    };
    let as_it_is = check(input);
    let Ok(record) = serde_json::from_slice::<CommitRecord>(input) else { return as_it_is };
    let mut record = CommitRecord { record_crc32c: 0, ..record };
    record.record_crc32c = crc32c::crc32c(&serde_json::to_vec(&record).expect("a record is JSON"));
    check(&serde_json::to_vec(&record).expect("a record is JSON"))
}

fn commit_meaning(input: &[u8]) -> Option<String> {
    read_commit(input).ok().map(|record| format!("{record:?}"))
}

/// The record that a real sink leaves.
fn commit_seeds() -> Vec<Seed> {
    let sim = Env::sim(1);
    let topics = Arc::new(Topics::open_read_only(sim.env.clone(), "/topics"));
    let registry = Registry::new(Context { env: sim.env.clone(), topics, base: "/".into() });
    let rows = crate::formats::rows();
    let options = [("connector", "filesystem"), ("path", "/out"), ("format", "json")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()));
    let table = TableDescriptor {
        name: "out".to_owned(),
        connector: "filesystem".to_owned(),
        options: options.into_iter().collect(),
        physical: rows.schema(),
        metadata: Vec::new(),
        primary_key: Vec::new(),
        partitioned_by: vec!["s".to_owned()],
    };
    let node = SinkNode::of_table(table);
    let sink = registry.sink(&node, rows.schema()).expect("a sink");
    let mut writer = sink.writer(origin().subtask, TOKEN).expect("a writer");
    writer.write(Epoch(5), &rows).expect("rows");
    let handles = writer.prepare(Epoch(5)).expect("prepared");
    let permit = CommitPermit {
        token: TOKEN,
        epoch: Epoch(5),
        manifest_key: manifest_key().to_string(),
        handles: handles.clone(),
    };
    let scope = CommitScope { operator: origin().subtask.operator, channel: SinkChannel::Table };
    sink.commit(scope, &permit, &handles).expect("committed");
    let paths = committed::record_paths(sim.env.disk.as_ref(), Path::new("/out"), None).expect("records");
    let found = files(&sim.env, Path::new("/out")).into_iter().filter(|(path, _)| paths.contains(path));
    let mut seeds: Vec<Seed> = found.map(|(_, bytes)| ("ok-record".to_owned(), bytes)).collect();
    assert_eq!(seeds.len(), 1, "one record");
    seeds.push(("bad-version".to_owned(), br#"{"version":9}"#.to_vec()));
    seeds
}

/// A small file whose last line is the checksum of those before: ids of folders, of clusters and of nodes.
pub const SMALL_FILE: Target = Target {
    name: "small_file",
    body: small,
    form: Form::Text,
    meaning: Some(small_meaning),
    seeds: small_seeds,
    rounds: 5_000,
    memory: MODEST,
};

fn small(input: &[u8]) -> Verdict {
    let sim = Env::sim(1);
    put(&sim.env, Path::new("/f"), input);
    let read = small_file::read_sealed(&sim.env, Path::new("/f"), 1 << 20, "it is damaged");
    match read {
        Ok(lines) => {
            let lines = lines.expect("it is there");
            assert_eq!(small_file::sealed(&lines), input, "one spelling");
            Verdict::Accepted
        }
        Err(error) => {
            // With a checksum made right any text is one.
            if let Ok(text) = std::str::from_utf8(input) {
                let lines = format!("{}\n", text.trim_end_matches('\n'));
                assert_eq!(small_file::unsealed(&small_file::sealed(&lines)), Some(lines.as_str()));
            }
            refused(&error, &[Code::CorruptLog])
        }
    }
}

fn small_meaning(input: &[u8]) -> Option<String> {
    small_file::unsealed(input).map(str::to_owned)
}

fn small_seeds() -> Vec<Seed> {
    vec![
        ("ok-id".to_owned(), small_file::sealed(&format!("{:032x}\n", 7))),
        ("ok-node".to_owned(), small_file::sealed("000000000000002a 12\n")),
        ("ok-nothing".to_owned(), small_file::sealed("")),
        ("bad-no-line".to_owned(), b"7".to_vec()),
    ]
}
