//! Links between executors that broke: one that stays cut keeps the two apart.

use std::collections::BTreeMap;

use qanat_proto::ids::StartId;
use qanat_proto::limits;

/// Two executors, the lower start id first.
type Link = (StartId, StartId);

#[derive(Clone, Copy, Debug)]
struct Break {
    /// How often it broke without being whole for long.
    times: u32,
    last_ms: u64,
    /// The two are kept apart until then.
    apart_until_ms: u64,
    is_apart: bool,
}

/// What one driver has seen break. A link that breaks once is tried again at once; one that breaks again is avoided,
/// each time for twice as long.
#[derive(Clone, Debug, Default)]
pub(super) struct BrokenLinks(BTreeMap<Link, Break>);

impl BrokenLinks {
    /// The link between two executors broke.
    pub(super) fn add(&mut self, one: StartId, other: StartId, now_ms: u64) {
        let (first, longest) = limits::LINK_AVOIDED_MS;
        let seen = self.0.entry((one.min(other), one.max(other))).or_insert(Break {
            times: 0,
            last_ms: now_ms,
            apart_until_ms: now_ms,
            is_apart: false,
        });
        let avoided = seen.apart_until_ms.saturating_sub(seen.last_ms);
        if now_ms > seen.apart_until_ms + avoided.max(first) {
            seen.times = 0;
        }
        seen.times += 1;
        seen.last_ms = now_ms;
        let wait = match seen.times {
            1 => 0,
            again => first.saturating_mul(1 << (again - 2).min(20)).min(longest),
        };
        seen.apart_until_ms = now_ms + wait;
        seen.is_apart = wait > 0;
    }

    /// Forgets those of executors that are gone.
    pub(super) fn keep(&mut self, is_known: impl Fn(StartId) -> bool) {
        self.0.retain(|(one, other), _| is_known(*one) && is_known(*other));
    }

    /// Pairs that are not to run one job.
    pub(super) fn apart(&self) -> Vec<Link> {
        self.0.iter().filter(|(_, seen)| seen.is_apart).map(|(link, _)| *link).collect()
    }

    /// Lets pairs whose time is over be tried again. Whether there are such.
    pub(super) fn release(&mut self, now_ms: u64) -> bool {
        let over = self.0.values_mut().filter(|seen| seen.is_apart && seen.apart_until_ms <= now_ms);
        over.map(|seen| seen.is_apart = false).count() > 0
    }

    /// When the next pair may be tried again.
    pub(super) fn next_ms(&self) -> Option<u64> {
        self.0.values().filter(|seen| seen.is_apart).map(|seen| seen.apart_until_ms).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_breaks_again_and_again_is_avoided_for_longer_and_longer() {
        let (first, longest) = limits::LINK_AVOIDED_MS;
        let mut links = BrokenLinks::default();
        let (a, b) = (StartId(1), StartId(2));
        links.add(b, a, 1_000);
        assert!(links.apart().is_empty());
        links.add(a, b, 1_100);
        assert_eq!((links.apart(), links.next_ms()), (vec![(a, b)], Some(1_100 + first)));
        assert!(!links.release(1_100 + first - 1));
        let mut now = 1_100 + first;
        assert!(links.release(now) && links.apart().is_empty() && links.next_ms().is_none());
        // It was tried too early.
        for again in 1..40 {
            links.add(a, b, now);
            let until = links.next_ms().expect("avoided");
            assert_eq!(until - now, (first << again.min(20)).min(longest));
            now = until;
            assert!(links.release(now));
        }
        // Whole for as long as it was avoided: what comes then is news.
        let later = now + longest + 1;
        links.add(a, b, later);
        assert!(links.apart().is_empty());
        links.add(a, b, later + 1);
        assert_eq!(links.apart(), [(a, b)]);
        links.keep(|start| start == a);
        assert!(links.apart().is_empty());
    }
}
