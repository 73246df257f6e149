//! A small world searched to its end: every order of what may happen, with a few faults anywhere in it.
//!
//! Two executors, two splits of one record, a few epochs; on top of that as many deaths, changes of leader, broken
//! connections and repeated messages as a [`Budget`] allows, at every moment. [`stateright`] enumerates the states.

use std::hash::{Hash, Hasher};

use stateright::{Model, Property};

use super::walk::Violation;
use super::world::{Action, Shape, World};

/// Faults that may come on top of what makes things go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Processes that die, whose messages may still come.
    pub deaths: u8,
    /// Changes of leader; the one before goes on until it learns of it.
    pub elections: u8,
    /// Connections that break, with what is on them or without.
    pub breaks: u8,
    /// Old messages that come once more.
    pub repeats: u8,
    /// Rollbacks to any epoch.
    pub rollbacks: u8,
}

/// The search.
#[derive(Clone, Debug)]
pub struct Small {
    pub shape: Shape,
    pub budget: Budget,
    /// Claims at most: behind the last one nothing is looked at, or a job that puts off reading would never end.
    pub epochs: u64,
}

/// A state of the search.
#[derive(Clone, Debug)]
pub struct Reached {
    world: World,
    left: Budget,
    /// What the last step broke.
    pub broken: Option<Violation>,
}

impl Reached {
    /// What tells it from other states, as text: everything but what only counts.
    fn essence(&self) -> String {
        format!("{:?} {:?} {}", self.left, self.broken, self.world.essence(self.left.repeats > 0))
    }
}

impl Hash for Reached {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.essence().hash(state);
    }
}

impl PartialEq for Reached {
    fn eq(&self, other: &Self) -> bool {
        self.essence() == other.essence()
    }
}

impl Model for Small {
    type State = Reached;
    type Action = Action;

    fn init_states(&self) -> Vec<Reached> {
        let mut world = World::of_shape(self.shape);
        let broken = world.act(Action::Elect(0, false)).err();
        vec![Reached { world, left: self.budget, broken }]
    }

    fn actions(&self, state: &Reached, actions: &mut Vec<Action>) {
        if state.broken.is_none() {
            let progress = state.world.progress();
            // Time goes on where nothing else can: how late something comes is told by what comes before it.
            let is_quiet = progress.iter().all(|action| matches!(action, Action::Time(_)));
            actions.extend(progress.into_iter().filter(|action| is_quiet || !matches!(action, Action::Time(_))));
            actions.extend(state.world.faults(&state.left));
        }
    }

    fn next_state(&self, last: &Reached, action: Action) -> Option<Reached> {
        let mut next = last.clone();
        let left = &mut next.left;
        match action {
            Action::Kill(_) => left.deaths -= 1,
            Action::Elect(..) => left.elections -= 1,
            Action::Break(..) => left.breaks -= 1,
            Action::RepeatDown(_) | Action::RepeatUp(_) => left.repeats -= 1,
            Action::Rollback(_) => left.rollbacks -= 1,
            _ => {}
        }
        next.broken = next.world.act(action).err();
        Some(next)
    }

    fn within_boundary(&self, state: &Reached) -> bool {
        state.world.epochs() <= self.epochs
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("every invariant holds", |_, state: &Reached| state.broken.is_none()),
            // I15: whatever happened, something can always happen until the job has finished.
            Property::always("nothing is stuck", |_, state: &Reached| {
                state.broken.is_some() || state.world.has_finished() || !state.world.progress().is_empty()
            }),
            Property::sometimes("a job finishes", |_, state: &Reached| state.world.has_finished()),
        ]
    }
}
