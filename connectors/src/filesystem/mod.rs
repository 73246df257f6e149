//! `filesystem` (also `file`): files of a folder as a table.

pub mod audit;
pub mod committed;
mod listing;
pub mod net;
mod output;
pub mod overlap;
mod partition;
pub mod reread;
mod sealed;
pub mod sink;
pub mod source;
#[cfg(test)]
mod source_tests;
mod split_reader;
pub mod version;
mod watched;
pub mod withdrawn;

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use arrow::datatypes::SchemaRef;
use qanat_proto::changelog::AcceptedChangelog;
use qanat_proto::connector::{
    ConnectorDescriptor, Delivery, OptionKind, OptionSpec, Role, SinkRouting, TableDescriptor, TableTraits,
};
use qanat_proto::error::Result;
use qanat_proto::graph::SinkNode;
use qanat_storage::env::{Disk, Env};

pub(crate) use self::output::Output;
use self::sink::options::{Keeps, SinkOptions};
use self::source::FilesystemSource;
pub(crate) use self::split_reader::{FileSplitReader, FirstRow};
use crate::contract::{Context, MadeVisible, ReadRequest, Sink, Source, Withdrawable};
use crate::format;
use crate::format::decode::FormatOptions;
use crate::options::Options;
use crate::registry::Connector;

/// The files that a table's path names now, with their lengths in bytes: relative ones below `base`.
///
/// # Errors
/// E0206 if nothing is there, E0207 without permission.
pub fn files_of(disk: &dyn Disk, base: &Path, path: &str) -> Result<Vec<(PathBuf, u64)>> {
    let found = listing::Location::new(disk, base, path).list(disk, true)?;
    Ok(found.into_iter().map(|file| (file.path, file.len)).collect())
}

const fn option(key: &'static str, kind: OptionKind, default: Option<&'static str>, doc: &'static str) -> OptionSpec {
    OptionSpec { key, kind, default, required: false, doc }
}

/// Options of the source, and those that source and sink share.
pub const SOURCE_OPTIONS: &[OptionSpec] = &[
    OptionSpec {
        key: "path",
        kind: OptionKind::Text,
        default: None,
        required: true,
        doc: "A file, a folder or, for reading, a pattern such as `data/*.csv`.",
    },
    option(
        "compression",
        OptionKind::Choice(&["auto", "none", "gzip", "zstd"]),
        Some("auto"),
        "How files are compressed; `auto` goes by the name: `.gz`, `.zst`.",
    ),
    option(
        "source.monitor-interval",
        OptionKind::Duration,
        None,
        "Follow the path: look for new and grown files at this interval. Without it the path is read once.",
    ),
    option(
        "source.path.regex-pattern",
        OptionKind::Text,
        None,
        "Only files whose whole absolute path matches this regular expression are read.",
    ),
    option(
        "source.report-statistics",
        OptionKind::Choice(&["ALL", "NONE"]),
        Some("ALL"),
        "Taken and not needed: plans do not depend on statistics.",
    ),
    option(
        "partition.default-name",
        OptionKind::Choice(&["__HIVE_DEFAULT_PARTITION__"]),
        Some("__HIVE_DEFAULT_PARTITION__"),
        "The folder of a NULL: the name that Hive, Spark and DuckDB read as NULL. `__DEFAULT_PARTITION__` is read \
         as NULL too.",
    ),
    option(
        "scan.split-order",
        OptionKind::Choice(&["none", "time"]),
        Some("none"),
        "`time`: files follow each other in time, in the order of their names.",
    ),
    option(
        "lookup.full-cache.periodic-reload.interval",
        OptionKind::Duration,
        None,
        "As the table of a lookup join: read it again at this interval. Without it the table is read once.",
    ),
];

/// All options: of the format's tables too, except those of the format itself.
static OPTIONS: LazyLock<Vec<OptionSpec>> =
    LazyLock::new(|| [format::COMMON, SOURCE_OPTIONS, sink::SINK_OPTIONS].concat());

