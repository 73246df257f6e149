//! The data plane's decisions as pure functions: partitioning, row hashes, watermarks, barriers, windows.
//!
//! Nothing here reads a clock, a file or a random source, and nothing blocks: inputs are arguments and
//! intentions are return values. The same functions run in production, in the simulator and under the
//! model checker. `qanat-executor` is the shell around them.

#![warn(missing_docs)]

pub mod alignment;
pub mod barrier;
pub mod canonical;
pub mod control;
pub mod epoch_size;
pub mod partition;
pub mod receipt;
pub mod said;
pub mod session;
pub mod watermark;
pub mod window;
