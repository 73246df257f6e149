//! Groups of one slice for one integer-like key (or none) and plain aggregates: the fast path.
//!
//! States and results are the same columns that DataFusion's accumulators give, so the two kinds of
//! table are exchangeable.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, UInt64Array};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{ArrowNativeType, DataType, Float64Type, Int64Type, UInt64Type};
use qanat_proto::error::{Code, Error, Result};

use super::super::evaluate::internal;
use super::calls::{Call, Calls, Inputs, States};
use super::extreme;
use super::record_table::{CHANGED, HEADER_WORDS, RecordTable, Selection, groups_max};
use super::slice_table::Results;

/// What the fast path does for one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Rows, whatever the argument.
    CountRows,
    /// Rows whose argument is not NULL.
    Count,
    SumInteger,
    SumFloat,
    MinInteger,
    MaxInteger,
    MinFloat,
    MaxFloat,
    /// Two words: count and sum.
    AverageFloat,
}

/// One call on the fast path.
#[derive(Clone, Copy, Debug)]
struct Step {
    kind: Kind,
    /// Input column of the argument.
    argument: usize,
    filter: Option<usize>,
    /// First word in a record.
    offset: usize,
    /// Flag that says the value is not NULL.
    flag: u64,
    /// First state column.
    state: usize,
}

/// The program of the fast path for a node.
pub(crate) struct IntegerPlan {
    steps: Vec<Step>,
    initial: Vec<u64>,
    nullable: Vec<u64>,
    has_key: bool,
    track_changes: bool,
    /// Groups that the tables before had, the next one may have.
    groups: AtomicUsize,
}

impl IntegerPlan {
    /// None if the node needs the general path. `argument_types`: by input column.
    pub(crate) fn new(calls: &Calls, argument_types: &[DataType], track_changes: bool) -> Option<Self> {
        let has_key = match calls.key_types.as_slice() {
            [] => false,
            [key] if is_integer_like(key) => true,
            _ => return None,
        };
        let mut steps = Vec::new();
        let mut initial = Vec::new();
        for (i, call) in calls.calls.iter().enumerate() {
            let kind = Kind::of(call, calls, argument_types)?;
            // Bit 63 says "changed".
            if i >= 63 {
                return None;
            }
            steps.push(Step {
                kind,
                argument: call.arguments[0],
                filter: call.filter,
                offset: HEADER_WORDS + initial.len(),
                flag: 1 << i,
                state: call.states.start,
            });
            initial.extend_from_slice(kind.initial());
        }
        let nullable = steps.iter().filter(|step| step.kind.has_null()).map(|step| step.flag).collect();
        Some(Self { steps, initial, nullable, has_key, track_changes, groups: AtomicUsize::new(0) })
    }

    /// A table is done with. Small ones among large ones, such as those of late rows, count little.
    fn note_groups(&self, groups: usize) {
        if groups == 0 {
            return;
        }
        let before = self.groups.load(Ordering::Relaxed);
        self.groups.store(groups.max(before - before / 8), Ordering::Relaxed);
    }

    fn records(&self) -> RecordTable {
        RecordTable::new(self.initial.clone(), self.groups.load(Ordering::Relaxed))
    }

    /// The accumulators of a group without rows.
    pub(crate) fn initial(&self) -> &[u64] {
        &self.initial
    }

    /// Flags of the calls whose result may be NULL.
    pub(crate) fn nullable(&self) -> &[u64] {
        &self.nullable
    }

    /// Whether what was added can be taken away again, word by word, without loss.
    pub(crate) fn is_reversible(&self) -> bool {
        self.steps.iter().all(|step| step.kind.is_wrapping_sum())
    }

    /// Refuses more groups than a table of this plan, or of one with a few words more, can hold.
    pub(crate) fn check_room(&self, groups: usize) -> Result<()> {
        if groups < groups_max(self.initial.len() + self.nullable.len()) {
            return Ok(());
        }
        Err(Error::new(Code::MemoryLimit, "one window holds more groups than an operator can address")
            .hint("use a shorter window or a higher parallelism"))
    }

