//! Queries of the Nexmark benchmark as loops written by hand over decoded columns: what one core can do at most.
//!
//! One loop for each class of queries. A loop has exact keys in hash maps, writes every column of its answer into fresh
//! buffers, tells an updated row once for each batch that changed it, and closes a window when the latest time seen less
//! 4 s passes its end. It knows its query: no SQL, no checkpoints, no threads, no late rows.

pub mod events;
mod join;
mod out;
mod rank;
mod stateless;
mod total;
mod window;

use events::Batch;
pub use out::Out;

/// A query, fed batch by batch.
pub trait Loop<'a> {
    fn batch(&mut self, at: u32, batch: &Batch<'a>, out: &mut Out);

    /// All rows are there.
    fn end(&mut self, _out: &mut Out) {}

    /// Rows of the answer, of a query that updates; otherwise it is all rows that were written.
    fn rows(&self) -> Option<u64> {
        None
    }
}

/// The queries that there are loops for.
pub const QUERIES: [&str; 11] = ["q1", "q4", "q5", "q8", "q9", "q11", "q15", "q17", "q18", "q19", "q22"];

/// The loop of a query over these batches, which it may look into again.
pub fn query<'a>(name: &str, batches: &'a [Batch<'a>]) -> Option<Box<dyn Loop<'a> + 'a>> {
    Some(match name {
        "q1" => Box::new(stateless::Currency),
        "q4" => Box::new(join::CategoryAverage::default()),
        "q5" => Box::new(window::HotItems::default()),
        "q8" => Box::new(window::NewUsers::default()),
        "q9" => Box::new(join::WinningBids::new(batches)),
        "q11" => Box::new(window::Sessions::default()),
        "q15" => Box::new(total::Distinct::default()),
        "q17" => Box::new(total::PerAuction::default()),
        "q18" => Box::new(rank::LastBid::new(batches)),
        "q19" => Box::new(rank::TopBids::new(batches)),
        "q22" => Box::new(stateless::Parts),
        _ => return None,
    })
}

/// A row of an earlier batch.
#[derive(Clone, Copy, Default)]
struct Place {
    batch: u32,
    row: u32,
}
