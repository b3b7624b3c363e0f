//! What JAX draws.

use super::Noise;

/// The values of `jax.random.normal(key, shape, float32)` for threefry2x32 keys, JAX's default.
///
/// A key gives one draw and no more. As [`Noise`], the first draw is that of the key itself, and draw `n` after it
/// that of `jax.random.fold_in(key, n)`; to follow a program that splits its keys, [`Jax::split`] them likewise.
///
/// Equal to the bit to JAX 0.10 on a CPU with fused multiply-adds, and within a few ulps elsewhere. Legacy draws have
/// under 2^32 values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jax {
    key: [u32; 2],
    partitionable: bool,
    /// Draws made so far.
    draw: u32,
}

impl Jax {
    /// `jax.random.PRNGKey(seed)`, which keeps the low 32 bits alone unless `jax_enable_x64` is set.
    pub fn new(seed: u64) -> Jax {
        Jax::from_key([0, seed as u32], true)
    }

    /// The same with `jax_threefry_partitionable` off, as it was before JAX 0.5.
    pub fn legacy(seed: u64) -> Jax {
        Jax::from_key([0, seed as u32], false)
    }

    /// Any key, as `jax.random.key_data` shows it.
    pub fn from_key(key: [u32; 2], partitionable: bool) -> Jax {
        Jax { key, partitionable, draw: 0 }
    }

    pub fn key(&self) -> [u32; 2] {
        self.key
    }

    /// `jax.random.fold_in(key, data)`.
    pub fn fold_in(&self, data: u32) -> Jax {
        Jax::from_key(threefry2x32(self.key, [0, data]), self.partitionable)
    }

    /// `jax.random.split(key, N)`.
    pub fn split<const N: usize>(&self) -> [Jax; N] {
        let legacy_word = |i: usize| {
            // Counters 0 to 2N, of which the first half pairs with the second.
            let pair = i % N;
            threefry2x32(self.key, [pair as u32, (pair + N) as u32])[i / N]
        };
        core::array::from_fn(|i| {
            let key = if self.partitionable {
                threefry2x32(self.key, [0, i as u32])
            } else {
                [legacy_word(2 * i), legacy_word(2 * i + 1)]
            };
            Jax::from_key(key, self.partitionable)
        })
    }

    /// `jax.random.bits(key, (len,))`, each word through `value_of`.
    fn fill<T>(&self, out: &mut [T], value_of: impl Fn(u32) -> T) {
        if self.partitionable {
            for (i, value) in out.iter_mut().enumerate() {
                let [a, b] = threefry2x32(self.key, [(i as u64 >> 32) as u32, i as u32]);
                *value = value_of(a ^ b);
            }
            return;
        }
        let half = out.len().div_ceil(2);
        let (first, second) = out.split_at_mut(half);
        for (i, value) in first.iter_mut().enumerate() {
            // An odd count is filled up with a counter of 0.
            let partner = if i < second.len() { (half + i) as u32 } else { 0 };
            let [a, b] = threefry2x32(self.key, [i as u32, partner]);
            *value = value_of(a);
            if let Some(value) = second.get_mut(i) {
                *value = value_of(b);
            }
        }
    }
}

impl Noise for Jax {
    fn fill_normal(&mut self, out: &mut [f32]) {
        let key = if self.draw == 0 { *self } else { self.fold_in(self.draw) };
        key.fill(out, normal);
        self.draw = self.draw.wrapping_add(1);
    }
}

/// `sqrt(2) * erf_inv(u)` for `u` uniform in `(-1, 1)`.
fn normal(word: u32) -> f32 {
    // 23 bits in [0, 1), then in [lowest, 1): lowest is the value after -1.
    let unit = f32::from_bits(word >> 9 | 1.0f32.to_bits()) - 1.0;
    let lowest = (-1.0f32).next_up();
    let u = (unit * (1.0 - lowest) + lowest).max(lowest);
    core::f32::consts::SQRT_2 * erf_inv(u)
}

/// Giles 2010, Approximating the erfinv function, single precision: the polynomials that XLA uses.
fn erf_inv(x: f32) -> f32 {
    const CENTRE: [f32; 9] = [
        2.810_226_4e-8,
        3.432_739_4e-7,
        -3.523_387_7e-6,
        -4.391_506_5e-6,
        0.000_218_580_87,
        -0.001_253_725,
        -0.004_177_681_6,
        0.246_640_73,
        1.501_409_4,
    ];
    const TAIL: [f32; 9] = [
        -0.000_200_214_26,
        0.000_100_950_56,
        0.001_349_343_2,
        -0.003_673_428_4,
        0.005_739_507_7,
        -0.007_622_461,
        0.009_438_870_5,
        1.001_674,
        2.832_976_8,
    ];
    let w = -log1p(-x * x);
    let (w, coefficients) = if w < 5.0 { (w - 2.5, &CENTRE) } else { (libm::sqrtf(w) - 3.0, &TAIL) };
    x * polynomial(w, coefficients)
}