    /// Keys and results of groups. `flags`: of these groups; None: all values are there.
    pub(crate) fn results(
        &self,
        calls: &Calls,
        records: &RecordTable,
        selection: &Selection,
        flags: Option<&[u64]>,
    ) -> Result<Results> {
        let offsets: Vec<usize> = self.steps.iter().flat_map(Step::offsets).collect();
        let with_key: Vec<usize> = calls.key_types.iter().map(|_| 0).chain(offsets).collect();
        let columns = records.columns(selection, &with_key);
        let rows = columns.first().map_or_else(|| records.count(selection), Vec::len);
        let mut columns = columns.into_iter();
        let keys = match calls.key_types.first() {
            Some(_) => keys(calls, columns.next().unwrap_or_default(), records.null_in(selection))?,
            None => Vec::new(),
        };
        let mut values = Vec::with_capacity(self.steps.len());
        for (step, call) in self.steps.iter().zip(&calls.calls) {
            let words = columns.next().unwrap_or_default();
            if step.kind == Kind::AverageFloat {
                let sums = columns.next().unwrap_or_default();
                let averages: Vec<f64> =
                    words.into_iter().zip(sums).map(|(count, sum)| f64::from_bits(sum) / count as f64).collect();
                values.push(Arc::new(Float64Array::new(averages.into(), step.nulls(flags))) as ArrayRef);
            } else {
                values.push(step.column(words, flags, call.aggregate.field().data_type())?);
            }
        }
        Ok(Results { keys, values, rows })
    }
}

/// The key column; `null`: the row of the NULL key.
fn keys(calls: &Calls, words: Vec<u64>, null: Option<usize>) -> Result<Vec<ArrayRef>> {
    let [key_type] = calls.key_types.as_slice() else { return Ok(Vec::new()) };
    let values: ScalarBuffer<i64> = words_as(words);
    let nulls = null.map(|null| NullBuffer::new(BooleanBuffer::collect_bool(values.len(), |i| i != null)));
    Ok(vec![from_integers(Int64Array::new(values, nulls), key_type)?])
}

impl Kind {
    fn of(call: &Call, calls: &Calls, argument_types: &[DataType]) -> Option<Self> {
        if !call.plain || (call.arguments.len() != 1) {
            return None;
        }
        let argument = &argument_types[call.arguments[0]];
        let states: Vec<&DataType> = calls.state_fields[call.states.clone()].iter().map(|f| f.data_type()).collect();
        let result = call.aggregate.field();
        let integer_like = is_integer_like(argument) && result.data_type() == argument;
        let float = *argument == DataType::Float64 && *result.data_type() == DataType::Float64;
        match (call.function.as_str(), states.as_slice()) {
            ("count", [DataType::Int64]) if call.counts_rows => Some(Self::CountRows),
            ("count", [DataType::Int64]) => Some(Self::Count),
            ("sum", [DataType::Int64]) if *argument == DataType::Int64 => Some(Self::SumInteger),
            ("sum", [DataType::Float64]) if float => Some(Self::SumFloat),
            ("min", [_]) if integer_like => Some(Self::MinInteger),
            ("max", [_]) if integer_like => Some(Self::MaxInteger),
            ("min", [DataType::Float64]) if float => Some(Self::MinFloat),
            ("max", [DataType::Float64]) if float => Some(Self::MaxFloat),
            ("avg", [DataType::UInt64, DataType::Float64]) if float => Some(Self::AverageFloat),
            _ => None,
        }
    }

