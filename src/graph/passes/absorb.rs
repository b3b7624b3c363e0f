//! What follows a product, a convolution or a normalisation becomes part of it: bias, scale, residual, activation.

use super::super::{Graph, Node, Tensor, ValueId};
use super::program::{Arg, Program, Step, scaled};
use crate::kernels::{Activation, MapCode};
use crate::ops::{Map, Op, Over, Softmax};
use std::collections::HashMap;
use std::vec::Vec;

pub fn epilogues(mut graph: Graph) -> Graph {
    softmax_scales(&mut graph);
    let (uses, mut producers, bindings) = (graph.uses(), graph.producers(), graph.value_bindings());
    for i in 0..graph.nodes.len() {
        let Op::Map(map) = &graph.nodes[i].op else { continue };
        let (dtype, output) = (map.dtype, graph.nodes[i].outputs[0]);
        let mut program = Program::of(&map.steps, &graph.nodes[i].inputs);
        // The latest producer first: it finds the others' results computed before it.
        let mut candidates: Vec<(usize, ValueId)> =
            program.inputs().into_iter().filter_map(|id| Some((*producers.get(&id)?, id))).collect();
        candidates.sort_by_key(|c| std::cmp::Reverse(c.0));
        // A product of an earlier stage must not be drawn into a later one.
        let stage = |id| graph.stage_of(&bindings, id);
        let alike = |value| graph.fact(value) == graph.fact(output) && stage(value) == stage(output);
        candidates.retain(|&(_, value)| alike(value) && uses[value.index()] == 1);
        // Again after each: what one takes in may be what stood between another and its operand.
        while let Some(&(producer, _)) =
            candidates.iter().find(|(at, value)| absorb(&mut graph, *at, *value, &mut program, &producers))
        {
            if program.steps.is_empty() {
                // The producer computes the node's result now, and nothing is left for the node itself.
                graph.nodes[producer].outputs = std::vec![output];
                producers.insert(output, producer);
                graph.nodes[i].outputs.clear();
                break;
            }
        }
        if let Some((steps, inputs)) = program.allocate().filter(|_| !program.steps.is_empty()) {
            graph.nodes[i].op = Map { inputs: inputs.len(), steps, dtype }.into();
            graph.nodes[i].inputs = inputs;
        }
    }
    graph.remove_dead()
}

/// Moves the only step that reads `value` into the node that computes it, if that can take it.
fn absorb(
    graph: &mut Graph,
    producer: usize,
    value: ValueId,
    program: &mut Program,
    producers: &HashMap<ValueId, usize>,
) -> bool {
    let [at] = program.readers(Arg::Input(value))[..] else { return false };
    let known = |id: ValueId| producers.get(&id).is_none_or(|&p| p < producer);
    let step = program.steps[at];
    let Some((op, operand)) = with_step(graph, &graph.nodes[producer], value, step, &known) else {
        return false;
    };
    let operand = match operand {
        Some(Operand::Existing(id)) => Some((graph.nodes[producer].inputs.len(), id)),
        Some(Operand::Vector(slot, values)) => match Tensor::f32(&[values.len()], values) {
            Ok(tensor) => Some((slot, graph.add_constant(tensor))),
            Err(_) => return false,
        },
        None => None,
    };
    if let Some((slot, id)) = operand {
        graph.nodes[producer].inputs.insert(slot, id);
    }
    graph.nodes[producer].op = op;
    program.replace(Arg::Step(at), Arg::Input(value));
    program.remove(at);
    true
}

/// A further input of a node that absorbs a step.
enum Operand {
    Existing(ValueId),
    /// A constant, and where among the inputs it goes.
    Vector(usize, Vec<f32>),
}

/// The node's operator with the step in it, and the operand that this takes; `None` if it can not take the step.
fn with_step(
    graph: &Graph,
    node: &Node,
    value: ValueId,
    step: Step,
    known: &dyn Fn(ValueId) -> bool,
) -> Option<(Op, Option<Operand>)> {
    let mut op = node.op.clone();
    let other = match step.args() {
        [a, b] if *a == Arg::Input(value) => Some(*b),
        [a, b] if *b == Arg::Input(value) && commutes(step.code) => Some(*a),
        _ => None,
    };
    match &mut op {
        Op::Conv(conv) => slots(&mut conv.bias, &mut conv.residual, &mut conv.activation, 1)
            .take(graph, value, step, other, known),
        Op::MatMul(matmul) => {
            let axis = graph.fact(value).rank() - 1;
            slots(&mut matmul.bias, &mut matmul.residual, &mut matmul.activation, axis)
                .take(graph, value, step, other, known)
        }
        Op::Norm(norm) if norm.activation == Activation::None => match (step.code, other, norm.over) {
            (MapCode::Mul, Some(Arg::Input(by)), Over::Groups(_)) if !norm.gamma && !norm.beta => {
                norm.gamma = true;
                Some(Some(Operand::Vector(1, along(graph, by, value, 1)?)))
            }
            (MapCode::Add, Some(Arg::Input(by)), Over::Groups(_)) if !norm.beta => {
                norm.beta = true;
                Some(Some(Operand::Vector(1 + usize::from(norm.gamma), along(graph, by, value, 1)?)))
            }
            _ => {
                norm.activation = activation(step.code)?;
                Some(None)
            }
        },
        _ => None,
    }
    .map(|operand| (op, operand))
}

