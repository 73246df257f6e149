//! URLs: `PARSE_URL`, `URL_ENCODE`, `URL_DECODE`.

use arrow::array::ArrayRef;
use datafusion_common::Result;
use datafusion_expr::ScalarUDF;

use super::define::{Args, Function, Kind, build_slices, build_text, text_type};

pub(super) fn functions() -> Vec<ScalarUDF> {
    use Kind::Text;
    vec![
        Function::new("parse_url", &[Text, Text, Text], text_type, parse_url).required(2).build(),
        Function::new("url_encode", &[Text], text_type, url_encode).build(),
        Function::new("url_decode", &[Text], text_type, url_decode).build(),
    ]
}

/// Those that Java's `URL` knows; others are no URL to it.
const PROTOCOLS: &[&str] = &["http", "https", "ftp", "file", "jar"];

/// The pieces of `scheme://authority/path?query#fragment`.
struct Url<'a> {
    scheme: &'a str,
    authority: &'a str,
    path: &'a str,
    query: Option<&'a str>,
    fragment: Option<&'a str>,
    /// Path and query.
    file: &'a str,
}

impl<'a> Url<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        if !PROTOCOLS.iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
            return None;
        }
        let (rest, fragment) = rest.split_once('#').map_or((rest, None), |(rest, fragment)| (rest, Some(fragment)));
        let start = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, file) = rest.split_at_checked(start)?;
        let (path, query) = file.split_once('?').map_or((file, None), |(path, query)| (path, Some(query)));
        Some(Self { scheme, authority, path, query, fragment, file })
    }

    fn part(&self, name: &str) -> Option<&'a str> {
        let user = self.authority.rsplit_once('@').map(|(user, _)| user);
        match name {
            "PROTOCOL" => Some(self.scheme),
            "AUTHORITY" => Some(self.authority),
            "USERINFO" => user,
            "HOST" => {
                let host = self.authority.rsplit_once('@').map_or(self.authority, |(_, host)| host);
                // A port follows the last colon, unless that stands inside `[…]`.
                Some(host.rsplit_once(':').filter(|(_, port)| !port.contains(']')).map_or(host, |(host, _)| host))
            }
            "PATH" => Some(self.path),
            "QUERY" => self.query,
            "REF" => self.fragment,
            "FILE" => Some(self.file),
            _ => None,
        }
    }
}

/// `PARSE_URL(url, part [, key])`; NULL for what is not there.
fn parse_url(args: &Args) -> Result<ArrayRef> {
    let (texts, parts) = (args.text(0)?, args.text(1)?);
    let keys = if args.len() > 2 { Some(args.text(2)?) } else { None };
    build_slices(args.rows, |row| {
        let (Some(url), Some(part)) = (texts.get(row).and_then(Url::parse), parts.get(row)) else { return Ok(None) };
        let Some(keys) = &keys else { return Ok(url.part(part)) };
        let (Some(key), "QUERY") = (keys.get(row), part) else { return Ok(None) };
        let pairs = url.query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
        Ok(pairs.filter(|(name, _)| *name == key).map(|(_, value)| value).next())
    })
}

/// `application/x-www-form-urlencoded`, as Java's `URLEncoder`.
fn url_encode(args: &Args) -> Result<ArrayRef> {
    use std::fmt::Write;
    let texts = args.text(0)?;
    build_text(args.rows, |row, out| {
        let Some(text) = texts.get(row) else { return Ok(None) };
        for byte in text.bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'*' | b'_') {
                out.push(char::from(byte));
            } else if byte == b' ' {
                out.push('+');
            } else if write!(out, "%{byte:02X}").is_err() {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })
}

/// NULL if an escape is broken or the bytes are no text.
fn url_decode(args: &Args) -> Result<ArrayRef> {
    let texts = args.text(0)?;
    let mut bytes = Vec::new();
    build_text(args.rows, |row, out| {
        let Some(text) = texts.get(row) else { return Ok(None) };
        bytes.clear();
        let mut rest = text.bytes();
        while let Some(byte) = rest.next() {
            match byte {
                b'+' => bytes.push(b' '),
                b'%' => {
                    let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                    let (Some(high), Some(low)) = (digit(rest.next()), digit(rest.next())) else { return Ok(None) };
                    bytes.push((high << 4 | low) as u8);
                }
                other => bytes.push(other),
            }
        }
        Ok(std::str::from_utf8(&bytes).ok().map(|text| out.push_str(text)))
    })
}
