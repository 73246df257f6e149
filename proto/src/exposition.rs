//! Metrics as Prometheus reads them: families, and the page that shows their samples (text format 0.0.4).
//!
//! Whoever counts keeps plain numbers of its own and writes them onto a page when one is asked for; so the series of
//! a job are gone with the job, and nothing is registered anywhere. Written by hand because a library that keeps a
//! registry does neither, and has no summaries with quantiles. The page of the guide (`docs/guide/metrics.md`)
//! lists every family; a test compares the two.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

/// What a family's samples are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
    Summary,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
        }
    }
}

/// One metric: its name ends with its unit, and with `_total` if it is a counter.
#[derive(Debug)]
pub struct Family {
    pub name: &'static str,
    pub kind: Kind,
    /// Without `le` and `quantile`, which come with the kind.
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

/// Defines the families of one kind of process, and `FAMILIES` with all of them.
#[macro_export]
macro_rules! families {
    ($($constant:ident: $kind:ident $name:literal $labels:expr, $help:literal;)*) => {
        $(static $constant: $crate::exposition::Family = $crate::exposition::Family {
            name: $name,
            kind: $crate::exposition::Kind::$kind,
            labels: $labels,
            help: $help,
        };)*

        /// Every metric that is defined here.
        pub static FAMILIES: &[&$crate::exposition::Family] = &[$(&$constant),*];
    };
}

/// Series of one family on a page. A job of many operators at the highest parallelism has more; the rest is left
/// out and counted.
pub const SERIES_MAX: usize = 4_096;

/// What was left out of a page.
pub static LEFT_OUT: Family = Family {
    name: "qanat_series_left_out",
    kind: Kind::Gauge,
    labels: &[],
    help: "Series that this page leaves out because their family has more than 4096.",
};

/// What the token check refused (I4), in executors and coordinators alike.
pub static FENCED: Family = Family {
    name: "qanat_fenced_total",
    kind: Kind::Counter,
    labels: &["effect"],
    help: "What came with an older token and was refused, by effect: `control`, `exchange` and `log` in an executor, \
           `report` and `claim` in a coordinator.",
};

/// The samples of one moment.
#[derive(Default)]
pub struct Page {
    families: BTreeMap<&'static str, Shown>,
    left_out: u64,
}

struct Shown {
    family: &'static Family,
    series: usize,
    text: String,
}

impl Page {
    /// One sample of a counter or a gauge. `labels` are values, in the order of the family's names.
    pub fn add(&mut self, family: &'static Family, labels: &[&str], value: f64) {
        if let Some(text) = self.series(family) {
            sample(text, family, "", labels, None, value);
        }
    }

    /// One series of a histogram.
    pub fn histogram(&mut self, family: &'static Family, labels: &[&str], histogram: &Histogram) {
        let Some(text) = self.series(family) else { return };
        let mut count = 0;
        for (bound, seen) in Histogram::BOUNDS_SECONDS.iter().zip(&histogram.counts) {
            count += seen;
            sample(text, family, "_bucket", labels, Some(("le", &bound.to_string())), count as f64);
        }
        sample(text, family, "_bucket", labels, Some(("le", "+Inf")), histogram.count as f64);
        sample(text, family, "_sum", labels, None, histogram.sum.as_secs_f64());
        sample(text, family, "_count", labels, None, histogram.count as f64);
    }

    /// One series of a summary: the value at each quantile.
    pub fn summary(
        &mut self,
        family: &'static Family,
        labels: &[&str],
        quantiles: &[(&str, f64)],
        sum: f64,
        count: u64,
    ) {
        let Some(text) = self.series(family) else { return };
        for (quantile, value) in quantiles {
            sample(text, family, "", labels, Some(("quantile", quantile)), *value);
        }
        sample(text, family, "_sum", labels, None, sum);
        sample(text, family, "_count", labels, None, count as f64);
    }

    /// Where the next series of a family goes. None if it has too many.
    fn series(&mut self, family: &'static Family) -> Option<&mut String> {
        let new = || Shown { family, series: 0, text: String::new() };
        let shown = self.families.entry(family.name).or_insert_with(new);
        shown.series += 1;
        if shown.series > SERIES_MAX {
            self.left_out += 1;
            return None;
        }
        Some(&mut shown.text)
    }

