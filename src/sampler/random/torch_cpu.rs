//! What PyTorch draws on a CPU.

use super::{Noise, box_muller};

/// The values of `torch.randn(n, generator=torch.Generator().manual_seed(seed))` on a CPU, call by call.
///
/// PyTorch's vectorised logarithm and sine differ from libm's in the last bits, so the values agree to about 1e-6,
/// not to the bit. Draws of 16 values or more and shorter ones follow two different rules there, and here.
#[derive(Clone)]
pub struct TorchCpu {
    twister: MersenneTwister,
    /// The second value of the last pair that the short rule made.
    spare: Option<f64>,
}

impl TorchCpu {
    /// PyTorch seeds from the low 32 bits alone.
    pub fn new(seed: u64) -> TorchCpu {
        TorchCpu { twister: MersenneTwister::new(seed as u32), spare: None }
    }

    /// 24 bits, in `[0, 1)`.
    fn uniform(&mut self) -> f32 {
        (self.twister.next() & 0xff_ffff) as f32 * (1.0 / 16_777_216.0)
    }

    /// 53 bits, in `[0, 1)`.
    fn uniform_f64(&mut self) -> f64 {
        let high = u64::from(self.twister.next());
        let low = u64::from(self.twister.next());
        ((high << 32 | low) & ((1 << 53) - 1)) as f64 * (1.0 / 9_007_199_254_740_992.0)
    }

    /// The short rule: pairs in f64, whose second value waits for the next short draw.
    fn normal_f64(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let (angle, radius) = (self.uniform_f64(), self.uniform_f64());
        let radius = libm::sqrt(-2.0 * libm::log1p(-radius));
        let (sin, cos) = libm::sincos(core::f64::consts::TAU * angle);
        self.spare = Some(radius * sin);
        radius * cos
    }

    fn fill_uniform(&mut self, out: &mut [f32]) {
        out.fill_with(|| self.uniform());
    }
}

/// Draws of at least so many values follow the block rule.
const BLOCK: usize = 16;

impl Noise for TorchCpu {
    fn fill_normal(&mut self, out: &mut [f32]) {
        if out.len() < BLOCK {
            out.fill_with(|| self.normal_f64() as f32);
            return;
        }
        self.fill_uniform(out);
        let (blocks, rest) = out.as_chunks_mut::<BLOCK>();
        blocks.iter_mut().for_each(box_muller_block);
        if !rest.is_empty()
            && let Some(last) = out.last_chunk_mut::<BLOCK>()
        {
            // The last 16 are drawn afresh, over normals that are already there.
            self.fill_uniform(last);
            box_muller_block(last);
        }
    }
}

/// Sixteen uniforms become sixteen normals; value `i` pairs with value `i + 8`.
fn box_muller_block(block: &mut [f32; BLOCK]) {
    let (first, second) = block.split_at_mut(BLOCK / 2);
    for (a, b) in first.iter_mut().zip(second) {
        // 1 - [0, 1) is never 0, which has no logarithm.
        (*a, *b) = box_muller(1.0 - *a, *b);
    }
}

/// MT19937, Matsumoto and Nishimura 1998.
#[derive(Clone)]
pub(super) struct MersenneTwister {
    state: [u32; MersenneTwister::N],
    next: usize,
}

impl MersenneTwister {
    const N: usize = 624;
    const M: usize = 397;

    pub(super) fn new(seed: u32) -> MersenneTwister {
        let mut state = [seed; Self::N];
        for i in 1..Self::N {
            let previous = state[i - 1];
            state[i] = 1_812_433_253u32.wrapping_mul(previous ^ previous >> 30).wrapping_add(i as u32);
        }
        MersenneTwister { state, next: Self::N }
    }

    /// `init_by_array` of the authors' mt19937ar.c. The key has at least one word.
    pub(super) fn from_array(key: &[u32]) -> MersenneTwister {
        let mut twister = Self::new(19_650_218);
        let mut i = 1;
        for k in 0..Self::N.max(key.len()) {
            let j = k % key.len();
            i = twister.mix(i, 1_664_525, key[j].wrapping_add(j as u32));
        }
        for _ in 1..Self::N {
            i = twister.mix(i, 1_566_083_941, (i as u32).wrapping_neg());
        }
        twister.state[0] = 0x8000_0000;
        twister
    }

    /// Mixes word `i` with the one before it; the word to mix next.
    fn mix(&mut self, i: usize, multiplier: u32, added: u32) -> usize {
        let previous = self.state[i - 1];
        let mixed = self.state[i] ^ (previous ^ previous >> 30).wrapping_mul(multiplier);
        self.state[i] = mixed.wrapping_add(added);
        if i + 1 < Self::N {
            return i + 1;
        }
        self.state[0] = self.state[i];
        1
    }

