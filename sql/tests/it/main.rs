//! The planner from outside: scripts in, graphs and errors out.

mod catalog;
mod graphs;
mod places;
mod refusals;
mod scripts;
