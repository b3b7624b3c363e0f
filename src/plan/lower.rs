//! From a graph to a plan: the frame in which the operators lower themselves.
//!
//! Every value gets a [`Place`]. Transpositions, slices, broadcasts and most reshapes only make another place of the same
//! memory; convolutions ask for channels last, and what is computed element by element keeps the order that it finds, so
//! that NHWC spreads through the network by itself and is undone only where something needs another order.

use super::constants::Constants;
use super::instruction::{
    Baked, Cost, Instruction, Kept, Packing, Panels, PlanData, Port, Scales, Space, Span, Stage, View, ViewId,
};
use super::pack::Weights;
use super::place::{Place, Source};
use super::precision::{Depth, Island, Ranges};
use super::{CompiledPlan, PlanError, VERSION};
use crate::graph::{Fact, Graph, Node, Tensor, ValueId};
use crate::kernels::{Arithmetic, DType, Isa, Layout, MapStep};
use crate::ops::{Concat, Host, Op, OpError, Operator, problem};
use std::collections::HashMap;
use std::string::{String, ToString};
use std::sync::Arc;
use std::vec::Vec;

/// The most nodes between what computes a part of a concatenation right there and the concatenation.
const NEAR: usize = 16;
/// See [`Lower::is_thin`].
const THIN_DEPTH: usize = 8;
const THIN_COLUMNS: usize = 4;

/// Why a graph has no plan.
#[derive(Debug, thiserror::Error)]
pub enum LowerError {
    #[error("node {node} ({operator}): {problem}")]
    Node { node: String, operator: &'static str, problem: OpError },
    #[error("{0}")]
    Plan(#[from] PlanError),
    #[error("the plan's metadata can not be written: {0}")]
    Archive(rkyv::rancor::Error),
    #[error(
        "the weights can not be kept in a temporary file: {0}; make room in /var/tmp, or name another folder in TMPDIR"
    )]
    Constants(std::io::Error),
}

/// A plan in the making.
pub struct Lower<'g> {
    graph: &'g Graph,
    recipe: Recipe<'g>,
    pub packing: Packing,
    consumers: Vec<Vec<usize>>,
    places: Vec<Option<Place>>,
    /// Values that are computed right into a part of a concatenation: the node, and where along its axis they begin.
    destinations: HashMap<ValueId, (usize, usize)>,
    pub(super) buffers: Vec<usize>,
    pub(super) views: Vec<(Source, View)>,
    pub(super) instructions: Vec<Instruction>,
    /// Of each instruction, never before the one before it.
    pub(super) stages: Vec<Stage>,
    /// Of the node that is being lowered.
    stage: Stage,
    steps: Vec<MapStep>,
    pub(super) operands: Vec<ViewId>,
    constants: Constants,
    zeros: Option<(usize, Place)>,
    hosts: Vec<Host>,
    /// Whether there has been a convolution by Winograd's method.
    transforms: bool,
    report: Report,
    /// The constants of the plan, while those of a stage go nowhere that is left out of it.
    aside: Option<Constants>,
}

/// What a plan's instructions do not say.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) products: Vec<Product>,
    /// Products in half precision.
    pub(super) halves: usize,
    pub(super) islands: Vec<Island>,
}

/// A product with constants: where its left matrix lies when the instruction has just run, and what that is.
#[derive(Clone, Copy, Debug)]
pub struct Product {
    pub instruction: usize,
    pub view: ViewId,
    /// Its columns are the channels of this value from the first one on.
    pub value: ValueId,
    pub first: usize,
    pub columns: usize,
}

/// What a plan is made for.
#[derive(Clone, Copy, Debug)]
pub struct Recipe<'a> {
    pub isa: Isa,
    /// What values the products have seen that are to be in half precision (weights, and arithmetic too where the instruction
    /// set has it), and how far they go; `None` for f32.
    pub half: Option<(&'a Ranges, Depth)>,
    /// What the time's stage gives for some times, the slots that engines have of them, in the place of its instructions and
    /// its constants.
    pub times: Option<&'a [u8]>,
    /// To take little memory rather than little time: nothing is transformed beforehand into more than it was.
    pub frugal: bool,
}

