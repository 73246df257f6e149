//! Event time across deaths and changes of parallelism (I11, P13): splits that are out of order, idle or finished, a
//! shuffle, and windows by key group. The decisions are the engine's: `SplitWatermarks`, `Combiner`, `BarrierAligner`,
//! `Windows` and how a watermark is restored.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use qanat_executor_core::barrier::{Alignment, BarrierAligner};
use qanat_executor_core::watermark::{
    Change, Combiner, ENDED, InputStatus, SplitWatermarks, UNKNOWN, restored_watermark,
};
use qanat_executor_core::window::Windows;
use qanat_proto::graph::{Firing, WindowShape};
use qanat_proto::ids::{Epoch, KeyGroupRange, SplitId, owner_of};
use qanat_storage::env::sim::Random;

use super::walk::{Model, Outcome, Violation};

const KEY_GROUPS: u16 = 8;
const WINDOW_MS: i64 = 10;

/// A record: its split, and its number within it.
type Record = (usize, usize);

/// What may happen next. Numbers choose among what is there, and wrap around.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// A source subtask reads from one of its splits.
    Read(usize, usize),
    /// A window subtask takes what is first on one of its channels.
    Flow(usize, usize),
    /// A split has had no rows for the timeout.
    FallIdle(usize, usize),
    Barrier,
    /// Everything dies and goes on from the last epoch, with so many subtasks.
    Restart(u32),
}

#[derive(Clone, Debug)]
enum Element {
    Row(Record),
    Watermark(i64),
    Idle,
    Active,
    Barrier(Epoch),
    End,
}

/// A split as epochs know it.
#[derive(Clone, Debug, Default)]
struct Split {
    position: usize,
    watermark: Option<i64>,
    idle: bool,
    finished: bool,
}

/// Rows by key group and end of the window.
type Open = BTreeMap<(u16, i64), Vec<Record>>;

/// What an epoch holds.
#[derive(Clone, Debug, Default)]
struct Saved {
    epoch: Epoch,
    splits: Vec<Split>,
    /// Of the window operator, by what its subtasks owned.
    watermarks: Vec<(KeyGroupRange, Option<i64>)>,
    open: Open,
}

#[derive(Clone, Debug)]
struct Source {
    splits: BTreeMap<usize, Split>,
    watermarks: SplitWatermarks,
    is_idle: bool,
    /// Window subtasks that have not answered yet, and the highest answer.
    waking: Option<(usize, i64)>,
    /// What woke it.
    held: Option<usize>,
    sealed: Epoch,
    has_ended: bool,
}

#[derive(Clone, Debug)]
struct Windowing {
    range: KeyGroupRange,
    aligner: BarrierAligner,
    combiner: Combiner,
    open: Open,
}

/// What is fired and late in an epoch that is under way.
#[derive(Clone, Debug, Default)]
struct Output {
    fired: Vec<((u16, i64), Vec<Record>)>,
    late: Vec<Record>,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct TimeWorld {
    times: Vec<Vec<i64>>,
    disorder: i64,
    windows: Windows,
    parallelism: u32,
    saved: Saved,
    /// What the epoch that is under way has of each part so far.
    saving: Saved,
    sealed_parts: u32,
    triggered: Option<Epoch>,
    sources: Vec<Source>,
    windowing: Vec<Windowing>,
    channels: BTreeMap<(usize, usize), VecDeque<Element>>,
    /// By epoch: an epoch's output counts once the epoch does.
    output: BTreeMap<Epoch, Output>,
    fired: BTreeSet<(u16, i64)>,
    done: BTreeSet<Record>,
    /// Splits that have fallen idle: their rows may come too late.
    may_be_late: BTreeSet<usize>,
}

fn split_id(split: usize) -> SplitId {
    SplitId(format!("s{split}"))
}

/// The key group of a record: neighbours fall apart.
fn group_of((split, offset): Record) -> u16 {
    ((split * 5 + offset * 3) % usize::from(KEY_GROUPS)) as u16
}

impl TimeWorld {
    fn restart(&mut self, parallelism: u32) -> Outcome {
        self.parallelism = parallelism;
        self.channels.clear();
        self.triggered = None;
        self.output.retain(|epoch, _| *epoch <= self.saved.epoch);
        let saved = self.saved.clone();
        self.windowing = (0..parallelism)
            .map(|index| {
                let range = KeyGroupRange::of_subtask(KEY_GROUPS, parallelism, index);
                let watermark = restored_watermark(&saved.watermarks, range).unwrap_or(UNKNOWN);
                Windowing {
                    range,
                    aligner: BarrierAligner::new(parallelism as usize, saved.epoch),
                    combiner: Combiner::new(parallelism as usize, watermark),
                    open: saved
                        .open
                        .iter()
                        .filter(|((g, _), _)| range.contains(*g))
                        .map(|(k, v)| (*k, v.clone()))
                        .collect(),
                }
            })
            .collect();
        self.sources.clear();
        for index in 0..parallelism as usize {
            let mine = saved.splits.iter().cloned().enumerate().filter(|(s, _)| s % parallelism as usize == index);
            let source = restored_source(mine.collect(), saved.epoch)?;
            self.sources.push(source);
            if saved.epoch > Epoch(0) {
                self.wake(index);
            } else if self.sources[index].watermarks.status() == InputStatus::Idle {
                self.go_idle(index);
            }
            self.end_if_done(index);
        }
        Ok(())
    }

