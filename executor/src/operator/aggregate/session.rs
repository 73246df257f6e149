//! Session windows: rows of a key that follow each other within a gap.
//!
//! - [`SessionAggregate`]: one result per closed session.
//! - [`SessionWindow`]: the rows of a session, with its bounds, when it closes.
//!
//! Both run behind the shuffle, in one phase. `keyed` is what they share: `book` keeps which sessions are open; each open session
//! owns *parts*, rows of immutable column runs in `parts`: accumulator states or the rows themselves.
//! What must never happen: a row beside a session that fired and should have held it (it is late), or a
//! session whose bounds depend on the order in which its rows came.

mod aggregate;
mod book;
mod keyed;
mod parts;
mod window;

pub use aggregate::SessionAggregate;
pub use window::SessionWindow;
