//! Resize in every mode, as one table of taps and weights an axis.

use super::{Call, OpError, Operator, normal_axis, problem, unsupported};
use crate::graph::{Builder, Data, Fact, Node, Tensor, ValueId};
use crate::kernels::DType;
use crate::plan::{Instruction, Lower, Place};
use std::vec::Vec;

/// `y[.., i, ..] = sum over t of weights[i * taps + t] * x[.., indices[i * taps + t], ..]` along one axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Resample {
    pub axis: usize,
    pub taps: usize,
    pub indices: Vec<i64>,
    pub weights: Vec<f32>,
}

impl Resample {
    fn size(&self) -> usize {
        self.indices.len() / self.taps
    }
}

impl Operator for Resample {
    fn shapes(&self, inputs: &[&Fact]) -> Result<Vec<Fact>, OpError> {
        let x = inputs[0];
        if x.dtype != DType::F32 || self.axis >= x.rank() {
            return Err(problem!("{x} can not be resized along axis {}", self.axis));
        }
        let mut fact = x.clone();
        fact.shape[self.axis] = self.size();
        Ok(std::vec![fact])
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let x = inputs[0].as_f32()?;
        let shape = inputs[0].shape();
        let inner: usize = shape[self.axis + 1..].iter().product();
        let outer: usize = shape[..self.axis].iter().product();
        let mut y = Vec::with_capacity(outer * self.size() * inner);
        for o in 0..outer {
            for i in 0..self.size() {
                let taps = i * self.taps..(i + 1) * self.taps;
                for j in 0..inner {
                    let terms = taps.clone().map(|t| {
                        let at = (o * shape[self.axis] + self.indices[t] as usize) * inner + j;
                        f64::from(self.weights[t]) * f64::from(x[at])
                    });
                    y.push(terms.sum::<f64>() as f32);
                }
            }
        }
        let mut shape = shape.to_vec();
        shape[self.axis] = self.size();
        Ok(std::vec![Tensor::f32(&shape, y)?])
    }

    fn lower(&self, lower: &mut Lower, node: &Node) -> Result<(), OpError> {
        let place = lower.place(node.inputs[0])?;
        let order = place.order();
        let x = lower.dense(place, &order)?;
        let result = lower.result(node.outputs[0], &order);
        let at = order.iter().position(|&a| a == self.axis).unwrap_or(0);
        let sizes = |p: &Place| order.iter().map(|&a| p.dims[a]).collect::<Vec<_>>();
        let planes = |p: &Place| {
            let sizes = sizes(p);
            let dims = [sizes[..at].iter().product(), sizes[at], sizes[at + 1..].iter().product()];
            p.permuted(&order).reshaped(&dims).ok_or_else(|| problem!("a resized tensor is not dense"))
        };
        let table = [self.indices.len() / self.taps, self.taps];
        let indices = lower.constant(&Tensor::new(&table, Data::I64(self.indices.clone()))?);
        let weights = lower.constant(&Tensor::new(&table, Data::F32(self.weights.clone()))?);
        let (x, y) = (planes(&x)?, planes(&result)?);
        let [x, indices, weights, y] = lower.view_each([&x, &indices, &weights, &y])?;
        lower.emit(Instruction::Resample { x, indices, weights, y });
        Ok(())
    }

    fn flops(&self, _inputs: &[Fact], outputs: &[Fact]) -> u64 {
        2 * (outputs[0].len() * self.taps) as u64
    }
}

/// How an axis is resized, in ONNX's words.
struct Rule<'a> {
    mode: &'a str,
    coordinates: &'a str,
    nearest: &'a str,
    cubic: f64,
    exclude_outside: bool,
    antialias: bool,
}

