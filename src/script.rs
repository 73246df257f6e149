//! Reading and planning a script.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use qanat_connectors::Catalog;
use qanat_connectors::filesystem::overlap::refuse_overwritten_sources;
use qanat_proto::error::Place;
use qanat_proto::names::Name;
use qanat_proto::{Code, Error, Result, limits, settings};
use qanat_sql::{PlanOptions, PlannedScript};
use qanat_storage::env::{Env, OpenMode};

/// Whether a script is what comes on the standard input.
fn is_standard_input(path: &Path) -> bool {
    path.as_os_str() == "-" || path.as_os_str() == "/dev/stdin"
}

/// # Errors
/// E0205 if a table would read the input that the script itself came from.
pub(crate) fn refuse_own_input(path: &Path, script: &PlannedScript) -> Result<()> {
    let mut sources = script.jobs.iter().flat_map(|job| job.graph.sources());
    match sources.find(|(_, source)| source.table.connector == "stdin") {
        Some((_, source)) if is_standard_input(path) => {
            let message = format!("`{}` reads the standard input, which is the script", source.table.name);
            Err(Error::new(Code::BadRole, message)
                .at(Place::Named(source.table.name.clone()))
                .hint("give the script as a file"))
        }
        _ => Ok(()),
    }
}

/// Reads a script, bounded by the limit on SQL text.
pub(crate) fn read(env: &Env, path: &Path) -> Result<String> {
    let limit = limits::SQL_TEXT_BYTES_MAX + 1;
    let bytes = if is_standard_input(path) {
        let mut bytes = Vec::new();
        let read = std::io::stdin().lock().take(limit as u64).read_to_end(&mut bytes);
        read.map_err(|e| Error::io("read standard input", &e))?;
        bytes
    } else {
        let failed = |e: std::io::Error| Error::io(format!("read script `{}`", path.display()), &e);
        let file = env.disk.open(path, OpenMode::Read).map_err(|e| match e.kind() {
            std::io::ErrorKind::InvalidInput => {
                failed(e).hint("`-` in place of the script's name reads standard input")
            }
            _ => failed(e),
        })?;
        let length = usize::try_from(file.len().map_err(failed)?).unwrap_or(usize::MAX).min(limit);
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, 0).map_err(failed)?;
        bytes
    };
    let text = String::from_utf8(bytes).map_err(|e| {
        Error::new(Code::SqlSyntax, format!("the script is not UTF-8: byte {} is wrong", e.utf8_error().valid_up_to()))
    })?;
    // Editors of some systems begin a text with a byte order mark.
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// The name of a job: as given, or that of its script's file.
///
/// # Errors
/// E0501 if that is no name.
pub(crate) fn job_name(given: Option<&str>, script: &Path) -> Result<Name> {
    match given {
        Some(name) => Name::new(name),
        None => {
            let stem = script.file_stem().and_then(|stem| stem.to_str()).unwrap_or("job");
            Name::new(if stem == "-" { "stdin" } else { stem })
                .map_err(|error| error.hint("give the job a name with --name"))
        }
    }
}

/// One `KEY=VALUE`.
pub(crate) fn pair(text: &str) -> Result<(&str, &str)> {
    text.split_once('=')
        .ok_or_else(|| Error::new(Code::Usage, format!("`--set {text}` has no `=`")).hint("write `--set KEY=VALUE`"))
}

/// `KEY=VALUE` pairs: dotted or known keys are settings, all are values for `${KEY}`.
pub(crate) fn options(pairs: &[String]) -> Result<PlanOptions> {
    let mut variables = BTreeMap::new();
    for text in pairs {
        let (key, value) = pair(text)?;
        variables.insert(key.to_owned(), value.to_owned());
    }
    Ok(options_of(variables))
}

/// [`options`] of pairs that were taken apart.
pub(crate) fn options_of(variables: BTreeMap<String, String>) -> PlanOptions {
    let is_setting = |key: &str| settings::KEYS.contains(&key) || key.contains('.');
    let settings = variables.iter().filter(|(key, _)| is_setting(key));
    PlanOptions { settings: settings.map(|(key, value)| (key.clone(), value.clone())).collect(), variables }
}

/// Plans a script with all connectors there are, its paths relative to the working directory.
pub(crate) fn plan(env: &Env, text: &str, options: &PlanOptions) -> Result<PlannedScript> {
    let script = qanat_sql::plan_script(text, options, &Catalog)?;
    let graphs = script.jobs.iter().map(|job| &job.graph);
    refuse_overwritten_sources(env, Path::new(""), graphs)?;
    refuse_shared_input(&script)?;
    Ok(script)
}

/// # Errors
/// E0205 if two tables would take records from each other.
fn refuse_shared_input(script: &PlannedScript) -> Result<()> {
    let graphs = script.jobs.iter().map(|job| &job.graph);
    let mut once = graphs.flat_map(|graph| graph.sources()).map(|(_, source)| source).filter(|s| !s.replayable);
    let (Some(first), Some(second)) = (once.next(), once.next()) else { return Ok(()) };
    let message = format!("`{}` and `{}` read the same {}", first.table.name, second.table.name, first.table.connector);
    Err(Error::new(Code::BadRole, message)
        .at(Place::Named(second.table.name.clone()))
        .hint("read it through one table, in one job"))
}
