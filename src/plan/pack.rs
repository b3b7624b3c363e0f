//! Weights in the order in which the kernels read them.

use super::precision::power_of_two;
use crate::kernels::{FIXED_LIMIT, FIXED_STRETCH, PLACES, fixed_room, winograd_weights};
use half::f16;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::vec::Vec;

/// Bytes of a packed matrix from which on several threads share the work.
const SHARED: usize = 2 << 20;

/// What a row of weights counts as at the least, of the largest.
const LEAST: f64 = 1e-6;

/// A constant right matrix of `depth` times `n` elements.
pub struct Weights<'w> {
    pub depth: usize,
    pub n: usize,
    /// Gives each row of some columns, in any order.
    pub rows: &'w (dyn Fn(Range<usize>, Each<'_>) + Sync),
}

/// Takes the number of a row, and its elements.
pub type Each<'e> = &'e mut dyn FnMut(usize, &[f64]);

impl Weights<'_> {
    /// Bytes of f32 panels [ceil(n / nr)][depth][nr], zero beyond n.
    pub fn panels(&self, nr: usize) -> Vec<u8> {
        let mut packed = std::vec![0; self.n.div_ceil(nr) * self.depth * nr * size_of::<f32>()];
        self.each_panel(nr, &mut packed, &mut [], |columns, panel, _| {
            fill(panel, nr, columns, self.rows, |_, _, x| (x as f32).to_le_bytes());
        });
        packed
    }

    /// The same in half precision, and by what each column of the result has to be multiplied. Row k of the weights is
    /// divided by `scale`, one after the other and again from the first, each column by what makes its largest weight 1.
    pub fn halves(&self, nr: usize, scale: &[f32]) -> (Vec<u8>, Vec<f32>) {
        let scaled = |k: usize, x: f64| x / f64::from(scale[k % scale.len().max(1)]);
        let mut packed = std::vec![0; self.n.div_ceil(nr) * self.depth * nr * size_of::<f16>()];
        let mut unscale = std::vec![1.0; self.n];
        self.each_panel(nr, &mut packed, &mut unscale, |columns, panel, unscale| {
            let mut most = std::vec![0.0f64; columns.len()];
            (self.rows)(columns.clone(), &mut |k, row| {
                most.iter_mut().zip(row).for_each(|(most, &x)| *most = most.max(scaled(k, x).abs()));
            });
            for (unscale, most) in unscale.iter_mut().zip(most) {
                *unscale = if most > 0.0 { 2.0 * power_of_two(most as f32) } else { 1.0 };
            }
            fill(panel, nr, columns, self.rows, |k, j, x| {
                f16::from_f64(scaled(k, x) / f64::from(unscale[j])).to_le_bytes()
            });
        });
        (packed, unscale)
    }

    /// Scales with which columns of the left matrix, and rows of the weights divided by them, are about as large as each other:
    /// then neither rounds more than the other. With the given scales, columns of the left matrix are all of a size.
    pub fn balanced(&self, nr: usize, scale: &[f32]) -> Vec<f32> {
        let most = Mutex::new(std::vec![0.0f64; scale.len()]);
        self.each_panel(nr, &mut std::vec![0; self.n.div_ceil(nr)], &mut [], |columns, _, _| {
            let mut own = std::vec![0.0f64; scale.len()];
            (self.rows)(columns, &mut |k, row| {
                let own = &mut own[k % scale.len()];
                *own = row.iter().fold(*own, |most, x| most.max(x.abs()));
            });
            let mut most = most.lock().unwrap_or_else(PoisonError::into_inner);
            most.iter_mut().zip(own).for_each(|(most, own)| *most = most.max(own));
        });
        let most = most.into_inner().unwrap_or_else(PoisonError::into_inner);
        let sizes = || scale.iter().zip(&most).map(|(&scale, &most)| most / f64::from(scale));
        let largest = sizes().fold(f64::MIN_POSITIVE, f64::max);
        let balance = |(&scale, size): (&f32, f64)| scale * (size / largest).max(LEAST).sqrt() as f32;
        scale.iter().zip(sizes()).map(balance).collect()
    }

    /// The same in fixed point, by pairs of rows: whole numbers, each column in a unit so large that no sum of as many products
    /// as kernels add up in 32 bits leaves these. The depth is even.
    pub fn fixed(&self, nr: usize, scale: &[f32]) -> (Vec<u8>, Vec<f32>) {
        let mut packed = std::vec![0; self.n.div_ceil(nr) * self.depth * nr * size_of::<i16>()];
        let mut unscale = std::vec![1.0; self.n];
        self.each_panel(nr, &mut packed, &mut unscale, |columns, panel, unscale| {
            let count = columns.len();
            let mut all = std::vec![0.0f64; self.depth * count];
            (self.rows)(columns, &mut |k, row| {
                let scale = f64::from(scale[k % scale.len().max(1)]);
                all[k * count..][..count].iter_mut().zip(row).for_each(|(slot, &x)| *slot = x / scale);
            });
            for (j, unscale) in unscale.iter_mut().enumerate() {
                let column = || all.iter().skip(j).step_by(count).map(|x| x.abs());
                *unscale = fixed_unit(column) as f32;
            }
            let slots = panel.as_chunks_mut::<{ size_of::<i16>() }>().0;
            for (k, row) in all.chunks(count).enumerate() {
                for (j, (&x, &unscale)) in row.iter().zip(&*unscale).enumerate() {
                    let rounded = (x / f64::from(unscale)).round_ties_even() as i16;
                    slots[(k / 2 * nr + j) * 2 + k % 2] = rounded.to_le_bytes();
                }
            }
        });
        (packed, unscale)
    }

    /// Calls `each` with the columns of each panel, the panel, and what `beside` has for these columns, if it has anything.
    fn each_panel(
        &self,
        nr: usize,
        packed: &mut [u8],
        beside: &mut [f32],
        each: impl Fn(Range<usize>, &mut [u8], &mut [f32]) + Sync,
    ) {
        let (bytes, count) = (packed.len(), self.n.div_ceil(nr));
        let mut beside = beside.chunks_mut(nr);
        let panels = packed.chunks_mut((bytes / count.max(1)).max(1)).enumerate();
        let panels = panels.map(|(i, panel)| {
            let columns = i * nr..((i + 1) * nr).min(self.n);
            (columns, panel, beside.next().unwrap_or_default())
        });
        let work = Mutex::new(panels);
        let next = || work.lock().unwrap_or_else(PoisonError::into_inner).next();
        let worker = || {
            while let Some((columns, panel, beside)) = next() {
                each(columns, panel, beside);
            }
        };
        thread::scope(|scope| {
            let all = thread::available_parallelism().map_or(1, usize::from).min(count);
            for _ in 1..if bytes < SHARED { 1 } else { all } {
                // Without another thread it only takes longer.
                thread::Builder::new().spawn_scoped(scope, worker).ok();
            }
            worker();
        });
    }
}

