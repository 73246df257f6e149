//! The limit for the size of a file (`ulimit -f`).

use qanat_proto::{Error, Result};
use tokio::signal::unix::{SignalKind, signal};

/// A write beyond the limit is an error like that of a full disk from now on: by default the process ends.
///
/// # Errors
/// If the system refuses.
pub(crate) fn outlive() -> Result<()> {
    let failed = |e: std::io::Error| Error::io("listen for signals", &e);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let _guard = runtime.enter();
    // Whoever listens once takes the signal's effect away for good.
    signal(SignalKind::from_raw(libc::SIGXFSZ)).map(drop).map_err(failed)
}
