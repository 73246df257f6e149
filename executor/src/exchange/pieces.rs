//! Several batches as the message of one: Arrow's form of a record batch whose buffers stay in pieces where they are.
//! Joining them first would be one copy more of every row, next to the copy to the connection.

use arrow::array::types::{BinaryType, ByteArrayType, Utf8Type};
use arrow::array::{Array, AsArray, BooleanBufferBuilder, GenericByteArray, RecordBatch, downcast_primitive_array};
use arrow::buffer::Buffer;
use arrow::datatypes::DataType;
use arrow::ipc::{self, FieldNode, MessageBuilder, MessageHeader, MetadataVersion, RecordBatchBuilder};
use arrow_flight::FlightData;
use bytes::Bytes;
use flatbuffers::FlatBufferBuilder;
use qanat_proto::{Error, Result};

use crate::exchange::message::Message;

/// Buffers begin at a multiple of so many bytes of the body, as Arrow advises.
const ALIGNMENT: usize = 64;

/// Whether columns of these types can go in pieces.
pub(super) fn are_direct<'a>(types: impl IntoIterator<Item = &'a DataType>) -> bool {
    types.into_iter().all(|of| of.primitive_width().is_some() || matches!(of, DataType::Utf8 | DataType::Binary))
}

/// The message of `pieces`, of the same columns, as one batch.
///
/// # Errors
/// E0503 for columns that are not direct ([`are_direct`]), or pieces that do not fit together.
pub(super) fn message_of(pieces: &[RecordBatch]) -> Result<Message> {
    let wrong = || Error::internal("batches of different columns cannot go as one");
    let columns = pieces.first().map_or(0, RecordBatch::num_columns);
    let rows = pieces.iter().map(RecordBatch::num_rows).sum();
    let mut body = Body { padding: Buffer::from_vec(vec![0_u8; ALIGNMENT]), ..Body::default() };
    let mut nodes = Vec::with_capacity(columns);
    for index in 0..columns {
        let arrays: Option<Vec<&dyn Array>> =
            pieces.iter().map(|piece| piece.columns().get(index).map(AsRef::as_ref)).collect();
        let arrays = arrays.ok_or_else(wrong)?;
        let of = arrays.first().map(|array| array.data_type()).ok_or_else(wrong)?;
        if arrays.iter().any(|array| array.data_type() != of) {
            return Err(wrong());
        }
        nodes.push(FieldNode::new(rows as i64, body.validity(&arrays, rows) as i64));
        match (of, of.primitive_width()) {
            (_, Some(width)) => body.values(&arrays, width)?,
            (DataType::Utf8, None) => body.bytes::<Utf8Type>(&arrays, rows)?,
            (DataType::Binary, None) => body.bytes::<BinaryType>(&arrays, rows)?,
            _ => return Err(wrong()),
        }
    }
    let header = header_of(rows, &nodes, &body);
    Ok(Message { head: FlightData { data_header: header, ..FlightData::default() }, body: body.pieces })
}

fn header_of(rows: usize, nodes: &[FieldNode], body: &Body) -> Bytes {
    let mut builder = FlatBufferBuilder::new();
    let (nodes, buffers) = (builder.create_vector(nodes), builder.create_vector(&body.buffers));
    let mut batch = RecordBatchBuilder::new(&mut builder);
    batch.add_length(rows as i64);
    batch.add_nodes(nodes);
    batch.add_buffers(buffers);
    let batch = batch.finish().as_union_value();
    let mut message = MessageBuilder::new(&mut builder);
    message.add_version(MetadataVersion::V5);
    message.add_header_type(MessageHeader::RecordBatch);
    message.add_bodyLength(body.end as i64);
    message.add_header(batch);
    let message = message.finish();
    builder.finish(message, None);
    Bytes::copy_from_slice(builder.finished_data())
}

#[derive(Default)]
struct Body {
    pieces: Vec<Buffer>,
    /// Where Arrow's buffers stand in it.
    buffers: Vec<ipc::Buffer>,
    begin: usize,
    end: usize,
    padding: Buffer,
}

impl Body {
    fn push(&mut self, piece: Buffer) {
        if !piece.is_empty() {
            self.end += piece.len();
            self.pieces.push(piece);
        }
    }

    /// What was pushed since the last one is a buffer.
    fn finish_buffer(&mut self) {
        self.buffers.push(ipc::Buffer::new(self.begin as i64, (self.end - self.begin) as i64));
        let padding = self.end.next_multiple_of(ALIGNMENT) - self.end;
        self.push(self.padding.slice_with_length(0, padding));
        self.begin = self.end;
    }

    /// Which rows are no NULL, if there is one; the number of those that are.
    fn validity(&mut self, arrays: &[&dyn Array], rows: usize) -> usize {
        let nulls = arrays.iter().map(|array| array.null_count()).sum();
        if nulls > 0 {
            let mut valid = BooleanBufferBuilder::new(rows);
            for array in arrays {
                match array.nulls() {
                    Some(nulls) => valid.append_buffer(nulls.inner()),
                    None => valid.append_n(array.len(), true),
                }
            }
            self.push(valid.finish().into_inner());
        }
        self.finish_buffer();
        nulls
    }

