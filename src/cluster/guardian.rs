//! A process that ends behind another one, which is not its parent.
//!
//! `qanat chaos` starts processes of `qanat dev` again: they have another parent then, and are to end with `dev` all the
//! same.

use qanat_proto::{Error, Result};

/// Nobody is asked to elsewhere.
///
/// # Errors
/// Always.
#[cfg(not(target_os = "linux"))]
pub(crate) fn end_behind(_pid: i32) -> Result<()> {
    Err(Error::internal("no process can be watched on this system"))
}

/// Has this process end when that one does, however that ends.
///
/// # Errors
/// If it has ended already.
#[cfg(target_os = "linux")]
pub(crate) fn end_behind(pid: i32) -> Result<()> {
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    let failed = |e: std::io::Error| Error::io(format!("watch process {pid}"), &e);
    let number = Pid::from_raw(pid).ok_or_else(|| Error::internal("a process has no id"))?;
    let handle = pidfd_open(number, PidfdFlags::empty()).map_err(|e| failed(e.into()))?;
    let watch = move || {
        until_ended(&handle);
        std::process::exit(0)
    };
    std::thread::Builder::new().name("guardian".to_owned()).spawn(watch).map(drop).map_err(failed)
}

#[cfg(target_os = "linux")]
fn until_ended(process: &std::os::fd::OwnedFd) {
    use rustix::event::{PollFd, PollFlags, poll};
    // A signal may cut the wait short.
    while poll(&mut [PollFd::new(process, PollFlags::IN)], None).is_err() {}
}

#[cfg(test)]
mod tests {
    /// The process that watches is this test once more.
    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_ends_behind_another_one() {
        use std::process::{Command, Stdio};

        use super::end_behind;

        const BEHIND: &str = "QANAT_TEST_ENDS_BEHIND";
        if let Some(pid) = std::env::var(BEHIND).ok().and_then(|pid| pid.parse().ok()) {
            end_behind(pid).expect("it runs");
            crate::output::print_line("watches");
            std::thread::park_timeout(std::time::Duration::from_secs(120));
            std::process::exit(3);
        }
        let mut other = Command::new("sleep").arg("100").spawn().expect("starts");
        let own = std::env::current_exe().expect("this program");
        let mut child = Command::new(own)
            .args(["--exact", "cluster::guardian::tests::a_process_ends_behind_another_one", "--nocapture"])
            .env(BEHIND, other.id().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let said = std::io::BufReader::new(child.stdout.take().expect("a pipe"));
        let mut lines = std::io::BufRead::lines(said);
        assert!(lines.any(|line| line.is_ok_and(|line| line.ends_with("watches"))));
        assert!(child.try_wait().expect("looked at").is_none());
        other.kill().expect("it runs");
        assert_eq!(child.wait().expect("ends").code(), Some(0));
        let pid = i32::try_from(other.id()).expect("a pid");
        other.wait().expect("ended");
        assert!(end_behind(pid).is_err(), "there is none to end behind");
    }
}
