//! Hand-made runs: a whole one passes, and each planted fault is found and named.

use qanat_proto::EpochRanges;
use qanat_proto::audit::{Check, Verdict};
use qanat_proto::ids::{Epoch, Generation, JobId, OperatorId, SplitId, SubtaskId};
use qanat_proto::manifest::{PreparedHandle, SinkChannel};
use qanat_proto::receipt::{
    EdgeReceipt, OperatorCounts, OperatorReceipt, Receipt, RowHash, RowSum, SinkObject, SinkReceipt, SourceReceipt,
    SplitReceipt, Totals,
};
use serde_json::json;

use super::check::check;
use super::evidence::{
    ClaimedEpoch, Cut, Evidence, FoundEpoch, FoundObject, ManifestEvidence, Medium, SideEvidence, SinkEvidence,
    SinkFault,
};

const JOB: JobId = JobId(7);
const SOURCE: OperatorId = OperatorId(1);
const CALC: OperatorId = OperatorId(2);
const SINK: OperatorId = OperatorId(3);
const LATE: OperatorId = OperatorId(4);

fn sum(rows: u64) -> RowSum {
    RowSum { rows, hash: RowHash(u128::from(rows) * 1_000) }
}

fn operator(operator: OperatorId, name: &str, role: &str, counts: OperatorCounts) -> OperatorReceipt {
    OperatorReceipt { operator, name: name.to_owned(), role: role.to_owned(), counts }
}

/// 10 records read, 2 filtered, 1 late, 7 written.
fn claim(number: u64) -> ClaimedEpoch {
    let epoch = Epoch(number);
    let object = format!("o{number}");
    let receipt = Receipt {
        job: JOB,
        generation: Generation(1),
        epoch,
        sources: vec![SourceReceipt {
            operator: SOURCE,
            table: "flights".to_owned(),
            splits: vec![SplitReceipt {
                id: SplitId("s".to_owned()),
                from: json!((number - 1) * 10).into(),
                to: json!(number * 10).into(),
                rows: 10,
            }],
        }],
        operators: vec![
            operator(SOURCE, "flights", "source", OperatorCounts { rows_in: 10, rows_out: 10, ..Default::default() }),
            operator(
                CALC,
                "Calc",
                "stateless",
                OperatorCounts { rows_in: 10, rows_out: 7, filtered: 2, late: 1, ..Default::default() },
            ),
            operator(SINK, "out_t", "sink", OperatorCounts { rows_in: 7, rows_out: 7, ..Default::default() }),
        ],
        edges: vec![EdgeReceipt { from: SOURCE, to: CALC, port: 0, sent: sum(10), received: sum(10) }],
        sinks: vec![SinkReceipt {
            operator: SINK,
            table: "out_t".to_owned(),
            objects: vec![SinkObject { name: object.clone(), sum: sum(7) }],
        }],
    };
    let handle = |operator, channel, name: String, sum| PreparedHandle {
        subtask: SubtaskId { operator, index: 0 },
        channel,
        name,
        sum,
        detail: serde_json::Value::Null,
    };
    ClaimedEpoch {
        epoch,
        generation: Generation(1),
        parallelism: 1,
        committed: true,
        manifest_key: format!("m{number}"),
        handles: vec![
            handle(SINK, SinkChannel::Table, object, sum(7)),
            handle(LATE, SinkChannel::Late, format!("l{number}"), sum(1)),
        ],
        receipt,
    }
}

fn found(number: u64) -> FoundEpoch {
    let object = FoundObject { path: format!("part-o{number}.csv"), sum: sum(7) };
    FoundEpoch {
        sum: sum(7),
        read: sum(7),
        right: 7,
        objects: [(format!("o{number}"), object)].into(),
        manifest_key: Some(format!("m{number}")),
    }
}

fn topic_epoch(sum: RowSum) -> FoundEpoch {
    FoundEpoch { sum, read: sum, ..FoundEpoch::default() }
}

