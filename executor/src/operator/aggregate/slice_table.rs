//! The groups of one slice, behind one face.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use qanat_proto::error::Result;

use super::calls::{Calls, Inputs, States};
use super::general::GeneralTable;
use super::integer::{IntegerPlan, IntegerTable};
use super::running::{Running, SLICES_MAX};
use super::shared::Shared;
use super::sliding::Sliding;

/// Makes the tables of a node: all of one kind.
pub(crate) struct TableFactory {
    pub(crate) calls: Arc<Calls>,
    integer: Option<Arc<IntegerPlan>>,
}

pub(crate) enum SliceTable {
    Integer(IntegerTable),
    General(GeneralTable),
}

/// What a snapshot writes of a table.
pub(crate) struct Changed {
    /// Rows that came or changed, each once.
    pub(crate) states: States,
    /// Which piece of its group's state each row is, if states are kept in pieces ([`Calls::states_grow`]).
    pub(crate) pieces: Vec<u32>,
    /// Keys and numbers of pieces that are gone.
    pub(crate) gone: Option<(Vec<ArrayRef>, Vec<u32>)>,
}

/// Keys, results and number of groups.
pub(crate) struct Results {
    pub(crate) keys: Vec<ArrayRef>,
    pub(crate) values: Vec<ArrayRef>,
    pub(crate) rows: usize,
}

impl TableFactory {
    /// `argument_types`: types of the columns of `Inputs`. `track_changes`: snapshots will be taken.
    pub(crate) fn new(calls: Calls, argument_types: &[DataType], track_changes: bool) -> Self {
        let integer = IntegerPlan::new(&calls, argument_types, track_changes).map(Arc::new);
        Self { calls: Arc::new(calls), integer }
    }

    /// The same, without the fast path.
    #[cfg(test)]
    pub(crate) fn disable_fast_path(&mut self) {
        self.integer = None;
    }

    #[cfg(test)]
    pub(crate) fn has_fast_path(&self) -> bool {
        self.integer.is_some()
    }

    /// How overlapping windows share slices; `per_window`: of one window.
    pub(crate) fn shared(&self, per_window: i64) -> Shared {
        match &self.integer {
            Some(plan) if plan.is_reversible() && per_window <= SLICES_MAX => Shared::Running(Running::new(plan)),
            _ => Shared::Sliding(Sliding::new()),
        }
    }

    pub(crate) fn table(&self) -> Result<SliceTable> {
        Ok(match &self.integer {
            Some(plan) => SliceTable::Integer(IntegerTable::new(&self.calls, plan)),
            None => SliceTable::General(GeneralTable::new(&self.calls)?),
        })
    }
}

impl SliceTable {
    /// Accumulates rows.
    pub(crate) fn update(&mut self, inputs: &Inputs) -> Result<()> {
        match self {
            Self::Integer(table) => table.update(inputs),
            Self::General(table) => table.update(inputs),
        }
    }

    /// Merges states that a first phase made.
    pub(crate) fn merge(&mut self, states: &States) -> Result<()> {
        match self {
            Self::Integer(table) => table.merge(states, true),
            Self::General(table) => table.merge(states),
        }
    }

    /// Takes back rows of a snapshot, `pieces` as in [`Changed`]: they do not count as changed.
    pub(crate) fn restore(&mut self, states: States, pieces: Vec<u32>) -> Result<()> {
        match self {
            Self::Integer(table) => table.merge(&states, false),
            Self::General(table) => table.restore(states, pieces),
        }
    }

    /// The same groups again.
    pub(crate) fn copy(&mut self, factory: &TableFactory) -> Result<Self> {
        if let Self::Integer(table) = self {
            return Ok(Self::Integer(table.clone()));
        }
        let mut copy = factory.table()?;
        copy.absorb(self)?;
        Ok(copy)
    }

    /// Adds all groups of `other`, which keeps them.
    pub(crate) fn absorb(&mut self, other: &mut Self) -> Result<()> {
        match (self, other) {
            (Self::Integer(table), Self::Integer(other)) => table.absorb(other),
            (table, other) => {
                for states in other.contents()? {
                    table.merge(&states)?;
                }
                Ok(())
            }
        }
    }

    /// What changed since the last call.
    pub(crate) fn take_changed(&mut self) -> Result<Vec<Changed>> {
        let whole = |states| Changed { states, pieces: Vec::new(), gone: None };
        match self {
            Self::Integer(table) => Ok(table.take_changed()?.into_iter().map(whole).collect()),
            Self::General(table) => table.take_changed(),
        }
    }

    fn contents(&mut self) -> Result<Vec<States>> {
        match self {
            Self::Integer(table) => table.contents(),
            Self::General(table) => table.contents(),
        }
    }

    /// All states; the table is empty afterwards.
    pub(crate) fn take_states(&mut self) -> Result<Vec<States>> {
        match self {
            Self::Integer(table) => table.take_states(),
            Self::General(table) => table.take_states(),
        }
    }

    /// Number of groups, or an upper bound of it.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Integer(table) => table.len(),
            Self::General(table) => table.len(),
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Integer(table) => table.bytes(),
            Self::General(table) => table.bytes(),
        }
    }
}
