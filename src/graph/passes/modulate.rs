//! A scale and a shift that are computed at run time (FiLM, adaLN) become those of the normalisation before them.

use super::super::{Fact, Graph, Node, Tensor, ValueId};
use super::absorb::activation;
use super::program::{Arg, Program};
use crate::kernels::{Activation, DType, MapCode};
use crate::ops::{Map, Norm, Op, Over, Reshape};
use std::collections::HashMap;
use std::string::String;
use std::vec::Vec;

pub fn norms(mut graph: Graph) -> Graph {
    let (uses, producers) = (graph.uses(), graph.producers());
    let mut nodes: Vec<Node> = Vec::with_capacity(graph.nodes.len());
    for i in 0..graph.nodes.len() {
        match matched(&graph, i, &uses, &producers) {
            Some(modulation) => {
                let norm = graph.nodes[modulation.norm].clone();
                let output = graph.nodes[i].outputs[0];
                nodes.extend(modulation.apply(&mut graph, norm, output));
            }
            None => nodes.push(graph.nodes[i].clone()),
        }
    }
    graph.nodes = nodes;
    graph.remove_dead()
}

/// `activation(norm * scale + shift)`, all of what one program does.
struct Modulation {
    norm: usize,
    scale: ValueId,
    shift: ValueId,
    activation: Activation,
}

fn matched(
    graph: &Graph,
    i: usize,
    uses: &[usize],
    producers: &HashMap<ValueId, usize>,
) -> Option<Modulation> {
    let Op::Map(map) = &graph.nodes[i].op else { return None };
    let program = Program::of(&map.steps, &graph.nodes[i].inputs);
    let (scaled, shifted, rest) = match &program.steps[..] {
        [scaled, shifted, rest @ ..] => (scaled, shifted, rest),
        _ => return None,
    };
    let other = |args: &[Arg], own: Arg| match args {
        [a, b] if *a == own => Some(*b),
        [a, b] if *b == own => Some(*a),
        _ => None,
    };
    let activation = match rest {
        [] => Activation::None,
        [last] if last.args()[0] == Arg::Step(1) => activation(last.code)?,
        _ => return None,
    };
    if scaled.code != MapCode::Mul || shifted.code != MapCode::Add {
        return None;
    }
    let Arg::Input(shift) = other(shifted.args(), Arg::Step(0))? else { return None };
    let output = graph.fact(graph.nodes[i].outputs[0]);
    let norm_of = |arg: &Arg| {
        let Arg::Input(value) = *arg else { return None };
        let producer = *producers.get(&value)?;
        let Op::Norm(norm) = &graph.nodes[producer].op else { return None };
        let whole = norm.activation == Activation::None && uses[value.index()] == 1;
        let Arg::Input(scale) = other(scaled.args(), *arg)? else { return None };
        let fits = [scale, shift].iter().all(|&id| is_scale(norm, graph.fact(id), output));
        (whole && fits && graph.fact(value) == output).then_some((producer, scale))
    };
    let (norm, scale) = scaled.args().iter().find_map(norm_of)?;
    Some(Modulation { norm, scale, shift, activation })
}

/// Whether an operand has one value for each scale of the normalisation of `like`.
fn is_scale(norm: &Norm, operand: &Fact, like: &Fact) -> bool {
    let Some(lead) = like.rank().checked_sub(operand.rank()) else { return false };
    let scaled = |axis: usize| match norm.over {
        Over::Groups(_) => axis == 1,
        Over::Trailing(first) => axis >= first,
    };
    operand.dtype == DType::F32
        && operand.len() == norm.scales(&like.shape)
        && operand.shape.iter().enumerate().all(|(i, &size)| size == 1 || scaled(i + lead))
}

impl Modulation {
    /// The nodes that take the place of the program.
    fn apply(self, graph: &mut Graph, mut norm: Node, output: ValueId) -> Vec<Node> {
        let Op::Norm(op) = &norm.op else { return Vec::new() };
        let (mut op, mut nodes) = (op.clone(), Vec::new());
        let own = |present: bool, at: usize| present.then(|| norm.inputs[at]);
        let (gamma, beta) = (own(op.gamma, 1), own(op.beta, 1 + usize::from(op.gamma)));
        let mut map = |graph: &mut Graph, code: MapCode, by: ValueId, own: ValueId| {
            let fact = graph.fact(by).clone();
            let own = flat_as(graph, own, &fact, &mut nodes);
            let result = graph.add_value(&norm.name, fact);
            let op = Map::single(code, 2, DType::F32).into();
            nodes.push(Node {
                name: norm.name.clone(),
                op,
                inputs: std::vec![own, by],
                outputs: std::vec![result],
            });
            result
        };
        // (x * gamma + beta) * scale + shift = x * (gamma * scale) + (beta * scale + shift)
        let scale = gamma.map_or(self.scale, |gamma| map(graph, MapCode::Mul, self.scale, gamma));
        let shift = beta.map_or(self.shift, |beta| {
            let moved = map(graph, MapCode::Mul, self.scale, beta);
            map(graph, MapCode::Add, self.shift, moved)
        });
        op.gamma = true;
        op.beta = true;
        op.activation = self.activation;
        norm.op = op.into();
        norm.inputs = std::vec![norm.inputs[0], scale, shift];
        norm.outputs = std::vec![output];
        nodes.push(norm);
        nodes
    }
}

/// A value with the shape of another of the same length.
fn flat_as(graph: &mut Graph, id: ValueId, like: &Fact, nodes: &mut Vec<Node>) -> ValueId {
    if graph.fact(id).shape == like.shape {
        return id;
    }
    if let Some(values) = graph.constant(id).map(|tensor| tensor.to_f32())
        && let Ok(tensor) = Tensor::f32(&like.shape, values)
    {
        return graph.add_constant(tensor);
    }
    let result = graph.add_value("", like.clone());
    let op = Reshape { shape: like.shape.clone() }.into();
    nodes.push(Node { name: String::new(), op, inputs: std::vec![id], outputs: std::vec![result] });
    result
}
