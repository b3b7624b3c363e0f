//! Which products run in half precision or in fixed point, and by what factors.
//!
//! Activations of trained networks may lie far outside of half precision's range (6e-5 to 65504), and channel by channel
//! in quite different parts of it, above all behind a concatenation. What counts for a product is each column of its left
//! matrix: multiplied by a power of two it fits, and its row of the weights, divided by the same, makes the product what
//! it was. The powers come from the magnitudes seen in evaluations over the model's own schedule. Neighbouring channels
//! share one: a channel that happened to rest may wake. In fixed point rows find their magnitudes as they are read, so that
//! nothing leaves the range; there, factors only say how large columns are beside each other.

use super::instruction::Packing;
use crate::graph::ValueId;
use crate::kernels::{Arithmetic, Isa};
use std::collections::HashMap;
use std::string::String;
use std::vec::Vec;

/// How far products go in 16 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Depth {
    /// Whether convolutions by Winograd's method do but for the first, whose transforms multiply what rounding does.
    pub winograd: bool,
    /// The depth over which sums stay in half precision, where they are in that.
    pub stretch: u32,
}

impl Depth {
    /// From the fastest to the most exact. Sums are widened after 64 products at a tenth of the time, after 16 at a third.
    pub const ALL: [Depth; 4] = [
        Depth { winograd: true, stretch: 64 },
        Depth { winograd: true, stretch: 16 },
        Depth { winograd: false, stretch: 64 },
        Depth { winograd: false, stretch: 16 },
    ];

    /// Those that differ where nothing is added up in half precision.
    const EXACT: [Depth; 2] = [Depth::ALL[0], Depth::ALL[2]];

    /// Those that differ on an instruction set.
    pub fn ways(isa: Isa) -> &'static [Depth] {
        match Packing::of_isa(isa).arithmetic {
            Arithmetic::Single | Arithmetic::Fixed => &Depth::EXACT,
            Arithmetic::Half => &Depth::ALL,
        }
    }
}

/// A product that stays in f32, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Island {
    pub node: String,
    pub reason: &'static str,
}

/// The largest magnitude that a scaled column had when it was seen. A stretch of 64 products of such values and weights
/// of at most 1 stays below half precision's largest number if a later value is 64 times larger; a value 250,000 times
/// smaller still is a normal number.
const TARGET: f32 = 16.0;

/// Channels of which none is at rest while another is not: in half precision they share a power of two.
const NEIGHBOURS: usize = 16;

/// How much less than its neighbours a channel may count in fixed point, whose numbers have no exponents. One that wakes up
/// costs as much in precision, but nothing overflows.
const APART: f32 = 32.0;

/// What a channel's magnitude counts as at the least, of its tensor's.
const FLOOR: f32 = 1e-12;

/// How much less than the largest the peak of a tensor may be in another evaluation.
const SPREAD: f32 = 4096.0;

/// What was seen of the left matrices of products, each some channels of a value from one on: the largest magnitudes,
/// channel by channel.
#[derive(Clone, Debug, Default)]
pub struct Ranges(HashMap<(ValueId, usize), Range>);

#[derive(Clone, Debug)]
struct Range {
    channels: Vec<f32>,
    /// The peak of all channels together, in the evaluations where it was largest and least. [most, least]
    peaks: [f32; 2],
}

impl Ranges {
    /// Takes in what one evaluation shows of some of a value's channels, from `first` on.
    pub(crate) fn widen(&mut self, value: ValueId, first: usize, seen: &[f32]) {
        let peak = seen.iter().fold(0.0f32, |most, &x| if x > most || x.is_nan() { x } else { most });
        let none = || Range { channels: Vec::new(), peaks: [0.0, f32::INFINITY] };
        let range = self.0.entry((value, first)).or_insert_with(none);
        range.channels.resize(seen.len(), 0.0);
        for (most, &x) in range.channels.iter_mut().zip(seen) {
            *most = if x > *most || x.is_nan() { x } else { *most };
        }
        range.peaks = [range.peaks[0].max(peak), range.peaks[1].min(peak)];
    }

