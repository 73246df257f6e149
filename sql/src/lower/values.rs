//! `VALUES` and `SELECT` without FROM: refused, with the way to the same rows.

use datafusion_expr::logical_plan::{EmptyRelation, Values};
use qanat_proto::error::{Code, Error, Result};

use super::Lowering;
use super::relation::Relation;

const HINT: &str = "put the rows into a small CSV or JSON file and read it with the `filesystem` connector";

impl Lowering<'_> {
    pub(super) fn values(&mut self, _: &Values) -> Result<Relation> {
        Err(Error::new(Code::SqlUnsupported, "VALUES as a source is not supported yet").hint(HINT))
    }

    pub(super) fn empty(&mut self, _: &EmptyRelation) -> Result<Relation> {
        Err(Error::new(Code::SqlUnsupported, "SELECT without FROM is not supported yet").hint(HINT))
    }
}
