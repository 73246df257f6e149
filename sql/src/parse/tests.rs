//! Parse cases.
