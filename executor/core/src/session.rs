//! Session windows: rows of a key that follow each other within a gap, merged as they come.
//!
//! A row at `t` is a session `[t, t + gap)`. Two sessions merge when they overlap or touch: two rows at
//! most `gap` apart belong together, as in Flink. A session closes when no row that is still to come
//! could touch it: `end + allowed lateness < watermark` (a row *at* `end` would, hence not `<=`).
//!
//! Out-of-order rows need care, or the answer would differ from the batch answer: a row that would
//! touch a session that has fired must not open a second one beside it. Closed sessions always lie
//! before open ones, so one time per key, [`SessionSet::closed_until`], tells which rows these are.
//! They are late, as is a row whose merged session would be closed at once.
//!
//! Called by the session operators, one [`SessionSet`] per key; all of it is part of their state.

use qanat_proto::error::{Code, Error, Result};

use crate::window::{TIME_LIMIT, Window};

/// Gap and allowed lateness of a session window, in ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionRule {
    gap: i64,
    lateness: i64,
}

impl SessionRule {
    /// # Errors
    /// E0109 for a gap that is not positive or lengths out of range.
    pub fn new(gap: i64, allowed_lateness_ms: i64) -> Result<Self> {
        if (1..=TIME_LIMIT / 4).contains(&gap) && (0..=TIME_LIMIT).contains(&allowed_lateness_ms) {
            Ok(Self { gap, lateness: allowed_lateness_ms })
        } else {
            Err(Error::new(Code::TimeAttribute, "a session gap or its allowed lateness is out of range"))
        }
    }

    /// Whether a session with this end has closed.
    pub fn is_closed(&self, end: i64, watermark: i64) -> bool {
        watermark == i64::MAX || end.saturating_add(self.lateness) < watermark
    }

    /// The watermark behind the operator. A session that ends at the watermark is still open, and a window
    /// with that end is not, so what follows must not see the watermark before the session is out.
    pub fn held_back(&self, watermark: i64) -> i64 {
        if watermark == i64::MAX { watermark } else { watermark.saturating_sub(1) }
    }
}

/// Where a row went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Into the late table.
    Late,
    /// A new session.
    Opened(Window),
    /// Into a session that keeps its bounds.
    Inside(Window),
    /// Into `from`, which becomes `to`.
    Extended {
        /// Bounds before.
        from: Window,
        /// Bounds now.
        to: Window,
    },
    /// Several sessions, oldest first, and the row become one.
    Merged {
        /// Two or more.
        from: Vec<Window>,
        /// What they become.
        to: Window,
    },
}

/// The sessions of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionSet {
    /// Open sessions, disjoint and not touching, by time.
    open: Vec<Window>,
    /// Rows up to this time would touch or precede a closed session.
    closed_until: i64,
}

impl SessionSet {
    /// The set of a key that has no state, when the operator's watermark is `watermark`.
    ///
    /// An earlier set of the key may have been dropped ([`SessionSet::is_disposable`]); the bound it can
    /// have had is assumed, so that dropping changes no answer.
    pub fn new(rule: &SessionRule, watermark: i64) -> Self {
        let closed_until = match watermark {
            i64::MIN | i64::MAX => watermark,
            _ => watermark.saturating_sub(rule.lateness + 2 * rule.gap + 1),
        };
        Self { open: Vec::new(), closed_until }
    }

    /// A set as it was saved: open sessions in any order.
    pub fn restore(mut open: Vec<Window>, closed_until: i64) -> Self {
        open.sort_unstable();
        Self { open, closed_until }
    }

    /// Open sessions, oldest first.
    pub fn open(&self) -> &[Window] {
        &self.open
    }

    /// To be saved with the open sessions.
    pub fn closed_until(&self) -> i64 {
        self.closed_until
    }

    /// Adds a row at `time`.
    pub fn insert(&mut self, time: i64, rule: &SessionRule, watermark: i64) -> Placement {
        let time = time.clamp(-TIME_LIMIT, TIME_LIMIT);
        let row = Window { start: time, end: time + rule.gap };
        if time <= self.closed_until {
            return Placement::Late;
        }
        let first = self.open.partition_point(|session| session.end < row.start);
        let touching = self.open[first..].partition_point(|session| session.start <= row.end);
        let from = &self.open[first..first + touching];
        let start = from.first().map_or(row.start, |session| session.start.min(row.start));
        let end = from.last().map_or(row.end, |session| session.end.max(row.end));
        let to = Window { end, start };
        if rule.is_closed(to.end, watermark) {
            return Placement::Late;
        }
        let placement = match from {
            [] => Placement::Opened(to),
            [only] if *only == to => return Placement::Inside(to),
            [only] => Placement::Extended { from: *only, to },
            several => Placement::Merged { from: several.to_vec(), to },
        };
        self.open.splice(first..first + touching, [to]);
        placement
    }

