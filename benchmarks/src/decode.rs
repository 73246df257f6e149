//! The filesystem source's decoding against the arrow crate's own readers: same file, same schema, same
//! batch size, one thread.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use arrow::json::writer::{LineDelimited, WriterBuilder};
use flate2::read::MultiGzDecoder;
use qanat_connectors::Registry;
use qanat_connectors::contract::{Context, Opener, ReadOutcome, ReadRequest, StopFlag};
use qanat_proto::connector::TableDescriptor;
use qanat_proto::{Error, Result, limits};
use qanat_storage::env::Env;
use qanat_storage::log::Topics;
use regex::Regex;

/// What the arrow readers ask of the file at once: as much as the source does.
const PIECE: usize = 1 << 20;
/// How the data writes NULL.
const NULL: &str = "NA";

/// Real data, repeated until it is large: `<name>.csv` as it is, `<name>-blank.csv` with blanks for NULL,
/// `<name>.json` with the same rows.
pub struct Data {
    folder: PathBuf,
    name: &'static str,
    schema: SchemaRef,
}

/// A table of [`Data`] and what is read of it.
pub struct Case {
    path: PathBuf,
    is_json: bool,
    null_literal: Option<&'static str>,
    schema: SchemaRef,
    projection: Vec<usize>,
}

fn io(what: &str, path: &Path) -> impl Fn(std::io::Error) -> Error {
    let text = format!("{what} {}", path.display());
    move |e| Error::io(&text, &e)
}

fn arrow(e: ArrowError) -> Error {
    Error::internal(e.to_string())
}

impl Data {
    /// Makes the files of `<name>-2013-01.csv.gz` in `examples`, each of about `bytes`.
    ///
    /// # Errors
    /// What the disk says.
    pub fn make(examples: &Path, folder: &Path, name: &'static str, columns: &str, bytes: usize) -> Result<Self> {
        let source = examples.join(format!("{name}-2013-01.csv.gz"));
        let mut text = String::new();
        let file = File::open(&source).map_err(io("open", &source))?;
        MultiGzDecoder::new(file).read_to_string(&mut text).map_err(io("read", &source))?;
        let (header, rows) = text.split_once('\n').unwrap_or_default();
        let data = Self { folder: folder.to_owned(), name, schema: schema(header, columns)? };
        let null = Regex::new(&format!("(^|,){NULL}(,|$)")).map_err(|e| Error::internal(e.to_string()))?;
        let blank = |line: &str| {
            // Two NULLs in a row share a comma: the second is found in a second pass.
            let once = null.replace_all(line, "$1$2").into_owned();
            null.replace_all(&once, "$1$2").into_owned() + "\n"
        };
        write_repeated(&data.csv(), header, rows, bytes)?;
        write_repeated(&data.blank_csv(), header, &rows.lines().map(blank).collect::<String>(), bytes)?;
        let once = folder.join("once.csv");
        write_repeated(&once, header, rows, 0)?;
        let all = Case { path: once, ..data.csv_case("") };
        let mut json = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(Vec::new());
        all.by_arrow(|batch| json.write(&batch).map_err(arrow))?;
        let json = String::from_utf8_lossy(&json.into_inner()).into_owned();
        write_repeated(&data.json(), "", &json, bytes)?;
        Ok(data)
    }

    fn csv(&self) -> PathBuf {
        self.folder.join(format!("{}.csv", self.name))
    }

    fn blank_csv(&self) -> PathBuf {
        self.folder.join(format!("{}-blank.csv", self.name))
    }

    fn json(&self) -> PathBuf {
        self.folder.join(format!("{}.json", self.name))
    }

    /// Some columns, or all if none are named, of the CSV with `NA` for NULL.
    pub fn csv_case(&self, columns: &str) -> Case {
        Case { path: self.csv(), is_json: false, null_literal: Some(NULL), ..self.case(columns) }
    }

