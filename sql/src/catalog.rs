//! Tables and views of one script, bound to their connectors.
//!
//! The planner feeds it each `CREATE` and asks for names. Binding checks everything that can be checked
//! without IO: the connector and its options, columns, metadata keys, the watermark, keys. Expressions
//! (computed columns, watermarks) are planned by the caller, which owns the planner: [`PlanExpr`].
//!
//! Names are exact first, then without regard to case if only one fits. The prefixes
//! `default_catalog.default_database` are accepted and mean nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use datafusion_common::DFSchema;
use datafusion_expr::{Expr, ExprSchemable};
use datafusion_sql::sqlparser::ast;
use datafusion_sql::sqlparser::ast::{Ident, ObjectName};
use qanat_proto::connector::{ConnectorCatalog, MetadataColumn, MetadataKind, Role, TableDescriptor, TableTraits};
use qanat_proto::error::nearest;
use qanat_proto::{Code, Error, Place, Result};

use crate::functions;
use crate::parse::{
    ColumnDecl, ColumnKind, CreateFunction, CreateTable, CreateView, DropObject, LikeFeature, LikeMode, place_of,
};
use crate::types::{resolve_type, sql_name};

/// Plans an expression over columns with these names and types.
pub type PlanExpr<'a> = dyn Fn(&ast::Expr, &SchemaRef) -> Result<Expr> + 'a;

/// A table as declared, checked and bound.
#[derive(Clone, Debug)]
pub struct BoundTable {
    pub descriptor: TableDescriptor,
    /// In declared order.
    pub columns: Vec<BoundColumn>,
    pub watermark: Option<BoundWatermark>,
    /// The declaration, with `LIKE` filled in.
    pub declaration: CreateTable,
}

#[derive(Clone, Debug)]
pub struct BoundColumn {
    pub field: FieldRef,
    pub kind: BoundColumnKind,
    pub place: Place,
}

#[derive(Clone, Debug)]
pub enum BoundColumnKind {
    /// Index into `descriptor.physical`.
    Physical(usize),
    /// Index into `descriptor.metadata`.
    Metadata(usize),
    /// Over the table's physical, metadata and earlier computed columns, by bare name.
    Computed(Expr),
}

/// `WATERMARK FOR column AS expr`; both are timestamps.
#[derive(Clone, Debug)]
pub struct BoundWatermark {
    pub column: String,
    /// Over the declared columns, by bare name.
    pub expr: Expr,
    pub place: Place,
}

impl BoundColumn {
    pub fn name(&self) -> &str {
        self.field.name()
    }

    pub fn data_type(&self) -> &DataType {
        self.field.data_type()
    }
}

impl BoundTable {
    /// All declared columns.
    pub fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.columns.iter().map(|column| Arc::clone(&column.field)).collect::<Vec<_>>()))
    }

    /// Columns that `INSERT INTO` fills: the physical ones, in declared order.
    pub fn writable(&self) -> impl Iterator<Item = &BoundColumn> {
        self.columns.iter().filter(|column| matches!(column.kind, BoundColumnKind::Physical(_)))
    }

    /// Exact first, then the only one that fits without regard to case.
    pub fn column(&self, name: &str) -> Option<&BoundColumn> {
        self.columns.iter().find(|column| column.name() == name).or_else(|| {
            let mut fitting = self.columns.iter().filter(|column| column.name().eq_ignore_ascii_case(name));
            fitting.next().filter(|_| fitting.next().is_none())
        })
    }

    /// What the table can do in a role.
    ///
    /// # Errors
    /// As [`ConnectorCatalog::check`], at the place of the option or table.
    pub fn traits(&self, role: Role, connectors: &dyn ConnectorCatalog) -> Result<TableTraits> {
        connectors.check(&self.descriptor, role).map_err(|error| locate(error, &self.declaration))
    }
}

#[derive(Clone, Debug)]
pub enum Entry {
    Table(Arc<BoundTable>),
    View(Arc<CreateView>),
}

#[derive(Clone, Debug, Default)]
pub struct Catalog {
    entries: BTreeMap<String, Entry>,
    /// By name in lower case, the function that each is.
    functions: BTreeMap<String, &'static str>,
}