    fn send_all(&mut self, source: usize, element: &Element) {
        for to in 0..self.windowing.len() {
            self.channels.entry((source, to)).or_default().push_back(element.clone());
        }
    }

    fn wake(&mut self, source: usize) {
        self.sources[source].is_idle = false;
        self.sources[source].waking = Some((self.windowing.len(), UNKNOWN));
        self.send_all(source, &Element::Active);
    }

    fn go_idle(&mut self, source: usize) {
        self.sources[source].is_idle = true;
        self.send_all(source, &Element::Idle);
    }

    fn change(&mut self, source: usize, change: Change) {
        if change.status == Some(InputStatus::Active) && self.sources[source].is_idle {
            self.wake(source);
        }
        if let Some(watermark) = change.watermark.filter(|watermark| *watermark < ENDED) {
            self.send_all(source, &Element::Watermark(watermark));
        }
        if change.status == Some(InputStatus::Idle) {
            self.go_idle(source);
        }
    }

    /// All channels have answered: the source goes on.
    fn answered(&mut self, source: usize, adopted: i64) {
        let own = self.sources[source].watermarks.watermark();
        let own = if own < ENDED { own } else { UNKNOWN };
        self.send_all(source, &Element::Watermark(own.max(adopted)));
        if self.sources[source].watermarks.status() == InputStatus::Idle {
            self.go_idle(source);
        }
        if let Some(split) = self.sources[source].held.take() {
            self.read_on(source, split);
        }
        self.end_if_done(source);
    }

    fn end_if_done(&mut self, source: usize) {
        let it = &mut self.sources[source];
        if it.waking.is_none() && !it.has_ended && it.splits.values().all(|split| split.finished) {
            it.has_ended = true;
            self.send_all(source, &Element::End);
        }
    }

    fn read(&mut self, source: usize, which: usize) -> Outcome {
        let source = source % self.sources.len();
        let it = &mut self.sources[source];
        if it.waking.is_some() || it.held.is_some() {
            return Ok(());
        }
        let unread: Vec<usize> = it.splits.iter().filter(|(_, split)| !split.finished).map(|(s, _)| *s).collect();
        let Some(split) = unread.get(which % unread.len().max(1)).copied() else { return Ok(()) };
        let state = it.splits.get_mut(&split).ok_or_else(|| internal("no split"))?;
        if std::mem::take(&mut state.idle) {
            let (_, change) = it.watermarks.wake(&split_id(split)).map_err(Violation::from)?;
            self.change(source, change);
            if self.sources[source].waking.is_some() {
                self.sources[source].held = Some(split);
                return Ok(());
            }
        }
        self.read_on(source, split);
        Ok(())
    }

    /// The next record of a split, or its end.
    fn read_on(&mut self, source: usize, split: usize) {
        let times = &self.times[split];
        let it = &mut self.sources[source];
        let Some(state) = it.splits.get_mut(&split) else { return };
        let change = match times.get(state.position).copied() {
            Some(time) => {
                let record = (split, state.position);
                state.position += 1;
                state.watermark = state.watermark.max(Some(time - self.disorder));
                let reached = state.watermark.unwrap_or(UNKNOWN);
                let to = owner_of(group_of(record), KEY_GROUPS, self.parallelism) as usize;
                self.channels.entry((source, to)).or_default().push_back(Element::Row(record));
                self.sources[source].watermarks.advance(&split_id(split), reached)
            }
            None => {
                state.finished = true;
                it.watermarks.finish(&split_id(split))
            }
        };
        if let Ok(change) = change {
            self.change(source, change);
        }
        self.end_if_done(source);
    }

