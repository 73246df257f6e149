//! `CREATE TABLE`: columns of three kinds, watermark, key, partitioning, options, LIKE.

use std::collections::BTreeSet;

use datafusion_sql::sqlparser::ast::Ident;
use datafusion_sql::sqlparser::tokenizer::Token;
use qanat_proto::{Code, Error, Place, Result, limits};

use super::failure::unsupported;
use super::legacy_options;
use super::script::Reader;
use super::statement::{identifier, identifiers, if_not_exists, object_name};
use super::{
    ColumnDecl, ColumnKind, CreateTable, LikeDecl, LikeFeature, LikeMode, Statement, TableOption, WatermarkDecl,
    data_type,
};

/// Parses what follows `CREATE [TEMPORARY] TABLE`.
pub(super) fn parse(reader: &mut Reader, or_replace: bool, temporary: bool) -> Result<Statement> {
    let if_not_exists = if_not_exists(reader);
    let place = reader.place();
    let name = object_name(reader)?;
    let mut table = CreateTable {
        name,
        if_not_exists,
        or_replace,
        temporary,
        columns: Vec::new(),
        watermark: None,
        primary_key: Vec::new(),
        partitioned_by: Vec::new(),
        options: Vec::new(),
        like: None,
        comment: None,
        place,
    };
    if reader.take(&Token::LParen) && !reader.take(&Token::RParen) {
        loop {
            element(reader, &mut table)?;
            if reader.take(&Token::RParen) {
                break;
            }
            if !reader.take(&Token::Comma) {
                return Err(reader.expected("`,` or `)` after a column"));
            }
        }
    }
    clauses(reader, &mut table)?;
    check_names(&table)?;
    Ok(Statement::CreateTable(table))
}

/// One element of the parentheses: a constraint, the watermark or a column.
fn element(reader: &mut Reader, table: &mut CreateTable) -> Result<()> {
    let place = reader.place();
    if reader.peek_word(0, "WATERMARK") && reader.peek_word(1, "FOR") {
        reader.need_words(&["WATERMARK", "FOR"])?;
        let column = identifier(reader, "the event-time column")?;
        if reader.parser.peek_token_ref().token == Token::Period {
            return Err(unsupported("a watermark on a field of a row is not supported", reader.here())
                .hint("make a computed column of the field: `ts AS row.field`, and a watermark for that"));
        }
        reader.need_words(&["AS"])?;
        let expr = reader.lift(|parser| parser.parse_expr())?;
        if table.watermark.is_some() {
            return Err(Error::new(Code::SqlDuplicate, "a table has one watermark").at(place));
        }
        table.watermark = Some(WatermarkDecl { column, expr, place });
        return Ok(());
    }
    let named = reader.peek_word(0, "CONSTRAINT");
    if named || (reader.peek_word(0, "PRIMARY") && reader.peek_word(1, "KEY")) {
        if named {
            reader.parser.advance_token();
            identifier(reader, "the name of the constraint")?;
        }
        if reader.peek_word(0, "UNIQUE") {
            return Err(unsupported("UNIQUE constraints are not supported", reader.here()).hint("use PRIMARY KEY"));
        }
        reader.need_words(&["PRIMARY", "KEY"])?;
        let columns = identifiers(reader)?;
        not_enforced(reader)?;
        return set_primary_key(table, columns, place);
    }
    column(reader, table, place)
}

/// Flink checks no key, and neither do we: `NOT ENFORCED` says that the author knows.
fn not_enforced(reader: &mut Reader) -> Result<()> {
    if reader.take_words(&["NOT", "ENFORCED"]) {
        return Ok(());
    }
    Err(unsupported("a primary key is not checked and must say so", reader.here())
        .hint("write PRIMARY KEY (…) NOT ENFORCED"))
}

fn set_primary_key(table: &mut CreateTable, columns: Vec<Ident>, place: Place) -> Result<()> {
    if !table.primary_key.is_empty() {
        return Err(Error::new(Code::SqlDuplicate, "a table has one primary key").at(place));
    }
    table.primary_key = columns;
    Ok(())
}

