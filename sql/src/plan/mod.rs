//! A script's statements, in order, to plans and then to graphs.

pub(crate) mod context;
mod culprit;
pub(crate) mod expand;
pub(crate) mod failure;
mod listing;
mod optimize;
mod relations;
mod script;
pub(crate) mod state_ttl;
pub(crate) mod table;
pub(crate) mod temporal;
mod values;
mod view;
pub(crate) mod window_table;

pub(crate) use script::plan;
