//! ONNX operators whose result is known when the shapes are.

use super::{Attribute, Call, Integer, MAX_COMPUTED, Map, OpError, elements, problem, unsupported};
use crate::graph::{Builder, Data, Tensor, ValueId};
use crate::kernels::{DType, IntCode, MapCode};
use crate::ops::elementwise::run_time_type;
use std::vec::Vec;

pub fn import_identity(_: &mut Builder, call: &Call) -> Result<Vec<ValueId>, OpError> {
    if call.outputs > 1 {
        return Err(unsupported!("{} has a kernel for its first output only", call.operator));
    }
    Ok(std::vec![call.input(0)?])
}

pub fn import_shape(b: &mut Builder, call: &Call) -> Result<Vec<ValueId>, OpError> {
    let shape: Vec<i64> = b.shape(call.input(0)?).iter().map(|&d| d as i64).collect();
    if call.operator == "Size" {
        let size = Tensor::new(&[], Data::I64(std::vec![shape.iter().product()]))?;
        return Ok(std::vec![b.constant(size)]);
    }
    let rank = shape.len() as i64;
    let bound = |i: i64| if i < 0 { (i + rank).max(0) } else { i.min(rank) } as usize;
    let (start, end) = (bound(call.int("start", 0)?), bound(call.int("end", rank)?));
    Ok(std::vec![b.integers(shape.get(start..end).unwrap_or_default().to_vec())])
}

pub fn import_constant(b: &mut Builder, call: &Call) -> Result<Vec<ValueId>, OpError> {
    let tensor = match call.operator.as_str() {
        "Constant" => constant(call)?,
        "ConstantOfShape" => filled(b, call)?,
        "Range" => range(b, call)?,
        _ => eye(b, call)?,
    };
    Ok(std::vec![b.constant(tensor)])
}

fn constant(call: &Call) -> Result<Tensor, OpError> {
    let vector = |n: usize| [n];
    match call.attributes.iter().find(|(name, _)| name.starts_with("value")).map(|(_, value)| value) {
        Some(Attribute::Tensor(tensor)) => Ok(tensor.clone()),
        Some(Attribute::Float(x)) => Ok(Tensor::scalar(*x)),
        Some(Attribute::Int(x)) => Tensor::new(&[], Data::I64(std::vec![*x])),
        Some(Attribute::Floats(x)) => Tensor::f32(&vector(x.len()), x.clone()),
        Some(Attribute::Ints(x)) => Ok(Tensor::integers(x.clone())),
        _ => Err(problem!("Constant has no numeric value")),
    }
}

fn filled(b: &Builder, call: &Call) -> Result<Tensor, OpError> {
    let dims = call.known(b, 0)?.ok_or_else(|| problem!("ConstantOfShape has no shape"))?.to_i64();
    let shape: Option<Vec<usize>> = dims.iter().map(|&d| usize::try_from(d).ok()).collect();
    let shape = shape.ok_or_else(|| problem!("{dims:?} has a negative dimension"))?;
    elements(&shape, MAX_COMPUTED)?;
    match call.attributes.get("value") {
        Some(Attribute::Tensor(value)) if value.len() == 1 => {
            Ok(value.clone().reshaped(&[])?.broadcast(&shape))
        }
        Some(_) => Err(problem!("the value of ConstantOfShape is not one element")),
        None => Ok(Tensor::scalar(0.0).broadcast(&shape)),
    }
}

fn range(b: &Builder, call: &Call) -> Result<Tensor, OpError> {
    let ends: Option<Vec<_>> = (0..3).map(|i| call.known(b, i).transpose()).collect();
    let ends = ends.ok_or_else(|| problem!("Range needs start, limit and delta"))?;
    let ends = ends.into_iter().collect::<Result<Vec<_>, _>>()?;
    let first = |i: usize| ends[i].to_f32().first().copied().unwrap_or(0.0) as f64;
    let (start, limit, delta) = (first(0), first(1), first(2));
    let count = ((limit - start) / delta).ceil().max(0.0);
    if !count.is_finite() || count > MAX_COMPUTED as f64 {
        return Err(problem!("a range from {start} to {limit} by {delta} has too many elements"));
    }
    let steps = 0..count as i64;
    if ends[0].dtype() == DType::I64 {
        let (start, delta) = (ends[0].to_i64()[0], ends[2].to_i64()[0]);
        return Ok(Tensor::integers(steps.map(|i| start + i * delta).collect()));
    }
    let values: Vec<f32> = steps.map(|i| (start + i as f64 * delta) as f32).collect();
    Tensor::f32(&[values.len()], values)
}

