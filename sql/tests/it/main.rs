//! The planner from outside: scripts in, graphs and errors out.

mod catalog;
mod graphs;
mod refusals;
mod scripts;
