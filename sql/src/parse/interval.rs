//! Interval literals: `INTERVAL '10' SECOND`, `INTERVAL '1:30' MINUTE TO SECOND`, `INTERVAL '5 minutes'`.

use datafusion_sql::sqlparser::ast::{DateTimeField, Expr, Interval, UnaryOperator, Value};
use datafusion_sql::sqlparser::parser::{Parser, ParserError};
use datafusion_sql::sqlparser::tokenizer::Token;

use super::failure::{carry, syntax, unsupported};

/// A length of time: calendar months, and milliseconds of everything below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntervalValue {
    pub months: i64,
    pub milliseconds: i64,
}

impl IntervalValue {
    fn times(self, factor: i64) -> Option<Self> {
        let months = self.months.checked_mul(factor)?;
        let milliseconds = self.milliseconds.checked_mul(factor)?;
        is_within(months, milliseconds).then_some(Self { months, milliseconds })
    }
}

/// Units from large to small with how many of each make one of the unit before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Unit {
    Year,
    Month,
    Week,
    Day,
    Hour,
    Minute,
    Second,
    Millisecond,
}

impl Unit {
    fn from_word(word: &str) -> Option<Self> {
        let word = word.to_ascii_lowercase();
        if word == "ms" {
            return Some(Self::Millisecond);
        }
        Some(match word.strip_suffix('s').unwrap_or(&word) {
            "year" => Self::Year,
            "month" => Self::Month,
            "week" => Self::Week,
            "day" => Self::Day,
            "hour" => Self::Hour,
            "minute" | "min" => Self::Minute,
            "second" | "sec" | "" => Self::Second,
            "millisecond" => Self::Millisecond,
            _ => return None,
        })
    }

    /// (months, milliseconds) of one.
    fn length(self) -> (i64, i64) {
        match self {
            Self::Year => (12, 0),
            Self::Month => (1, 0),
            Self::Week => (0, 604_800_000),
            Self::Day => (0, 86_400_000),
            Self::Hour => (0, 3_600_000),
            Self::Minute => (0, 60_000),
            Self::Second => (0, 1_000),
            Self::Millisecond => (0, 1),
        }
    }
}

/// Parses what follows the word `INTERVAL`, checks it and writes it in a form that DataFusion reads.
pub(super) fn parse(parser: &mut Parser) -> Result<Expr, ParserError> {
    let at = parser.peek_token_ref().span.start;
    let mut negative = false;
    while matches!(parser.peek_token_ref().token, Token::Minus | Token::Plus) {
        negative ^= parser.next_token().token == Token::Minus;
    }
    let token = parser.next_token();
    let text = match &token.token {
        Token::SingleQuotedString(text) | Token::Number(text, _) => text.clone(),
        _ => return parser.expected("the length of an interval in quotes", token),
    };
    let first = unit(parser)?;
    let last = match first {
        Some(_) if parser.parse_keyword(datafusion_sql::sqlparser::keywords::Keyword::TO) => {
            let token = parser.peek_token();
            match unit(parser)? {
                // Of `CEIL(t + INTERVAL '5' MINUTE TO HOUR)`, CEIL has the rest: an interval's units fall.
                Some(last) if first >= Some(last) => {
                    parser.prev_token();
                    parser.prev_token();
                    None
                }
                Some(last) => Some(last),
                None => return parser.expected("a unit after TO", token),
            }
        }
        _ => None,
    };
    let value = read(&text, first, last).ok_or_else(|| {
        carry(&syntax(format!("`{text}` is no interval of this unit"), at).hint(
            "write INTERVAL '10' SECOND, INTERVAL '1:30' MINUTE TO SECOND or INTERVAL '1 02:03:04.5' DAY TO SECOND",
        ))
    })?;
    let mut value =
        if negative { IntervalValue { months: -value.months, milliseconds: -value.milliseconds } } else { value };
    // `INTERVAL '1' HOUR * 3`: the planner knows no product of an interval.
    while parser.peek_token_ref().token == Token::Mul {
        let factor = match &parser.peek_nth_token_ref(1).token {
            Token::Number(text, _) => number(text),
            _ => None,
        };
        let at = parser.peek_token_ref().span.start;
        let product = factor.and_then(|factor| value.times(factor)).ok_or_else(|| {
            carry(
                &unsupported("an interval can be multiplied only by a whole number that is written out", at)
                    .hint("write INTERVAL '3' HOUR, or TIMESTAMPADD(HOUR, n, t) for a number that is a column"),
            )
        });
        value = product?;
        parser.advance_token();
        parser.advance_token();
    }
    Ok(literal(value))
}

