//! An independent reader of the file sink: it takes the committed cut from the commit records, as
//! `docs/file-sink.md` tells a reader to, and checks on the way that every record is whole.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};

use arrow::record_batch::RecordBatch;
use serde_json::Value;

use crate::compare::{Cell, Row};
use crate::csv;

/// The committed rows of a folder, columns in the table's order; of a table that is kept by its key, its rows.
pub(crate) fn committed(folder: &Path) -> Result<Vec<Row>, String> {
    let beside = beside(folder);
    if beside.join("_table").exists() {
        let rows = kept(&beside)?;
        return if folder.is_file() { plain(folder, &beside, rows) } else { Ok(rows) };
    }
    Ok(committed_by_epoch(folder)?.into_values().flat_map(BTreeMap::into_values).flatten().collect())
}

/// The same by job and epoch, of those that have a record.
pub(crate) fn committed_by_epoch(folder: &Path) -> Result<BTreeMap<String, BTreeMap<u64, Vec<Row>>>, String> {
    let mut rows: BTreeMap<String, BTreeMap<u64, Vec<Row>>> = BTreeMap::new();
    let mut named = BTreeSet::new();
    let removed = removed(folder)?;
    let mut chains: BTreeMap<PathBuf, Vec<(u64, Option<u64>)>> = BTreeMap::new();
    // A draft that a dying process left behind has a hidden name.
    for path in walk(&folder.join("_commits"), &|name| !name.starts_with('.')) {
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let fail = |what: &str| format!("{}: {what}", path.display());
        let text = std::fs::read_to_string(&path).map_err(|e| fail(&e.to_string()))?;
        let record: Value = serde_json::from_str(&text).map_err(|e| fail(&e.to_string()))?;
        let epoch = record["epoch"].as_u64().ok_or_else(|| fail("no epoch"))?;
        if is_withdrawn(folder, &path, epoch) {
            continue;
        }
        let job = path.ancestors().nth(2).and_then(Path::file_name).ok_or_else(|| fail("no job"))?;
        let own = rows.entry(job.to_string_lossy().into_owned()).or_default().entry(epoch).or_default();
        chains.entry(path.parent().unwrap().to_owned()).or_default().push((epoch, record["previous"].as_u64()));
        for file in record["files"].as_array().ok_or_else(|| fail("no files"))? {
            let name = file["path"].as_str().ok_or_else(|| fail("a file without a path"))?;
            if removed.contains(name) {
                continue;
            }
            if !named.insert(name.to_owned()) {
                return Err(fail(&format!("`{name}` is named twice")));
            }
            let bytes = std::fs::read(folder.join(name)).map_err(|e| fail(&format!("`{name}`: {e}")))?;
            if file["bytes"].as_u64() != Some(bytes.len() as u64) {
                return Err(fail(&format!("`{name}` has {} bytes, the record says {}", bytes.len(), file["bytes"])));
            }
            let read = read_file(name, &bytes, &record).map_err(|e| fail(&e))?;
            if file["rows"].as_u64() != Some(read.len() as u64) {
                return Err(fail(&format!("`{name}` has {} rows, the record says {}", read.len(), file["rows"])));
            }
            own.extend(read);
        }
    }
    for (operator, mut records) in chains {
        records.sort_unstable();
        let mut previous = None;
        for (epoch, says) in records {
            if says != previous {
                return Err(format!("{}: record {epoch} follows {says:?}, found {previous:?}", operator.display()));
            }
            previous = Some(epoch);
        }
    }
    let visible = visible(folder);
    if visible != named {
        let stray: Vec<_> = visible.symmetric_difference(&named).collect();
        return Err(format!("{}: shown and recorded files differ: {stray:?}", folder.display()));
    }
    Ok(rows)
}

/// Where what belongs to a table lies: for a plain file, beside it.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let hidden = path.with_file_name(format!(".{name}"));
    if hidden.is_dir() { hidden } else { path.to_owned() }
}

/// The newest version of a table.
fn newest_version(folder: &Path) -> Result<Value, String> {
    let names = std::fs::read_dir(folder.join("_table")).map_err(|e| e.to_string())?.flatten();
    let mut numbers: Vec<u64> = names.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    numbers.sort_unstable();
    for number in numbers.into_iter().rev() {
        let text = std::fs::read_to_string(folder.join(format!("_table/{number}"))).map_err(|e| e.to_string())?;
        let version: Value = serde_json::from_str(&text).map_err(|e| format!("version {number}: {e}"))?;
        let text = |key: &str| version[key].as_str().unwrap_or_default().to_owned();
        let record = folder.join("_commits").join(text("job")).join(text("operator")).join("any");
        if !is_withdrawn(folder, &record, version["epoch"].as_u64().ok_or("no epoch")?) {
            return Ok(version);
        }
    }
    Err("no version counts".to_owned())
}

