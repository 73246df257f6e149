//! What a process shows of itself.

use std::path::Path;

use qanat_proto::exposition::{Family, Kind, Page};
use qanat_storage::env::{Env, OpenMode};

static BUILD: Family = Family {
    name: "qanat_build_info",
    kind: Kind::Gauge,
    labels: &["version"],
    help: "1, with the version of the binary.",
};

static STARTED: Family = Family {
    name: "qanat_process_start_time_seconds",
    kind: Kind::Gauge,
    labels: &[],
    help: "When the process started, in seconds since 1970 UTC.",
};

static RESIDENT: Family = Family {
    name: "qanat_process_resident_memory_bytes",
    kind: Kind::Gauge,
    labels: &[],
    help: "Memory of the process that is in RAM, where the system tells.",
};

/// Every metric of a process.
#[cfg_attr(not(test), expect(dead_code, reason = "compared with the guide"))]
pub(super) static FAMILIES: &[&Family] = &[&BUILD, &STARTED, &RESIDENT];

/// This process.
pub(super) struct Process {
    env: Env,
    started_ms: i64,
}

impl Process {
    pub(super) fn new(env: &Env) -> Self {
        Self { env: env.clone(), started_ms: env.clock.now_ms() }
    }

    pub(super) fn show(&self, page: &mut Page) {
        page.add(&BUILD, &[env!("CARGO_PKG_VERSION")], 1.0);
        page.add(&STARTED, &[], self.started_ms as f64 / 1_000.0);
        if let Some(bytes) = self.resident_bytes() {
            page.add(&RESIDENT, &[], bytes as f64);
        }
    }

    fn resident_bytes(&self) -> Option<u64> {
        const BYTES_MAX: usize = 8 << 10;
        let file = self.env.disk.open(Path::new("/proc/self/status"), OpenMode::Read).ok()?;
        let mut text = vec![0; BYTES_MAX];
        let length = file.read_at(&mut text, 0).ok()?;
        let text = String::from_utf8_lossy(text.get(..length)?).into_owned();
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kibibytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
        Some(kibibytes * 1024)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_its_size() {
        let bytes = Process::new(&Env::real()).resident_bytes().expect("Linux tells");
        assert!(bytes > 1 << 20, "{bytes}");
    }
}
