//! A stack that is deep enough for the recursive parser and planner.
//!
//! sqlparser and DataFusion recurse once per level of nesting, with frames of tens of kilobytes in a
//! debug build. The limits (`SQL_DEPTH_MAX`, `SQL_CHAIN_MAX`) bound the recursion; this bounds what a
//! caller's own stack has to hold. Memory is only touched as far as it is used.

use qanat_proto::{Error, Result};

/// Room for `SQL_CHAIN_MAX` levels in an unoptimised build, with a margin.
const STACK_BYTES: usize = 256 << 20;

/// Runs `work` on a thread with a deep stack and waits for it. A panic in `work` becomes E0503.
///
/// # Errors
/// What `work` gives; E0503 if it panicked, E0214 if no thread could be started.
pub fn on_deep_stack<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("sql".to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, work)
            .map_err(|error| Error::io("start a thread for the planner", &error))?;
        thread.join().unwrap_or_else(|panic| {
            let what = panic
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_default();
            Err(Error::internal(format!("the planner stopped on this text: {what}"))
                .hint("please report the statement; it is a bug"))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error() {
        let error = on_deep_stack::<()>(|| panic!("no such rule")).expect_err("panicked");
        assert!(error.message().contains("no such rule"), "{error}");
    }
}
