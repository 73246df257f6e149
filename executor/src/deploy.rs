//! From a deployment to running tasks: builds every subtask of a generation, wired and restored.

mod wiring;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use crossbeam::channel::bounded;
use qanat_connectors::contract::{ReadRequest, Sink, Source, Split, StopFlag};
use qanat_executor_core::partition::Partitioner;
use qanat_executor_core::watermark;
use qanat_proto::control::{Deployment, EdgeCount};
use qanat_proto::graph::{
    Operator as LogicalOperator, OperatorKind, Partitioning, SourceNode, WindowAggregateNode, WindowSource,
};
use qanat_proto::ids::{Epoch, KeyGroupRange, OperatorId, SplitId, SubtaskId};
use qanat_proto::manifest::{OperatorState, SplitState};
use qanat_proto::physical::{
    Phase, PhysicalEdge, PhysicalGraph, PhysicalOperator, Routing, partial_id, runs_in_two_phases,
};
use qanat_proto::receipt::{OperatorCounts, RowSum};
use qanat_proto::{Error, Result, limits};
use qanat_storage::state::Table;

use crate::checkpoint::{SnapshotWriter, TableFiles};
use crate::exchange::{self, Exchange, LinkHandles, OutgoingEdge};
use crate::lookup;
use crate::memory::JobMemory;
use crate::metrics::{JobMetrics, SourceMetrics, SubtaskMetrics, label};
use crate::node::{CommitTargets, LaneThreads, NodeConfig, Reporter};
use crate::operator::{self, BoxedOperator, OperatorContext};
use crate::pushdown::pushed_filter;
use crate::spill::{Spill, SpillLane};
use crate::tap::Tap;
use crate::task::alignment::{Alignment, AlignmentGroup, alignment_groups};
use crate::task::chain::{Chain, ChainContext, Node, Stage};
use crate::task::channel::Channel;
use crate::task::lane::{self, SinkLane};
use crate::task::pool::{Pool, TaskHandle, Waker};
use crate::task::router::{Outlet, Route, Router};
use crate::task::side::{SideLanes, SideTables};
use crate::task::source::{SourceControl, SourceTask, SourceTime};
use crate::task::source_lane::{SourceLane, lane_groups, split_owner};
use crate::task::subtask::{Input, Opening, SubtaskTask};
use wiring::Wiring;

/// A built generation. Its tasks run once it is started.
pub struct Generation {
    tasks: Vec<TaskHandle>,
    controls: Vec<SourceControl>,
    lanes: Vec<SourceLane>,
    threads: LaneThreads,
    stop: StopFlag,
    reporter: Reporter,
    tables: BTreeMap<OperatorId, Arc<dyn Sink>>,
    side: SideTables,
    metrics: Arc<JobMetrics>,
    /// Edges to other executors, until it is started.
    outgoing: Vec<OutgoingEdge>,
    links: LinkHandles,
    exchange: Option<Exchange>,
    /// Keeps the edges from other executors open.
    opening: Option<exchange::Opening>,
}

impl Generation {
    /// Lets records flow. A second call does nothing.
    pub fn start(&mut self) {
        if let Some(exchange) = &self.exchange {
            for edge in std::mem::take(&mut self.outgoing) {
                self.links.start(exchange, edge, self.reporter.clone());
            }
        }
        for lane in std::mem::take(&mut self.lanes) {
            match lane::spawn("source".to_owned(), self.reporter.clone(), move || lane.run()) {
                Ok(thread) => self.threads.add_source(thread),
                Err(error) => self.reporter.fail(None, error),
            }
        }
        self.tasks.iter().for_each(|task| task.waker().wake());
    }

    pub fn trigger(&self, epoch: Epoch) {
        self.controls.iter().for_each(|control| control.trigger(epoch));
    }

    pub fn sinks(&self) -> CommitTargets {
        CommitTargets { tables: self.tables.clone(), side: self.side.clone() }
    }

