//! Decoders that panic on damaged bytes: the arrow and parquet crates follow some numbers of a file unchecked.
//!
//! Such a panic is an error of the input and not of a task: it is caught where it happens, and says
//! nothing on stderr.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

use arrow::error::ArrowError;
use qanat_proto::error::Result;

use super::columnar::corrupt;
use super::stream::FileInput;

thread_local! {
    static IS_GUARDED: Cell<bool> = const { Cell::new(false) };
}

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

/// What `act` gives, or the text of its panic.
fn caught<T>(act: impl FnOnce() -> T) -> Result<T, String> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let loud = take_hook();
        set_hook(Box::new(move |panic| {
            if !IS_GUARDED.get() {
                loud(panic);
            }
        }));
    });
    let before = IS_GUARDED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(act));
    IS_GUARDED.set(before);
    result.map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        text.unwrap_or("its buffers lie elsewhere").to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error() {
        assert_eq!(caught(|| 3).expect("no panic"), 3);
        let error = caught(|| assert_eq!(1, 2, "offset")).expect_err("a panic");
        assert!(error.contains("offset"), "{error}");
        assert!(!IS_GUARDED.get());
    }
}
