//! The judging: every equation of a run's receipts, against each other and against what the sinks hold.
//!
//! Pure: all reading is done in `gather.rs`. What must never happen: a record lost or doubled that passes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use qanat_proto::EpochRanges;
use qanat_proto::audit::{Check, Difference, EpochLine, Report, SinkLine, Sums, Verdict};
use qanat_proto::ids::{Epoch, OperatorId, SplitId};
use qanat_proto::manifest::SinkChannel;
use qanat_proto::physical::{PhysicalGraph, Routing};
use qanat_proto::receipt::{OperatorReceipt, Receipt, RowSum, Totals};

use super::evidence::{
    ClaimedEpoch, Evidence, ManifestEvidence, Medium, NetChanges, SideEvidence, SinkEvidence, SinkFault,
};

/// Judges a run.
pub(super) fn check(evidence: &Evidence) -> Report {
    let mut audit = Audit { evidence, differences: Vec::new(), unproved: Vec::new(), reconciled: 0 };
    audit.epochs();
    audit.sums_to_cut();
    audit.splits_and_manifests();
    evidence.epochs.iter().for_each(|claim| audit.flow(claim));
    let sinks = evidence.sinks.iter().map(|sink| audit.sink(sink)).collect();
    evidence.side_tables.iter().for_each(|table| audit.side_table(table));
    audit.report(sinks)
}

struct Audit<'a> {
    evidence: &'a Evidence,
    differences: Vec<Difference>,
    unproved: Vec<String>,
    /// Rows that were read back and are what was claimed.
    reconciled: u64,
}

/// Rows that are missing, and rows that are too many: what was claimed of one place against what is there.
#[derive(Clone, Copy, Default)]
struct Surplus {
    lost: u64,
    duplicated: u64,
}

impl Surplus {
    fn of(claimed: u64, found: u64) -> Self {
        Self { lost: claimed.saturating_sub(found), duplicated: found.saturating_sub(claimed) }
    }
}

