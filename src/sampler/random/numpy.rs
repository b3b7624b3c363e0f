//! What NumPy draws: `default_rng` (PCG64 and a ziggurat) and the older `RandomState` (MT19937 and the polar method).

use super::{Noise, torch_cpu::MersenneTwister};
use core::ops::{Add, Mul, Neg, Sub};

/// The values of `numpy.random.default_rng(seed).standard_normal(n, dtype=numpy.float32)`, whatever the calls.
///
/// Equal to the bit, but that the logarithm of a value beyond 3.65, one in 4000, may be an ulp off.
#[derive(Clone, Debug)]
pub struct Numpy {
    bits: Pcg64,
}

impl Numpy {
    pub fn new(seed: u64) -> Numpy {
        Numpy { bits: Pcg64::new(seed) }
    }

    /// The next values of the same generator's `standard_normal(n)`, which are f64.
    pub fn fill_normal_f64(&mut self, out: &mut [f64]) {
        out.fill_with(|| normal(&mut self.bits));
    }
}

impl Noise for Numpy {
    fn fill_normal(&mut self, out: &mut [f32]) {
        out.fill_with(|| normal(&mut self.bits));
    }
}

/// The values of `numpy.random.RandomState(seed).standard_normal(n)`, rounded to f32, whatever the calls. They are
/// those of `numpy.random.seed(seed)` and `numpy.random.randn(n)` too.
///
/// NumPy takes no integer above 2^32 - 1; such a seed is the array `[seed & 0xffffffff, seed >> 32]` here.
#[derive(Clone)]
pub struct NumpyLegacy {
    twister: MersenneTwister,
    /// The second value of the last pair.
    spare: Option<f64>,
}

impl NumpyLegacy {
    pub fn new(seed: u64) -> NumpyLegacy {
        let twister = match [seed as u32, (seed >> 32) as u32] {
            [low, 0] => MersenneTwister::new(low),
            array => MersenneTwister::from_array(&array),
        };
        NumpyLegacy { twister, spare: None }
    }

    /// The next values before they are rounded.
    pub fn fill_normal_f64(&mut self, out: &mut [f64]) {
        out.fill_with(|| self.normal());
    }

    /// 53 bits, in `[0, 1)`.
    fn uniform(&mut self) -> f64 {
        let high = f64::from(self.twister.next() >> 5);
        let low = f64::from(self.twister.next() >> 6);
        (high * 67_108_864.0 + low) / 9_007_199_254_740_992.0
    }

    /// Marsaglia's polar method: a point in the unit circle gives two normals, of which the second comes first.
    fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        loop {
            let x = 2.0 * self.uniform() - 1.0;
            let y = 2.0 * self.uniform() - 1.0;
            let square = x * x + y * y;
            if square < 1.0 && square != 0.0 {
                let radius = libm::sqrt(-2.0 * libm::log(square) / square);
                self.spare = Some(radius * x);
                return radius * y;
            }
        }
    }
}

impl Noise for NumpyLegacy {
    fn fill_normal(&mut self, out: &mut [f32]) {
        out.fill_with(|| self.normal() as f32);
    }
}

/// The ziggurat of Marsaglia and Tsang 2000: a point under the density, found in a stack of layers of one area. The
/// word has 8 bits of layer, a sign and the place across the layer.
fn normal<T: Real>(bits: &mut Pcg64) -> T {
    loop {
        let word = T::word(bits);
        let layer = (word & 0xff) as usize;
        let place = word >> 9 & ((1 << 52) - 1);
        let table = T::TABLE;
        let x = T::exact(place) * table.scale[layer];
        let x = if word >> 8 & 1 == 1 { -x } else { x };
        if place < table.inside[layer] {
            return x;
        }
        if layer == 0 {
            let x: T = tail(bits);
            return if place >> 8 & 1 == 1 { -x } else { x };
        }
        let (above, below) = (table.density[layer - 1], table.density[layer]);
        let y = (above - below) * T::uniform(bits) + below;
        let x_wide: f64 = x.into();
        if y.into() < libm::exp(-0.5 * x_wide * x_wide) {
            return x;
        }
    }
}

/// Marsaglia 1964: a normal beyond [`TAIL`].
fn tail<T: Real>(bits: &mut Pcg64) -> T {
    loop {
        // 1 - [0, 1) is never 0, which has no logarithm.
        let x = -T::INVERSE_TAIL * (-T::uniform(bits)).log1p();
        let y = -(-T::uniform(bits)).log1p();
        if y + y > x * x {
            return T::TAIL + x;
        }
    }
}