pub fn import(b: &mut Builder, call: &Call) -> Result<Vec<ValueId>, OpError> {
    let mut x = call.input(0)?;
    let upsample = call.operator == "Upsample" || call.opset < 11;
    let rule = Rule {
        mode: call.string("mode", "nearest")?,
        coordinates: call
            .string("coordinate_transformation_mode", if upsample { "asymmetric" } else { "half_pixel" })?,
        nearest: call.string("nearest_mode", if upsample { "floor" } else { "round_prefer_floor" })?,
        cubic: f64::from(call.float("cubic_coeff_a", -0.75)?),
        exclude_outside: call.flag("exclude_outside", false)?,
        antialias: call.flag("antialias", false)?,
    };
    let mut times = std::vec![1; b.shape(x).len()];
    for (axis, size, scale) in targets(b, call, x, upsample)? {
        let n = b.shape(x)[axis];
        if n == size && (scale - 1.0).abs() < 1e-6 {
            continue;
        }
        let whole = size / n.max(1);
        let repeats = match rule.coordinates {
            "asymmetric" => rule.nearest == "floor",
            "half_pixel" => rule.nearest.starts_with("round"),
            _ => false,
        };
        if rule.mode == "nearest" && repeats && whole * n == size && scale == whole as f64 {
            times[axis] = whole;
        } else {
            let (taps, indices, weights) = rule.table(n, size, scale)?;
            x = b.push(Resample { axis, taps, indices, weights }, &[x])?;
        }
    }
    Ok(std::vec![if times.iter().all(|&t| t == 1) { x } else { repeated(b, x, &times)? }])
}

/// Nearest neighbours by whole factors are repeats: one copy of a broadcast view, no table.
fn repeated(b: &mut Builder, x: ValueId, times: &[usize]) -> Result<ValueId, OpError> {
    let shape = b.shape(x).to_vec();
    let (mut column, mut wide, mut target) = (Vec::new(), Vec::new(), Vec::new());
    for (&size, &times) in shape.iter().zip(times) {
        column.push(size);
        wide.push(size);
        if times > 1 {
            column.push(1);
            wide.push(times);
        }
        target.push(size * times);
    }
    let column = b.reshape(x, &column)?;
    let wide = b.expand(column, &wide)?;
    b.reshape(wide, &target)
}

/// Axis, new size and scale of every axis that is resized.
fn targets(
    b: &Builder,
    call: &Call,
    x: ValueId,
    upsample: bool,
) -> Result<Vec<(usize, usize, f64)>, OpError> {
    let shape = b.shape(x);
    let axes = match call.ints("axes")? {
        Some(axes) => axes.iter().map(|&a| normal_axis(a, shape.len())).collect::<Result<Vec<_>, _>>()?,
        None => (0..shape.len()).collect(),
    };
    let scales = match call.known(b, if upsample { 1 } else { 2 })? {
        Some(scales) => scales.to_f32(),
        None => match call.attributes.get("scales") {
            Some(super::Attribute::Floats(scales)) => scales.clone(),
            _ => Vec::new(),
        },
    };
    if !scales.is_empty() {
        if scales.len() != axes.len() || scales.iter().any(|s| !(*s > 0.0 && *s < 1e6)) {
            return Err(problem!("scales {scales:?} do not fit {} axes", axes.len()));
        }
        let target = |(&axis, &s): (&usize, &f32)| {
            (axis, (shape[axis] as f64 * f64::from(s)).floor() as usize, f64::from(s))
        };
        return Ok(axes.iter().zip(&scales).map(target).collect());
    }
    let sizes = call.known(b, 3)?.ok_or_else(|| problem!("Resize has neither scales nor sizes"))?.to_i64();
    if sizes.len() != axes.len() || sizes.iter().any(|s| !(1..=1 << 24).contains(s)) {
        return Err(problem!("sizes {sizes:?} do not fit {} axes", axes.len()));
    }
    let ratio = |axis: usize, size: i64| size as f64 / shape[axis].max(1) as f64;
    let ratios: Vec<f64> = axes.iter().zip(&sizes).map(|(&axis, &size)| ratio(axis, size)).collect();
    let common = match call.string("keep_aspect_ratio_policy", "stretch")? {
        "stretch" => None,
        "not_larger" => Some(ratios.iter().copied().fold(f64::INFINITY, f64::min)),
        _ => Some(ratios.iter().copied().fold(0.0, f64::max)),
    };
    let target = |i: usize| match common {
        None => (axes[i], sizes[i] as usize, ratios[i]),
        Some(scale) => (axes[i], (shape[axes[i]] as f64 * scale).round() as usize, scale),
    };
    Ok((0..axes.len()).map(target).collect())
}