    /// The same of the CSV with blanks for NULL, which the arrow reader takes for NULL by itself.
    pub fn blank_csv_case(&self, columns: &str) -> Case {
        Case { path: self.blank_csv(), is_json: false, null_literal: Some(""), ..self.case(columns) }
    }

    /// The same of the JSON lines.
    pub fn json_case(&self, columns: &str) -> Case {
        self.case(columns)
    }

    fn case(&self, columns: &str) -> Case {
        let named: Vec<&str> = columns.split_whitespace().collect();
        let fields = self.schema.fields().iter().enumerate();
        let wanted = fields.filter(|(_, field)| named.is_empty() || named.contains(&field.name().as_str()));
        Case {
            path: self.json(),
            is_json: true,
            null_literal: None,
            schema: Arc::clone(&self.schema),
            projection: wanted.map(|(index, _)| index).collect(),
        }
    }
}

/// Columns of a header; `types` names those that are not text: `name:i`, `name:f`, `name:t`.
fn schema(header: &str, types: &str) -> Result<SchemaRef> {
    let field = |name: &str| {
        let letter = types.split_whitespace().filter_map(|t| t.split_once(':')).find(|(column, _)| *column == name);
        let data_type = match letter.map(|(_, letter)| letter) {
            None => DataType::Utf8,
            Some("i") => DataType::Int32,
            Some("f") => DataType::Float64,
            Some("t") => DataType::Timestamp(TimeUnit::Millisecond, None),
            Some(other) => return Err(Error::internal(format!("no type `{other}`"))),
        };
        Ok(Field::new(name, data_type, true))
    };
    Ok(Arc::new(Schema::new(header.split(',').map(field).collect::<Result<Vec<_>>>()?)))
}

/// The header, if there is one, and the rows again and again until there are `bytes`, at least once.
fn write_repeated(path: &Path, header: &str, rows: &str, bytes: usize) -> Result<()> {
    let write = || {
        let mut file = File::create(path)?;
        if !header.is_empty() {
            writeln!(file, "{header}")?;
        }
        (0..(bytes / rows.len()).max(1)).try_for_each(|_| file.write_all(rows.as_bytes()))
    };
    write().map_err(io("write", path))
}

impl Case {
    /// Length of the file.
    ///
    /// # Errors
    /// What the disk says.
    pub fn bytes(&self) -> Result<u64> {
        std::fs::metadata(&self.path).map(|m| m.len()).map_err(io("read", &self.path))
    }

    /// Reads the file as a job does: the registry's source, split by split, batch by batch.
    ///
    /// # Errors
    /// Any record that does not decode, and what `take` says.
    pub fn by_source(&self, mut take: impl FnMut(RecordBatch) -> Result<()>) -> Result<()> {
        let env = Env::real();
        let topics = Arc::new(Topics::open_read_only(env.clone(), "no-topics"));
        let registry = Registry::new(Context { env, topics, base: PathBuf::new() });
        let mut options = vec![
            ("connector", "filesystem".to_owned()),
            ("path", self.path.display().to_string()),
            ("format", if self.is_json { "json" } else { "csv" }.to_owned()),
        ];
        options.extend(self.null_literal.map(|null| ("csv.null-literal", null.to_owned())));
        let table = TableDescriptor {
            name: "t".to_owned(),
            connector: "filesystem".to_owned(),
            options: options.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
            physical: Arc::clone(&self.schema),
            metadata: Vec::new(),
            primary_key: Vec::new(),
            partitioned_by: Vec::new(),
        };
        let request = ReadRequest {
            projection: self.projection.clone(),
            unread: Vec::new(),
            metadata: Vec::new(),
            batch_rows: limits::BATCH_ROWS,
            bounded: true,
            filter: None,
        };
        let source = registry.source(&table, request)?;
        for split in source.discover()? {
            let mut reader = source.open(&split, &split.start)?;
            while let ReadOutcome::Batch(batch) = reader.next(&StopFlag::default())? {
                if let Some(letter) = batch.dead_letters.first() {
                    return Err(Error::internal(format!("a record does not decode: {}", letter.reason)));
                }
                take(batch.rows)?;
            }
        }
        Ok(())
    }

