//! What topics and jobs hold, read from where it is kept: the folder of one process, or the storage of a cluster.
//! The command line uses it on a folder, a coordinator when it is asked by a client; both then show the same.
//!
//! Nothing here changes anything.

pub(crate) mod checkpoints;
pub(crate) mod side;
pub(crate) mod tail;
pub(crate) mod topics;
