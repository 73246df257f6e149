//! Jobs that would take away what they read.

use std::path::{Component, Path, PathBuf};

use qanat_proto::connector::TableDescriptor;
use qanat_proto::error::{Code, Error, Place, Result};
use qanat_proto::graph::{JobGraph, OperatorKind, SinkNode};
use qanat_storage::env::Env;

use super::Filesystem;
use super::listing::{Location, is_hidden, matches};
use super::sink::path_of;
use crate::registry::Connector;

/// Refuses `INSERT OVERWRITE` into a folder that a job of the same script reads: the old files go with the
/// first epoch, and what was not read by then could not be read after a restart. So would those of a lookup
/// join's table, which has no other copy. Of a table that is kept by its key files go with every epoch; and two sinks do
/// not keep one table, nor write into its folder.
///
/// # Errors
/// E0205 at the table that is written; E0203 and E0204 as [`super::sink_folder`].
pub fn refuse_overwritten_sources<'g>(
    env: &Env,
    base: &Path,
    graphs: impl Iterator<Item = &'g JobGraph> + Clone,
) -> Result<()> {
    let is_file = |table: &TableDescriptor| {
        let descriptor = Filesystem.descriptor();
        table.connector == descriptor.name || descriptor.aliases.contains(&table.connector.as_str())
    };
    let sinks = graphs.clone().flat_map(|graph| graph.sinks().map(|(_, node)| node));
    let sinks: Vec<&SinkNode> = sinks.filter(|node| is_file(&node.table)).collect();
    let refused = |sink: &SinkNode, message: String, hint: &str| {
        Err(Error::new(Code::BadRole, message).at(Place::Named(sink.table.name.clone())).hint(hint))
    };
    for (at, sink) in sinks.iter().enumerate().filter(|(_, sink)| sink.overwrite || sink.buckets.is_some()) {
        let path = resolved(env, &path_of(base, &sink.table)?);
        let mut read = graphs.clone().flat_map(|graph| &graph.operators).filter_map(|operator| match &operator.kind {
            OperatorKind::Source(node) => Some(&node.table),
            OperatorKind::LookupJoin(node) => Some(&node.table),
            _ => None,
        });
        if let Some(source) = read.find(|source| is_file(source) && reads_from(env, base, source, &path)) {
            let (how, whose) = if sink.overwrite { ("overwritten", "its folder") } else { ("kept up to date", "it") };
            let message = format!("`{}` cannot be {how} while `{}` is read from {whose}", sink.table.name, source.name);
            return refused(sink, message, "its files would be gone before they are read; write to another folder");
        }
        if sink.buckets.is_none() {
            continue;
        }
        for (_, other) in sinks.iter().enumerate().filter(|(other, _)| *other != at) {
            if resolved(env, &path_of(base, &other.table)?) == path {
                let message = format!("`{}` is kept by its key, and this script writes to it twice", sink.table.name);
                return refused(
                    sink,
                    message,
                    "put the queries into one by UNION ALL, or give each a place of its own",
                );
            }
        }
    }
    Ok(())
}

/// Whether files that come to lie in `folder` belong to the table.
fn reads_from(env: &Env, base: &Path, table: &TableDescriptor, folder: &Path) -> bool {
    let Some(path) = table.option("path") else { return false };
    let location = Location::new(env.disk.as_ref(), base, path);
    let root = resolved(env, &location.root);
    if root.starts_with(folder) {
        return true;
    }
    let Ok(below) = folder.strip_prefix(&root) else { return false };
    let mut pattern = location.pattern.iter();
    for name in below.components().map(|component| component.as_os_str().to_string_lossy()) {
        match pattern.next() {
            Some(any) if any == "**" => return true,
            Some(next) if matches(next, &name) => {}
            None if !is_hidden(&name) => {}
            _ => return false,
        }
    }
    true
}

/// The path without links, `.` and `..`, as far as it exists.
fn resolved(env: &Env, path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in std::path::absolute(path).as_deref().unwrap_or(path).components() {
        match component {
            Component::ParentDir => drop(plain.pop()),
            component => plain.push(component),
        }
        if let Ok(real) = env.disk.real_path(&plain) {
            plain = real;
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::Schema;

    use super::*;

    fn reads(path: &str, folder: &str) -> bool {
        let table = TableDescriptor {
            name: "t".to_owned(),
            connector: "filesystem".to_owned(),
            options: [("path".to_owned(), path.to_owned())].into(),
            physical: Arc::new(Schema::empty()),
            metadata: Vec::new(),
            primary_key: Vec::new(),
            partitioned_by: Vec::new(),
        };
        let env = Env::real();
        reads_from(&env, Path::new("/nowhere"), &table, &resolved(&env, &Path::new("/nowhere").join(folder)))
    }

    #[test]
    fn folders_that_lie_in_each_other() {
        for (path, folder) in [
            ("a", "a"),
            ("a/", "./a"),
            ("b/../a", "a"),
            ("file:///nowhere/a", "a"),
            ("a/x.csv", "a"),
            ("a/*.csv", "a"),
            ("a/b", "a"),
            ("a", "a/b"),
            ("a/*", "a/b"),
            ("a/*/x.csv", "a/b"),
            ("a/**/x.csv", "a/b/c"),
        ] {
            assert!(reads(path, folder), "{path} reads from {folder}");
        }
        for (path, folder) in
            [("a", "b"), ("a", "ab"), ("a/*.csv", "a/b"), ("a/c*/x.csv", "a/b"), ("a", "a/_b"), ("a.csv", "a")]
        {
            assert!(!reads(path, folder), "{path} does not read from {folder}");
        }
    }
}