    pub(super) fn next(&mut self) -> u32 {
        if self.next == Self::N {
            self.twist();
            self.next = 0;
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= y << 7 & 0x9d2c_5680;
        y ^= y << 15 & 0xefc6_0000;
        y ^ y >> 18
    }

    fn twist(&mut self) {
        let state = &mut self.state;
        for i in 0..Self::N {
            let y = state[i] & 0x8000_0000 | state[(i + 1) % Self::N] & 0x7fff_ffff;
            let odd = if y & 1 == 0 { 0 } else { 0x9908_b0df };
            state[i] = state[(i + Self::M) % Self::N] ^ y >> 1 ^ odd;
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::sampler::random::tests::draw;
    use std::vec::Vec;

    /// How far PyTorch's vectorised functions may be from libm's.
    const TORCH_TOLERANCE: f32 = 2e-6;

    fn assert_near(found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len());
        for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
            assert!((found - expected).abs() <= TORCH_TOLERANCE, "value {i}: {found}, torch {expected}");
        }
    }

    /// C++11 [rand.predef]: the 10000th consecutive invocation of mt19937 produces 4123659995. The first ones are
    /// `numpy.random.RandomState(5489).randint(0, 2**32, 3, dtype=numpy.uint32)`.
    #[test]
    fn mersenne_twister_is_the_published_one() {
        let mut twister = MersenneTwister::new(5489);
        let values: Vec<u32> = (0..10_000).map(|_| twister.next()).collect();
        assert_eq!(values[..3], [3499211612, 581869302, 3890346734]);
        assert_eq!(values[9_999], 4123659995);
    }

    /// w = numpy.random.RandomState(KEY).randint(0, 2**32, 1000, dtype=numpy.uint32); w[:3], w[999]. The first key is
    /// that of the authors' mt19937ar.out.
    #[test]
    fn mersenne_twister_takes_a_key_of_any_length() {
        let long: Vec<u32> = (0..700).collect();
        for (key, first, last) in [
            (&[0x123, 0x234, 0x345, 0x456][..], [1067595299, 955945823, 477289528], 3460025646),
            (&long, [3727595200, 1914792892, 3929396303], 1945019126),
        ] {
            let mut twister = MersenneTwister::from_array(key);
            let values: Vec<u32> = (0..1000).map(|_| twister.next()).collect();
            assert_eq!((&values[..3], values[999]), (&first[..], last));
        }
    }

    /// torch 2.15: g = torch.Generator().manual_seed(SEED); torch.randn(N, generator=g).tolist()
    #[test]
    #[allow(clippy::excessive_precision)]
    fn torch_normals_are_torchs() {
        let cases: [(u64, &[f32]); 5] = [
            (0, &[1.5409960746765137, -0.293428897857666, -2.1787893772125244, 0.5684312582015991]),
            (
                42,
                &[
                    0.33669036626815796,
                    0.12880940735340118,
                    0.23446236550807953,
                    0.23033303022384644,
                    -1.1228563785552979,
                    -0.18632829189300537,
                    2.2082014083862305,
                    -0.637997031211853,
                    0.46165722608566284,
                    0.2673508822917938,
                    0.5349046587944031,
                    0.809357225894928,
                    1.110290288925171,
                    -1.6897989511489868,
                    -0.9889599084854126,
                ],
            ),
            (
                42,
                &[
                    1.9269152879714966,
                    1.4872840642929077,
                    0.9007171988487244,
                    -2.1055209636688232,
                    0.6784184575080872,
                    -1.2345448732376099,
                    -0.04306747764348984,
                    -1.6046669483184814,
                    -0.7521352767944336,
                    1.6487230062484741,
                    -0.3924786448478699,
                    -1.4036071300506592,
                    -0.7278813123703003,
                    -0.5594301819801331,
                    -0.7688388824462891,
                    0.7624453902244568,
                ],
            ),
            (7, SEED_7),
            ((1 << 32) + 7, SEED_7),
        ];
        for (seed, expected) in cases {
            assert_near(&draw(&mut TorchCpu::new(seed), expected.len()), expected);
        }
    }

    #[allow(clippy::excessive_precision)]
    const SEED_7: &[f32] = &[
        -0.8201345205307007,
        -0.32456663250923157,
        1.9263681173324585,
        -0.3300117254257202,
        0.19844505190849304,
        0.7820726633071899,
        1.0391076803207397,
        -0.7245107293128967,
        -0.8489086031913757,
        -0.21534152328968048,
        -1.8157286643981934,
        -0.3452419638633728,
        -2.0614778995513916,
        0.6741006970405579,
        -1.3233457803726196,
        -1.3597689867019653,
        -0.866701602935791,
    ];

    /// v = torch.randn(100, generator=torch.Generator().manual_seed(2**40 + 123)): whole blocks, then the redrawn end.
    #[test]
    #[allow(clippy::excessive_precision)]
    fn a_draw_that_is_no_multiple_of_16_is_torchs() {
        let values = draw(&mut TorchCpu::new((1 << 40) + 123), 100);
        let found = [0, 8, 79, 83, 84, 85, 95, 96, 99].map(|i: usize| values[i]);
        assert_near(
            &found,
            &[
                0.3373701870441437,
                0.7671070694923401,
                -1.4465465545654297,
                0.8272308707237244,
                -0.031861238181591034,
                -0.4789557158946991,
                0.701609194278717,
                -0.9822379946708679,
                -0.8956807851791382,
            ],
        );
    }

    /// g = torch.Generator().manual_seed(3); [torch.randn(n, generator=g) for n in (3, 16, 2)]: the fourth value of
    /// the first two pairs waits through the block and comes out first in the last draw.
    #[test]
    #[allow(clippy::excessive_precision)]
    fn draws_follow_one_another_as_in_torch() {
        let mut noise = TorchCpu::new(3);
        assert_near(&draw(&mut noise, 3), &[0.8032760620117188, 0.17483338713645935, 0.08897809684276581]);
        let block = draw(&mut noise, 16);
        assert_near(&[block[0], block[15]], &[0.6053608059883118, 0.08430249989032745]);
        assert_near(&draw(&mut noise, 2), &[-0.6137180328369141, -0.8646355867385864]);
    }
}
