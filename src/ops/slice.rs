//! Slices, and Split as several of them.

use super::{Call, OpError, Operator, normal_axis, problem};
use crate::graph::{Builder, Fact, Node, Tensor, ValueId, contiguous_strides};
use crate::plan::Lower;
use std::vec::Vec;

/// `sizes[a]` elements along each axis from `starts[a]` in steps of `steps[a]`, which may be negative. A view, no copy.
#[derive(Clone, Debug, PartialEq)]
pub struct Slice {
    pub starts: Vec<i64>,
    pub steps: Vec<i64>,
    pub sizes: Vec<usize>,
}

impl Slice {
    /// The part `start..start + size` along one axis.
    pub fn part(shape: &[usize], axis: usize, start: usize, size: usize) -> Slice {
        let mut slice = Slice {
            starts: std::vec![0; shape.len()],
            steps: std::vec![1; shape.len()],
            sizes: shape.to_vec(),
        };
        slice.starts[axis] = start as i64;
        slice.sizes[axis] = size;
        slice
    }
}

impl Operator for Slice {
    fn shapes(&self, inputs: &[&Fact]) -> Result<Vec<Fact>, OpError> {
        let x = inputs[0];
        for axis in 0..x.rank() {
            let (start, size) = (self.starts[axis], self.sizes[axis] as i64);
            let last = start + (size - 1).max(0) * self.steps[axis];
            let range = 0..x.shape[axis] as i64;
            if size > 0 && !(range.contains(&start) && range.contains(&last)) {
                return Err(problem!("{start}..={last} is outside of axis {axis} of {x}"));
            }
        }
        Ok(std::vec![Fact { dtype: x.dtype, shape: self.sizes.clone() }])
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let own = contiguous_strides(inputs[0].shape());
        let strides: Vec<isize> = own.iter().zip(&self.steps).map(|(s, &step)| s * step as isize).collect();
        let offset = own.iter().zip(&self.starts).map(|(s, &start)| s * start as isize).sum();
        Ok(std::vec![inputs[0].strided(&self.sizes, &strides, offset)])
    }

    fn lower(&self, lower: &mut Lower, node: &Node) -> Result<(), OpError> {
        let sliced = lower.place(node.inputs[0])?.sliced(&self.starts, &self.steps, &self.sizes);
        lower.bind(node.outputs[0], sliced);
        Ok(())
    }

    fn flops(&self, _inputs: &[Fact], _outputs: &[Fact]) -> u64 {
        0
    }
}

pub fn import(b: &mut Builder, call: &Call) -> Result<Vec<ValueId>, OpError> {
    if call.operator == "Split" {
        return split(b, call);
    }
    let x = call.input(0)?;
    let shape = b.shape(x).to_vec();
    let need = |list: Option<Vec<i64>>, name| list.ok_or_else(|| problem!("Slice has no {name}"));
    let starts = need(call.ints_at(b, 1, "starts")?, "starts")?;
    let ends = need(call.ints_at(b, 2, "ends")?, "ends")?;
    let axes = call.ints_at(b, 3, "axes")?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = call.ints_at(b, 4, "steps")?.unwrap_or_else(|| std::vec![1; starts.len()]);
    if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() {
        return Err(problem!("starts, ends, axes and steps differ in length"));
    }
    let mut slice =
        Slice { starts: std::vec![0; shape.len()], steps: std::vec![1; shape.len()], sizes: shape.clone() };
    for i in 0..starts.len() {
        let axis = normal_axis(axes[i], shape.len())?;
        let (start, size) = bounds(starts[i], ends[i], steps[i], shape[axis] as i64)?;
        (slice.starts[axis], slice.steps[axis], slice.sizes[axis]) = (start, steps[i], size);
    }
    Ok(std::vec![b.push(slice, &[x])?])
}

/// First index and number of elements of a Python-like slice of `n` elements.
fn bounds(start: i64, end: i64, step: i64, n: i64) -> Result<(i64, usize), OpError> {
    if step == 0 {
        return Err(problem!("a slice has a step of 0"));
    }
    let from_end = |i: i64| if i < 0 { i.saturating_add(n) } else { i };
    let (start, end) = (from_end(start), from_end(end));
    let (start, span) = if step > 0 {
        let start = start.clamp(0, n);
        (start, end.clamp(0, n) - start)
    } else {
        let start = start.clamp(-1, n - 1);
        (start, start - end.clamp(-1, n - 1))
    };
    let size = span.max(0).div_euclid(step.abs()) + i64::from(span.max(0) % step.abs() != 0);
    Ok((if size == 0 { 0 } else { start }, size as usize))
}

fn split(b: &mut Builder, call: &Call) -> Result<Vec<ValueId>, OpError> {
    let x = call.input(0)?;
    let shape = b.shape(x).to_vec();
    let axis = normal_axis(call.int("axis", 0)?, shape.len())?;
    let sizes = match call.ints_at(b, 1, "split")? {
        Some(sizes) => sizes,
        None => {
            let parts = call.int("num_outputs", call.outputs as i64)?.max(1);
            let each = (shape[axis] as i64 + parts - 1) / parts;
            (0..parts).map(|i| each.min(shape[axis] as i64 - i * each).max(0)).collect()
        }
    };
    if sizes.iter().any(|&s| s < 0) || sizes.iter().sum::<i64>() != shape[axis] as i64 {
        return Err(problem!("sizes {sizes:?} do not split axis {axis} of {shape:?}"));
    }
    let mut start = 0;
    let mut parts = Vec::with_capacity(sizes.len());
    for size in sizes {
        parts.push(b.push(Slice::part(&shape, axis, start, size as usize), &[x])?);
        start += size as usize;
    }
    Ok(parts)
}
