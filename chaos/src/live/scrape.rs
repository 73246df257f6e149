//! Metrics of a process, added up.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result};

/// A page that does not come in this time does not come.
const PATIENCE: Duration = Duration::from_secs(10);

/// The sum of a family over all of its series, at `address` (`HOST:PORT`).
///
/// # Errors
/// If the process does not answer.
pub fn sum(address: &str, family: &str) -> Result<f64> {
    let mut stream = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    Ok(total(&page, family))
}

fn total(page: &str, family: &str) -> f64 {
    let is_of = |rest: &&str| rest.starts_with('{') || rest.starts_with(' ');
    let series = page.lines().filter_map(|line| line.strip_prefix(family)).filter(is_of);
    series.filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_of_one_family_are_added() {
        let page = "# TYPE a counter\na{job=\"x\"} 3\na{job=\"y\"} 4\nab{job=\"x\"} 1\nc 7\n";
        assert_eq!((total(page, "a"), total(page, "c"), total(page, "d")), (7.0, 7.0, 0.0));
    }
}
