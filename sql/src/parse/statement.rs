//! Statements: which one it is, and those of a few words. `create_table.rs` has the long one.

use datafusion_sql::sqlparser::ast::{Expr, Ident, ObjectName, Query};
use datafusion_sql::sqlparser::tokenizer::Token;
use qanat_proto::{Code, Error, Place, Result, limits};

use super::failure::{describe, syntax, unsupported};
use super::script::Reader;
use super::{
    CreateFunction, CreateView, DropObject, Explain, ExplainTarget, Insert, Statement, create_table, group_window,
    hint, refuse,
};

/// First words of statements, for hints.
const STATEMENTS: &[&str] = &[
    "CREATE", "INSERT", "SELECT", "WITH", "VALUES", "EXPLAIN", "EXECUTE", "BEGIN", "SET", "RESET", "DROP", "SHOW",
    "DESCRIBE", "DESC",
];

/// Statements of Flink that are known and refused, with what to do instead.
const REFUSED: &[(&str, &str)] = &[
    ("ALTER", "change the CREATE TABLE statement and start the job anew"),
    ("USE", "there is one catalog and one database, default_catalog.default_database"),
    ("ADD", "user-defined functions are not supported yet"),
    ("REMOVE", "user-defined functions are not supported yet"),
    ("LOAD", "all functions are always there"),
    ("UNLOAD", "all functions are always there"),
    ("ANALYZE", "the planner needs no statistics"),
    ("DELETE", "sinks take rows through INSERT INTO; rows are not changed in place"),
    ("UPDATE", "sinks take rows through INSERT INTO; rows are not changed in place"),
    ("MERGE", "sinks take rows through INSERT INTO; rows are not changed in place"),
    ("TRUNCATE", "write INSERT OVERWRITE"),
    ("CALL", "there are no procedures"),
    ("COMPILE", "plans are not kept as text; use EXPLAIN to see one"),
    ("STOP", "use the command line to stop a job"),
    ("CANCEL", "use the command line to stop a job"),
];

pub(super) fn parse(reader: &mut Reader) -> Result<Statement> {
    let at = reader.here();
    let token = reader.parser.peek_token();
    let first = match &token.token {
        Token::Word(word) if word.quote_style.is_none() => word.value.to_ascii_uppercase(),
        Token::LParen => "(".to_owned(),
        other => return Err(no_statement(&describe(other), at_place(at))),
    };
    match first.as_str() {
        "SELECT" | "WITH" | "VALUES" | "(" => Ok(Statement::Query(query(reader)?)),
        "CREATE" => create(reader),
        "INSERT" => Ok(Statement::Insert(insert(reader)?)),
        "EXPLAIN" => explain(reader),
        "EXECUTE" | "BEGIN" => Ok(statement_set(reader)?
            .map_or_else(|| insert(reader).map(Statement::Insert), |inserts| Ok(Statement::StatementSet(inserts)))?),
        "SET" => set(reader),
        "RESET" => reset(reader),
        "DROP" => drop_object(reader),
        "SHOW" => show(reader),
        "DESCRIBE" | "DESC" => {
            reader.parser.advance_token();
            if reader.take_word("EXTENDED") {
                return Err(unsupported("DESCRIBE EXTENDED is not supported", at).hint("use DESCRIBE"));
            }
            reader.take_word("TABLE");
            Ok(Statement::Describe(object_name(reader)?))
        }
        other => match REFUSED.iter().find(|(word, _)| *word == other) {
            Some((word, hint)) => Err(unsupported(format!("{word} statements are not supported"), at).hint(*hint)),
            None => Err(no_statement(&describe(&token.token), at_place(at))),
        },
    }
}

fn no_statement(found: &str, place: Place) -> Error {
    let error = Error::new(Code::SqlSyntax, format!("no statement begins with {found}")).at(place);
    match qanat_proto::error::nearest(found.trim_matches('`'), STATEMENTS.iter().copied()) {
        Some(word) => error.hint(format!("did you mean {word}?")),
        None => error.hint(format!("statements begin with {}", STATEMENTS.join(", "))),
    }
}

fn at_place(at: datafusion_sql::sqlparser::tokenizer::Location) -> Place {
    Place::Sql { line: at.line, column: at.column }
}

/// A query. What sqlparser reads beyond the dialect is refused by the planner, clause by clause.
pub(super) fn query(reader: &mut Reader) -> Result<Box<Query>> {
    let at = reader.here();
    let mut query = reader.lift(|parser| parser.parse_query())?;
    refuse::check(&query, at)?;
    group_window::rewrite(&mut query)?;
    hint::mark(&mut query)?;
    Ok(query)
}

