//! How often each thing happens in the world of a seed.

use qanat_storage::env::sim::Random;

use super::{Action, Shape, World};
use crate::model::walk::{Model, Outcome};

#[derive(Clone, Copy, Debug)]
pub(in crate::model) enum Kind {
    Receive,
    Hear,
    Decide,
    LeadAgain,
    Store,
    Read,
    Flow,
    Work,
    Time,
    Append,
    Attach,
    Notice,
    PlanCut,
    Cut,
    Remove,
    Elect,
    Learn,
    Crash,
    GiveUp,
    StoreFails,
    Break,
    Expire,
    Kill,
    Start,
    Fail,
    FailAlike,
    LoseOnWire,
    CutLink,
    RepeatDown,
    RepeatUp,
    Stop,
    Close,
    Resume,
    Savepoint,
    DropSavepoint,
    PlanRollback,
    Rollback,
    Drain,
    Rescale,
}

/// What makes things go on, and how often.
const PROGRESS: [(usize, Kind); 15] = [
    (24, Kind::Receive),
    (24, Kind::Hear),
    (16, Kind::Decide),
    (6, Kind::LeadAgain),
    (16, Kind::Store),
    (10, Kind::Read),
    (24, Kind::Flow),
    (16, Kind::Work),
    (8, Kind::Time),
    (4, Kind::Append),
    (6, Kind::Attach),
    (2, Kind::Notice),
    (1, Kind::PlanCut),
    (1, Kind::Cut),
    (1, Kind::Remove),
];

/// What may go wrong or be asked for.
const FAULTS: [Kind; 24] = [
    Kind::Elect,
    Kind::Learn,
    Kind::Crash,
    Kind::GiveUp,
    Kind::StoreFails,
    Kind::Break,
    Kind::Expire,
    Kind::Kill,
    Kind::Start,
    Kind::Fail,
    Kind::FailAlike,
    Kind::LoseOnWire,
    Kind::CutLink,
    Kind::RepeatDown,
    Kind::RepeatUp,
    Kind::Stop,
    Kind::Close,
    Kind::Resume,
    Kind::Savepoint,
    Kind::DropSavepoint,
    Kind::PlanRollback,
    Kind::Rollback,
    Kind::Drain,
    Kind::Rescale,
];

/// The world of a seed.
fn shape(random: &Random) -> Shape {
    // Now and then so many epochs that some are retired.
    let is_long = random.once_in(12);
    let records = if is_long { 100 + random.index(60) } else { 4 + random.index(40) } as u64;
    Shape {
        coordinators: 1 + random.index(3),
        hosts: 1 + random.index(3),
        slots: 1 + random.index(2) as u32,
        parallelism: 1 + random.index(3) as u32,
        splits: 1 + random.index(3),
        records,
        old: if random.once_in(4) { records } else { random.index(records as usize / 3) as u64 },
        from_latest: random.once_in(4),
        epoch_interval_ms: if is_long { 0 } else { [0, 50, 200, 1_000][random.index(4)] },
        epoch_timeout_ms: [2_000, 60_000][random.index(2)],
        checkpoints_kept: if is_long { 1 } else { 1 + random.index(3) },
        commit_step_ms: [0, 0, 0, 3_000][random.index(4)],
    }
}

/// How often each kind of step is taken, of one seed.
pub struct Choices {
    progress: Vec<(usize, Kind)>,
    faults: Vec<(usize, Kind)>,
    /// One step of so many is a fault.
    fault_in: u64,
    /// Of what makes things go on, only what is there to be done.
    is_eager: bool,
}

impl Model for World {
    type Action = Action;
    type Choices = Choices;

    fn new(random: &Random) -> Self {
        Self::of_shape(shape(random))
    }

    fn choices(random: &Random) -> Choices {
        let mut progress = Vec::new();
        for (weight, kind) in PROGRESS {
            // Now and then one side is much slower than the other.
            let weight = if random.once_in(6) { weight.div_ceil(6) } else { weight };
            progress.push((weight, kind));
        }
        let mut faults = Vec::new();
        for kind in FAULTS {
            let weight = match (random.index(4), kind) {
                // Without these, nothing ever comes back.
                (_, Kind::Elect | Kind::Start | Kind::Resume) => 1 + random.index(3),
                (0 | 1, _) => 0,
                (2, _) => 1,
                _ => 1 + random.index(4),
            };
            faults.push((weight, kind));
        }
        Choices { progress, faults, fault_in: [8, 20, 50, 150][random.index(4)], is_eager: !random.once_in(3) }
    }

    fn steps(random: &Random) -> usize {
        [200, 400, 800, 1_600][random.index(4)]
    }

    fn choose(&self, choices: &Choices, random: &Random) -> Action {
        let is_fault = random.once_in(choices.fault_in);
        if choices.is_eager && !is_fault && !random.once_in(8) {
            let there = self.progress();
            if !there.is_empty() {
                return there[random.index(there.len())];
            }
        }
        let kind = random.weighted(if is_fault { &choices.faults } else { &choices.progress });
        let n = || random.index(1 << 16);
        match kind {
            Kind::Receive => Action::Receive(n()),
            Kind::Hear => Action::Hear(n()),
            Kind::Decide => Action::Decide,
            Kind::LeadAgain => Action::LeadAgain,
            Kind::Store => Action::Store(n()),
            Kind::Read => Action::Read(n(), n(), n(), 1 + n() as u64 % 4),
            Kind::Flow => Action::Flow(n(), n()),
            Kind::Work => Action::Work(n()),
            Kind::Time => Action::Time(1 + n() as u64 % 400),
            Kind::Append => Action::Append(n(), 1 + n() as u64 % 4),
            Kind::Attach => Action::Attach(n(), n()),
            Kind::Notice => Action::Notice(n()),
            Kind::PlanCut => Action::PlanCut,
            Kind::Cut => Action::Cut,
            Kind::Remove => Action::Remove,
            Kind::Elect => Action::Elect(n(), n() % 2 == 0),
            Kind::Learn => Action::Learn(n()),
            Kind::Crash => Action::Crash(n()),
            Kind::GiveUp => Action::GiveUp,
            Kind::StoreFails => Action::StoreFails(n(), n() % 2 == 0),
            Kind::Break => Action::Break(n(), n() % 2 == 0),
            Kind::Expire => Action::Expire(n(), n()),
            Kind::Kill => Action::Kill(n()),
            Kind::Start => Action::Start(n()),
            Kind::Fail => Action::Fail(n()),
            Kind::FailAlike => Action::FailAlike(n()),
            Kind::LoseOnWire => Action::LoseOnWire(n()),
            Kind::CutLink => Action::CutLink(n()),
            Kind::RepeatDown => Action::RepeatDown(n()),
            Kind::RepeatUp => Action::RepeatUp(n()),
            Kind::Stop => Action::Stop,
            Kind::Close => Action::Close,
            Kind::Resume => Action::Resume,
            Kind::Savepoint => Action::Savepoint(n()),
            Kind::DropSavepoint => Action::DropSavepoint(n()),
            Kind::PlanRollback => Action::PlanRollback(n()),
            Kind::Rollback => Action::Rollback(n()),
            Kind::Drain => Action::Drain(n(), n() % 2 == 0),
            Kind::Rescale => Action::Rescale(1 + n() as u32 % 3),
        }
    }

    fn step(&mut self, action: &Action) -> Outcome {
        self.act(*action)
    }

    fn heal(&mut self) -> Outcome {
        self.end_faults()
    }
}