/// What the ziggurat of f32 and that of f64 do not share.
trait Real:
    Copy
    + Into<f64>
    + PartialOrd
    + Neg<Output = Self>
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + 'static
{
    const TABLE: &'static Ziggurat<Self>;
    const TAIL: Self;
    const INVERSE_TAIL: Self;

    fn word(bits: &mut Pcg64) -> u64;
    /// An integer that has no more bits than a mantissa.
    fn exact(integer: u64) -> Self;
    /// In `[0, 1)`.
    fn uniform(bits: &mut Pcg64) -> Self;
    fn log1p(self) -> Self;
}

impl Real for f32 {
    const TABLE: &'static Ziggurat<f32> = &Ziggurat::single();
    const TAIL: f32 = TAIL as f32;
    const INVERSE_TAIL: f32 = INVERSE_TAIL as f32;

    fn word(bits: &mut Pcg64) -> u64 {
        bits.next_u32().into()
    }

    fn exact(integer: u64) -> f32 {
        integer as f32
    }

    fn uniform(bits: &mut Pcg64) -> f32 {
        (bits.next_u32() >> 8) as f32 * (1.0 / 16_777_216.0)
    }

    fn log1p(self) -> f32 {
        libm::log1pf(self)
    }
}

impl Real for f64 {
    const TABLE: &'static Ziggurat<f64> = &Ziggurat::double();
    const TAIL: f64 = TAIL;
    const INVERSE_TAIL: f64 = INVERSE_TAIL;

    fn word(bits: &mut Pcg64) -> u64 {
        bits.next_u64()
    }

    fn exact(integer: u64) -> f64 {
        integer as f64
    }

    fn uniform(bits: &mut Pcg64) -> f64 {
        (bits.next_u64() >> 11) as f64 * (1.0 / 9_007_199_254_740_992.0)
    }

    fn log1p(self) -> f64 {
        libm::log1p(self)
    }
}

/// PCG XSL-RR 128/64, O'Neill 2014, seeded by NumPy's `SeedSequence(seed)`.
#[derive(Clone, Debug)]
struct Pcg64 {
    state: u128,
    increment: u128,
    /// The high half of the last word of which 32 bits were used.
    half: Option<u32>,
}

impl Pcg64 {
    const MULTIPLIER: u128 = 0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645;

    fn new(seed: u64) -> Pcg64 {
        let [a, b, c, d] = seed_words(seed).map(u128::from);
        let mut bits = Pcg64 { state: 0, increment: (c << 64 | d) << 1 | 1, half: None };
        bits.step();
        bits.state = bits.state.wrapping_add(a << 64 | b);
        bits.step();
        bits
    }

    fn step(&mut self) {
        self.state = self.state.wrapping_mul(Self::MULTIPLIER).wrapping_add(self.increment);
    }

    fn next_u64(&mut self) -> u64 {
        self.step();
        let folded = (self.state >> 64) as u64 ^ self.state as u64;
        folded.rotate_right((self.state >> 122) as u32)
    }

    /// The low half of a word, then its high half, even where whole words are drawn in between.
    fn next_u32(&mut self) -> u32 {
        self.half.take().unwrap_or_else(|| {
            let word = self.next_u64();
            self.half = Some((word >> 32) as u32);
            word as u32
        })
    }
}

/// `numpy.random.SeedSequence(seed).generate_state(4, numpy.uint64)`: O'Neill's seed_seq_fe128.
fn seed_words(seed: u64) -> [u64; 4] {
    let mut hash = Hash { constant: 0x43b0_d7e5, multiplier: 0x931e_8875 };
    let mut pool = [seed as u32, (seed >> 32) as u32, 0, 0].map(|word| hash.next(word));
    for source in 0..4 {
        for target in (0..4).filter(|target| *target != source) {
            let mixed = pool[target]
                .wrapping_mul(0xca01_f9dd)
                .wrapping_sub(hash.next(pool[source]).wrapping_mul(0x4973_f715));
            pool[target] = mixed ^ mixed >> 16;
        }
    }
    let mut hash = Hash { constant: 0x8b51_f9dd, multiplier: 0x58f3_8ded };
    [0, 2, 0, 2].map(|i| u64::from(hash.next(pool[i])) | u64::from(hash.next(pool[i + 1])) << 32)
}

/// A hash whose constant changes with every word.
struct Hash {
    constant: u32,
    multiplier: u32,
}

impl Hash {
    fn next(&mut self, word: u32) -> u32 {
        let word = word ^ self.constant;
        self.constant = self.constant.wrapping_mul(self.multiplier);
        let word = word.wrapping_mul(self.constant);
        word ^ word >> 16
    }
}

