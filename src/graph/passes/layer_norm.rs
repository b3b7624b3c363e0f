//! Layer and RMS normalisation as older exporters write them out, or as no operator says them: a mean of squares, a root and a
//! quotient. One node again, whose scale and shift the passes to come find.

use super::super::{Graph, Node, ValueId};
use crate::kernels::{Activation, MapCode, ReduceKind};
use crate::ops::{Norm, Op, Over, Reduce};
use std::collections::HashMap;

pub fn whole(mut graph: Graph) -> Graph {
    let producers = graph.producers();
    for i in 0..graph.nodes.len() {
        let written = Written { graph: &graph, producers: &producers };
        if let Some((norm, x)) = written.norm(&graph.nodes[i]) {
            graph.nodes[i].op = norm.into();
            graph.nodes[i].inputs = std::vec![x];
        }
    }
    graph.remove_dead()
}

/// What values are computed of, before anything is fused.
struct Written<'a> {
    graph: &'a Graph,
    producers: &'a HashMap<ValueId, usize>,
}

impl Written<'_> {
    /// The normalisation, and of what, that a quotient or a product completes.
    fn norm(&self, node: &Node) -> Option<(Norm, ValueId)> {
        let (centered, mean) = self.quotient(node)?;
        let [x, y] = self.operands(mean, MapCode::Add)?;
        let (mean, epsilon) = match (self.scalar(y), self.scalar(x)) {
            (Some(epsilon), _) => (x, epsilon),
            (None, Some(epsilon)) => (y, epsilon),
            (None, None) => return None,
        };
        let (squares, axis) = self.mean(mean)?;
        if self.square(squares)? != centered || epsilon < 0.0 {
            return None;
        }
        let norm = |center| Norm {
            over: Over::Trailing(axis),
            center,
            epsilon,
            gamma: false,
            beta: false,
            activation: Activation::None,
        };
        let around_mean = |[x, mean]: [ValueId; 2]| (self.mean(mean)? == (x, axis)).then_some(x);
        match self.operands(centered, MapCode::Sub).and_then(around_mean) {
            Some(x) => Some((norm(true), x)),
            None => Some((norm(false), centered)),
        }
    }

    /// x and y of `x / sqrt(y)` or `x * (1 / sqrt(y))`.
    fn quotient(&self, node: &Node) -> Option<(ValueId, ValueId)> {
        let root = |value| Some(self.operands(value, MapCode::Sqrt)?[0]);
        if let Some([x, by]) = step(node, MapCode::Div) {
            return Some((x, root(by)?));
        }
        let [x, y] = step(node, MapCode::Mul)?;
        let reciprocal = |value| {
            if let Some([value, _]) = self.operands(value, MapCode::Reciprocal) {
                return root(value);
            }
            if let Some([base, exponent]) = self.operands(value, MapCode::Pow) {
                return (self.scalar(exponent) == Some(-0.5)).then_some(base);
            }
            let [one, by] = self.operands(value, MapCode::Div)?;
            (self.scalar(one) == Some(1.0)).then(|| root(by)).flatten()
        };
        reciprocal(y).map(|y| (x, y)).or_else(|| reciprocal(x).map(|x| (y, x)))
    }

    /// What a value is the mean of, and the first of the axes, all trailing, that it is taken over.
    fn mean(&self, value: ValueId) -> Option<(ValueId, usize)> {
        let node = &self.graph.nodes[*self.producers.get(&value)?];
        let Op::Reduce(Reduce { kind: ReduceKind::Mean, axes, keep: true }) = &node.op else { return None };
        let (x, first) = (node.inputs[0], *axes.first()?);
        (first..self.graph.fact(x).rank()).eq(axes.iter().copied()).then_some((x, first))
    }

    fn square(&self, value: ValueId) -> Option<ValueId> {
        if let Some([x, exponent]) = self.operands(value, MapCode::Pow) {
            return (self.scalar(exponent) == Some(2.0)).then_some(x);
        }
        self.operands(value, MapCode::Mul).and_then(|[x, y]| (x == y).then_some(x))
    }

    fn scalar(&self, value: ValueId) -> Option<f32> {
        self.graph.constant(value).filter(|tensor| tensor.len() == 1).map(|tensor| tensor.to_f32()[0])
    }

    /// The operands of the operation that computes a value, if it is this one.
    fn operands(&self, value: ValueId, code: MapCode) -> Option<[ValueId; 2]> {
        step(&self.graph.nodes[*self.producers.get(&value)?], code)
    }
}

/// The operands of a node that is this operation alone; the same twice where it has one.
fn step(node: &Node, code: MapCode) -> Option<[ValueId; 2]> {
    let Op::Map(map) = &node.op else { return None };
    match (&map.steps[..], &node.inputs[..]) {
        ([only], [x]) if only.code == code && code.arity() == 1 => Some([*x, *x]),
        ([only], [x, y]) if only.code == code && code.arity() == 2 => Some([*x, *y]),
        _ => None,
    }
}
