//! The rules of the epoch protocol, each by the schedule that breaks without it, and random walks.

mod owed;
mod rollback;
mod rules;
mod savepoints;
mod schedules;
mod walk;
mod world;
