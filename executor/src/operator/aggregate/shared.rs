//! The groups of overlapping windows, made of the slices that they share.

use qanat_executor_core::window::Window;
use qanat_proto::error::Result;

use super::emission::Groups;
use super::running::Running;
use super::slice_table::{SliceTable, TableFactory};
use super::slices::Slices;
use super::sliding::Sliding;

/// The cheapest way for a node's aggregates.
pub(crate) enum Shared {
    /// What leaves the window can be taken away.
    Running(Running),
    /// It cannot: minima, sums of floating-point numbers, whatever takes the general path.
    Sliding(Sliding),
}

impl Shared {
    /// Whether rows of this slice would come too late.
    pub(crate) fn holds(&self, slice_end: i64) -> bool {
        match self {
            Self::Running(running) => running.holds(slice_end),
            Self::Sliding(sliding) => sliding.holds(slice_end),
        }
    }

    /// Begins anew with the next window.
    pub(crate) fn forget(&mut self) {
        match self {
            Self::Running(running) => running.forget(),
            Self::Sliding(sliding) => sliding.forget(),
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Running(running) => running.bytes(),
            Self::Sliding(sliding) => sliding.bytes(),
        }
    }

    /// The groups of `window`, whose `slices` are those that have rows. Windows come in the order of their
    /// ends.
    pub(crate) fn window(
        &mut self,
        window: Window,
        slices: &mut Slices,
        factory: &TableFactory,
    ) -> Result<Option<Groups>> {
        match self {
            Self::Running(running) => {
                running.advance(window, slices)?;
                Ok(Some(Groups::Running))
            }
            Self::Sliding(sliding) => sliding.window(window, slices, factory)?.map(Groups::of).transpose(),
        }
    }

    /// Slices that no window behind the last one needs.
    pub(crate) fn leave(&mut self, gone: &[(Window, SliceTable)]) -> Result<()> {
        match self {
            Self::Running(running) => running.leave(gone),
            Self::Sliding(_) => Ok(()),
        }
    }
}