    fn initial(self) -> &'static [u64] {
        const MAX: u64 = i64::MAX as u64;
        const MIN: u64 = i64::MIN as u64;
        match self {
            Self::CountRows | Self::Count | Self::SumInteger | Self::SumFloat => &[0],
            Self::MinInteger => &[MAX],
            Self::MaxInteger => &[MIN],
            Self::MinFloat => &[0x7FF8_0000_0000_0000],
            Self::MaxFloat => &[0xFFF0_0000_0000_0000],
            Self::AverageFloat => &[0, 0],
        }
    }

    /// Whether two states become one by adding their words, groups without values included.
    fn is_wrapping_sum(self) -> bool {
        matches!(self, Self::CountRows | Self::Count | Self::SumInteger)
    }

    /// Whether a group without values gives NULL.
    fn has_null(self) -> bool {
        !matches!(self, Self::CountRows | Self::Count)
    }
}

/// Types that an `i64` stands for, without loss and in order.
fn is_integer_like(data_type: &DataType) -> bool {
    use DataType::{Date32, Int8, Int16, Int32, Int64, Timestamp, UInt8, UInt16, UInt32};
    matches!(data_type, Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | Date32 | Timestamp(..))
}

#[derive(Clone)]
pub(crate) struct IntegerTable {
    calls: Arc<Calls>,
    plan: Arc<IntegerPlan>,
    records: RecordTable,
    bases: Vec<u32>,
}

impl Drop for IntegerTable {
    fn drop(&mut self) {
        self.plan.note_groups(self.len());
    }
}

impl IntegerTable {
    pub(crate) fn new(calls: &Arc<Calls>, plan: &Arc<IntegerPlan>) -> Self {
        Self { calls: Arc::clone(calls), plan: Arc::clone(plan), records: plan.records(), bases: Vec::new() }
    }

    pub(crate) fn update(&mut self, inputs: &Inputs) -> Result<()> {
        let plan = Arc::clone(&self.plan);
        let present: Vec<Option<NullBuffer>> = plan.steps.iter().map(|step| step.present(inputs)).collect();
        // Flags of values that no row leaves out are set while the record is looked up.
        let mut flags = if plan.track_changes { CHANGED } else { 0 };
        for (step, present) in plan.steps.iter().zip(&present) {
            if present.is_none() && step.kind.has_null() {
                flags |= step.flag;
            }
        }
        self.look_up(&inputs.columns[..usize::from(plan.has_key)], inputs.rows, flags)?;
        for (step, present) in plan.steps.iter().zip(&present) {
            let values = &inputs.columns[step.argument];
            match step.kind {
                Kind::CountRows | Kind::Count => {
                    self.add_integers(step, step.offset, std::iter::repeat_n(1, inputs.rows), present.as_ref());
                }
                Kind::AverageFloat => {
                    self.add_integers(step, step.offset, std::iter::repeat_n(1, inputs.rows), present.as_ref());
                    let values = values.as_primitive::<Float64Type>().values().iter().copied();
                    self.add_floats(step, step.offset + 1, values, present.as_ref());
                }
                _ => self.fold(step, values, present.as_ref())?,
            }
        }
        Ok(())
    }

    pub(crate) fn merge(&mut self, states: &States, changed: bool) -> Result<()> {
        let plan = Arc::clone(&self.plan);
        let flags = if changed && plan.track_changes { CHANGED } else { 0 };
        self.look_up(&states.keys, states.rows, flags)?;
        // A state that is not NULL says so by its group's flag.
        let all = NullBuffer::new_valid(states.rows);
        for step in &plan.steps {
            let column = &states.states[step.state];
            let present = column.nulls().filter(|n| n.null_count() > 0);
            match step.kind {
                Kind::CountRows | Kind::Count => {
                    let values = column.as_primitive::<Int64Type>().values().iter().copied();
                    self.add_counts(step, values, present);
                }
                Kind::AverageFloat => {
                    let counts = column.as_primitive::<UInt64Type>().values().iter().map(|v| *v as i64);
                    self.add_counts(step, counts, present);
                    let sums = &states.states[step.state + 1];
                    let present = sums.nulls().unwrap_or(&all);
                    let sums = sums.as_primitive::<Float64Type>().values().iter().copied();
                    self.add_floats(step, step.offset + 1, sums, Some(present));
                }
                _ => self.fold(step, column, Some(present.unwrap_or(&all)))?,
            }
        }
        Ok(())
    }