/// Three epochs into a folder, all as it should be.
fn whole() -> Evidence {
    let epochs: Vec<ClaimedEpoch> = (1..=3).map(claim).collect();
    let mut totals = Totals::default();
    epochs.iter().for_each(|claim| totals.add(&claim.receipt));
    let newest = ManifestEvidence::Read { receipt: claim(3).receipt, totals, sources: Vec::new() };
    Evidence {
        job: JOB,
        name: "q".to_owned(),
        status: "FINISHED",
        has_ended: true,
        graph: None,
        cut: Cut::default(),
        start: [((SOURCE, SplitId("s".to_owned())), json!(0).into())].into(),
        epochs,
        withdrawn: EpochRanges::default(),
        withdrawing: EpochRanges::default(),
        manifests: [(Epoch(3), newest)].into(),
        sinks: vec![SinkEvidence {
            operator: SINK,
            table: "out_t".to_owned(),
            medium: Medium::Folder("out".to_owned()),
            found: (1..=3).map(|number| (Epoch(number), found(number))).collect(),
            faults: Vec::new(),
            cut: None,
            changes: None,
        }],
        side_tables: vec![SideEvidence {
            channel: SinkChannel::Late,
            topic: "q.late".to_owned(),
            found: (1..=3).map(|number| ((LATE, Epoch(number)), sum(1))).collect(),
            cut: None,
        }],
    }
}

/// Plants a fault and returns the first difference, as `check epoch place: message`.
fn first(plant: impl FnOnce(&mut Evidence)) -> String {
    let mut evidence = whole();
    plant(&mut evidence);
    let report = check(&evidence);
    assert_eq!(report.verdict, Verdict::Fail);
    let first = report.differences.first().expect("a difference");
    if let Some(epoch) = first.epoch.filter(|epoch| evidence.epochs.iter().any(|claim| claim.epoch == *epoch)) {
        assert!(report.epochs.iter().any(|line| line.epoch == epoch && line.verdict == Verdict::Fail));
    }
    let epoch = first.epoch.map_or_else(|| "-".to_owned(), |epoch| epoch.to_string());
    format!("{:?} {epoch} {}: {}", first.check, first.place, first.message)
}

fn receipt(evidence: &mut Evidence, index: usize) -> &mut Receipt {
    &mut evidence.epochs.get_mut(index).expect("an epoch").receipt
}

fn sink(evidence: &mut Evidence) -> &mut SinkEvidence {
    evidence.sinks.first_mut().expect("a sink")
}

#[test]
fn a_whole_run_passes() {
    let report = check(&whole());
    assert_eq!(report.differences, []);
    assert_eq!(report.verdict, Verdict::Pass);
    assert_eq!((report.totals.read, report.totals.written, report.totals.late), (30, 21, 3));
    let sent = serde_json::to_string(&report).expect("JSON");
    assert_eq!(serde_json::from_str::<qanat_proto::audit::Report>(&sent).expect("a report"), report);
}

#[test]
fn gaps_are_found() {
    let gap = first(|evidence| {
        let split = receipt(evidence, 1).sources[0].splits.first_mut().expect("a split");
        split.from = json!(12).into();
    });
    assert_eq!(gap, "Splits 2 split s of flights: it begins at 12, and the epoch before ended at 10");
    let start = first(|evidence| {
        evidence.start = [((SOURCE, SplitId("s".to_owned())), json!(5).into())].into();
    });
    assert_eq!(start, "Splits 1 split s of flights: it begins at 0, and the epoch before ended at 5");
    let epoch = first(|evidence| drop(evidence.epochs.remove(1)));
    assert!(epoch.starts_with("SideTables 2") && epoch.ends_with("that no receipt knows"), "{epoch}");
    let uncommitted = first(|evidence| evidence.epochs[1].committed = false);
    assert!(uncommitted.starts_with("Epochs 2 command log: its commit is not recorded"), "{uncommitted}");
}

#[test]
fn withdrawn_epochs_leave_no_gap() {
    // The third epoch was rolled back twice: what it read came again as epoch 6.
    let mut evidence = whole();
    let (third, sixth) = (Epoch(3), Epoch(6));
    let last = evidence.epochs.last_mut().expect("an epoch");
    (last.epoch, last.receipt.epoch) = (sixth, sixth);
    let Some(ManifestEvidence::Read { totals, .. }) = evidence.manifests.remove(&third) else { panic!("read") };
    let newest = ManifestEvidence::Read { receipt: last.receipt.clone(), totals, sources: Vec::new() };
    evidence.manifests.insert(sixth, newest);
    let found = sink(&mut evidence).found.remove(&third).expect("found");
    sink(&mut evidence).found.insert(sixth, found);
    let late = &mut evidence.side_tables[0].found;
    let sum = late.remove(&(LATE, third)).expect("found");
    late.insert((LATE, sixth), sum);
    evidence.withdrawn = [(third, Epoch(4)), (Epoch(5), Epoch(5))].into_iter().collect();
    assert_eq!(check(&evidence).differences, []);
    evidence.withdrawn = [(third, Epoch(4))].into_iter().collect();
    assert!(!check(&evidence).differences.is_empty(), "epoch 5 is missing");
}

