//! DataFusion's planning errors in our words: a code, the place, the nearest name.

use datafusion_common::{Column, DataFusionError, SchemaError};
use qanat_proto::error::{Code, Error, Place, nearest};

/// Wraps an error of ours so that it passes through DataFusion.
pub(crate) fn carry(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// An error of the planner or optimizer.
pub(crate) fn from_datafusion(error: &DataFusionError) -> Error {
    let plain = translate(error);
    match place_in(error) {
        Some(place) => plain.or_at(|| place),
        None => plain,
    }
}

fn translate(error: &DataFusionError) -> Error {
    match error {
        DataFusionError::External(inner) => match inner.downcast_ref::<Error>() {
            Some(ours) => ours.clone(),
            None => Error::internal(inner.to_string()),
        },
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => translate(inner),
        DataFusionError::Shared(inner) => translate(inner),
        DataFusionError::Collection(errors) => match errors.first() {
            Some(first) => translate(first),
            None => Error::internal("an empty list of errors"),
        },
        DataFusionError::SchemaError(error, _) => schema_error(error),
        // The syntax tree as the parser holds it means nothing to anybody.
        DataFusionError::NotImplemented(message) if message.contains("Ident {") || message.contains("Span(") => {
            Error::new(Code::SqlUnsupported, "this form of expression is not supported")
                .hint("write it with functions, or in two steps with a view")
        }
        DataFusionError::NotImplemented(message) => Error::new(Code::SqlUnsupported, sentence(message)),
        DataFusionError::Internal(message) => Error::internal(sentence(message)),
        DataFusionError::Plan(message) => plan_error(message),
        other => Error::new(Code::TypeMismatch, sentence(&other.strip_backtrace())),
    }
}

fn schema_error(error: &SchemaError) -> Error {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let mut missing = Error::new(Code::UnknownColumn, format!("no column `{}`", field.flat_name()));
            if let Some(place) = column_place(field) {
                missing = missing.at(place);
            }
            let names: Vec<&str> = valid_fields.iter().map(|c| c.name.as_str()).collect();
            match nearest(&field.name, names.iter().copied()) {
                Some(near) if near != field.name => missing.hint(format!("did you mean `{near}`?")),
                Some(_) => missing.hint("the column is there under another table name or alias"),
                None if names.is_empty() => missing,
                None => missing.hint(format!("there are: {}", names.join(", "))),
            }
        }
        SchemaError::AmbiguousReference { field } => {
            let error = Error::new(Code::UnknownColumn, format!("column `{}` is ambiguous", field.name))
                .hint("write it with its table: `t.column`");
            match column_place(field) {
                Some(place) => error.at(place),
                None => error,
            }
        }
        SchemaError::DuplicateQualifiedField { name, .. } | SchemaError::DuplicateUnqualifiedField { name } => {
            Error::new(Code::SqlDuplicate, format!("column `{name}` stands twice")).hint("give one of them an alias")
        }
    }
}

/// The planner's free texts, sorted by what a user can do.
fn plan_error(message: &str) -> Error {
    let text = sentence(message);
    let lower = text.to_lowercase();
    if let Some(name) = lower.strip_prefix("invalid function '").and_then(|rest| rest.split('\'').next()) {
        return crate::functions::registry().unknown(name);
    }
    if lower.contains("failed to match any signature")
        && let Some(name) = text.split('\'').nth(1)
    {
        let message = format!("`{}` takes no arguments of these types", name.to_uppercase());
        return Error::new(Code::UnknownFunction, message).hint("cast them to the types that it takes");
    }
    // Ours says how the function is called; DataFusion's words around it do not.
    if let Some((_, inner)) = text.split_once("user-defined coercion failed with: Error during planning: ") {
        let inner = inner.split(". No function matches").next().unwrap_or(inner);
        return Error::new(Code::UnknownFunction, sentence(inner));
    }
    let code = if lower.contains("table") && lower.contains("not found") {
        Code::UnknownTable
    } else if lower.contains("function")
        && (lower.contains("argument") || lower.contains("signature") || lower.contains("coerc"))
    {
        Code::UnknownFunction
    } else if lower.contains("must appear in the group by")
        || lower.contains("must be in the group by")
        || lower.contains("could not be resolved")
    {
        Code::SqlSyntax
    } else {
        Code::TypeMismatch
    };
    Error::new(code, sql_types(&text))
}

/// Arrow's type names as SQL writes them.
fn sql_types(text: &str) -> String {
    const NAMES: [(&str, &str); 6] = [
        ("Utf8", "STRING"),
        ("Int64", "BIGINT"),
        ("Int32", "INT"),
        ("Float64", "DOUBLE"),
        ("Float32", "FLOAT"),
        ("Timestamp(ms)", "TIMESTAMP(3)"),
    ];
    NAMES.iter().fold(text.to_owned(), |text, (arrow, sql)| text.replace(arrow, sql))
}

/// Lower case at the start, no full stop, one line.
fn sentence(message: &str) -> String {
    const WRAPPINGS: [&str; 8] = [
        "Internal error: ",
        "Error during planning: ",
        "Execution error: ",
        "Arrow error: ",
        "Cast error: ",
        "Parser error: ",
        "Compute error: ",
        "Invalid argument error: ",
    ];
    let mut text = message.split("This issue was likely caused by").next().unwrap_or(message);
    while let Some(inner) = WRAPPINGS.iter().find_map(|wrapping| text.strip_prefix(wrapping)) {
        text = inner;
    }
    let line = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    let line = line.trim_end_matches('.');
    let mut letters = line.chars();
    match (letters.next(), letters.clone().next()) {
        (Some(first), Some(second)) if first.is_uppercase() && second.is_lowercase() => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => line.to_owned(),
    }
}

fn column_place(column: &Column) -> Option<Place> {
    column.spans.first().map(|span| Place::Sql { line: span.start.line, column: span.start.column })
}

fn place_in(error: &DataFusionError) -> Option<Place> {
    match error {
        DataFusionError::Diagnostic(diagnostic, inner) => diagnostic
            .span
            .map(|span| Place::Sql { line: span.start.line, column: span.start.column })
            .or_else(|| place_in(inner)),
        DataFusionError::Context(_, inner) => place_in(inner),
        DataFusionError::Shared(inner) => place_in(inner),
        DataFusionError::Collection(errors) => errors.first().and_then(place_in),
        _ => None,
    }
}