impl Audit<'_> {
    fn find(&mut self, epoch: impl Into<Option<Epoch>>, check: Check, place: impl ToString, message: String) {
        self.find_rows(epoch, check, place, message, Surplus::default());
    }

    /// As [`Audit::find`], where rows can be counted that are missing or too many.
    fn find_rows(
        &mut self,
        epoch: impl Into<Option<Epoch>>,
        check: Check,
        place: impl ToString,
        message: String,
        Surplus { lost, duplicated }: Surplus,
    ) {
        let (epoch, place) = (epoch.into(), place.to_string());
        self.differences.push(Difference { epoch, check, place, message, lost, duplicated });
    }

    /// The epoch that follows: withdrawn ones do not count.
    fn after(&self, epoch: Epoch) -> Epoch {
        let withdrawn = &self.evidence.withdrawn;
        let mut next = epoch.next();
        while let Some((_, last)) = withdrawn.range_of(next) {
            next = last.next();
        }
        next
    }

    fn last(&self) -> Epoch {
        self.evidence.epochs.last().map_or(self.evidence.cut.epoch, |claim| claim.epoch)
    }

    /// Whether an epoch's receipt is not kept any more.
    fn is_cut(&self, epoch: Epoch) -> bool {
        epoch <= self.evidence.cut.epoch
    }

    /// Whether every effect of an epoch must be there. The commit of the newest claim may be under way.
    fn is_due(&self, epoch: Epoch) -> bool {
        self.is_cut(epoch) || self.evidence.epochs.iter().any(|claim| claim.epoch == epoch && claim.committed)
    }

    /// Whether nothing of an epoch may be there any more.
    fn is_withdrawn(&self, epoch: Epoch) -> bool {
        let is_in = |ranges: &EpochRanges| ranges.range_of(epoch).is_some();
        is_in(&self.evidence.withdrawn) && !is_in(&self.evidence.withdrawing)
    }

    /// Whether effects of an epoch may be there already: what a running job claimed after the command log
    /// was read is no difference.
    fn may_be(&self, epoch: Epoch) -> bool {
        epoch > Epoch(0) && (epoch <= self.last() || !self.evidence.has_ended)
    }

    fn epochs(&mut self) {
        let mut expected = self.after(self.evidence.cut.epoch);
        for claim in &self.evidence.epochs {
            if claim.epoch != expected {
                let message = format!("epoch {} follows epoch {}", claim.epoch, expected.0.saturating_sub(1));
                self.find(claim.epoch, Check::Epochs, "command log", message);
            }
            expected = self.after(claim.epoch);
            if !claim.committed && claim.epoch < self.last() {
                let message = "its commit is not recorded, and a later epoch is claimed".to_owned();
                self.find(claim.epoch, Check::Epochs, "command log", message);
            }
            let receipt = &claim.receipt;
            if (receipt.job, receipt.epoch, receipt.generation) != (self.evidence.job, claim.epoch, claim.generation) {
                let message = format!(
                    "it carries the receipt of epoch {}, generation {}, of job {}",
                    receipt.epoch, receipt.generation, receipt.job
                );
                self.find(claim.epoch, Check::Epochs, "command log", message);
            }
        }
        if let Some(last) = self.evidence.epochs.last().filter(|last| !last.committed) {
            let epoch = last.epoch;
            self.unproved.push(format!("epoch {epoch} is claimed, and its commit is not recorded yet"));
        }
    }

    /// Epochs whose receipts are gone: what the sinks hold of all of them is what was claimed of all of them.
    fn sums_to_cut(&mut self) {
        let evidence = self.evidence;
        let cut = &evidence.cut;
        if cut.epoch == Epoch(0) {
            return;
        }
        let epoch = cut.epoch;
        self.unproved.push(format!("epochs 1 to {epoch} one by one: their receipts are gone, their sums are checked"));
        for (found, manifest) in &evidence.manifests {
            if let ManifestEvidence::Damaged { object, message } = manifest
                && self.is_cut(*found)
            {
                self.find(*found, Check::Checkpoint, object, message.clone());
            }
        }
        if !cut.committed {
            return;
        }
        for (table, claimed) in &cut.sums.sinks {
            let of_table = || evidence.sinks.iter().filter(move |sink| sink.table == *table);
            if !of_table().all(|sink| matches!(sink.medium, Medium::Folder(_) | Medium::Topic(_))) {
                continue;
            }
            let mut found = RowSum::default();
            let to_cut = of_table().flat_map(|sink| &sink.found).filter(|(found, _)| self.is_cut(**found));
            let mut right = 0;
            to_cut.for_each(|(_, epoch)| {
                found.add(epoch.sum);
                right += epoch.right;
            });
            let is_folder = of_table().any(|sink| matches!(sink.medium, Medium::Folder(_)));
            if is_folder {
                self.reconciled += right.min(claimed.rows);
            }
            let gone = of_table().filter_map(|sink| sink.cut).max();
            let place = format!("{table}, epochs 1 to {epoch}");
            let is_equal = self.compare(Check::Sinks, epoch, place, *claimed, found, gone.map(|_| epoch));
            if is_equal && !is_folder {
                self.reconciled += claimed.rows;
            }
        }
        for table in &evidence.side_tables {
            let claimed = match table.channel {
                SinkChannel::Late => cut.sums.late,
                SinkChannel::DeadLetters | SinkChannel::Table => cut.sums.dead_lettered,
            };
            let to_cut = table.found.iter().filter(|((_, found), _)| self.is_cut(*found));
            let found: u64 = to_cut.map(|(_, sum)| sum.rows).sum();
            // Of side rows only the number is kept.
            let rows = |rows| RowSum { rows, ..RowSum::default() };
            let place = format!("topic {}, epochs 1 to {epoch}", table.topic);
            let is_equal =
                self.compare(Check::SideTables, epoch, place, rows(claimed), rows(found), table.cut.map(|_| epoch));
            self.reconciled += if is_equal { claimed } else { 0 };
        }
    }

    /// The chain of source positions, and what manifests say of it.
    fn splits_and_manifests(&mut self) {
        // Positions, and the records read so far where that is known.
        let mut at: BTreeMap<(OperatorId, SplitId), (Arc<serde_json::Value>, Option<u64>)> = BTreeMap::new();
        let starts_at_zero = self.evidence.cut.epoch == Epoch(0);
        if starts_at_zero {
            at.extend(self.evidence.start.iter().map(|(key, position)| (key.clone(), (position.clone(), Some(0)))));
        }
        let mut totals = self.evidence.cut.sums.clone();
        if starts_at_zero {
            self.manifest(Epoch(0), None, &at, &totals);
        }
        for claim in &self.evidence.epochs {
            for source in &claim.receipt.sources {
                let mut seen = BTreeSet::new();
                for split in &source.splits {
                    let place = || format!("split {} of {}", split.id, source.table);
                    if !seen.insert(&split.id) {
                        self.find(claim.epoch, Check::Splits, place(), "it stands twice in the receipt".to_owned());
                    }
                    let key = (source.operator, split.id.clone());
                    let rows = match at.get(&key) {
                        Some((position, rows)) => {
                            if *position != split.from {
                                let message =
                                    format!("it begins at {}, and the epoch before ended at {position}", split.from);
                                self.find(claim.epoch, Check::Splits, place(), message);
                            }
                            *rows
                        }
                        // Discovered since, or epoch 0 is not kept any more.
                        None => starts_at_zero.then_some(0),
                    };
                    at.insert(key, (split.to.clone(), rows.map(|rows| rows + split.rows)));
                }
                let read: u64 = source.splits.iter().map(|split| split.rows).sum();
                let taken = operator(&claim.receipt, source.operator).map_or(0, |o| o.counts.rows_in);
                if read != taken {
                    let message = format!("its splits gave {read} records, the source took {taken}");
                    self.find(claim.epoch, Check::Splits, &source.table, message);
                }
            }
            totals.add(&claim.receipt);
            self.manifest(claim.epoch, Some(&claim.receipt), &at, &totals);
        }
    }

    fn manifest(
        &mut self,
        epoch: Epoch,
        receipt: Option<&Receipt>,
        at: &BTreeMap<(OperatorId, SplitId), (Arc<serde_json::Value>, Option<u64>)>,
        expected: &Totals,
    ) {
        let evidence = self.evidence;
        match evidence.manifests.get(&epoch) {
            None => {}
            Some(ManifestEvidence::Damaged { object, message }) => {
                self.find(epoch, Check::Checkpoint, object, message.clone());
            }
            Some(ManifestEvidence::Read { receipt: found, totals, sources }) => {
                let place = format!("manifest of epoch {epoch}");
                if receipt.is_some_and(|receipt| receipt != found) {
                    let message = "its receipt is not the one in the command log".to_owned();
                    self.find(epoch, Check::Checkpoint, &place, message);
                }
                if totals != expected {
                    let message = "its totals are not the sums of the receipts".to_owned();
                    self.find(epoch, Check::Checkpoint, &place, message);
                }
                for source in sources {
                    for split in &source.splits {
                        let Some((position, rows)) = at.get(&(source.operator, split.id.clone())) else { continue };
                        // A split that gave nothing yet has no receipt: its place may have been made exact.
                        let read = rows.unwrap_or(split.rows);
                        if (position, read) != (&split.position, split.rows) && read > 0 {
                            let message = format!(
                                "split {} stands at {} after {} records; the receipts end at {position} after {read}",
                                split.id, split.position, split.rows
                            );
                            self.find(epoch, Check::Checkpoint, &place, message);
                        }
                    }
                }
            }
        }
    }

    /// Edges and operators of one epoch.
    fn flow(&mut self, claim: &ClaimedEpoch) {
        let receipt = &claim.receipt;
        let epoch = claim.epoch;
        let name = |id: OperatorId| operator(receipt, id).map_or_else(|| id.to_string(), |o| o.name.clone());
        for edge in &receipt.edges {
            if edge.sent != edge.received {
                let message = format!("{} sent, {} received", sum_text(edge.sent), sum_text(edge.received));
                self.find(epoch, Check::Edges, format!("{} to {}", name(edge.from), name(edge.to)), message);
            }
        }
        for operator in &receipt.operators {
            if let Some(message) = imbalance(operator) {
                self.find(epoch, Check::Operators, &operator.name, message);
            }
        }
        let Some(graph) = &self.evidence.graph else { return };
        let physical = PhysicalGraph::expand(graph, claim.parallelism.max(1));
        for edge in physical.edges.iter().filter(|edge| edge.routing != Routing::Chained) {
            let stands = receipt.edges.iter().any(|e| (e.from, e.to, e.port) == (edge.from, edge.to, edge.port));
            if !stands {
                let place = format!("{} to {}", name(edge.from), name(edge.to));
                self.find(epoch, Check::Edges, place, "the receipt does not have this edge".to_owned());
            }
        }
        for node in &physical.operators {
            let Some(taker) = operator(receipt, node.id) else {
                self.find(epoch, Check::Operators, node.id, "the receipt does not have this operator".to_owned());
                continue;
            };
            let inputs: Vec<OperatorId> = physical.edges.iter().filter(|e| e.to == node.id).map(|e| e.from).collect();
            if inputs.is_empty() {
                continue;
            }
            let given: u64 = inputs.iter().filter_map(|id| operator(receipt, *id)).map(|o| o.counts.rows_out).sum();
            if given != taker.counts.rows_in {
                let givers: Vec<String> = inputs.iter().map(|id| name(*id)).collect();
                let message = format!("{given} rows given, {} taken", taker.counts.rows_in);
                self.find(epoch, Check::Edges, format!("{} to {}", givers.join(" and "), taker.name), message);
            }
        }
    }

    fn sink(&mut self, sink: &SinkEvidence) -> SinkLine {
        let mut claimed = RowSum::default();
        let mut objects = 0;
        for claim in &self.evidence.epochs {
            let receipts = claim.receipt.sinks.iter().filter(|s| s.operator == sink.operator);
            let listed: BTreeMap<&str, RowSum> =
                receipts.flat_map(|s| &s.objects).map(|object| (object.name.as_str(), object.sum)).collect();
            listed.values().for_each(|sum| claimed.add(*sum));
            objects += listed.values().filter(|sum| sum.rows > 0).count() as u64;
            self.handles(sink, claim, &listed);
            if matches!(sink.medium, Medium::Folder(_) | Medium::Topic(_)) {
                self.effects(sink, claim, &listed);
            }
        }
        for (epoch, found) in &sink.found {
            if !self.evidence.epochs.iter().any(|claim| claim.epoch == *epoch) && !self.may_be(*epoch) {
                let message = format!("it holds {} of an epoch that was never claimed", sum_text(found.sum));
                self.find_rows(*epoch, Check::Sinks, &sink.table, message, Surplus::of(0, found.sum.rows));
            }
        }
        for fault in &sink.faults {
            // What a commit that is under way has done so far is not judged.
            if fault.epoch.is_none_or(|epoch| self.is_due(epoch) || self.is_withdrawn(epoch) || !self.may_be(epoch)) {
                // Of a file whose record is gone the rows are missed already: they are not there twice.
                let duplicated = if self.is_missed(sink, fault) { 0 } else { fault.surplus };
                let surplus = Surplus { lost: fault.lost, duplicated };
                self.find_rows(fault.epoch, Check::Sinks, &fault.place, fault.message.clone(), surplus);
            }
        }
        let (medium, place) = match &sink.medium {
            Medium::Folder(folder) => ("files", folder.clone()),
            Medium::Topic(topic) => ("topic", topic.clone()),
            Medium::Nothing => ("nothing", String::new()),
            Medium::Unreadable(connector) => {
                if claimed.rows > 0 {
                    let line = format!(
                        "{} of `{}`: what {connector} wrote cannot be read again",
                        sum_text(claimed),
                        sink.table
                    );
                    self.unproved.push(line);
                }
                (connector.as_str(), String::new())
            }
        };
        let found = matches!(sink.medium, Medium::Folder(_) | Medium::Topic(_)).then(|| {
            let mut sum = RowSum::default();
            let judged = sink.found.iter().filter(|(epoch, _)| **epoch <= self.last() && !self.is_cut(**epoch));
            judged.for_each(|(_, found)| sum.add(found.read));
            sum
        });
        let net = match sink.changes {
            None => found,
            Some(NetChanges::Known(net)) => Some(net),
            Some(NetChanges::Unknown) => None,
        };
        SinkLine { table: sink.table.clone(), medium: medium.to_owned(), place, claimed, objects, found, net }
    }

    /// Whether a file holds an object that was claimed and that no commit record names.
    fn is_missed(&self, sink: &SinkEvidence, fault: &SinkFault) -> bool {
        let (Some(epoch), Some(object)) = (fault.epoch, &fault.object) else { return false };
        let is_named = sink.found.get(&epoch).is_some_and(|found| found.objects.contains_key(object));
        let mut claims = self.evidence.epochs.iter().filter(|claim| claim.epoch == epoch);
        !is_named && claims.any(|claim| claim.handles.iter().any(|handle| handle.name == *object))
    }

    /// What the sink took, staged and claimed is the same.
    fn handles(&mut self, sink: &SinkEvidence, claim: &ClaimedEpoch, listed: &BTreeMap<&str, RowSum>) {
        let handles: BTreeMap<&str, RowSum> = claim
            .handles
            .iter()
            .filter(|handle| handle.channel == SinkChannel::Table && handle.subtask.operator == sink.operator)
            .map(|handle| (handle.name.as_str(), handle.sum))
            .collect();
        for (name, sum) in listed {
            match handles.get(name) {
                None => self.find(claim.epoch, Check::Sinks, name, "no claimed handle has this name".to_owned()),
                Some(staged) if staged != sum => {
                    let message = format!("{} staged, {} in the receipt", sum_text(*staged), sum_text(*sum));
                    self.find(claim.epoch, Check::Sinks, name, message);
                }
                Some(_) => {}
            }
        }
        for name in handles.keys().filter(|name| !listed.contains_key(*name)) {
            self.find(claim.epoch, Check::Sinks, name, "it is claimed, and the receipt does not list it".to_owned());
        }
        if sink.medium == Medium::Nothing {
            return;
        }
        let staged: u64 = listed.values().map(|sum| sum.rows).sum();
        let given = operator(&claim.receipt, sink.operator).map_or(0, |o| o.counts.rows_out);
        if staged != given {
            self.find(claim.epoch, Check::Sinks, &sink.table, format!("{given} rows given to it, {staged} staged"));
        }
    }

    /// What the receipt lists is what the sink holds.
    fn effects(&mut self, sink: &SinkEvidence, claim: &ClaimedEpoch, listed: &BTreeMap<&str, RowSum>) {
        let epoch = claim.epoch;
        let nothing = super::evidence::FoundEpoch::default();
        let found = sink.found.get(&epoch).unwrap_or(&nothing);
        if let Some(key) = found.manifest_key.as_ref().filter(|key| **key != claim.manifest_key) {
            let message = format!("its commit record names manifest {key}, the claim {}", claim.manifest_key);
            self.find(epoch, Check::Sinks, &sink.table, message);
        }
        if let Medium::Topic(topic) = &sink.medium {
            let mut sum = RowSum::default();
            listed.values().for_each(|object| sum.add(*object));
            let is_equal = self.compare(Check::Sinks, epoch, format!("topic {topic}"), sum, found.sum, sink.cut);
            self.reconciled += if is_equal { sum.rows } else { 0 };
            return;
        }
        self.reconciled += found.right.min(listed.values().map(|sum| sum.rows).sum());
        for (name, sum) in listed.iter().filter(|(_, sum)| sum.rows > 0) {
            match found.objects.get(*name) {
                None if self.is_due(epoch) => {
                    let message = format!("no commit record of epoch {epoch} names it: {} are lost", sum_text(*sum));
                    let place = format!("{} in {}", name, sink.table);
                    self.find_rows(epoch, Check::Sinks, place, message, Surplus::of(sum.rows, 0));
                }
                None => {}
                Some(object) if object.sum != *sum => {
                    let message =
                        format!("{} in its commit record, {} in the receipt", sum_text(object.sum), sum_text(*sum));
                    let surplus = Surplus::of(sum.rows, object.sum.rows);
                    self.find_rows(epoch, Check::Sinks, &object.path, message, surplus);
                }
                Some(_) => {}
            }
        }
        for (name, object) in found.objects.iter().filter(|(name, _)| !listed.contains_key(name.as_str())) {
            let message = format!("{} that the receipt does not list (object {name})", sum_text(object.sum));
            self.find_rows(epoch, Check::Sinks, &object.path, message, Surplus::of(0, object.sum.rows));
        }
    }

    /// Sums of one epoch in a topic. Says whether they are equal.
    fn compare(
        &mut self,
        check: Check,
        epoch: Epoch,
        place: String,
        claimed: RowSum,
        found: RowSum,
        cut: Option<Epoch>,
    ) -> bool {
        if claimed == found {
            return true;
        }
        if found.rows <= claimed.rows && !self.is_due(epoch) {
            return false;
        }
        if found.rows < claimed.rows && cut.is_some_and(|cut| epoch <= cut) {
            let gone = claimed.rows - found.rows;
            self.unproved.push(format!("{gone} rows of epoch {epoch} in {place} are gone by retention"));
            return false;
        }
        let message = format!("{} claimed, {} found", sum_text(claimed), sum_text(found));
        self.find_rows(epoch, check, place, message, Surplus::of(claimed.rows, found.rows));
        false
    }

    fn side_table(&mut self, table: &SideEvidence) {
        let mut expected: BTreeMap<(OperatorId, Epoch), RowSum> = BTreeMap::new();
        for claim in &self.evidence.epochs {
            let mut kept = 0;
            for handle in claim.handles.iter().filter(|handle| handle.channel == table.channel) {
                kept += handle.sum.rows;
                expected.entry((handle.subtask.operator, claim.epoch)).or_default().add(handle.sum);
            }
            let counts = claim.receipt.operators.iter().map(|o| &o.counts);
            let judged: u64 = match table.channel {
                SinkChannel::Late => counts.map(|counts| counts.late).sum(),
                SinkChannel::DeadLetters | SinkChannel::Table => counts.map(|counts| counts.dead_lettered).sum(),
            };
            if judged != kept {
                let message = format!("{judged} rows were put aside, {kept} were kept");
                self.find_rows(claim.epoch, Check::SideTables, &table.topic, message, Surplus::of(judged, kept));
            }
        }
        for (key, sum) in &expected {
            let found = table.found.get(key).copied().unwrap_or_default();
            let place = format!("topic {}", table.topic);
            let is_equal = self.compare(Check::SideTables, key.1, place, *sum, found, table.cut);
            self.reconciled += if is_equal { sum.rows } else { 0 };
        }
        for ((operator, epoch), sum) in table.found.iter().filter(|(key, _)| !expected.contains_key(key)) {
            if !self.is_cut(*epoch) && (*epoch <= self.last() || !self.may_be(*epoch)) {
                let message = format!("{} of operator {operator} that no receipt knows", sum_text(*sum));
                let place = format!("topic {}", table.topic);
                self.find_rows(*epoch, Check::SideTables, place, message, Surplus::of(0, sum.rows));
            }
        }
    }

    fn report(mut self, sinks: Vec<SinkLine>) -> Report {
        // By epoch, so that the first one is where it began to go wrong.
        self.differences.sort_by_key(|a| (a.epoch.is_none(), a.epoch, a.check));
        let verdict_of = |failed: bool| if failed { Verdict::Fail } else { Verdict::Pass };
        let differences = self.differences;
        let epochs: Vec<EpochLine> = self
            .evidence
            .epochs
            .iter()
            .map(|claim| {
                let mut totals = Totals::default();
                totals.add(&claim.receipt);
                let mut written = RowSum::default();
                totals.sinks.values().for_each(|sum| written.add(*sum));
                EpochLine {
                    epoch: claim.epoch,
                    generation: claim.generation.0,
                    read: totals.sources.values().sum(),
                    written,
                    objects: totals.objects.values().sum(),
                    late: totals.late,
                    dead_lettered: totals.dead_lettered,
                    verdict: verdict_of(differences.iter().any(|d| d.epoch == Some(claim.epoch))),
                }
            })
            .collect();
        let mut totals = Sums { epochs: epochs.len() as u64, ..Sums::default() };
        for line in &epochs {
            totals.read += line.read;
            totals.written += line.written.rows;
            totals.objects += line.objects;
            totals.late += line.late;
            totals.dead_lettered += line.dead_lettered;
        }
        Report {
            job: self.evidence.job,
            name: self.evidence.name.clone(),
            status: self.evidence.status.to_owned(),
            verdict: verdict_of(!differences.is_empty()),
            totals,
            reconciled: self.reconciled,
            sinks,
            epochs,
            unproved: self.unproved,
            differences,
        }
    }
}

