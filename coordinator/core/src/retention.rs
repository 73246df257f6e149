//! Retention by what was read (P15): the rows of a topic that no epoch which may be restored needs any more.
//!
//! A cut of a partition is decided and holds for ever: whoever removes what lies before it may be told late, twice, or
//! by a leader that is none any more. That is safe because positions of a job only rise, and what may bring a lower one
//! (a new job, a rollback) and cuts refuse each other: a cut is refused if such a thing came after what it was worked
//! out from, and a job that would begin before a cut is refused after it.

use std::collections::BTreeMap;

use qanat_proto::zoo::{Bug, planted};
use serde::{Deserialize, Serialize};

use crate::apply::Applied;
use crate::command::Refusal;
use crate::state::{Claimed, Job, JobStatus, State};

/// Where an epoch begins to read a partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicStart {
    pub topic: String,
    /// Which topic of the name; None where an old version did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    pub partition: u32,
    pub offset: u64,
}

/// What of a topic goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicCut {
    /// Which topic of the name.
    pub id: u64,
    /// Rows before these offsets, by partition.
    #[serde(with = "pairs")]
    pub offsets: BTreeMap<u32, u64>,
}

/// A command is told by a field beside the others, and such have no maps with numbers for keys: a list of pairs.
mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(offsets: &BTreeMap<u32, u64>, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(offsets)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<u32, u64>, D::Error> {
        Vec::<(u32, u64)>::deserialize(from).map(|pairs| pairs.into_iter().collect())
    }
}

/// By topic and partition.
pub type Offsets = BTreeMap<String, BTreeMap<u32, u64>>;

/// The lowest offset of each partition at which an epoch begins that may be restored, of any job. `topics` are those
/// that are asked about, with the ids that they have now. `starts` tells where an epoch begins; None if it does not
/// know yet, and then nobody knows anything.
pub fn lowest_starts<'a>(
    state: &State,
    topics: &BTreeMap<String, u64>,
    starts: impl Fn(&Claimed) -> Option<&'a [TopicStart]>,
) -> Option<Offsets> {
    let mut lowest = Offsets::new();
    let is_of = |start: &&TopicStart| topics.get(&start.topic).is_some_and(|id| start.id.is_none_or(|own| own == *id));
    for claim in state.jobs.values().flat_map(restorable) {
        for start in starts(claim)?.iter().filter(is_of) {
            let offset = lowest.entry(start.topic.clone()).or_default().entry(start.partition).or_insert(start.offset);
            *offset = (*offset).min(start.offset);
        }
    }
    Some(lowest)
}

/// Epochs from which a job may read on. A finished one reads nothing again, unless it goes back to one with a name.
pub fn restorable(job: &Job) -> impl Iterator<Item = &Claimed> {
    let is_kept = |epoch| job.status != JobStatus::Finished || job.is_savepoint(epoch);
    let newest = job.last_claim().map(|(epoch, _)| epoch).filter(|_| planted(Bug::RetainNewest));
    let claims = job.claims.iter().filter(move |(epoch, _)| newest.is_none_or(|newest| newest == **epoch));
    claims.filter(move |(epoch, _)| is_kept(**epoch)).map(|(_, claim)| claim)
}

impl State {
    /// `as_of` is the number of commands applied when the offsets were worked out.
    pub(crate) fn cut_topic(&mut self, topic: &str, cut: &TopicCut, as_of: u64) -> Result<Applied, Refusal> {
        if self.last_begun > as_of {
            return Err(Refusal::JobsChanged);
        }
        let known = self.cuts.entry(topic.to_owned()).or_default();
        if known.id != cut.id {
            *known = TopicCut { id: cut.id, offsets: BTreeMap::new() };
        }
        for (partition, offset) in &cut.offsets {
            let known = known.offsets.entry(*partition).or_default();
            *known = (*known).max(*offset);
        }
        Ok(Applied::Done)
    }

