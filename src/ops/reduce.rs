//! Reductions over axes.

use super::{Call, OpError, Operator, normal_axis, problem, unsupported};
use crate::graph::{Builder, Data, Fact, Node, Tensor, ValueId, contiguous_strides};
use crate::kernels::{DType, MapCode, ReduceKind};
use crate::plan::{Instruction, Lower, canonical};
use std::vec::Vec;

/// Sum, mean, maximum ... over some axes, which stay with size 1 (`keep`) or go.
#[derive(Clone, Debug, PartialEq)]
pub struct Reduce {
    pub kind: ReduceKind,
    /// Rising. The Arg kinds have one.
    pub axes: Vec<usize>,
    pub keep: bool,
}

impl Reduce {
    /// The axes that are not reduced.
    pub fn kept(&self, rank: usize) -> Vec<usize> {
        (0..rank).filter(|a| !self.axes.contains(a)).collect()
    }

    pub fn is_arg(&self) -> bool {
        use ReduceKind::*;
        matches!(self.kind, ArgMax | ArgMin | ArgMaxLast | ArgMinLast)
    }
}

impl Operator for Reduce {
    fn shapes(&self, inputs: &[&Fact]) -> Result<Vec<Fact>, OpError> {
        use ReduceKind::*;
        let x = inputs[0];
        if self.axes.iter().any(|&a| a >= x.rank()) {
            return Err(problem!("{x} has no axes {:?}", self.axes));
        }
        let integers = self.is_arg() || matches!(self.kind, Sum | Prod | Max | Min);
        if x.dtype == DType::Bool || (x.dtype == DType::I64 && !integers) {
            return Err(unsupported!("{:?} has no kernel for {}", self.kind, x.dtype));
        }
        let needs_one = matches!(self.kind, Max | Min) || self.is_arg();
        if let Some(axis) = self.axes.iter().find(|&&a| needs_one && x.shape[a] == 0) {
            return Err(problem!("{:?} over axis {axis} of {x}, which is empty", self.kind));
        }
        let dtype = if self.is_arg() { DType::I64 } else { x.dtype };
        let shape = (0..x.rank())
            .filter_map(|a| match self.axes.contains(&a) {
                true => self.keep.then_some(1),
                false => Some(x.shape[a]),
            })
            .collect();
        Ok(std::vec![Fact { dtype, shape }])
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let shape = self.shapes(&[&inputs[0].fact()])?.remove(0).shape;
        let own = inputs[0].shape();
        let strides = contiguous_strides(own);
        let order: Vec<usize> = self.kept(own.len()).into_iter().chain(self.axes.iter().copied()).collect();
        let dims: Vec<usize> = order.iter().map(|&a| own[a]).collect();
        let moved: Vec<isize> = order.iter().map(|&a| strides[a]).collect();
        let x = inputs[0].strided(&dims, &moved, 0);
        let n: usize = self.axes.iter().map(|&a| own[a]).product();
        let rows: usize = shape.iter().product();
        let row = |i: usize| i * n..(i + 1) * n;
        let data = match x.data() {
            Data::F32(v) if self.is_arg() => {
                Data::I64((0..rows).map(|i| self.arg(v[row(i)].iter().map(|&x| f64::from(x)))).collect())
            }
            Data::F32(v) => Data::F32((0..rows).map(|i| self.floats(&v[row(i)]) as f32).collect()),
            Data::I64(v) if self.is_arg() => {
                Data::I64((0..rows).map(|i| self.arg(v[row(i)].iter().map(|&x| x as f64))).collect())
            }
            Data::I64(v) => Data::I64((0..rows).map(|i| self.integers(&v[row(i)])).collect()),
            Data::Bool(_) => return Err(problem!("{:?} has no kernel for bool", self.kind)),
        };
        Ok(std::vec![Tensor::new(&shape, data)?])
    }

    fn lower(&self, lower: &mut Lower, node: &Node) -> Result<(), OpError> {
        let place = lower.place(node.inputs[0])?;
        let kept = self.kept(place.rank());
        let result = lower.result(node.outputs[0], &canonical(lower.fact(node.outputs[0]).rank()));
        let order: Vec<usize> = kept.iter().chain(&self.axes).copied().collect();
        let y = if self.keep { result.permuted(&kept) } else { result };
        let (input, output) = (lower.view(&place.permuted(&order))?, lower.view(&y)?);
        lower.emit(Instruction::Reduce { kind: self.kind, input, output });
        Ok(())
    }

