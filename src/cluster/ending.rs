//! The end of a process that cannot go on.

use std::time::Duration;

use qanat_proto::{Code, Error};

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

/// Ends the process after so long, unless it has ended by then. Without a thread to do it nothing is lost: the way
/// out is short.
fn end_after(limit: Duration) {
    let _ = std::thread::Builder::new().name("end".to_owned()).spawn(move || {
        std::thread::sleep(limit);
        std::process::exit(1)
    });
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// Holds what printing needs, like a process whose standard error nobody reads, and the next test watches it.
    #[test]
    #[ignore = "it ends the process"]
    fn an_end_that_hangs() {
        let _held = std::io::stderr().lock();
        std::thread::spawn(|| {
            end_in_error(&Error::new(Code::CorruptLog, "the disk is gone"), Format::Json);
        });
        std::thread::park_timeout(Duration::from_secs(120));
    }

    #[test]
    fn a_process_ends_though_one_of_its_threads_hangs() {
        let name = "cluster::ending::tests::an_end_that_hangs";
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", name, "--ignored", "--nocapture"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        // If the test there ended by itself its code would be 0, or 101.
        assert_eq!(child.wait().expect("ends").code(), Some(1));
    }
}
