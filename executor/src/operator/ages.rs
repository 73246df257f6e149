//! Since when state has not been touched, and what of it is too old (`table.exec.state.ttl`).

/// When each slot of an operator was touched last, by the clock of its process. State that is restored is as old as its
/// restore.
#[derive(Debug)]
pub(crate) struct Ages {
    /// 0: nothing gets too old.
    ttl_ms: i64,
    now_ms: i64,
    /// When to look for what is too old.
    look_at: Option<i64>,
    /// By slot, when it was touched; [`GONE`] for one that is not there.
    touched: Vec<i64>,
}

const GONE: i64 = i64::MIN;
/// Looks at ages within the time to live: state lives longer by one of them at most.
const LOOKS: i64 = 8;
const LOOK_MS_MIN: i64 = 100;

impl Ages {
    pub(crate) fn new(ttl_ms: u64) -> Self {
        let ttl_ms = i64::try_from(ttl_ms).unwrap_or(i64::MAX / 2);
        Self { ttl_ms, now_ms: GONE, look_at: None, touched: Vec::new() }
    }

    fn is_on(&self) -> bool {
        self.ttl_ms > 0
    }

    /// Slots are in use now.
    pub(crate) fn touch(&mut self, slots: &[u32]) {
        if !self.is_on() {
            return;
        }
        let most = slots.iter().copied().max().map_or(0, |slot| slot as usize + 1);
        self.touched.resize(self.touched.len().max(most), GONE);
        // Before the clock was told, as of the first time that it tells.
        let now = self.now_ms.max(GONE + 1);
        slots.iter().for_each(|slot| self.touched[*slot as usize] = now);
    }

    /// A slot is not in use any more.
    pub(crate) fn gone(&mut self, slot: u32) {
        if let Some(touched) = self.touched.get_mut(slot as usize) {
            *touched = GONE;
        }
    }

    /// It is `now_ms`. Slots that nobody touched for too long, which are not there any more.
    pub(crate) fn too_old(&mut self, now_ms: i64) -> Vec<u32> {
        if !self.is_on() {
            return Vec::new();
        }
        if self.now_ms == GONE {
            self.touched.iter_mut().filter(|touched| **touched > GONE).for_each(|touched| *touched = now_ms);
        }
        self.now_ms = now_ms;
        if self.look_at.is_some_and(|at| now_ms < at) {
            return Vec::new();
        }
        self.look_at = Some(now_ms.saturating_add((self.ttl_ms / LOOKS).max(LOOK_MS_MIN)));
        let least = now_ms.saturating_sub(self.ttl_ms);
        let mut old = Vec::new();
        for (slot, touched) in self.touched.iter_mut().enumerate() {
            if *touched > GONE && *touched < least {
                *touched = GONE;
                old.push(slot as u32);
            }
        }
        old
    }

    /// When the clock is wanted, at once the first time; None if it never is.
    pub(crate) fn next_timer(&self) -> Option<i64> {
        self.is_on().then(|| self.look_at.unwrap_or(0))
    }

    pub(crate) fn bytes(&self) -> usize {
        self.touched.capacity() * 8
    }
}

/// The earlier of two timers.
pub(crate) fn earlier(a: Option<i64>, b: Option<i64>) -> Option<i64> {
    a.into_iter().chain(b).min()
}

/// Ages of rows that are numbered in the order in which they come: which were there when.
#[derive(Debug)]
pub(crate) struct RowAges {
    ttl_ms: i64,
    look_at: Option<i64>,
    /// Rows below a number were there at a time, oldest first.
    marks: std::collections::VecDeque<(i64, i64)>,
}

impl RowAges {
    pub(crate) fn new(ttl_ms: u64) -> Self {
        let ttl_ms = i64::try_from(ttl_ms).unwrap_or(i64::MAX / 2);
        Self { ttl_ms, look_at: None, marks: std::collections::VecDeque::new() }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.ttl_ms > 0
    }

    /// It is `now_ms`, and the next row gets the number `next`. Rows below the returned number are too old.
    pub(crate) fn too_old(&mut self, now_ms: i64, next: i64) -> Option<i64> {
        if self.ttl_ms == 0 || self.look_at.is_some_and(|at| now_ms < at) {
            return None;
        }
        self.look_at = Some(now_ms.saturating_add((self.ttl_ms / LOOKS).max(LOOK_MS_MIN)));
        self.marks.push_back((now_ms, next));
        let mut old = None;
        while let Some((at, below)) = self.marks.front().copied()
            && at < now_ms.saturating_sub(self.ttl_ms)
        {
            self.marks.pop_front();
            old = Some(below);
        }
        old
    }

    pub(crate) fn next_timer(&self) -> Option<i64> {
        (self.ttl_ms > 0).then(|| self.look_at.unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_touches_gets_too_old_once() {
        let mut ages = Ages::new(1_000);
        ages.touch(&[0, 1, 2]);
        assert!(ages.too_old(10_000).is_empty(), "as old as the first look");
        assert_eq!(ages.next_timer(), Some(10_125));
        ages.too_old(10_600);
        ages.touch(&[1]);
        assert!(ages.too_old(11_000).is_empty());
        assert_eq!(ages.too_old(11_200), [0, 2]);
        assert!(ages.too_old(11_400).is_empty());
        assert_eq!(ages.too_old(11_700), [1]);
        let mut forever = Ages::new(0);
        forever.touch(&[7]);
        assert!(forever.too_old(i64::MAX).is_empty() && forever.next_timer().is_none());
    }

    #[test]
    fn rows_get_too_old_in_their_order() {
        let mut ages = RowAges::new(1_000);
        assert_eq!(ages.too_old(0, 5), None);
        assert_eq!(ages.too_old(500, 8), None);
        assert_eq!(ages.too_old(550, 9), None, "not looked at");
        assert_eq!(ages.too_old(1_001, 20), Some(5));
        assert_eq!(ages.too_old(3_000, 20), Some(20));
    }
}
