//! Functions of the wall clock and of chance.
//!
//! Nothing here reads a clock or a random source: whoever runs expressions tells the thread what time it
//! is with [`set_now`], before each batch, from `storage::env`. Rows of one batch share their time.
//! Before the first call these functions fail, so a path that forgets the clock cannot pass unseen.

use std::cell::Cell;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Date32Array, Float64Array, Int32Array, Int64Array, Time32MillisecondArray, TimestampMillisecondArray,
};
use arrow::datatypes::{DataType, TimeUnit};
use datafusion_common::Result;
use datafusion_expr::ScalarUDF;

use super::define::{Args, Function, Kind, build_text, double_type, failed, integer_type, text_type};
use crate::types::SESSION_ZONE;

const DAY_MS: i64 = 86_400_000;

thread_local! {
    static NOW_MS: Cell<Option<i64>> = const { Cell::new(None) };
    static CHANCE: Cell<u64> = const { Cell::new(0) };
}

/// Sets this thread's wall clock, in ms since 1970 UTC, and mixes `entropy` into its random numbers.
pub fn set_now(now_ms: i64, entropy: u64) {
    NOW_MS.set(Some(now_ms));
    CHANCE.set(CHANCE.get() ^ entropy);
}

/// This thread's wall clock.
pub(super) fn now_ms() -> Result<i64> {
    match NOW_MS.get() {
        Some(now) => Ok(now),
        None => failed("the wall clock is not known here: this function runs only within a job"),
    }
}

/// The next 64 random bits of this thread (splitmix64).
fn next_random() -> u64 {
    let state = CHANCE.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    CHANCE.set(state);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

pub(super) fn functions() -> Vec<ScalarUDF> {
    let local = |_: &[DataType]| Ok(DataType::Timestamp(TimeUnit::Millisecond, None));
    let zoned = |_: &[DataType]| Ok(DataType::Timestamp(TimeUnit::Millisecond, Some(SESSION_ZONE.into())));
    let date = |_: &[DataType]| Ok(DataType::Date32);
    let time = |_: &[DataType]| Ok(DataType::Time32(TimeUnit::Millisecond));
    vec![
        Function::new("proctime", &[], local, local_now).volatile().build(),
        Function::new("localtimestamp", &[], local, local_now).volatile().build(),
        Function::new("now", &[], zoned, zoned_now)
            .alias("current_timestamp")
            .alias("current_row_timestamp")
            .volatile()
            .build(),
        Function::new("current_date", &[], date, today).alias("today").volatile().build(),
        Function::new("current_time", &[], time, time_of_day).alias("localtime").volatile().build(),
        Function::new("rand", &[Kind::Integer], double_type, rand).required(0).alias("random").volatile().build(),
        Function::new("rand_integer", &[Kind::Integer, Kind::Integer], integer_type, rand_integer)
            .required(1)
            .volatile()
            .build(),
        Function::new("uuid", &[], text_type, uuid).volatile().build(),
    ]
}

fn local_now(args: &Args) -> Result<ArrayRef> {
    Ok(Arc::new(TimestampMillisecondArray::from_value(now_ms()?, args.rows)))
}

fn zoned_now(args: &Args) -> Result<ArrayRef> {
    Ok(Arc::new(TimestampMillisecondArray::from_value(now_ms()?, args.rows).with_timezone(SESSION_ZONE)))
}

fn today(args: &Args) -> Result<ArrayRef> {
    let days = i32::try_from(now_ms()?.div_euclid(DAY_MS)).unwrap_or(i32::MAX);
    Ok(Arc::new(Date32Array::from_value(days, args.rows)))
}

fn time_of_day(args: &Args) -> Result<ArrayRef> {
    let ms = i32::try_from(now_ms()?.rem_euclid(DAY_MS)).unwrap_or(0);
    Ok(Arc::new(Time32MillisecondArray::from_value(ms, args.rows)))
}

/// `RAND()`: at least 0, below 1. A seed is taken for its spelling's sake; restarts draw anew.
fn rand(args: &Args) -> Result<ArrayRef> {
    now_ms()?;
    // 53 bits: every value is exact in a double.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    let values = (0..args.rows).map(|_| (next_random() >> 11) as f64 / (1_u64 << 53) as f64);
    Ok(Arc::new(Float64Array::from_iter_values(values)))
}

/// `RAND_INTEGER([seed,] bound)`: at least 0, below the bound.
fn rand_integer(args: &Args) -> Result<ArrayRef> {
    now_ms()?;
    let bounds = args.integer(args.len() - 1)?;
    let mut values = Vec::with_capacity(args.rows);
    for row in 0..args.rows {
        values.push(match bounds.get(row) {
            None => None,
            Some(bound) => match u64::try_from(bound).ok().filter(|bound| *bound > 0) {
                Some(bound) => Some(i32::try_from(next_random() % bound).unwrap_or(i32::MAX)),
                None => return failed(format!("RAND_INTEGER takes a positive bound, not {bound}")),
            },
        });
    }
    Ok(Arc::new(Int32Array::from(values)))
}

/// A random UUID (version 4).
fn uuid(args: &Args) -> Result<ArrayRef> {
    use std::fmt::Write;
    now_ms()?;
    build_text(args.rows, |_, out| {
        let high = next_random() & !0xf000 | 0x4000;
        let low = next_random() & !(0b11 << 62) | 0b10 << 62;
        let parts = (high >> 32, high >> 16 & 0xffff, high & 0xffff, low >> 48, low & 0xffff_ffff_ffff);
        let written = write!(out, "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}", parts.0, parts.1, parts.2, parts.3, parts.4);
        Ok(written.ok())
    })
}

/// `UNIX_TIMESTAMP()` without arguments, for the time family.
pub(super) fn unix_now(args: &Args) -> Result<ArrayRef> {
    Ok(Arc::new(Int64Array::from_value(now_ms()?.div_euclid(1_000), args.rows)))
}