    /// The powers of two for `count` columns from `first` on of the left matrix of a product in this arithmetic.
    ///
    /// # Errors
    /// With the reason, if it is better computed in f32.
    pub(super) fn scales(
        &self,
        value: ValueId,
        first: usize,
        count: usize,
        arithmetic: Arithmetic,
    ) -> Result<Vec<f32>, &'static str> {
        let range = self.0.get(&(value, first)).filter(|range| range.channels.len() == count);
        let Range { channels, peaks } = range.ok_or("its input was never seen")?;
        if channels.iter().any(|x| !x.is_finite()) {
            return Err("its input was infinite or not a number");
        }
        let &[most, least] = peaks;
        if least > 0.0 && most / least > SPREAD {
            return Err("its input's magnitude changes too much over the schedule");
        }
        let apart = if arithmetic == Arithmetic::Fixed { APART } else { 1.0 };
        let floor = (most * FLOOR).max(f32::MIN_POSITIVE);
        let neighbours = |chunk: &[f32]| {
            let peak = chunk.iter().fold(floor, |peak, &x| peak.max(x));
            let scale = |&x: &f32| power_of_two(TARGET / x.max(peak / apart));
            chunk.iter().map(scale).collect::<Vec<_>>()
        };
        Ok(channels.chunks(NEIGHBOURS).flat_map(neighbours).collect())
    }
}

/// The largest power of two that is not above `x`, within what f32 holds exactly with its inverse.
pub(super) fn power_of_two(x: f32) -> f32 {
    let exponent = (x.to_bits() >> 23 & 0xff) as i32 - 127;
    f32::from_bits(((exponent.clamp(-100, 100) + 127) as u32) << 23)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scaled_peaks_are_near_the_target() {
        let mut ranges = Ranges::default();
        let mut seen = [3.0; NEIGHBOURS + 4];
        seen[NEIGHBOURS..].copy_from_slice(&[0.0, 1e-9, 1e9, 5.0]);
        ranges.widen(ValueId(1), 0, &seen);
        seen[0] = 17.0;
        ranges.widen(ValueId(1), 0, &seen);
        let scales = ranges.scales(ValueId(1), 0, NEIGHBOURS + 4, Arithmetic::Half).expect("ranges");
        for (i, scale) in scales.iter().enumerate() {
            let scaled = scale * if i < NEIGHBOURS { 17.0 } else { 1e9 };
            assert!(scaled > TARGET / 2.0 && scaled <= TARGET, "{scaled}");
            assert_eq!(scale.to_bits() & 0x7f_ffff, 0, "{scale} is no power of two");
        }
        assert_eq!(
            ranges.scales(ValueId(1), NEIGHBOURS, 4, Arithmetic::Half),
            Err("its input was never seen")
        );
        assert_eq!(ranges.scales(ValueId(2), 0, 1, Arithmetic::Half), Err("its input was never seen"));
    }

    #[test]
    fn a_channel_at_rest_counts_for_something() {
        let mut ranges = Ranges::default();
        let mut seen = [0.0; NEIGHBOURS + 1];
        seen[NEIGHBOURS] = 1e9;
        ranges.widen(ValueId(1), 0, &seen);
        let scales = ranges.scales(ValueId(1), 0, NEIGHBOURS + 1, Arithmetic::Half).expect("ranges");
        assert!(scales[0] * 1e9 * FLOOR <= TARGET && scales[0] * 1e9 * FLOOR > TARGET / 2.0, "{}", scales[0]);
    }

    #[test]
    fn a_tensor_that_fades_stays_f32() {
        let mut ranges = Ranges::default();
        [1.0, SPREAD * 1.1].into_iter().for_each(|peak| ranges.widen(ValueId(1), 0, &[peak, 0.0]));
        let spread = Err("its input's magnitude changes too much over the schedule");
        assert_eq!(ranges.scales(ValueId(1), 0, 2, Arithmetic::Half), spread);
    }

    #[test]
    fn what_is_not_finite_stays_f32() {
        for x in [f32::NAN, f32::INFINITY] {
            let mut ranges = Ranges::default();
            ranges.widen(ValueId(0), 0, &[x, 1.0]);
            ranges.widen(ValueId(0), 0, &[1.0, 1.0]);
            assert!(ranges.scales(ValueId(0), 0, 2, Arithmetic::Half).is_err());
        }
    }

    /// In fixed point a channel has its own, but for one that rests beside others.
    #[test]
    fn neighbours_are_not_too_far_apart_in_fixed_point() {
        let mut ranges = Ranges::default();
        ranges.widen(ValueId(1), 0, &[1024.0, 256.0, 1.0, 0.0]);
        let scales = ranges.scales(ValueId(1), 0, 4, Arithmetic::Fixed).expect("ranges");
        let largest = 1024.0 / APART;
        assert_eq!(scales, [1024.0, 256.0, largest, largest].map(|x| TARGET / x));
        assert_eq!(ranges.scales(ValueId(1), 0, 4, Arithmetic::Half), Ok(std::vec![TARGET / 1024.0; 4]));
    }
}
