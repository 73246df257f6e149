//! W3C trace context: the id under which one request is found again in the logs of all processes.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A `traceparent` header, version 00.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TraceParent(String);

impl TraceParent {
    /// The gRPC metadata that it travels in.
    pub const METADATA: &'static str = "traceparent";

    /// Of a request that begins here; `sampled` is set. None if an id is 0.
    pub fn new(trace: u128, parent: u64) -> Option<Self> {
        Self::parse(&format!("00-{trace:032x}-{parent:016x}-01"))
    }

    /// `00-TRACE-PARENT-FLAGS` in lower-case hex digits. None for anything else; of a later version the part that this
    /// one knows.
    pub fn parse(text: &str) -> Option<Self> {
        const LENGTH: usize = 55;
        let known = text.get(..LENGTH)?;
        let parts: Vec<&str> = known.split('-').collect();
        let [version, trace, parent, flags] = parts.as_slice() else { return None };
        let is_hex = |part: &str, length: usize| {
            part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let is_set = |part: &str| part.bytes().any(|byte| byte != b'0');
        let is_whole = match *version {
            "ff" => false,
            "00" => text.len() == LENGTH,
            _ => matches!(text.as_bytes().get(LENGTH), None | Some(b'-')),
        };
        let is_valid = is_whole
            && is_hex(version, 2)
            && is_hex(trace, 32)
            && is_set(trace)
            && is_hex(parent, 16)
            && is_set(parent)
            && is_hex(flags, 2);
        is_valid.then(|| Self(format!("00-{trace}-{parent}-{flags}")))
    }

    /// 32 hex digits: what the logs show.
    pub fn trace_id(&self) -> &str {
        self.0.get(3..35).unwrap_or_default()
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for TraceParent {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| "this is no traceparent".to_owned())
    }
}

impl From<TraceParent> for String {
    fn from(trace: TraceParent) -> Self {
        trace.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_standard_allows_is_read() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let trace = TraceParent::parse(text).expect("the standard's own example");
        assert_eq!((trace.to_string().as_str(), trace.trace_id()), (text, "4bf92f3577b34da6a3ce929d0e0e4736"));
        assert_eq!(TraceParent::new(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, 0x00f0_67aa_0ba9_02b7), Some(trace));
        let later = format!("cc{}-more", &text[2..]);
        assert_eq!(TraceParent::parse(&later).map(|trace| trace.to_string()).as_deref(), Some(text));
        for wrong in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0é",
        ] {
            assert_eq!(TraceParent::parse(wrong), None, "{wrong}");
        }
        assert_eq!(TraceParent::new(0, 1), None);
        assert!(serde_json::from_str::<TraceParent>("\"x\"").is_err());
    }
}