/// XLA's, after Cephes, for x in `(-1, 0]`. `w - 2.5` above cancels and shows every ulp of it, so libm's will not do.
fn log1p(x: f32) -> f32 {
    const NUMERATOR: [f32; 7] =
        [4.527e-5, 0.498_541_03, 6.578_732_5, 29.911_919, 60.949_67, 57.112_965, 20.039_553];
    const DENOMINATOR: [f32; 7] = [1.0, 15.062_909, 83.047_57, 221.762_4, 309.098_72, 216.427_89, 60.118_66];
    if x <= -(core::f32::consts::SQRT_2 - 1.0) {
        return ln(1.0 + x);
    }
    let square = x * x;
    let ratio = polynomial(x, &NUMERATOR) / polynomial(x, &DENOMINATOR);
    x + fused(-0.5, square, x * square * ratio)
}

/// XLA's vectorised logarithm, after Cephes, for positive normal numbers.
fn ln(value: f32) -> f32 {
    const SERIES: [[f32; 3]; 3] = [
        [0.070_376_836, -0.115_146_1, 0.116_769_984],
        [-0.124_201_41, 0.142_493_23, -0.166_680_57],
        [0.200_007_14, -0.249_999_94, 0.333_333_3],
    ];
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    let (mantissa, exponent) = libm::frexpf(value);
    let (mantissa, exponent) = if mantissa < core::f32::consts::FRAC_1_SQRT_2 {
        (mantissa + mantissa, (exponent - 1) as f32)
    } else {
        (mantissa, exponent as f32)
    };
    let x = mantissa - 1.0;
    let square = x * x;
    let cube = square * x;
    let series = polynomial(cube, &SERIES.map(|coefficients| polynomial(x, &coefficients)));
    let rest = fused(series, cube, exponent * LN_2[1]);
    fused(exponent, LN_2[0], fused(-0.5, square, x) + rest)
}

/// Horner's rule, the highest power first.
fn polynomial<const N: usize>(x: f32, coefficients: &[f32; N]) -> f32 {
    coefficients.iter().fold(0.0, |sum, coefficient| fused(sum, x, *coefficient))
}

/// `a * b + c` rounded once, but for a rare tie: the product is exact in f64.
fn fused(a: f32, b: f32, c: f32) -> f32 {
    (f64::from(a) * f64::from(b) + f64::from(c)) as f32
}