#[test]
fn files_of_withdrawn_epochs_are_too_many() {
    let left = |withdrawing: Option<(Epoch, Epoch)>| {
        let mut evidence = whole();
        let epoch = Epoch(3);
        let of_third = evidence.epochs.pop().expect("an epoch");
        evidence.manifests.clear();
        evidence.side_tables[0].found.remove(&(LATE, epoch));
        evidence.withdrawn = [(epoch, epoch)].into_iter().collect();
        evidence.withdrawing = withdrawing.into_iter().collect();
        evidence.has_ended = false;
        assert_eq!(of_third.epoch, epoch);
        let sink = sink(&mut evidence);
        sink.found.remove(&epoch);
        let (place, message) = ("out/part-o3.csv".to_owned(), "no commit record names it".to_owned());
        sink.faults.push(SinkFault { epoch: Some(epoch), place, message, object: None, lost: 0, surplus: 7 });
        let report = check(&evidence);
        report.differences.iter().map(|difference| difference.duplicated).collect::<Vec<_>>()
    };
    assert_eq!(left(None), [7]);
    assert!(left(Some((Epoch(3), Epoch(3)))).is_empty(), "who takes them away is at it");
}

#[test]
fn imbalances_are_found() {
    let edge = first(|evidence| receipt(evidence, 0).edges[0].received = sum(9));
    assert!(edge.starts_with("Edges 1 flights to Calc: 10 rows") && edge.contains("9 rows"), "{edge}");
    let operator = first(|evidence| receipt(evidence, 2).operators[1].counts.filtered = 1);
    assert!(operator.starts_with("Checkpoint 3") || operator.starts_with("Operators 3 Calc"), "{operator}");
    let unknown = first(|evidence| receipt(evidence, 0).operators[1].role = "magic".to_owned());
    assert!(unknown.contains("unknown role `magic`"), "{unknown}");
}

#[test]
fn lost_and_doubled_output_is_found() {
    let lost = first(|evidence| drop(sink(evidence).found.remove(&Epoch(2))));
    assert!(lost.starts_with("Sinks 2 o2 in out_t: no commit record of epoch 2 names it"), "{lost}");
    let doubled = first(|evidence| {
        let object = FoundObject { path: "part-x.csv".to_owned(), sum: sum(7) };
        sink(evidence).found.get_mut(&Epoch(2)).expect("found").objects.insert("x".to_owned(), object);
    });
    assert!(doubled.starts_with("Sinks 2 part-x.csv: 7 rows") && doubled.contains("does not list"), "{doubled}");
    let changed = first(|evidence| {
        let found = sink(evidence).found.get_mut(&Epoch(1)).expect("found");
        found.objects.get_mut("o1").expect("an object").sum = RowSum { rows: 7, hash: RowHash(1) };
    });
    assert!(changed.starts_with("Sinks 1 part-o1.csv: 7 rows (hash 00000000000000000000000000000001)"), "{changed}");
    let foreign = first(|evidence| {
        sink(evidence).found.insert(Epoch(9), found(9));
    });
    assert!(foreign.starts_with("Sinks 9 out_t") && foreign.contains("never claimed"), "{foreign}");
    let other_manifest = first(|evidence| {
        sink(evidence).found.get_mut(&Epoch(3)).expect("found").manifest_key = Some("zombie".to_owned());
    });
    assert!(other_manifest.contains("names manifest zombie, the claim m3"), "{other_manifest}");
    let fault = first(|evidence| {
        sink(evidence).faults.push(SinkFault {
            epoch: Some(Epoch(2)),
            place: "out/part-o2.csv".to_owned(),
            message: "the file with 7 rows is gone".to_owned(),
            object: Some("o2".to_owned()),
            lost: 7,
            surplus: 0,
        });
    });
    assert_eq!(fault, "Sinks 2 out/part-o2.csv: the file with 7 rows is gone");
}