/// The length of an interval literal as [`parse`] leaves it, or of one with a plain unit; also negated.
pub fn interval_of(expr: &Expr) -> Option<IntervalValue> {
    match expr {
        Expr::Nested(inner) => interval_of(inner),
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => {
            let value = interval_of(expr)?;
            Some(IntervalValue { months: value.months.checked_neg()?, milliseconds: value.milliseconds.checked_neg()? })
        }
        Expr::Interval(Interval { value, leading_field, last_field: None, .. }) => {
            let Expr::Value(value) = value.as_ref() else { return None };
            let text = match &value.value {
                Value::SingleQuotedString(text) | Value::Number(text, _) => text,
                _ => return None,
            };
            let unit = match leading_field {
                Some(field) => Some(field_unit(field)?),
                None => None,
            };
            read(text, unit, None)
        }
        _ => None,
    }
}

fn field_unit(field: &DateTimeField) -> Option<Unit> {
    Unit::from_word(&field.to_string())
}

/// A unit word with the precision that may follow it, if there is one.
fn unit(parser: &mut Parser) -> Result<Option<Unit>, ParserError> {
    let found = match &parser.peek_token_ref().token {
        Token::Word(word) if word.quote_style.is_none() && word.value.len() > 2 => Unit::from_word(&word.value),
        _ => None,
    };
    if found.is_some() {
        parser.advance_token();
        if parser.peek_token_ref().token == Token::LParen
            && matches!(parser.peek_nth_token_ref(1).token, Token::Number(..))
        {
            parser.advance_token();
            parser.advance_token();
            if parser.consume_token(&Token::Comma) {
                parser.parse_literal_uint()?;
            }
            parser.expect_token(&Token::RParen)?;
        }
    }
    Ok(found)
}

/// Writes an interval so that DataFusion reads exactly it.
fn literal(value: IntervalValue) -> Expr {
    let text = if value.months == 0 {
        format!("{} milliseconds", value.milliseconds)
    } else if value.milliseconds == 0 {
        format!("{} months", value.months)
    } else {
        format!("{} months {} milliseconds", value.months, value.milliseconds)
    };
    Expr::Interval(Interval {
        value: Box::new(super::dialect::text(&text)),
        leading_field: None,
        leading_precision: None,
        last_field: None,
        fractional_seconds_precision: None,
    })
}

fn read(text: &str, first: Option<Unit>, last: Option<Unit>) -> Option<IntervalValue> {
    let text = text.trim();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest.trim_start()),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let value = match (first, last) {
        (None, None) => return words(text),
        (Some(unit), None) => amount(digits, unit)?,
        (Some(first), Some(last)) => range(digits, first, last)?,
        (None, Some(_)) => return None,
    };
    let sign = if negative { -1 } else { 1 };
    Some(IntervalValue { months: value.months * sign, milliseconds: value.milliseconds * sign })
}

/// `5`, or `1.5` for units below a month.
fn amount(text: &str, unit: Unit) -> Option<IntervalValue> {
    let (months, milliseconds) = unit.length();
    let (whole, fraction) = text.split_once('.').map_or((text, ""), |(whole, fraction)| (whole, fraction));
    let count = number(whole)?;
    let mut value =
        IntervalValue { months: count.checked_mul(months)?, milliseconds: count.checked_mul(milliseconds)? };
    if !fraction.is_empty() {
        if milliseconds == 0 || fraction.len() > 9 {
            return None;
        }
        let scale = 10_i64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        let part = number(fraction)?.checked_mul(milliseconds)?.checked_div(scale)?;
        value.milliseconds = value.milliseconds.checked_add(part)?;
    }
    is_within(value.months, value.milliseconds).then_some(value)
}