impl Catalog {
    /// Adds a table. Returns the bound table, or the one that stood there before with `IF NOT EXISTS`.
    ///
    /// # Errors
    /// E0108 for a name that is taken; everything that binding checks.
    pub fn create_table(
        &mut self,
        declaration: &CreateTable,
        connectors: &dyn ConnectorCatalog,
        plan: &PlanExpr,
    ) -> Result<()> {
        let name = local_name(&declaration.name).map_err(|error| error.or_at(|| declaration.place.clone()))?;
        if !self.is_free(&name, declaration.if_not_exists, declaration.or_replace, &declaration.place)? {
            return Ok(());
        }
        let declaration = self.with_like(declaration)?;
        let table = bind(name.clone(), declaration, connectors, plan)?;
        self.entries.insert(name, Entry::Table(Arc::new(table)));
        Ok(())
    }

    /// # Errors
    /// E0108 for a name that is taken.
    pub fn create_view(&mut self, view: &CreateView) -> Result<()> {
        let name = local_name(&view.name).map_err(|error| error.or_at(|| view.place.clone()))?;
        if self.is_free(&name, view.if_not_exists, view.or_replace, &view.place)? {
            self.entries.insert(name, Entry::View(Arc::new(view.clone())));
        }
        Ok(())
    }

    /// Gives one of the functions there are another name.
    ///
    /// # Errors
    /// E0102 for a class that is none of them, E0108 for the name of another function.
    pub fn create_function(&mut self, function: &CreateFunction) -> Result<()> {
        let Some(known) = functions::of_class(&function.class) else {
            let message = format!("`{}` is no function that is known here", function.class);
            return Err(Error::new(Code::SqlUnsupported, message)
                .at(function.class_place.clone())
                .hint("code of one's own does not run yet; SHOW FUNCTIONS lists what there is"));
        };
        let name = function.name.value.to_lowercase();
        if name == known || self.functions.get(&name) == Some(&known) {
            return Ok(());
        }
        if self.functions.contains_key(&name) || functions::registry().has(&name) {
            if function.if_not_exists {
                return Ok(());
            }
            let message = format!("there is a function `{name}` already");
            return Err(Error::new(Code::SqlDuplicate, message).at(function.place.clone()));
        }
        self.functions.insert(name, known);
        Ok(())
    }

