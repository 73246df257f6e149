//! Times as texts and as milliseconds, in UTC.

/// `2013-01-01 00:00:00.000` for milliseconds since 1970.
pub(crate) fn format(ms: i64) -> String {
    let (days, rest) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    // Days to a civil date, by the 400-year cycle of the Gregorian calendar that begins in March.
    let z = days + 719_468;
    let (era, day_of_era) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (second, ms) = (rest / 1_000, rest % 1_000);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{ms:03}")
}

/// The inverse of [`format`]; a `T` and a `Z` are taken too.
pub(crate) fn parse(text: &str) -> Option<i64> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (year, month_from_march) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let days = era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468;
    let seconds = (number(11, 13)? * 60 + number(14, 16)?) * 60 + number(17, 19)?;
    Some((days * 86_400 + seconds) * 1_000 + number(20, 23).unwrap_or(0))
}

/// One spelling of a timestamp: a blank between date and time, no zeros at the end of a fraction, no
/// `Z`. Text that is no timestamp comes back as it is.
pub(crate) fn normal(text: &str) -> String {
    let bytes = text.as_bytes();
    let digit = |i: usize| bytes.get(i).is_some_and(u8::is_ascii_digit);
    let is = |i: usize, c: u8| bytes.get(i) == Some(&c);
    let timestamp = text.is_ascii()
        && [0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18].into_iter().all(digit)
        && is(4, b'-')
        && is(7, b'-')
        && (is(10, b' ') || is(10, b'T'))
        && is(13, b':')
        && is(16, b':');
    if !timestamp {
        return text.to_owned();
    }
    let time = text[11..].trim_end_matches('Z');
    let time = if time.contains('.') { time.trim_end_matches('0').trim_end_matches('.') } else { time };
    format!("{} {time}", &text[..10])
}

#[test]
fn times_have_one_spelling() {
    assert_eq!(format(0), "1970-01-01 00:00:00.000");
    assert_eq!(format(1_361_932_245_678), "2013-02-27 02:30:45.678");
    assert_eq!(format(-1), "1969-12-31 23:59:59.999");
    for ms in [0, 1_361_932_245_678, 951_782_400_000, -1] {
        assert_eq!(parse(&format(ms)), Some(ms));
    }
    assert_eq!(parse("2013-02-27T02:30:45.678Z"), Some(1_361_932_245_678));
    assert_eq!(normal("2013-01-01T10:00:00.500Z"), "2013-01-01 10:00:00.5");
    assert_eq!(normal("2013-01-01 10:00:00.000"), "2013-01-01 10:00:00");
    assert_eq!(normal("2013-01-01"), "2013-01-01");
}