/// Threefry2x32 with 20 rounds, Salmon et al. 2011.
fn threefry2x32(key: [u32; 2], counter: [u32; 2]) -> [u32; 2] {
    const ROTATIONS: [[u32; 4]; 2] = [[13, 15, 26, 6], [17, 29, 16, 24]];
    let keys = [key[0], key[1], key[0] ^ key[1] ^ 0x1bd1_1bda];
    let mut x = [counter[0].wrapping_add(keys[0]), counter[1].wrapping_add(keys[1])];
    for group in 0..5 {
        for rotation in ROTATIONS[group % 2] {
            x[0] = x[0].wrapping_add(x[1]);
            x[1] = x[1].rotate_left(rotation) ^ x[0];
        }
        x[0] = x[0].wrapping_add(keys[(group + 1) % 3]);
        x[1] = x[1].wrapping_add(keys[(group + 2) % 3]).wrapping_add(group as u32 + 1);
    }
    x
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::sampler::random::tests::{checksum, draw};
    use std::vec;

    const SIZES: [usize; 6] = [1, 3, 16, 17, 1000, 100_000];

    /// jax 0.10.2, for p in (True, False): jax.config.update("jax_threefry_partitionable", p);
    /// k = jax.random.PRNGKey(SEED); `checksum` of jax.random.bits(k, (n,)) for n in SIZES, then of
    /// jax.random.normal(k, (n,)).view("uint32").
    #[test]
    fn words_and_normals_are_jaxs() {
        for (noise, bits, normals) in CASES {
            for (i, n) in SIZES.into_iter().enumerate() {
                let mut words = vec![0; n];
                noise().fill(&mut words, u64::from);
                assert_eq!(checksum(words), bits[i], "{:?}: {n} words", noise());
                let words = draw(&mut noise(), n).into_iter().map(|value| value.to_bits().into());
                assert_eq!(checksum(words), normals[i], "{:?}: {n} normals", noise());
            }
        }
    }

    type Case = (fn() -> Jax, [u64; 6], [u64; 6]);
    const CASES: [Case; 6] = [
        (
            || Jax::new(0),
            [4070199207, 23815010853, 659748337086, 777974298984, 2138951467450223, 3012099116307727969],
            [1070576317, 20303219968, 439067868236, 474208278101, 2142748013960906, 2886205631807884376],
        ),
        (
            || Jax::new(42),
            [2098992034, 24092444682, 743444315677, 844267387312, 2250996373677416, 2996021120931210627],
            [3169312533, 11587445426, 427383463425, 462295045086, 2038630269961222, 2869139344661892609],
        ),
        (
            || Jax::new(4294967295),
            [2226700399, 19285219741, 530090037017, 530275892060, 2201302802371584, 2987095720634831609],
            [1027436428, 20056449377, 591196842816, 697636919526, 2110811311920810, 2892784119468983990],
        ),
        (
            || Jax::legacy(0),
            [1797259609, 21794882226, 513432857729, 529411781981, 2122835384009833, 3107679402001663869],
            [3193096272, 15941755487, 546188456861, 695293062521, 2150021833231072, 2820055488715673408],
        ),
        (
            || Jax::legacy(42),
            [1832780943, 5033379734, 402140676650, 794106537663, 2110272936469659, 2983462413199840983],
            [3191678229, 26777560819, 585472702433, 477149083512, 2125771356110255, 2885818841678477251],
        ),
        (
            || Jax::legacy(4294967295),
            [2973345818, 20864156433, 596774452815, 664266521802, 2153973981196610, 3061552579685459032],
            [1057003878, 16030015310, 471513634350, 621394705519, 2139942166214591, 2860222514421070061],
        ),
    ];

    /// Random123 `kat_vectors`, threefry2x32 with 20 rounds.
    #[test]
    fn threefry_gives_the_known_answers() {
        let ones = [u32::MAX; 2];
        for (key, counter, expected) in [
            ([0; 2], [0; 2], [0x6b200159, 0x99ba4efe]),
            (ones, ones, [0x1cb996fc, 0xbb002be7]),
            ([0x13198a2e, 0x03707344], [0x243f6a88, 0x85a308d3], [0xc4923a9c, 0x483df7a0]),
        ] {
            assert_eq!(threefry2x32(key, counter), expected);
        }
    }

    /// jax 0.10.2: k = jax.random.PRNGKey(42); [jax.random.fold_in(k, d).tolist() for d in (0, 1, 2**32 - 1)];
    /// jax.random.split(k, 3).tolist()
    #[test]
    fn keys_fold_and_split_as_in_jax() {
        let split = |noise: Jax| noise.split::<3>().map(|noise| noise.key());
        let folded = [[1832780943, 270669613], [64467757, 2916123636], [2398536845, 3890976714]];
        for noise in [Jax::new(42), Jax::legacy(42)] {
            assert_eq!([0, 1, u32::MAX].map(|data| noise.fold_in(data).key()), folded);
        }
        assert_eq!(
            split(Jax::new(42)),
            [[1832780943, 270669613], [64467757, 2916123636], [2465931498, 255383827]]
        );
        assert_eq!(
            split(Jax::legacy(42)),
            [[3134548294, 3733159049], [3746501087, 894150801], [801545058, 2363201431]]
        );
    }

    /// jax 0.10.2, both modes: k = jax.random.PRNGKey(42);
    /// [jax.random.normal(q, (3,)).tolist() for q in (k, jax.random.fold_in(k, 1), jax.random.fold_in(k, 2))]
    #[test]
    #[allow(clippy::excessive_precision)]
    fn later_draws_fold_in_their_number() {
        let partitionable = [
            [-0.02830461598932743, 0.4671318531036377, 0.2957029640674591],
            [0.6057640314102173, 0.7990440726280212, -0.9089270234107971],
            [0.4323064982891083, 0.587263822555542, -1.141674280166626],
        ];
        let legacy = [
            [0.18693546950817108, -1.2806504964828491, -1.559313178062439],
            [-1.555719256401062, -0.8495712876319885, -1.1160917282104492],
            [0.8507007360458374, -1.3151814937591553, 1.4458738565444946],
        ];
        for (mut noise, expected) in [(Jax::new(42), partitionable), (Jax::legacy(42), legacy)] {
            assert_eq!([(); 3].map(|()| draw(&mut noise, 3)), expected);
        }
    }

    /// jax 0.10.2: jax.random.PRNGKey(2**32 + 7), and
    /// jax.random.normal(jax.random.wrap_key_data(numpy.array([1, 7], "uint32")), (3,)).tolist()
    #[test]
    #[allow(clippy::excessive_precision)]
    fn a_seed_has_32_bits_and_a_key_64() {
        assert_eq!(Jax::new((1 << 32) + 7).key(), [0, 7]);
        let values = draw(&mut Jax::from_key([1, 7], true), 3);
        assert_eq!(values, [0.8439862728118896, 1.4591225385665894, 0.14816464483737946]);
    }
}
