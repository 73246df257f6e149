//! Where the jobs of a cluster may read and write files.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use qanat_proto::connector::TableDescriptor;
use qanat_proto::graph::{JobGraph, OperatorKind};
use qanat_proto::{Code, Error, Place, Result};
use qanat_storage::env::{Disk, Env};

/// Folders below which paths must lie (`files.roots`).
#[derive(Clone)]
pub(crate) struct Roots {
    disk: Arc<dyn Disk>,
    /// None: everywhere.
    folders: Option<Vec<PathBuf>>,
}

impl Roots {
    /// Resolves links once, so that what is compared later is where things really lie.
    ///
    /// # Errors
    /// E0206 for a folder that is not there.
    pub(crate) fn new(env: &Env, roots: &[PathBuf]) -> Result<Self> {
        let resolved = roots.iter().map(|root| {
            env.disk.real_path(root).map_err(|e| {
                Error::io("open a files root", &e)
                    .at(Place::Named(root.display().to_string()))
                    .hint("--files-root names a folder that exists")
            })
        });
        let folders = resolved.collect::<Result<_>>()?;
        Ok(Self { disk: env.disk.clone(), folders: Some(folders) })
    }

    /// Every path, relative ones too.
    pub(crate) fn everywhere(env: &Env) -> Self {
        Self { disk: env.disk.clone(), folders: None }
    }

    /// # Errors
    /// E0207 if a table of the graph lies elsewhere.
    pub(crate) fn check(&self, graph: &JobGraph) -> Result<()> {
        for operator in &graph.operators {
            match &operator.kind {
                OperatorKind::Source(node) => self.check_table(&node.table)?,
                OperatorKind::Sink(node) => self.check_table(&node.table)?,
                OperatorKind::LookupJoin(node) => self.check_table(&node.table)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn check_table(&self, table: &TableDescriptor) -> Result<()> {
        // The planner's own table for a SELECT that is a statement by itself.
        if table.connector == "print" && table.name == "print" && table.options.len() == 1 {
            let error =
                Error::new(Code::BadRole, "a SELECT alone shows its rows on a terminal, which a cluster has not");
            return Err(error.hint("write INSERT INTO a table in front of it, or show its rows with `qanat run`"));
        }
        if matches!(table.connector.as_str(), "stdin" | "print") {
            let message = format!("`{}` uses `{}`, which a cluster has not", table.name, table.connector);
            return Err(Error::new(Code::BadRole, message).hint("`qanat run` has a standard input and output"));
        }
        let Some(path) = table.option("path").filter(|_| table.connector == "filesystem") else { return Ok(()) };
        self.check_path(path.strip_prefix("file://").unwrap_or(path), &table.name)
    }

    /// # Errors
    /// E0207 for a path that lies elsewhere. `place` is what names it.
    pub(crate) fn check_path(&self, path: &str, place: &str) -> Result<()> {
        let Some(folders) = &self.folders else { return Ok(()) };
        let path = Path::new(path);
        let refused = |message: String, hint: &str| {
            Err(Error::new(Code::PermissionDenied, message).at(Place::Named(place.to_owned())).hint(hint))
        };
        if !path.is_absolute() {
            let message = format!("the path `{}` is relative", path.display());
            return refused(message, "a cluster has no working directory: write a path that begins with `/`");
        }
        if path.components().any(|part| matches!(part, Component::ParentDir)) {
            return refused(format!("the path `{}` has `..` in it", path.display()), "write it without");
        }
        let real = real(self.disk.as_ref(), path);
        if folders.iter().any(|root| real.starts_with(root)) {
            return Ok(());
        }
        let roots: Vec<String> = folders.iter().map(|root| format!("`{}`", root.display())).collect();
        let message = format!("the path `{}` lies outside of {}", path.display(), roots.join(", "));
        refused(message, "the operator of the cluster names the folders with --files-root")
    }
}

/// The path with the links of what exists of it resolved.
fn real(disk: &dyn Disk, path: &Path) -> PathBuf {
    let mut rest = Vec::new();
    let mut existing = path;
    loop {
        if let Ok(resolved) = disk.real_path(existing) {
            return rest.iter().rev().fold(resolved, |whole, part| whole.join(part));
        }
        match (existing.parent(), existing.file_name()) {
            (Some(parent), Some(name)) => {
                rest.push(name.to_owned());
                existing = parent;
            }
            _ => return path.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(path: &str) -> TableDescriptor {
        TableDescriptor {
            name: "t".into(),
            connector: "filesystem".into(),
            options: [("path".to_owned(), path.to_owned())].into(),
            physical: arrow::datatypes::Schema::empty().into(),
            metadata: Vec::new(),
            primary_key: Vec::new(),
            partitioned_by: Vec::new(),
        }
    }

    #[test]
    fn a_select_alone_has_no_place_in_a_cluster() {
        let print = |name: &str| TableDescriptor {
            name: name.to_owned(),
            connector: "print".to_owned(),
            options: [("connector".to_owned(), "print".to_owned())].into(),
            ..table("")
        };
        let refused = |name: &str| {
            Roots::new(&Env::real(), &[]).expect("no folder").check_table(&print(name)).expect_err("refused")
        };
        let alone = refused("print");
        assert!(alone.message().contains("SELECT") && !alone.message().contains("`print`"), "{alone}");
        assert!(alone.hint_text().is_some_and(|hint| hint.contains("INSERT INTO")), "{alone}");
        assert!(refused("shown").message().contains("`shown`"));
    }

    #[test]
    fn paths_lie_below_a_root_and_nowhere_else() {
        let folder = std::env::temp_dir().join(format!("qanat-roots-{}", std::process::id()));
        let (inside, outside) = (folder.join("inside"), folder.join("outside"));
        std::fs::create_dir_all(&inside).expect("made");
        std::fs::create_dir_all(&outside).expect("made");
        std::os::unix::fs::symlink(&outside, inside.join("link")).expect("made");
        let roots = Roots::new(&Env::real(), std::slice::from_ref(&inside)).expect("exists");
        let check = |path: &Path| roots.check_table(&table(&path.display().to_string())).map_err(|e| e.code());
        assert_eq!(check(&inside.join("new/*.csv")), Ok(()));
        for path in [outside.join("x"), inside.join("../outside"), inside.join("link/x"), "relative".into()] {
            assert_eq!(check(&path), Err(Code::PermissionDenied), "{}", path.display());
        }
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
