//! The process dies at every named moment of an epoch, at the first and at a later pass, and the answer
//! stays the same.