    /// Takes out the sessions that `watermark` closes, oldest first.
    pub fn close(&mut self, rule: &SessionRule, watermark: i64) -> Vec<Window> {
        let count = self.open.partition_point(|session| rule.is_closed(session.end, watermark));
        let closed: Vec<Window> = self.open.drain(..count).collect();
        if let Some(last) = closed.last() {
            self.closed_until = self.closed_until.max(last.end);
        }
        closed
    }

    /// The end of the session that closes next.
    pub fn next_end(&self) -> Option<i64> {
        self.open.first().map(|session| session.end)
    }

    /// Whether the key needs no state any more: nothing is open, and [`SessionSet::new`] assumes a bound
    /// at least as high.
    pub fn is_disposable(&self, rule: &SessionRule, watermark: i64) -> bool {
        self.open.is_empty() && Self::new(rule, watermark).closed_until >= self.closed_until
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn window(start: i64, end: i64) -> Window {
        Window { end, start }
    }

    #[test]
    fn rows_within_the_gap_belong_together() {
        let rule = SessionRule::new(10, 0).expect("valid");
        let mut set = SessionSet::new(&rule, i64::MIN);
        assert_eq!(set.insert(0, &rule, i64::MIN), Placement::Opened(window(0, 10)));
        assert_eq!(set.insert(21, &rule, i64::MIN), Placement::Opened(window(21, 31)));
        assert_eq!(set.insert(0, &rule, i64::MIN), Placement::Inside(window(0, 10)));
        let mut other = SessionSet::restore(vec![window(25, 35), window(0, 10)], i64::MIN);
        assert_eq!(other.insert(10, &rule, i64::MIN), Placement::Extended { from: window(0, 10), to: window(0, 20) });
        let mut other = SessionSet::restore(vec![window(15, 35), window(0, 5)], i64::MIN);
        assert_eq!(
            other.insert(5, &rule, i64::MIN),
            Placement::Merged { from: vec![window(0, 5), window(15, 35)], to: window(0, 35) }
        );
        assert_eq!(set.close(&rule, 10), []);
        assert_eq!(set.close(&rule, 11), [window(0, 10)]);
        assert_eq!(set.insert(10, &rule, 11), Placement::Late, "it would touch a session that fired");
        assert_eq!(set.next_end(), Some(31));
    }

    #[test]
    fn no_session_is_late_for_what_follows() {
        for lateness in [0, 3] {
            let rule = SessionRule::new(10, lateness).expect("valid");
            for watermark in [i64::MIN, -1, 0, 9, 10, 11, 13, 14, i64::MAX] {
                let open = !rule.is_closed(10, watermark);
                let late = crate::window::is_closed(10, lateness, rule.held_back(watermark));
                assert_ne!(open, late, "at {watermark} with {lateness}");
            }
        }
    }

    proptest! {
        /// Whatever the order of rows and watermarks, the sessions that fire are those of the batch answer
        /// over the rows that were not late; and no timely row is late. Keys without need of state lose it.
        #[test]
        fn sessions_equal_the_batch_answer(
            gap in 1_i64..8,
            lateness in 0_i64..6,
            steps in prop::collection::vec((-25_i64..12, 0_i64..6), 1..80),
        ) {
            let rule = SessionRule::new(gap, lateness).expect("valid");
            let mut set: Option<SessionSet> = None;
            let (mut watermark, mut clock) = (i64::MIN, 0);
            let (mut kept, mut fired) = (Vec::new(), Vec::new());
            for (distance, step) in steps {
                let time = clock + distance;
                let mut sessions = set.take().unwrap_or_else(|| SessionSet::new(&rule, watermark));
                if sessions.insert(time, &rule, watermark) == Placement::Late {
                    prop_assert!(time < watermark, "a row that is not behind the watermark is never late");
                } else {
                    kept.push(time);
                }
                clock += step;
                watermark = clock;
                fired.extend(sessions.close(&rule, watermark));
                if !sessions.is_disposable(&rule, watermark) {
                    set = Some(SessionSet::restore(sessions.open().to_vec(), sessions.closed_until()));
                }
            }
            if let Some(mut sessions) = set {
                fired.extend(sessions.close(&rule, i64::MAX));
            }
            kept.sort_unstable();
            let mut batch: Vec<Window> = Vec::new();
            for time in kept {
                match batch.last_mut() {
                    Some(last) if time <= last.end => last.end = time + gap,
                    _ => batch.push(window(time, time + gap)),
                }
            }
            fired.sort_unstable();
            prop_assert_eq!(fired, batch);
        }
    }
}