/// The folder that a sink table writes to, its path resolved against `base`.
///
/// # Errors
/// E0204 without a path, E0203 for one that is not local.
pub fn sink_folder(base: &Path, table: &TableDescriptor) -> Result<PathBuf> {
    sink::folder_of(base, table)
}

/// The connector's line in the registry.
pub struct Filesystem;

impl Connector for Filesystem {
    fn descriptor(&self) -> ConnectorDescriptor {
        ConnectorDescriptor {
            name: "filesystem",
            aliases: &["file"],
            doc: "Files of a folder, by path or pattern.",
            source: true,
            sink: true,
            lookup: true,
            formats: format::NAMES,
            options: &OPTIONS,
        }
    }

    fn check(&self, table: &TableDescriptor, role: Role) -> Result<TableTraits> {
        let format = format::of_table(table, format::NAMES)?;
        let options = Options::check(table, &[&OPTIONS, format.options])?;
        match role {
            Role::Sink => {
                sink::check(table)?;
            }
            Role::Source | Role::Lookup => {
                FormatOptions::of(&options)?.check_columns(table)?;
                source::path_pattern(&options)?;
                // A file that may grow has no end, behind which the next would begin.
                if options.is_set("source.monitor-interval") && options.text("scan.split-order") == Some("time") {
                    let message = "a path that is followed is not read in the order of time";
                    return Err(options
                        .bad("scan.split-order", message)
                        .hint("`scan.watermark.idle-timeout` lets a file go that had no row for so long"));
                }
            }
        }
        let keeps = if role == Role::Sink { SinkOptions::of_table(table)?.keeps } else { Keeps::Rows };
        let (changelog, routing) = match keeps {
            Keeps::Rows => (AcceptedChangelog::Append, SinkRouting::Any),
            Keeps::Log => (AcceptedChangelog::Retract, SinkRouting::Any),
            Keeps::Table(options) if options.is_plain => (AcceptedChangelog::Upsert, SinkRouting::Single),
            Keeps::Table(_) => (AcceptedChangelog::Upsert, SinkRouting::ByKey),
        };
        Ok(TableTraits {
            bounded: !options.is_set("source.monitor-interval"),
            replayable: true,
            delivery: Delivery::ExactlyOnce,
            changelog,
            routing,
            gives: format::gives(table, &options)?,
        })
    }

    /// Only Parquet keeps statistics.
    fn uses_filters(&self, table: &TableDescriptor) -> bool {
        table.option("format").is_some_and(|format| format.eq_ignore_ascii_case("parquet"))
    }

    fn source(&self, context: &Context, table: &TableDescriptor, request: ReadRequest) -> Result<Arc<dyn Source>> {
        let format = format::of_table(table, format::NAMES)?;
        let options = Options::check(table, &[&OPTIONS, format.options])?;
        Ok(Arc::new(FilesystemSource::new(&context.env, &context.base, table, &options, request)?))
    }

    fn sink(&self, context: &Context, node: &SinkNode, _rows: SchemaRef) -> Result<Arc<dyn Sink>> {
        Ok(sink::FileSink::open_node(context.env.clone(), &context.base, node)?)
    }

    fn withdrawable(&self, env: &Env, base: &Path, node: &SinkNode, rows: MadeVisible) -> Result<Withdrawable> {
        let folder = sink_folder(base, &node.table)?;
        let published = withdrawn::published_after(env.disk.as_ref(), &folder, rows)?;
        let lost = |epoch| format!("the commit record of epoch {epoch} is gone, and with it the names of its files");
        let taken = || "the files that INSERT OVERWRITE took away do not come back".to_owned();
        let keeps = published.lost.map(lost);
        let keeps = match node.buckets {
            _ if keeps.is_some() => keeps,
            Some(_) => sink::keeps(env.disk.as_ref(), &folder, node, rows)?,
            None => node.overwrite.then(taken),
        };
        Ok(Withdrawable { names: published.paths, keeps })
    }
}
