//! `LIKE … ESCAPE` and `SIMILAR TO` with patterns that are literals, as what DataFusion knows: a pattern with
//! `\\` before what is meant itself, and a regular expression.

use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{DataFusionError, Result, ScalarValue};
use datafusion_expr::{Expr, Like, LogicalPlan, lit, not};
use qanat_proto::{Code, Error};

use crate::functions::registry;

/// A regular expression over a text: true if it matches anywhere.
const MATCHES: &str = "regexp_like";

pub(crate) fn rewrite(plan: LogicalPlan) -> Result<LogicalPlan> {
    super::each_expression(plan, |expr, _| expression(expr))
}

/// The same for one expression.
pub(crate) fn expression(expr: Expr) -> Result<Transformed<Expr>> {
    expr.transform_up(|expr| match expr {
        Expr::Like(like) if like.escape_char.is_some_and(|escape| escape != '\\') => {
            let pattern = unescaped(literal(&like, "LIKE … ESCAPE")?, like.escape_char)?;
            let pattern = pattern.into_iter().fold(String::new(), |mut text, (c, is_wild)| {
                if !is_wild && matches!(c, '%' | '_' | '\\') {
                    text.push('\\');
                }
                text.push(c);
                text
            });
            Ok(Transformed::yes(Expr::Like(Like { pattern: Box::new(lit(pattern)), escape_char: None, ..like })))
        }
        Expr::SimilarTo(like) => {
            let pattern = regular(&unescaped(literal(&like, "SIMILAR TO")?, like.escape_char)?);
            let function = registry().scalar(MATCHES).ok_or_else(|| refused("SIMILAR TO"))?;
            let matches = function.call(vec![*like.expr, lit(pattern)]);
            Ok(Transformed::yes(if like.negated { not(matches) } else { matches }))
        }
        other => Ok(Transformed::no(other)),
    })
}

fn literal<'l>(like: &'l Like, what: &str) -> Result<&'l str> {
    match like.pattern.as_ref() {
        Expr::Literal(ScalarValue::Utf8(Some(text)) | ScalarValue::Utf8View(Some(text)), _) => Ok(text),
        _ => Err(refused(what)),
    }
}

fn refused(what: &str) -> DataFusionError {
    let error = Error::new(Code::SqlUnsupported, format!("{what} takes a pattern that is a literal"));
    DataFusionError::External(Box::new(error.hint("REGEXP takes any text as a pattern")))
}

/// The characters of a pattern, and whether each may have a meaning.
fn unescaped(pattern: &str, escape: Option<char>) -> Result<Vec<(char, bool)>> {
    let mut characters = pattern.chars();
    let mut all = Vec::new();
    while let Some(c) = characters.next() {
        if Some(c) != escape {
            all.push((c, true));
            continue;
        }
        let Some(meant) = characters.next() else {
            let error =
                Error::new(Code::TypeMismatch, format!("the pattern `{pattern}` ends with its escape character"));
            return Err(DataFusionError::External(Box::new(error)));
        };
        all.push((meant, false));
    }
    Ok(all)
}

/// The regular expression of a pattern of SQL: `%` and `_` are wild, `.`, `^`, `$` and `\\` are not.
fn regular(pattern: &[(char, bool)]) -> String {
    let mut regex = String::from("^(?s:");
    let mut in_class = false;
    for (c, may_mean) in pattern {
        match c {
            '%' if *may_mean && !in_class => regex.push_str(".*"),
            '_' if *may_mean && !in_class => regex.push('.'),
            '.' | '$' | '\\' => regex.extend(['\\', *c]),
            '^' if !in_class => regex.extend(['\\', *c]),
            c if !may_mean && c.is_ascii_punctuation() => regex.extend(['\\', *c]),
            c => {
                in_class = *may_mean && (*c == '[' || in_class && *c != ']');
                regex.push(*c);
            }
        }
    }
    regex.push_str(")$");
    regex
}
