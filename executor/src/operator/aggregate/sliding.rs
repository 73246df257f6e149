//! Slices merged ahead, so that overlapping windows do not merge all their slices each time.
//!
//! ```text
//! slices:   a   b   c | d   e           | boundary
//! front:   abc  bc  c |                   each slice with all behind it, up to the boundary
//! back:               | de              all slices behind the boundary
//! ```
//! A window that begins at `b` and ends with `e` is `front[b] + back`: two tables, however many slices it
//! has. When the boundary falls out of the window, a new front is made of its slices. (The queue of two
//! stacks, as in "General incremental sliding-window aggregation", Tangwongsan, Hirzel, Schneider and Wu,
//! VLDB 2015, with tables of groups for values.)
//!
//! It is derived from the slices and never saved. What must never happen: a row added to a slice that is
//! merged already; the owner calls [`Sliding::forget`] then.

use std::collections::BTreeMap;

use qanat_executor_core::window::Window;
use qanat_proto::error::Result;

use super::slice_table::{SliceTable, TableFactory};
use super::slices::Slices;

/// A front may not be larger than this: beyond, each window merges its slices again.
const FRONT_BYTES_MAX: usize = 64 << 20;

/// `until` of one that holds nothing.
const NOTHING: i64 = i64::MIN;

pub(crate) struct Sliding {
    /// By end of the slice.
    front: BTreeMap<i64, SliceTable>,
    boundary: i64,
    back: Option<SliceTable>,
    /// End of the last slice that is merged.
    until: i64,
}

impl Sliding {
    pub(crate) fn new() -> Self {
        Self { front: BTreeMap::new(), boundary: NOTHING, back: None, until: NOTHING }
    }

    /// Whether rows of this slice would come too late.
    pub(crate) fn holds(&self, slice_end: i64) -> bool {
        slice_end <= self.until
    }

    pub(crate) fn forget(&mut self) {
        *self = Self::new();
    }

    pub(crate) fn bytes(&self) -> usize {
        self.front.values().chain(&self.back).map(SliceTable::bytes).sum()
    }

    /// The groups of `window`, whose `slices` are those that have rows. Windows come in the order of their
    /// ends.
    pub(crate) fn window(
        &mut self,
        window: Window,
        slices: &mut Slices,
        factory: &TableFactory,
    ) -> Result<Option<SliceTable>> {
        if window.start >= self.boundary {
            self.forget();
            if front_bytes(window, slices) > FRONT_BYTES_MAX {
                let mut whole = None;
                for slice in slices.within(window.start, window.end) {
                    slices.change(slice, factory, |table| add(&mut whole, table, factory))?;
                }
                return Ok(whole);
            }
            self.make_front(window, slices, factory)?;
        } else {
            for slice in slices.within(self.until, window.end) {
                slices.change(slice, factory, |table| add(&mut self.back, table, factory))?;
            }
        }
        self.until = window.end;
        self.front = self.front.split_off(&(window.start + 1));
        let mut whole = self.front.first_entry().map(|mut first| first.get_mut().copy(factory)).transpose()?;
        if let Some(back) = &mut self.back {
            add(&mut whole, back, factory)?;
        }
        Ok(whole)
    }

    fn make_front(&mut self, window: Window, slices: &mut Slices, factory: &TableFactory) -> Result<()> {
        let mut behind: Option<SliceTable> = None;
        for slice in slices.within(window.start, window.end).into_iter().rev() {
            slices.change(slice, factory, |table| add(&mut behind, table, factory))?;
            if let Some(behind) = &mut behind {
                self.front.insert(slice.end, behind.copy(factory)?);
            }
        }
        self.boundary = window.end;
        Ok(())
    }
}

fn add(sum: &mut Option<SliceTable>, table: &mut SliceTable, factory: &TableFactory) -> Result<()> {
    match sum {
        Some(sum) => sum.absorb(table),
        None => {
            *sum = Some(table.copy(factory)?);
            Ok(())
        }
    }
}

/// What a front of the window would take at most: each slice counts as often as slices stand before it.
fn front_bytes(window: Window, slices: &Slices) -> usize {
    let slices_of = slices.within(window.start, window.end);
    slices_of.into_iter().enumerate().map(|(before, slice)| (before + 1) * slices.bytes_of(slice)).sum()
}
