//! What executors send each other: Flight's messages, with elements of channels beside the rows.

use arrow::datatypes::SchemaRef;
use arrow_flight::{FlightData, FlightDescriptor};
use prost::Message;
use qanat_executor::exchange::{Asked, Pair, elements, messages};
use qanat_executor::task::channel::Element;
use qanat_proto::Code;
use qanat_proto::ids::Epoch;
use qanat_proto::receipt::{RowHash, RowSum};
use qanat_proto::rpc::exchange::Open;
use qanat_proto::settings::ExchangeCompression;

use crate::mutate::Form;
use crate::verdict::{refused, sound};
use crate::{MODEST, ROOMY, Seed, Target, Verdict};

/// A message of an edge.
pub const ROWS: Target = Target {
    name: "exchange",
    body: rows,
    form: Form::Bytes,
    meaning: None,
    seeds: row_seeds,
    rounds: 3_000,
    // A compressed buffer of zeros may be a thousand times as long.
    memory: ROOMY,
};

fn rows(input: &[u8]) -> Verdict {
    let Ok(message) = FlightData::decode(input) else { return Verdict::Refused };
    let schema = schema();
    let found = match elements(&message, &schema) {
        Ok(found) => found,
        Err(error) => return refused(&error, &[Code::Internal]),
    };
    for (_, element) in &found {
        if let Element::Batch { rows, .. } = element {
            assert_eq!(rows.schema_ref().fields(), schema.fields());
            sound(rows);
        }
    }
    let sent = messages(found.clone(), &schema, ExchangeCompression::None).expect("what came can be sent on");
    let again = sent.iter().map(|message| elements(message, &schema).expect("what was sent arrives"));
    let again: Vec<(Pair, Element)> = again.flatten().collect();
    assert_eq!(again.len(), found.len());
    for (again, found) in again.iter().zip(&found) {
        assert_eq!(again.0, found.0);
        match (&again.1, &found.1) {
            (Element::Batch { rows, sum, bytes }, Element::Batch { rows: before, sum: told, bytes: counted }) => {
                assert_eq!((sum, bytes), (told, counted));
                assert_eq!(crate::formats::texts(rows), crate::formats::texts(before));
            }
            (again, found) => assert_eq!(format!("{again:?}"), format!("{found:?}")),
        }
    }
    Verdict::Accepted
}

fn schema() -> SchemaRef {
    crate::formats::rows().schema()
}

fn row_seeds() -> Vec<Seed> {
    let rows = crate::formats::rows();
    let sum = RowSum { rows: rows.num_rows() as u64, hash: RowHash(77) };
    let pair = Pair { sender: 1, receiver: 2 };
    let mut seeds = Vec::new();
    for (name, compression) in [("plain", ExchangeCompression::None), ("lz4", ExchangeCompression::Lz4)] {
        let all = vec![
            (pair, Element::Watermark(-5)),
            (pair, Element::batch(rows.clone(), sum)),
            (pair, Element::Active),
            (Pair { sender: 0, receiver: 0 }, Element::Idle),
            (pair, Element::Barrier(Epoch(9))),
        ];
        let sent = messages(all, &schema(), compression).expect("our own");
        let named = |(index, message): (usize, &FlightData)| (format!("ok-{name}-{index}"), message.encode_to_vec());
        seeds.extend(sent.iter().enumerate().map(named));
    }
    seeds.push(("ok-nothing-but-a-schema".to_owned(), first().encode_to_vec()));
    seeds
}

/// The first message of an exchange.
pub const OPENING: Target = Target {
    name: "exchange_opening",
    body: opening,
    form: Form::Bytes,
    meaning: None,
    seeds: opening_seeds,
    rounds: 6_000,
    memory: MODEST,
};

fn opening(input: &[u8]) -> Verdict {
    let Ok(message) = FlightData::decode(input) else { return Verdict::Refused };
    match Asked::of(&message).and_then(|asked| Asked::schema(&message).map(|schema| (asked, schema))) {
        Ok((asked, schema)) => {
            // What is compared with the schema of the edge.
            assert!(schema == schema.clone());
            assert_eq!(asked.token.to_string(), open_of(&message).token);
            Verdict::Accepted
        }
        Err(what) => {
            assert!(!what.is_empty());
            Verdict::Refused
        }
    }
}

fn open_of(message: &FlightData) -> Open {
    let command = message.flight_descriptor.as_ref().map(|descriptor| descriptor.cmd.clone()).unwrap_or_default();
    Open::decode(command).expect("it was decoded before")
}

fn first() -> FlightData {
    let open = Open {
        token: format!("{:032x}.3", 7),
        start: format!("{:016x}", 5),
        from: format!("{:016x}", 1),
        to: format!("{:016x}", 2),
        port: 0,
        cluster: "orchard".to_owned(),
    };
    let mut head = arrow::ipc::writer::StreamEncoder::try_new_with_options(&schema(), Default::default());
    let pieces = head.as_mut().expect("options").encode(&crate::formats::rows()).expect("our own rows");
    FlightData {
        flight_descriptor: Some(FlightDescriptor::new_cmd(open.encode_to_vec())),
        data_header: bytes::Bytes::copy_from_slice(&pieces[1]),
        ..FlightData::default()
    }
}

fn opening_seeds() -> Vec<Seed> {
    let nameless = FlightData { flight_descriptor: None, ..first() };
    let schemaless = FlightData { data_header: bytes::Bytes::new(), ..first() };
    let tokenless = FlightDescriptor::new_cmd(Open { token: "7".to_owned(), ..open_of(&first()) }.encode_to_vec());
    let tokenless = FlightData { flight_descriptor: Some(tokenless), ..first() };
    vec![
        ("bad-token".to_owned(), tokenless.encode_to_vec()),
        ("ok-open".to_owned(), first().encode_to_vec()),
        ("bad-no-descriptor".to_owned(), nameless.encode_to_vec()),
        ("bad-no-schema".to_owned(), schemaless.encode_to_vec()),
    ]
}