fn column(reader: &mut Reader, table: &mut CreateTable, place: Place) -> Result<()> {
    if table.columns.len() >= limits::COLUMNS_MAX {
        return Err(Error::new(Code::SqlLimit, format!("more than {} columns", limits::COLUMNS_MAX)).at(place));
    }
    let name = identifier(reader, "a column, WATERMARK FOR or PRIMARY KEY")?;
    let kind = if reader.take_word("AS") {
        ColumnKind::Computed { expr: reader.lift(|parser| parser.parse_expr())? }
    } else {
        if !matches!(reader.parser.peek_token_ref().token, Token::Word(_)) {
            return Err(reader.expected("the type of the column, or AS and an expression"));
        }
        let data_type = reader.lift(data_type::parse)?;
        let mut nullable = true;
        let mut kind = None;
        loop {
            let at = reader.here();
            if reader.take_words(&["NOT", "NULL"]) {
                nullable = false;
            } else if reader.take_word("NULL") {
            } else if reader.take_words(&["PRIMARY", "KEY"]) {
                not_enforced(reader)?;
                set_primary_key(table, vec![name.clone()], place.clone())?;
                nullable = false;
            } else if reader.take_word("METADATA") {
                let from = if reader.take_word("FROM") { Some(reader.need_text("the metadata key")?) } else { None };
                let is_virtual = reader.take_word("VIRTUAL");
                kind = Some((from, is_virtual));
            } else if reader.peek_word(0, "DEFAULT")
                || reader.peek_word(0, "CHECK")
                || reader.peek_word(0, "UNIQUE")
                || reader.peek_word(0, "REFERENCES")
                || reader.peek_word(0, "GENERATED")
            {
                return Err(unsupported("constraints and defaults of columns are not supported", at)
                    .hint("filter or fill rows in the query; only NOT NULL and PRIMARY KEY … NOT ENFORCED are taken"));
            } else {
                break;
            }
        }
        match kind {
            Some((from, is_virtual)) => ColumnKind::Metadata { data_type, from, is_virtual },
            None => ColumnKind::Physical { data_type, nullable },
        }
    };
    let comment = if reader.take_word("COMMENT") { Some(reader.need_text("a comment")?) } else { None };
    table.columns.push(ColumnDecl { name, kind, comment, place });
    Ok(())
}

/// What stands behind the columns, in any order that makes sense.
fn clauses(reader: &mut Reader, table: &mut CreateTable) -> Result<()> {
    loop {
        let at = reader.here();
        if reader.take_word("COMMENT") {
            table.comment = Some(reader.need_text("a comment")?);
        } else if reader.take_words(&["PARTITIONED", "BY"]) {
            table.partitioned_by = identifiers(reader)?;
        } else if reader.take_word("WITH") {
            options(reader, table)?;
        } else if reader.take_word("LIKE") {
            table.like = Some(like(reader)?);
        } else if reader.peek_word(0, "DISTRIBUTED") {
            return Err(unsupported("DISTRIBUTED BY is not supported", at).hint("use PARTITIONED BY"));
        } else if reader.peek_word(0, "AS") {
            return Err(unsupported("CREATE TABLE … AS is not supported", at)
                .hint("declare the table with its columns and INSERT INTO it"));
        } else if table.columns.is_empty() && table.like.is_none() {
            return Err(reader.expected("the columns in parentheses, or LIKE and a table"));
        } else {
            return Ok(());
        }
    }
}

fn options(reader: &mut Reader, table: &mut CreateTable) -> Result<()> {
    reader.need(&Token::LParen)?;
    if reader.take(&Token::RParen) {
        return Ok(());
    }
    loop {
        let place = reader.place();
        let key = reader.need_text("the key of an option")?;
        reader.need(&Token::Eq)?;
        let value = reader.need_text("the value of an option")?;
        if table.options.iter().any(|option| option.key.eq_ignore_ascii_case(&key)) {
            return Err(Error::new(Code::SqlDuplicate, format!("option `{key}` is given twice")).at(place));
        }
        table.options.push(TableOption { key, value, place });
        if reader.take(&Token::RParen) {
            legacy_options::rename(&mut table.options);
            return Ok(());
        }
        if !reader.take(&Token::Comma) {
            return Err(reader.expected("`,` or `)` after an option"));
        }
    }
}

fn like(reader: &mut Reader) -> Result<LikeDecl> {
    let place = reader.place();
    let source = object_name(reader)?;
    let mut features = Vec::new();
    if reader.take(&Token::LParen) {
        while !reader.take(&Token::RParen) {
            let mode = if reader.take_word("INCLUDING") {
                LikeMode::Including
            } else if reader.take_word("EXCLUDING") {
                LikeMode::Excluding
            } else if reader.take_word("OVERWRITING") {
                LikeMode::Overwriting
            } else {
                return Err(reader.expected("INCLUDING, EXCLUDING or OVERWRITING"));
            };
            features.push((like_feature(reader)?, mode));
        }
    }
    Ok(LikeDecl { source, features, place })
}

fn like_feature(reader: &mut Reader) -> Result<LikeFeature> {
    const FEATURES: [(&str, LikeFeature); 8] = [
        ("ALL", LikeFeature::All),
        ("CONSTRAINTS", LikeFeature::Constraints),
        ("DISTRIBUTION", LikeFeature::Distribution),
        ("GENERATED", LikeFeature::Generated),
        ("METADATA", LikeFeature::Metadata),
        ("OPTIONS", LikeFeature::Options),
        ("PARTITIONS", LikeFeature::Partitions),
        ("WATERMARKS", LikeFeature::Watermarks),
    ];
    for (word, feature) in FEATURES {
        if reader.take_word(word) {
            return Ok(feature);
        }
    }
    Err(reader.expected("ALL, CONSTRAINTS, GENERATED, METADATA, OPTIONS, PARTITIONS or WATERMARKS"))
}

/// A column stands once.
fn check_names(table: &CreateTable) -> Result<()> {
    let mut seen = BTreeSet::new();
    for column in &table.columns {
        if !seen.insert(column.name.value.to_lowercase()) {
            return Err(Error::new(Code::SqlDuplicate, format!("column `{}` stands twice", column.name.value))
                .at(column.place.clone())
                .hint("names of columns differ in more than upper and lower case"));
        }
    }
    Ok(())
}
