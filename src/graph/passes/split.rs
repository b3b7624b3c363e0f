//! A product with a concatenation whose parts change at different times becomes a sum of products: then a robot's new
//! observation costs only the observation's part, and a step of the schedule only the time's.

use super::super::{Binding, Fact, Graph, Node, Tensor, ValueId};
use crate::kernels::{DType, MapCode};
use crate::ops::{Concat, Map, MatMul, Op};
use crate::plan::Stage;
use std::collections::{BTreeMap, HashMap};
use std::string::String;
use std::vec::Vec;

pub fn products(mut graph: Graph) -> Graph {
    let mut split =
        Split { bindings: graph.value_bindings(), producers: graph.producers(), activated: Vec::new() };
    let mut nodes = Vec::with_capacity(graph.nodes.len());
    for i in 0..graph.nodes.len() {
        match split.matched(&graph, i) {
            Some(sum) => nodes.extend(split.apply(&mut graph, i, sum)),
            None => nodes.push(graph.nodes[i].clone()),
        }
    }
    graph.nodes = nodes;
    graph.remove_dead()
}

struct Split {
    bindings: Vec<Binding>,
    producers: HashMap<ValueId, usize>,
    /// Parts that have been joined and activated for an earlier product.
    activated: Vec<(Vec<ValueId>, Vec<Map>, ValueId)>,
}

/// A product as a sum: what is computed of each part of its left matrix before, the outermost last, and the parts that one
/// stage computes with the rows of the right matrix that they meet.
struct Sum {
    activations: Vec<Map>,
    groups: Vec<(Vec<Part>, Tensor)>,
}

/// Columns of a left matrix: the rows of the right one that they meet begin at `start`.
#[derive(Clone, Copy)]
struct Part {
    value: ValueId,
    start: usize,
    columns: usize,
}

impl Split {
    fn matched(&self, graph: &Graph, i: usize) -> Option<Sum> {
        let node = &graph.nodes[i];
        let Op::MatMul(MatMul { bias: false, residual: false, .. }) = node.op else { return None };
        let weights = graph.constant(node.inputs[1]).filter(|tensor| tensor.rank() == 2)?;
        let (mut value, mut activations) = (node.inputs[0], Vec::new());
        let concat = loop {
            let producer = &graph.nodes[*self.producers.get(&value)?];
            match &producer.op {
                Op::Concat(Concat { axis }) if axis + 1 == graph.fact(value).rank() => break producer,
                Op::Map(map) if map.inputs == 1 && map.dtype == DType::F32 => {
                    activations.insert(0, map.clone())
                }
                _ => return None,
            }
            value = producer.inputs[0];
        };
        let mut groups: BTreeMap<Stage, Vec<Part>> = BTreeMap::new();
        let mut start = 0;
        for &value in &concat.inputs {
            let columns = *graph.fact(value).shape.last()?;
            let stage = graph.stage_of(&self.bindings, value);
            groups.entry(stage).or_default().push(Part { value, start, columns });
            start += columns;
        }
        // What is kept for later has to be less than the weights that are then not read.
        let kept = graph.fact(node.outputs[0]).len();
        let least =
            groups.values().map(|group| group.iter().map(|part| part.columns).sum::<usize>()).min()?;
        if groups.len() == 1 || kept > least * weights.shape()[1] {
            return None;
        }
        let with_rows = |group: Vec<Part>| Some((group.clone(), rows(weights, &group)?));
        Some(Sum { activations, groups: groups.into_values().map(with_rows).collect::<Option<_>>()? })
    }

    fn apply(&mut self, graph: &mut Graph, i: usize, sum: Sum) -> Vec<Node> {
        let Node { name, outputs, .. } = graph.nodes[i].clone();
        let fact = graph.fact(outputs[0]).clone();
        let (last, mut nodes, mut total) = (sum.groups.len() - 1, Vec::new(), None);
        for (at, (group, rows)) in sum.groups.into_iter().enumerate() {
            let left = self.activated(graph, &name, &group, &sum.activations, &mut nodes);
            let mut push = |graph: &mut Graph, op: Op, inputs: Vec<ValueId>, whole: bool| {
                let result = if whole { outputs[0] } else { graph.add_value(&name, fact.clone()) };
                nodes.push(Node { name: name.clone(), op, inputs, outputs: std::vec![result] });
                result
            };
            let right = graph.add_constant(rows);
            let product = push(graph, MatMul::PLAIN.into(), std::vec![left, right], false);
            total = Some(match total {
                Some(total) => {
                    let add = Map::single(MapCode::Add, 2, DType::F32);
                    push(graph, add.into(), std::vec![product, total], at == last)
                }
                None => product,
            });
        }
        nodes
    }

    /// The parts side by side, activated.
    fn activated(
        &mut self,
        graph: &mut Graph,
        name: &str,
        group: &[Part],
        activations: &[Map],
        nodes: &mut Vec<Node>,
    ) -> ValueId {
        let parts: Vec<ValueId> = group.iter().map(|part| part.value).collect();
        let known = self.activated.iter().find(|(own, maps, _)| *own == parts && maps == activations);
        if let Some(&(_, _, value)) = known {
            return value;
        }
        let mut fact = graph.fact(parts[0]).clone();
        if let Some(columns) = fact.shape.last_mut() {
            *columns = group.iter().map(|part| part.columns).sum();
        }
        let axis = fact.rank() - 1;
        let mut push = |graph: &mut Graph, op: Op, inputs: Vec<ValueId>, fact: &Fact| {
            let result = graph.add_value(name, fact.clone());
            nodes.push(Node { name: String::from(name), op, inputs, outputs: std::vec![result] });
            result
        };
        let mut value = match parts[..] {
            [only] => only,
            _ => push(graph, Concat { axis }.into(), parts.clone(), &fact),
        };
        for map in activations {
            value = push(graph, map.clone().into(), std::vec![value], &fact);
        }
        self.activated.push((parts, activations.to_vec(), value));
        value
    }
}

/// The rows of the right matrix that a group's columns meet.
fn rows(weights: &Tensor, group: &[Part]) -> Option<Tensor> {
    let n = weights.shape()[1];
    let columns = group.iter().map(|part| part.columns).sum();
    let positions = group.iter().flat_map(|part| part.start * n..(part.start + part.columns) * n);
    Tensor::new(&[columns, n], weights.data().select(positions)).ok()
}
