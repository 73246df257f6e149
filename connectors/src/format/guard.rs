//! Decoders that panic on damaged bytes: the arrow crate follows buffer offsets of a file unchecked.
//!
//! Such a panic is an error of the input and not of a task: it is caught where it happens, and says
//! nothing on stderr.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

use arrow::error::ArrowError;

thread_local! {
    static IS_GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `act`; a panic in it is a parse error. What it worked on is to be thrown away then.
pub(super) fn guarded<T>(act: impl FnOnce() -> T) -> Result<T, ArrowError> {
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
        ArrowError::ParseError(text.unwrap_or("its buffers lie elsewhere").to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error() {
        assert_eq!(guarded(|| 3).expect("no panic"), 3);
        let error = guarded(|| assert_eq!(1, 2, "offset")).expect_err("a panic");
        assert!(error.to_string().contains("offset"), "{error}");
        assert!(!IS_GUARDED.get());
    }
}