    /// The function that a name was given to.
    pub fn function(&self, name: &str) -> Option<&'static str> {
        self.functions.get(name).copied()
    }

    /// # Errors
    /// E0103 if there is no such table or view, unless `IF EXISTS`.
    pub fn drop(&mut self, target: &DropObject, is_view: bool) -> Result<()> {
        let name = local_name(&target.name).map_err(|error| error.or_at(|| target.place.clone()))?;
        let kind = if is_view { "view" } else { "table" };
        match self.find(&name) {
            Some((key, entry)) if matches!(entry, Entry::View(_)) == is_view => {
                let key = key.to_owned();
                self.entries.remove(&key);
                Ok(())
            }
            _ if target.if_exists => Ok(()),
            _ => Err(Error::new(Code::UnknownTable, format!("no {kind} `{name}`")).at(target.place.clone())),
        }
    }

    /// # Errors
    /// E0103 with the nearest name; the place is that of the name in the text.
    pub fn resolve(&self, name: &ObjectName) -> Result<&Entry> {
        use ast::Spanned;
        let place = place_of(name.span());
        let located = |error: Error| match &place {
            Some(place) => error.or_at(|| place.clone()),
            None => error,
        };
        let local = local_name(name).map_err(located)?;
        self.lookup(&local).map_err(located)
    }

    /// By the bare name.
    ///
    /// # Errors
    /// E0103 with the nearest name.
    pub fn lookup(&self, name: &str) -> Result<&Entry> {
        self.find(name).map(|(_, entry)| entry).ok_or_else(|| {
            let error = Error::new(Code::UnknownTable, format!("no table or view `{name}`"));
            match nearest(name, self.entries.keys().map(String::as_str)) {
                Some(other) => error.hint(format!("did you mean `{other}`?")),
                None if self.entries.is_empty() => error.hint("declare it with CREATE TABLE before it is used"),
                None => error.hint(format!("there are: {}", self.names().collect::<Vec<_>>().join(", "))),
            }
        })
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    pub fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(name, entry)| (name.as_str(), entry))
    }

    fn find(&self, name: &str) -> Option<(&str, &Entry)> {
        if let Some((key, entry)) = self.entries.get_key_value(name) {
            return Some((key, entry));
        }
        let mut fitting = self.entries.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        let (key, entry) = fitting.next()?;
        fitting.next().is_none().then_some((key.as_str(), entry))
    }

    fn is_free(&self, name: &str, if_not_exists: bool, or_replace: bool, place: &Place) -> Result<bool> {
        match self.entries.get(name) {
            None => Ok(true),
            Some(_) if or_replace => Ok(true),
            Some(_) if if_not_exists => Ok(false),
            Some(_) => Err(Error::new(Code::SqlDuplicate, format!("`{name}` is declared twice"))
                .at(place.clone())
                .hint("choose another name, or write CREATE OR REPLACE or IF NOT EXISTS")),
        }
    }

    /// Fills in what `LIKE` takes over from its source.
    fn with_like(&self, declaration: &CreateTable) -> Result<CreateTable> {
        let Some(like) = &declaration.like else { return Ok(declaration.clone()) };
        let source = match self.resolve(&like.source)? {
            Entry::Table(table) => &table.declaration,
            Entry::View(_) => {
                return Err(Error::new(Code::SqlUnsupported, "LIKE takes a table, not a view").at(like.place.clone()));
            }
        };
        let mut merged = declaration.clone();
        let takes = |feature| like.of(feature) != LikeMode::Excluding;
        let kept = |column: &&ColumnDecl| match column.kind {
            ColumnKind::Physical { .. } => true,
            ColumnKind::Computed { .. } => takes(LikeFeature::Generated),
            ColumnKind::Metadata { .. } => takes(LikeFeature::Metadata),
        };
        let mut columns: Vec<ColumnDecl> = source.columns.iter().filter(kept).cloned().collect();
        for column in &declaration.columns {
            let feature = match column.kind {
                ColumnKind::Metadata { .. } => LikeFeature::Metadata,
                ColumnKind::Physical { .. } | ColumnKind::Computed { .. } => LikeFeature::Generated,
            };
            match columns.iter_mut().find(|other| other.name.value == column.name.value) {
                Some(other) if like.of(feature) == LikeMode::Overwriting => *other = column.clone(),
                Some(_) => {
                    return Err(Error::new(
                        Code::SqlDuplicate,
                        format!("column `{}` is taken over by LIKE", column.name.value),
                    )
                    .at(column.place.clone())
                    .hint("leave it out, or write OVERWRITING GENERATED"));
                }
                None => columns.push(column.clone()),
            }
        }
        merged.columns = columns;
        if takes(LikeFeature::Watermarks) && merged.watermark.is_none() {
            merged.watermark = source.watermark.clone();
        }
        if takes(LikeFeature::Constraints) && merged.primary_key.is_empty() {
            merged.primary_key = source.primary_key.clone();
        }
        if takes(LikeFeature::Partitions) && merged.partitioned_by.is_empty() {
            merged.partitioned_by = source.partitioned_by.clone();
        }
        if takes(LikeFeature::Options) {
            for option in &source.options {
                match merged.options.iter().find(|own| own.key == option.key) {
                    None => merged.options.push(option.clone()),
                    Some(own) if like.of(LikeFeature::Options) != LikeMode::Overwriting => {
                        return Err(Error::new(
                            Code::SqlDuplicate,
                            format!("option `{}` is taken over by LIKE", own.key),
                        )
                        .at(own.place.clone())
                        .hint("write OVERWRITING OPTIONS"));
                    }
                    Some(_) => {}
                }
            }
        }
        Ok(merged)
    }
}