pub(super) fn object_name(reader: &mut Reader) -> Result<ObjectName> {
    if !matches!(reader.parser.peek_token_ref().token, Token::Word(_)) {
        return Err(reader.expected("a name"));
    }
    let name = reader.lift(|parser| parser.parse_object_name(false))?;
    if name.0.len() > 3 {
        return Err(reader.expected("a name of at most catalog.database.name"));
    }
    Ok(name)
}

pub(super) fn identifier(reader: &mut Reader, what: &str) -> Result<Ident> {
    match &reader.parser.peek_token_ref().token {
        Token::Word(_) => reader.lift(|parser| parser.parse_identifier()),
        _ => Err(reader.expected(what)),
    }
}

/// `( a, b, … )`.
pub(super) fn identifiers(reader: &mut Reader) -> Result<Vec<Ident>> {
    reader.need(&Token::LParen)?;
    let mut names = Vec::new();
    loop {
        names.push(identifier(reader, "a column name")?);
        if names.len() > limits::COLUMNS_MAX {
            return Err(
                Error::new(Code::SqlLimit, format!("more than {} columns", limits::COLUMNS_MAX)).at(reader.place())
            );
        }
        if !reader.take(&Token::Comma) {
            break;
        }
    }
    reader.need(&Token::RParen)?;
    Ok(names)
}

fn create(reader: &mut Reader) -> Result<Statement> {
    let at = reader.here();
    reader.need_words(&["CREATE"])?;
    let or_replace = reader.take_words(&["OR", "REPLACE"]);
    let temporary = reader.take_word("TEMPORARY") || reader.take_word("TEMP");
    if reader.take_word("TABLE") {
        return create_table::parse(reader, or_replace, temporary);
    }
    if reader.take_word("VIEW") {
        return create_view(reader, or_replace, temporary).map(Statement::CreateView);
    }
    if reader.take_word("FUNCTION") || reader.take_words(&["SYSTEM", "FUNCTION"]) {
        return create_function(reader).map(Statement::CreateFunction);
    }
    let kinds = [
        ("CATALOG", "there is one catalog, default_catalog"),
        ("DATABASE", "there is one database, default_database"),
        ("MATERIALIZED", "write CREATE TABLE for the result and INSERT INTO it"),
        ("MODEL", "models are not supported"),
    ];
    for (kind, hint) in kinds {
        if reader.peek_word(0, kind) {
            return Err(unsupported(format!("CREATE {kind} is not supported"), at).hint(hint));
        }
    }
    Err(reader.expected("TABLE or VIEW after CREATE"))
}

fn create_function(reader: &mut Reader) -> Result<CreateFunction> {
    let if_not_exists = if_not_exists(reader);
    let place = reader.place();
    let name = object_name(reader)?;
    let name = name.0.last().and_then(|part| part.as_ident()).cloned().ok_or_else(|| reader.expected("a name"))?;
    reader.need_words(&["AS"])?;
    let class_place = reader.place();
    let class = reader.need_text("the class of the function")?;
    if reader.take_word("LANGUAGE") {
        identifier(reader, "a language")?;
    }
    Ok(CreateFunction { name, if_not_exists, class, place, class_place })
}

pub(super) fn if_not_exists(reader: &mut Reader) -> bool {
    reader.take_words(&["IF", "NOT", "EXISTS"])
}

fn create_view(reader: &mut Reader, or_replace: bool, temporary: bool) -> Result<CreateView> {
    let if_not_exists = if_not_exists(reader);
    let place = reader.place();
    let name = object_name(reader)?;
    let columns = if reader.parser.peek_token_ref().token == Token::LParen { identifiers(reader)? } else { Vec::new() };
    if reader.take_word("COMMENT") {
        reader.need_text("a comment")?;
    }
    reader.need_words(&["AS"])?;
    let from = reader.parser.index();
    let query = query(reader)?;
    let text = reader.text_since(from);
    Ok(CreateView { name, if_not_exists, or_replace, temporary, columns, query, text, place })
}

