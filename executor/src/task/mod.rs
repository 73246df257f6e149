//! The loops that drive operators: the compute pool, the queues between subtasks, sources, chains and
//! sink lanes.

pub mod alignment;
pub mod chain;
pub mod channel;
pub mod coalesce;
pub mod collector;
pub mod lane;
pub mod pool;
pub mod router;
pub mod side;
pub mod source;
pub mod source_lane;
pub mod subtask;