    /// Values that take `width` bytes each.
    fn values(&mut self, arrays: &[&dyn Array], width: usize) -> Result<()> {
        for &array in arrays {
            downcast_primitive_array!(
                array => self.push(array.values().inner().slice_with_length(0, array.len() * width)),
                _ => return Err(Error::internal("a column of unknown width cannot be sent"))
            );
        }
        self.finish_buffer();
        Ok(())
    }

    /// Offsets, and the bytes between them.
    fn bytes<T: ByteArrayType<Offset = i32>>(&mut self, arrays: &[&dyn Array], rows: usize) -> Result<()> {
        let arrays = || arrays.iter().map(|array| array.as_bytes::<T>());
        let mut offsets: Vec<i32> = Vec::with_capacity(rows + 1);
        let mut end = 0_i32;
        offsets.push(end);
        for array in arrays() {
            let (from, to) = ends(array);
            offsets.extend(array.value_offsets().iter().skip(1).map(|offset| offset - from + end));
            let more = end.checked_add(to - from);
            end = more.ok_or_else(|| Error::internal("a batch of more than 2 GiB cannot be sent"))?;
        }
        self.push(Buffer::from_vec(offsets));
        self.finish_buffer();
        for array in arrays() {
            let (from, to) = ends(array);
            self.push(array.values().slice_with_length(from as usize, (to - from) as usize));
        }
        self.finish_buffer();
        Ok(())
    }
}

/// Where the bytes of an array begin and end.
fn ends<T: ByteArrayType<Offset = i32>>(array: &GenericByteArray<T>) -> (i32, i32) {
    match array.value_offsets() {
        [from, .., to] => (*from, *to),
        _ => (0, 0),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, BinaryArray, Decimal128Array, Float32Array, Int64Array, StringArray};
    use arrow::compute::concat_batches;
    use proptest::prelude::*;

    use super::*;

    fn batch(rows: &[Option<(i64, String)>]) -> RecordBatch {
        let numbers = rows.iter().map(|row| row.as_ref().map(|(number, _)| *number));
        let texts = || rows.iter().map(|row| row.as_ref().map(|(_, text)| text.as_str()));
        let columns: [(&str, ArrayRef, bool); 5] = [
            ("n", Arc::new(Int64Array::from_iter(numbers.clone())), true),
            ("t", Arc::new(StringArray::from_iter(texts())), true),
            ("b", Arc::new(BinaryArray::from_iter_values(texts().map(Option::unwrap_or_default))), false),
            ("d", Arc::new(Decimal128Array::from_iter(numbers.clone().map(|n| n.map(i128::from)))), true),
            ("f", Arc::new(Float32Array::from_iter_values(numbers.map(|n| n.unwrap_or(1) as f32))), false),
        ];
        RecordBatch::try_from_iter_with_nullable(columns).expect("of one length")
    }

    proptest! {
        /// The same batch comes out as if the pieces had been joined before.
        #[test]
        fn pieces_arrive_as_one_batch(
            rows in prop::collection::vec(prop::option::weighted(0.8, (any::<i64>(), ".{0,12}")), 0..200),
            cuts in prop::collection::vec(0..200_usize, 0..6),
        ) {
            let whole = batch(&rows);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % (rows.len() + 1)).collect();
            cuts.extend([0, rows.len()]);
            cuts.sort_unstable();
            let pieces: Vec<RecordBatch> =
                cuts.windows(2).map(|cut| whole.slice(cut[0], cut[1] - cut[0])).collect();
            prop_assert!(are_direct(whole.schema().fields().iter().map(|field| field.data_type())));
            let message = message_of(&pieces).expect("direct");
            let body: Vec<u8> = message.body.iter().flat_map(|piece| piece.as_slice()).copied().collect();
            let header = ipc::root_as_message(&message.head.data_header).expect("a message");
            prop_assert_eq!(header.bodyLength() as usize, body.len());
            let found = ipc::reader::read_record_batch(
                &Buffer::from_vec(body),
                header.header_as_record_batch().expect("a batch"),
                whole.schema(),
                &Default::default(),
                None,
                &header.version(),
            );
            let found = found.expect("reads");
            for column in found.columns() {
                column.to_data().validate_full().expect("valid");
            }
            prop_assert_eq!(found, concat_batches(&whole.schema(), &pieces).expect("fit"));
        }
    }

    #[test]
    fn pieces_of_other_columns_are_refused() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["a"]));
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        let [texts, numbers] = [texts, numbers].map(|column| RecordBatch::try_from_iter([("c", column)]).expect("one"));
        assert!(message_of(&[texts, numbers]).is_err());
    }
}
