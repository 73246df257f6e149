//! The models by name, for commands and tests.

use std::fmt::Write;

use qanat_proto::zoo::Bug;

use super::walk::{Model, Violation, shrink, walk};
use super::{LogWorld, TimeWorld, World};

/// One of the models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    Epochs,
    Log,
    Time,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Epochs, Self::Log, Self::Time];

    /// Where a planted bug is looked for.
    pub fn of(bug: Bug) -> Self {
        match bug.rule() {
            "P11" | "P12" | "I4" | "I8" | "I9" => Self::Log,
            "P13" => Self::Time,
            _ => Self::Epochs,
        }
    }

    /// One walk; what it has seen.
    ///
    /// # Errors
    /// The invariant that it broke.
    pub fn walk(self, seed: u64) -> Result<Vec<(&'static str, u64)>, Violation> {
        match self {
            Self::Epochs => walk::<World>(seed).map(|world| world.seen.figures()).map_err(|f| f.violation),
            Self::Log => walk::<LogWorld>(seed).map(|world| world.figures()).map_err(|f| f.violation),
            Self::Time => walk::<TimeWorld>(seed).map(|world| world.figures()).map_err(|f| f.violation),
        }
    }

    /// The fewest steps with which a walk of this seed breaks an invariant, as text; None if it breaks none.
    pub fn explain(self, seed: u64) -> Option<String> {
        match self {
            Self::Epochs => explain::<World>(seed),
            Self::Log => explain::<LogWorld>(seed),
            Self::Time => explain::<TimeWorld>(seed),
        }
    }
}

fn explain<M: Model>(seed: u64) -> Option<String> {
    let failure = walk::<M>(seed).err()?;
    let (actions, violation) = shrink::<M>(&failure);
    let mut text = String::new();
    for action in actions {
        let _ = writeln!(text, "  {action:?}");
    }
    let _ = write!(text, "{violation}");
    Some(text)
}
