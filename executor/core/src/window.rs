//! Window arithmetic: slices, windows, when a window fires and when a row is late.
//!
//! All times are milliseconds since 1970, negative ones included. Windows are half-open: `[start, end)`.
//! Time is cut into *slices* that no window boundary cuts (one per TUMBLE window, HOP slide or CUMULATE
//! step); rows are aggregated per slice and the slices of a window are merged when it fires, so that
//! nothing is computed once per overlap. A slice goes by its end.
//!
//! One definition of closing serves all: with a watermark `w`, no row with a time below `w` is expected,
//! so `[start, end)` closes when `end + allowed lateness <= w`. A row is late when the last of its windows
//! has closed, so a row that is not behind the watermark is never late. A row behind the watermark whose
//! last window is open is not late either, though it may lie in windows that have closed. What becomes of
//! those is the [`Firing`]: `Complete` fires a window once every row that it holds would be late, so that
//! each row is in all of its windows or in none; `Eager` fires it when it closes, without such rows.
//! Windows that do not overlap fire at the same moment either way.
//!
//! Called by the window operators. Sessions are in [`crate::session`].

use arrow::array::{Array, Int64Array};
use qanat_proto::error::{Code, Error, Result};
use qanat_proto::graph::{Firing, WindowShape};

/// Times beyond ±2^52 ms (142,000 years) are taken as this bound: sums cannot overflow, and calendars know them.
pub const TIME_LIMIT: i64 = 1 << 52;

/// A window: `[start, end)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Window {
    /// Compared first, so that windows sort in the order in which they fire.
    pub end: i64,
    /// First millisecond inside.
    pub start: i64,
}

/// Whether a window with this end has closed: rows that belong to it alone are late.
pub fn is_closed(end: i64, allowed_lateness_ms: i64, watermark: i64) -> bool {
    end.saturating_add(allowed_lateness_ms) <= watermark
}

/// The arithmetic of one TUMBLE, HOP or CUMULATE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Length of a slice.
    unit: i64,
    /// Length of the longest window.
    size: i64,
    offset: i64,
    kind: Kind,
    lateness: i64,
    firing: Firing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// TUMBLE too: a hop of its own size.
    Hop,
    Cumulate,
}

/// Rows that stand one behind the other in a batch and fall into one slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SliceRun {
    /// End of the slice.
    pub slice_end: i64,
    /// First row.
    pub first: usize,
    /// Number of rows, at least 1.
    pub rows: usize,
}

impl Windows {
    /// # Errors
    /// E0109 for lengths that are not positive, too long, or no multiples of each other; E0503 for a
    /// session, which has no slices.
    pub fn new(shape: WindowShape, allowed_lateness_ms: i64, firing: Firing) -> Result<Self> {
        let (kind, unit, size, offset) = match shape {
            WindowShape::Tumble { size, offset } => (Kind::Hop, size, size, offset),
            WindowShape::Hop { size, slide, offset } => (Kind::Hop, slide, size, offset),
            WindowShape::Cumulate { max_size, step, offset } => (Kind::Cumulate, step, max_size, offset),
            WindowShape::Session { .. } => return Err(Error::internal("a session window has no slices")),
        };
        let bad = |what: &str| Err(Error::new(Code::TimeAttribute, format!("a window {what}")));
        if unit <= 0 || size <= 0 {
            return bad("needs lengths above zero");
        }
        if size > TIME_LIMIT || !(0..=TIME_LIMIT).contains(&allowed_lateness_ms) {
            return bad("length or its allowed lateness is out of range");
        }
        if size % unit != 0 {
            return bad("needs a size that is a multiple of its slide or step");
        }
        let grid = if kind == Kind::Cumulate { size } else { unit };
        Ok(Self { unit, size, offset: offset.rem_euclid(grid), kind, lateness: allowed_lateness_ms, firing })
    }

    /// Length of a slice in ms.
    pub fn slice_length(&self) -> i64 {
        self.unit
    }

    /// Windows that each slice belongs to, at most.
    pub fn windows_per_slice(&self) -> i64 {
        self.size / self.unit
    }

    /// End of the slice that holds `time`.
    pub fn slice_end(&self, time: i64) -> i64 {
        self.floor(clamp(time), self.unit) + self.unit
    }

    /// [`Windows::slice_end`] of each value; nulls stay null.
    pub fn slice_ends(&self, times: &Int64Array) -> Int64Array {
        let mut ends = Vec::with_capacity(times.len());
        for run in self.slice_runs(times.values()) {
            ends.resize(ends.len() + run.rows, run.slice_end);
        }
        Int64Array::new(ends.into(), times.nulls().cloned())
    }