    /// The page as it is sent.
    pub fn finish(mut self) -> String {
        let left_out = self.left_out;
        self.add(&LEFT_OUT, &[], left_out as f64);
        let mut page = String::new();
        for Shown { family, text, .. } in self.families.values() {
            let _ = writeln!(page, "# HELP {} {}", family.name, family.help);
            let _ = writeln!(page, "# TYPE {} {}", family.name, family.kind.name());
            page.push_str(text);
        }
        page
    }
}

fn sample(text: &mut String, family: &Family, suffix: &str, labels: &[&str], extra: Option<(&str, &str)>, value: f64) {
    text.push_str(family.name);
    text.push_str(suffix);
    let labels = family.labels.iter().copied().zip(labels.iter().copied()).chain(extra);
    let mut separator = '{';
    for (name, value) in labels {
        text.push(separator);
        separator = ',';
        let _ = write!(text, "{name}=\"");
        for character in value.chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                other => text.push(other),
            }
        }
        text.push('"');
    }
    if separator == ',' {
        text.push('}');
    }
    let _ = writeln!(text, " {value}");
}

/// How often something took how long.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    counts: [u64; Self::BOUNDS_SECONDS.len()],
    count: u64,
    sum: Duration,
}

impl Histogram {
    /// From a sync of a fast disk to a checkpoint that is long overdue.
    pub const BOUNDS_SECONDS: [f64; 14] =
        [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1., 2.5, 5., 10., 30.];

    pub fn observe(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = Self::BOUNDS_SECONDS.iter().position(|bound| seconds <= *bound);
        if let Some(count) = bucket.and_then(|bucket| self.counts.get_mut(bucket)) {
            *count += 1;
        }
        self.count += 1;
        self.sum = self.sum.saturating_add(took);
    }

    pub fn count(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static ROWS: Family =
        Family { name: "qanat_rows_total", kind: Kind::Counter, labels: &["job", "subtask"], help: "Rows." };
    static TOOK: Family = Family { name: "qanat_took_seconds", kind: Kind::Histogram, labels: &[], help: "Time." };
    static LATE: Family = Family { name: "qanat_late_seconds", kind: Kind::Summary, labels: &["job"], help: "Late." };

    #[test]
    fn a_page_reads_as_the_format_says() {
        let mut page = Page::default();
        page.add(&ROWS, &["a \"b\"\\\n", "0"], 12.0);
        page.add(&ROWS, &["c", "1"], 0.5);
        let mut took = Histogram::default();
        for ms in [1, 3, 40_000] {
            took.observe(Duration::from_millis(ms));
        }
        page.histogram(&TOOK, &[], &took);
        page.summary(&LATE, &["c"], &[("0.5", 0.25), ("0.99", 2.0)], 3.0, 4);
        let text = page.finish();
        let expected = [
            "# HELP qanat_late_seconds Late.",
            "# TYPE qanat_late_seconds summary",
            "qanat_late_seconds{job=\"c\",quantile=\"0.5\"} 0.25",
            "qanat_late_seconds{job=\"c\",quantile=\"0.99\"} 2",
            "qanat_late_seconds_sum{job=\"c\"} 3",
            "qanat_late_seconds_count{job=\"c\"} 4",
            "# HELP qanat_rows_total Rows.",
            "# TYPE qanat_rows_total counter",
            "qanat_rows_total{job=\"a \\\"b\\\"\\\\\\n\",subtask=\"0\"} 12",
            "qanat_rows_total{job=\"c\",subtask=\"1\"} 0.5",
        ];
        assert!(text.starts_with(&(expected.join("\n") + "\n")), "{text}");
        let buckets: Vec<&str> = text.lines().filter(|line| line.starts_with("qanat_took_seconds")).collect();
        assert_eq!(buckets[0], "qanat_took_seconds_bucket{le=\"0.001\"} 1");
        assert_eq!(buckets[2], "qanat_took_seconds_bucket{le=\"0.005\"} 2");
        assert_eq!(buckets[13], "qanat_took_seconds_bucket{le=\"30\"} 2");
        let end = ["_bucket{le=\"+Inf\"} 3", "_sum 40.004", "_count 3"].map(|end| format!("qanat_took_seconds{end}"));
        assert_eq!(buckets[14..], end);
        assert!(text.contains("qanat_series_left_out 0\n"));
    }

    #[test]
    fn a_family_has_a_bound() {
        let mut page = Page::default();
        for subtask in 0..SERIES_MAX + 7 {
            page.add(&ROWS, &["a", &subtask.to_string()], 1.0);
        }
        let text = page.finish();
        assert_eq!(text.lines().filter(|line| line.starts_with("qanat_rows_total{")).count(), SERIES_MAX);
        assert!(text.contains("qanat_series_left_out 7\n"));
    }
}
