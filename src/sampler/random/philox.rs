//! Noise without state, the default.

use super::{Noise, box_muller};

/// Counter-based noise: Philox4x32-10, Salmon et al. 2011.
///
/// The key is the seed. The counter is `[i / 4, draw, stream low, stream high]`: value `i` of draw number `draw`
/// depends on these and on nothing else, so values can be made in any order, on any thread, in pieces of any size,
/// and a longer draw begins with the values of a shorter one. Give each image its own stream. A draw repeats after
/// 2^34 values and the draws after 2^32.
#[derive(Clone, Debug)]
pub struct Philox {
    seed: u64,
    stream: u64,
    draw: u32,
}

impl Philox {
    pub fn new(seed: u64, stream: u64) -> Philox {
        Philox { seed, stream, draw: 0 }
    }

    /// Values `first`, `first + 1`, ... of draw number `draw`.
    pub fn fill_at(&self, draw: u32, first: u64, out: &mut [f32]) {
        let mut i = first;
        let mut rest = out;
        while !rest.is_empty() {
            let normals = self.normals(draw, i / 4);
            let within = &normals[(i % 4) as usize..];
            let (now, later) = rest.split_at_mut(within.len().min(rest.len()));
            now.copy_from_slice(&within[..now.len()]);
            i += now.len() as u64;
            rest = later;
        }
    }

    fn normals(&self, draw: u32, block: u64) -> [f32; 4] {
        let counter = [block as u32, draw, self.stream as u32, (self.stream >> 32) as u32];
        let [a, b, c, d] = philox4x32_10(counter, [self.seed as u32, (self.seed >> 32) as u32]);
        let (first, second) = box_muller(positive_uniform(a), uniform(b));
        let (third, fourth) = box_muller(positive_uniform(c), uniform(d));
        [first, second, third, fourth]
    }
}

impl Noise for Philox {
    fn fill_normal(&mut self, out: &mut [f32]) {
        self.fill_at(self.draw, 0, out);
        self.draw = self.draw.wrapping_add(1);
    }
}

/// In `(0, 1]`, with all 32 bits where f32 is dense, so that the tails reach 6.7.
fn positive_uniform(word: u32) -> f32 {
    (word as f32 + 0.5) * (1.0 / 4_294_967_296.0)
}

/// In `[0, 1)`.
fn uniform(word: u32) -> f32 {
    (word >> 8) as f32 * (1.0 / 16_777_216.0)
}

pub(super) fn philox4x32_10(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let a = u64::from(counter[0]) * 0xd251_1f53;
        let b = u64::from(counter[2]) * 0xcd9e_8d57;
        let (high_a, high_b) = ((a >> 32) as u32, (b >> 32) as u32);
        counter = [high_b ^ counter[1] ^ key[0], b as u32, high_a ^ counter[3] ^ key[1], a as u32];
        key = [key[0].wrapping_add(0x9e37_79b9), key[1].wrapping_add(0xbb67_ae85)];
    }
    counter
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::sampler::random::tests::draw;
    use std::vec;

    /// Random123 `kat_vectors`, philox4x32 with 10 rounds.
    #[test]
    fn philox_gives_the_known_answers() {
        let ones = u32::MAX;
        for (counter, key, expected) in [
            ([0; 4], [0; 2], [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]),
            ([ones; 4], [ones; 2], [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]),
            (
                [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
                [0xa4093822, 0x299f31d0],
                [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
            ),
        ] {
            assert_eq!(philox4x32_10(counter, key), expected);
        }
    }

    #[test]
    fn philox_values_do_not_depend_on_order_or_pieces() {
        let whole = draw(&mut Philox::new(9, 4), 37);
        let noise = Philox::new(9, 4);
        let mut pieces = vec![0.0; 37];
        for (first, end) in [(30, 37), (0, 3), (3, 18), (18, 30)] {
            noise.fill_at(0, first as u64, &mut pieces[first..end]);
        }
        assert_eq!(whole, pieces);
        assert_eq!(draw(&mut Philox::new(9, 4), 5), whole[..5]);
    }

    #[test]
    fn philox_draws_streams_and_seeds_are_different() {
        let mut noise = Philox::new(9, 4);
        let (first, second) = (draw(&mut noise, 8), draw(&mut noise, 8));
        let others = [second, draw(&mut Philox::new(9, 5), 8), draw(&mut Philox::new(9 + (1 << 32), 4), 8)];
        assert!(others.iter().all(|other| other.iter().all(|value| !first.contains(value))));
    }

    #[test]
    fn the_smallest_and_largest_words_are_finite_normals() {
        for word in [0, 1, u32::MAX] {
            let (a, b) = box_muller(positive_uniform(word), uniform(word));
            assert!(a.is_finite() && b.is_finite() && a.abs() < 6.8, "{word}: {a} {b}");
        }
    }
}