/// The unit of a column of weights in fixed point, of which these are the magnitudes.
fn fixed_unit<I: Iterator<Item = f64>>(column: impl Fn() -> I) -> f64 {
    let most = column().fold(0.0, f64::max);
    let (mut sum, mut largest) = (0.0f64, 0.0f64);
    // Each weight as it comes into the sum, and as it leaves it.
    let leaving = std::iter::repeat_n(0.0, FIXED_STRETCH).chain(column());
    for (entering, leaving) in column().zip(leaving) {
        sum += entering - leaving;
        largest = largest.max(sum);
    }
    let unit = (most / f64::from(i16::MAX)).max(largest / fixed_room(FIXED_LIMIT));
    if unit > 0.0 { unit } else { 1.0 }
}

/// Fills a panel with what `element` makes of each row, column of the panel and weight.
fn fill<const N: usize>(
    panel: &mut [u8],
    nr: usize,
    columns: Range<usize>,
    rows: &(dyn Fn(Range<usize>, Each<'_>) + Sync),
    element: impl Fn(usize, usize, f64) -> [u8; N],
) {
    let slots = panel.as_chunks_mut::<N>().0;
    rows(columns, &mut |k, row| {
        for (j, (slot, &x)) in slots[k * nr..].iter_mut().zip(row).enumerate() {
            *slot = element(k, j, x);
        }
    });
}

/// A matrix whose rows of `n` lie one after the other.
pub fn matrix(elements: &[f32], n: usize) -> impl Fn(Range<usize>, Each<'_>) + Sync {
    move |columns, each| {
        let mut row = std::vec![0.0; columns.len()];
        for (k, elements) in elements.chunks(n.max(1)).enumerate() {
            row.iter_mut().zip(&elements[columns.clone()]).for_each(|(slot, &x)| *slot = x.into());
            each(k, &row);
        }
    }
}

/// Convolution weights [outputs, channels, taps] (one group) with depth [tap][channel].
pub fn convolution(weights: &[f32], channels: usize, taps: usize) -> impl Fn(Range<usize>, Each<'_>) + Sync {
    move |outputs, each| {
        let mut row = std::vec![0.0; outputs.len()];
        for k in 0..taps * channels {
            let (tap, channel) = (k / channels, k % channels);
            for (slot, output) in row.iter_mut().zip(outputs.clone()) {
                *slot = weights[(output * channels + channel) * taps + tap].into();
            }
            each(k, &row);
        }
    }
}

/// The same for 3x3 kernels by Winograd's method, with depth [place][channel].
pub fn winograd(weights: &[f32], channels: usize) -> impl Fn(Range<usize>, Each<'_>) + Sync {
    let filters = weights.as_chunks::<9>().0;
    move |outputs, each| {
        let count = outputs.len();
        let mut places = std::vec![0.0; PLACES * count];
        for channel in 0..channels {
            for (i, output) in outputs.clone().enumerate() {
                let filter = winograd_weights(&filters[output * channels + channel].map(f64::from));
                for (place, x) in filter.into_iter().enumerate() {
                    places[place * count + i] = x;
                }
            }
            for (place, row) in places.chunks(count.max(1)).enumerate() {
                each(place * channels + channel, row);
            }
        }
    }
}

/// Depthwise weights [channels, taps] as [taps][channels].
pub fn depthwise(weights: &[f32], channels: usize, taps: usize) -> Vec<f32> {
    (0..taps * channels).map(|i| weights[i % channels * taps + i / channels]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Large enough for several threads.
    const SIZE: [usize; 2] = [701, 999];
    const NR: usize = 32;

    fn element(k: usize, j: usize) -> f32 {
        ((k * 37 + j * 101) % 257) as f32 / 64.0 - 2.0
    }

    fn elements() -> Vec<f32> {
        (0..SIZE[0] * SIZE[1]).map(|i| element(i / SIZE[1], i % SIZE[1])).collect()
    }

    /// Where element (k, j) of a panel matrix is.
    fn at(k: usize, j: usize) -> usize {
        (j / NR * SIZE[0] + k) * NR + j % NR
    }

    #[test]
    fn panels_have_each_element_in_its_place_and_zeros_beyond() {
        let (elements, [depth, n]) = (elements(), SIZE);
        let packed = Weights { depth, n, rows: &matrix(&elements, n) }.panels(NR);
        assert!(packed.len() > SHARED);
        let packed: Vec<f32> =
            packed.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
        let wanted = |k, j| if j < n { element(k, j) } else { 0.0 };
        let all = (0..depth).flat_map(|k| (0..n.next_multiple_of(NR)).map(move |j| (k, j)));
        assert!(all.clone().all(|(k, j)| packed[at(k, j)] == wanted(k, j)));
        assert_eq!(all.count(), packed.len());
    }

    #[test]
    fn halves_are_the_elements_by_scales_of_rows_and_columns() {
        let (elements, [depth, n]) = (elements(), SIZE);
        let scale: Vec<f32> = (0..7).map(|i| 0.25 * f32::from(1u8 << i)).collect();
        let (packed, unscale) = Weights { depth, n, rows: &matrix(&elements, n) }.halves(NR, &scale);
        let packed: Vec<f64> =
            packed.as_chunks::<2>().0.iter().map(|&bytes| f16::from_le_bytes(bytes).to_f64()).collect();
        for (k, j) in (0..depth).flat_map(|k| (0..n).map(move |j| (k, j))) {
            let back = packed[at(k, j)] * f64::from(unscale[j]) * f64::from(scale[k % 7]);
            assert!((back - f64::from(element(k, j))).abs() <= 2e-3, "({k}, {j}): {back}");
        }
        let largest = packed.iter().fold(0.0f64, |most, x| most.max(x.abs()));
        assert!((0.25..=1.0).contains(&largest), "{largest}");
    }

    /// Weights that are near each other, one that is far above, and none: no sum leaves 32 bits, and no unit is larger than
    /// that takes.
    #[test]
    fn fixed_point_has_room_for_every_sum() {
        let (depth, n) = (300, 4);
        let weight = |k: usize, j: usize| match j {
            0 => element(k, k * 13 + 5),
            1 => [1e-3, 50.0][usize::from(k == 170)],
            2 => 0.0,
            _ => [0.0, -3.0][usize::from(k < 9)],
        };
        let elements: Vec<f32> = (0..depth * n).map(|i| weight(i / n, i % n)).collect();
        let scale: Vec<f32> = (0..6).map(|i| 0.5 * f32::from(1u8 << i)).collect();
        let (packed, unscale) = Weights { depth, n, rows: &matrix(&elements, n) }.fixed(NR, &scale);
        let whole = |k: usize, j: usize| {
            let at = (k / 2 * NR + j) * 2 + k % 2;
            i32::from(i16::from_le_bytes([packed[2 * at], packed[2 * at + 1]]))
        };
        for (j, &unscale) in unscale.iter().enumerate() {
            for k in 0..depth {
                let unit = f64::from(unscale) * f64::from(scale[k % 6]);
                let off = (f64::from(whole(k, j)) * unit - f64::from(weight(k, j))).abs();
                assert!(off <= 0.501 * unit, "({k}, {j}) is off by {off} of {unit}");
            }
            let column: Vec<i64> = (0..depth).map(|k| i64::from(whole(k, j).abs())).collect();
            let sums = column.windows(FIXED_STRETCH).map(|all| all.iter().sum::<i64>() * FIXED_LIMIT as i64);
            let (sum, most) = (sums.max().unwrap_or(0), column.iter().copied().max().unwrap_or(0));
            assert!(sum <= i64::from(i32::MAX), "{j}: {sum}");
            let tight = sum as f64 > 0.99 * f64::from(i32::MAX) || most == i64::from(i16::MAX);
            assert!(tight || j == 2, "{j}: sums to {sum}, weights to {most}");
        }
        assert!((0..depth).all(|k| (n..NR).all(|j| whole(k, j) == 0)));
    }

    /// A column of the left matrix times its scale, and its row of the weights divided by it, are as large as each other.
    #[test]
    fn balanced_scales_share_what_products_are_large_by() {
        let weights = [64.0, 0.0, 4.0, -1.0, 0.0, 16.0];
        let scale = [1.0, 1.0, 0.25];
        let balanced = Weights { depth: 3, n: 2, rows: &matrix(&weights, 2) }.balanced(NR, &scale);
        // Rows divided by scales: 64, 4 and 64.
        assert_eq!(balanced, [1.0, 0.25, 0.25]);
    }

    #[test]
    fn weights_of_convolutions_are_taken_tap_by_tap() {
        let (outputs, channels, taps) = (5, 3, 9);
        let weights: Vec<f32> = (0..outputs * channels * taps).map(|i| i as f32).collect();
        let mut found = std::vec![0.0; taps * channels * 2];
        convolution(&weights, channels, taps)(2..4, &mut |k, row| found[k * 2..][..2].copy_from_slice(row));
        for (k, j) in (0..taps * channels).flat_map(|k| [(k, 0), (k, 1)]) {
            let (tap, channel) = (k / channels, k % channels);
            assert_eq!(found[k * 2 + j], f64::from(weights[((j + 2) * channels + channel) * taps + tap]));
        }
    }
}
