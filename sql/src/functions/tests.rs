//! Tables of calls and their hand-computed results.
