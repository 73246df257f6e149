//! Rows as Flink prints them: `+I[2013-01-01 10:00:00.000, JFK, 12]`.

use arrow::array::RecordBatch;
use qanat_proto::changelog::RowKind;
use qanat_proto::error::Result;

use crate::encode::kinds;
use crate::encode::text::ColumnText;

/// Appends one line per row. Nulls are `null`; line ends within texts are escaped, so that a row stays a line.
///
/// # Errors
/// E0217 for a value that has no text.
pub fn write_rows(rows: &RecordBatch, prefix: &str, out: &mut Vec<u8>) -> Result<()> {
    let kinds = kinds::of_rows(rows)?;
    let width = rows.num_columns() - usize::from(kinds.is_some());
    let columns = rows.columns().iter().take(width).map(|c| ColumnText::new(c.as_ref())).collect::<Result<Vec<_>>>()?;
    for row in 0..rows.num_rows() {
        out.extend_from_slice(prefix.as_bytes());
        let kind = kinds.as_ref().and_then(|kinds| kinds.get(row)).copied().unwrap_or(RowKind::Insert);
        out.extend_from_slice(kind.short().as_bytes());
        out.push(b'[');
        for (i, column) in columns.iter().enumerate() {
            if i > 0 {
                out.extend_from_slice(b", ");
            }
            if column.is_null(row) {
                out.extend_from_slice(b"null");
            } else if let Some(text) = column.text(row).filter(|text| text.contains(['\n', '\r'])) {
                out.extend_from_slice(text.replace('\n', "\\n").replace('\r', "\\r").as_bytes());
            } else {
                column.write(row, out)?;
            }
        }
        out.extend_from_slice(b"]\n");
    }
    Ok(())
}