impl Recipe<'_> {
    /// In f32, with all stages, as fast as can be.
    pub const fn new(isa: Isa) -> Self {
        Recipe { isa, half: None, times: None, frugal: false }
    }
}

/// Makes the plan of a graph. The constants of other plans for the same instruction set may be given, to be shared.
///
/// # Errors
/// If a node has no kernel for its operands.
pub fn lower(graph: &Graph, recipe: Recipe<'_>, constants: Constants) -> Result<CompiledPlan, LowerError> {
    let times = recipe.times;
    let mut lower = Lower::new(graph, recipe, constants);
    if times.is_some() {
        lower.aside = Some(std::mem::take(&mut lower.constants));
    }
    for &input in &graph.inputs {
        lower.result(input, &canonical(graph.fact(input).rank()));
    }
    let inputs: Vec<Place> = graph.inputs.iter().filter_map(|&i| lower.places[i.index()].clone()).collect();
    for (node, stage) in graph.nodes.iter().zip(graph.stages()) {
        lower.begin(stage);
        let lowered = node.op.lower(&mut lower, node);
        lowered.map_err(|problem| LowerError::Node {
            node: node.name.clone(),
            operator: node.op.name(),
            problem,
        })?;
    }
    lower.begin(graph.last_stage());
    let outputs = lower.outputs().map_err(|problem| LowerError::Node {
        node: "outputs".to_string(),
        operator: "Output",
        problem,
    })?;
    lower.finish(&inputs, &outputs, times)
}