const LAYERS: usize = 256;

/// The right edge of the widest layer, and the area of each.
const TAIL: f64 = 3.654_152_885_361_009;
const AREA: f64 = 0.004_928_673_233_974_652;
const INVERSE_TAIL: f64 = 0.273_661_237_329_758_3;

/// Layer `i > 0` reaches from 0 to `x[i]` and from `density[i]` up to `density[i - 1]`. Layer 0 is the strip below,
/// with the tail.
struct Ziggurat<T> {
    /// Places from 0 up to this lie under the layer above too, so under the density.
    inside: [u64; LAYERS],
    /// From a place to x.
    scale: [T; LAYERS],
    density: [T; LAYERS],
}

impl Ziggurat<f64> {
    const fn double() -> Ziggurat<f64> {
        let (x, density) = EDGES;
        let places = (1u64 << 52) as f64;
        let mut table = Ziggurat { inside: inside(&x, &density, places), scale: x, density };
        let mut i = 0;
        while i < LAYERS {
            table.scale[i] = x[i] / places;
            i += 1;
        }
        table
    }
}

impl Ziggurat<f32> {
    const fn single() -> Ziggurat<f32> {
        let (x, density) = EDGES;
        let places = (1u64 << 23) as f64;
        let inside = inside(&x, &density, places);
        let mut table = Ziggurat { inside, scale: [0.0; LAYERS], density: [0.0; LAYERS] };
        let mut i = 0;
        while i < LAYERS {
            table.scale[i] = (x[i] / places) as f32;
            table.density[i] = density[i] as f32;
            i += 1;
        }
        table
    }
}

const EDGES: ([f64; LAYERS], [f64; LAYERS]) = layers();

/// Right edges and densities there, from the widest layer up. For layer 0 the edge is where a layer without a tail
/// would end and the density that of its top.
///
/// NumPy's tables came from this recursion in f64, rounding errors included: they are the same to the bit if each
/// exponential, logarithm and root is rounded correctly. Nothing else will do, as an ulp at the wide end grows to a
/// hundred at the top.
const fn layers() -> ([f64; LAYERS], [f64; LAYERS]) {
    let (mut x, mut density) = ([0.0; LAYERS], [0.0; LAYERS]);
    let mut i = LAYERS - 1;
    x[i] = TAIL;
    density[i] = Wide(-0.5 * TAIL * TAIL, 0.0).exp().0;
    while i > 1 {
        let height = AREA / x[i] + density[i];
        let logarithm = ln(height, -0.5 * x[i] * x[i]);
        i -= 1;
        x[i] = sqrt(-2.0 * logarithm, x[i + 1]);
        density[i] = Wide(-0.5 * x[i] * x[i], 0.0).exp().0;
        if i == 38 {
            // The one entry of NumPy's that is not the nearest f64, but the second nearest (0.498 and 0.502 ulp).
            density[i] = density[i].next_up();
        }
    }
    x[0] = AREA / density[LAYERS - 1];
    density[0] = 1.0;
    (x, density)
}

const fn inside(x: &[f64; LAYERS], density: &[f64; LAYERS], places: f64) -> [u64; LAYERS] {
    let mut inside = [0; LAYERS];
    inside[0] = nearest(TAIL * density[LAYERS - 1] / AREA * places);
    let mut i = 2;
    while i < LAYERS {
        inside[i] = nearest(x[i - 1] / x[i] * places);
        i += 1;
    }
    inside
}

/// The nearest integer, the even one of two, for values in `[0, 2^52)`.
const fn nearest(value: f64) -> u64 {
    const INTEGERS: f64 = (1u64 << 52) as f64;
    (value + INTEGERS - INTEGERS) as u64
}

/// The nearest f64, by Newton's rule from a `guess` within 1.
const fn ln(value: f64, guess: f64) -> f64 {
    let mut root = Wide(guess, 0.0);
    let mut i = 0;
    while i < 8 {
        let quotient = Wide(-root.0, -root.1).exp().times(Wide(value, 0.0));
        root = root.plus(quotient).plus(Wide(-1.0, 0.0));
        i += 1;
    }
    root.0
}

/// The nearest f64, by Heron's rule from a `guess` within half.
const fn sqrt(value: f64, guess: f64) -> f64 {
    let mut root = guess;
    let mut i = 0;
    while i < 8 {
        let square = product(root, root);
        root += (value - square.0 - square.1) / (2.0 * root);
        i += 1;
    }
    root
}

