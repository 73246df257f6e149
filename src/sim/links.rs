//! The state of all links: several faults may lie on one, and each is taken away alone.

use std::collections::BTreeMap;
use std::time::Duration;

use turmoil::Sim;

/// How long a message takes at most on a link that is well.
pub(super) const LATENCY_MAX: Duration = Duration::from_millis(4);

/// What lies on one pair of machines.
#[derive(Clone, Copy, Default)]
struct Faults {
    /// Messages from the first to the second, and back, are lost.
    cut: [u32; 2],
    /// Messages wait.
    held: u32,
    slow: u32,
}

/// By the names of machines, the smaller one first.
#[derive(Default)]
pub(super) struct Links(BTreeMap<(String, String), Faults>);

/// What a fault does to a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// What `from` sends to `to` is lost.
    Cut,
    /// What either sends waits until the end.
    Held,
    /// What either sends takes up to so many ms.
    Slow(u64),
}

impl Links {
    /// Begins a trouble, or ends it.
    pub(super) fn set(&mut self, sim: &mut Sim<'_>, from: &str, to: &str, trouble: Trouble, begins: bool) {
        let (first, second, way) = if from < to { (from, to, 0) } else { (to, from, 1) };
        let faults = self.0.entry((first.to_owned(), second.to_owned())).or_default();
        let count = match trouble {
            Trouble::Cut => &mut faults.cut[way],
            Trouble::Held => &mut faults.held,
            Trouble::Slow(_) => &mut faults.slow,
        };
        *count = if begins { *count + 1 } else { count.saturating_sub(1) };
        if let Trouble::Slow(ms) = trouble {
            // Of several the one that began last says how slow; the link is well again when the last of them ends.
            if !begins && faults.slow > 0 {
                return;
            }
            let most = if faults.slow > 0 { Duration::from_millis(ms) } else { LATENCY_MAX };
            sim.set_link_max_message_latency(first, second, most);
            return;
        }
        // From the start, so that the order of faults does not matter: what waited goes on, then what lasts begins.
        if faults.held == 0 {
            sim.release(first, second);
        }
        sim.repair(first, second);
        if faults.held > 0 {
            sim.hold(first, second);
        }
        for (way, (from, to)) in [(first, second), (second, first)].into_iter().enumerate() {
            if faults.cut[way] > 0 {
                sim.partition_oneway(from, to);
            }
        }
    }
}
