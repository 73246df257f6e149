//! Where a coordinator is reached: `HOST:PORT`.

use crate::error::{Code, Error, Result};

/// Looks at the form of an address, so that a mistyped one is told at once. Whether somebody is there shows a call.
///
/// # Errors
/// E0501 if it is not `HOST:PORT`.
pub fn check(address: &str) -> Result<()> {
    let refused = |why: &str| {
        Error::new(Code::Usage, format!("`{address}` is no address of a coordinator: {why}"))
            .hint("write HOST:PORT, such as 127.0.0.1:7071; several are separated by commas")
    };
    if address.is_empty() {
        return Err(refused("it is empty"));
    }
    if address.contains('/') {
        return Err(refused("it is written without `http://` and without a path"));
    }
    let Some((host, port)) = address.rsplit_once(':') else { return Err(refused("it has no port")) };
    let is_bracketed = host.starts_with('[') && host.ends_with(']');
    if !is_bracketed && host.contains(':') {
        return Err(refused("an IPv6 address stands in brackets, `[::1]:7071`"));
    }
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(refused("it has no host"));
    }
    match port.parse::<u16>() {
        Ok(1..) if port.bytes().all(|b| b.is_ascii_digit()) => Ok(()),
        _ => Err(refused("its port is no number from 1 to 65535")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_a_port() {
        for good in ["127.0.0.1:7071", "host-1.example:1", "[::1]:65535"] {
            assert!(check(good).is_ok(), "{good}");
        }
        for (bad, why) in [
            ("", "empty"),
            ("localhost", "no port"),
            ("localhost:", "port is no number"),
            ("localhost:http", "port is no number"),
            ("localhost:0", "port is no number"),
            ("localhost:+1", "port is no number"),
            ("localhost:65536", "port is no number"),
            (":7071", "no host"),
            ("a b:7071", "no host"),
            ("http://localhost:7071", "without `http://`"),
            ("::1:7071", "brackets"),
        ] {
            let error = check(bad).expect_err(bad);
            assert!(error.code() == Code::Usage && error.message().contains(why), "{bad}: {error}");
            assert!(error.hint_text().is_some_and(|hint| hint.contains("HOST:PORT")), "{bad}");
        }
    }
}