/// Both limits keep every later sum of two intervals within i64.
fn is_within(months: i64, milliseconds: i64) -> bool {
    let (months_max, milliseconds_max) = (i32::MAX.unsigned_abs().into(), i64::MAX.unsigned_abs() / 4);
    months.unsigned_abs() < months_max && milliseconds.unsigned_abs() < milliseconds_max
}

/// `1-2` YEAR TO MONTH, `1 02:03:04.5` DAY TO SECOND and all between.
fn range(text: &str, first: Unit, last: Unit) -> Option<IntervalValue> {
    if first == Unit::Year && last == Unit::Month {
        let (years, months) = text.split_once('-')?;
        let (years, months) = (amount(years, Unit::Year)?, amount(months, Unit::Month)?);
        return Some(IntervalValue { months: years.months.checked_add(months.months)?, milliseconds: 0 });
    }
    let units = [Unit::Day, Unit::Hour, Unit::Minute, Unit::Second];
    let from = units.iter().position(|unit| *unit == first)?;
    let to = units.iter().position(|unit| *unit == last)?;
    let units = units.get(from..=to).filter(|units| units.len() > 1)?;
    let mut parts: Vec<&str> = Vec::new();
    let clock = if first == Unit::Day {
        let (day, clock) = text.split_once(' ')?;
        parts.push(day);
        clock.trim()
    } else {
        text
    };
    parts.extend(clock.split(':'));
    if parts.len() != units.len() {
        return None;
    }
    let mut total = 0_i64;
    for (part, unit) in parts.iter().zip(units) {
        if part.contains('.') && *unit != Unit::Second {
            return None;
        }
        total = total.checked_add(amount(part, *unit)?.milliseconds)?;
    }
    Some(IntervalValue { months: 0, milliseconds: total })
}

/// `5 minutes`, `1 day 2 hours`, or a bare number of seconds.
fn words(text: &str) -> Option<IntervalValue> {
    let mut total = IntervalValue { months: 0, milliseconds: 0 };
    let mut parts = text.split_whitespace();
    let mut any = false;
    while let Some(count) = parts.next() {
        let unit = Unit::from_word(parts.next()?)?;
        let (negative, digits) = count.strip_prefix('-').map_or((false, count), |rest| (true, rest));
        let value = amount(digits, unit)?;
        let sign = if negative { -1 } else { 1 };
        total.months = total.months.checked_add(value.months * sign)?;
        total.milliseconds = total.milliseconds.checked_add(value.milliseconds * sign)?;
        any = true;
    }
    any.then_some(total)
}

fn number(text: &str) -> Option<i64> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(milliseconds: i64) -> Option<IntervalValue> {
        Some(IntervalValue { months: 0, milliseconds })
    }

    #[test]
    fn lengths() {
        assert_eq!(read("10", Some(Unit::Second), None), ms(10_000));
        assert_eq!(read("1.5", Some(Unit::Second), None), ms(1_500));
        assert_eq!(read("-1", Some(Unit::Day), None), ms(-86_400_000));
        assert_eq!(read("1:30", Some(Unit::Minute), Some(Unit::Second)), ms(90_000));
        assert_eq!(read("1 02:03:04.5", Some(Unit::Day), Some(Unit::Second)), ms(93_784_500));
        assert_eq!(read("2:03", Some(Unit::Hour), Some(Unit::Minute)), ms(7_380_000));
        assert_eq!(
            read("1-2", Some(Unit::Year), Some(Unit::Month)),
            Some(IntervalValue { months: 14, milliseconds: 0 })
        );
        assert_eq!(read("5 minutes", None, None), ms(300_000));
        assert_eq!(read("1 month 2 days", None, None), Some(IntervalValue { months: 1, milliseconds: 172_800_000 }));
        for bad in ["", "x", "1:2", "99999999999999999999", "1.5.2"] {
            assert_eq!(read(bad, Some(Unit::Second), None), None, "{bad}");
        }
        assert_eq!(read("9223372036854775807", Some(Unit::Day), None), None);
        assert_eq!(read("1.5", Some(Unit::Month), None), None);
    }
}