#[test]
fn topics_are_compared_by_epoch() {
    let topic = |evidence: &mut Evidence| {
        let sink = sink(evidence);
        sink.medium = Medium::Topic("t".to_owned());
        sink.found.values_mut().for_each(|found| *found = topic_epoch(found.sum));
    };
    let mut passing = whole();
    topic(&mut passing);
    assert_eq!(check(&passing).differences, []);
    let doubled = first(|evidence| {
        topic(evidence);
        sink(evidence).found.get_mut(&Epoch(2)).expect("found").sum = sum(14);
    });
    assert!(doubled.starts_with("Sinks 2 topic t: 7 rows") && doubled.contains("14 rows"), "{doubled}");
    // What retention took is not proved, and is no failure.
    let mut cut = whole();
    topic(&mut cut);
    sink(&mut cut).found.remove(&Epoch(1));
    sink(&mut cut).cut = Some(Epoch(1));
    let report = check(&cut);
    assert_eq!((report.verdict, report.unproved.len()), (Verdict::Pass, 1));
}

#[test]
fn side_tables_are_compared() {
    let lost = first(|evidence| {
        evidence.side_tables[0].found.remove(&(LATE, Epoch(2)));
    });
    assert!(lost.starts_with("SideTables 2 topic q.late: 1 rows"), "{lost}");
    let unkept = first(|evidence| evidence.epochs[0].handles.truncate(1));
    assert_eq!(unkept, "SideTables 1 q.late: 1 rows were put aside, 0 were kept");
}

#[test]
fn damaged_checkpoints_are_found() {
    let damaged = first(|evidence| {
        let damaged =
            ManifestEvidence::Damaged { object: "m3".to_owned(), message: "its checksum is wrong".to_owned() };
        evidence.manifests.insert(Epoch(3), damaged);
    });
    assert_eq!(damaged, "Checkpoint 3 m3: its checksum is wrong");
    let mut totals = Totals::default();
    totals.add(&claim(1).receipt);
    let wrong = first(|evidence| {
        let manifest = ManifestEvidence::Read { receipt: claim(3).receipt, totals, sources: Vec::new() };
        evidence.manifests.insert(Epoch(3), manifest);
    });
    assert_eq!(wrong, "Checkpoint 3 manifest of epoch 3: its totals are not the sums of the receipts");
}

#[test]
fn a_commit_under_way_is_no_difference() {
    let mut evidence = whole();
    evidence.status = "RUNNING";
    evidence.has_ended = false;
    evidence.epochs.last_mut().expect("an epoch").committed = false;
    sink(&mut evidence).found.remove(&Epoch(3));
    evidence.side_tables[0].found.remove(&(LATE, Epoch(3)));
    // A newer epoch was committed while the sinks were read.
    sink(&mut evidence).found.insert(Epoch(4), found(4));
    let report = check(&evidence);
    assert_eq!(report.differences, []);
    assert_eq!(report.unproved.len(), 1);
}

/// The receipts of the first two epochs are gone: their sums still have to be right.
#[test]
fn without_receipts_the_sums_are_compared() {
    let cut = || {
        let mut evidence = whole();
        let mut sums = Totals::default();
        evidence.epochs.drain(..2).for_each(|claim| sums.add(&claim.receipt));
        evidence.cut = Cut { epoch: Epoch(2), committed: true, sums };
        evidence
    };
    let report = check(&cut());
    assert_eq!(report.differences, []);
    assert_eq!((report.verdict, report.epochs.len(), report.unproved.len()), (Verdict::Pass, 1, 1));
    let first = |plant: fn(&mut Evidence)| {
        let mut evidence = cut();
        plant(&mut evidence);
        let report = check(&evidence);
        let first = report.differences.first().expect("a difference");
        (first.epoch, first.check, first.place.clone())
    };
    let lost = first(|evidence| drop(sink(evidence).found.remove(&Epoch(1))));
    assert_eq!(lost, (Some(Epoch(2)), Check::Sinks, "out_t, epochs 1 to 2".to_owned()));
    let changed = first(|evidence| sink(evidence).found.get_mut(&Epoch(2)).expect("found").sum.hash = RowHash(1));
    assert_eq!(changed.1, Check::Sinks);
    let late = first(|evidence| {
        evidence.side_tables[0].found.insert((LATE, Epoch(2)), sum(2));
    });
    assert_eq!(late.1, Check::SideTables);
    let file = first(|evidence| {
        let message = "the file with 7 rows is gone".to_owned();
        let place = "out/part-o1.csv".to_owned();
        let (epoch, object) = (Some(Epoch(1)), Some("o1".to_owned()));
        sink(evidence).faults.push(SinkFault { epoch, place, message, object, lost: 7, surplus: 0 });
    });
    assert_eq!(file, (Some(Epoch(1)), Check::Sinks, "out/part-o1.csv".to_owned()));
    // What retention took of a topic is not proved, and is no failure.
    let mut evidence = cut();
    let topic = sink(&mut evidence);
    topic.medium = Medium::Topic("t".to_owned());
    topic.found.remove(&Epoch(1));
    topic.cut = Some(Epoch(1));
    assert_eq!((check(&evidence).verdict, check(&evidence).unproved.len()), (Verdict::Pass, 2));
}

