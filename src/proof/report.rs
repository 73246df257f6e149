//! What was tried, what was compared, and the verdict.
//!
//! The verdict is a function of the rest, [`Verdict::of`], and nothing else gives one: a command cannot pass because
//! it looked at too little.

use std::collections::BTreeMap;

use qanat_proto::audit::Report;
use qanat_proto::{Code, Error, Place, Result};
use serde::Serialize;

use crate::output::{self, printable};

/// What a proof says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// Something was compared, and all of it is as it must be.
    Pass,
    /// Something is lost, doubled or broken.
    Fail,
    /// Nothing wrong was found, but not enough was tried or looked at.
    Unknown,
}

/// The common report. A command that has more to tell tells it besides, under names that are not here.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Proof {
    /// The jobs, or the script, that it is about.
    pub(crate) subject: Vec<String>,
    /// How often each kind of fault was done.
    pub(crate) faults: BTreeMap<String, u64>,
    /// Kinds of faults that were asked for and never came about.
    pub(crate) faults_missing: Vec<String>,
    /// Committed epochs that were looked at.
    pub(crate) epochs_checked: u64,
    /// Rows that were read back and are what they must be.
    pub(crate) reconciled: u64,
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    /// What is wrong: a sentence each, with its place. Rows that are lost or doubled have theirs too.
    pub(crate) violations: Vec<String>,
    /// What is not claimed to be proved, and why: known limits of the method, no failure.
    pub(crate) unproved: Vec<String>,
    /// What had to be looked at and could not be.
    pub(crate) unseen: Vec<String>,
    pub(crate) seconds: f64,
    /// The command that does the same again.
    pub(crate) replay: String,
}

impl Verdict {
    /// The only way to a verdict.
    pub(crate) fn of(proof: &Proof) -> Self {
        if proof.lost > 0 || proof.duplicated > 0 || !proof.violations.is_empty() {
            return Self::Fail;
        }
        let is_enough = proof.faults_missing.is_empty() && proof.unseen.is_empty() && proof.reconciled > 0;
        if is_enough { Self::Pass } else { Self::Unknown }
    }

    /// As the summary shows it: what is no pass is seen from afar.
    pub(crate) fn shown(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "FAIL",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// What goes out: the report with its verdict.
#[derive(Serialize)]
pub(crate) struct Judged<'a> {
    #[serde(flatten)]
    proof: &'a Proof,
    verdict: Verdict,
}

/// Whether the summary says what each violation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detail {
    Here,
    /// It stands above already.
    Told,
}

