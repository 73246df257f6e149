//! A view: its plan stands in for it wherever it is used.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion_common::{Column, Result};
use datafusion_expr::{Expr, LogicalPlan, LogicalPlanBuilder, TableSource, TableType};
use qanat_proto::error::{Code, Error};

use super::failure::carry;
use crate::parse::CreateView;

#[derive(Debug)]
pub(crate) struct View {
    plan: LogicalPlan,
    schema: SchemaRef,
}

impl View {
    /// # Errors
    /// If the view names another number of columns than its query has.
    pub(crate) fn try_new(plan: LogicalPlan, view: &CreateView) -> Result<Self> {
        let plan = if view.columns.is_empty() {
            plan
        } else {
            let width = plan.schema().fields().len();
            if view.columns.len() != width {
                let message =
                    format!("view `{}` names {} columns, and its query has {width}", view.name, view.columns.len());
                return Err(carry(Error::new(Code::SqlSyntax, message).at(view.place.clone())));
            }
            let columns: Vec<Column> = plan.schema().columns();
            let exprs =
                columns.into_iter().zip(&view.columns).map(|(column, name)| Expr::Column(column).alias(&name.value));
            LogicalPlanBuilder::from(plan).project(exprs.collect::<Vec<_>>())?.build()?
        };
        let schema = Arc::clone(plan.schema().inner());
        Ok(Self { plan, schema })
    }
}

impl TableSource for View {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn get_logical_plan(&self) -> Option<Cow<'_, LogicalPlan>> {
        Some(Cow::Borrowed(&self.plan))
    }
}
