//! A bounded run of one target: its corpus, every kind of damage to it, and bytes of no kind at all.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use qanat_storage::env::sim::Random;

use crate::mutate::mutated;
use crate::{Seed, TARGETS, Target, Verdict};

/// One input in so many is made of random bytes.
const RANDOM_EVERY: usize = 24;
/// Bits that are flipped of each entry of a format with checksums.
const FLIPS: usize = 60;
/// Long for one input, also on a machine that is busy with other work.
const INPUT_LIMIT: Duration = Duration::from_secs(60);

/// How much is done, and where inputs are left.
pub struct Smoke {
    pub seed: u64,
    /// What the rounds of a target are multiplied with.
    pub factor: f64,
    /// Where the input is that was running when the process ended, and those that failed.
    pub left: PathBuf,
}

/// What came of a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub accepted: usize,
    pub refused: usize,
}

/// The folder of a target's corpus.
pub fn corpus(target: &Target) -> PathBuf {
    crate::top().join("fuzz/corpus").join(target.name)
}

/// The entries of a target's corpus, by name.
///
/// # Errors
/// The disk's.
pub fn entries(target: &Target) -> std::io::Result<Vec<Seed>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(corpus(target))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        found.push((name, std::fs::read(&path)?));
    }
    found.sort();
    Ok(found)
}

impl Smoke {
    /// Runs the targets of these names, and prints a line about each.
    ///
    /// # Errors
    /// Everything that did not hold, with what replays it.
    pub fn run(&self, names: &[&str]) -> Result<(), String> {
        let mut failures = Vec::new();
        for name in names {
            let target = TARGETS.iter().find(|target| target.name == *name);
            let target = target.ok_or_else(|| format!("there is no target `{name}`"))?;
            let begun = Instant::now();
            match self.one(target) {
                Ok(Counts { accepted, refused }) => {
                    let each = (accepted + refused) as f64 / begun.elapsed().as_secs_f64();
                    let told = format!("{name}: {accepted} taken, {refused} refused, {each:.0} a second");
                    // Past the capture of tests: how much was done is news also where all is well.
                    let _ = writeln!(std::io::stdout().lock(), "{told}");
                }
                Err(failure) => failures.push(failure),
            }
        }
        if failures.is_empty() { Ok(()) } else { Err(failures.join("\n")) }
    }

    fn one(&self, target: &Target) -> Result<Counts, String> {
        let entries = entries(target).map_err(|e| format!("{}: its corpus cannot be read: {e}", target.name))?;
        let path = self.running(target);
        if let Some(input) = left_over(&path) {
            let told = Run::keep(self, target, "ended", &input);
            let _ = writeln!(std::io::stderr().lock(), "{}: an earlier run ended at an input: {told}", target.name);
        }
        let running = File::create(&path).map_err(|e| format!("create {}: {e}", path.display()))?;
        let (watched, watch) = self.watched(target);
        let mut run = Run { smoke: self, target, watch, running, counts: Counts::default() };
        for (name, input) in &entries {
            let verdict = run.input(input, &format!("corpus entry `{name}`"))?;
            let is_as_named = match name.split('-').next() {
                Some("ok") => verdict == Verdict::Accepted,
                Some("bad") => verdict == Verdict::Refused,
                _ => true,
            };
            if !is_as_named {
                return Err(format!("{}: corpus entry `{name}` is {verdict:?}", target.name));
            }
        }
        // What the corpus is taken for says nothing of what damage is taken for.
        run.counts = Counts::default();
        run.flips(&entries)?;
        let rounds = (target.rounds as f64 * self.factor).ceil() as usize;
        for round in 0..rounds {
            let random = Random::new(self.seed ^ (round as u64).wrapping_mul(0x1000_0000_01b3));
            let input = if round % RANDOM_EVERY == RANDOM_EVERY - 1 {
                let length = random.index(300);
                random.bytes(length)
            } else {
                let (entry, other) = (random.index(entries.len()), random.index(entries.len()));
                mutated(&random, target.form, &entries[entry].1, &entries[other].1)
            };
            run.input(&input, &format!("round {round} of seed {}", self.seed))?;
        }
        let counts = run.counts;
        drop(run);
        drop(watched);
        let _ = std::fs::remove_file(path);
        if rounds >= 100 && (counts.accepted == 0 || counts.refused == 0) {
            return Err(format!("{}: {counts:?}: nothing is proved by damage that all ends alike", target.name));
        }
        Ok(counts)
    }

    fn running(&self, target: &Target) -> PathBuf {
        self.left.join(format!("{}.running", target.name))
    }