/// The command line of this process, as one types it again.
pub(crate) fn command_line() -> String {
    let words = std::env::args_os().skip(1).map(|word| quoted(&word.to_string_lossy()));
    std::iter::once("qanat".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

/// As a shell reads it back.
pub(crate) fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./:,=@%+".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Lines of one kind in the summary at most; `-o json` has all.
const LINES_MAX: usize = 20;

impl Proof {
    pub(crate) fn verdict(&self) -> Verdict {
        Verdict::of(self)
    }

    /// With the verdict, as programs read it.
    pub(crate) fn judged(&self) -> Judged<'_> {
        Judged { proof: self, verdict: self.verdict() }
    }

    /// What makes the exit status: only a pass is none.
    ///
    /// # Errors
    /// `failed` if it fails, with the first thing that is wrong; E0411 if nothing is proved.
    pub(crate) fn outcome(&self, failed: Code) -> Result<()> {
        let subject = || Place::Named(self.subject.join(", "));
        match self.verdict() {
            Verdict::Pass => Ok(()),
            Verdict::Fail => {
                let counted = format!("{} rows lost, {} doubled", self.lost, self.duplicated);
                let error = Error::new(failed, self.violations.first().cloned().unwrap_or(counted)).at(subject());
                Err(error.hint(format!("do it again with `{}`", self.replay)))
            }
            Verdict::Unknown => {
                let (message, hint) = self.doubt();
                Err(Error::new(Code::NotProved, message).at(subject()).hint(hint))
            }
        }
    }

    /// Why nothing is proved, and what to do.
    fn doubt(&self) -> (String, &'static str) {
        if let Some(first) = self.unseen.first() {
            return (format!("not all could be looked at: {first}"), "mend that, and do it again");
        }
        if !self.faults_missing.is_empty() {
            let missing = self.faults_missing.join(", ");
            let hint = "go on for longer, or leave out what this cluster or script cannot have";
            return (format!("faults that were asked for never came about: {missing}"), hint);
        }
        let hint = "let the job commit some rows into files or topics: what is written nowhere cannot be compared";
        ("no row was compared".to_owned(), hint)
    }

    /// Adds what an audit of one job found.
    pub(crate) fn add(&mut self, report: &Report) {
        self.subject.push(report.name.clone());
        self.epochs_checked += report.totals.epochs;
        self.reconciled += report.reconciled;
        for difference in &report.differences {
            self.lost += difference.lost;
            self.duplicated += difference.duplicated;
            let epoch = difference.epoch.map_or_else(String::new, |epoch| format!("epoch {epoch}, "));
            self.violations.push(format!("{}: {epoch}{}: {}", report.name, difference.place, difference.message));
        }
        self.unproved.extend(report.unproved.iter().cloned());
    }

    /// The report for people.
    pub(crate) fn summary(&self, detail: Detail) -> String {
        let mut rows = vec![vec!["subject".to_owned(), printable(&self.subject.join(", "))]];
        let mut line = |name: &str, text: String| rows.push(vec![name.to_owned(), text]);
        if !self.faults.is_empty() || !self.faults_missing.is_empty() {
            let faults = self.faults.iter().map(|(kind, count)| format!("{kind} {count}")).collect::<Vec<_>>();
            let total: u64 = self.faults.values().sum();
            line("faults", format!("{total} ({})", faults.join(", ")).replace(" ()", ""));
        }
        if !self.faults_missing.is_empty() {
            line("never came", self.faults_missing.join(", "));
        }
        line("epochs", self.epochs_checked.to_string());
        line("reconciled", output::counted(self.reconciled, "row", "rows"));
        line("lost", self.lost.to_string());
        line("duplicated", self.duplicated.to_string());
        line("violations", self.violations.len().to_string());
        line("seconds", format!("{:.1}", self.seconds));
        line("replay", printable(&self.replay));
        let verdict = self.verdict();
        line("verdict", verdict.shown().to_owned());
        // Without a heading: the first column names what the second holds.
        let mut text = output::table(&["proof", ""], &rows);
        if verdict == Verdict::Unknown {
            text.push_str(&format!("\nunknown: {}\n", self.doubt().0));
        }
        let violations = match detail {
            Detail::Here => self.violations.as_slice(),
            Detail::Told => &[],
        };
        let lists = [("violation", violations), ("not looked at", &self.unseen), ("not proved", &self.unproved)];
        for (name, lines) in lists {
            for line in lines.iter().take(LINES_MAX) {
                text.push_str(&format!("\n{name}: {}\n", printable(line)));
            }
            if lines.len() > LINES_MAX {
                text.push_str(&format!("\n({} more)\n", lines.len() - LINES_MAX));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten rows were compared, after a fault.
    fn good() -> Proof {
        Proof {
            subject: vec!["sales".to_owned()],
            faults: [("kill-leader".to_owned(), 2)].into(),
            epochs_checked: 3,
            reconciled: 10,
            seconds: 1.5,
            replay: "qanat chaos --seed 7".to_owned(),
            ..Proof::default()
        }
    }

    fn with(change: impl FnOnce(&mut Proof)) -> Proof {
        let mut proof = good();
        change(&mut proof);
        proof
    }

    fn code(proof: &Proof) -> Option<Code> {
        proof.outcome(Code::ProofFailed).err().map(|error| error.code())
    }

    #[test]
    fn what_was_compared_and_is_right_passes() {
        assert_eq!((good().verdict(), code(&good())), (Verdict::Pass, None));
        // Known limits are told, and no failure; and a proof without faults is one.
        assert_eq!(with(|proof| proof.unproved.push("late rows of a topic".to_owned())).verdict(), Verdict::Pass);
        assert_eq!(with(|proof| proof.faults.clear()).verdict(), Verdict::Pass);
    }

    #[test]
    fn whatever_is_wrong_fails() {
        let wrong: [fn(&mut Proof); 3] = [
            |proof| proof.lost = 1,
            |proof| proof.duplicated = 1,
            |proof| proof.violations.push("epoch 3: other rows".to_owned()),
        ];
        for plant in wrong {
            let proof = with(plant);
            assert_eq!((proof.verdict(), code(&proof)), (Verdict::Fail, Some(Code::ProofFailed)));
            // What was not looked at besides makes it no better.
            let both = with(|proof| {
                plant(proof);
                proof.unseen.push("audit of `other`".to_owned());
                proof.faults_missing.push("drain".to_owned());
                proof.reconciled = 0;
            });
            assert_eq!(both.verdict(), Verdict::Fail);
        }
    }

    #[test]
    fn too_little_is_no_pass() {
        let little: [(fn(&mut Proof), &str); 3] = [
            (|proof| proof.faults_missing.push("drain".to_owned()), "drain"),
            (|proof| proof.unseen.push("audit of `sales`".to_owned()), "audit of `sales`"),
            (|proof| proof.reconciled = 0, "no row was compared"),
        ];
        for (plant, said) in little {
            let proof = with(plant);
            assert_eq!((proof.verdict(), code(&proof)), (Verdict::Unknown, Some(Code::NotProved)));
            assert!(
                proof.doubt().0.contains(said) && proof.summary(Detail::Here).contains(said),
                "{}",
                proof.summary(Detail::Here)
            );
        }
        assert_eq!(Proof::default().verdict(), Verdict::Unknown);
    }

    #[test]
    fn programs_read_one_object() {
        let json = serde_json::to_value(good().judged()).expect("JSON");
        let expected = serde_json::json!({
            "subject": ["sales"], "faults": { "kill-leader": 2 }, "faults_missing": [], "epochs_checked": 3,
            "reconciled": 10, "lost": 0, "duplicated": 0, "violations": [], "unproved": [], "unseen": [],
            "seconds": 1.5, "replay": "qanat chaos --seed 7", "verdict": "pass",
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn a_command_line_can_be_typed_again() {
        let words = ["--for", "10m", "a b", "it's", ""].map(quoted);
        assert_eq!(words.join(" "), r"--for 10m 'a b' 'it'\''s' ''");
    }

    #[test]
    fn people_read_a_table() {
        let proof = with(|proof| {
            proof.violations.push("epoch 3, part-x.csv: it holds 6 rows".to_owned());
            proof.lost = 1;
            proof.faults_missing.push("drain".to_owned());
        });
        let expected = "\
proof
subject     sales
faults      2 (kill-leader 2)
never came  drain
epochs      3
reconciled  10 rows
lost        1
duplicated  0
violations  1
seconds     1.5
replay      qanat chaos --seed 7
verdict     FAIL

violation: epoch 3, part-x.csv: it holds 6 rows
";
        assert_eq!(proof.summary(Detail::Here), expected);
    }
}
