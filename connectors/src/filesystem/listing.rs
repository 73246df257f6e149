//! Which files a path names: one file, a folder with all below it, or a pattern.
//!
//! Names that begin with `.` or `_` are not data, unless the path itself spells them out. Of a folder in which a table is
//! kept by its key, data are the files of its newest version.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use qanat_proto::error::{Code, Error, Place, Result};
use qanat_storage::env::{Disk, Entry};

use super::version::{VERSIONS, is_table, newest_version};

/// Folders below a path are followed this deep.
const DEPTH_MAX: usize = 64;

/// The option `path`, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Location {
    /// As the user wrote it, without `file://`.
    pub(super) text: String,
    /// The fixed part of the path: a file or a folder.
    pub(super) root: PathBuf,
    /// How users call `root`.
    root_text: String,
    /// The components behind `root` that are a pattern.
    pub(super) pattern: Vec<String>,
    /// `root` is the one file.
    is_file: bool,
}

/// A file to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FoundFile {
    pub(super) path: PathBuf,
    /// Path below the root, with `/`: stable for as long as the file stays where it is.
    pub(super) relative: String,
    pub(super) len: u64,
    pub(super) modified_ms: i64,
    /// It is of a version of a table that is kept by its key.
    pub(super) is_of_table: bool,
}

impl Location {
    /// Resolves `path` against `base`. A path that exists as it stands is not a pattern.
    pub(super) fn new(disk: &dyn Disk, base: &Path, path: &str) -> Self {
        let text = path.strip_prefix("file://").unwrap_or(path);
        let whole = base.join(text);
        let is_pattern = text.contains(['*', '?', '[']);
        if !is_pattern || disk.exists(&whole).unwrap_or(false) {
            let text = text.trim_end_matches('/');
            let is_file = disk.metadata(&whole).is_ok_and(|entry| !entry.is_dir);
            return Self {
                text: text.to_owned(),
                root: whole,
                root_text: text.to_owned(),
                pattern: Vec::new(),
                is_file,
            };
        }
        let components: Vec<&str> = text.split('/').collect();
        let fixed = components.iter().take_while(|c| !c.contains(['*', '?', '['])).count();
        let root_text = components.get(..fixed).unwrap_or_default().join("/");
        // `/*.csv`: what stands before the first slash is empty, and means the root folder.
        let root = if fixed == 1 && root_text.is_empty() { PathBuf::from("/") } else { base.join(&root_text) };
        let pattern = components.get(fixed..).unwrap_or_default();
        let pattern = pattern.iter().filter(|c| !c.is_empty()).map(|c| (*c).to_owned()).collect();
        Self { text: text.to_owned(), root, root_text, pattern, is_file: false }
    }

    /// How users call a file of this location.
    pub(super) fn origin(&self, relative: &str) -> String {
        if self.is_file {
            return self.text.clone();
        }
        match self.root_text.as_str() {
            "" => relative.to_owned(),
            root => format!("{}/{relative}", root.trim_end_matches('/')),
        }
    }

    /// The path of a file that [`Location::list`] named.
    pub(super) fn path(&self, relative: &str) -> PathBuf {
        if self.is_file { self.root.clone() } else { self.root.join(relative) }
    }

    /// All files, sorted by path component by component.
    ///
    /// # Errors
    /// E0206 if nothing is there (or nothing matches and `may_be_empty` is not set), E0207 without
    /// permission.
    pub(super) fn list(&self, disk: &dyn Disk, may_be_empty: bool) -> Result<Vec<FoundFile>> {
        let root = disk.metadata(&self.root).map_err(|e| self.error("read", &self.root_text, &e))?;
        let mut found = Vec::new();
        if root.is_dir {
            self.walk(disk, &root.path, "", &self.pattern, &mut Vec::new(), &mut found)?;
            found.sort_by(|a, b| a.relative.split('/').cmp(b.relative.split('/')));
            found.dedup_by(|a, b| a.relative == b.relative);
        } else if self.is_file {
            let name = self.root.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            found.push(file(root, name));
        }
        if found.is_empty() && !self.pattern.is_empty() && !may_be_empty {
            let error = Error::new(Code::PathNotFound, format!("no file matches `{}`", self.text));
            return Err(error.at(self.place(&self.text)).hint("a pattern knows `*`, `?`, `[a-z]` and `**`"));
        }
        Ok(found)
    }

    fn walk(
        &self,
        disk: &dyn Disk,
        folder: &Path,
        relative: &str,
        pattern: &[String],
        above: &mut Vec<PathBuf>,
        found: &mut Vec<FoundFile>,
    ) -> Result<()> {
        if above.len() > DEPTH_MAX {
            let message = format!("`{}` is more than {DEPTH_MAX} folders deep", self.origin(relative));
            return Err(Error::new(Code::Io, message).at(self.place(relative)));
        }
        let real = disk.real_path(folder).map_err(|e| self.error("list", &self.origin(relative), &e))?;
        if above.contains(&real) {
            tracing::debug!("`{}` is a link to a folder above it: it is read there", self.origin(relative));
            return Ok(());
        }
        above.push(real);
        let entries = disk.list(folder).map_err(|e| self.error("list", &self.origin(relative), &e))?;
        let is_whole = pattern.iter().all(|p| p == "**");
        let has_versions = || entries.iter().any(|e| e.is_dir && e.path.file_name() == Some(VERSIONS.as_ref()));
        if is_whole && has_versions() && is_table(disk, folder)? {
            above.pop();
            return self.table(disk, folder, relative, found);
        }
        for entry in entries {
            let Some(name) = entry.path.file_name() else { continue };
            let Some(name) = name.to_str().map(str::to_owned) else {
                let shown = name.to_string_lossy();
                if is_hidden(&shown) {
                    continue;
                }
                // Left out it would be rows that nobody misses.
                let message = format!("`{shown}` in `{}` is a name that is not UTF-8", self.origin(relative));
                return Err(Error::new(Code::Io, message)
                    .at(self.place(relative))
                    .hint("rename it, or let its name begin with a dot"));
            };
            let below = if relative.is_empty() { name.clone() } else { format!("{relative}/{name}") };
            match pattern {
                // Everything below a folder that was named.
                [] if is_hidden(&name) => {}
                [] => self.take(disk, entry, &below, &[], above, found)?,
                [any, rest @ ..] if any == "**" => {
                    if entry.is_dir && !is_hidden(&name) {
                        self.walk(disk, &entry.path, &below, pattern, above, found)?;
                    }
                    if let [next, after @ ..] = rest {
                        if matches(next, &name) {
                            self.take(disk, entry, &below, after, above, found)?;
                        }
                    } else if !entry.is_dir && !is_hidden(&name) {
                        found.push(file(entry, below));
                    }
                }
                [next, rest @ ..] if matches(next, &name) => self.take(disk, entry, &below, rest, above, found)?,
                _ => {}
            }
        }
        above.pop();
        Ok(())
    }