    fn fall_idle(&mut self, source: usize, which: usize) -> Outcome {
        let source = source % self.sources.len();
        let it = &mut self.sources[source];
        if it.waking.is_some() || it.held.is_some() {
            return Ok(());
        }
        let awake: Vec<usize> =
            it.splits.iter().filter(|(_, split)| !split.finished && !split.idle).map(|(s, _)| *s).collect();
        let Some(split) = awake.get(which % awake.len().max(1)).copied() else { return Ok(()) };
        if let Some(state) = it.splits.get_mut(&split) {
            state.idle = true;
        }
        self.may_be_late.insert(split);
        let change = it.watermarks.idle(&split_id(split)).map_err(Violation::from)?;
        self.change(source, change);
        Ok(())
    }

    /// Sources note where they stand, one by one in the same step: none reads in between.
    fn barrier(&mut self) -> Outcome {
        let epoch = self.saved.epoch.next();
        if self.triggered.is_some() || self.sources.iter().any(|source| source.waking.is_some()) {
            return Ok(());
        }
        self.triggered = Some(epoch);
        self.sealed_parts = 0;
        self.saving = Saved { epoch, splits: vec![Split::default(); self.times.len()], ..Saved::default() };
        for source in 0..self.sources.len() {
            self.sources[source].sealed = epoch;
            for (split, state) in &self.sources[source].splits {
                self.saving.splits[*split] = state.clone();
            }
            if !self.sources[source].has_ended {
                self.send_all(source, &Element::Barrier(epoch));
            }
        }
        // Nobody sends any more: all answer as they stand.
        for to in 0..self.windowing.len() {
            let has_input = self.channels.iter().any(|((_, at), queue)| *at == to && !queue.is_empty());
            if !has_input && self.sources.iter().all(|source| source.has_ended) {
                self.seal(to, epoch);
            }
        }
        Ok(())
    }

    fn seal(&mut self, to: usize, epoch: Epoch) {
        let it = &self.windowing[to];
        let watermark = Some(it.combiner.watermark()).filter(|watermark| *watermark != UNKNOWN);
        self.saving.watermarks.push((it.range, watermark));
        self.saving.open.extend(it.open.clone());
        self.sealed_parts += 1;
        if self.sealed_parts == self.parallelism && self.triggered == Some(epoch) {
            self.triggered = None;
            self.saved = std::mem::take(&mut self.saving);
        }
    }

    /// The epoch that what a window subtask says now belongs to.
    fn epoch_of(&self, to: usize) -> Epoch {
        let has_sealed = |(range, _): &(KeyGroupRange, Option<i64>)| *range == self.windowing[to].range;
        match self.triggered {
            Some(epoch) if self.saving.watermarks.iter().any(has_sealed) => epoch.next(),
            Some(epoch) => epoch,
            None => self.saved.epoch.next(),
        }
    }

