//! Every script of `examples/` through the binary, compared with numbers computed here from the CSV
//! files by plain loops.
//!
//! The scripts run in a folder of their own that links to `examples/`, as a user would run them from
//! the root of the repository.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// A row of a CSV file by column name.
type Row = HashMap<String, String>;

const MINUTES_PER_DAY: i64 = 24 * 60;

fn repository() -> PathBuf {
    let chaos = Path::new(env!("CARGO_MANIFEST_DIR"));
    chaos.parent().unwrap_or(chaos).to_owned()
}

/// The binary of the same build, made first if it is not there.
fn binary() -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let profile = test.parent().and_then(Path::parent).context("a test lies in <target>/<profile>/deps")?;
    let binary = profile.join(format!("qanat{}", std::env::consts::EXE_SUFFIX));
    if !binary.exists() {
        let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        build.current_dir(repository()).args(["build", "--quiet", "--bin", "qanat", "--target-dir"]);
        build.arg(profile.parent().context("a profile lies in the target folder")?);
        if profile.ends_with("release") {
            build.arg("--release");
        }
        ensure!(build.status()?.success(), "could not build the binary");
    }
    Ok(binary)
}

/// A folder to run in, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("qanat-examples-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path)?;
        std::os::unix::fs::symlink(repository().join("examples"), path.join("examples"))?;
        Ok(Self(path))
    }

    /// Runs an example and gives the rows it printed.
    fn run(&self, example: &str) -> Result<BTreeSet<String>> {
        let script = format!("examples/{example}.sql");
        let output = Command::new(binary()?).current_dir(&self.0).args(["run", &script]).output()?;
        let text = String::from_utf8(output.stdout)?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{script}: {}\n{text}\n{errors}", output.status);
        ensure!(text.contains(&format!("{example} FINISHED")), "{script} prints no receipt:\n{text}");
        ensure!(text.lines().any(|line| line.split_whitespace().eq(["late", "0"])), "{script} has late rows:\n{text}");
        Ok(text.lines().filter_map(|line| line.strip_prefix("+I[")?.strip_suffix(']')).map(str::to_owned).collect())
    }

    /// The data files of `qanat-out/<table>` and their rows: the files there are must be exactly those that
    /// commit records name and none removed.
    fn written(&self, table: &str) -> Result<(u64, Vec<PathBuf>)> {
        let folder = self.0.join("qanat-out").join(table);
        let (mut named, mut removed) = (BTreeMap::new(), BTreeSet::new());
        let mut folders = vec![folder.join("_commits")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let record: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
                for file in record["files"].as_array().context("a record has files")? {
                    let path = file["path"].as_str().context("a file has a path")?;
                    named.insert(path.to_owned(), file["rows"].as_u64().context("a file has rows")?);
                }
                for file in record["removed"].as_array().context("a record says what it removed")? {
                    removed.insert(file.as_str().context("a path")?.to_owned());
                }
            }
        }
        let mut found = BTreeSet::new();
        for entry in std::fs::read_dir(&folder)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if !name.starts_with(['.', '_']) {
                found.insert(name);
            }
        }
        named.retain(|path, _| !removed.contains(path));
        ensure!(found.iter().eq(named.keys()), "files {found:?}, records name {named:?}");
        Ok((named.values().sum(), found.into_iter().map(|name| folder.join(name)).collect()))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The rows of a CSV file without quoted fields that hold a delimiter.
fn rows(text: &str) -> Vec<Row> {
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    lines
        .map(|line| header.iter().map(|name| (*name).to_owned()).zip(line.split(',').map(str::to_owned)).collect())
        .collect()
}

fn data(name: &str) -> Result<Vec<Row>> {
    let path = repository().join("examples/data").join(name);
    let bytes = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    let mut text = String::new();
    if name.ends_with(".gz") {
        flate2::read::GzDecoder::new(bytes.as_slice()).read_to_string(&mut text)?;
    } else {
        text = String::from_utf8(bytes)?;
    }
    Ok(rows(&text))
}

fn field<'a>(row: &'a Row, name: &str) -> &'a str {
    row.get(name).map_or("", String::as_str)
}

fn number(row: &Row, name: &str) -> Option<f64> {
    field(row, name).parse().ok()
}

/// Minutes since the first of January of a time such as `2013-01-31T10:00:00Z`; the data ends on the first of February.
fn minutes(time: &str) -> Result<i64> {
    let part = |range: std::ops::Range<usize>| -> Result<i64> { Ok(time.get(range).context("a short time")?.parse()?) };
    let day = part(8..10)? - 1 + if part(5..7)? == 2 { 31 } else { 0 };
    Ok(day * MINUTES_PER_DAY + part(11..13)? * 60 + part(14..16)?)
}

/// Flights, those that left, sum and maximum of their delays.
#[derive(Clone, Copy, Debug, Default)]
struct Delays {
    flights: u64,
    departed: u64,
    sum: f64,
    worst: f64,
}

