//! Weights in the order in which the kernels read them.

use super::precision::power_of_two;
use crate::kernels::{F16, PLACES, winograd_weights};
use half::f16;
use std::vec::Vec;

/// A constant right matrix: element (k, j), of `depth` times `n`.
pub struct Weights<'w> {
    pub depth: usize,
    pub n: usize,
    pub at: &'w dyn Fn(usize, usize) -> f64,
}

impl Weights<'_> {
    /// Panels [ceil(n / nr)][depth][nr], zero beyond n.
    pub fn panels(&self, nr: usize) -> Vec<f32> {
        self.packed(nr, 0.0, |k, j| (self.at)(k, j) as f32)
    }

    /// The same in half precision, and by what each column of the result has to be multiplied. Row k of the weights is
    /// divided by `scale`, one after the other and again from the first, each column by what makes its largest weight 1.
    pub fn halves(&self, nr: usize, scale: &[f32]) -> (Vec<F16>, Vec<f32>) {
        let scaled = |k: usize, j: usize| (self.at)(k, j) / f64::from(scale[k % scale.len().max(1)]);
        let most = |j: usize| (0..self.depth).fold(0.0f64, |most, k| most.max(scaled(k, j).abs()));
        let unscale = |j: usize| if most(j) > 0.0 { 2.0 * power_of_two(most(j) as f32) } else { 1.0 };
        let unscale: Vec<f32> = (0..self.n).map(unscale).collect();
        let half = |k: usize, j: usize| f16::from_f64(scaled(k, j) / f64::from(unscale[j])).to_bits();
        (self.packed(nr, 0, half), unscale)
    }

    fn packed<T: Copy>(&self, nr: usize, zero: T, at: impl Fn(usize, usize) -> T) -> Vec<T> {
        let mut packed = std::vec![zero; self.n.div_ceil(nr) * self.depth * nr];
        for (panel, chunk) in packed.chunks_mut((self.depth * nr).max(1)).enumerate() {
            let first = panel * nr;
            for (k, row) in chunk.chunks_mut(nr).enumerate() {
                for (j, slot) in row.iter_mut().enumerate().take(self.n - first) {
                    *slot = at(k, first + j);
                }
            }
        }
        packed
    }
}

/// Convolution weights [outputs, channels, taps] (one group) with depth [tap][channel].
pub fn convolution(weights: &[f32], channels: usize, taps: usize) -> impl Fn(usize, usize) -> f64 {
    move |k, output| {
        let (tap, channel) = (k / channels, k % channels);
        f64::from(weights[(output * channels + channel) * taps + tap])
    }
}

/// The same for 3x3 kernels by Winograd's method, with depth [place][channel].
pub fn winograd(weights: &[f32], channels: usize) -> impl Fn(usize, usize) -> f64 {
    let filters = weights.as_chunks::<9>().0.iter().map(|taps| winograd_weights(&taps.map(f64::from)));
    let filters: Vec<[f64; PLACES]> = filters.collect();
    move |k, output| filters[output * channels + k % channels][k / channels]
}

/// Depthwise weights [channels, taps] as [taps][channels].
pub fn depthwise(weights: &[f32], channels: usize, taps: usize) -> Vec<f32> {
    (0..taps * channels).map(|i| weights[i % channels * taps + i / channels]).collect()
}