impl Rule<'_> {
    /// Taps, indices and weights for `size` outputs from `n` inputs.
    fn table(&self, n: usize, size: usize, scale: f64) -> Result<(usize, Vec<i64>, Vec<f32>), OpError> {
        // With anti-aliasing a shrinking kernel is stretched to cover all that falls into an output element.
        let stretch = if self.antialias { scale.min(1.0) } else { 1.0 };
        let support = match self.mode {
            "nearest" => 0,
            "linear" => (1.0 / stretch).ceil() as i64,
            "cubic" => (2.0 / stretch).ceil() as i64,
            other => return Err(problem!("Resize has no mode {other:?}")),
        };
        let taps = if support == 0 { 1 } else { 2 * support as usize };
        let (mut indices, mut weights) = (Vec::with_capacity(size * taps), Vec::with_capacity(size * taps));
        let last = n as i64 - 1;
        for i in 0..size {
            let x = self.coordinate(i as f64, n as f64, size as f64, scale)?;
            if support == 0 {
                indices.push(self.rounded(x)?.clamp(0, last));
                weights.push(1.0);
                continue;
            }
            let first = x.floor() as i64 - support + 1;
            let outside = |at: i64| self.exclude_outside && !(0..=last).contains(&at);
            let weight = |at: i64| if outside(at) { 0.0 } else { self.kernel((at as f64 - x) * stretch) };
            let row: Vec<f64> = (first..first + taps as i64).map(weight).collect();
            let sum: f64 = row.iter().sum();
            indices.extend((first..first + taps as i64).map(|at| at.clamp(0, last)));
            weights.extend(row.iter().map(|w| (w / sum) as f32));
        }
        Ok((taps, indices, weights))
    }

    /// Where output element `i` lies in the input.
    fn coordinate(&self, i: f64, n: f64, size: f64, scale: f64) -> Result<f64, OpError> {
        Ok(match self.coordinates {
            "half_pixel" => (i + 0.5) / scale - 0.5,
            "pytorch_half_pixel" if size <= 1.0 => 0.0,
            "pytorch_half_pixel" => (i + 0.5) / scale - 0.5,
            "asymmetric" => i / scale,
            "align_corners" if size <= 1.0 => 0.0,
            "align_corners" => i * (n - 1.0) / (size - 1.0),
            "half_pixel_symmetric" => {
                let adjustment = size / (n * scale);
                let center = n / 2.0;
                center * (1.0 - adjustment) + (i + 0.5) / scale - 0.5
            }
            other => return Err(unsupported!("Resize has no kernel for coordinates {other:?}")),
        })
    }

    fn rounded(&self, x: f64) -> Result<i64, OpError> {
        Ok(match self.nearest {
            "round_prefer_floor" => (x - 0.5).ceil() as i64,
            "round_prefer_ceil" => (x + 0.5).floor() as i64,
            "floor" => x.floor() as i64,
            "ceil" => x.ceil() as i64,
            other => return Err(problem!("Resize has no nearest_mode {other:?}")),
        })
    }

    /// The interpolation kernel at a distance (Keys, Cubic convolution interpolation, 1981, for the cubic one).
    fn kernel(&self, distance: f64) -> f64 {
        let (d, a) = (distance.abs(), self.cubic);
        match self.mode {
            "linear" => (1.0 - d).max(0.0),
            _ if d <= 1.0 => ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0,
            _ if d < 2.0 => ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a,
            _ => 0.0,
        }
    }
}