fn operator(receipt: &Receipt, id: OperatorId) -> Option<&OperatorReceipt> {
    receipt.operators.iter().find(|operator| operator.operator == id)
}

/// The equation of an operator's role, if it does not hold.
fn imbalance(operator: &OperatorReceipt) -> Option<String> {
    let counts = &operator.counts;
    let lost = counts.late + counts.dead_lettered;
    let (taken, accounted) = match operator.role.as_str() {
        "source" | "stateless" => (counts.rows_in, counts.rows_out + counts.filtered + lost),
        "windowed" | "keyed" => (counts.rows_in, counts.accumulated + lost),
        "expanding" => {
            (counts.rows_in + counts.expanded, counts.rows_out + counts.filtered + counts.accumulated + lost)
        }
        "sink" => (counts.rows_in, counts.rows_out + lost),
        other => return Some(format!("it has the unknown role `{other}`")),
    };
    (taken != accounted).then(|| {
        format!(
            "{taken} rows in, {accounted} accounted for (out {}, filtered {}, late {}, dead letters {}, accumulated {})",
            counts.rows_out, counts.filtered, counts.late, counts.dead_lettered, counts.accumulated
        )
    })
}

fn sum_text(sum: RowSum) -> String {
    format!("{} rows (hash {})", sum.rows, sum.hash)
}