fn insert(reader: &mut Reader) -> Result<Insert> {
    reader.need_words(&["INSERT"])?;
    let overwrite = reader.take_word("OVERWRITE");
    if !overwrite && !reader.take_word("INTO") {
        return Err(reader.expected("INTO or OVERWRITE after INSERT"));
    }
    reader.take_word("TABLE");
    let place = reader.place();
    let table = object_name(reader)?;
    let partition = if reader.take_word("PARTITION") { static_partition(reader)? } else { Vec::new() };
    let columns = if starts_column_list(reader) { identifiers(reader)? } else { Vec::new() };
    if !["SELECT", "WITH", "VALUES", "TABLE"].iter().any(|word| reader.peek_word(0, word))
        && reader.parser.peek_token_ref().token != Token::LParen
    {
        return Err(reader.expected("a query or VALUES to insert"));
    }
    let query = query(reader)?;
    Ok(Insert { table, columns, partition, overwrite, query, place })
}

/// Whether `(` opens a list of columns rather than a query in parentheses.
fn starts_column_list(reader: &Reader) -> bool {
    reader.parser.peek_token_ref().token == Token::LParen
        && matches!(reader.parser.peek_nth_token_ref(1).token, Token::Word(_))
        && matches!(reader.parser.peek_nth_token_ref(2).token, Token::Comma | Token::RParen)
}

/// `( name = value, … )`: values are literals.
fn static_partition(reader: &mut Reader) -> Result<Vec<(Ident, Expr)>> {
    reader.need(&Token::LParen)?;
    let mut values = Vec::new();
    loop {
        let name = identifier(reader, "a partition column")?;
        reader.need(&Token::Eq)?;
        let at = reader.here();
        let value = reader.lift(|parser| parser.parse_expr())?;
        if !matches!(value, Expr::Value(_) | Expr::TypedString(_)) {
            return Err(syntax("a static partition takes a literal", at)
                .hint("write PARTITION (day = '2013-01-01'), or select the value as a column"));
        }
        values.push((name, value));
        if !reader.take(&Token::Comma) {
            break;
        }
    }
    reader.need(&Token::RParen)?;
    Ok(values)
}

/// `EXECUTE STATEMENT SET BEGIN … END` or `BEGIN STATEMENT SET; … END`. `None`: `EXECUTE` stood before
/// a plain INSERT, and has been taken.
fn statement_set(reader: &mut Reader) -> Result<Option<Vec<Insert>>> {
    let at = reader.here();
    if reader.take_words(&["BEGIN", "STATEMENT", "SET"]) {
        reader.need(&Token::SemiColon)?;
    } else if reader.take_words(&["EXECUTE", "STATEMENT", "SET"]) {
        reader.need_words(&["BEGIN"])?;
    } else if reader.take_word("EXECUTE") {
        return Ok(None);
    } else {
        return Err(unsupported("BEGIN is supported only as BEGIN STATEMENT SET", at));
    }
    set_body(reader, at_place(at)).map(Some)
}

/// Inserts up to and with `END`.
fn set_body(reader: &mut Reader, place: Place) -> Result<Vec<Insert>> {
    let mut inserts = Vec::new();
    loop {
        while reader.take(&Token::SemiColon) {}
        if reader.take_word("END") {
            break;
        }
        if !reader.peek_word(0, "INSERT") {
            return Err(reader.expected("INSERT or END in the statement set"));
        }
        inserts.push(insert(reader)?);
        if !matches!(reader.parser.peek_token_ref().token, Token::SemiColon) && !reader.peek_word(0, "END") {
            let token = reader.parser.peek_token();
            return Err(reader.unexpected(&token));
        }
    }
    if inserts.is_empty() {
        return Err(Error::new(Code::NothingToRun, "the statement set holds no INSERT").at(place));
    }
    Ok(inserts)
}

fn explain(reader: &mut Reader) -> Result<Statement> {
    reader.need_words(&["EXPLAIN"])?;
    let mut details = Vec::new();
    if !reader.take_words(&["PLAN", "FOR"]) {
        const DETAILS: [&str; 4] = ["ESTIMATED_COST", "CHANGELOG_MODE", "JSON_EXECUTION_PLAN", "PLAN_ADVICE"];
        while let Some(word) = DETAILS.iter().find(|word| reader.peek_word(0, word)) {
            reader.parser.advance_token();
            details.push((*word).to_owned());
            if !reader.take(&Token::Comma) {
                break;
            }
        }
    }
    let target = if reader.peek_word(0, "INSERT") {
        ExplainTarget::Insert(insert(reader)?)
    } else if reader.peek_word(0, "STATEMENT") || reader.peek_word(0, "EXECUTE") {
        let place = reader.place();
        reader.take_word("EXECUTE");
        reader.need_words(&["STATEMENT", "SET", "BEGIN"])?;
        ExplainTarget::StatementSet(set_body(reader, place)?)
    } else if ["SELECT", "WITH", "VALUES"].iter().any(|word| reader.peek_word(0, word))
        || reader.parser.peek_token_ref().token == Token::LParen
    {
        ExplainTarget::Query(query(reader)?)
    } else {
        return Err(reader.expected("a query or INSERT to explain"));
    };
    Ok(Statement::Explain(Explain { target, details }))
}