    /// Adds the groups of another table of the same plan.
    pub(crate) fn absorb(&mut self, other: &Self) -> Result<()> {
        let plan = Arc::clone(&self.plan);
        let flags = if plan.track_changes { CHANGED } else { 0 };
        self.plan.check_room(self.len() + other.len())?;
        // Flags, then accumulators, as they stand behind the key.
        if plan.is_reversible() {
            self.records.absorb(&other.records, |_, mine, theirs| {
                mine[0] |= theirs[0] & !CHANGED | flags;
                for (mine, theirs) in mine.iter_mut().zip(theirs).skip(1) {
                    *mine = mine.wrapping_add(*theirs);
                }
            });
            return Ok(());
        }
        self.records.absorb(&other.records, |_, mine, theirs| {
            mine[0] |= theirs[0] & !CHANGED | flags;
            for step in &plan.steps {
                let at = step.offset - 1;
                match step.kind {
                    kind if kind.is_wrapping_sum() => mine[at] = mine[at].wrapping_add(theirs[at]),
                    _ if theirs[0] & step.flag == 0 => {}
                    Kind::AverageFloat => {
                        mine[at] = mine[at].wrapping_add(theirs[at]);
                        add_float(&mut mine[at + 1], f64::from_bits(theirs[at + 1]));
                    }
                    Kind::SumFloat => add_float(&mut mine[at], f64::from_bits(theirs[at])),
                    Kind::MinInteger => min_integer(&mut mine[at], theirs[at] as i64),
                    Kind::MaxInteger => max_integer(&mut mine[at], theirs[at] as i64),
                    Kind::MinFloat => min_float(&mut mine[at], f64::from_bits(theirs[at])),
                    Kind::MaxFloat => max_float(&mut mine[at], f64::from_bits(theirs[at])),
                    // Wrapping sums: above.
                    Kind::CountRows | Kind::Count | Kind::SumInteger => {}
                }
            }
        });
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.records.bytes() + self.bases.capacity() * size_of::<u32>()
    }

    pub(crate) fn take_changed(&mut self) -> Result<Vec<States>> {
        let bases = self.records.take_changed();
        if bases.is_empty() { Ok(Vec::new()) } else { Ok(vec![self.states(&Selection::Bases(bases))?]) }
    }

    pub(crate) fn contents(&self) -> Result<Vec<States>> {
        if self.len() == 0 { Ok(Vec::new()) } else { Ok(vec![self.states(&Selection::Groups(0..self.len()))?]) }
    }

    pub(crate) fn take_states(&mut self) -> Result<Vec<States>> {
        let contents = self.contents()?;
        self.plan.note_groups(self.len());
        self.records = self.plan.records();
        Ok(contents)
    }

    /// Keys and results of groups, by number.
    pub(crate) fn results(&self, groups: Range<usize>) -> Result<Results> {
        let groups = Selection::Groups(groups);
        let flags = if self.plan.nullable.is_empty() { None } else { self.records.columns(&groups, &[1]).pop() };
        self.plan.results(&self.calls, &self.records, &groups, flags.as_deref())
    }

    pub(crate) fn records(&self) -> &RecordTable {
        &self.records
    }

    fn states(&self, groups: &Selection) -> Result<States> {
        let fields = &self.calls.state_fields;
        let offsets: Vec<usize> = [0, 1].into_iter().chain(self.plan.steps.iter().flat_map(Step::offsets)).collect();
        let mut columns = self.records.columns(groups, &offsets).into_iter();
        let (key, flags) = (columns.next().unwrap_or_default(), columns.next().unwrap_or_default());
        let mut states = Vec::with_capacity(fields.len());
        for step in &self.plan.steps {
            let words = columns.next().unwrap_or_default();
            if step.kind == Kind::AverageFloat {
                states.push(Arc::new(UInt64Array::from(words)) as ArrayRef);
                let sums = columns.next().unwrap_or_default();
                states.push(step.column(sums, Some(&flags), &DataType::Float64)?);
            } else {
                states.push(step.column(words, Some(&flags), fields[step.state].data_type())?);
            }
        }
        let rows = flags.len();
        Ok(States { keys: keys(&self.calls, key, self.records.null_in(groups))?, states, rows })
    }