    fn flops(&self, inputs: &[Fact], _outputs: &[Fact]) -> u64 {
        inputs[0].len() as u64
    }
}

impl Reduce {
    fn floats(&self, row: &[f32]) -> f64 {
        let x = || row.iter().map(|&x| f64::from(x));
        match self.kind {
            ReduceKind::Sum => x().sum(),
            ReduceKind::Mean => x().sum::<f64>() / row.len() as f64,
            ReduceKind::Prod => x().product(),
            ReduceKind::Max => x().fold(f64::NEG_INFINITY, f64::max),
            ReduceKind::Min => x().fold(f64::INFINITY, f64::min),
            ReduceKind::L1 => x().map(f64::abs).sum(),
            ReduceKind::L2 => x().map(|x| x * x).sum::<f64>().sqrt(),
            ReduceKind::SumSquare => x().map(|x| x * x).sum(),
            _ => {
                let max = x().fold(f64::NEG_INFINITY, f64::max);
                max + x().map(|x| (x - max).exp()).sum::<f64>().ln()
            }
        }
    }

    fn integers(&self, row: &[i64]) -> i64 {
        let x = row.iter().copied();
        match self.kind {
            ReduceKind::Prod => x.fold(1, i64::wrapping_mul),
            ReduceKind::Max => x.max().unwrap_or_default(),
            ReduceKind::Min => x.min().unwrap_or_default(),
            _ => x.fold(0, i64::wrapping_add),
        }
    }

    fn arg(&self, row: impl Iterator<Item = f64>) -> i64 {
        let smallest = matches!(self.kind, ReduceKind::ArgMin | ReduceKind::ArgMinLast);
        let last = matches!(self.kind, ReduceKind::ArgMaxLast | ReduceKind::ArgMinLast);
        let mut best = (0, f64::NEG_INFINITY);
        for (i, x) in row.map(|x| if smallest { -x } else { x }).enumerate() {
            if i == 0 || x > best.1 || (last && x == best.1) {
                best = (i as i64, x);
            }
        }
        best.0
    }
}

const KINDS: &[(&str, ReduceKind)] = &[
    ("ReduceSum", ReduceKind::Sum),
    ("ReduceMean", ReduceKind::Mean),
    ("ReduceMax", ReduceKind::Max),
    ("ReduceMin", ReduceKind::Min),
    ("ReduceProd", ReduceKind::Prod),
    ("ReduceL1", ReduceKind::L1),
    ("ReduceL2", ReduceKind::L2),
    ("ReduceSumSquare", ReduceKind::SumSquare),
    ("ReduceLogSum", ReduceKind::Sum),
    ("ReduceLogSumExp", ReduceKind::LogSumExp),
];

pub const NAMES: &[&str] = &{
    let mut names = [""; KINDS.len()];
    let mut i = 0;
    while i < KINDS.len() {
        names[i] = KINDS[i].0;
        i += 1;
    }
    names
};

pub fn import(b: &mut Builder, call: &Call) -> Result<Vec<ValueId>, OpError> {
    let x = call.input(0)?;
    let rank = b.shape(x).len();
    let row = KINDS.iter().find(|row| row.0 == call.operator);
    let kind = row.ok_or_else(|| problem!("{} is no reduction", call.operator))?.1;
    let axes = call.axes_at(b, 1, "axes", rank)?.filter(|axes| !axes.is_empty());
    let axes = match axes {
        Some(axes) => axes,
        None if call.flag("noop_with_empty_axes", false)? => Vec::new(),
        None => (0..rank).collect(),
    };
    let reduced = b.push(Reduce { kind, axes, keep: call.flag("keepdims", true)? }, &[x])?;
    Ok(std::vec![if call.operator == "ReduceLogSum" { b.map1(MapCode::Log, reduced)? } else { reduced }])
}

pub fn import_arg(b: &mut Builder, call: &Call) -> Result<Vec<ValueId>, OpError> {
    let x = call.input(0)?;
    let axis = normal_axis(call.int("axis", 0)?, b.shape(x).len())?;
    let kind = match (call.operator.as_str(), call.flag("select_last_index", false)?) {
        ("ArgMax", false) => ReduceKind::ArgMax,
        ("ArgMax", true) => ReduceKind::ArgMaxLast,
        (_, false) => ReduceKind::ArgMin,
        (_, true) => ReduceKind::ArgMinLast,
    };
    Ok(std::vec![b.push(Reduce { kind, axes: std::vec![axis], keep: call.flag("keepdims", true)? }, &[x])?])
}
