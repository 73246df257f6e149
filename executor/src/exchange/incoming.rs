//! The generations of this executor that other executors may send rows to.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arrow::datatypes::SchemaRef;
use qanat_proto::ids::{JobId, OperatorId, StartId, Token};
use qanat_proto::rpc::exchange::{Adopted, Backward, Credit};
use qanat_storage::env::Clock;
use tokio::sync::{Notify, watch};

use crate::exchange::taps::Tapped;
use crate::exchange::{EdgeKey, Pair};
use crate::node::Reporter;
use crate::tap::Tap;
use crate::task::channel::{Channel, FarSender};

/// The ends of one edge's channels in this process.
pub struct IncomingEdge {
    pub schema: SchemaRef,
    /// With the process that each one's sender runs in.
    pub channels: BTreeMap<Pair, (StartId, Arc<Channel>)>,
}

/// What is open for other executors, by job: the newest generation of each.
#[derive(Default)]
pub struct Incoming {
    opened: Mutex<BTreeMap<JobId, Arc<Opened>>>,
    fenced: AtomicU64,
}

/// One generation's ends.
pub(super) struct Opened {
    pub(super) token: Token,
    pub(super) edges: BTreeMap<EdgeKey, IncomingEdge>,
    pub(super) reporter: Reporter,
    /// Closed when the generation ends.
    pub(super) ended: watch::Receiver<()>,
    /// Of each exchange that was opened: a channel is opened once per token (P1).
    taken: Mutex<Vec<(EdgeKey, StartId)>>,
    /// The places behind its operators, once they may be looked at.
    taps: OnceLock<Taps>,
}

/// What [`Opening::offer`] took.
struct Taps {
    clock: Arc<dyn Clock>,
    by_operator: BTreeMap<OperatorId, Arc<Tap>>,
}

/// Keeps a generation open. Dropping it ends every exchange into it.
pub struct Opening {
    incoming: Arc<Incoming>,
    token: Token,
    _ends: watch::Sender<()>,
}

impl Incoming {
    fn map(&self) -> MutexGuard<'_, BTreeMap<JobId, Arc<Opened>>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Senders of older generations that were refused.
    pub fn fenced(&self) -> u64 {
        self.fenced.load(Ordering::Relaxed)
    }

    /// Opens a generation.
    pub fn open(self: &Arc<Self>, edges: BTreeMap<EdgeKey, IncomingEdge>, reporter: Reporter) -> Opening {
        let (ends, ended) = watch::channel(());
        let token = reporter.token();
        let opened = Opened { token, edges, reporter, ended, taken: Mutex::default(), taps: OnceLock::new() };
        self.map().insert(token.job, Arc::new(opened));
        Opening { incoming: self.clone(), token, _ends: ends }
    }

    /// The generation of a token, if it is the one that runs here.
    pub(super) fn find(&self, token: Token) -> Option<Arc<Opened>> {
        let opened = self.map().get(&token.job).cloned();
        // All receivers of a generation are open before its first sender starts: one that finds none is late.
        if opened.as_ref().is_none_or(|opened| opened.token > token) {
            self.fenced.fetch_add(1, Ordering::Relaxed);
        }
        opened.filter(|opened| opened.token == token)
    }
}

impl Incoming {
    /// The place behind an operator of a generation, if that is the one that runs here.
    pub(super) fn tapped(&self, token: Token, operator: OperatorId) -> Option<Tapped> {
        let opened = self.map().get(&token.job).cloned().filter(|opened| opened.token == token)?;
        let taps = opened.taps.get()?;
        let tap = taps.by_operator.get(&operator)?.clone();
        Some(Tapped { tap, clock: taps.clock.clone(), ended: opened.ended.clone() })
    }
}