    /// A job does not begin with rows that go.
    pub(crate) fn check_starts(&self, starts: &[TopicStart]) -> Result<(), Refusal> {
        let goes = |start: &&TopicStart| {
            let cut = self.cuts.get(&start.topic).filter(|cut| start.id.is_none_or(|id| id == cut.id));
            cut.and_then(|cut| cut.offsets.get(&start.partition)).is_some_and(|cut| start.offset < *cut)
        };
        match starts.iter().find(goes) {
            Some(start) => Err(Refusal::RowsGo { topic: start.topic.clone() }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use qanat_proto::ids::{Epoch, Generation, JobId, StartId, Token};
    use qanat_proto::receipt::Receipt;
    use qanat_proto::settings::JobSettings;

    use super::*;
    use crate::command::{Command, JobTopics, RunWith};

    const TOPIC: &str = "t";
    const ID: u64 = 7;

    fn start(offset: u64) -> TopicStart {
        TopicStart { topic: TOPIC.to_owned(), id: Some(ID), partition: 0, offset }
    }

    /// Jobs that read one partition, and whoever retains it.
    #[derive(Default)]
    struct World {
        state: State,
        /// Where each epoch begins, by its manifest.
        starts: BTreeMap<String, Vec<TopicStart>>,
        made: u64,
        /// Where the topic ends, and what of it is gone.
        end: u64,
        first: u64,
        /// What a leader worked out and did not say yet.
        planned: Option<(u64, u64)>,
    }

    impl World {
        fn lowest(&self) -> Option<u64> {
            let topics = BTreeMap::from([(TOPIC.to_owned(), ID)]);
            let starts = |claim: &Claimed| self.starts.get(&claim.manifest_key).map(Vec::as_slice);
            let lowest = lowest_starts(&self.state, &topics, starts);
            lowest.expect("all are known").get(TOPIC).map(|partitions| partitions[&0])
        }

        fn key(&mut self, offset: u64) -> String {
            self.made += 1;
            let key = format!("m{}", self.made);
            self.starts.insert(key.clone(), vec![start(offset)]);
            key
        }

        fn step(&mut self, action: &Action) {
            let nth = |state: &State, which: usize| state.jobs.keys().nth(which % state.jobs.len().max(1)).copied();
            match *action {
                Action::Append(rows) => self.end += rows,
                Action::Create(back) => {
                    // From what is there; the removal may be on its way.
                    let offset = self.end.saturating_sub(back).max(self.first);
                    let manifest_key = self.key(offset);
                    let topics = JobTopics { names: BTreeSet::from([TOPIC.to_owned()]), starts: vec![start(offset)] };
                    let run_with = RunWith {
                        parallelism: 1,
                        settings: JobSettings::default(),
                        together: false,
                        trace: None,
                        topics: Some(topics),
                    };
                    let job = JobId(u128::from(self.made));
                    let command = Command::CreateJob {
                        job,
                        name: format!("job{}", self.made),
                        script_digest: String::new(),
                        manifest_key,
                        checksum: String::new(),
                        run_with: Some(Box::new(run_with)),
                    };
                    let created = self.state.apply(&command);
                    if created.is_ok() {
                        let settings = JobSettings::default();
                        let (expected, placement) = (Generation(0), vec![StartId(1)]);
                        let open = Command::OpenGeneration { job, expected, placement, parallelism: 1, settings };
                        self.state.apply(&open).expect("the first generation");
                    }
                }
                Action::Claim(which, rows) => {
                    let Some(id) = nth(&self.state, which) else { return };
                    let job = &self.state.jobs[&id];
                    let (last, claim) = job.last_claim().expect("epoch 0");
                    let offset = (self.starts[&claim.manifest_key][0].offset + rows).min(self.end);
                    let (token, epoch) = (job.token(id), job.next_epoch());
                    assert!(epoch > last);
                    let manifest_key = self.key(offset);
                    let command = Command::Claim {
                        token,
                        epoch,
                        manifest_key: manifest_key.clone(),
                        checksum: String::new(),
                        handles: Vec::new(),
                        is_final: false,
                        receipt: Box::new(Receipt::default()),
                    };
                    if self.state.apply(&command).is_ok() {
                        let committed = Command::Committed { token, epoch, manifest_key, handle_names: Vec::new() };
                        self.state.apply(&committed).expect("claimed");
                    }
                }
                Action::Savepoint(which) => {
                    let Some(job) = nth(&self.state, which) else { return };
                    let command = Command::Savepoint { job, name: format!("s{}", self.made), request: String::new() };
                    let _ = self.state.apply(&command);
                }
                Action::Retire(which) => {
                    let Some(job) = nth(&self.state, which) else { return };
                    let oldest = self.state.jobs[&job].claims.keys().next().copied().into_iter().collect();
                    let _ = self.state.apply(&Command::Retire { job, epochs: oldest });
                }
                Action::Rollback(which, to) => {
                    let Some(id) = nth(&self.state, which) else { return };
                    let job = &self.state.jobs[&id];
                    let to: Vec<Epoch> = job.claims.keys().nth(to % job.claims.len()).copied().into_iter().collect();
                    let expected = job.last_claim().expect("epoch 0").0;
                    let (generation, objects) = (job.generation, Vec::new());
                    let request = String::new();
                    let command =
                        Command::Rollback { job: id, to: to[0], expected, objects, starts: Vec::new(), request };
                    if self.state.apply(&command).is_ok() {
                        let settings = JobSettings::default();
                        let placement = vec![StartId(1)];
                        let open = Command::OpenGeneration {
                            job: id,
                            expected: generation,
                            placement,
                            parallelism: 1,
                            settings,
                        };
                        self.state.apply(&open).expect("the next generation");
                        let token = Token { job: id, generation: generation.next() };
                        let _ = self.state.apply(&Command::Withdrawn { token });
                    }
                }
                Action::Plan => self.planned = self.lowest().map(|lowest| (lowest, self.state.applied)),
                Action::Cut => {
                    let Some((offset, as_of)) = self.planned else { return };
                    let cut = TopicCut { id: ID, offsets: [(0, offset)].into() };
                    let command = Command::CutTopic { topic: TOPIC.to_owned(), cut, as_of };
                    // As it comes out of the log.
                    let written = serde_json::to_string(&command).expect("encodes");
                    let _ = self.state.apply(&serde_json::from_str(&written).expect("decodes"));
                }
                Action::Remove => {
                    let cut = self.state.cuts.get(TOPIC).map_or(0, |cut| cut.offsets[&0]);
                    self.first = self.first.max(cut);
                }
            }
        }
    }

    #[derive(Clone, Debug)]
    enum Action {
        Append(u64),
        /// It begins so many rows before the end.
        Create(u64),
        Claim(usize, u64),
        Savepoint(usize),
        Retire(usize),
        Rollback(usize, usize),
        /// A leader works out what may go.
        Plan,
        /// It says so, perhaps much later.
        Cut,
        Remove,
    }

    fn action() -> impl Strategy<Value = Action> {
        prop_oneof![
            4 => (1..20_u64).prop_map(Action::Append),
            2 => (0..40_u64).prop_map(Action::Create),
            8 => (0..8_usize, 0..20_u64).prop_map(|(which, rows)| Action::Claim(which, rows)),
            1 => (0..8_usize).prop_map(Action::Savepoint),
            4 => (0..8_usize).prop_map(Action::Retire),
            1 => (0..8_usize, 0..8_usize).prop_map(|(which, to)| Action::Rollback(which, to)),
            4 => Just(Action::Plan),
            4 => Just(Action::Cut),
            2 => Just(Action::Remove),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        /// Whatever happens between a plan and its cut, no epoch that may be restored ever lacks a row.
        #[test]
        fn no_cut_takes_what_may_be_read_again(actions in prop::collection::vec(action(), 0..200)) {
            let mut world = World::default();
            for action in actions {
                world.step(&action);
                let cut = world.state.cuts.get(TOPIC).map_or(0, |cut| cut.offsets[&0]);
                prop_assert!(world.lowest().is_none_or(|lowest| lowest >= cut), "{action:?}: before {cut}");
                prop_assert!(world.first <= cut);
            }
        }
    }

    #[test]
    fn cuts_rise_and_jobs_that_begin_make_old_plans_void() {
        let mut world = World::default();
        world.step(&Action::Append(100));
        world.step(&Action::Create(50));
        world.step(&Action::Plan);
        assert_eq!(world.planned.map(|(offset, _)| offset), Some(50));
        world.step(&Action::Create(80));
        let cut = TopicCut { id: ID, offsets: [(0, 50)].into() };
        let as_of = world.planned.expect("planned").1;
        let late = Command::CutTopic { topic: TOPIC.to_owned(), cut: cut.clone(), as_of };
        assert_eq!(world.state.apply(&late), Err(Refusal::JobsChanged));
        world.step(&Action::Plan);
        world.step(&Action::Cut);
        assert_eq!(world.state.cuts[TOPIC].offsets[&0], 20);
        // The rows are there still, and nobody may begin with them.
        let jobs = world.state.jobs.len();
        world.step(&Action::Create(81));
        assert_eq!(world.state.jobs.len(), jobs);
        world.step(&Action::Create(80));
        assert_eq!(world.state.jobs.len(), jobs + 1);
        // Another topic of the name begins anew.
        let other = Command::CutTopic {
            topic: TOPIC.to_owned(),
            cut: TopicCut { id: ID + 1, ..cut },
            as_of: world.state.applied,
        };
        world.state.apply(&other).expect("as of now");
        world.step(&Action::Create(90));
        assert_eq!(world.state.jobs.len(), jobs + 2, "the cut is of another topic");
    }
}