/// The unevaluated sum of two f64, the second below half an ulp of the first: 106 bits.
#[derive(Clone, Copy)]
struct Wide(f64, f64);

impl Wide {
    const fn plus(self, other: Wide) -> Wide {
        let high = sum(self.0, other.0);
        sum(high.0, high.1 + self.1 + other.1)
    }

    const fn times(self, other: Wide) -> Wide {
        let high = product(self.0, other.0);
        sum(high.0, high.1 + (self.0 * other.1 + self.1 * other.0))
    }

    const fn over(self, divisor: f64) -> Wide {
        let quotient = self.0 / divisor;
        let back = product(quotient, divisor);
        sum(quotient, (self.0 - back.0 - back.1 + self.1) / divisor)
    }

    /// Taylor's series near 0, squared until the argument is back.
    const fn exp(self) -> Wide {
        const SQUARINGS: u32 = 9;
        let small = self.over((1 << SQUARINGS) as f64);
        let mut result = Wide(1.0, 0.0);
        let mut n = 12;
        while n > 0 {
            result = Wide(1.0, 0.0).plus(small.times(result).over(n as f64));
            n -= 1;
        }
        while n < SQUARINGS {
            result = result.times(result);
            n += 1;
        }
        result
    }
}

/// Knuth's exact sum.
const fn sum(a: f64, b: f64) -> Wide {
    let sum = a + b;
    let b_rounded = sum - a;
    Wide(sum, (a - (sum - b_rounded)) + (b - b_rounded))
}