    pub fn metrics(&self) -> Arc<JobMetrics> {
        self.metrics.clone()
    }

    /// Ends all tasks and lanes and waits for them.
    pub fn stop(self) {
        self.stop.set();
        drop(self.links);
        drop(self.opening);
        drop(self.tasks);
        drop(self.lanes);
        self.threads.join();
    }
}

/// Everything a generation is built from.
pub struct GenerationParts<'a> {
    pub config: &'a NodeConfig,
    pub pool: &'a Pool,
    pub reporter: &'a Reporter,
    pub deployment: &'a Deployment,
    pub side: SideTables,
}

impl GenerationParts<'_> {
    /// Opens sources and sinks, restores state, wires the tasks.
    ///
    /// # Errors
    /// What a connector or the checkpoint store says; nothing runs then.
    pub fn build(self) -> Result<Generation> {
        let deployment = self.deployment;
        let memory = Arc::new(JobMemory::new(deployment.settings.memory_bytes));
        let mut tables = BTreeMap::new();
        for (operator, sink) in deployment.graph.sinks() {
            let opened = self.config.opener.sink(sink, operator.output.clone())?;
            tables.insert(operator.id, opened);
        }
        let source_metrics: BTreeMap<OperatorId, Arc<SourceMetrics>> =
            deployment.graph.sources().map(|(operator, _)| (operator.id, Arc::default())).collect();
        let sources = deployment.graph.sources();
        let sources =
            sources.map(|(o, s)| (s.table.name.clone(), source_metrics.get(&o.id).cloned().unwrap_or_default()));
        let metrics = Arc::new(JobMetrics::new(
            self.reporter.token(),
            deployment.job_name.clone(),
            sources.collect(),
            memory.clone(),
        ));
        let mut generation = Generation {
            tasks: Vec::new(),
            controls: Vec::new(),
            lanes: Vec::new(),
            threads: LaneThreads::default(),
            stop: StopFlag::default(),
            reporter: self.reporter.clone(),
            tables,
            side: self.side.clone(),
            metrics,
            outgoing: Vec::new(),
            links: LinkHandles::default(),
            exchange: self.config.exchange.clone(),
            opening: None,
        };
        let sinks = generation.sinks();
        sinks.refuse_lost_claims(self.reporter.token().job, deployment.before_first())?;
        sinks.refuse_lost_rows(&deployment.restore)?;
        if deployment.replay_only {
            return Ok(generation);
        }
        let physical = PhysicalGraph::expand(&deployment.graph, deployment.parallelism);
        let schemas = self.schemas(&physical)?;
        let partitions = self.partial_partitions(&physical, &schemas)?;
        let here: Vec<bool> = (0..deployment.parallelism).map(|index| self.is_here(index)).collect();
        let mut wiring = Wiring::new(&physical, &here, &memory);
        let mut sources = BTreeMap::new();
        for (operator, node) in deployment.graph.sources() {
            sources.insert(operator.id, self.open_source(node)?);
        }
        let alignments = alignment_groups(deployment);
        let lookups = self.lookups()?;
        let (threads, stop) = (&generation.threads, &generation.stop);
        let (store, reporter) = (self.config.checkpoints.clone(), self.reporter.clone());
        let snapshots = SnapshotWriter::start(store, reporter, memory.clone(), threads, stop)?;
        let may_spill = deployment.graph.operators.iter().any(operator::spills);
        let root = self.config.spill.as_ref().filter(|_| may_spill);
        let spill = root.map(|root| root.start(memory.clone(), self.reporter, threads)).transpose()?;
        let context = BuildContext {
            parts: &self,
            physical: &physical,
            schemas,
            partitions,
            sources,
            source_metrics,
            alignments,
            lookups,
            memory,
            snapshots,
            spill,
            taps: physical.operators.iter().map(|operator| (operator.id, Arc::default())).collect(),
        };
        for task in &physical.tasks {
            for index in (0..deployment.parallelism).filter(|index| self.is_here(*index)) {
                context.build_task(task, index, &mut wiring, &mut generation)?;
            }
        }
        if let Some(exchange) = &self.config.exchange {
            let (outgoing, incoming) = wiring.remote(deployment, &context.schemas, &here)?;
            for edge in &outgoing {
                let name = operator_name(deployment, physical.operator(edge.key.from));
                generation.metrics.add_link(label(&name, edge.key.from), edge.metrics.clone());
            }
            generation.outgoing = outgoing;
            let opening = exchange.incoming.open(incoming, self.reporter.clone());
            opening.offer(context.taps.clone(), self.config.env.clock.clone());
            generation.opening = Some(opening);
        }
        for (id, lookup) in &context.lookups {
            if let (Some(refresh), Some(operator)) = (&lookup.refresh, deployment.graph.operator(*id)) {
                self.spawn_refresh(operator, lookup.version.number, refresh.clone(), &generation)?;
            }
        }
        Ok(generation)
    }

    /// Whether a subtask runs in this process.
    fn is_here(&self, index: u32) -> bool {
        self.deployment.host(index).is_none_or(|host| host.start == self.reporter.start())
    }

    /// The table of every lookup join: the version of the restore point, or read from its origin.
    fn lookups(&self) -> Result<BTreeMap<OperatorId, Lookup>> {
        let deployment = self.deployment;
        let mut lookups = BTreeMap::new();
        for operator in &deployment.graph.operators {
            let OperatorKind::LookupJoin(node) = &operator.kind else { continue };
            let state = deployment.restore.operators.iter().find(|state| state.operator == operator.id);
            let (saved, restored) =
                lookup::restore(&self.config.checkpoints, node, state, deployment.restore.key_groups)?;
            let is_restored = restored.is_some();
            let version = match restored {
                Some(version) => version,
                None => lookup::Version { number: 1, rows: lookup::read(self.config.opener.as_ref(), node)? },
            };
            let refresh = node.refresh_ms.map(|_| Arc::<lookup::Refresh>::default());
            lookups.insert(operator.id, Lookup { version, is_restored, saved, refresh });
        }
        Ok(lookups)
    }

    fn partial_partitions(
        &self,
        physical: &PhysicalGraph,
        schemas: &BTreeMap<OperatorId, SchemaRef>,
    ) -> Result<BTreeMap<OperatorId, Vec<usize>>> {
        let mut partitions = BTreeMap::new();
        for operator in physical.operators.iter().filter(|operator| operator.phase == Phase::Partial) {
            let input = physical.inputs(operator.id).next().and_then(|edge| schemas.get(&edge.from));
            let input = input.ok_or_else(|| Error::internal("an aggregation has no input"))?;
            let node = aggregate_node(logical(self.deployment, operator)?)?;
            partitions.insert(operator.id, operator::partial_schema(node, input)?.1);
        }
        Ok(partitions)
    }

    fn spawn_refresh(
        &self,
        operator: &LogicalOperator,
        version: u64,
        refresh: Arc<lookup::Refresh>,
        generation: &Generation,
    ) -> Result<()> {
        let OperatorKind::LookupJoin(node) = &operator.kind else { return Ok(()) };
        let Some(interval) = node.refresh_ms.map(Duration::from_millis) else { return Ok(()) };
        let (config, node, stop) = (self.config.clone(), node.clone(), generation.stop.clone());
        let thread = lane::spawn("lookup".to_owned(), self.reporter.clone(), move || {
            lookup::refresh_until_stopped(&config, &node, interval, version, &refresh, &stop)
        })?;
        generation.threads.add_source(thread);
        Ok(())
    }

    fn open_source(&self, node: &SourceNode) -> Result<Arc<dyn Source>> {
        self.config.opener.source(&node.table, read_request(node)?)
    }

    /// Output schema of every physical operator.
    fn schemas(&self, physical: &PhysicalGraph) -> Result<BTreeMap<OperatorId, SchemaRef>> {
        let mut schemas: BTreeMap<OperatorId, SchemaRef> = BTreeMap::new();
        for operator in &physical.operators {
            let logical = logical(self.deployment, operator)?;
            let schema = match operator.phase {
                Phase::Whole | Phase::Final => logical.output.clone(),
                Phase::Partial => {
                    let input = physical.inputs(operator.id).next().and_then(|edge| schemas.get(&edge.from));
                    let input = input.ok_or_else(|| Error::internal("an aggregation has no input"))?;
                    operator::partial_schema(aggregate_node(logical)?, input)?.0
                }
            };
            schemas.insert(operator.id, schema);
        }
        Ok(schemas)
    }
}

