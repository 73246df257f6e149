//! Metrics of a process, asked for as often as a benchmark likes.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result};

/// A page that does not come in this time does not come.
const PATIENCE: Duration = Duration::from_secs(5);

/// The sum of a family over all of its series with these labels (`job="a"`), at `address` (`HOST:PORT`).
///
/// # Errors
/// If the process does not answer.
pub fn sum(address: &str, family: &str, label: &str) -> Result<f64> {
    let mut stream = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    Ok(total(&page, family, label))
}

fn total(page: &str, family: &str, label: &str) -> f64 {
    let of_family = page.lines().filter_map(|line| line.strip_prefix(family)?.strip_prefix('{'));
    let values =
        of_family.filter(|rest| rest.contains(label)).filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok());
    values.sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_of_one_family_are_added() {
        let page = "# TYPE a counter\na{job=\"x\",subtask=\"0\"} 3\na{job=\"x\",subtask=\"1\"} 4\na{job=\"y\"} 9\nab{job=\"x\"} 1\n";
        assert_eq!(total(page, "a", "job=\"x\""), 7.0);
    }
}
