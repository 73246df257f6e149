//! Which job is meant where a user names one: by its name, by its id, or by the first digits of its id.
//!
//! A data folder and a cluster choose alike. Nothing is guessed: where digits fit several jobs, all of them are told.

use crate::error::{Code, Error, Result, nearest};
use crate::ids::JobId;

/// So many digits of an id name a job: fewer are too near to a short name that is misspelt. Tables show eight.
pub const ID_DIGITS_MIN: usize = 4;
const ID_DIGITS: usize = 32;
/// Candidates that an error lists at most.
const LISTED_MAX: usize = 8;

/// A job that could be meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate<'a, R> {
    pub id: JobId,
    pub name: &'a str,
    /// Of several runs of one name the one with the greatest rank is meant.
    pub rank: R,
}

/// Whether this may be an id, or the first digits of one.
pub fn is_id(text: &str) -> bool {
    (ID_DIGITS_MIN..=ID_DIGITS).contains(&text.len()) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The job that `wanted` names: a name comes before the digits of an id. `run` narrows it to the run whose id begins so.
///
/// # Errors
/// E0309 if there is none, with the nearest name; E0501 if digits fit several jobs.
pub fn choose<'a, R: Ord>(
    wanted: &str,
    run: Option<&str>,
    jobs: impl IntoIterator<Item = Candidate<'a, R>>,
) -> Result<JobId> {
    let jobs: Vec<Candidate<'a, R>> = jobs.into_iter().collect();
    let begins_with = |job: &Candidate<'a, R>, digits: &str| job.id.to_string().starts_with(digits);
    let mut fitting: Vec<&Candidate<'a, R>> = jobs.iter().filter(|job| job.name == wanted).collect();
    if fitting.is_empty() && is_id(wanted) {
        fitting = jobs.iter().filter(|job| begins_with(job, wanted)).collect();
        if fitting.len() > 1 && run.is_none() {
            return Err(ambiguous(wanted, &fitting));
        }
    }
    if fitting.is_empty() {
        return Err(unknown(wanted, jobs.iter().map(|job| job.name)));
    }
    if let Some(run) = run {
        fitting.retain(|job| begins_with(job, run));
        if fitting.len() > 1 {
            return Err(ambiguous(run, &fitting));
        }
    }
    fitting.into_iter().max_by(|a, b| a.rank.cmp(&b.rank)).map(|job| job.id).ok_or_else(|| {
        let run = run.unwrap_or_default();
        Error::new(Code::UnknownJob, format!("job `{wanted}` has no run `{run}`"))
            .hint("`qanat jobs list --all` lists the runs")
    })
}

fn ambiguous<R>(digits: &str, jobs: &[&Candidate<'_, R>]) -> Error {
    let mut listed: Vec<String> =
        jobs.iter().take(LISTED_MAX).map(|job| format!("{} (`{}`)", job.id, job.name)).collect();
    if jobs.len() > LISTED_MAX {
        listed.push(format!("and {} more", jobs.len() - LISTED_MAX));
    }
    Error::new(Code::Usage, format!("the ids of {} jobs begin with `{digits}`", jobs.len()))
        .hint(format!("give more digits of one of them: {}", listed.join(", ")))
}

fn unknown<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Error {
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    names.dedup();
    let error = Error::new(Code::UnknownJob, format!("there is no job `{wanted}`"));
    // The jobs of a script with several.
    let is_numbered = |known: &&&str| {
        let number = known.strip_prefix(wanted).and_then(|rest| rest.strip_prefix('-'));
        number.is_some_and(|number| number.parse::<u32>().is_ok())
    };
    let several: Vec<&str> = names.iter().filter(is_numbered).take(LISTED_MAX).copied().collect();
    if !several.is_empty() {
        return error.hint(format!("its script has several jobs: {}", several.join(", ")));
    }
    match nearest(wanted, names) {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None => error.hint("`qanat jobs list --all` lists the jobs"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOBS: [(&str, &str, u64); 5] = [
        ("35b03a71ce54b7e3ea445a5c694d0e2d", "sales", 1),
        ("35b0ffffce54b7e3ea445a5c694d0e2d", "sales", 2),
        ("00000000000000000000000000000abc", "q-1", 3),
        ("00000000000000000000000000000abd", "q-2", 4),
        ("face0000000000000000000000000abd", "beef", 5),
    ];

    fn chosen(wanted: &str, run: Option<&str>) -> Result<usize> {
        let job = |(id, name, rank): &(&str, &'static str, u64)| Candidate {
            id: id.parse().expect("an id"),
            name,
            rank: *rank,
        };
        let id = choose(wanted, run, JOBS.iter().map(job))?.to_string();
        Ok(JOBS.iter().position(|(known, _, _)| *known == id).expect("one of them"))
    }

    #[test]
    fn a_job_is_named_by_name_id_or_digits() {
        assert_eq!(chosen("sales", None).ok(), Some(1), "the newest run");
        assert_eq!(chosen("sales", Some("35b03")).ok(), Some(0));
        assert_eq!(chosen("35b03a71", None).ok(), Some(0));
        assert_eq!(chosen(JOBS[2].0, None).ok(), Some(2));
        assert_eq!(chosen("face", None).ok(), Some(4));
        assert_eq!(chosen("beef", None).ok(), Some(4), "a name comes before digits");
        assert_eq!(chosen("35b0", Some("35b0f")).ok(), Some(1));
    }

    #[test]
    fn nothing_is_guessed() {
        let refused = |wanted: &str, run: Option<&str>| chosen(wanted, run).expect_err("refused");
        for (wanted, run) in [("35b0", None), ("sales", Some("35b0"))] {
            let error = refused(wanted, run);
            assert_eq!(error.code(), Code::Usage, "{error}");
            let hint = error.hint_text().unwrap_or_default();
            assert!(hint.contains(JOBS[0].0) && hint.contains(JOBS[1].0), "{hint}");
        }
        for (wanted, run, hint) in [
            ("fac", None, "jobs list"),
            ("sales", Some("face"), "--all"),
            ("sals", None, "did you mean `sales`?"),
            ("q", None, "q-1, q-2"),
        ] {
            let error = refused(wanted, run);
            assert_eq!(error.code(), Code::UnknownJob, "{error}");
            assert!(error.hint_text().is_some_and(|text| text.contains(hint)), "{wanted}: {:?}", error.hint_text());
        }
    }
}