/// The rows of a table, each key once.
fn kept(folder: &Path) -> Result<Vec<Row>, String> {
    let version = newest_version(folder)?;
    let fail = |what: &str| format!("{} version {}: {what}", folder.display(), version["number"]);
    let fields = version["columns"]["fields"].as_array().ok_or_else(|| fail("no columns"))?;
    let key: Vec<usize> = version["primary_key"]
        .as_array()
        .ok_or_else(|| fail("no key"))?
        .iter()
        .filter_map(|name| fields.iter().position(|field| field["name"] == *name))
        .collect();
    let mut keys = BTreeSet::new();
    let mut rows = Vec::new();
    for file in version["files"].as_array().ok_or_else(|| fail("no files"))? {
        let name = file["path"].as_str().ok_or_else(|| fail("a file without a path"))?;
        let bytes = std::fs::read(folder.join(name)).map_err(|e| fail(&format!("`{name}`: {e}")))?;
        let read = read_file(name, &bytes, &version).map_err(|e| fail(&e))?;
        let said = (file["bytes"].as_u64(), file["rows"].as_u64());
        if said != (Some(bytes.len() as u64), Some(read.len() as u64)) {
            return Err(fail(&format!("`{name}` has {} bytes and {} rows, it says {said:?}", bytes.len(), read.len())));
        }
        for row in &read {
            let own: Vec<Cell> = key.iter().map(|column| row[*column].clone()).collect();
            if !keys.insert(own.clone()) {
                return Err(fail(&format!("{own:?} is there twice")));
            }
        }
        rows.extend(read);
    }
    Ok(rows)
}

/// A plain file is its table's one bucket.
fn plain(path: &Path, folder: &Path, rows: Vec<Row>) -> Result<Vec<Row>, String> {
    let bytes = std::fs::read(path).map_err(|e| e.to_string())?;
    let shown = read_file("", &bytes, &newest_version(folder)?)?;
    if shown == rows { Ok(rows) } else { Err(format!("{} is not its table: {shown:?}", path.display())) }
}

/// Whether a rollback took an epoch back: a tombstone in the folder of the record's job and operator says so.
fn is_withdrawn(folder: &Path, record: &Path, epoch: u64) -> bool {
    let own = record.parent().and_then(|operator| operator.strip_prefix(folder.join("_commits")).ok());
    let tombstones = std::fs::read_dir(folder.join("_withdrawn").join(own.unwrap())).into_iter().flatten().flatten();
    tombstones.filter_map(|entry| entry.file_name().into_string().ok()).any(|name| {
        let range = name.strip_suffix(".json").and_then(|range| range.split_once('-'));
        range.is_some_and(|(first, last)| (first.parse::<u64>().unwrap()..=last.parse().unwrap()).contains(&epoch))
    })
}

/// Files that `INSERT OVERWRITE` took away.
pub(crate) fn removed(folder: &Path) -> Result<BTreeSet<String>, String> {
    let mut removed = BTreeSet::new();
    // A draft that a dying process left behind has a hidden name.
    for path in walk(&folder.join("_commits"), &|name| !name.starts_with('.')) {
        let text = std::fs::read_to_string(&path).map_err(|e| e.to_string())?;
        let record: Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
        let names = record["removed"].as_array().cloned().unwrap_or_default();
        removed.extend(names.iter().filter_map(|name| name.as_str().map(str::to_owned)));
    }
    Ok(removed)
}

/// What is there when all rows of a log of changes are applied; their last column says what each does.
pub(crate) fn applied(rows: Vec<Row>) -> Result<Vec<Row>, String> {
    let mut there: BTreeMap<Row, i64> = BTreeMap::new();
    for mut row in rows {
        let kind = row.pop().flatten().unwrap_or_default();
        let count = match kind.as_str() {
            "+I" | "+U" => 1,
            "-U" | "-D" => -1,
            other => return Err(format!("`{other}` is no kind of a row")),
        };
        *there.entry(row).or_default() += count;
    }
    if let Some((row, count)) = there.iter().find(|(_, count)| **count < 0) {
        return Err(format!("{row:?} is taken back {} times too often", -count));
    }
    let copies = |(row, count): (Row, i64)| std::iter::repeat_n(row, usize::try_from(count).unwrap_or(0));
    Ok(there.into_iter().flat_map(copies).collect())
}