    /// Ends the process if one input takes too long: nobody else could.
    fn watched(&self, target: &Target) -> (mpsc::Sender<()>, Arc<Mutex<Instant>>) {
        let (alive, ended) = mpsc::channel::<()>();
        let begun = Arc::new(Mutex::new(Instant::now()));
        let watch = Arc::clone(&begun);
        let (name, path) = (target.name, self.running(target));
        std::thread::spawn(move || {
            while ended.recv_timeout(Duration::from_secs(1)) == Err(RecvTimeoutError::Timeout) {
                let begun = *watch.lock().unwrap_or_else(PoisonError::into_inner);
                if begun.elapsed() > INPUT_LIMIT {
                    let _ = writeln!(
                        std::io::stderr().lock(),
                        "{name}: an input takes longer than {INPUT_LIMIT:?}; it is in {} behind its length",
                        path.display()
                    );
                    std::process::exit(101);
                }
            }
        });
        (alive, begun)
    }
}

struct Run<'a> {
    smoke: &'a Smoke,
    target: &'a Target,
    /// When the present input began.
    watch: Arc<Mutex<Instant>>,
    /// Its length in eight bytes, then the present input.
    running: File,
    counts: Counts,
}

impl Run<'_> {
    fn input(&mut self, input: &[u8], what: &str) -> Result<Verdict, String> {
        *self.watch.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        // Whatever ends the process (its stack, its memory) leaves the input. In one write: there are many.
        let framed = [&(input.len() as u64).to_le_bytes()[..], input].concat();
        self.running.write_all_at(&framed, 0).map_err(|e| format!("keep an input: {e}"))?;
        match catch_unwind(AssertUnwindSafe(|| self.target.run(input))) {
            Ok(verdict) => {
                match verdict {
                    Verdict::Accepted => self.counts.accepted += 1,
                    Verdict::Refused => self.counts.refused += 1,
                }
                Ok(verdict)
            }
            Err(panic) => Err(self.failed(input, what, &text_of(panic.as_ref()))),
        }
    }

    /// Of whole documents with one bit flipped nothing is read, or the same.
    fn flips(&mut self, entries: &[Seed]) -> Result<(), String> {
        let Some(meaning) = self.target.meaning else { return Ok(()) };
        for (name, whole) in entries.iter().filter(|(name, _)| name.starts_with("ok-")) {
            let Some(expected) = meaning(whole) else {
                return Err(self.failed(whole, &format!("corpus entry `{name}`"), "it says nothing as it is"));
            };
            let bits = whole.len() * 8;
            let random = Random::new(self.smoke.seed);
            for _ in 0..(FLIPS as f64 * self.smoke.factor).ceil() as usize {
                let bit = random.index(bits);
                let mut flipped = whole.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                let what = format!("bit {bit} of `{name}`");
                match catch_unwind(AssertUnwindSafe(|| meaning(&flipped))) {
                    Ok(found) if found.as_ref().is_none_or(|found| *found == expected) => {}
                    Ok(_) => return Err(self.failed(&flipped, &what, "it says something else")),
                    Err(panic) => return Err(self.failed(&flipped, &what, &text_of(panic.as_ref()))),
                }
            }
        }
        Ok(())
    }

    /// Keeps an input, and says how to run it again.
    fn failed(&self, input: &[u8], what: &str, why: &str) -> String {
        let told = Self::keep(self.smoke, self.target, "failed", input);
        // This input has not ended the process.
        let _ = self.running.set_len(0);
        format!("{}: {what}: {why}\n  {told}", self.target.name)
    }

    fn keep(smoke: &Smoke, target: &Target, how: &str, input: &[u8]) -> String {
        let name = target.name;
        let path = smoke.left.join(format!("{name}.{how}"));
        match std::fs::write(&path, input) {
            Ok(()) => format!("it is in {}: once mended, keep it as fuzz/corpus/{name}/found-WHAT", path.display()),
            Err(e) => format!("it could not be kept: {e}"),
        }
    }
}

/// The input at which a process ended.
fn left_over(path: &Path) -> Option<Vec<u8>> {
    let bytes = std::fs::read(path).ok()?;
    let (length, rest) = bytes.split_first_chunk()?;
    let input = rest.get(..usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    Some(input.to_vec())
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without a text").to_owned()
}

/// Writes the seeds of all targets in place of those that were there. What was found stays.
///
/// # Errors
/// The disk's.
pub fn write_corpus() -> std::io::Result<()> {
    for target in TARGETS {
        let folder = corpus(target);
        std::fs::create_dir_all(&folder)?;
        for (name, _) in entries(target)?.iter().filter(|(name, _)| is_made(name)) {
            std::fs::remove_file(folder.join(name))?;
        }
        for (name, bytes) in (target.seeds)() {
            std::fs::write(folder.join(name), bytes)?;
        }
    }
    Ok(())
}

/// Whether an entry comes from a target's seeds.
pub fn is_made(name: &str) -> bool {
    name.starts_with("ok-") || name.starts_with("bad-")
}

/// Bytes of all entries.
///
/// # Errors
/// The disk's.
pub fn corpus_bytes() -> std::io::Result<usize> {
    TARGETS.iter().map(|target| Ok(entries(target)?.iter().map(|(_, bytes)| bytes.len()).sum::<usize>())).sum()
}

/// A folder that is there.
///
/// # Errors
/// The disk's.
pub fn folder(path: &Path) -> std::io::Result<PathBuf> {
    std::fs::create_dir_all(path)?;
    Ok(path.to_owned())
}
