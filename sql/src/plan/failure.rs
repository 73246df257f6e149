//! DataFusion's planning errors in our words: a code, the place, the nearest name.

use arrow::datatypes::DataType;
use datafusion_common::{Column, DataFusionError, SchemaError};
use qanat_proto::error::{Code, Error, Place, nearest};

use crate::types::sql_name;

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
        DataFusionError::NotImplemented(message) if message.to_lowercase().contains("unsupported binary operator") => {
            Error::new(Code::SqlUnsupported, "this operator is not supported").hint("write it with a function")
        }
        DataFusionError::NotImplemented(message) => Error::new(Code::SqlUnsupported, sentence(message)),
        // A user's mistake that DataFusion takes for its own.
        DataFusionError::Internal(message) if message.to_lowercase().contains("failed to coerce") => {
            plan_error(message)
        }
        DataFusionError::Internal(message) => Error::internal(sentence(message)),
        DataFusionError::Plan(message) => plan_error(message),
        other => plan_error(&other.strip_backtrace()),
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
    // function 'upper' expects 1 arguments but received 2; 'upper' does not support zero arguments
    if let Some(name) = text.split('\'').nth(1)
        && (lower.contains("arguments but received") || lower.contains("does not support zero arguments"))
    {
        let counts: Vec<&str> = lower.split(' ').filter(|word| word.parse::<usize>().is_ok()).collect();
        let message = match counts.as_slice() {
            [takes, got] => format!("`{}` takes {takes} and not {got} arguments", name.to_uppercase()),
            _ => format!("`{}` does not take this number of arguments", name.to_uppercase()),
        };
        return Error::new(Code::UnknownFunction, message);
    }
    if lower.contains("must appear in the group by") {
        // The name is between the first two quotes that stand around a column.
        let column = text.split("column \"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or("this column");
        let message = format!("`{column}` is neither in GROUP BY nor inside an aggregate function");
        return Error::new(Code::SqlSyntax, message).hint("group by it too, or take MIN, MAX or FIRST_VALUE of it");
    }
    if let Some((_, rest)) = text.split_once("cannot access field at argument 1: type ") {
        let of_type = rest.split(" is not ").next().unwrap_or(rest);
        return Error::new(Code::TypeMismatch, format!("a value of type {of_type} has no fields"))
            .hint("a ROW has fields, a MAP has keys; the elements of an ARRAY are `a[1]`, `a[2]`, …");
    }
    if let Some(field) = text.strip_prefix("field ").and_then(|rest| rest.strip_suffix(" not found in struct")) {
        return Error::new(Code::UnknownColumn, format!("this ROW has no field `{field}`"))
            .hint("DESCRIBE shows the fields of a table's columns");
    }
    if lower.starts_with("aggregate functions are not allowed in the where clause") {
        return Error::new(Code::TypeMismatch, "an aggregate function cannot stand in WHERE")
            .hint("filter groups with HAVING, or the rows of one aggregate with FILTER (WHERE …)");
    }
    if let Some(types) = text.strip_prefix("cannot infer common argument type for comparison operation ") {
        return Error::new(Code::TypeMismatch, format!("these types cannot be compared: {types}"))
            .hint("cast one side to the type of the other");
    }
    if lower.starts_with("projections require unique expression names") {
        return Error::new(Code::SqlDuplicate, "two columns of this SELECT have the same name")
            .hint("give one of them another name with AS");
    }
    // Ours says how the function is called; DataFusion's words around it do not.
    if let Some((_, inner)) = text.split_once("user-defined coercion failed with: ") {
        return Error::new(Code::UnknownFunction, sentence(inner));
    }
    let code = if lower.contains("table") && lower.contains("not found") {
        Code::UnknownTable
    } else if lower.contains("function")
        && (lower.contains("argument") || lower.contains("signature") || lower.contains("coerc"))
    {
        Code::UnknownFunction
    } else if lower.contains("must be in the group by") || lower.contains("could not be resolved") {
        Code::SqlSyntax
    } else {
        Code::TypeMismatch
    };
    Error::new(code, text)
}

/// Arrow's types as SQL writes them: `List(Int32)` is `ARRAY<INT>`.
fn sql_types(text: &str) -> String {
    let mut written = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        if word == 0 {
            written.push(first);
            rest = rest.split_at(first.len_utf8()).1;
            continue;
        }
        let in_name = written.ends_with(['.', '`', '\'', '"']);
        let parameters = parenthesis(rest.split_at(word).1);
        let (name, after) = rest.split_at(word + parameters);
        match name.parse::<DataType>() {
            // Words that are English too.
            Ok(data_type) if !in_name && !matches!(name, "Null" | "Struct" | "Map") => {
                written.push_str(&sql_name(&data_type));
                rest = after;
            }
            _ => {
                let (name, after) = rest.split_at(word);
                written.push_str(name);
                rest = after;
            }
        }
    }
    written
}

/// Bytes of the parenthesis that `text` begins with.
fn parenthesis(text: &str) -> usize {
    let mut depth = 0_usize;
    for (index, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            _ if depth == 0 => return 0,
            ')' if depth == 1 => return index + 1,
            ')' => depth -= 1,
            _ => {}
        }
    }
    0
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
    // What DataFusion adds names its own functions and types.
    let text = text.split("No function matches the given name").next().unwrap_or(text);
    let text = text.split(" (DataType: ").next().unwrap_or(text);
    let line = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    let line = WRAPPINGS.iter().fold(line, |line, wrapping| line.replace(wrapping, ""));
    let line = sql_types(&line);
    let line = line.trim_end_matches(['.', ' ']);
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

#[cfg(test)]
mod tests {
    use super::sql_types;

    #[test]
    fn types_of_arrow_are_written_as_sql() {
        let cases = [
            ("BIGINT * Interval(MonthDayNano)", "BIGINT * INTERVAL"),
            ("STRING = List(Int32), not Utf8", "STRING = ARRAY<INT>, not STRING"),
            ("Timestamp(ms) and Decimal128(10, 2)", "TIMESTAMP(3) and DECIMAL(10, 2)"),
            ("is not Struct, Map, or Null (Foo", "is not Struct, Map, or Null (Foo"),
            ("column 't.Int32' of `Date32`", "column 't.Int32' of `Date32`"),
        ];
        for (arrow, sql) in cases {
            assert_eq!(sql_types(arrow), sql);
        }
    }
}