#[test]
fn differences_come_by_epoch() {
    let mut evidence = whole();
    receipt(&mut evidence, 2).edges[0].received = sum(9);
    drop(sink(&mut evidence).found.remove(&Epoch(1)));
    let report = check(&evidence);
    let order: Vec<(Option<Epoch>, Check)> = report.differences.iter().map(|d| (d.epoch, d.check)).collect();
    assert!(order.is_sorted(), "{order:?}");
    assert_eq!(order.first(), Some(&(Some(Epoch(1)), Check::Sinks)));
}

/// Lost rows, rows twice, and rows that are what was claimed.
fn counts(plant: impl FnOnce(&mut Evidence)) -> (u64, u64, u64) {
    let mut evidence = whole();
    plant(&mut evidence);
    let report = check(&evidence);
    let sum = |of: fn(&qanat_proto::audit::Difference) -> u64| report.differences.iter().map(of).sum();
    (sum(|difference| difference.lost), sum(|difference| difference.duplicated), report.reconciled)
}

#[test]
fn rows_are_counted_by_sink_and_epoch() {
    assert_eq!(counts(|_| ()), (0, 0, 24), "21 of the table and 3 late ones");
    assert_eq!(counts(|evidence| drop(sink(evidence).found.remove(&Epoch(2)))), (7, 0, 17));
    // What is missing of one epoch does not make up for what is too much of another.
    let both = counts(|evidence| {
        let sink = sink(evidence);
        sink.medium = Medium::Topic("t".to_owned());
        sink.found = [(1, 5), (2, 9), (3, 7)].map(|(epoch, rows)| (Epoch(epoch), topic_epoch(sum(rows)))).into();
    });
    assert_eq!(both, (2, 2, 10));
    // As many rows, and others: none is lost, and none of them is proved.
    let other = counts(|evidence| {
        let sink = sink(evidence);
        sink.medium = Medium::Topic("t".to_owned());
        let sums = [(1, sum(7)), (2, RowSum { rows: 7, hash: RowHash(1) }), (3, sum(7))];
        sink.found = sums.map(|(epoch, sum)| (Epoch(epoch), topic_epoch(sum))).into();
    });
    assert_eq!(other, (0, 0, 17));
    // A file whose rows were read again: one of them is gone.
    let damaged = counts(|evidence| {
        let sink = sink(evidence);
        sink.found.get_mut(&Epoch(2)).expect("found").right = 0;
        let (epoch, place, message) = (Some(Epoch(2)), "out/part-o2.csv".to_owned(), "it holds 6 rows".to_owned());
        sink.faults.push(SinkFault { epoch, place, message, object: Some("o2".to_owned()), lost: 1, surplus: 0 });
    });
    assert_eq!(damaged, (1, 0, 17));
    // Its record is gone, and the file stands there: what is missed is not there twice.
    let unnamed = counts(|evidence| {
        let sink = sink(evidence);
        sink.found.remove(&Epoch(2));
        let (epoch, place, message) = (Some(Epoch(2)), "out/part-o2.csv".to_owned(), "no record".to_owned());
        sink.faults.push(SinkFault { epoch, place, message, object: Some("o2".to_owned()), lost: 0, surplus: 7 });
    });
    assert_eq!(unnamed, (7, 0, 17));
    let late = counts(|evidence| {
        evidence.side_tables[0].found.remove(&(LATE, Epoch(2)));
    });
    assert_eq!(late, (1, 0, 23));
}
