//! Lists of entries by their ids.

use std::collections::BTreeSet;

use qanat_proto::{Code, Error, Result};

/// `3,7-9`
pub(super) fn parse_ids(text: &str) -> Result<BTreeSet<u64>> {
    const IDS_MAX: u64 = 100_000_000;
    let bad = || Error::new(Code::Usage, format!("`{text}` is no list of ids")).hint("write `3,7-9`");
    let mut ids = BTreeSet::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: u64 = first.trim().parse().map_err(|_| bad())?;
        let last: u64 = last.trim().parse().map_err(|_| bad())?;
        if first > last || last - first >= IDS_MAX {
            return Err(bad());
        }
        ids.extend(first..=last);
    }
    Ok(ids)
}

/// The shortest text that [`parse_ids`] reads back.
pub(super) fn ranges(ids: &BTreeSet<u64>) -> String {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for id in ids {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *id => *last = *id,
            _ => ranges.push((*id, *id)),
        }
    }
    let text = |(first, last): &(u64, u64)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    ranges.iter().map(text).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_round_trip() {
        for text in ["", "3", "3,7-9", "0-2,4"] {
            assert_eq!(ranges(&parse_ids(text).expect("ids")), text);
        }
        assert_eq!(ranges(&parse_ids(" 2, 1-1 ,3").expect("ids")), "1-3");
        for bad in ["x", "3-", "-3", "9-7", "1-2-3", "0-99999999999"] {
            assert!(parse_ids(bad).is_err(), "{bad}");
        }
    }
}