fn aggregate_node(operator: &LogicalOperator) -> Result<&WindowAggregateNode> {
    match &operator.kind {
        OperatorKind::WindowAggregate(node) => Ok(node),
        _ => Err(Error::internal(format!("{} has no phases", operator.name))),
    }
}

/// What a source node asks its connector for.
///
/// # Errors
/// If an expression of the node cannot be read.
pub fn read_request(node: &SourceNode) -> Result<ReadRequest> {
    let metadata = node.metadata.iter().filter_map(|index| node.table.metadata.get(*index));
    Ok(ReadRequest {
        projection: node.projection.clone(),
        unread: node.unread.clone(),
        metadata: metadata.map(|column| (column.name.clone(), column.kind)).collect(),
        batch_rows: limits::BATCH_ROWS,
        bounded: node.bounded,
        filter: pushed_filter(node)?,
    })
}

fn logical<'a>(deployment: &'a Deployment, operator: &PhysicalOperator) -> Result<&'a LogicalOperator> {
    deployment
        .graph
        .operator(operator.logical)
        .ok_or_else(|| Error::internal(format!("operator {} is not in the graph", operator.logical)))
}

/// A lookup table as a generation starts with it.
struct Lookup {
    version: lookup::Version,
    /// Whether the version is that of the restore point, and so is in `saved`.
    is_restored: bool,
    saved: Table,
    refresh: Option<Arc<lookup::Refresh>>,
}

