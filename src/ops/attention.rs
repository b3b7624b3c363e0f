//! Attention. ONNX's operator of that name (operator set 23) is imported as the products and the softmax that it stands
//! for; a pass finds those, wherever they come from.

use super::{Call, MAX_COMPUTED, MatMul, OpError, Operator, Softmax, elements, problem, unsupported};
use crate::graph::{Builder, Data, Fact, Node, Tensor, ValueId};
use crate::kernels::{AttentionShape, DType, MapCode, attention_scratch};
use crate::plan::{Instruction, Lower, canonical};
use std::vec::Vec;

/// `softmax(scale * q @ k) @ v`, the softmax along rows. Inputs: q [.., m, depth], k [.., depth, n], v [.., n, values],
/// with the same leading dimensions.
#[derive(Clone, Debug, PartialEq)]
pub struct Attention {
    /// Above 0.
    pub scale: f32,
}

impl Operator for Attention {
    fn shapes(&self, inputs: &[&Fact]) -> Result<Vec<Fact>, OpError> {
        let scores = MatMul::PLAIN.shapes(&inputs[..2])?;
        let results = MatMul::PLAIN.shapes(&[&scores[0], inputs[2]])?;
        let lead = |fact: &Fact| fact.shape[..fact.rank() - 2].to_vec();
        if inputs.iter().any(|input| lead(input) != lead(&results[0])) {
            return Err(problem!("{}, {} and {} differ in their heads", inputs[0], inputs[1], inputs[2]));
        }
        Ok(results)
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let scores = MatMul::PLAIN.reference(&inputs[..2])?;
        let softmax = Softmax { axis: scores[0].rank() - 1, scale: self.scale };
        let weights = softmax.reference(&[&scores[0]])?;
        MatMul::PLAIN.reference(&[&weights[0], inputs[2]])
    }

    fn lower(&self, lower: &mut Lower, node: &Node) -> Result<(), OpError> {
        let rank = lower.fact(node.outputs[0]).rank();
        let q = lower.place(node.inputs[0])?;
        let q = lower.rows(q)?;
        let (k, v) = (lower.place(node.inputs[1])?, lower.place(node.inputs[2])?);
        let order =
            Some(lower.wanted_order(node.outputs[0])).filter(|order| order.last() == Some(&(rank - 1)));
        let y = lower.output(node.outputs[0], &order.unwrap_or_else(|| canonical(rank)))?;
        let shape = AttentionShape {
            heads: q.dims[..rank - 2].iter().product(),
            m: q.dims[rank - 2],
            n: v.dims[rank - 2],
            depth: q.dims[rank - 1],
            values: v.dims[rank - 1],
        };
        let floats = attention_scratch(&shape, lower.packing.columns(false))
            .ok_or_else(|| unsupported!("an attention of {shape:?} is too large"))?;
        let scratch = lower.allocate(&Fact::new(DType::F32, &[floats]), &[0]);
        let [q, k, v, scratch] = lower.view_each([&q, &k, &v, &scratch])?;
        let y = lower.view(&y)?;
        lower.emit(Instruction::Attention { q, k, v, scale: self.scale, scratch, y });
        Ok(())
    }

    fn flops(&self, inputs: &[Fact], outputs: &[Fact]) -> u64 {
        let (q, rank) = (&inputs[0], inputs[0].rank());
        let scores = q.len() / q.shape[rank - 1].max(1) * inputs[1].shape[rank - 1];
        (scores * (2 * q.shape[rank - 1] + 2 * outputs[0].shape[rank - 1] + 5)) as u64
    }
}