/// The last part of a name whose prefixes are the default catalog and database.
///
/// # Errors
/// E0103 for another catalog or database.
pub fn local_name(name: &ObjectName) -> Result<String> {
    let parts: Vec<&str> = name.0.iter().filter_map(|part| part.as_ident()).map(|ident| ident.value.as_str()).collect();
    let known = |text: &str, wanted: &str| text.eq_ignore_ascii_case(wanted);
    match parts.as_slice() {
        [table] => Ok((*table).to_owned()),
        [database, table] if known(database, "default_database") => Ok((*table).to_owned()),
        [catalog, database, table] if known(catalog, "default_catalog") && known(database, "default_database") => {
            Ok((*table).to_owned())
        }
        _ => Err(Error::new(Code::UnknownTable, format!("no table or view `{name}`"))
            .hint("there is one catalog and one database: default_catalog.default_database")),
    }
}

fn bind(
    name: String,
    declaration: CreateTable,
    connectors: &dyn ConnectorCatalog,
    plan: &PlanExpr,
) -> Result<BoundTable> {
    let options = options(&declaration);
    let connector = connector_name(&name, &declaration, connectors)?;
    let mut columns: Vec<Option<BoundColumn>> = vec![None; declaration.columns.len()];
    let mut physical: Vec<FieldRef> = Vec::new();
    let mut metadata: Vec<MetadataColumn> = Vec::new();
    let primary_key = key_columns(&declaration, &declaration.primary_key, "the primary key")?;
    let partitioned_by = key_columns(&declaration, &declaration.partitioned_by, "PARTITIONED BY")?;
    for (slot, column) in columns.iter_mut().zip(&declaration.columns) {
        let at = |error: Error| error.or_at(|| column.place.clone());
        let name = &column.name.value;
        let (field, kind) = match &column.kind {
            ColumnKind::Physical { data_type, nullable } => {
                let nullable = *nullable && !primary_key.contains(name);
                let field = Arc::new(Field::new(name, resolve_type(data_type).map_err(at)?, nullable));
                physical.push(Arc::clone(&field));
                (field, BoundColumnKind::Physical(physical.len() - 1))
            }
            ColumnKind::Metadata { data_type, from, .. } => {
                let kind = metadata_kind(from.as_deref().unwrap_or(name)).map_err(at)?;
                let declared = resolve_type(data_type).map_err(at)?;
                if declared != kind.data_type() {
                    let message = format!(
                        "metadata `{}` is {}, not {}",
                        kind.key(),
                        sql_name(&kind.data_type()),
                        sql_name(&declared)
                    );
                    let hint =
                        format!("declare it as {} and convert it in a computed column", sql_name(&kind.data_type()));
                    return Err(at(Error::new(Code::TypeMismatch, message).hint(hint)));
                }
                metadata.push(MetadataColumn { name: name.clone(), kind });
                (Arc::new(Field::new(name, declared, true)), BoundColumnKind::Metadata(metadata.len() - 1))
            }
            ColumnKind::Computed { .. } => continue,
        };
        *slot = Some(BoundColumn { field, kind, place: column.place.clone() });
    }
    compute(&declaration, &mut columns, plan)?;
    let columns: Vec<BoundColumn> = columns.into_iter().flatten().collect();
    if physical.is_empty() && columns.is_empty() {
        return Err(Error::new(Code::SqlSyntax, format!("table `{name}` has no columns")).at(declaration.place.clone()));
    }
    let watermark = watermark(&declaration, &columns, plan)?;
    let descriptor = TableDescriptor {
        name,
        connector,
        options,
        physical: Arc::new(Schema::new(physical)),
        metadata,
        primary_key,
        partitioned_by,
    };
    let table = BoundTable { descriptor, columns, watermark, declaration };
    check_roles(&table, connectors)?;
    Ok(table)
}

/// Options with lower-case keys; those that carry a column's name keep it as written.
fn options(declaration: &CreateTable) -> BTreeMap<String, String> {
    declaration.options.iter().map(|option| (option_key(&option.key), option.value.clone())).collect()
}

fn option_key(key: &str) -> String {
    if key.starts_with("fields.") { key.to_owned() } else { key.to_lowercase() }
}