impl Opening {
    /// Lets clients look at the rows behind operators.
    pub fn offer(&self, taps: BTreeMap<OperatorId, Arc<Tap>>, clock: Arc<dyn Clock>) {
        let opened = self.incoming.map().get(&self.token.job).cloned();
        if let Some(opened) = opened.filter(|opened| opened.token == self.token) {
            let _ = opened.taps.set(Taps { clock, by_operator: taps });
        }
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        let mut map = self.incoming.map();
        if map.get(&self.token.job).is_some_and(|opened| opened.token == self.token) {
            map.remove(&self.token.job);
        }
    }
}

impl Opened {
    /// Whether this sender has not opened the edge before.
    pub(super) fn take(&self, edge: EdgeKey, start: StartId) -> bool {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = !taken.contains(&(edge, start));
        if is_new {
            taken.push((edge, start));
        }
        is_new
    }
}

/// What the receiving end of one exchange owes its sender: gathered here by tasks, sent by the connection.
#[derive(Default)]
pub(super) struct Owed {
    book: Mutex<Book>,
    pub(super) changed: Notify,
}

#[derive(Default)]
struct Book {
    credits: BTreeMap<Pair, (u32, u64)>,
    adopted: BTreeMap<Pair, i64>,
}

impl Owed {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of it, to be sent. None if nothing is owed.
    pub(super) fn take(&self) -> Option<Backward> {
        let Book { credits, adopted } = std::mem::take(&mut *self.book());
        if credits.is_empty() && adopted.is_empty() {
            return None;
        }
        let credits = credits.into_iter().map(|(pair, (elements, bytes))| Credit {
            sender: pair.sender,
            receiver: pair.receiver,
            elements,
            bytes,
        });
        let adopted = adopted.into_iter().map(|(pair, watermark)| Adopted {
            sender: pair.sender,
            receiver: pair.receiver,
            watermark,
        });
        Some(Backward { credits: credits.collect(), adopted: adopted.collect() })
    }
}

/// The far sender of one channel.
pub(super) struct Far {
    pub(super) pair: Pair,
    pub(super) owed: Arc<Owed>,
}

impl FarSender for Far {
    fn taken(&self, bytes: usize) {
        let mut book = self.owed.book();
        let credit = book.credits.entry(self.pair).or_default();
        credit.0 += 1;
        credit.1 += bytes as u64;
        drop(book);
        self.owed.changed.notify_one();
    }

    fn adopted(&self, watermark: i64) {
        self.owed.book().adopted.insert(self.pair, watermark);
        self.owed.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use crossbeam::channel::unbounded;
    use qanat_proto::ids::{Generation, OperatorId};
    use tracing::Span;

    use super::*;

    /// P1: a channel is opened once per token: a sender that comes again, or of a generation that is over, is refused.
    #[test]
    fn p1_a_channel_is_opened_once_and_by_its_own_generation() {
        let incoming = Arc::<Incoming>::default();
        let (outbox, _reports) = unbounded();
        let token = |generation| Token { job: JobId(1), generation: Generation(generation) };
        let open = |generation| {
            let reporter = Reporter::new(StartId(1), token(generation), outbox.clone(), Span::none());
            incoming.open(BTreeMap::new(), reporter)
        };
        let edge = EdgeKey { from: OperatorId(1), to: OperatorId(2), port: 0 };
        let first = open(1);
        let opened = incoming.find(token(1)).expect("it runs here");
        assert!(opened.take(edge, StartId(2)) && opened.take(edge, StartId(3)));
        assert!(opened.take(EdgeKey { port: 1, ..edge }, StartId(2)));
        assert!(!opened.take(edge, StartId(2)), "the link broke, and the same sender comes again");
        let second = open(2);
        assert!(incoming.find(token(1)).is_none() && incoming.fenced() == 1, "a zombie");
        assert!(incoming.find(token(2)).is_some_and(|opened| opened.take(edge, StartId(2))));
        // The end of the older one leaves the newer one open.
        drop(first);
        assert!(incoming.find(token(2)).is_some() && incoming.find(token(3)).is_none());
        drop(second);
        assert!(incoming.find(token(2)).is_none());
    }
}
