//! The answers of the campaign's queries, computed here and nowhere else.

use std::collections::BTreeMap;

use serde::Serialize;

/// Keys of the windowed query: `id % KEYS`.
pub const KEYS: i64 = 100;
/// Its window, in milliseconds of event time; an id is its event time.
pub const WINDOW_MS: i64 = 10_000;

/// The value that travels with an id, so that a row glued together from two is found.
pub fn check_value(id: i64) -> i64 {
    id * 31 + 7
}

/// One answer of the windowed query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WindowKey {
    pub start_ms: i64,
    pub key: i64,
}

/// Rows of the windowed query as they come in, against what they should be.
#[derive(Clone, Debug, Default)]
pub struct Windows {
    seen: BTreeMap<WindowKey, Vec<(i64, i64)>>,
}

/// What became of the expected windows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WindowVerdict {
    pub expected: u64,
    pub right: u64,
    pub lost: u64,
    pub duplicated: u64,
    pub wrong: u64,
    pub examples: Vec<String>,
}

impl WindowVerdict {
    /// With those of another job.
    pub fn add(&mut self, other: Self) {
        self.expected += other.expected;
        self.right += other.right;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.wrong += other.wrong;
        self.examples.extend(other.examples);
    }

    pub fn is_exact(&self) -> bool {
        self.right == self.expected && self.lost == 0 && self.duplicated == 0 && self.wrong == 0
    }
}

impl Windows {
    pub fn see(&mut self, key: WindowKey, count: i64, total: i64) {
        self.seen.entry(key).or_default().push((count, total));
    }

    /// Compares with the answer over the ids `0..records`.
    pub fn reconcile(&self, records: u64) -> WindowVerdict {
        let expected = expected_windows(records);
        let mut verdict = WindowVerdict {
            expected: expected.len() as u64,
            right: 0,
            lost: 0,
            duplicated: 0,
            wrong: 0,
            examples: Vec::new(),
        };
        for (key, answer) in &expected {
            match self.seen.get(key).map(Vec::as_slice) {
                None | Some([]) => verdict.lost += 1,
                Some([one]) if one == answer => {
                    verdict.right += 1;
                    continue;
                }
                Some([_]) => verdict.wrong += 1,
                Some(_) => verdict.duplicated += 1,
            }
            if verdict.examples.len() < 8 {
                verdict.examples.push(format!("{key:?}: expected {answer:?}, found {:?}", self.seen.get(key)));
            }
        }
        let foreign = self.seen.keys().filter(|key| !expected.contains_key(key));
        for key in foreign {
            verdict.wrong += 1;
            if verdict.examples.len() < 8 {
                verdict.examples.push(format!("{key:?} should not be there"));
            }
        }
        verdict
    }
}

fn expected_windows(records: u64) -> BTreeMap<WindowKey, (i64, i64)> {
    let mut answers: BTreeMap<WindowKey, (i64, i64)> = BTreeMap::new();
    let records = i64::try_from(records).unwrap_or(i64::MAX);
    for start_ms in (0..records).step_by(WINDOW_MS as usize) {
        let mut of_window = [(0_i64, 0_i64); KEYS as usize];
        for id in start_ms..records.min(start_ms + WINDOW_MS) {
            let answer = &mut of_window[(id % KEYS) as usize];
            answer.0 += 1;
            answer.1 += id;
        }
        for (key, answer) in (0..KEYS).zip(of_window) {
            if answer.0 > 0 {
                answers.insert(WindowKey { start_ms, key }, answer);
            }
        }
    }
    answers
}

/// `1970-01-01 00:01:05.000` as milliseconds since 1970.
pub fn parse_time_ms(text: &str) -> Option<i64> {
    let (date, time) = text.split_once([' ', 'T'])?;
    let mut parts = date.split('-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let (clock, millis) = time.split_once('.').unwrap_or((time, "0"));
    let mut parts = clock.split(':').map(|part| part.parse::<i64>().ok());
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    // Days from the civil date: months count from March, so that leap days come last.
    let shifted = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * shifted.0 + shifted.0.div_euclid(4) - shifted.0.div_euclid(100)
        + shifted.0.div_euclid(400)
        + (153 * shifted.1 + 2) / 5
        + day
        - 1
        - 719_468;
    let millis: i64 = format!("{millis:0<3}").get(..3)?.parse().ok()?;
    Some(((days * 24 + hour) * 60 + minute) * 60_000 + second * 1000 + millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        assert_eq!(parse_time_ms("1970-01-01 00:00:00.000"), Some(0));
        assert_eq!(parse_time_ms("1970-01-02 00:00:01.5"), Some(86_401_500));
        assert_eq!(parse_time_ms("2013-01-01 10:00:00"), Some(1_357_034_400_000));
        assert_eq!(parse_time_ms("2024-02-29 00:00:00.000"), Some(1_709_164_800_000));
        assert_eq!(parse_time_ms("nonsense"), None);
    }

    #[test]
    fn windows_are_compared() {
        let mut windows = Windows::default();
        for (key, answer) in expected_windows(20_050) {
            windows.see(key, answer.0, answer.1);
        }
        assert!(windows.reconcile(20_050).is_exact());
        windows.see(WindowKey { start_ms: 0, key: 0 }, 1, 1);
        windows.see(WindowKey { start_ms: 70_000, key: 0 }, 1, 1);
        let verdict = windows.reconcile(20_050);
        assert_eq!((verdict.duplicated, verdict.wrong, verdict.lost), (1, 1, 0));
        assert!(!verdict.is_exact());
    }
}