fn connector_name(name: &str, declaration: &CreateTable, connectors: &dyn ConnectorCatalog) -> Result<String> {
    let known = || connectors.connectors().iter().map(|connector| connector.name).collect::<Vec<_>>();
    let Some(option) = declaration.options.iter().find(|option| option.key.eq_ignore_ascii_case("connector")) else {
        return Err(Error::new(Code::MissingOption, format!("table `{name}` has no option `connector`"))
            .at(declaration.place.clone())
            .hint(format!("write WITH ('connector' = '…'); connectors are: {}", known().join(", "))));
    };
    if let Some(connector) = connectors.connector(&option.value) {
        return Ok(connector.name.to_owned());
    }
    let error = Error::new(Code::UnknownConnector, format!("no connector `{}`", option.value)).at(option.place.clone());
    Err(match nearest(&option.value, known()) {
        Some(other) => error.hint(format!("did you mean `{other}`?")),
        None => error.hint(format!("connectors are: {}", known().join(", "))),
    })
}

/// Plans computed columns in order; each may use those before it.
fn compute(declaration: &CreateTable, columns: &mut [Option<BoundColumn>], plan: &PlanExpr) -> Result<()> {
    for (index, column) in declaration.columns.iter().enumerate() {
        let ColumnKind::Computed { expr } = &column.kind else { continue };
        let at = |error: Error| error.or_at(|| column.place.clone());
        let known: Vec<FieldRef> = columns.iter().flatten().map(|bound| Arc::clone(&bound.field)).collect();
        let schema = Arc::new(Schema::new(known));
        let expr = plan(expr, &schema).map_err(at)?;
        let (data_type, nullable) = type_of(&expr, &schema).map_err(at)?;
        let field = Arc::new(Field::new(&column.name.value, data_type, nullable));
        if let Some(slot) = columns.get_mut(index) {
            *slot = Some(BoundColumn { field, kind: BoundColumnKind::Computed(expr), place: column.place.clone() });
        }
    }
    Ok(())
}

fn type_of(expr: &Expr, schema: &SchemaRef) -> Result<(DataType, bool)> {
    let wrong = |error: datafusion_common::DataFusionError| Error::new(Code::TypeMismatch, error.strip_backtrace());
    let schema = DFSchema::try_from(schema.as_ref().clone()).map_err(wrong)?;
    Ok((expr.get_type(&schema).map_err(wrong)?, expr.nullable(&schema).map_err(wrong)?))
}

fn watermark(declaration: &CreateTable, columns: &[BoundColumn], plan: &PlanExpr) -> Result<Option<BoundWatermark>> {
    let Some(watermark) = &declaration.watermark else { return Ok(None) };
    let at = |error: Error| error.or_at(|| watermark.place.clone());
    let name = &watermark.column.value;
    let column = columns
        .iter()
        .find(|column| column.name() == name)
        .or_else(|| columns.iter().find(|column| column.name().eq_ignore_ascii_case(name)))
        .ok_or_else(|| at(unknown_column(name, columns.iter().map(BoundColumn::name))))?;
    if !matches!(column.data_type(), DataType::Timestamp(..)) {
        let message = format!("the watermark column `{name}` is {}, not a timestamp", sql_name(column.data_type()));
        let hint = match column.data_type() {
            DataType::Int64 => {
                format!("make one: `{name}_time AS TO_TIMESTAMP_LTZ({name}, 3)`, and WATERMARK FOR {name}_time")
            }
            DataType::Utf8 => format!("make one: `{name}_time AS TO_TIMESTAMP({name})`, and WATERMARK FOR {name}_time"),
            _ => "declare it as TIMESTAMP(3) or compute a timestamp from it".to_owned(),
        };
        return Err(at(Error::new(Code::TimeAttribute, message).hint(hint)));
    }
    let fields: Vec<FieldRef> = columns.iter().map(|bound| Arc::clone(&bound.field)).collect();
    let schema = Arc::new(Schema::new(fields));
    let expr = plan(&watermark.expr, &schema).map_err(at)?;
    let (data_type, _) = type_of(&expr, &schema).map_err(at)?;
    if !matches!(
        data_type,
        DataType::Timestamp(TimeUnit::Millisecond | TimeUnit::Microsecond | TimeUnit::Nanosecond, _)
    ) {
        let message = format!("the watermark of `{name}` is {}, not a timestamp", sql_name(&data_type));
        let hint = format!("write WATERMARK FOR {name} AS {name} - INTERVAL '5' SECOND");
        return Err(at(Error::new(Code::TimeAttribute, message).hint(hint)));
    }
    Ok(Some(BoundWatermark { column: column.name().to_owned(), expr, place: watermark.place.clone() }))
}

