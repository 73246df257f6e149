//! What processes may say on stderr: no panic, and no error that nobody asked for.

use super::fault::FaultKind;
use crate::oracle::Violation;

/// A line that may be there, after which faults of that process (after any if none is named), and why.
struct Allowed {
    text: &'static str,
    after: &'static [FaultKind],
    #[expect(dead_code, reason = "it is there to be read")]
    because: &'static str,
}

const ALLOWED: &[Allowed] = &[
    Allowed {
        text: "a log partition refuses further appends",
        after: &[FaultKind::FailSync, FaultKind::FullDisk],
        because: "a failed write or sync poisons the handle for good (S15); the owner goes on in a new segment",
    },
    Allowed {
        text: "error[E0305]",
        after: &[FaultKind::FailSync, FaultKind::FullDisk],
        because: "a coordinator whose journal cannot be written or synced ends",
    },
    Allowed {
        text: "error[E0215]",
        after: &[FaultKind::FullDisk],
        because: "a coordinator that finds no room for the next file of its journal ends",
    },
    Allowed {
        text: "error[E0304]",
        after: &[FaultKind::FlipStopped, FaultKind::FlipRunning],
        because: "a damaged journal is refused",
    },
    Allowed {
        text: "error[E0610]",
        after: &[FaultKind::WipeCoordinator, FaultKind::FlipStopped, FaultKind::FlipRunning],
        because: "a coordinator that is removed from its group while it runs says so and ends",
    },
    Allowed {
        text: "panicked",
        after: &[FaultKind::MemoryLimit],
        because: "Rust's libraries panic where the system gives no memory for a thread, and the process ends",
    },
];

/// What is wrong with what a process said, which has had these faults.
pub fn unlisted(name: &str, said: &str, faults: &[FaultKind]) -> Vec<Violation> {
    let is_allowed = |line: &str| {
        let fits =
            |a: &&Allowed| line.contains(a.text) && (a.after.is_empty() || a.after.iter().any(|f| faults.contains(f)));
        ALLOWED.iter().any(|allowed| fits(&allowed))
    };
    let is_bad = |line: &&str| line.contains(" ERROR ") || line.contains("panicked") || line.starts_with("error[");
    said.lines().filter(is_bad).filter(|line| !is_allowed(line)).map(|line| format!("{name} says: {line}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_a_violation_unless_a_fault_explains_it() {
        let said = "2026 WARN x: slow\n2026 ERROR log: a log partition refuses further appends error=E0305\n";
        assert_eq!(unlisted("executor-1", said, &[FaultKind::FailSync]).len(), 0);
        assert_eq!(unlisted("executor-1", said, &[FaultKind::KillExecutor]).len(), 1);
        assert_eq!(unlisted("executor-1", "thread 'x' panicked at y", &[FaultKind::FailSync]).len(), 1);
    }
}
