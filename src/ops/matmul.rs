//! Matrix products.

use super::epilogue::finish;
use super::{Call, OpError, Operator, broadcast_shapes, problem, unsupported};
use crate::graph::{Builder, Fact, Node, Tensor, ValueId};
use crate::kernels::{Activation, DType, MapCode};
use crate::plan::{Instruction, Lower, Matrix, canonical, merge_rows, pack};
use std::vec::Vec;

/// `activation(a @ b + bias + residual)` with NumPy's rules for `@` on two or more dimensions. Inputs: a [.., m, k],
/// b [.., k, n], then bias `[n]` and a residual of the result's shape, where there is one.
#[derive(Clone, Debug, PartialEq)]
pub struct MatMul {
    pub bias: bool,
    pub residual: bool,
    pub activation: Activation,
}

impl MatMul {
    pub const PLAIN: MatMul = MatMul { bias: false, residual: false, activation: Activation::None };
}

impl Operator for MatMul {
    fn shapes(&self, inputs: &[&Fact]) -> Result<Vec<Fact>, OpError> {
        let (a, b) = (inputs[0], inputs[1]);
        if a.dtype != DType::F32 || b.dtype != DType::F32 || a.rank() < 2 || b.rank() < 2 {
            return Err(unsupported!("a matrix product needs f32 matrices, not {a} and {b}"));
        }
        let ((a_lead, a_tail), (b_lead, b_tail)) =
            (a.shape.split_at(a.rank() - 2), b.shape.split_at(b.rank() - 2));
        if a_tail[1] != b_tail[0] {
            return Err(problem!("{a} and {b} do not multiply: {} columns, {} rows", a_tail[1], b_tail[0]));
        }
        let mut shape = broadcast_shapes([a_lead, b_lead].into_iter())?;
        shape.extend([a_tail[0], b_tail[1]]);
        Ok(std::vec![Fact { dtype: DType::F32, shape }])
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let facts: Vec<Fact> = inputs.iter().map(|t| t.fact()).collect();
        let shape = self.shapes(&facts.iter().collect::<Vec<_>>())?.remove(0).shape;
        let (lead, tail) = shape.split_at(shape.len() - 2);
        let (m, n, k) = (tail[0], tail[1], inputs[0].shape()[inputs[0].rank() - 1]);
        let a = inputs[0].broadcast(&[lead, &[m, k]].concat()).to_f32();
        let b = inputs[1].broadcast(&[lead, &[k, n]].concat()).to_f32();
        let batches: usize = lead.iter().product();
        let sums = indices3(batches, m, n).map(|(batch, row, column)| {
            let product =
                |i| f64::from(a[(batch * m + row) * k + i]) * f64::from(b[(batch * k + i) * n + column]);
            (0..k).map(product).sum::<f64>()
        });
        let bias = self.bias.then(|| inputs[2]);
        let residual = self.residual.then(|| inputs[2 + usize::from(self.bias)]);
        Ok(std::vec![finish(sums, &shape, shape.len() - 1, bias, residual, self.activation)?])
    }

