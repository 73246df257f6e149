//! The invariants of the system and the macro that checks them.
//!
//! A check is always evaluated. In tests and debug builds a violation panics; in a release build it
//! becomes an error with code E0502, so that the one job it protects stops and nothing wrong is kept.

use std::fmt;

/// I1 to I18, as GUARANTEES.md lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Invariant {
    I1,
    I2,
    I3,
    I4,
    I5,
    I6,
    I7,
    I8,
    I9,
    I10,
    I11,
    I12,
    I13,
    I14,
    I15,
    I16,
    I17,
    I18,
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// `check!(I4, condition, "context {}", x)?`: an `Err` with code E0502 if the condition is false
/// (a panic in debug builds).
#[macro_export]
macro_rules! check {
    ($invariant:ident, $condition:expr, $($context:tt)+) => {
        $crate::invariant::checked(
            $crate::invariant::Invariant::$invariant,
            $condition,
            || format!($($context)+),
        )
    };
}

/// The function behind [`check!`](crate::check).
pub fn checked(invariant: Invariant, holds: bool, context: impl FnOnce() -> String) -> crate::Result<()> {
    if holds {
        return Ok(());
    }
    let context = context();
    debug_assert!(holds, "invariant {invariant} does not hold: {context}");
    Err(crate::Error::new(crate::Code::Invariant, format!("invariant {invariant} does not hold: {context}")))
}
