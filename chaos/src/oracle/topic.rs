//! A topic of the embedded log, read by its documentation (`docs/log-format.md`).
//!
//! [`TopicReader::observe`] may be called at any moment and goes on where it was: what was read once must
//! stay. A frame counts when its whole run is there with all its checksums; a run is what an epoch of one
//! sink subtask made visible, so no handle may come twice and no epoch may come back.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Cursor, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use arrow::ipc::reader::StreamReader;
use arrow::record_batch::RecordBatch;

use super::Violation;
use super::folder::names;

const HEADER: usize = 96;
const FRAME: usize = 160;
/// Longer headers and frames than the engine's limits are damage, not data.
const SANE: usize = 256 << 20;

/// Takes the rows of one committed frame; an error is a violation.
pub type BatchCheck<'a> = dyn FnMut(&RecordBatch) -> std::result::Result<(), String> + 'a;

/// The reader of one topic.
pub struct TopicReader {
    topic: PathBuf,
    partitions: BTreeMap<String, Partition>,
    rows: u64,
    runs: u64,
}

#[derive(Default)]
struct Partition {
    segment: u64,
    /// Where the next frame of the segment begins; 0 before its header was read.
    position: u64,
    /// Offset of the next row.
    offset: u64,
    handles: BTreeSet<String>,
    /// Highest epoch by job and operator.
    epochs: BTreeMap<(u128, u64), u64>,
    is_begun: bool,
    damaged: bool,
}

struct Segment {
    id: u64,
    header: u64,
    base: u64,
    /// Length of the segment before it.
    before: u64,
    schema: Vec<u8>,
}

struct Frame {
    length: u64,
    first: u64,
    rows: u64,
    kind: u8,
    payload: Vec<u8>,
    payload_crc: u32,
    run_crc: u32,
    index: u32,
    frames: u32,
    epoch: u64,
    writer: (u128, u64),
    handle: String,
}

impl TopicReader {
    /// For the topic in this folder, which need not be there yet.
    pub fn new(topic: &Path) -> Self {
        Self { topic: topic.to_owned(), partitions: BTreeMap::new(), rows: 0, runs: 0 }
    }

    /// Rows so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Runs so far.
    pub fn runs(&self) -> u64 {
        self.runs
    }