fn commutes(code: MapCode) -> bool {
    matches!(code, MapCode::Add | MapCode::Mul)
}

/// What products and convolutions can take in.
struct Slots<'a> {
    bias: &'a mut bool,
    residual: &'a mut bool,
    activation: &'a mut Activation,
    /// The axis that the bias runs along.
    axis: usize,
}

fn slots<'a>(
    bias: &'a mut bool,
    residual: &'a mut bool,
    activation: &'a mut Activation,
    axis: usize,
) -> Slots<'a> {
    Slots { bias, residual, activation, axis }
}

impl Slots<'_> {
    fn take(
        self,
        graph: &Graph,
        value: ValueId,
        step: Step,
        other: Option<Arg>,
        known: &dyn Fn(ValueId) -> bool,
    ) -> Option<Option<Operand>> {
        if *self.activation != Activation::None {
            return None;
        }
        match (step.code, other) {
            (MapCode::Add, Some(Arg::Input(by))) => {
                if let Some(values) =
                    along(graph, by, value, self.axis).filter(|_| !*self.bias && !*self.residual)
                {
                    *self.bias = true;
                    return Some(Some(Operand::Vector(2, values)));
                }
                if *self.residual || graph.fact(by) != graph.fact(value) || !known(by) {
                    return None;
                }
                *self.residual = true;
                Some(Some(Operand::Existing(by)))
            }
            _ => {
                *self.activation = activation(step.code)?;
                Some(None)
            }
        }
    }
}

/// The values of a constant that varies along one axis of `like` only.
fn along(graph: &Graph, id: ValueId, like: ValueId, axis: usize) -> Option<Vec<f32>> {
    let (tensor, shape) = (graph.constant(id)?, &graph.fact(like).shape);
    let lead = shape.len().checked_sub(tensor.rank())?;
    let fits = tensor.shape().iter().enumerate().all(|(i, &d)| d == 1 || i + lead == axis);
    let values = tensor.to_f32();
    match values.len() {
        n if fits && n == shape[axis] => Some(values),
        1 if fits => Some(std::vec![values[0]; shape[axis]]),
        _ => None,
    }
}

pub(super) fn activation(code: MapCode) -> Option<Activation> {
    Some(match code {
        MapCode::Relu => Activation::Relu,
        MapCode::Sigmoid => Activation::Sigmoid,
        MapCode::Tanh => Activation::Tanh,
        MapCode::Silu => Activation::Silu,
        MapCode::Gelu => Activation::Gelu,
        MapCode::GeluTanh => Activation::GeluTanh,
        MapCode::Mish => Activation::Mish,
        _ => return None,
    })
}

/// A softmax of a scaled value takes the scale in.
fn softmax_scales(graph: &mut Graph) {
    let (uses, producers) = (graph.uses(), graph.producers());
    for i in 0..graph.nodes.len() {
        let input = match &graph.nodes[i].op {
            Op::Softmax(_) => graph.nodes[i].inputs[0],
            _ => continue,
        };
        let Some(&producer) = producers.get(&input).filter(|_| uses[input.index()] == 1) else { continue };
        let program = match &graph.nodes[producer].op {
            Op::Map(map) => Program::of(&map.steps, &graph.nodes[producer].inputs),
            _ => continue,
        };
        let Some((x, by)) = scaled(&program) else { continue };
        // The kernel subtracts the largest scaled value; a negative scale would turn the order around.
        if let Op::Softmax(Softmax { scale, .. }) = &mut graph.nodes[i].op
            && by > 0.0
            && graph.values[x.index()].fact == graph.values[input.index()].fact
        {
            *scale *= by;
            graph.nodes[i].inputs = std::vec![x];
        }
    }
}
