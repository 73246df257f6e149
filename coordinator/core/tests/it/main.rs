//! The rules of the epoch protocol, each by the schedule that breaks without it, and random walks.

mod rules;
mod schedules;
mod walk;
mod world;
