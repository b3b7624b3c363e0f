//! Weights in the order in which the kernels read them.

use crate::kernels::{PLACES, winograd_weights};
use std::vec::Vec;

/// Packs `b` ([depth, n], element (k, j) from the closure) into panels [ceil(n / nr)][depth][nr], zero beyond n.
pub fn panels(depth: usize, n: usize, nr: usize, b: impl Fn(usize, usize) -> f32) -> Vec<f32> {
    let mut packed = std::vec![0.0; n.div_ceil(nr) * depth * nr];
    for (panel, chunk) in packed.chunks_mut((depth * nr).max(1)).enumerate() {
        let first = panel * nr;
        for (k, row) in chunk.chunks_mut(nr).enumerate() {
            for (j, slot) in row.iter_mut().enumerate().take(n - first) {
                *slot = b(k, first + j);
            }
        }
    }
    packed
}

/// Packs convolution weights [outputs, channels, taps] (one group) with depth [tap][channel].
pub fn convolution(weights: &[f32], outputs: usize, channels: usize, taps: usize, nr: usize) -> Vec<f32> {
    panels(taps * channels, outputs, nr, |k, output| {
        let (tap, channel) = (k / channels, k % channels);
        weights[(output * channels + channel) * taps + tap]
    })
}

/// The same for 3x3 kernels by Winograd's method, with depth [place][channel].
pub fn winograd(weights: &[f32], outputs: usize, channels: usize, nr: usize) -> Vec<f32> {
    let filters = weights.as_chunks::<9>().0.iter().map(|taps| winograd_weights(&taps.map(f64::from)));
    let filters: Vec<[f64; PLACES]> = filters.collect();
    panels(PLACES * channels, outputs, nr, |k, output| {
        filters[output * channels + k % channels][k / channels] as f32
    })
}

/// Depthwise weights [channels, taps] as [taps][channels].
pub fn depthwise(weights: &[f32], channels: usize, taps: usize) -> Vec<f32> {
    (0..taps * channels).map(|i| weights[i % channels * taps + i / channels]).collect()
}
