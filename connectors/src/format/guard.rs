//! Decoders that panic on damaged bytes: the arrow and parquet crates follow some numbers of a file unchecked.
//!
//! Such a panic is an error of the input and not of a task: it is caught where it happens.

use arrow::error::ArrowError;
use qanat_proto::error::Result;
use qanat_proto::ipc::caught;

use super::columnar::corrupt;
use super::stream::FileInput;

/// Lets a library read `input`; what it says of it, and a panic in it, is E0208. What it worked on is to be
/// thrown away then.
pub(super) fn guarded<T, E: std::error::Error + 'static>(
    input: &FileInput,
    act: impl FnOnce() -> Result<T, E>,
) -> Result<T> {
    match caught(act) {
        Ok(result) => result.map_err(|e| corrupt(input, &e)),
        Err(panic) => Err(corrupt(input, &ArrowError::ParseError(panic))),
    }
}