    /// Cuts times into runs of the same slice. A division only where the slice changes; as long as it stays
    /// the same, which is the rule, ever more rows are compared at once.
    pub fn slice_runs<'a>(&self, times: &'a [i64]) -> impl Iterator<Item = SliceRun> + use<'a> {
        let windows = *self;
        let mut first = 0;
        std::iter::from_fn(move || {
            let rest = times.get(first..)?;
            let slice_end = windows.slice_end(*rest.first()?);
            let rows = windows.run_length(rest, slice_end);
            let run = SliceRun { slice_end, first, rows };
            first += rows;
            Some(run)
        })
    }

    /// Number of times at the beginning that lie in one slice.
    fn run_length(&self, times: &[i64], slice_end: i64) -> usize {
        let (start, last) = (slice_end - self.unit, slice_end - 1);
        // The two distances add up to less than 2^62: both are positive, or at least one has its sign bit.
        let outside = |time: i64| time.wrapping_sub(start) | last.wrapping_sub(time);
        let (mut length, mut block) = (0, 8);
        while let Some(times) = times.get(length..length + block) {
            if times.iter().fold(0, |bits, time| bits | outside(*time)) < 0 {
                break;
            }
            length += block;
            block *= 2;
        }
        let rest = times.get(length..).unwrap_or_default();
        // A time beyond the limit counts as the limit.
        let is_outside = |time: &i64| outside(*time) < 0 && outside(clamp(*time)) < 0;
        length + rest.iter().position(is_outside).unwrap_or(rest.len())
    }

    /// The windows that hold `time`, in firing order.
    pub fn windows_of(&self, time: i64) -> impl Iterator<Item = Window> + use<> {
        self.windows_of_slice(self.slice_end(time))
    }

    /// The windows that a slice belongs to, in firing order.
    pub fn windows_of_slice(&self, slice_end: i64) -> impl Iterator<Item = Window> + use<> {
        let Self { unit, size, kind, .. } = *self;
        let last_end = self.last_window_end(slice_end - 1);
        let cycle = last_end - size;
        (0..).map(move |step| slice_end + step * unit).take_while(move |end| *end <= last_end).map(move |end| {
            let start = if kind == Kind::Cumulate { cycle } else { end - size };
            Window { end, start }
        })
    }

    /// Ends of the slices that make up a window.
    pub fn slices_of(&self, window: Window) -> impl Iterator<Item = i64> + use<> {
        let unit = self.unit;
        (1..).map(move |step| window.start + step * unit).take_while(move |end| *end <= window.end)
    }

    /// End of the last window that holds `time`: when that has closed, the time is late, and nothing needs
    /// its slice any more.
    pub fn last_window_end(&self, time: i64) -> i64 {
        match self.kind {
            Kind::Hop => self.floor(clamp(time), self.unit) + self.size,
            Kind::Cumulate => self.floor(clamp(time), self.size) + self.size,
        }
    }

    /// Times below this are late under `watermark`; all others are not. (Ends of last windows rise with
    /// time, so one bound judges a whole column.) `i64::MIN`: nothing is late.
    pub fn late_below(&self, watermark: i64) -> i64 {
        if watermark == i64::MIN || watermark == i64::MAX {
            return watermark;
        }
        // Last windows that have closed end at or before this.
        let closed = clamp(watermark) - self.lateness;
        match self.kind {
            Kind::Hop => self.floor(closed - self.size, self.unit) + self.unit,
            Kind::Cumulate => self.floor(closed, self.size),
        }
    }

    /// Whether all windows of `time` have closed.
    pub fn is_late(&self, time: i64, watermark: i64) -> bool {
        is_closed(self.last_window_end(time), self.lateness, watermark)
    }

    /// Whether the window with this end has fired. (Windows fire in the order of their ends.)
    pub fn has_fired(&self, window_end: i64, watermark: i64) -> bool {
        let complete_at = match self.firing {
            Firing::Complete => self.last_window_end(window_end - 1),
            Firing::Eager => window_end,
        };
        is_closed(complete_at, self.lateness, watermark)
    }

    /// Whether a slice may be dropped: its last window has fired.
    pub fn is_dead(&self, slice_end: i64, watermark: i64) -> bool {
        self.has_fired(self.last_window_end(slice_end - 1), watermark)
    }

    /// End of the first window that has not fired. For a watermark that is one: neither bound of `i64`.
    pub fn first_unfired(&self, watermark: i64) -> i64 {
        let closed = clamp(watermark) - self.lateness;
        match (self.firing, self.kind) {
            (Firing::Eager, _) => self.floor(closed, self.unit) + self.unit,
            (Firing::Complete, Kind::Hop) => self.floor(closed - (self.size - self.unit), self.unit) + self.unit,
            (Firing::Complete, Kind::Cumulate) => self.floor(closed, self.size) + self.unit,
        }
    }

    /// The watermark behind the operator: none of the windows that are still to fire has closed by it, and
    /// all that have fired have. It is `watermark` itself unless [`Firing::Complete`] holds windows back.
    pub fn held_back(&self, watermark: i64) -> i64 {
        if watermark == i64::MIN || watermark == i64::MAX {
            return watermark;
        }
        watermark.min(match (self.firing, self.kind) {
            (Firing::Eager, _) => watermark,
            (Firing::Complete, Kind::Hop) => watermark.saturating_sub(self.size - self.unit),
            (Firing::Complete, Kind::Cumulate) => {
                self.floor(clamp(watermark) - self.lateness, self.size) + self.lateness
            }
        })
    }

    fn floor(&self, time: i64, grid: i64) -> i64 {
        time - (time - self.offset).rem_euclid(grid)
    }
}

fn clamp(time: i64) -> i64 {
    time.clamp(-TIME_LIMIT, TIME_LIMIT)
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;
