//! The last error of a job, as clients are told it.

use crate::error::{Code, Error, Place};
use crate::rpc::control::place::{At, Origin, Sql};
use crate::rpc::control::{Failure, Place as Wire};

/// An error on its way to a client.
pub fn failure_of(error: &Error) -> Failure {
    let at = error.place().map(|place| match place {
        Place::Sql { line, column } => At::Sql(Sql { line: *line, column: *column }),
        Place::Origin { origin, offset, unit } => {
            At::Origin(Origin { origin: origin.clone(), offset: *offset, unit: unit.clone() })
        }
        Place::Named(name) => At::Named(name.clone()),
    });
    Failure {
        code: error.code().as_str().to_owned(),
        message: error.message().to_owned(),
        hint: error.hint_text().unwrap_or_default().to_owned(),
        place: at.map(|at| Wire { at: Some(at) }),
    }
}

/// The error that a client was told; E0503 stands for a code that only a newer cluster knows.
pub fn error_of(failure: Failure) -> Error {
    let code = Code::ALL.iter().copied().find(|code| code.as_str() == failure.code);
    let mut error = Error::new(code.unwrap_or(Code::Internal), failure.message);
    if let Some(at) = failure.place.and_then(|place| place.at) {
        error = error.at(match at {
            At::Sql(Sql { line, column }) => Place::Sql { line, column },
            At::Origin(Origin { origin, offset, unit }) => Place::Origin { origin, offset, unit },
            At::Named(name) => Place::Named(name),
        });
    }
    if failure.hint.is_empty() { error } else { error.hint(failure.hint) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_keeps_its_place() {
        let record = |offset| Place::Origin { origin: "/in/a.csv".to_owned(), offset, unit: "byte".to_owned() };
        let error = |place: Place| Error::new(Code::UnknownColumn, "no").at(place).hint("mend it");
        let places = [record(Some(12)), record(None), Place::Sql { line: 1, column: 2 }, Place::Named("t".to_owned())];
        for error in places.map(error).into_iter().chain([Error::new(Code::Panic, "bare")]) {
            assert_eq!(error_of(failure_of(&error)), error);
        }
        assert_eq!(error_of(Failure { code: "E9999".to_owned(), ..Failure::default() }).code(), Code::Internal);
    }
}
