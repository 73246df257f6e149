//! Random tables: nulls, ties, rows out of order, several files (splits), some of them empty.

use std::fmt::Write;

use crate::rng::Rng;
use crate::timestamp;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Datum {
    Null,
    Int(i64),
    Double(f64),
    Text(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Int,
    Double,
    Text,
}

#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) time: i64,
    pub(super) values: Vec<Datum>,
    /// The watermark by which the row is judged; `i64::MIN` if it cannot be late.
    pub(super) watermark: i64,
}

#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) kinds: Vec<Kind>,
    /// How far the watermark stays behind, in ms.
    slack: i64,
    /// Files follow each other in time, so that what is late can be told beforehand.
    ordered: bool,
    pub(super) files: Vec<Vec<Record>>,
}

impl Table {
    pub(super) fn random(rng: &mut Rng, name: &str, late: bool) -> Self {
        let kinds: Vec<Kind> =
            (0..rng.range(2, 4)).map(|_| *rng.pick(&[Kind::Int, Kind::Int, Kind::Double, Kind::Text])).collect();
        let nulls = *rng.pick(&[0, 5, 30]);
        let step = *rng.pick(&[50, 300, 1_000, 5_000]);
        let jitter = *rng.pick(&[0, 1_000, 7_500, 20_000]);
        let slack = if late { *rng.pick(&[0, 500, 2_000]) } else { jitter };
        let mut files = Vec::new();
        let mut clock = 1_357_000_000_000 + rng.range(0, 100_000);
        let mut highest = i64::MIN;
        for _ in 0..rng.range(1, 4) {
            let count = if rng.chance(15) { 0 } else { rng.range(1, 60) };
            let watermark = if late && highest > i64::MIN { highest - slack } else { i64::MIN };
            let mut rows: Vec<Record> = Vec::new();
            for _ in 0..count {
                clock += if rng.chance(30) { 0 } else { rng.range(0, step) };
                let time = clock - if rng.chance(50) { rng.range(0, jitter) } else { 0 };
                // Whole seconds are the edges of windows: rows on them are the interesting ones.
                let time = if rng.chance(20) { (time.div_euclid(1_000) + 1) * 1_000 } else { time };
                let values = kinds.iter().map(|kind| datum(rng, *kind, nulls)).collect();
                rows.push(Record { time, values, watermark });
            }
            highest = rows.iter().map(|row| row.time).max().map_or(highest, |max| max.max(highest));
            // A split of its own begins anywhere in time; files in order go on.
            if !late && rng.chance(30) {
                clock -= rng.range(0, 50_000);
            }
            files.push(rows);
        }
        // Rounding up to a second moves a row by less than this.
        let slack = if late { slack } else { slack + 1_000 };
        Self { name: name.to_owned(), kinds, slack, ordered: late, files }
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = &Record> {
        self.files.iter().flatten()
    }

    pub(super) fn create(&self) -> String {
        let mut columns = String::new();
        for (index, kind) in self.kinds.iter().enumerate() {
            let _ = write!(columns, "c{index} {}, ", kind.sql());
        }
        let order = if self.ordered { "time" } else { "none" };
        format!(
            "CREATE TABLE {name} (ts TIMESTAMP(3), {columns}WATERMARK FOR ts AS ts - INTERVAL '{}.{:03}' SECOND)\n\
             WITH ('connector' = 'filesystem', 'path' = '{name}', 'format' = 'csv', 'csv.null-literal' = 'NULL', \
             'scan.split-order' = '{order}');\n",
            self.slack / 1_000,
            self.slack % 1_000,
            name = self.name,
        )
    }

    /// Names and texts of the files.
    pub(super) fn csv(&self) -> Vec<(String, String)> {
        let header: String = (0..self.kinds.len()).map(|index| format!(",c{index}")).collect();
        let file = |rows: &Vec<Record>| {
            let mut text = format!("ts{header}\n");
            for row in rows {
                text.push_str(&timestamp::format(row.time));
                for value in &row.values {
                    match value {
                        Datum::Null => text.push_str(",NULL"),
                        Datum::Int(n) => text.push_str(&format!(",{n}")),
                        Datum::Double(x) => text.push_str(&format!(",{x:?}")),
                        Datum::Text(s) => text.push_str(&format!(",\"{s}\"")),
                    }
                }
                text.push('\n');
            }
            text
        };
        self.files.iter().enumerate().map(|(n, rows)| (format!("{}/{n}.csv", self.name), file(rows))).collect()
    }
}

impl Kind {
    pub(super) fn sql(self) -> &'static str {
        match self {
            Self::Int => "INT",
            Self::Double => "DOUBLE",
            Self::Text => "STRING",
        }
    }
}

fn datum(rng: &mut Rng, kind: Kind, nulls: u64) -> Datum {
    if rng.chance(nulls) {
        return Datum::Null;
    }
    match kind {
        Kind::Int => Datum::Int(rng.range(-5, 12)),
        Kind::Double if rng.chance(50) => Datum::Double(rng.range(-40, 40) as f64 * 0.25),
        Kind::Double => Datum::Double(rng.range(-100_000, 100_000) as f64 / 997.0),
        Kind::Text => Datum::Text((*rng.pick(&["", "a", "b", "B", "ab", "é", "NULL", "x y"])).to_owned()),
    }
}
