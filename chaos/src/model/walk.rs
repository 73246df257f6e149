//! Random walks: a seed chooses the size of a world, which faults there are and how often, and every step.

use std::fmt::{self, Debug};

use qanat_storage::env::sim::Random;

/// A world that is stepped, and says when an invariant does not hold.
pub trait Model: Sized {
    type Action: Clone + Debug;
    /// How often each kind of step is taken. A *swarm* of them finds more than one that has everything (Groce et al.,
    /// Swarm Testing, 2012).
    type Choices;

    fn new(random: &Random) -> Self;

    fn choices(random: &Random) -> Self::Choices;

    /// The next step.
    fn choose(&self, choices: &Self::Choices, random: &Random) -> Self::Action;

    /// Steps of a walk that reaches far enough.
    fn steps(random: &Random) -> usize;

    /// # Errors
    /// The invariant that the step broke.
    fn step(&mut self, action: &Self::Action) -> Outcome;

    /// The faults end: within a bound everything comes to its end, whole (I15, I1).
    ///
    /// # Errors
    /// The invariant that does not hold.
    fn heal(&mut self) -> Outcome;
}

/// An invariant that does not hold, with its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(pub String);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<qanat_proto::Error> for Violation {
    fn from(error: qanat_proto::Error) -> Self {
        Self(error.to_string())
    }
}

pub type Outcome = Result<(), Violation>;

/// A walk that broke an invariant.
#[derive(Clone, Debug)]
pub struct Failure<A> {
    pub seed: u64,
    pub violation: Violation,
    /// Everything that was done; the end of the faults comes after them if they broke nothing.
    pub actions: Vec<A>,
}

/// One walk, and then the end of all faults: the world as it is then.
///
/// # Errors
/// The invariant that it broke, with what it did.
pub fn walk<M: Model>(seed: u64) -> Result<M, Box<Failure<M::Action>>> {
    let random = Random::new(seed);
    let mut world = M::new(&random);
    let choices = M::choices(&random);
    let steps = M::steps(&random);
    let mut actions = Vec::with_capacity(steps);
    for _ in 0..steps {
        let action = world.choose(&choices, &random);
        actions.push(action.clone());
        if let Err(violation) = world.step(&action) {
            return Err(Box::new(Failure { seed, violation, actions }));
        }
    }
    match world.heal() {
        Ok(()) => Ok(world),
        Err(violation) => Err(Box::new(Failure { seed, violation, actions })),
    }
}

/// What these steps break in the world of a seed, and after how many of them.
pub fn replay<M: Model>(seed: u64, actions: &[M::Action]) -> Option<(usize, Violation)> {
    let mut world = M::new(&Random::new(seed));
    for (at, action) in actions.iter().enumerate() {
        if let Err(violation) = world.step(action) {
            return Some((at + 1, violation));
        }
    }
    world.heal().err().map(|violation| (actions.len(), violation))
}

/// The fewest steps that still break an invariant, found by leaving steps out, and which one.
pub fn shrink<M: Model>(failure: &Failure<M::Action>) -> (Vec<M::Action>, Violation) {
    let mut fewest = (failure.actions.clone(), failure.violation.clone());
    let mut piece = fewest.0.len().div_ceil(2);
    while piece > 0 {
        let mut at = 0;
        while at < fewest.0.len() {
            let mut fewer = fewest.0.clone();
            fewer.drain(at..(at + piece).min(fewer.len()));
            match replay::<M>(failure.seed, &fewer) {
                Some((until, violation)) => {
                    fewer.truncate(until);
                    fewest = (fewer, violation);
                }
                None => at += piece,
            }
        }
        piece /= 2;
    }
    fewest
}