struct BuildContext<'a> {
    parts: &'a GenerationParts<'a>,
    physical: &'a PhysicalGraph,
    schemas: BTreeMap<OperatorId, SchemaRef>,
    /// Of each partial phase: the columns of its output by which rows are spread.
    partitions: BTreeMap<OperatorId, Vec<usize>>,
    sources: BTreeMap<OperatorId, Arc<dyn Source>>,
    source_metrics: BTreeMap<OperatorId, Arc<SourceMetrics>>,
    alignments: BTreeMap<OperatorId, Arc<AlignmentGroup>>,
    lookups: BTreeMap<OperatorId, Lookup>,
    memory: Arc<JobMemory>,
    snapshots: SnapshotWriter,
    spill: Option<Spill>,
    taps: BTreeMap<OperatorId, Arc<Tap>>,
}

impl BuildContext<'_> {
    fn build_task(
        &self,
        members: &[OperatorId],
        index: u32,
        wiring: &mut Wiring,
        generation: &mut Generation,
    ) -> Result<()> {
        let mut result = Ok(());
        let handle = self.parts.pool.add(|waker| match self.build_chain(members, index, wiring, &waker, generation) {
            Ok(task) => task,
            Err(error) => {
                result = Err(error);
                Box::new(Nothing)
            }
        });
        generation.tasks.push(handle);
        result
    }

    fn build_chain(
        &self,
        members: &[OperatorId],
        index: u32,
        wiring: &Wiring,
        waker: &Waker,
        generation: &mut Generation,
    ) -> Result<Box<dyn crate::task::pool::Task>> {
        let deployment = self.parts.deployment;
        let range = KeyGroupRange::of_subtask(deployment.restore.key_groups, deployment.parallelism, index);
        let mut nodes = Vec::with_capacity(members.len());
        for id in members {
            nodes.push(self.build_node(*id, index, range, wiring, waker, generation)?);
        }
        for (position, id) in members.iter().enumerate() {
            let children = self.physical.outputs(*id).filter(|edge| edge.routing == Routing::Chained);
            let children: Vec<_> =
                children.filter_map(|edge| members.iter().position(|member| *member == edge.to)).collect();
            if let Some(node) = nodes.get_mut(position) {
                node.children = children;
            }
        }
        let root = *members.first().ok_or_else(|| Error::internal("a task without operators"))?;
        let name = operator_name(deployment, self.physical.operator(root));
        let metrics = SubtaskMetrics::new(&name, root, index, self.parts.config.env.clock.monotonic());
        let metrics = Arc::new(metrics);
        generation.metrics.add_subtask(metrics.clone());
        let context = ChainContext {
            index,
            key_groups: range,
            reporter: self.parts.reporter.clone(),
            memory: self.memory.clone(),
            metrics: metrics.clone(),
            snapshots: self.snapshots.clone(),
            env: self.parts.config.env.clone(),
        };
        let side = SideLanes::new(
            self.parts.side.clone(),
            root,
            index,
            self.parts.reporter.clone(),
            self.memory.clone(),
            generation.threads.clone(),
            waker.clone(),
        );
        let restored = deployment.before_first();
        let chain = Chain::new(context, nodes, side, restored.next());
        let operator = self.operator(root)?;
        if let OperatorKind::Source(node) = &logical(deployment, operator)?.kind {
            return self.build_source(root, node, index, chain, waker, generation);
        }
        let mut inputs = Vec::new();
        let mut received = Vec::new();
        for (edge, queues) in wiring.incoming(root, index) {
            for channel in queues {
                channel.set_receiver(waker.clone());
                inputs.push(Input { channel, port: edge.port, edge: received.len() });
            }
            received.push(edge_count(edge));
        }
        metrics.set_queues(inputs.iter().map(|input| &input.channel));
        // What every subtask hears from all senders was the same in all of them, and holds for any range of
        // key groups. What stands behind one sender each says nothing about another parallelism.
        let is_keyed = wiring.incoming(root, index).all(|(edge, _)| match edge.routing {
            Routing::Hash { .. } | Routing::PartialKeys | Routing::Single => true,
            Routing::Forward | Routing::Chained | Routing::Limited { .. } => false,
        });
        let opening =
            if is_keyed { Opening::At(self.restored_watermark(root, range).unwrap_or(i64::MIN)) } else { Opening::Ask };
        let clock = self.parts.config.env.clock.clone();
        Ok(Box::new(SubtaskTask::new(chain, inputs, received, restored, opening, clock)))
    }

    fn operator(&self, id: OperatorId) -> Result<&PhysicalOperator> {
        self.physical.operator(id).ok_or_else(|| Error::internal(format!("operator {id} is not in the plan")))
    }

    fn build_node(
        &self,
        id: OperatorId,
        index: u32,
        range: KeyGroupRange,
        wiring: &Wiring,
        waker: &Waker,
        generation: &Generation,
    ) -> Result<Node> {
        let deployment = self.parts.deployment;
        let operator = self.operator(id)?;
        let logical = logical(deployment, operator)?;
        let mut files = None;
        let mut at_restore = i64::MIN;
        let mut state_bytes = 0;
        let spill = self.spill.as_ref().filter(|_| operator::spills(logical));
        let mut spill = spill.map(|spill| spill.lane(format!("{id}-{index}"), index, waker.clone()));
        let stage = match &logical.kind {
            OperatorKind::Source(_) => Stage::Source,
            OperatorKind::Sink(_) => self.build_sink(id, index, waker, generation)?,
            _ => {
                let (operator, tables, restored) = self.build_operator(operator, logical, range, spill.as_mut())?;
                state_bytes = spill.as_mut().map_or(0, SpillLane::take_held);
                files = tables;
                at_restore = restored;
                Stage::Operator(operator)
            }
        };
        let mut routers = Vec::new();
        for (edge, queues) in wiring.outgoing(id, index) {
            let outlets = queues.iter().map(|queue| {
                queue.set_sender(waker.clone());
                Outlet::new(queue.clone())
            });
            routers.push(Router::new(outlets.collect(), self.route(edge, index)?, edge_count(edge)));
        }
        Ok(Node {
            id,
            name: logical.name.clone(),
            stage,
            children: Vec::new(),
            routers,
            files,
            spill,
            refresh: self.lookups.get(&id).and_then(|lookup| lookup.refresh.clone()),
            watermark: i64::MIN,
            restored: at_restore,
            counts: OperatorCounts::default(),
            state_bytes,
            tap: self.taps.get(&id).cloned().unwrap_or_default(),
        })
    }

    fn route(&self, edge: &PhysicalEdge, index: u32) -> Result<Route> {
        let columns = match &edge.routing {
            Routing::Chained | Routing::Forward | Routing::Single => return Ok(Route::One(0)),
            Routing::Limited { subtasks } => return Ok(Route::One((index % (*subtasks).max(1)) as usize)),
            Routing::Hash { columns } => columns.clone(),
            Routing::PartialKeys => self.partitions.get(&edge.from).cloned().unwrap_or_default(),
        };
        if columns.is_empty() {
            return Ok(Route::One(0));
        }
        let deployment = self.parts.deployment;
        let partitioner = Partitioner::new(columns, deployment.restore.key_groups, deployment.parallelism)?;
        Ok(Route::Hash(Box::new(partitioner)))
    }

    fn build_sink(&self, id: OperatorId, index: u32, waker: &Waker, generation: &Generation) -> Result<Stage> {
        let sink = generation.tables.get(&id).ok_or_else(|| Error::internal(format!("sink {id} is not open")))?;
        let writer = sink.writer(SubtaskId { operator: id, index }, self.parts.reporter.token())?;
        let queue = Channel::new(self.memory.clone());
        queue.set_sender(waker.clone());
        let epoch = self.parts.deployment.before_first().next();
        let (lane, thread) = SinkLane::start(id, queue.clone(), writer, epoch, self.parts.reporter.clone())?;
        generation.threads.add(queue.clone(), thread);
        Ok(Stage::Sink { lane, outlet: Outlet::new(queue) })
    }

    /// Builds an operator and gives it back what it had at the restore point.
    fn build_operator(
        &self,
        physical: &PhysicalOperator,
        logical: &LogicalOperator,
        range: KeyGroupRange,
        spill: Option<&mut SpillLane>,
    ) -> Result<(BoxedOperator, Option<Arc<TableFiles>>, i64)> {
        let deployment = self.parts.deployment;
        let mut inputs: Vec<_> = self.physical.inputs(physical.id).collect();
        inputs.sort_by_key(|edge| edge.port);
        inputs.dedup_by_key(|edge| edge.port);
        let partition = inputs.iter().map(|edge| self.partition(physical, logical, edge)).collect();
        let inputs: Vec<SchemaRef> = inputs.iter().filter_map(|edge| self.schemas.get(&edge.from).cloned()).collect();
        let raw_input = self.raw_input(physical, &inputs)?;
        let output = self.schemas.get(&physical.id).cloned();
        let output = output.ok_or_else(|| Error::internal("an operator without a schema"))?;
        let context = OperatorContext {
            name: logical.name.clone(),
            key_groups: deployment.restore.key_groups,
            range,
            inputs,
            partition,
            output,
            changelog: logical.changelog.clone(),
            ttl_ms: logical.ttl_ms,
            spills: spill.is_some(),
            batch_rows: limits::BATCH_ROWS,
        };
        let mut operator = operator::build(logical, physical.phase, &raw_input, context)?;
        if let Some(lookup) = self.lookups.get(&physical.id) {
            operator.load(lookup.version.number, lookup.version.rows.clone(), lookup.is_restored)?;
            // All subtasks hold the same table; the owner of key group 0 saves it.
            let files = (range.start == 0).then(|| Arc::new(TableFiles::of(lookup.saved.clone())));
            return Ok((operator, files, i64::MIN));
        }
        let specs = operator.tables();
        if specs.is_empty() {
            // Rows are judged by it all the same, and some hold back what they pass on: those behind them know
            // less (ADR 9).
            let state = self.operator_state(physical.id);
            let watermark = state.and_then(|state| watermark::restored_lowest(&state.watermarks));
            operator.restored(watermark)?;
            return Ok((operator, None, watermark.unwrap_or(i64::MIN)));
        }
        let watermark = self.restored_watermark(physical.id, range);
        let state = self.operator_state(physical.id);
        let files = TableFiles::restore(&self.parts.config.checkpoints, specs, state, range, operator.as_mut(), spill)?;
        operator.restored(watermark)?;
        Ok((operator, Some(Arc::new(files)), watermark.unwrap_or(i64::MIN)))
    }

    /// The schema of the rows that the logical operator takes, whatever its phase.
    fn raw_input(&self, physical: &PhysicalOperator, inputs: &[SchemaRef]) -> Result<SchemaRef> {
        let raw = match physical.phase {
            Phase::Whole | Phase::Partial => inputs.first().cloned(),
            Phase::Final => {
                let source = self.physical.inputs(partial_id(physical.id)).next();
                source.and_then(|edge| self.schemas.get(&edge.from).cloned())
            }
        };
        raw.ok_or_else(|| Error::internal("an operator has no input"))
    }

    /// The columns that decide the key group of an input's rows: the same at every parallelism, so that
    /// saved state finds its subtask after a rescale.
    fn partition(&self, physical: &PhysicalOperator, logical: &LogicalOperator, edge: &PhysicalEdge) -> Vec<usize> {
        if physical.phase == Phase::Final {
            return self.partitions.get(&edge.from).cloned().unwrap_or_default();
        }
        if let OperatorKind::WindowAggregate(node) = &logical.kind
            && runs_in_two_phases(node)
        {
            return match node.window {
                WindowSource::Columns { start, end, .. } if node.keys.is_empty() => vec![start, end],
                _ => node.keys.clone(),
            };
        }
        let declared = self.parts.deployment.graph.inputs(logical.id).into_iter().find(|e| e.port == edge.port);
        match declared.map(|edge| &edge.partitioning) {
            Some(Partitioning::Hash { columns }) => columns.clone(),
            _ => Vec::new(),
        }
    }

    fn operator_state(&self, id: OperatorId) -> Option<&OperatorState> {
        self.parts.deployment.restore.operators.iter().find(|state| state.operator == id)
    }

    /// The operator's watermark at the restore point.
    fn restored_watermark(&self, id: OperatorId, range: KeyGroupRange) -> Option<i64> {
        watermark::restored_watermark(&self.operator_state(id)?.watermarks, range)
    }

    fn build_source(
        &self,
        id: OperatorId,
        node: &SourceNode,
        index: u32,
        chain: Chain,
        waker: &Waker,
        generation: &mut Generation,
    ) -> Result<Box<dyn crate::task::pool::Task>> {
        let deployment = self.parts.deployment;
        let clock = self.parts.config.env.clock.clone();
        let source = self.sources.get(&id).cloned().ok_or_else(|| Error::internal("a source is not open"))?;
        let states: &[SplitState] =
            deployment.restore.sources.iter().find(|s| s.operator == id).map_or(&[], |s| s.splits.as_slice());
        let parallelism = if node.reads_in_order() { 1 } else { deployment.parallelism };
        let mine: Vec<SplitState> =
            states.iter().filter(|state| split_owner(&state.id, parallelism) == index).cloned().collect();
        let known: BTreeSet<SplitId> = states.iter().map(|state| state.id.clone()).collect();
        let (sender, items) = bounded(limits::CHANNEL_BATCHES);
        let follows = node.splits_follow();
        let finished = mine.iter().filter(|state| state.finished);
        let finished: BTreeMap<_, _> = finished.map(|state| (state.id.clone(), Arc::clone(&state.position))).collect();
        let unread: Vec<SplitState> = mine.iter().filter(|state| !state.finished).cloned().collect();
        let aligned = node.watermark.as_ref().and_then(|watermark| watermark.alignment.as_ref());
        let alignment =
            aligned.zip(self.alignments.get(&id)).map(|(aligned, group)| Alignment::join(group, aligned.max_drift_ms));
        let groups = lane_groups(unread, node.bounded || node.reads_in_order());
        let lanes = groups.len();
        for (lane, splits) in groups.into_iter().enumerate() {
            generation.lanes.push(SourceLane {
                source: source.clone(),
                splits: splits.into(),
                known: known.clone(),
                finished: finished.clone(),
                owns: Arc::new(move |id| split_owner(id, parallelism) == index),
                discovers: lane == 0 && source.is_growing(),
                is_endless: !node.bounded,
                in_order: follows,
                alignment: alignment.clone(),
                items: sender.clone(),
                waker: waker.clone(),
                memory: self.memory.clone(),
                clock: clock.clone(),
                stop: generation.stop.clone(),
            });
        }
        let expr = match &node.watermark {
            Some(watermark) => Some(qanat_sql::expr::physical(
                &watermark.expr,
                self.schemas.get(&id).ok_or_else(|| Error::internal("a source without a schema"))?,
            )?),
            None => None,
        };
        let idle_ms = node.watermark.as_ref().map_or(0, |w| w.idle_timeout_ms);
        let idle_timeout = (idle_ms > 0).then(|| Duration::from_millis(idle_ms));
        let time = SourceTime { expr, idle_timeout, follows, grows: source.is_growing(), alignment };
        let control = SourceControl::new(waker.clone());
        generation.controls.push(control.clone());
        let metrics = self.source_metrics.get(&id).cloned().unwrap_or_default();
        let task = SourceTask::new(
            chain,
            node.table.name.clone(),
            control,
            items,
            mine,
            time,
            clock,
            self.memory.clone(),
            metrics,
            lanes,
            deployment.before_first(),
            deployment.settings.epoch_bytes,
        )?;
        Ok(Box::new(task))
    }
}

/// What people know an operator by.
fn operator_name(deployment: &Deployment, operator: Option<&PhysicalOperator>) -> String {
    let Some(operator) = operator else { return String::new() };
    let name = deployment.graph.operator(operator.logical).map(|operator| operator.name.clone());
    let partial = if operator.phase == Phase::Partial { " (partial)" } else { "" };
    format!("{}{partial}", name.unwrap_or_default())
}

fn edge_count(edge: &PhysicalEdge) -> EdgeCount {
    EdgeCount { from: edge.from, to: edge.to, port: edge.port, sum: RowSum::default() }
}

/// Stands in for a task that could not be built; never woken.
struct Nothing;

impl crate::task::pool::Task for Nothing {
    fn run(&mut self, _: std::time::Duration) -> crate::task::pool::Step {
        crate::task::pool::Step::Done
    }

    fn on_panic(&mut self, _: Error) {}
}

/// The splits of a source at submit: epoch 0 (P9).
///
/// # Errors
/// What the connector says.
pub fn initial_splits(source: &dyn Source) -> Result<Vec<SplitState>> {
    let splits: Vec<Split> = source.discover()?;
    Ok(splits.into_iter().map(crate::task::source_lane::new_split).collect())
}