fn eye(b: &Builder, call: &Call) -> Result<Tensor, OpError> {
    let like = b.fact(call.input(0)?);
    let &[rows, columns] = &like.shape[..] else {
        return Err(problem!("EyeLike needs a matrix, not {like}"));
    };
    let dtype = match call.attributes.get("dtype") {
        Some(Attribute::Int(onnx)) => run_time_type(*onnx)?,
        _ => like.dtype,
    };
    elements(&like.shape, MAX_COMPUTED)?;
    let offset = call.int("k", 0)?;
    let ones = (0..rows * columns).map(|i| (i % columns) as i64 - (i / columns) as i64 == offset);
    let data = match dtype {
        DType::F32 => Data::F32(ones.map(|one| f32::from(u8::from(one))).collect()),
        DType::I64 => Data::I64(ones.map(i64::from).collect()),
        DType::Bool => Data::Bool(ones.collect()),
    };
    Tensor::new(&[rows, columns], data)
}

/// `where(indices == 0..depth, on, off)`.
pub fn import_one_hot(b: &mut Builder, call: &Call) -> Result<Vec<ValueId>, OpError> {
    let depth = call.known(b, 1)?.ok_or_else(|| problem!("OneHot has no depth"))?;
    let depth = depth.to_i64().first().copied().filter(|d| (1..=MAX_COMPUTED as i64).contains(d));
    let depth = depth.ok_or_else(|| problem!("OneHot has no usable depth"))?;
    let indices = super::elementwise::cast(b, call.input(0)?, DType::I64)?;
    let rank = b.shape(indices).len();
    let axis = match call.int("axis", -1)? {
        -1 => rank,
        axis => super::normal_axis(axis, rank + 1)?,
    };
    let mut shape = b.shape(indices).to_vec();
    shape.insert(axis, 1);
    let column = b.reshape(indices, &shape)?;
    // An index below zero counts from the end; one beyond the depth hits nothing.
    let (depth_value, zero) = (b.integers(std::vec![depth]), b.integers(std::vec![0]));
    let negative = b.push(Integer { code: IntCode::Less, dtype: DType::Bool }, &[column, zero])?;
    let from_end = b.push(Integer { code: IntCode::Add, dtype: DType::I64 }, &[column, depth_value])?;
    let wrapped =
        b.push(Integer { code: IntCode::Where, dtype: DType::I64 }, &[negative, from_end, column])?;
    let mut line = std::vec![1; rank + 1];
    line[axis] = depth as usize;
    let classes = b.constant(Tensor::integers((0..depth).collect()).reshaped(&line)?);
    let hit = b.push(Integer { code: IntCode::Equal, dtype: DType::Bool }, &[wrapped, classes])?;
    let values = call.input(2)?;
    let pair = b.shape(values).to_vec();
    let mut value = |i: usize| b.push(super::Slice::part(&pair, 0, i, 1), &[values]);
    let (off, on) = (value(0)?, value(1)?);
    let result = match b.fact(values).dtype {
        DType::F32 => b.push(Map::single(MapCode::Where, 3, DType::F32), &[hit, on, off])?,
        dtype => b.push(Integer { code: IntCode::Where, dtype }, &[hit, on, off])?,
    };
    Ok(std::vec![result])
}

/// `where(triangle, x, 0)`.
pub fn import_trilu(b: &mut Builder, call: &Call) -> Result<Vec<ValueId>, OpError> {
    let x = call.input(0)?;
    let fact = b.fact(x).clone();
    let [.., rows, columns] = fact.shape[..] else {
        return Err(problem!("Trilu needs matrices, not {fact}"));
    };
    let k = call.known(b, 1)?.and_then(|k| k.to_i64().first().copied()).unwrap_or(0);
    elements(&[rows, columns], MAX_COMPUTED)?;
    let upper = call.flag("upper", true)?;
    let inside = |i: usize| {
        let diagonal = (i % columns) as i64 - (i / columns) as i64;
        if upper { diagonal >= k } else { diagonal <= k }
    };
    let mask = Tensor::new(&[rows, columns], Data::Bool((0..rows * columns).map(inside).collect()))?;
    let mask = b.constant(mask);
    let result = match fact.dtype {
        DType::F32 => {
            let zero = b.scalar(0.0);
            b.push(Map::single(MapCode::Where, 3, DType::F32), &[mask, x, zero])?
        }
        dtype => {
            let zero = b.integers(std::vec![0]);
            b.push(Integer { code: IntCode::Where, dtype }, &[mask, x, zero])?
        }
    };
    Ok(std::vec![result])
}