    /// Reads what was added since the last look.
    ///
    /// # Errors
    /// If files cannot be read; what is wrong with them is a violation.
    pub fn observe(&mut self, check: &mut BatchCheck<'_>) -> Result<Vec<Violation>> {
        let mut violations = Vec::new();
        let Some(topic_id) = topic_id(&self.topic)? else { return Ok(violations) };
        let rows = self.topic.join(format!("{topic_id:016x}"));
        for name in names(&rows)?.into_iter().filter(|name| is_partition(name)) {
            let folder = rows.join(&name);
            let begins = first_segment(&folder)?;
            let mut partition = match self.partitions.remove(&name) {
                Some(partition) => partition,
                None => Partition { segment: begins, ..Partition::default() },
            };
            if begins > partition.segment {
                partition.damaged = true;
                violations.push(format!("{} segment {} was removed unread", folder.display(), partition.segment));
            }
            while !partition.damaged {
                match self.advance(&folder, &mut partition, check, &mut violations) {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error) => {
                        partition.damaged = true;
                        violations.push(format!("{} segment {}: {error:#}", folder.display(), partition.segment));
                    }
                }
            }
            self.partitions.insert(name, partition);
        }
        Ok(violations)
    }

    /// Reads the rest of one segment. True if there is a next one.
    fn advance(
        &mut self,
        folder: &Path,
        partition: &mut Partition,
        check: &mut BatchCheck<'_>,
        violations: &mut Vec<Violation>,
    ) -> Result<bool> {
        let path = |number: u64| folder.join(format!("{number:016}.log"));
        let current = path(partition.segment);
        if !current.exists() {
            return Ok(false);
        }
        let file = File::open(&current)?;
        let segment = read_segment(&file, partition.segment)?;
        if partition.position == 0 {
            if !partition.is_begun {
                // What retention removed before the first look is not looked for.
                partition.offset = segment.base;
                partition.is_begun = true;
            }
            ensure!(segment.base == partition.offset, "begins at {}, not {}", segment.base, partition.offset);
            partition.position = segment.header;
        }
        let next = path(partition.segment + 1);
        // Looked at before the frames: once there is a next segment, this one grows no more.
        let sealed = match next.exists() {
            true => Some(read_segment(&File::open(&next)?, partition.segment + 1)?),
            false => None,
        };
        if let Some(next) = &sealed {
            ensure!(partition.position <= next.before, "rows that were seen were cut off at {}", next.before);
        }
        let end = sealed.as_ref().map_or(u64::MAX, |next| next.before);
        while let Some(run) = read_run(&file, &segment, partition.position, partition.offset, end)? {
            self.take_run(&segment, &run, partition, check, violations);
        }
        let Some(next) = sealed else { return Ok(false) };
        ensure!(partition.position == next.before, "damaged at byte {}", partition.position);
        ensure!(partition.offset == next.base, "ends at {}, the next begins at {}", partition.offset, next.base);
        partition.segment += 1;
        partition.position = 0;
        Ok(true)
    }

    fn take_run(
        &mut self,
        segment: &Segment,
        run: &[Frame],
        partition: &mut Partition,
        check: &mut BatchCheck<'_>,
        violations: &mut Vec<Violation>,
    ) {
        let at = partition.offset;
        for frame in run {
            partition.position += frame.length;
            partition.offset = frame.first + frame.rows;
        }
        let Some(first) = run.first().filter(|frame| frame.kind == 1) else { return };
        self.runs += 1;
        if !first.handle.is_empty() && !partition.handles.insert(first.handle.clone()) {
            violations.push(format!("handle {} was appended twice, again at offset {at}", first.handle));
        }
        let highest = partition.epochs.entry(first.writer).or_default();
        if first.epoch < *highest {
            violations.push(format!("epoch {} stands behind epoch {highest}, at offset {at}", first.epoch));
        }
        *highest = first.epoch.max(*highest);
        for frame in run {
            self.rows += frame.rows;
            match decode(segment, frame).map_err(|e| format!("{e:#}")).and_then(|batch| {
                if batch.num_rows() as u64 == frame.rows {
                    check(&batch)
                } else {
                    Err(format!("has {} rows, the frame says {}", batch.num_rows(), frame.rows))
                }
            }) {
                Ok(()) => {}
                Err(error) => violations.push(format!("frame at offset {}: {error}", frame.first)),
            }
        }
    }
}

/// The id of the topic in this folder. `None` if there is none (yet).
fn topic_id(topic: &Path) -> Result<Option<u64>> {
    let described = match std::fs::read(topic.join("topic")) {
        Ok(described) => described,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).context("read the topic's description"),
    };
    let described: serde_json::Value = serde_json::from_slice(described.get(20..).unwrap_or_default())?;
    described["id"].as_u64().map(Some).context("the topic has no id")
}

/// Number of the segment that a partition begins with.
fn first_segment(partition: &Path) -> Result<u64> {
    let numbers = names(partition)?.into_iter().filter_map(|name| name.strip_suffix(".first")?.parse().ok());
    Ok(numbers.max().unwrap_or(0))
}

fn is_partition(name: &str) -> bool {
    name.strip_prefix('p').is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}

