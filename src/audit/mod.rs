//! The proof that a run lost nothing and doubled nothing, or the first place where it did.

mod check;
mod evidence;
mod gather;
#[cfg(test)]
mod tests;

use std::path::Path;

use qanat_proto::Result;
use qanat_proto::audit::Report;

use crate::data_folder::{DataView, FoundJob};

/// Reads all there is of a run and judges it. `base` is what relative paths of file sinks are resolved against.
///
/// # Errors
/// What cannot be read at all; a damaged object is a difference and no error.
pub(crate) fn audit(view: &DataView, found: &FoundJob, base: &Path) -> Result<Report> {
    Ok(check::check(&gather::gather(view, found, base)?))
}
