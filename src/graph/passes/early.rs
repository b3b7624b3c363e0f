//! Products that make less of their operand run before what else reads it, so that the operand's memory is free sooner: the
//! projection around a residual block whose input is a concatenation.

use super::super::{Graph, Node};
use crate::ops::Op;
use std::vec::Vec;

pub fn projections(mut graph: Graph) -> Graph {
    let mut readers = std::vec![Vec::new(); graph.values.len()];
    for (i, node) in graph.nodes.iter().enumerate() {
        node.inputs.iter().for_each(|input| readers[input.index()].push(i));
    }
    // Where each node runs: in its place, or before the one that is there.
    let place = |(i, node)| early(&graph, i, node, &readers).map_or((i, true), |first| (first, false));
    let places: Vec<(usize, bool)> = graph.nodes.iter().enumerate().map(place).collect();
    let mut nodes: Vec<((usize, bool), Node)> = places.into_iter().zip(graph.nodes).collect();
    nodes.sort_by_key(|&(place, _)| place);
    graph.nodes = nodes.into_iter().map(|(_, node)| node).collect();
    graph
}

/// The first reader of a node's operand, if the node is the last one and its result is the smaller.
fn early(graph: &Graph, i: usize, node: &Node, readers: &[Vec<usize>]) -> Option<usize> {
    if !matches!(node.op, Op::Conv(_) | Op::MatMul(_)) {
        return None;
    }
    let [x, ref constants @ ..] = node.inputs[..] else { return None };
    let shrinks = graph.fact(node.outputs[0]).len() < graph.fact(x).len();
    let alone = graph.constant(x).is_none() && constants.iter().all(|&id| graph.constant(id).is_some());
    let (&first, &last) = (readers[x.index()].first()?, readers[x.index()].last()?);
    (shrinks && alone && last == i && !graph.outputs.contains(&x)).then_some(first)
}