    fn flow(&mut self, to: usize, which: usize) -> Outcome {
        let to = to % self.windowing.len();
        let ready: Vec<usize> = (0..self.sources.len())
            .filter(|from| !self.windowing[to].aligner.is_blocked(*from))
            .filter(|from| self.channels.get(&(*from, to)).is_some_and(|queue| !queue.is_empty()))
            .collect();
        let Some(from) = ready.get(which % ready.len().max(1)).copied() else { return Ok(()) };
        let element = self.channels.get_mut(&(from, to)).and_then(VecDeque::pop_front);
        let Some(element) = element else { return Ok(()) };
        let epoch = self.epoch_of(to);
        let it = &mut self.windowing[to];
        let before = it.combiner.watermark();
        match element {
            Element::Row(record) => self.row(to, record, epoch)?,
            Element::Watermark(watermark) => {
                let change = it.combiner.advance(from, watermark).map_err(Violation::from)?;
                self.fire(to, change, epoch)?;
            }
            Element::Idle => {
                let change = it.combiner.idle(from).map_err(Violation::from)?;
                self.fire(to, change, epoch)?;
            }
            Element::Active => {
                let (adopted, change) = it.combiner.wake(from).map_err(Violation::from)?;
                self.fire(to, change, epoch)?;
                let source = &mut self.sources[from];
                if let Some((left, highest)) = &mut source.waking {
                    (*left, *highest) = (*left - 1, (*highest).max(adopted));
                    if let (0, highest) = (*left, *highest) {
                        source.waking = None;
                        self.answered(from, highest);
                    }
                }
            }
            Element::End => {
                let change = it.combiner.end(from).map_err(Violation::from)?;
                let alignment = it.aligner.end(from).map_err(Violation::from)?;
                // What the alignment held is sealed before the end is heard.
                if let Alignment::Complete(epoch) = alignment {
                    self.seal(to, epoch);
                }
                let epoch = self.epoch_of(to);
                self.fire(to, change, epoch)?;
                let is_over = self.sources.iter().all(|source| source.has_ended)
                    && !self.channels.iter().any(|((_, at), queue)| *at == to && !queue.is_empty());
                if let Some(open) = self.triggered.filter(|open| is_over && *open == epoch) {
                    self.seal(to, open);
                }
            }
            Element::Barrier(epoch) => {
                if let Alignment::Complete(epoch) = it.aligner.barrier(from, epoch).map_err(Violation::from)? {
                    self.seal(to, epoch);
                }
            }
        }
        let after = self.windowing[to].combiner.watermark();
        if after < before {
            return Err(Violation(format!("I11: a watermark steps back from {before} to {after}")));
        }
        Ok(())
    }

    fn row(&mut self, to: usize, record: Record, epoch: Epoch) -> Outcome {
        let (split, offset) = record;
        let time = self.times[split][offset];
        let it = &mut self.windowing[to];
        if !it.range.contains(group_of(record)) {
            return Err(Violation(format!("record {record:?} is of another subtask")));
        }
        if self.windows.is_late(time, it.combiner.watermark()) {
            let own = self.times[split][..offset].iter().max().map_or(UNKNOWN, |most| most - self.disorder);
            if time >= own && !self.may_be_late.contains(&split) {
                let watermark = it.combiner.watermark();
                return Err(Violation(format!(
                    "P13: record {record:?} at {time} is late at {watermark}, its own split stands at {own}"
                )));
            }
            self.output.entry(epoch).or_default().late.push(record);
        } else {
            let end = self.windows.last_window_end(time);
            it.open.entry((group_of(record), end)).or_default().push(record);
        }
        Ok(())
    }

    fn fire(&mut self, to: usize, change: Change, epoch: Epoch) -> Outcome {
        let Some(watermark) = change.watermark else { return Ok(()) };
        let it = &mut self.windowing[to];
        let due: Vec<(u16, i64)> =
            it.open.keys().filter(|(_, end)| self.windows.has_fired(*end, watermark)).copied().collect();
        for key in due {
            let rows = it.open.remove(&key).unwrap_or_default();
            self.output.entry(epoch).or_default().fired.push((key, rows));
        }
        Ok(())
    }

    /// What it has come to.
    pub fn figures(&self) -> Vec<(&'static str, u64)> {
        vec![("records", self.done.len() as u64), ("windows", self.fired.len() as u64), ("epochs", self.saved.epoch.0)]
    }

    /// What epochs that count have put out is out for good.
    fn check(&mut self) -> Outcome {
        while let Some(entry) = self.output.first_entry().filter(|entry| *entry.key() <= self.saved.epoch) {
            let output = entry.remove();
            for (key, rows) in output.fired {
                if !self.fired.insert(key) {
                    return Err(Violation(format!("P13: window {key:?} fires twice")));
                }
                rows.iter().try_for_each(|record| self.take(*record))?;
            }
            output.late.iter().try_for_each(|record| self.take(*record))?;
        }
        Ok(())
    }