    fn lower(&self, lower: &mut Lower, node: &Node) -> Result<(), OpError> {
        let shape = lower.fact(node.outputs[0]).shape.clone();
        let rank = shape.len();
        let (lead, m, n) = (&shape[..rank - 2], shape[rank - 2], shape[rank - 1]);
        let a = lower.place(node.inputs[0])?;
        let k = a.dims[a.rank() - 1];
        let mut rows = std::vec![lower.rows(a)?.broadcast(&[lead, &[m, k]].concat())];
        let order =
            Some(lower.wanted_order(node.outputs[0])).filter(|order| order.last() == Some(&(rank - 1)));
        rows.push(lower.output(node.outputs[0], &order.unwrap_or_else(|| canonical(rank)))?);
        if self.residual {
            let residual = lower.place(node.inputs[2 + usize::from(self.bias)])?;
            rows.push(lower.rows(residual)?);
        }
        let right = lower.known(node.inputs[1]);
        let b = match right.filter(|t| t.shape()[..t.rank() - 2].iter().all(|&d| d == 1)) {
            Some(weights) => {
                merge_rows(&mut rows);
                let elements = weights.as_f32()?;
                let rows = pack::matrix(elements, n);
                let scales =
                    if lower.is_thin(k, n) { None } else { lower.scales(node, node.inputs[0], 0, k) };
                Matrix::Packed(lower.panels(&pack::Weights { depth: k, n, rows: &rows }, scales.as_deref())?)
            }
            None => {
                let b = lower.place(node.inputs[1])?.broadcast(&[lead, &[k, n]].concat());
                let floats = lead.iter().product::<usize>() * lower.packing.packed_len(k, n);
                let scratch = lower.allocate(&Fact::new(DType::F32, &[floats]), &[0]);
                Matrix::Dynamic { matrix: lower.view(&b)?, scratch: lower.view(&scratch)? }
            }
        };
        let bias = lower.vector(self.bias.then(|| node.inputs[2]))?;
        let bias = lower.optional_view(bias.as_ref())?;
        let [a, c] = lower.view_each([&rows[0], &rows[1]])?;
        let residual = lower.optional_view(rows.get(2))?;
        if matches!(b, Matrix::Packed(_)) {
            lower.note_product(a, node.inputs[0], 0);
        }
        lower.emit(Instruction::Gemm { a, b, bias, residual, activation: self.activation, c });
        Ok(())
    }

    fn flops(&self, inputs: &[Fact], outputs: &[Fact]) -> u64 {
        2 * outputs[0].len() as u64 * inputs[0].shape.last().copied().unwrap_or(1) as u64
    }
}

fn indices3(a: usize, b: usize, c: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..a).flat_map(move |i| (0..b).flat_map(move |j| (0..c).map(move |k| (i, j, k))))
}

pub fn import(b: &mut Builder, call: &Call) -> Result<Vec<ValueId>, OpError> {
    let inputs = [call.input(0)?, call.input(1)?];
    let result = if call.operator == "Gemm" { gemm(b, call, inputs)? } else { matmul(b, inputs)? };
    Ok(std::vec![result])
}

fn gemm(b: &mut Builder, call: &Call, [mut x, mut y]: [ValueId; 2]) -> Result<ValueId, OpError> {
    if call.flag("transA", false)? {
        x = b.transpose(x, &[1, 0])?;
    }
    if call.flag("transB", false)? {
        y = b.transpose(y, &[1, 0])?;
    }
    let (alpha, beta) = (call.float("alpha", 1.0)?, call.float("beta", 1.0)?);
    if alpha != 1.0 {
        let alpha = b.scalar(alpha);
        y = b.map2(MapCode::Mul, y, alpha)?;
    }
    let product = b.push(MatMul::PLAIN, &[x, y])?;
    let Some(mut c) = call.optional(2) else { return Ok(product) };
    if beta != 1.0 {
        let beta = b.scalar(beta);
        c = b.map2(MapCode::Mul, c, beta)?;
    }
    b.map2(MapCode::Add, product, c)
}

/// NumPy's `@`: a vector is a matrix of one row on the left, of one column on the right.
fn matmul(b: &mut Builder, [mut x, mut y]: [ValueId; 2]) -> Result<ValueId, OpError> {
    let (row, column) = (b.shape(x).len() == 1, b.shape(y).len() == 1);
    if row {
        x = b.reshape(x, &[1, b.shape(x)[0]])?;
    }
    if column {
        y = b.reshape(y, &[b.shape(y)[0], 1])?;
    }
    let mut product = b.push(MatMul::PLAIN, &[x, y])?;
    let rank = b.shape(product).len();
    let mut shape = b.shape(product).to_vec();
    if column {
        shape.remove(rank - 1);
    }
    if row {
        shape.remove(rank - 2);
    }
    if row || column {
        product = b.reshape(product, &shape)?;
    }
    Ok(product)
}