/// Names of the physical columns that a clause lists.
fn key_columns(declaration: &CreateTable, names: &[Ident], clause: &str) -> Result<Vec<String>> {
    let mut keys: Vec<String> = Vec::new();
    for ident in names {
        let place = place_of(ident.span).unwrap_or_else(|| declaration.place.clone());
        let fits = |exact: bool| {
            declaration.columns.iter().find(|column| {
                column.name.value == ident.value || (!exact && column.name.value.eq_ignore_ascii_case(&ident.value))
            })
        };
        let Some(column) = fits(true).or_else(|| fits(false)) else {
            let known = declaration.columns.iter().map(|column| column.name.value.as_str());
            return Err(unknown_column(&ident.value, known).at(place));
        };
        if !matches!(column.kind, ColumnKind::Physical { .. }) {
            let message = format!("{clause} takes physical columns; `{}` is computed or metadata", ident.value);
            return Err(Error::new(Code::SqlUnsupported, message).at(place));
        }
        if keys.contains(&column.name.value) {
            return Err(Error::new(Code::SqlDuplicate, format!("`{}` stands twice in {clause}", ident.value)).at(place));
        }
        keys.push(column.name.value.clone());
    }
    Ok(keys)
}

fn unknown_column<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> Error {
    let error = Error::new(Code::UnknownColumn, format!("no column `{name}`"));
    match nearest(name, known.clone()) {
        Some(other) => error.hint(format!("did you mean `{other}`?")),
        None => error.hint(format!("columns are: {}", known.collect::<Vec<_>>().join(", "))),
    }
}

fn metadata_kind(key: &str) -> Result<MetadataKind> {
    MetadataKind::ALL.into_iter().find(|kind| kind.key() == key).ok_or_else(|| {
        let keys = MetadataKind::ALL.map(MetadataKind::key);
        let error = Error::new(Code::UnknownColumn, format!("no metadata `{key}`"));
        match nearest(key, keys) {
            Some(other) => error.hint(format!("did you mean `{other}`?")),
            None => error.hint(format!("metadata keys are: {}; write METADATA FROM 'key'", keys.join(", "))),
        }
    })
}

/// A table that fits none of its connector's roles is wrong wherever it is used; say so at once.
fn check_roles(table: &BoundTable, connectors: &dyn ConnectorCatalog) -> Result<()> {
    let Some(connector) = connectors.connector(&table.descriptor.connector) else { return Ok(()) };
    let roles = [(connector.source, Role::Source), (connector.sink, Role::Sink), (connector.lookup, Role::Lookup)];
    let mut first = None;
    for (_, role) in roles.into_iter().filter(|(has, _)| *has) {
        match table.traits(role, connectors) {
            Ok(_) => return Ok(()),
            Err(error) => first = first.or(Some(error)),
        }
    }
    first.map_or(Ok(()), Err)
}

/// Finds the option that an error of the connector speaks of.
fn locate(error: Error, declaration: &CreateTable) -> Error {
    let named = match error.place() {
        Some(Place::Sql { .. }) => return error,
        Some(Place::Named(name)) => Some(name.clone()),
        _ => None,
    };
    let speaks_of = |key: &str| named.as_deref() == Some(key) || error.message().contains(&format!("`{key}`"));
    let option = declaration.options.iter().find(|option| speaks_of(&option_key(&option.key)));
    let column = || {
        declaration.columns.iter().find(|column| error.message().contains(&format!("column `{}`", column.name.value)))
    };
    let place = option
        .map(|option| option.place.clone())
        .or_else(|| column().map(|column| column.place.clone()))
        .unwrap_or_else(|| declaration.place.clone());
    error.at(place)
}

#[cfg(test)]
mod tests;
