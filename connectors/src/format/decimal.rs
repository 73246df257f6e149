//! Decimals as text: with an exponent or without, rounded half up to the digits of the type, as Flink and
//! `CAST` do.

/// The unscaled value of a decimal. None: it is no number, or has too many digits before its point.
pub(crate) fn parse_decimal(text: &str, precision: u8, scale: i8) -> Option<i128> {
    let (is_negative, text) = match text.as_bytes() {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let (mantissa, exponent) = match text.iter().position(|byte| matches!(byte, b'e' | b'E')) {
        Some(at) => (text.get(..at)?, std::str::from_utf8(text.get(at + 1..)?).ok()?.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let whole = mantissa.iter().position(|byte| *byte == b'.').unwrap_or(mantissa.len());
    let digits = || mantissa.get(..whole).into_iter().chain(mantissa.get(whole + 1..)).flatten();
    if digits().next().is_none() || digits().any(|byte| !byte.is_ascii_digit()) {
        return None;
    }
    // So many digits count; the next one rounds.
    let kept = i64::try_from(whole).ok()? + i64::from(exponent) + i64::from(scale);
    let limit = 10_i128.checked_pow(u32::from(precision))?;
    let mut value = 0_i128;
    let mut place = 0_i64;
    for byte in digits() {
        let digit = i128::from(*byte - b'0');
        if place < kept {
            value = value * 10 + digit;
            if value >= limit {
                return None;
            }
        } else {
            value += i128::from(place == kept && digit >= 5);
            break;
        }
        place += 1;
    }
    while place < kept && value != 0 {
        value *= 10;
        place += 1;
        if value >= limit {
            return None;
        }
    }
    (value < limit).then_some(if is_negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::parse_decimal;

    #[test]
    fn decimals_are_rounded_half_up() {
        for (text, expected) in [
            ("1.239", Some(124)),
            ("-1.235", Some(-124)),
            ("1.2349", Some(123)),
            ("0.005", Some(1)),
            ("0.0049", Some(0)),
            (".5", Some(50)),
            ("7.", Some(700)),
            ("+1.5", Some(150)),
            ("1e2", Some(10_000)),
            ("1.2345e1", Some(1_235)),
            ("125E-3", Some(13)),
            ("5e-3", Some(1)),
            ("5e-4", Some(0)),
            ("99.99", Some(9_999)),
            ("999.994", Some(99_999)),
            ("999.995", None),
            ("1000", None),
            ("0001.5", Some(150)),
            ("0e999999999", Some(0)),
            ("1e999999999", None),
            ("1e-999999999", Some(0)),
            ("1e99999999999", None),
            ("", None),
            (".", None),
            ("-", None),
            ("e1", None),
            ("1_0", None),
            ("0x1", None),
            ("1.2.3", None),
            ("NaN", None),
        ] {
            assert_eq!(parse_decimal(text, 5, 2), expected, "{text}");
        }
        let nines = "9".repeat(38);
        assert_eq!(parse_decimal(&nines, 38, 0), nines.parse().ok());
        assert_eq!(parse_decimal(&format!("{nines}.4"), 38, 0), nines.parse().ok());
        assert_eq!(parse_decimal(&format!("{nines}.5"), 38, 0), None);
    }
}
