//! Dates and times as text: SQL (`2013-01-01 10:00:00.123`) and ISO-8601 (`2013-01-01T10:00:00Z`).

use arrow::datatypes::TimeUnit;

/// A timestamp in `unit` since 1970 UTC. A zone or offset behind it is applied; without one it is
/// UTC. Digits finer than `unit` are cut. A date alone is its midnight.
pub(crate) fn parse_timestamp(text: &[u8], unit: TimeUnit) -> Option<i64> {
    let days = i64::from(parse_date(text.get(..10)?)?);
    let (of_day, offset_seconds) = match text.get(10) {
        None => (0, 0),
        Some(b' ' | b'T' | b't') => {
            let (nanos, rest) = time_of_day(text.get(11..)?)?;
            (nanos, zone_seconds(rest)?)
        }
        Some(_) => return None,
    };
    let seconds = days * 86_400 + of_day / 1_000_000_000 - offset_seconds;
    let nanos = of_day % 1_000_000_000;
    match unit {
        TimeUnit::Second => Some(seconds),
        TimeUnit::Millisecond => Some(seconds * 1_000 + nanos / 1_000_000),
        TimeUnit::Microsecond => Some(seconds * 1_000_000 + nanos / 1_000),
        TimeUnit::Nanosecond => i64::try_from(i128::from(seconds) * 1_000_000_000 + i128::from(nanos)).ok(),
    }
}

/// `2013-01-31` in days since 1970.
pub(crate) fn parse_date(text: &[u8]) -> Option<i32> {
    let [y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1] = *text else { return None };
    let year = pair(y0, y1)? * 100 + pair(y2, y3)?;
    let (month, day) = (pair(m0, m1)?, pair(d0, d1)?);
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if is_leap => 29,
        2 => 28,
        _ => return None,
    };
    if !(1..=last).contains(&day) {
        return None;
    }
    // Days from civil, with years that begin in March, so that the leap day is the last of its year.
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let era_days = year.div_euclid(400) * 146_097;
    let of_era = year.rem_euclid(400);
    let of_year = (153 * month + 2) / 5 + day - 1;
    Some(era_days + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

/// `10:00`, `10:00:00` or `10:00:00.123456789` in nanoseconds since midnight.
pub(crate) fn parse_time(text: &[u8]) -> Option<i64> {
    let (nanos, rest) = time_of_day(text)?;
    rest.is_empty().then_some(nanos)
}

/// The time at the front of `text` in nanoseconds, and what follows it.
fn time_of_day(text: &[u8]) -> Option<(i64, &[u8])> {
    let [h0, h1, b':', m0, m1, rest @ ..] = text else { return None };
    let (hour, minute) = (pair(*h0, *h1)?, pair(*m0, *m1)?);
    let (second, rest) = match rest {
        [b':', s0, s1, rest @ ..] => (pair(*s0, *s1)?, rest),
        rest => (0, rest),
    };
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut nanos = 0;
    let mut rest = rest;
    if let [b'.' | b',', fraction @ ..] = rest {
        let digits = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
        if digits == 0 {
            return None;
        }
        for place in 0..9 {
            let digit = fraction.get(place).filter(|_| place < digits).map_or(0, |b| i64::from(b - b'0'));
            nanos = nanos * 10 + digit;
        }
        rest = fraction.get(digits..).unwrap_or_default();
    }
    Some((i64::from(hour * 3_600 + minute * 60 + second) * 1_000_000_000 + nanos, rest))
}

/// ``, `Z`, `+02`, `+02:00`, `-0530` in seconds east of UTC.
fn zone_seconds(text: &[u8]) -> Option<i64> {
    let text = if let [b' ', rest @ ..] = text { rest } else { text };
    let (sign, digits) = match text {
        [] | [b'Z' | b'z'] | b"UTC" => return Some(0),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = match *digits {
        [h0, h1] => (pair(h0, h1)?, 0),
        [h0, h1, m0, m1] | [h0, h1, b':', m0, m1] => (pair(h0, h1)?, pair(m0, m1)?),
        _ => return None,
    };
    (hours <= 18 && minutes <= 59).then(|| sign * i64::from(hours * 3_600 + minutes * 60))
}

fn pair(tens: u8, ones: u8) -> Option<i32> {
    (tens.is_ascii_digit() && ones.is_ascii_digit()).then(|| i32::from(tens - b'0') * 10 + i32::from(ones - b'0'))
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, NaiveDate};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_standards_and_their_edges() {
        let ms = |text: &str| parse_timestamp(text.as_bytes(), TimeUnit::Millisecond);
        assert_eq!(ms("1970-01-01 00:00:00"), Some(0));
        assert_eq!(ms("2013-01-01T10:00:00Z"), Some(1_357_034_400_000));
        assert_eq!(ms("2013-01-01 10:00:00.1239"), Some(1_357_034_400_123));
        assert_eq!(ms("2013-01-01T12:00:00+02:00"), Some(1_357_034_400_000));
        assert_eq!(ms("1969-12-31 23:59:59.999"), Some(-1));
        assert_eq!(ms("2013-01-01"), Some(1_356_998_400_000));
        for bad in
            ["", "NA", "2013-02-29", "2013-13-01", "2013-01-01 24:00:00", "2013-01-01 10", "2013-01-01 10:00:00x"]
        {
            assert_eq!(ms(bad), None, "{bad}");
        }
        assert_eq!(parse_time(b"10:30"), Some(37_800_000_000_000));
        assert_eq!(parse_timestamp(b"9999-01-01", TimeUnit::Nanosecond), None);
        assert_eq!(parse_timestamp(b"1677-09-21 00:12:43.145224193", TimeUnit::Nanosecond), Some(i64::MIN + 1));
    }

    proptest! {
        #[test]
        fn agrees_with_chrono(seconds in -62_135_596_800_i64..253_402_300_799, nanos in 0_u32..1_000_000_000) {
            let moment = DateTime::from_timestamp(seconds, nanos).expect("in range");
            let text = moment.format("%Y-%m-%dT%H:%M:%S%.9f").to_string();
            let expected = moment.timestamp_micros();
            prop_assert_eq!(parse_timestamp(text.as_bytes(), TimeUnit::Microsecond), Some(expected));
        }

        #[test]
        fn dates_agree_with_chrono(year in 0_i32..10_000, month in 0_u32..14, day in 0_u32..33) {
            let text = format!("{year:04}-{month:02}-{day:02}");
            let expected = NaiveDate::from_ymd_opt(year, month, day)
                .map(|d| i32::try_from((d - NaiveDate::default()).num_days()).expect("in range"));
            prop_assert_eq!(parse_date(text.as_bytes()), expected);
        }
    }
}