impl<'g> Lower<'g> {
    fn new(graph: &'g Graph, recipe: Recipe<'g>, constants: Constants) -> Lower<'g> {
        let mut consumers = std::vec![Vec::new(); graph.values.len()];
        for (i, node) in graph.nodes.iter().enumerate() {
            node.inputs.iter().for_each(|input| consumers[input.index()].push(i));
        }
        let mut destinations = HashMap::new();
        let (stages, producers) = (graph.stages(), graph.producers());
        for (i, node) in graph.nodes.iter().enumerate() {
            let Op::Concat(Concat { axis }) = node.op else { continue };
            let mut start = 0;
            for &input in &node.inputs {
                let once = node.inputs.iter().filter(|&&other| other == input).count() == 1;
                // What one stage computes must not lie in what another one writes. And all of the joined buffer is in use
                // from its first part on: a skip connection that comes long before the rest is copied instead.
                let near = |&producer: &usize| {
                    stages[producer] == stages[i] && i - producer <= NEAR && !recipe.frugal
                };
                let together = producers.get(&input).is_some_and(near);
                if once && together {
                    destinations.entry(input).or_insert((i, start));
                }
                start += graph.fact(input).shape[axis];
            }
        }
        Lower {
            graph,
            recipe,
            packing: Packing::of_isa(recipe.isa),
            consumers,
            places: std::vec![None; graph.values.len()],
            destinations,
            buffers: Vec::new(),
            views: Vec::new(),
            instructions: Vec::new(),
            stages: Vec::new(),
            stage: Stage::Time,
            steps: Vec::new(),
            operands: Vec::new(),
            constants,
            zeros: None,
            hosts: Vec::new(),
            transforms: false,
            report: Report::default(),
            aside: None,
        }
    }

    /// Goes on to a node of a stage.
    fn begin(&mut self, stage: Stage) {
        if stage > Stage::Time
            && let Some(constants) = self.aside.take()
        {
            // What the left out stage has stored is nowhere now.
            self.constants = constants;
            self.zeros = None;
            for (place, value) in self.places.iter_mut().zip(&self.graph.values) {
                if value.constant.is_some() {
                    *place = None;
                }
            }
        }
        self.stage = stage;
    }

    pub fn fact(&self, id: ValueId) -> &'g Fact {
        self.graph.fact(id)
    }

    /// The elements of a value that is a constant.
    pub fn known(&self, id: ValueId) -> Option<&'g Arc<Tensor>> {
        self.graph.constant(id)
    }

    /// Where a value lies. Constants are put into the weights when they are first asked for.
    ///
    /// # Errors
    /// If the value has not been computed: the graph's order is broken.
    pub fn place(&mut self, id: ValueId) -> Result<Place, OpError> {
        if let Some(place) = &self.places[id.index()] {
            return Ok(place.clone());
        }
        let Some(tensor) = self.known(id) else {
            return Err(problem!("the value {} is used before it is computed", self.graph.value(id).name));
        };
        let place = self.constant(tensor);
        self.places[id.index()] = Some(place.clone());
        Ok(place)
    }

    /// Where a value lies, if it has a place already.
    pub fn bound(&self, id: ValueId) -> Option<Place> {
        self.places[id.index()].clone()
    }

    pub fn bind(&mut self, id: ValueId, place: Place) {
        self.places[id.index()] = Some(place);
    }

    /// A new buffer whose axes lie in the given order, outermost first.
    pub fn allocate(&mut self, fact: &Fact, order: &[usize]) -> Place {
        self.buffers.push(fact.len() * fact.dtype.size());
        Place::dense(Source::Buffer(self.buffers.len() as u32 - 1), fact, order)
    }

    /// Gives a value a buffer of its own, densely in the given order.
    pub fn result(&mut self, id: ValueId, order: &[usize]) -> Place {
        let place = self.allocate(self.fact(id), order);
        self.bind(id, place.clone());
        place
    }

    /// Gives a value its place: a part of the concatenation that it ends in, if that lies in the same order, or a buffer
    /// of its own. For kernels that take any stride between rows.
    ///
    /// # Errors
    /// If a place is too large for a view.
    pub fn output(&mut self, id: ValueId, order: &[usize]) -> Result<Place, OpError> {
        let place = self.destination(id, order)?.unwrap_or_else(|| self.allocate(self.fact(id), order));
        self.bind(id, place.clone());
        Ok(place)
    }

    /// The part of a concatenation that a value is, if its rows are contiguous there.
    fn destination(&mut self, id: ValueId, order: &[usize]) -> Result<Option<Place>, OpError> {
        let Some(&(node, start)) = self.destinations.get(&id) else { return Ok(None) };
        let concat = &self.graph.nodes[node];
        let Op::Concat(Concat { axis }) = concat.op else { return Ok(None) };
        let joined = match self.bound(concat.outputs[0]) {
            Some(place) => place,
            None => self.joined(concat, axis, order)?,
        };
        let innermost = joined.is_dense(order) && order.last() == Some(&axis);
        Ok(innermost.then(|| joined.part(axis, start, self.fact(id).shape[axis])))
    }

    /// The memory of a concatenation. The parts that have been computed long ago, skip connections, go there at once: what
    /// they lay in is free for what follows.
    fn joined(&mut self, concat: &Node, axis: usize, order: &[usize]) -> Result<Place, OpError> {
        let joined = self.result(concat.outputs[0], order);
        let mut start = 0;
        for &input in &concat.inputs {
            let size = self.fact(input).shape[axis];
            let target = joined.part(axis, start, size);
            start += size;
            if let Some(part) = self.bound(input).filter(|part| !part.is_empty()) {
                self.copy(&part, &target)?;
                self.bind(input, target);
            }
        }
        Ok(joined)
    }

    /// The order of axes that the only consumer of a value would like: that of the transposition it makes.
    pub fn wanted_order(&self, id: ValueId) -> Vec<usize> {
        let rank = self.fact(id).rank();
        match self.consumers[id.index()][..] {
            [only] => match &self.graph.nodes[only].op {
                Op::Transpose(transpose) => transpose.order.clone(),
                _ => canonical(rank),
            },
            _ => canonical(rank),
        }
    }

    /// The same elements densely in the given order of axes: the place itself if it is so already, or a copy.
    ///
    /// # Errors
    /// If the place is too large for a view.
    pub fn dense(&mut self, place: Place, order: &[usize]) -> Result<Place, OpError> {
        if place.is_dense(order) {
            return Ok(place);
        }
        let copy = self.allocate(&Fact { dtype: place.dtype, shape: place.dims.clone() }, order);
        self.copy(&place, &copy)?;
        Ok(copy)
    }

    /// Puts a tensor into the weights.
    pub fn constant(&mut self, tensor: &Tensor) -> Place {
        let source = Source::Weights(self.constants.store(&tensor.data().to_bytes()));
        Place::dense(source, &tensor.fact(), &canonical(tensor.rank()))
    }

    /// Puts a vector into the weights.
    pub fn floats(&mut self, values: &[f32]) -> Place {
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        let source = Source::Weights(self.constants.store(&bytes));
        Place::dense(source, &Fact::new(DType::F32, &[values.len()]), &[0])
    }

    /// The powers of two for some columns of a product's left matrix, channels of `value` from `first` on, if the product
    /// is to be computed in half precision; all 1 where the kernels only read it.
    pub fn scales(&mut self, node: &Node, value: ValueId, first: usize, columns: usize) -> Option<Vec<f32>> {
        let (ranges, _) = self.recipe.half?;
        if self.packing.arithmetic == Arithmetic::Single {
            return Some(std::vec![1.0; columns]);
        }
        match ranges.scales(value, first, columns, self.packing.arithmetic) {
            Ok(scales) => Some(scales),
            Err(reason) => {
                self.report.islands.push(Island { node: node.name.clone(), reason });
                None
            }
        }
    }

    /// Whether methods are wanted that take more memory than others.
    pub fn is_frugal(&self) -> bool {
        self.recipe.frugal
    }

    /// Whether a product with so many rows of weights a tap, and columns, is too thin to gain by half precision: vectors
    /// would be as many as in f32, and what rounds its left matrix more than what they compute. Those are a network's ends
    /// above all, where rounding tells most. Fixed point takes pairs of rows.
    pub fn is_thin(&self, depth: usize, columns: usize) -> bool {
        let thin = depth < THIN_DEPTH || columns <= THIN_COLUMNS;
        match self.packing.arithmetic {
            Arithmetic::Single => false,
            Arithmetic::Half => thin,
            Arithmetic::Fixed => thin || !depth.is_multiple_of(2),
        }
    }

    /// Whether the next convolution by Winograd's method may be computed in half precision. The first one may not: it sees
    /// noise, of whose mean a network makes the whole of an image, and rounded weights shift that mean.
    pub fn halves_winograd(&mut self) -> bool {
        let first = !std::mem::replace(&mut self.transforms, true);
        !first && self.recipe.half.is_some_and(|(_, depth)| depth.winograd)
    }

    /// Packs constants, in half precision if there are scales.
    ///
    /// # Errors
    /// If there are too many for a view.
    pub fn panels(&mut self, weights: &Weights<'_>, scales: Option<&[f32]>) -> Result<Panels, OpError> {
        let Some(scales) = scales else {
            let packed = weights.panels(self.packing.columns(false));
            return Ok(self.packed(&packed));
        };
        let nr = self.packing.columns(true);
        let balanced;
        let (halves, unscale, scales) = match self.packing.arithmetic {
            Arithmetic::Single | Arithmetic::Half => {
                let (halves, unscale) = weights.halves(nr, scales);
                (halves, unscale, scales)
            }
            Arithmetic::Fixed => {
                balanced = weights.balanced(nr, scales);
                let (fixed, unscale) = weights.fixed(nr, &balanced);
                (fixed, unscale, &balanced[..])
            }
        };
        let panels = self.packed(&halves);
        let output = self.floats(&unscale);
        let output = self.view(&output)?;
        let input = match self.packing.arithmetic {
            Arithmetic::Half | Arithmetic::Fixed => {
                let input = self.floats(scales);
                Some(self.view(&input)?)
            }
            Arithmetic::Single => None,
        };
        self.report.halves += 1;
        let stretch = self.recipe.half.map_or(1, |(_, depth)| depth.stretch);
        Ok(Panels { scales: Some(Scales { input, output, stretch }), ..panels })
    }

    fn packed(&mut self, bytes: &[u8]) -> Panels {
        let offset = self.constants.store(bytes);
        Panels { offset, bytes: bytes.len() as u64, scales: None }
    }

    /// Notes that the instruction to come multiplies a view, channels of `value` from `first` on, with constants.
    pub fn note_product(&mut self, view: ViewId, value: ValueId, first: usize) {
        let layout = &self.views[view as usize].1.layout;
        let columns = layout.dim(layout.rank().saturating_sub(1));
        let instruction = self.instructions.len();
        self.report.products.push(Product { instruction, view, value, first, columns });
    }

    /// At least `count` zeros, the same for all who ask.
    pub fn zeros(&mut self, count: usize) -> Place {
        match &self.zeros {
            Some((have, place)) if *have >= count => place.clone(),
            _ => {
                let place = self.floats(&std::vec![0.0; count]);
                self.zeros = Some((count, place.clone()));
                place
            }
        }
    }

    /// Registers a place as a view.
    ///
    /// # Errors
    /// If it has too many dimensions or elements.
    pub fn view(&mut self, place: &Place) -> Result<ViewId, OpError> {
        let layout = Layout::new(&place.dims, &place.strides)
            .ok_or_else(|| problem!("a tensor of shape {:?} is too large", place.dims))?;
        let elements =
            u64::try_from(place.offset).map_err(|_| problem!("a view begins before its buffer"))?;
        let offset = elements * place.dtype.size() as u64;
        let space = match place.source {
            Source::Buffer(_) => Space::Arena,
            Source::Weights(_) => Space::Weights,
        };
        self.views.push((place.source, View { space, dtype: place.dtype, offset, layout }));
        Ok(self.views.len() as ViewId - 1)
    }

    /// Registers several places.
    ///
    /// # Errors
    /// As [`Self::view`].
    pub fn view_each<const N: usize>(&mut self, places: [&Place; N]) -> Result<[ViewId; N], OpError> {
        let mut ids = [0; N];
        for (id, place) in ids.iter_mut().zip(places) {
            *id = self.view(place)?;
        }
        Ok(ids)
    }

    /// Registers places as a list of operands.
    ///
    /// # Errors
    /// As [`Self::view`].
    pub fn views(&mut self, places: &[Place]) -> Result<Span, OpError> {
        let ids = places.iter().map(|p| self.view(p)).collect::<Result<Vec<_>, _>>()?;
        let start = self.operands.len() as u32;
        self.operands.extend(ids);
        Ok(Span { start, len: places.len() as u32 })
    }

    pub fn steps(&mut self, steps: &[MapStep]) -> Span {
        let start = self.steps.len() as u32;
        self.steps.extend_from_slice(steps);
        Span { start, len: steps.len() as u32 }
    }

    /// Registers an operator that the host runs; returns its number.
    pub fn host(&mut self, host: &Host) -> u32 {
        self.hosts.push(host.clone());
        self.hosts.len() as u32 - 1
    }

    pub fn emit(&mut self, instruction: Instruction) {
        self.instructions.push(instruction);
        self.stages.push(self.stage);
    }

    /// The network's outputs, each dense, in row-major order and in memory of its own.
    fn outputs(&mut self) -> Result<Vec<Place>, OpError> {
        let mut taken: Vec<Source> = self
            .graph
            .inputs
            .iter()
            .filter_map(|i| self.places[i.index()].as_ref())
            .map(|p| p.source)
            .collect();
        let mut outputs = Vec::new();
        let bindings = self.graph.value_bindings();
        for &id in &self.graph.outputs {
            let place = self.place(id)?;
            let order = canonical(place.rank());
            let shared = taken.contains(&place.source) || matches!(place.source, Source::Weights(_));
            let kept = self.graph.stage(bindings[id.index()]).kept().is_some();
            let place = if shared || kept || !place.is_dense(&order) {
                let copy = self.allocate(self.fact(id), &order);
                self.copy(&place, &copy)?;
                copy
            } else {
                place
            };
            taken.push(place.source);
            outputs.push(place);
        }
        Ok(outputs)
    }

    fn finish(
        mut self,
        inputs: &[Place],
        outputs: &[Place],
        times: Option<&[u8]>,
    ) -> Result<CompiledPlan, LowerError> {
        let wrap = |problem| LowerError::Node { node: "ports".to_string(), operator: "Port", problem };
        let mut names = String::new();
        let graph = self.graph;
        let input_names = graph.inputs.iter().map(|&id| graph.value(id).name.as_str());
        let stages = (0..graph.inputs.len()).map(|i| graph.stage(graph.input_binding(i)));
        let mut inputs = self.ports(inputs, input_names, &mut names).map_err(wrap)?;
        inputs.iter_mut().zip(stages).for_each(|(input, stage)| input.stage = stage);
        let output_names = graph.output_names.iter().map(String::as_str);
        let outputs = self.ports(outputs, output_names, &mut names).map_err(wrap)?;
        let memory = self.assign(&inputs, &outputs);
        let mut costs = graph.costs();
        let mut baked = None;
        if let Some(times) = times {
            let slot = memory.slot_bytes[Kept::Time as usize].max(1);
            baked = Some(Baked { offset: self.constants.store(times), times: (times.len() / slot) as u32 });
            baked = baked.filter(|baked| baked.times > 0);
            costs[Stage::Time as usize] = Cost::default();
            let left_out = self.stages.partition_point(|&own| own <= Stage::Time);
            self.instructions.drain(..left_out);
            self.stages.drain(..left_out);
        }
        let end = |stage: Stage| self.stages.partition_point(|&own| own <= stage) as u32;
        let views: Vec<View> = self.views.iter().map(|(_, view)| *view).collect();
        let data = PlanData {
            version: VERSION,
            isa: self.recipe.isa,
            packing: self.packing,
            arena_bytes: memory.arena_bytes as u64,
            slot_bytes: memory.slot_bytes.map(|bytes| bytes as u64),
            stages: Stage::ALL.map(end),
            arena_least: memory.arena_least as u64,
            baked,
            costs,
            products: self.report.products.len() as u32,
            halves: self.report.halves as u32,
            paired: graph.is_paired(),
            instructions: &self.instructions,
            views: &views,
            steps: &self.steps,
            operands: &self.operands,
            inputs: &inputs,
            outputs: &outputs,
            names: &names,
        };
        let metadata = rkyv::to_bytes::<rkyv::rancor::Error>(&data).map_err(LowerError::Archive)?;
        self.constants.seal().map_err(LowerError::Constants)?;
        Ok(CompiledPlan::new(metadata, self.constants, self.hosts, memory, self.report)?)
    }

    fn ports<'n>(
        &mut self,
        places: &[Place],
        own: impl Iterator<Item = &'n str>,
        names: &mut String,
    ) -> Result<Vec<Port>, OpError> {
        let mut ports = Vec::with_capacity(places.len());
        for (place, name) in places.iter().zip(own) {
            let span = Span { start: names.len() as u32, len: name.len() as u32 };
            names.push_str(name);
            ports.push(Port { name: span, view: self.view(place)?, stage: Stage::State });
        }
        Ok(ports)
    }
}

/// Row-major order of axes.
pub fn canonical(rank: usize) -> Vec<usize> {
    (0..rank).collect()
}

/// Channels last: [n, c, spatial..] in the order n, spatial.., c.
pub fn channels_last(rank: usize) -> Vec<usize> {
    std::iter::once(0).chain(2..rank).chain(std::iter::once(1).filter(|_| rank > 1)).collect()
}
