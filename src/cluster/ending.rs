//! The end of a process that cannot go on.

use std::time::Duration;

use qanat_proto::{Code, Error};
use qanat_storage::checkpoint::CheckpointStore;

use crate::output::{self, Format};

/// Longer than it takes to print an error where anybody reads it.
const ENDS_WITHIN: Duration = Duration::from_secs(5);

/// Prints the error and ends the process, whatever its threads do: one that hangs in a failing disk is not waited for,
/// nor is anybody who does not read what is printed. Others find out at once that this one is gone. Logs need no
/// flushing: each line is written as it comes.
pub(super) fn end_in_error(error: &Error, format: Format) -> ! {
    end_after(ENDS_WITHIN);
    output::print_error(error, format);
    std::process::exit(if error.code() == Code::Usage { 2 } else { 1 })
}

/// Between two looks at what cannot be synced any more.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Returns once nothing can be written to the shared storage any more, with the reason.
pub(super) async fn until_poisoned(checkpoints: &CheckpointStore) -> Error {
    loop {
        if let Some(error) = checkpoints.objects().poisoned() {
            return error;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Ends the process after so long, unless it has ended by then. Without a thread to do it nothing is lost: the way
/// out is short.
fn end_after(limit: Duration) {
    let _ = std::thread::Builder::new().name("end".to_owned()).spawn(move || {
        // Nothing ever comes: this is a wait that no signal cuts short.
        let _ = crossbeam::channel::never::<()>().recv_timeout(limit);
        std::process::exit(1)
    });
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// The process that is watched is this test once more.
    #[test]
    fn a_process_ends_though_one_of_its_threads_hangs() {
        const IS_WATCHED: &str = "QANAT_TEST_END_HANGS";
        if std::env::var_os(IS_WATCHED).is_some() {
            // Holds what printing needs, as if nobody read it.
            let _held = std::io::stderr().lock();
            std::thread::spawn(|| end_in_error(&Error::new(Code::CorruptLog, "the disk is gone"), Format::Json));
            std::thread::park_timeout(Duration::from_secs(120));
            return;
        }
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "cluster::ending::tests::a_process_ends_though_one_of_its_threads_hangs"])
            .env(IS_WATCHED, "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        // Where it goes on regardless, the test there ends by itself, with 0.
        assert_eq!(child.wait().expect("ends").code(), Some(1));
    }
}