impl Delays {
    fn add(&mut self, delay: Option<f64>) {
        self.flights += 1;
        if let Some(delay) = delay {
            self.worst = if self.departed == 0 { delay } else { self.worst.max(delay) };
            self.departed += 1;
            self.sum += delay;
        }
    }

    fn mean(&self) -> f64 {
        self.sum / self.departed as f64
    }
}

#[test]
fn delays() -> Result<()> {
    let names: HashMap<String, String> = data("airlines.csv")?
        .iter()
        .map(|row| (field(row, "carrier").to_owned(), field(row, "name").to_owned()))
        .collect();
    let mut hourly: BTreeMap<(String, String, String), Delays> = BTreeMap::new();
    let mut daily: BTreeMap<String, BTreeMap<(String, String), Delays>> = BTreeMap::new();
    for flight in data("flights-2013-01.csv.gz")? {
        let hour = field(&flight, "time_hour").replace('T', " ").replace('Z', ".000");
        let airline = names.get(field(&flight, "carrier")).context("every airline has a name")?.clone();
        let origin = field(&flight, "origin").to_owned();
        let delay = number(&flight, "dep_delay");
        let day = hour.get(..10).context("a date")?.to_owned();
        daily.entry(day).or_default().entry((airline.clone(), origin.clone())).or_default().add(delay);
        hourly.entry((origin, hour, airline)).or_default().add(delay);
    }

    let folder = Folder::new("delays")?;
    let printed = folder.run("delays")?;
    let mut expected = BTreeSet::new();
    for (day, groups) in &daily {
        let groups = groups.iter().filter(|(_, delays)| delays.departed >= 10);
        let worst = groups.max_by(|a, b| a.1.mean().total_cmp(&b.1.mean()).then_with(|| b.0.cmp(a.0)));
        if let Some(((airline, origin), delays)) = worst {
            let mean = (delays.mean() * 10.0).round() / 10.0;
            expected.insert(format!("{day}, {airline}, {origin}, {}, {mean:?}", delays.departed));
        }
    }
    assert_eq!(printed, expected);

    // Twice: OVERWRITE leaves one answer, not two.
    folder.run("delays")?;
    let (count, files) = folder.written("delays")?;
    let mut seen = BTreeSet::new();
    for file in &files {
        for row in rows(&std::fs::read_to_string(file)?) {
            let text = |name| field(&row, name).to_owned();
            let key = (text("airport"), text("departure_hour"), text("airline"));
            let delays = hourly.get(&key).with_context(|| format!("{key:?} is in no window"))?;
            assert_eq!(number(&row, "flights"), Some(delays.flights as f64), "{key:?}");
            assert_eq!(number(&row, "cancelled"), Some((delays.flights - delays.departed) as f64), "{key:?}");
            if delays.departed == 0 {
                assert_eq!((text("mean_delay"), text("worst_delay")), (String::new(), String::new()), "{key:?}");
            } else {
                let mean = number(&row, "mean_delay").with_context(|| format!("{key:?} has a mean"))?;
                assert!((mean - delays.mean()).abs() < 1e-9, "{key:?}: {mean}, not {}", delays.mean());
                assert_eq!(number(&row, "worst_delay"), Some(delays.worst), "{key:?}");
            }
            assert!(seen.insert(key.clone()), "{key:?} twice");
        }
    }
    assert_eq!(seen.len(), hourly.len());
    assert_eq!(count, hourly.len() as u64);
    Ok(())
}

#[test]
fn flights_weather() -> Result<()> {
    let mut wind = HashMap::new();
    for hour in data("weather-2013-01.csv.gz")? {
        let key = (field(&hour, "origin").to_owned(), field(&hour, "time_hour").to_owned());
        assert!(wind.insert(key, number(&hour, "wind_speed")).is_none(), "one measurement an hour");
    }
    let flights = data("flights-2013-01.csv.gz")?;
    let mut classes: BTreeMap<&str, Delays> = BTreeMap::new();
    for flight in &flights {
        let key = (field(flight, "origin").to_owned(), field(flight, "time_hour").to_owned());
        let class = match wind.get(&key).copied().flatten() {
            None => "unknown",
            Some(speed) if speed < 5.0 => "calm, below 5 mph",
            Some(speed) if speed < 15.0 => "breeze, 5 to 15 mph",
            Some(speed) if speed < 25.0 => "wind, 15 to 25 mph",
            Some(_) => "strong wind, from 25 mph",
        };
        classes.entry(class).or_default().add(number(flight, "dep_delay"));
    }
    let expected: BTreeSet<String> = classes
        .iter()
        .map(|(class, delays)| {
            let mean = (delays.mean() * 10.0).round() / 10.0;
            format!("{class}, {}, {mean:?}, {}", delays.flights, delays.flights - delays.departed)
        })
        .collect();
    let folder = Folder::new("weather")?;
    assert_eq!(folder.run("flights_weather")?, expected);
    assert_eq!(folder.written("flights_weather")?.0, flights.len() as u64);
    Ok(())
}