    fn take(&mut self, record: Record) -> Outcome {
        if self.done.insert(record) { Ok(()) } else { Err(Violation(format!("I1: record {record:?} counts twice"))) }
    }
}

/// As the engine's source task builds itself from what an epoch says of its splits.
fn restored_source(mine: BTreeMap<usize, Split>, sealed: Epoch) -> Result<Source, Violation> {
    let mut watermarks = SplitWatermarks::new(UNKNOWN);
    for split in mine.keys() {
        let _ = watermarks.add(split_id(*split), false);
    }
    let mut splits = mine;
    for (split, state) in &mut splits {
        let id = split_id(*split);
        if state.finished {
            let _ = watermarks.finish(&id).map_err(Violation::from)?;
        } else if state.position > 0 || state.watermark.is_some() || state.idle {
            let _ = watermarks.open(&id, state.watermark).map_err(Violation::from)?;
        }
        state.idle = false;
    }
    let _ = watermarks.close();
    Ok(Source { splits, watermarks, is_idle: false, waking: None, held: None, sealed, has_ended: false })
}

fn internal(what: &str) -> Violation {
    Violation(format!("the model: {what}"))
}

impl Model for TimeWorld {
    type Action = Step;
    type Choices = Vec<(usize, u8)>;

    fn new(random: &Random) -> Self {
        let splits = 1 + random.index(4);
        let disorder = [0, 3, 12][random.index(3)];
        let mut times = Vec::new();
        for _ in 0..splits {
            let (mut time, mut of_split) = (random.index(30) as i64, Vec::new());
            for _ in 0..random.index(24) {
                time += random.index(5) as i64;
                // Now and then one is later than its split says rows are.
                let behind =
                    if random.once_in(9) { random.index(40) as i64 } else { random.index(disorder + 1) as i64 };
                of_split.push(time - behind);
            }
            times.push(of_split);
        }
        let windows = Windows::new(WindowShape::Tumble { size: WINDOW_MS, offset: 0 }, 0, Firing::Complete);
        let mut world = Self {
            disorder: disorder as i64,
            windows: windows.expect("a window of a length"),
            parallelism: 1,
            saved: Saved { splits: vec![Split::default(); splits], ..Saved::default() },
            times,
            saving: Saved::default(),
            sealed_parts: 0,
            triggered: None,
            sources: Vec::new(),
            windowing: Vec::new(),
            channels: BTreeMap::new(),
            output: BTreeMap::new(),
            fired: BTreeSet::new(),
            done: BTreeSet::new(),
            may_be_late: BTreeSet::new(),
        };
        let parallelism = 1 + random.index(3) as u32;
        world.restart(parallelism).expect("nothing has happened yet");
        world
    }

    fn choices(random: &Random) -> Self::Choices {
        let faults = |random: &Random| [0, 0, 1, 3][random.index(4)];
        vec![(10, 0), (24, 1), (faults(random), 2), (3, 3), (faults(random), 4)]
    }

    fn steps(_: &Random) -> usize {
        200
    }

    fn choose(&self, choices: &Self::Choices, random: &Random) -> Step {
        let kind = random.weighted(choices);
        let n = || random.index(1 << 12);
        match kind {
            0 => Step::Read(n(), n()),
            1 => Step::Flow(n(), n()),
            2 => Step::FallIdle(n(), n()),
            3 => Step::Barrier,
            _ => Step::Restart(1 + n() as u32 % 3),
        }
    }

    fn step(&mut self, action: &Step) -> Outcome {
        match *action {
            Step::Read(source, which) => self.read(source, which),
            Step::Flow(to, which) => self.flow(to, which),
            Step::FallIdle(source, which) => self.fall_idle(source, which),
            Step::Barrier => self.barrier(),
            Step::Restart(parallelism) => self.restart(parallelism),
        }?;
        self.check()
    }

    /// Everything is read, and an epoch closes behind the end: each record is in a window or late, once.
    fn heal(&mut self) -> Outcome {
        for round in 0..4_000 {
            let has_ended = self.sources.iter().all(|source| source.has_ended);
            if has_ended && self.channels.values().all(VecDeque::is_empty) && self.triggered.is_none() {
                break;
            }
            for at in 0..4 {
                self.step(&Step::Read(at, round))?;
                self.step(&Step::Flow(at, round + at))?;
                self.step(&Step::Flow(at, round + 1))?;
            }
        }
        self.step(&Step::Barrier)?;
        if self.triggered.is_some() {
            return Err(Violation("I15: the last epoch does not close".to_owned()));
        }
        let all = self.times.iter().enumerate().flat_map(|(split, times)| (0..times.len()).map(move |at| (split, at)));
        match all.into_iter().find(|record| !self.done.contains(record)) {
            Some(record) => Err(Violation(format!("I1: record {record:?} is in no window and not late"))),
            None => Ok(()),
        }
    }
}