/// Queries, keys and values as [batch, heads, positions, size of a head].
pub fn import(b: &mut Builder, call: &Call) -> Result<Vec<ValueId>, OpError> {
    if call.outputs > 1 || call.optional(4).is_some() {
        return Err(unsupported!("Attention has no kernel for past keys and further outputs"));
    }
    let flat = b.shape(call.input(0)?).len() == 3;
    let query = heads(b, call, 0, "q_num_heads")?;
    let mut key = heads(b, call, 1, "kv_num_heads")?;
    let mut value = heads(b, call, 2, "kv_num_heads")?;
    let &[batch, count, length, size] = b.shape(query) else {
        return Err(problem!("queries are {}, not 4 dimensions", b.fact(query)));
    };
    key = shared_heads(b, key, count)?;
    value = shared_heads(b, value, count)?;
    let scale = call.float("scale", (size as f32).sqrt().recip())?;
    let turned = b.transpose(key, &[0, 1, 3, 2])?;
    let mut scores = b.push(MatMul::PLAIN, &[query, turned])?;
    let factor = b.scalar(scale);
    scores = b.map2(MapCode::Mul, scores, factor)?;
    let mask = mask(b, call, scores)?;
    let cap = call.float("softcap", 0.0)?;
    if cap != 0.0 {
        let cap = b.scalar(cap);
        let scaled = b.map2(MapCode::Div, scores, cap)?;
        let bounded = b.map1(MapCode::Tanh, scaled)?;
        scores = b.map2(MapCode::Mul, bounded, cap)?;
    }
    if let Some(mask) = mask {
        scores = b.map2(MapCode::Add, scores, mask)?;
    }
    let weights = b.push(Softmax { axis: 3, scale: 1.0 }, &[scores])?;
    let mixed = b.push(MatMul::PLAIN, &[weights, value])?;
    if !flat {
        return Ok(std::vec![mixed]);
    }
    let width = b.shape(mixed)[3];
    let joined = b.transpose(mixed, &[0, 2, 1, 3])?;
    Ok(std::vec![b.reshape(joined, &[batch, length, count * width])?])
}

fn heads(b: &mut Builder, call: &Call, i: usize, name: &str) -> Result<ValueId, OpError> {
    let x = call.input(i)?;
    let &[batch, length, width] = b.shape(x) else { return Ok(x) };
    let count = usize::try_from(call.int(name, 0)?).unwrap_or(0);
    if count == 0 || !width.is_multiple_of(count) {
        return Err(problem!("{name}={count} does not divide {width}"));
    }
    let split = b.reshape(x, &[batch, length, count, width / count])?;
    b.transpose(split, &[0, 2, 1, 3])
}

/// Repeats each head of keys or values that several heads of queries share.
fn shared_heads(b: &mut Builder, x: ValueId, count: usize) -> Result<ValueId, OpError> {
    let &[batch, own, length, size] = b.shape(x) else {
        return Err(problem!("keys and values need 4 dimensions, not {}", b.fact(x)));
    };
    if own == count {
        return Ok(x);
    }
    if own == 0 || !count.is_multiple_of(own) {
        return Err(problem!("{count} heads of queries can not share {own} of keys"));
    }
    let column = b.reshape(x, &[batch, own, 1, length, size])?;
    let wide = b.expand(column, &[batch, own, count / own, length, size])?;
    b.reshape(wide, &[batch, count, length, size])
}

/// What is added to the scores: the mask input and the causal triangle.
fn mask(b: &mut Builder, call: &Call, scores: ValueId) -> Result<Option<ValueId>, OpError> {
    let mut mask = match call.optional(3) {
        Some(mask) if b.fact(mask).dtype == DType::Bool => {
            let (zero, never) = (b.scalar(0.0), b.scalar(f32::NEG_INFINITY));
            Some(b.push(super::Map::single(MapCode::Where, 3, DType::F32), &[mask, zero, never])?)
        }
        mask => mask,
    };
    if call.flag("is_causal", false)? {
        let (rows, columns) = (b.shape(scores)[2], b.shape(scores)[3]);
        elements(&[rows, columns], MAX_COMPUTED)?;
        let above = |i: usize| if i % columns > i / columns { f32::NEG_INFINITY } else { 0.0 };
        let triangle: Vec<f32> = (0..rows * columns).map(above).collect();
        let triangle = b.constant(Tensor::new(&[rows, columns], Data::F32(triangle))?);
        mask = Some(match mask {
            Some(mask) => b.map2(MapCode::Add, mask, triangle)?,
            None => triangle,
        });
    }
    Ok(mask)
}
