//! The socket inside a data folder: how other commands reach the process that owns it.
//!
//! One JSON request and one JSON response per line. Who may write to the folder may connect: the socket is
//! a file of its owner. Nothing depends on it but `job describe` (live figures), `job stop` and `job savepoint`;
//! commands that only look read the folder itself.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use qanat_executor::metrics::{JobMetrics, SourceMetrics};
use qanat_proto::ids::JobId;
use qanat_proto::{Code, Error, Place, Result};
use qanat_storage::env::Env;
use serde::{Deserialize, Serialize};

const SOCKET: &str = ".socket";
/// A longer line is no request.
const LINE_BYTES_MAX: u64 = 64 << 10;
/// How long either side waits for the other.
const PATIENCE: Duration = Duration::from_secs(5);

/// What may be asked of a running process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Request {
    /// The jobs it runs, with live figures.
    Status,
    /// Take a last checkpoint of a job and end it.
    Stop { job: JobId },
    /// Give the next epoch of a job a name; `id` tells a repeat.
    Savepoint { job: JobId, name: String, id: String },
    /// A name goes.
    DropSavepoint { job: JobId, name: String },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Response {
    Status { jobs: Vec<LiveJob> },
    Stopping,
    Done,
    Error(Error),
}

/// A job of a running process. Figures since the process started; they decide nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LiveJob {
    pub(crate) job: JobId,
    pub(crate) name: String,
    pub(crate) memory_bytes: u64,
    pub(crate) sources: Vec<LiveSource>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LiveSource {
    pub(crate) table: String,
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    /// ms since 1970 UTC.
    pub(crate) watermark: Option<i64>,
}

impl LiveJob {
    pub(crate) fn of(job: JobId, name: &str, metrics: &JobMetrics) -> Self {
        let source = |(table, source): &(String, Arc<SourceMetrics>)| LiveSource {
            table: table.clone(),
            records: source.records(),
            bytes: source.bytes(),
            watermark: source.watermark_ms(),
        };
        Self {
            job,
            name: name.to_owned(),
            memory_bytes: metrics.memory.used() as u64,
            sources: metrics.sources.iter().map(source).collect(),
        }
    }
}

/// Answers requests.
pub(crate) type Handler = Arc<dyn Fn(Request) -> Response + Send + Sync>;

/// An open socket; removed when dropped.
pub(crate) struct Attached {
    env: Env,
    path: PathBuf,
}

impl Attached {
    /// Listens inside a data folder that this process owns.
    ///
    /// # Errors
    /// E0214 if the socket cannot be made, for example because the folder's path is longer than the 107
    /// bytes that a socket's may have.
    pub(crate) fn serve(env: &Env, root: &Path, handler: Handler) -> Result<Self> {
        let path = root.join(SOCKET);
        let failed = |e: &std::io::Error| Error::io(format!("listen at `{}`", path.display()), e);
        // The lock is ours: whoever left this name behind is gone.
        match env.disk.remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(&e)),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(&path).map_err(|e| failed(&e))?;
        let attached = Self { env: env.clone(), path: path.clone() };
        std::thread::Builder::new()
            .name("attach".to_owned())
            .spawn(move || {
                for stream in listener.incoming().flatten() {
                    // A client that goes away is its own business.
                    let _ = answer(&stream, &handler);
                }
            })
            .map_err(|e| failed(&e))?;
        Ok(attached)
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        // The next owner removes what stays.
        let _ = self.env.disk.remove_file(&self.path);
    }
}

fn answer(stream: &UnixStream, handler: &Handler) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new(stream.take(LINE_BYTES_MAX)).read_line(&mut line)?;
    let response = match serde_json::from_str(&line) {
        Ok(request) => handler(request),
        Err(e) => Response::Error(Error::new(Code::Usage, format!("no request of this version: {e}"))),
    };
    let mut text = serde_json::to_string(&response)?;
    text.push('\n');
    let mut stream = stream;
    stream.write_all(text.as_bytes())
}

/// Asks the owner of a data folder. None if no process owns it.
///
/// # Errors
/// What the owner answers; E0214 if it does not.
pub(crate) fn ask(root: &Path, request: &Request) -> Result<Option<Response>> {
    use std::io::ErrorKind;
    let place = || Place::Named(root.display().to_string());
    let failed = |e: &std::io::Error| Error::io("ask the process that owns the data folder", e).at(place());
    let mut stream = match UnixStream::connect(root.join(SOCKET)) {
        Ok(stream) => stream,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::InvalidInput) => {
            return Ok(None);
        }
        Err(e) => return Err(failed(&e)),
    };
    stream.set_read_timeout(Some(PATIENCE)).map_err(|e| failed(&e))?;
    let mut line = serde_json::to_string(request).map_err(|e| Error::internal(format!("write a request: {e}")))?;
    line.push('\n');
    stream.write_all(line.as_bytes()).map_err(|e| failed(&e))?;
    let mut text = String::new();
    BufReader::new(stream).read_line(&mut text).map_err(|e| failed(&e))?;
    match serde_json::from_str(&text) {
        Ok(Response::Error(error)) => Err(error),
        Ok(response) => Ok(Some(response)),
        Err(e) => {
            Err(Error::new(Code::Io, format!("the process that owns the data folder gave no answer: {e}")).at(place()))
        }
    }
}

/// The jobs that run in the process that owns a data folder; none without such a process.
pub(crate) fn live_jobs(root: &Path) -> Vec<LiveJob> {
    match ask(root, &Request::Status) {
        Ok(Some(Response::Status { jobs })) => jobs,
        // Figures for people: without them the rest is still true.
        Ok(_) | Err(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_answered_and_nonsense_refused() {
        let env = Env::real();
        let root = std::env::temp_dir().join(format!("qanat-attach-{}", std::process::id()));
        std::fs::create_dir_all(&root).expect("a folder");
        assert!(ask(&root, &Request::Status).expect("nobody there").is_none());
        let handler: Handler = Arc::new(|request| match request {
            Request::Status => Response::Status { jobs: Vec::new() },
            Request::Savepoint { .. } | Request::DropSavepoint { .. } => Response::Done,
            Request::Stop { job } => {
                Response::Error(Error::new(Code::UnknownJob, "no such job").at(Place::Named(job.to_string())))
            }
        });
        let attached = Attached::serve(&env, &root, handler).expect("a socket");
        assert_eq!(ask(&root, &Request::Status).expect("an answer"), Some(Response::Status { jobs: Vec::new() }));
        let refused = ask(&root, &Request::Stop { job: JobId(1) }).expect_err("refused");
        assert_eq!(refused.code(), Code::UnknownJob);
        let mut stream = UnixStream::connect(root.join(SOCKET)).expect("connects");
        stream.write_all(b"{\"request\":\"explode\"}\n").expect("written");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("read");
        assert!(text.contains("E0501"), "{text}");
        drop(attached);
        assert!(ask(&root, &Request::Status).expect("nobody there").is_none());
        std::fs::remove_dir_all(&root).expect("removed");
    }
}