#[test]
fn sessions() -> Result<()> {
    let mut planes = HashMap::new();
    for plane in data("planes.csv")? {
        planes.insert(field(&plane, "tailnum").to_owned(), plane);
    }
    let mut departures: BTreeMap<String, Vec<(i64, u64)>> = BTreeMap::new();
    for flight in data("flights-2013-01.csv.gz")? {
        if field(&flight, "tailnum") != "NA" && number(&flight, "dep_delay").is_some() {
            let miles = field(&flight, "distance").parse()?;
            let at = minutes(field(&flight, "time_hour"))?;
            departures.entry(field(&flight, "tailnum").to_owned()).or_default().push((at, miles));
        }
    }
    // (tail number, first departure, last departure, flights, miles)
    let mut expected: BTreeSet<(String, i64, i64, u64, u64)> = BTreeSet::new();
    for (tail, mut flown) in departures {
        flown.sort_unstable();
        let mut open: Option<(i64, i64, u64, u64)> = None;
        for (at, miles) in flown {
            open = Some(match open {
                Some((first, last, flights, sum)) if at - last <= 12 * 60 => (first, at, flights + 1, sum + miles),
                other => {
                    expected.extend(other.map(|(first, last, flights, sum)| (tail.clone(), first, last, flights, sum)));
                    (at, at, 1, miles)
                }
            });
        }
        expected.extend(open.map(|(first, last, flights, sum)| (tail.clone(), first, last, flights, sum)));
    }

    let folder = Folder::new("sessions")?;
    let printed = folder.run("sessions")?;
    let (count, files) = folder.written("sessions")?;
    let mut seen = BTreeSet::new();
    for file in &files {
        for line in std::fs::read_to_string(file)?.lines() {
            let row: Value = serde_json::from_str(line)?;
            let text = |name: &str| row[name].as_str().context("a text");
            let count = |name: &str| row[name].as_u64().context("a count");
            seen.insert((
                text("tailnum")?.to_owned(),
                minutes(text("first_departure")?)?,
                minutes(text("last_departure")?)?,
                count("flights")?,
                count("miles")?,
            ));
        }
    }
    assert_eq!(count, expected.len() as u64);
    assert!(seen == expected, "differ: {:?}", seen.symmetric_difference(&expected).take(5).collect::<Vec<_>>());

    let clock = |at: i64| {
        let (day, minute) = (at / MINUTES_PER_DAY, at % MINUTES_PER_DAY);
        let (month, day) = if day < 31 { (1, day + 1) } else { (2, day - 30) };
        format!("{month:02}-{day:02} {:02}:{:02}", minute / 60, minute % 60)
    };
    let longest: BTreeSet<String> = expected
        .iter()
        .filter(|(_, _, _, flights, _)| *flights >= 8)
        .map(|(tail, first, last, flights, _)| {
            let plane = |name| planes.get(tail).map_or("null", |plane| field(plane, name));
            format!(
                "{tail}, {}, {}, {flights}, {}, {}",
                plane("manufacturer"),
                plane("model"),
                clock(*first),
                clock(*last)
            )
        })
        .collect();
    assert_eq!(printed, longest);
    Ok(())
}

#[test]
fn ingest_and_from_topic() -> Result<()> {
    let mut days: BTreeMap<(String, String), (u64, u64)> = BTreeMap::new();
    for flight in data("flights-2013-01.csv.gz")? {
        if let Some(delay) = number(&flight, "dep_delay") {
            let day = field(&flight, "time_hour").get(..10).context("a date")?.to_owned();
            let counts = days.entry((day, field(&flight, "origin").to_owned())).or_default();
            counts.0 += 1;
            counts.1 += u64::from(delay < 15.0);
        }
    }
    let folder = Folder::new("topic")?;
    assert!(folder.run("ingest")?.is_empty());
    let printed = folder.run("from_topic")?;
    let bad = days.iter().filter(|(_, (departed, on_time))| on_time * 3 < departed * 2);
    let expected: BTreeSet<String> =
        bad.map(|((day, origin), (departed, on_time))| format!("{day}, {origin}, {departed}, {on_time}")).collect();
    assert_eq!(printed, expected);

    let (_, files) = folder.written("punctuality")?;
    let mut seen = BTreeMap::new();
    for file in &files {
        for row in rows(&std::fs::read_to_string(file)?) {
            let key = (field(&row, "departure_day").to_owned(), field(&row, "origin").to_owned());
            let counts = (field(&row, "departed").parse()?, field(&row, "on_time").parse()?);
            assert!(seen.insert(key.clone(), counts).is_none(), "{key:?} twice");
        }
    }
    assert_eq!(seen, days);
    Ok(())
}
