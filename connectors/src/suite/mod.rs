//! Conformance: what proves an implementation of the traits of [`crate::contract`].

pub(crate) mod source;