fn set(reader: &mut Reader) -> Result<Statement> {
    reader.need_words(&["SET"])?;
    if matches!(reader.parser.peek_token_ref().token, Token::SemiColon | Token::EOF) {
        return Ok(Statement::Set(None));
    }
    let key = setting_key(reader)?;
    reader.need(&Token::Eq)?;
    let value = setting_value(reader)?;
    Ok(Statement::Set(Some((key, value))))
}

fn reset(reader: &mut Reader) -> Result<Statement> {
    reader.need_words(&["RESET"])?;
    if matches!(reader.parser.peek_token_ref().token, Token::SemiColon | Token::EOF) {
        return Ok(Statement::Reset(None));
    }
    Ok(Statement::Reset(Some(setting_key(reader)?)))
}

/// `'key'`, or words joined by dots and dashes.
fn setting_key(reader: &mut Reader) -> Result<String> {
    if let Token::SingleQuotedString(key) = reader.parser.peek_token_ref().token.clone() {
        reader.parser.advance_token();
        return Ok(key);
    }
    let mut key = String::new();
    loop {
        match &reader.parser.peek_token_ref().token {
            Token::Word(word) => key.push_str(&word.value),
            _ => return Err(reader.expected("the key of a setting")),
        }
        reader.parser.advance_token();
        match reader.parser.peek_token_ref().token {
            Token::Period => key.push('.'),
            Token::Minus => key.push('-'),
            _ => return Ok(key),
        }
        reader.parser.advance_token();
    }
}

/// A text in quotes, or everything up to the end of the statement (`10 s`, `-1`).
fn setting_value(reader: &mut Reader) -> Result<String> {
    let mut parts: Vec<String> = Vec::new();
    loop {
        match &reader.parser.peek_token_ref().token {
            Token::SemiColon | Token::EOF => break,
            Token::SingleQuotedString(text) => parts.push(text.clone()),
            other => parts.push(other.to_string()),
        }
        reader.parser.advance_token();
    }
    if parts.is_empty() { Err(reader.expected("the value of the setting")) } else { Ok(parts.join(" ")) }
}

fn drop_object(reader: &mut Reader) -> Result<Statement> {
    let at = reader.here();
    reader.need_words(&["DROP"])?;
    let temporary = reader.take_word("TEMPORARY") || reader.take_word("TEMP");
    let is_view = if reader.take_word("VIEW") {
        true
    } else if reader.take_word("TABLE") {
        false
    } else {
        return Err(unsupported("only DROP TABLE and DROP VIEW are supported", at));
    };
    let if_exists = reader.take_words(&["IF", "EXISTS"]);
    let place = reader.place();
    let drop = DropObject { name: object_name(reader)?, if_exists, temporary, place };
    Ok(if is_view { Statement::DropView(drop) } else { Statement::DropTable(drop) })
}

fn show(reader: &mut Reader) -> Result<Statement> {
    let at = reader.here();
    reader.need_words(&["SHOW"])?;
    if reader.take_word("TABLES") {
        Ok(Statement::ShowTables)
    } else if reader.take_word("VIEWS") {
        Ok(Statement::ShowViews)
    } else if reader.take_word("FUNCTIONS") {
        Ok(Statement::ShowFunctions)
    } else if reader.take_words(&["CREATE", "TABLE"]) || reader.take_words(&["CREATE", "VIEW"]) {
        Ok(Statement::ShowCreate(object_name(reader)?))
    } else if reader.take_words(&["COLUMNS", "FROM"]) || reader.take_words(&["COLUMNS", "IN"]) {
        Ok(Statement::Describe(object_name(reader)?))
    } else {
        Err(unsupported("this SHOW is not supported", at)
            .hint("there are SHOW TABLES, SHOW VIEWS, SHOW FUNCTIONS, SHOW COLUMNS FROM t and SHOW CREATE TABLE t"))
    }
}
