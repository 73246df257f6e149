//! The proof that every command ends in which says of a user's own jobs that nothing is lost and nothing doubled:
//! `audit`, `chaos` and `sim` have one report, one verdict and one meaning of the exit status.

mod report;

pub(crate) use report::{Detail, Judged, Proof, command_line, quoted};