    /// Finds the record of each row, into `self.bases`.
    fn look_up(&mut self, keys: &[ArrayRef], rows: usize, flags: u64) -> Result<()> {
        self.plan.check_room(self.len() + rows)?;
        let [key] = keys else {
            self.bases.clear();
            if rows > 0 {
                let base = self.records.sole_group(flags);
                self.bases.resize(rows, base);
            }
            return Ok(());
        };
        let key = to_integers(key)?;
        match key.nulls().filter(|nulls| nulls.null_count() > 0) {
            None => self.records.find_or_add(key.values(), flags, &mut self.bases),
            Some(nulls) => {
                self.records.find_or_add_nullable(key.values(), |i| nulls.is_null(i), flags, &mut self.bases);
            }
        }
        Ok(())
    }

    /// Folds values into one word per group. `present` None: every row has a value, and its flag is set.
    fn fold(&mut self, step: &Step, values: &ArrayRef, present: Option<&NullBuffer>) -> Result<()> {
        match step.kind {
            Kind::SumInteger => {
                self.add_integers(step, step.offset, to_integers(values)?.values().iter().copied(), present);
            }
            Kind::SumFloat => {
                let values = values.as_primitive::<Float64Type>().values().iter().copied();
                self.add_floats(step, step.offset, values, present);
            }
            Kind::MinInteger => self.fold_words(step, to_integers(values)?.values(), present, min_integer),
            Kind::MaxInteger => self.fold_words(step, to_integers(values)?.values(), present, max_integer),
            Kind::MinFloat => {
                self.fold_words(step, values.as_primitive::<Float64Type>().values(), present, min_float);
            }
            Kind::MaxFloat => {
                self.fold_words(step, values.as_primitive::<Float64Type>().values(), present, max_float);
            }
            Kind::CountRows | Kind::Count | Kind::AverageFloat => {
                return Err(Error::internal("a count is not folded value by value"));
            }
        }
        Ok(())
    }

    fn fold_words<V: Copy>(
        &mut self,
        step: &Step,
        values: &[V],
        present: Option<&NullBuffer>,
        f: impl Fn(&mut u64, V),
    ) {
        self.fold_iter(step, step.offset, values.iter().copied(), present, f);
    }

    fn add_integers(
        &mut self,
        step: &Step,
        offset: usize,
        values: impl Iterator<Item = i64>,
        present: Option<&NullBuffer>,
    ) {
        self.fold_iter(step, offset, values, present, |sum, v| *sum = sum.wrapping_add(v as u64));
    }

    /// Adds counts of a first phase, which says nothing of the value beside them.
    fn add_counts(&mut self, step: &Step, counts: impl Iterator<Item = i64>, present: Option<&NullBuffer>) {
        let add = |sum: &mut u64, v: i64| *sum = sum.wrapping_add(v as u64);
        match present {
            None => self.records.each(&self.bases, step.offset, counts, add),
            Some(present) => {
                self.records.each_valid(&self.bases, step.offset, counts, |i| present.is_valid(i), 0, add);
            }
        }
    }

    fn add_floats(
        &mut self,
        step: &Step,
        offset: usize,
        values: impl Iterator<Item = f64>,
        present: Option<&NullBuffer>,
    ) {
        self.fold_iter(step, offset, values, present, add_float);
    }

    #[inline]
    fn fold_iter<V: Copy>(
        &mut self,
        step: &Step,
        offset: usize,
        values: impl Iterator<Item = V>,
        present: Option<&NullBuffer>,
        f: impl Fn(&mut u64, V),
    ) {
        match present {
            None => self.records.each(&self.bases, offset, values, f),
            Some(present) => {
                self.records.each_valid(&self.bases, offset, values, |i| present.is_valid(i), step.flag, f);
            }
        }
    }
}

