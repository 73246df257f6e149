//! `stdin`: records of the process's standard input, CSV or JSON lines.
//!
//! It cannot be read again: positions only count. A job that must survive a crash reads it through a
//! log topic. Waiting happens in `poll` with a bound, so that a silent input holds nobody up.

use std::io;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use qanat_proto::changelog::AcceptedChangelog;
use qanat_proto::connector::{
    ConnectorDescriptor, Delivery, OptionSpec, Role, SinkRouting, TableDescriptor, TableTraits,
};
use qanat_proto::error::{Error, Place, Result};
use qanat_proto::ids::SplitId;
use qanat_storage::env::Clock;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};

use crate::contract::{Context, ReadRequest, Source, Split, SplitReader};
use crate::filesystem::{FileSplitReader, FirstRow, Output};
use crate::format;
use crate::format::decode::FormatOptions;
use crate::format::reader::{DecodeRequest, Policy};
use crate::format::stream::{ByteStream, CHUNK_BYTES, Fill};
use crate::format::text::{Start, TextPosition, TextReader};
use crate::options::Options;
use crate::registry::Connector;

const NAME: &str = "stdin";
const FORMATS: &[&str] = &["csv", "json", format::DEBEZIUM];
/// Within what `SplitReader::next` may wait.
const WAIT: Duration = Duration::from_millis(20);

static OPTIONS: LazyLock<Vec<OptionSpec>> = LazyLock::new(|| format::COMMON.to_vec());

/// The connector's line in the registry.
pub struct Stdin;

impl Connector for Stdin {
    fn descriptor(&self) -> ConnectorDescriptor {
        ConnectorDescriptor {
            name: NAME,
            aliases: &[],
            doc: "Records of the standard input. Cannot be read again after a crash.",
            source: true,
            sink: false,
            lookup: false,
            formats: FORMATS,
            options: &OPTIONS,
        }
    }

    fn check(&self, table: &TableDescriptor, _role: Role) -> Result<TableTraits> {
        let format = format::of_table(table, FORMATS)?;
        let options = Options::check(table, &[&OPTIONS, format.options])?;
        FormatOptions::of(&options)?.check_columns(table)?;
        Ok(TableTraits {
            bounded: true,
            replayable: false,
            delivery: Delivery::None,
            routing: SinkRouting::Any,
            changelog: AcceptedChangelog::Append,
            gives: format::gives(table, &options)?,
        })
    }

    fn source(&self, context: &Context, table: &TableDescriptor, request: ReadRequest) -> Result<Arc<dyn Source>> {
        let open: OpenInput = Box::new(|| Box::new(Input) as Box<dyn ByteStream>);
        Ok(Arc::new(StdinSource::new(Arc::clone(&context.env.clock), table, request, open)?))
    }
}

type OpenInput = Box<dyn Fn() -> Box<dyn ByteStream> + Send + Sync>;

struct StdinSource {
    format: FormatOptions,
    policy: Policy,
    output: Output,
    decode: DecodeRequest,
    clock: Arc<dyn Clock>,
    input: OpenInput,
}

impl StdinSource {
    fn new(clock: Arc<dyn Clock>, table: &TableDescriptor, request: ReadRequest, input: OpenInput) -> Result<Self> {
        let format = format::of_table(table, FORMATS)?;
        let options = Options::check(table, &[&OPTIONS, format.options])?;
        let format = FormatOptions::of(&options)?;
        let policy = Policy::of(&options, format.name())?;
        let output = Output::new(&table.physical, &table.physical, &request)?.with_origin(NAME);
        let decode = DecodeRequest {
            columns: Arc::clone(&table.physical),
            projection: output.file_projection(),
            unread: request.unread.clone(),
            batch_rows: request.batch_rows,
            policy,
            origin: NAME.to_owned(),
            filter: None,
        };
        Ok(Self { format, policy, output, decode, clock, input })
    }
}

impl Source for StdinSource {
    fn discover(&self) -> Result<Vec<Split>> {
        let start = json!(TextPosition::default());
        Ok(vec![Split { id: SplitId(NAME.to_owned()), detail: Value::Null, start }])
    }

    fn is_growing(&self) -> bool {
        false
    }