    /// The limit: the arrow crate's reader over the file.
    ///
    /// # Errors
    /// As [`Case::by_source`].
    pub fn by_arrow(&self, mut take: impl FnMut(RecordBatch) -> Result<()>) -> Result<()> {
        let file = BufReader::with_capacity(PIECE, File::open(&self.path).map_err(io("open", &self.path))?);
        if self.is_json {
            let schema = self.schema.project(&self.projection).map_err(arrow)?;
            let reader = arrow::json::ReaderBuilder::new(Arc::new(schema)).with_batch_size(limits::BATCH_ROWS);
            return reader.build(file).map_err(arrow)?.try_for_each(|batch| take(batch.map_err(arrow)?));
        }
        let mut reader = arrow::csv::ReaderBuilder::new(Arc::clone(&self.schema))
            .with_header(true)
            .with_batch_size(limits::BATCH_ROWS)
            .with_projection(self.projection.clone());
        if let Some(null) = self.null_literal.filter(|null| !null.is_empty()) {
            let null = Regex::new(&format!("^{null}$")).map_err(|e| Error::internal(e.to_string()))?;
            reader = reader.with_null_regex(null);
        }
        reader.build_buffered(file).map_err(arrow)?.try_for_each(|batch| take(batch.map_err(arrow)?))
    }

    /// Checks that both give the same rows; returns how many.
    ///
    /// # Errors
    /// If they do not.
    pub fn agree(&self) -> Result<usize> {
        let (mut ours, mut limit) = (Vec::new(), Vec::new());
        self.by_source(|batch| {
            ours.push(batch);
            Ok(())
        })?;
        self.by_arrow(|batch| {
            limit.push(batch);
            Ok(())
        })?;
        let schema = Arc::new(self.schema.project(&self.projection).map_err(arrow)?);
        let ours = concat_batches(&schema, &ours).map_err(arrow)?;
        let limit = concat_batches(&schema, &limit).map_err(arrow)?;
        if ours == limit { Ok(ours.num_rows()) } else { Err(Error::internal("the two sides read different rows")) }
    }
}

/// The example's flights.
///
/// # Errors
/// What the disk says.
pub fn flights(examples: &Path, folder: &Path, bytes: usize) -> Result<Data> {
    let columns = "year:i month:i day:i dep_time:i sched_dep_time:i dep_delay:f arr_time:i sched_arr_time:i arr_delay:f \
                   flight:i air_time:f distance:i hour:i minute:i time_hour:t";
    Data::make(examples, folder, "flights", columns, bytes)
}

/// The example's weather.
///
/// # Errors
/// What the disk says.
pub fn weather(examples: &Path, folder: &Path, bytes: usize) -> Result<Data> {
    let columns = "year:i month:i day:i hour:i temp:f dewp:f humid:f wind_dir:i wind_speed:f wind_gust:f precip:f \
                   pressure:f visib:f time_hour:t";
    Data::make(examples, folder, "weather", columns, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Folder;

    #[test]
    fn both_sides_read_the_same_rows() {
        let folder = Folder::new(&Env::real(), &std::env::temp_dir()).expect("a folder");
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/data");
        let flights = flights(&examples, folder.path(), 0).expect("made");
        let weather = weather(&examples, folder.path(), 0).expect("made");
        for (data, rows) in [(&flights, 27_004), (&weather, 2_226)] {
            for columns in ["", "origin time_hour"] {
                for case in [data.csv_case(columns), data.blank_csv_case(columns), data.json_case(columns)] {
                    assert_eq!(case.agree().expect("the same"), rows);
                }
            }
        }
        let few = flights.json_case("origin dep_delay");
        let mut nulls = 0;
        few.by_source(|batch| {
            assert_eq!(batch.num_columns(), 2);
            nulls += batch.column(0).null_count();
            Ok(())
        })
        .expect("read");
        assert_eq!(nulls, 521, "the cancelled flights");
    }
}