fn add_float(sum: &mut u64, value: f64) {
    *sum = (f64::from_bits(*sum) + value).to_bits();
}

fn min_integer(min: &mut u64, value: i64) {
    *min = (*min as i64).min(value) as u64;
}

fn max_integer(max: &mut u64, value: i64) {
    *max = (*max as i64).max(value) as u64;
}

fn min_float(min: &mut u64, value: f64) {
    if extreme::is_less(value, f64::from_bits(*min)) {
        *min = value.to_bits();
    }
}

fn max_float(max: &mut u64, value: f64) {
    if extreme::is_less(f64::from_bits(*max), value) {
        *max = value.to_bits();
    }
}

impl Step {
    /// The words of a record that the call has.
    fn offsets(&self) -> impl Iterator<Item = usize> + use<> {
        let words = if self.kind == Kind::AverageFloat { 2 } else { 1 };
        self.offset..self.offset + words
    }

    /// Rows that the call takes: the filter holds and the argument is not NULL. None: all.
    fn present(&self, inputs: &Inputs) -> Option<NullBuffer> {
        let argument = &inputs.columns[self.argument];
        let nulls = if self.kind == Kind::CountRows { None } else { argument.nulls().filter(|n| n.null_count() > 0) };
        let filter = self.filter.map(|slot| NullBuffer::new(inputs.columns[slot].as_boolean().values().clone()));
        let filter = filter.filter(|f| f.null_count() > 0);
        NullBuffer::union(nulls, filter.as_ref())
    }

    /// NULL where a group has no value; `flags`: of the groups, None if all have one.
    fn nulls(&self, flags: Option<&[u64]>) -> Option<NullBuffer> {
        let flags = flags?;
        if !self.kind.has_null() || flags.iter().fold(self.flag, |all, flags| all & flags) != 0 {
            return None;
        }
        Some(NullBuffer::new(BooleanBuffer::collect_bool(flags.len(), |i| flags[i] & self.flag != 0)))
    }

    /// Words of groups with `flags` as a column of `data_type`.
    fn column(&self, mut words: Vec<u64>, flags: Option<&[u64]>, data_type: &DataType) -> Result<ArrayRef> {
        let nulls = self.nulls(flags);
        if *data_type == DataType::Float64 {
            return Ok(Arc::new(Float64Array::new(words_as(words), nulls)));
        }
        if let Some(nulls) = &nulls {
            // Words of groups without a value are starting values, which a narrow type could not hold.
            words.iter_mut().enumerate().filter(|(i, _)| nulls.is_null(*i)).for_each(|(_, word)| *word = 0);
        }
        from_integers(Int64Array::new(words_as(words), nulls), data_type)
    }
}

/// The same bits as another type of 64 bits.
fn words_as<T: ArrowNativeType>(words: Vec<u64>) -> ScalarBuffer<T> {
    let rows = words.len();
    ScalarBuffer::new(Buffer::from_vec(words), 0, rows)
}

/// An integer-like column as `i64` values.
fn to_integers(column: &ArrayRef) -> Result<Int64Array> {
    if let Some(values) = column.as_primitive_opt::<Int64Type>() {
        return Ok(values.clone());
    }
    let narrow =
        if *column.data_type() == DataType::Date32 { cast(column, &DataType::Int32) } else { Ok(Arc::clone(column)) };
    let wide = cast(&narrow.map_err(internal)?, &DataType::Int64).map_err(internal)?;
    Ok(wide.as_primitive::<Int64Type>().clone())
}

/// The inverse of [`to_integers`].
fn from_integers(values: Int64Array, data_type: &DataType) -> Result<ArrayRef> {
    let values: ArrayRef = Arc::new(values);
    match data_type {
        DataType::Int64 => Ok(values),
        DataType::Date32 => {
            let days = cast(&values, &DataType::Int32).map_err(internal)?;
            cast(&days, data_type).map_err(internal)
        }
        _ => cast(&values, data_type).map_err(internal),
    }
}