/// Dekker's exact product.
const fn product(a: f64, b: f64) -> Wide {
    const fn split(a: f64) -> Wide {
        let scaled = a * 134_217_729.0;
        let high = scaled - (scaled - a);
        Wide(high, a - high)
    }
    let product = a * b;
    let (a, b) = (split(a), split(b));
    Wide(product, ((a.0 * b.0 - product) + a.0 * b.1 + a.1 * b.0) + a.1 * b.1)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::sampler::random::tests::{checksum, draw};
    use std::{vec, vec::Vec};

    const SIZES: [usize; 6] = [1, 3, 16, 17, 1000, 100_000];

    fn all_sizes(noise: &mut impl Noise) -> Vec<f32> {
        SIZES.into_iter().flat_map(|n| draw(noise, n)).collect()
    }

    fn checksum_f32(values: &[f32]) -> u64 {
        checksum(values.iter().map(|value| value.to_bits().into()))
    }

    fn checksum_f64(values: &[f64]) -> u64 {
        checksum(values.iter().map(|value| value.to_bits()))
    }

    /// NumPy 2.4.6, `checksum` of the tables in numpy/random/_generator.cpython-311-x86_64-linux-gnu.so: ki, wi and fi
    /// in f64 at bytes 732832, 730784 and 728736, in f32 at 727712, 726688 and 725664.
    #[test]
    fn tables_are_numpys() {
        let (double, single) = (<f64 as Real>::TABLE, <f32 as Real>::TABLE);
        assert_eq!(checksum(double.inside), 16266846881039463942);
        assert_eq!(checksum_f64(&double.scale), 9246688924538845562);
        assert_eq!(checksum_f64(&double.density), 8193741253160336353);
        assert_eq!(checksum(single.inside), 545695438493);
        assert_eq!(checksum_f32(&single.scale), 57638504545493);
        assert_eq!(checksum_f32(&single.density), 68116263476497);
    }

    /// NumPy 2.4.6: numpy.random.SeedSequence(SEED).generate_state(4, numpy.uint64), and `checksum` of
    /// numpy.random.PCG64(SEED).random_raw(100000).
    #[test]
    fn words_are_numpys() {
        for (seed, state, raw) in [
            (
                0,
                [0xdb2cd7e7b0f478be, 0xabf4641a2c71ba49, 0x20c6ed6d9d7b8d41, 0x2c4099de223c39d4],
                4892134562760832620,
            ),
            (
                42,
                [0x9f1e2e6dcd540ab7, 0xd57873dc79fb94b6, 0x7d282a1b64d420b7, 0x336579714692d5ff],
                17223461900282830098,
            ),
            (
                u32::MAX.into(),
                [0x2a05c5e276c1fe08, 0x2032e40fc20e8198, 0xed4ac06d787f4396, 0x56896cb4f3db80fd],
                3341299406476978392,
            ),
            (
                (1 << 63) + 5,
                [0x7deda5d2fb140929, 0xf318c464aba74dc6, 0x482c8fd3ecbdf7c0, 0xfcb1f6bdd0ef752e],
                10520760608824492871,
            ),
        ] {
            assert_eq!(seed_words(seed), state);
            let mut bits = Pcg64::new(seed);
            assert_eq!(checksum((0..100_000).map(|_| bits.next_u64())), raw);
        }
    }

    /// NumPy 2.4.6: g = numpy.random.default_rng(SEED);
    /// a = numpy.concatenate([g.standard_normal(n, dtype=numpy.float32) for n in SIZES]); a[:3], `checksum` of
    /// a.view("u4"). Each has 20 to 40 values from the tail.
    #[test]
    #[allow(clippy::excessive_precision)]
    fn normals_are_numpys() {
        for (seed, first, all) in [
            (0, [1.1176220178604126, -1.3871248960494995, -0.4265716075897217], 3254875213179677623),
            (42, [0.14190717041492462, -1.6685079336166382, -1.3321080207824707], 3346750874554479186),
            (
                u32::MAX.into(),
                [-0.33467763662338257, -0.4611296057701111, 0.20726121962070465],
                3302027753345827833,
            ),
            (
                (1 << 63) + 5,
                [-1.1545015573501587, 0.7668715715408325, -0.4246535897254944],
                3296552907546613335,
            ),
        ] {
            let values = all_sizes(&mut Numpy::new(seed));
            assert_eq!(values[..3], first);
            assert_eq!(checksum_f32(&values), all, "seed {seed}");
        }
    }

    /// NumPy 2.4.6: the same with g.standard_normal(n).
    #[test]
    fn normals_of_f64_are_numpys() {
        for (seed, first, all) in [
            (0, [0.1257302210933933, -0.1321048632913019, 0.6404226504432821], 6593937501382459415),
            (42, [0.30471707975443135, -1.0399841062404955, 0.7504511958064572], 16886515299278099696),
            (
                u32::MAX.into(),
                [-0.027271763074256376, 0.2153539268318988, -0.6669252679186933],
                3684804066608995344,
            ),
            (
                (1 << 63) + 5,
                [-1.1851590374338221, -0.5273699591340597, -0.2711318271582182],
                15274886920943388045,
            ),
        ] {
            let mut values = vec![0.0; SIZES.iter().sum()];
            Numpy::new(seed).fill_normal_f64(&mut values);
            assert_eq!(values[..3], first);
            assert_eq!(checksum_f64(&values), all, "seed {seed}");
        }
    }

    /// NumPy 2.4.6: g = numpy.random.default_rng(7); g.standard_normal(3, dtype="f4").tolist(),
    /// g.standard_normal(3).tolist(), g.standard_normal(3, dtype="f4").tolist(): the half word waits.
    #[test]
    #[allow(clippy::excessive_precision)]
    fn draws_of_f32_and_f64_follow_one_another_as_in_numpy() {
        let mut noise = Numpy::new(7);
        assert_eq!(draw(&mut noise, 3), [1.5219693183898926, -1.1441057920455933, 1.150161623954773]);
        let mut wide = [0.0; 3];
        noise.fill_normal_f64(&mut wide);
        assert_eq!(wide, [-0.2741378553622176, -0.8905918387572742, -0.45467078517172255]);
        assert_eq!(draw(&mut noise, 3), [-1.7846531867980957, -0.28599533438682556, 1.9848085641860962]);
    }

    /// NumPy 2.4.6: g = numpy.random.RandomState(SEED), the last one of [5, 2**31];
    /// a = numpy.concatenate([g.standard_normal(n) for n in SIZES]); a[:3].tolist(), `checksum` of
    /// a.astype("f4").view("u4").
    #[test]
    fn legacy_normals_are_numpys() {
        for (seed, first, all) in [
            (0, [1.764052345967664, 0.4001572083672233, 0.9787379841057392], 3256516222826494020),
            (42, [0.4967141530112327, -0.13826430117118466, 0.6476885381006925], 3290426537795643836),
            (
                u32::MAX.into(),
                [0.6484086742306527, 0.6693235306338161, -1.0805437227474493],
                3360009925348376463,
            ),
            (
                (1 << 63) + 5,
                [-0.5128799885104618, -2.069510504632139, -0.10900718459447226],
                3314809637914456675,
            ),
        ] {
            let mut wide = [0.0f64; 3];
            NumpyLegacy::new(seed).fill_normal_f64(&mut wide);
            assert!(wide.iter().zip(&first).all(|(found, expected)| (found - expected).abs() < 1e-14));
            assert_eq!(checksum_f32(&all_sizes(&mut NumpyLegacy::new(seed))), all, "seed {seed}");
        }
    }
}
