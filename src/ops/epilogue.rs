//! What products, convolutions and normalisations apply to their results, for the scalar references.

use super::OpError;
use super::map::scalar;
use crate::graph::Tensor;
use crate::kernels::{Activation, MapCode};
use std::vec::Vec;

/// Adds a bias along one axis and a residual of the result's shape, then applies the activation. The sum stays f64.
pub fn finish(
    sums: impl Iterator<Item = f64>,
    shape: &[usize],
    axis: usize,
    bias: Option<&Tensor>,
    residual: Option<&Tensor>,
    activation: Activation,
) -> Result<Tensor, OpError> {
    let inner: usize = shape[axis + 1..].iter().product();
    let bias = bias.map(Tensor::as_f32).transpose()?;
    let residual = residual.map(Tensor::as_f32).transpose()?;
    let value = |(i, sum): (usize, f64)| {
        let bias = bias.map_or(0.0, |b| f64::from(b[i / inner.max(1) % shape[axis]]));
        let residual = residual.map_or(0.0, |r| f64::from(r[i]));
        activate(activation, (sum + bias + residual) as f32)
    };
    let values: Vec<f32> = sums.enumerate().map(value).collect();
    Tensor::f32(shape, values)
}

/// The reference of an activation.
pub fn activate(activation: Activation, x: f32) -> f32 {
    let code = match activation {
        Activation::None => return x,
        Activation::Relu => MapCode::Relu,
        Activation::Sigmoid => MapCode::Sigmoid,
        Activation::Tanh => MapCode::Tanh,
        Activation::Silu => MapCode::Silu,
        Activation::Gelu => MapCode::Gelu,
        Activation::GeluTanh => MapCode::GeluTanh,
        Activation::Mish => MapCode::Mish,
    };
    scalar(code, x, 0.0, 0.0)
}