    /// Whatever the position, the input goes on where it is: a new process has a new input, with its
    /// own header. Rows are counted on.
    fn open(&self, split: &Split, position: &Value) -> Result<Box<dyn SplitReader>> {
        let position: TextPosition = serde_json::from_value(position.clone())
            .map_err(|e| Error::internal(format!("split `{}` cannot be opened: {e}", split.id)))?;
        let decoder = self.format.record_decoder(self.decode.clone());
        let decoder = decoder.ok_or_else(|| Error::internal("standard input is not text"))?;
        let reader = TextReader::new((self.input)(), decoder, Start::FileStart, position, None);
        Ok(Box::new(FileSplitReader::new(
            Box::new(reader),
            self.output.clone(),
            NAME.to_owned(),
            FirstRow::Known(0),
            self.policy,
            Arc::clone(&self.clock),
            None,
            None,
        )))
    }
}

/// The standard input of the process, without a buffer of its own: what is not read stays there.
struct Input;

impl ByteStream for Input {
    fn fill(&mut self, buffer: &mut Vec<u8>) -> Result<Fill> {
        let failed = |e: rustix::io::Errno| {
            let place = Place::Origin { origin: NAME.to_owned(), offset: None, unit: String::new() };
            Error::io("read standard input", &io::Error::from(e)).at(place)
        };
        let input = rustix::stdio::stdin();
        let wait = Timespec { tv_sec: 0, tv_nsec: i64::from(WAIT.subsec_nanos()) };
        match poll(&mut [PollFd::new(&input, PollFlags::IN)], Some(&wait)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(Fill::Pending),
            Ok(_) => {}
            Err(e) => return Err(failed(e)),
        }
        let before = buffer.len();
        buffer.resize(before + CHUNK_BYTES, 0);
        let outcome = rustix::io::read(input, buffer.get_mut(before..).unwrap_or_default());
        buffer.truncate(before + outcome.unwrap_or(0));
        match outcome {
            Ok(0) => Ok(Fill::End),
            Ok(n) => Ok(Fill::Bytes(n)),
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => Ok(Fill::Pending),
            Err(e) => Err(failed(e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use arrow::array::AsArray;
    use arrow::datatypes::{DataType, Field, Int32Type, Schema};
    use qanat_storage::env::Env;

    use super::*;
    use crate::contract::{ReadOutcome, StopFlag};

    /// Pieces that come one by one, with waits between them.
    struct Script(VecDeque<Option<&'static str>>);

    impl ByteStream for Script {
        fn fill(&mut self, buffer: &mut Vec<u8>) -> Result<Fill> {
            Ok(match self.0.pop_front() {
                None => Fill::End,
                Some(None) => Fill::Pending,
                Some(Some(text)) => {
                    buffer.extend_from_slice(text.as_bytes());
                    Fill::Bytes(text.len())
                }
            })
        }
    }

    #[test]
    fn lines_come_as_they_arrive_and_positions_count() {
        let table = TableDescriptor {
            name: "t".to_owned(),
            connector: NAME.to_owned(),
            options: [("connector", NAME), ("format", "csv")].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            physical: Arc::new(Schema::new(vec![Field::new("a", DataType::Int32, true)])),
            metadata: Vec::new(),
            primary_key: Vec::new(),
            partitioned_by: Vec::new(),
        };
        assert!(!Stdin.check(&table, Role::Source).expect("good").replayable);
        let request = ReadRequest {
            projection: vec![0],
            unread: Vec::new(),
            metadata: Vec::new(),
            batch_rows: 10,
            bounded: true,
            filter: None,
        };
        let script = || Script([Some("a\n1\n2"), None, Some("3\nx\n"), None, Some("4")].into());
        let open: OpenInput = Box::new(move || Box::new(script()));
        let source = StdinSource::new(Env::real().clock, &table, request, open).expect("opens");
        let split = source.discover().expect("one").remove(0);
        let mut reader = source.open(&split, &split.start).expect("opens");
        let mut seen: Vec<(Vec<i32>, usize, Value)> = Vec::new();
        loop {
            match reader.next(&StopFlag::default()).expect("reads") {
                ReadOutcome::Batch(b) => {
                    let rows = b.rows.column(0).as_primitive::<Int32Type>().values().to_vec();
                    seen.push((rows, b.dead_letters.len(), b.position));
                }
                ReadOutcome::Pending => {}
                ReadOutcome::Away | ReadOutcome::End => break,
            }
        }
        assert_eq!(
            seen,
            [
                (vec![1], 0, json!({"byte": 4, "row": 1})),
                (vec![23], 1, json!({"byte": 9, "row": 3})),
                (vec![4], 0, json!({"byte": 10, "row": 4})),
            ]
        );
    }
}
