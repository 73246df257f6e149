//! Conformance: what any connector must hold, whatever it reads from or writes to. A connector's own
//! tests call these.

pub(crate) mod sink;
pub(crate) mod source;
