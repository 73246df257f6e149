//! `COALESCE` that looks at an argument only in the rows in which those before it are NULL: `COALESCE(a, 1 / b)` must
//! not fail where `b` is 0 and `a` is not NULL. As a CASE each argument would stand in it twice, and be computed twice.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::compute::kernels::zip::zip;
use arrow::compute::{and, is_null};
use arrow::datatypes::{DataType, Schema};
use arrow::record_batch::RecordBatch;
use datafusion_common::{DataFusionError, Result};
use datafusion_expr::ColumnarValue;
use datafusion_physical_expr::{PhysicalExpr, ScalarFunctionExpr};

#[derive(Debug)]
pub(super) struct Coalesced {
    args: Vec<Arc<dyn PhysicalExpr>>,
    data_type: DataType,
    is_nullable: bool,
}

impl Coalesced {
    /// The call, whose arguments have one type.
    pub(super) fn of(call: &ScalarFunctionExpr) -> Arc<dyn PhysicalExpr> {
        let (data_type, is_nullable) = (call.return_type().clone(), call.nullable());
        Arc::new(Self { args: call.args().to_vec(), data_type, is_nullable })
    }
}

impl PartialEq for Coalesced {
    fn eq(&self, other: &Self) -> bool {
        self.args == other.args
    }
}

impl Eq for Coalesced {}

impl Hash for Coalesced {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.args.hash(state);
    }
}

impl fmt::Display for Coalesced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_sql(f)
    }
}

impl PhysicalExpr for Coalesced {
    fn data_type(&self, _input_schema: &Schema) -> Result<DataType> {
        Ok(self.data_type.clone())
    }

    fn nullable(&self, _input_schema: &Schema) -> Result<bool> {
        Ok(self.is_nullable)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let rows = batch.num_rows();
        let missing = || DataFusionError::Internal("COALESCE lost its arguments".to_owned());
        let (first, others) = self.args.split_first().ok_or_else(missing)?;
        let mut found = first.evaluate(batch)?.into_array(rows)?;
        let mut open = is_null(&found)?;
        for other in others {
            if !open.has_true() {
                break;
            }
            let next = other.evaluate_selection(batch, &open)?.into_array(rows)?;
            found = zip(&open, &next, &found)?;
            open = and(&open, &is_null(&next)?)?;
        }
        Ok(ColumnarValue::Array(found))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        self.args.iter().collect()
    }

    fn with_new_children(self: Arc<Self>, args: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        Ok(Arc::new(Self { args, data_type: self.data_type.clone(), is_nullable: self.is_nullable }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("coalesce(")?;
        for (position, arg) in self.args.iter().enumerate() {
            if position > 0 {
                f.write_str(", ")?;
            }
            arg.fmt_sql(f)?;
        }
        f.write_str(")")
    }
}