fn read_segment(file: &File, number: u64) -> Result<Segment> {
    let mut start = [0; HEADER];
    file.read_exact_at(&mut start, 0).context("its header is cut")?;
    ensure!(&start[..8] == b"QANATLOG", "it is no segment");
    ensure!(u32_at(&start, 8) == 1, "version {}", u32_at(&start, 8));
    let length = u32_at(&start, 12) as usize;
    ensure!((HEADER..SANE).contains(&length), "its header has {length} bytes");
    let mut header = vec![0; length];
    file.read_exact_at(&mut header, 0).context("its header is cut")?;
    ensure!(crc32c::crc32c(&header[20..]) == u32_at(&header, 16), "its header's checksum is wrong");
    ensure!(u64_at(&header, 24) == number, "it says it is segment {}", u64_at(&header, 24));
    let from = HEADER + u32_at(&header, 72) as usize;
    let Some(schema) = header.get(from..from + u32_at(&header, 76) as usize) else { bail!("its lengths do not fit") };
    Ok(Segment {
        id: u64_at(&header, 32),
        header: length as u64,
        base: u64_at(&header, 40),
        before: u64_at(&header, 64),
        schema: schema.to_vec(),
    })
}

/// The whole run at `position`, or `None` if there is none (yet).
fn read_run(file: &File, segment: &Segment, position: u64, offset: u64, end: u64) -> Result<Option<Vec<Frame>>> {
    let (mut at, mut next) = (position, offset);
    let mut run: Vec<Frame> = Vec::new();
    loop {
        if at >= end {
            return Ok(None);
        }
        let Some(frame) = read_frame(file, segment, at, next) else { return Ok(None) };
        if frame.kind == 2 || frame.index as usize != run.len() {
            return Ok(None);
        }
        at += frame.length;
        next = frame.first + frame.rows;
        let last = frame.index + 1 == frame.frames;
        run.push(frame);
        if last {
            break;
        }
    }
    let crcs: Vec<u8> = run.iter().flat_map(|frame| frame.payload_crc.to_le_bytes()).collect();
    let stated = run.first().map_or(0, |frame| frame.run_crc);
    ensure!(crc32c::crc32c(&crcs) == stated, "the run at byte {position} has a wrong checksum");
    Ok(Some(run))
}

/// The frame at `position`, or `None` if there is no whole one.
fn read_frame(file: &File, segment: &Segment, position: u64, offset: u64) -> Option<Frame> {
    let mut start = [0; FRAME];
    file.read_exact_at(&mut start, position).ok()?;
    let (length, header) = (u32_at(&start, 8) as usize, u16::from_le_bytes([start[12], start[13]]) as usize);
    if &start[..4] != b"QFRM" || header < FRAME || !(header..SANE).contains(&length) {
        return None;
    }
    let mut frame = vec![0; length];
    file.read_exact_at(&mut frame, position).ok()?;
    let payload_len = u32_at(&frame, 52) as usize;
    let whole = crc32c::crc32c(&frame[8..header]) == u32_at(&frame, 4)
        && crc32c::crc32c(&frame[header..]) == u32_at(&frame, 56)
        && u64_at(&frame, 16) == segment.id
        && u64_at(&frame, 24) == position
        && u64_at(&frame, 40) == offset;
    if !whole {
        return None;
    }
    let handle_len = usize::from(u16::from_le_bytes([frame[152], frame[153]]));
    let job = u128::from(u64_at(&frame, 112)) | u128::from(u64_at(&frame, 120)) << 64;
    Some(Frame {
        length: length as u64,
        first: offset,
        rows: u64::from(u32_at(&frame, 48)),
        kind: frame[14],
        payload: frame.get(header..header + payload_len)?.to_vec(),
        payload_crc: u32_at(&frame, 56),
        run_crc: u32_at(&frame, 60),
        index: u32_at(&frame, 72),
        frames: u32_at(&frame, 76),
        epoch: u64_at(&frame, 136),
        writer: (job, u64_at(&frame, 144)),
        handle: String::from_utf8_lossy(frame.get(FRAME..FRAME + handle_len)?).into_owned(),
    })
}

fn decode(segment: &Segment, frame: &Frame) -> Result<RecordBatch> {
    let mut stream = segment.schema.clone();
    stream.extend_from_slice(&frame.payload);
    let mut reader = StreamReader::try_new(Cursor::new(stream), None)?;
    reader.next().context("it holds no batch")?.context("its payload cannot be decoded")
}