    /// The files of the newest version of a table.
    fn table(&self, disk: &dyn Disk, folder: &Path, relative: &str, found: &mut Vec<FoundFile>) -> Result<()> {
        let mut looked_at = None;
        'version: loop {
            let Some(version) = newest_version(disk, folder)? else { return Ok(()) };
            let mut files = Vec::with_capacity(version.files.len());
            for bucket in &version.files {
                let below =
                    if relative.is_empty() { bucket.path.clone() } else { format!("{relative}/{}", bucket.path) };
                match disk.metadata(&folder.join(&bucket.path)) {
                    Ok(entry) => files.push(FoundFile { is_of_table: true, ..file(entry, below) }),
                    // It has had its time since, and a newer version has come.
                    Err(e) if e.kind() == ErrorKind::NotFound && looked_at != Some(version.number) => {
                        looked_at = Some(version.number);
                        continue 'version;
                    }
                    Err(e) => return Err(self.error("read", &below, &e)),
                }
            }
            found.append(&mut files);
            return Ok(());
        }
    }

    fn take(
        &self,
        disk: &dyn Disk,
        entry: Entry,
        relative: &str,
        pattern: &[String],
        above: &mut Vec<PathBuf>,
        found: &mut Vec<FoundFile>,
    ) -> Result<()> {
        if entry.is_dir {
            return self.walk(disk, &entry.path, relative, pattern, above, found);
        }
        if pattern.iter().all(|p| p == "**") {
            found.push(file(entry, relative.to_owned()));
        }
        Ok(())
    }

    fn place(&self, origin: &str) -> Place {
        Place::Origin { origin: origin.to_owned(), offset: None, unit: String::new() }
    }

    fn error(&self, verb: &str, origin: &str, error: &std::io::Error) -> Error {
        let shown = if origin.is_empty() { &self.text } else { origin };
        let result = match error.kind() {
            ErrorKind::NotFound => Error::new(Code::PathNotFound, format!("`{shown}` does not exist")),
            _ => Error::io(format_args!("{verb} `{shown}`"), error),
        };
        result.at(self.place(shown))
    }
}

fn file(entry: Entry, relative: String) -> FoundFile {
    let Entry { path, len, modified_ms, .. } = entry;
    FoundFile { path, relative, len, modified_ms, is_of_table: false }
}

pub(super) fn is_hidden(name: &str) -> bool {
    name.starts_with(['.', '_'])
}

/// Whether one component of a path matches one of a pattern: `*`, `?`, `[abc]`, `[a-z]`, `[!a]`.
/// Hidden names match only a pattern that begins like them.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    if is_hidden(name) && !pattern.starts_with(['.', '_']) {
        return false;
    }
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    // The last `*` passed, and the place in the name it reaches to: enough to try again from.
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        let step = match (pattern.get(p), name.get(n)) {
            (Some('*'), _) => {
                star = Some((p, n));
                p += 1;
                continue;
            }
            (Some('?'), _) => Some(1),
            (Some('['), Some(c)) => class(pattern.get(p..).unwrap_or_default(), *c),
            (Some(wanted), Some(c)) => (wanted == c).then_some(1),
            _ => None,
        };
        match (step, star) {
            (Some(length), _) => {
                p += length;
                n += 1;
            }
            (None, Some((at, reached))) => {
                p = at + 1;
                n = reached + 1;
                star = Some((at, reached + 1));
            }
            (None, None) => return false,
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|c| *c == '*')
}

/// The length of the class at the front of `pattern` if `c` is in it. A `[` that never closes is itself.
fn class(pattern: &[char], c: char) -> Option<usize> {
    let close = pattern.iter().skip(2).position(|p| *p == ']').map(|at| at + 2);
    let Some(close) = close else { return (c == '[').then_some(1) };
    let inside = pattern.get(1..close).unwrap_or_default();
    let (is_negated, inside) = match inside {
        ['!' | '^', rest @ ..] if !rest.is_empty() => (true, rest),
        _ => (false, inside),
    };
    let mut is_in = false;
    let mut rest = inside;
    loop {
        rest = match rest {
            [from, '-', to, after @ ..] => {
                is_in |= (*from..=*to).contains(&c);
                after
            }
            [one, after @ ..] => {
                is_in |= *one == c;
                after
            }
            [] => break,
        };
    }
    (is_in != is_negated).then_some(close + 1)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("*.csv", "a.csv", true),
            ("*.csv", ".a.csv", false),
            ("_*", "_commits", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYb", false),
            ("file-?.json", "file-1.json", true),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("*", "", true),
            ("[", "[", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