/// The jobs that have committed rows into the folder.
pub(crate) fn jobs(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(beside(folder).join("_commits")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// The data files that a reader of the folder sees, relative.
pub(crate) fn visible(folder: &Path) -> BTreeSet<String> {
    let hidden = |name: &str| name.starts_with(['.', '_']);
    walk(folder, &|name| !hidden(name))
        .into_iter()
        .filter_map(|path| Some(path.strip_prefix(folder).ok()?.to_str()?.to_owned()))
        .collect()
}

fn walk(folder: &Path, wanted: &dyn Fn(&str) -> bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(folder) else { return found };
    for entry in entries.flatten() {
        let path = entry.path();
        if !entry.file_name().to_str().is_some_and(wanted) {
            continue;
        }
        if path.is_dir() { found.extend(walk(&path, wanted)) } else { found.push(path) }
    }
    found.sort();
    found
}

fn read_file(name: &str, bytes: &[u8], record: &Value) -> Result<Vec<Row>, String> {
    let names = |key: &str| -> Vec<String> {
        let list = record[key].as_array().cloned().unwrap_or_default();
        list.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect()
    };
    let columns: Vec<String> = record["columns"]["fields"]
        .as_array()
        .ok_or("no columns")?
        .iter()
        .filter_map(|field| field["name"].as_str().map(str::to_owned))
        .collect();
    let partitioned = names("partitioned_by");
    let inside: Vec<&String> = columns.iter().filter(|column| !partitioned.contains(column)).collect();
    let encoding = &record["encoding"];
    // Parquet and Arrow compress inside their files.
    let bytes = match encoding["kind"].as_str() {
        Some("csv" | "json") => decompress(bytes, encoding["compression"].as_str().unwrap_or("none"))?,
        _ => bytes.to_vec(),
    };
    let cells: Vec<BTreeMap<String, Cell>> = match encoding["kind"].as_str() {
        Some("csv") => read_csv(&bytes, encoding, &inside)?,
        Some("json") => {
            let text = String::from_utf8(bytes).map_err(|e| e.to_string())?;
            text.lines().map(json_cells).collect::<Result<_, _>>()?
        }
        Some("parquet") => {
            let reader =
                parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes))
                    .and_then(|builder| builder.build())
                    .map_err(|e| e.to_string())?;
            batches(&reader.collect::<Result<Vec<_>, _>>().map_err(|e| e.to_string())?)?
        }
        Some("arrow") => {
            let reader = arrow::ipc::reader::FileReader::try_new(std::io::Cursor::new(bytes), None)
                .map_err(|e| e.to_string())?;
            batches(&reader.collect::<Result<Vec<_>, _>>().map_err(|e| e.to_string())?)?
        }
        kind => return Err(format!("unknown encoding {kind:?}")),
    };
    let keys: BTreeMap<&str, Cell> = name.split('/').filter_map(|part| part.split_once('=')).map(partition).collect();
    let row = |mut cells: BTreeMap<String, Cell>| -> Row {
        let mut take = |column: &String| match keys.get(column.as_str()) {
            Some(cell) if partitioned.contains(column) => cell.clone(),
            _ => cells.remove(column).flatten(),
        };
        columns.iter().map(&mut take).collect()
    };
    Ok(cells.into_iter().map(row).collect())
}

/// A folder `key=value`, in which `%XX` stands for a byte.
fn partition<'a>((key, value): (&'a str, &'a str)) -> (&'a str, Cell) {
    let mut parts = value.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    (key, (value != "__HIVE_DEFAULT_PARTITION__").then(|| String::from_utf8(bytes).unwrap()))
}

fn decompress(bytes: &[u8], how: &str) -> Result<Vec<u8>, String> {
    match how {
        "gzip" => {
            let mut plain = Vec::new();
            flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut plain).map_err(|e| e.to_string())?;
            Ok(plain)
        }
        "zstd" => zstd::decode_all(bytes).map_err(|e| e.to_string()),
        _ => Ok(bytes.to_vec()),
    }
}

fn read_csv(bytes: &[u8], encoding: &Value, columns: &[&String]) -> Result<Vec<BTreeMap<String, Cell>>, String> {
    let text = std::str::from_utf8(bytes).map_err(|e| e.to_string())?;
    let one = |key: &str| encoding[key].as_str().and_then(|text| text.chars().next());
    let null = encoding["null_literal"].as_str().unwrap_or_default();
    let mut lines = csv::read(text, one("delimiter").unwrap_or(','), one("quote"), null);
    if encoding["header"].as_bool() == Some(true) {
        if lines.is_empty() {
            return Err("no header".to_owned());
        }
        let header = lines.remove(0);
        if !header.iter().map(Option::as_deref).eq(columns.iter().map(|column| Some(column.as_str()))) {
            return Err(format!("header {header:?}, columns {columns:?}"));
        }
    }
    let named = |line: Vec<Cell>| {
        if line.len() == columns.len() {
            Ok(columns.iter().map(|column| (*column).clone()).zip(line).collect())
        } else {
            Err(format!("a line of {} cells for {} columns: {line:?}", line.len(), columns.len()))
        }
    };
    lines.into_iter().map(named).collect()
}

fn json_cells(line: &str) -> Result<BTreeMap<String, Cell>, String> {
    match serde_json::from_str(line) {
        Ok(Value::Object(map)) => Ok(map.into_iter().map(|(name, value)| (name, cell(value))).collect()),
        Ok(other) => Err(format!("not an object: {other}")),
        Err(e) => Err(format!("{e}: {line}")),
    }
}

/// A JSON value as a cell: nested values stay JSON.
pub(crate) fn cell(value: Value) -> Cell {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text),
        other => Some(other.to_string()),
    }
}

fn batches(batches: &[RecordBatch]) -> Result<Vec<BTreeMap<String, Cell>>, String> {
    let mut writer = arrow::json::LineDelimitedWriter::new(Vec::new());
    writer.write_batches(&batches.iter().collect::<Vec<_>>()).map_err(|e| e.to_string())?;
    writer.finish().map_err(|e| e.to_string())?;
    let text = String::from_utf8(writer.into_inner()).map_err(|e| e.to_string())?;
    text.lines().map(json_cells).collect()
}
