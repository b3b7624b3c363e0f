//! Normal noise: what PyTorch, NumPy and JAX draw from a seed, and a counter-based generator without state.
//!
//! Logarithms, sines and cosines come from libm, so that a seed gives the same values on every platform. One
//! generator for each image keeps an image the same whatever batch it is made in. docs/random.md says how far each
//! generator was compared with its library.

mod jax;
mod numpy;
mod philox;
mod torch_cpu;
mod torch_cuda;

pub use jax::Jax;
pub use numpy::{Numpy, NumpyLegacy};
pub use philox::Philox;
pub use torch_cpu::TorchCpu;
pub use torch_cuda::{Gpu, TorchCuda};

/// A source of unit normal noise. One call is one draw: where the values are cut into calls may change them.
pub trait Noise {
    fn fill_normal(&mut self, out: &mut [f32]);
}

/// Every generator that can be chosen by name.
pub const GENERATORS: &[NamedGenerator] = &[
    NamedGenerator {
        name: "torch-cpu",
        library: "PyTorch",
        call: "torch.randn(n, generator=torch.Generator().manual_seed(seed))",
        new: |seed| Generator::TorchCpu(TorchCpu::new(seed)),
    },
    NamedGenerator {
        name: "torch-cuda",
        library: "PyTorch",
        call: "torch.randn(n, generator=torch.Generator(\"cuda\").manual_seed(seed), device=\"cuda\")",
        new: |seed| Generator::TorchCuda(TorchCuda::new(seed, Gpu::A100)),
    },
    NamedGenerator {
        name: "numpy",
        library: "NumPy",
        call: "numpy.random.default_rng(seed).standard_normal(n, dtype=numpy.float32)",
        new: |seed| Generator::Numpy(Numpy::new(seed)),
    },
    NamedGenerator {
        name: "numpy-legacy",
        library: "NumPy",
        call: "numpy.random.RandomState(seed).standard_normal(n).astype(numpy.float32)",
        new: |seed| Generator::NumpyLegacy(NumpyLegacy::new(seed)),
    },
    NamedGenerator {
        name: "jax",
        library: "JAX",
        call: "jax.random.normal(jax.random.PRNGKey(seed), n)",
        new: |seed| Generator::Jax(Jax::new(seed)),
    },
    NamedGenerator {
        name: "jax-legacy",
        library: "JAX",
        call: "jax.random.normal(jax.random.PRNGKey(seed), n), jax_threefry_partitionable off",
        new: |seed| Generator::Jax(Jax::legacy(seed)),
    },
    NamedGenerator {
        name: "philox",
        library: "fewstep",
        call: "Philox::new(seed, 0)",
        new: |seed| Generator::Philox(Philox::new(seed, 0)),
    },
];

/// A row of [`GENERATORS`].
#[derive(Clone, Copy, Debug)]
pub struct NamedGenerator {
    pub name: &'static str,
    pub library: &'static str,
    /// The call that gives the values of the first draw.
    pub call: &'static str,
    pub new: fn(seed: u64) -> Generator,
}

/// Any of the generators. Without a heap, a choice made at run time needs one type to hold it.
#[derive(Clone)]
pub enum Generator {
    TorchCpu(TorchCpu),
    TorchCuda(TorchCuda),
    Numpy(Numpy),
    NumpyLegacy(NumpyLegacy),
    Jax(Jax),
    Philox(Philox),
}

impl Noise for Generator {
    fn fill_normal(&mut self, out: &mut [f32]) {
        match self {
            Generator::TorchCpu(noise) => noise.fill_normal(out),
            Generator::TorchCuda(noise) => noise.fill_normal(out),
            Generator::Numpy(noise) => noise.fill_normal(out),
            Generator::NumpyLegacy(noise) => noise.fill_normal(out),
            Generator::Jax(noise) => noise.fill_normal(out),
            Generator::Philox(noise) => noise.fill_normal(out),
        }
    }
}

/// Two normals from uniforms in `(0, 1]` and `[0, 1)`.
fn box_muller(radius: f32, angle: f32) -> (f32, f32) {
    let radius = libm::sqrtf(-2.0 * libm::logf(radius));
    let (sin, cos) = libm::sincosf(core::f32::consts::TAU * angle);
    (radius * cos, radius * sin)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::{vec, vec::Vec};

    pub(super) fn draw(noise: &mut impl Noise, n: usize) -> Vec<f32> {
        let mut values = vec![f32::NAN; n];
        noise.fill_normal(&mut values);
        values
    }

    /// `sum((2*i + 1) * words[i]) mod 2**64`: sensitive to every bit and to the order. In NumPy, with the words in
    /// `w`: `(w.astype('u8') * (2 * numpy.arange(w.size, dtype='u8') + 1)).sum()`.
    pub(super) fn checksum(words: impl IntoIterator<Item = u64>) -> u64 {
        let terms = words.into_iter().zip((1u64..).step_by(2)).map(|(word, odd)| word.wrapping_mul(odd));
        terms.fold(0, u64::wrapping_add)
    }

    #[test]
    fn every_generator_has_its_own_name_and_values() {
        let first: Vec<_> = GENERATORS.iter().map(|row| draw(&mut (row.new)(42), 8)).collect();
        for (i, row) in GENERATORS.iter().enumerate() {
            assert!(GENERATORS[..i].iter().all(|other| other.name != row.name), "{}", row.name);
            assert!(!first[..i].contains(&first[i]), "{}", row.name);
        }
    }

    #[test]
    fn the_page_has_a_row_for_every_generator() {
        let page = include_str!("../../../docs/random.md");
        for row in GENERATORS {
            let start = std::format!("| `{}` | `{}`", row.name, row.call);
            assert!(page.contains(&start), "{start}");
        }
    }

    #[test]
    fn a_generator_repeats_and_its_draws_differ() {
        for row in GENERATORS {
            let mut noise = (row.new)(1 << 40 | 5);
            let draws = [17, 17, 0, 1].map(|n| draw(&mut noise, n));
            let mut again = (row.new)(1 << 40 | 5);
            assert_eq!(draws, [17, 17, 0, 1].map(|n| draw(&mut again, n)), "{}", row.name);
            assert!(draws[1].iter().all(|value| !draws[0].contains(value)), "{}", row.name);
        }
    }

    /// Mean, variance, skewness, kurtosis and neighbours' correlation within five standard errors.
    #[test]
    fn moments_are_those_of_the_normal_distribution() {
        const N: usize = 1 << 17;
        for row in GENERATORS {
            let values = draw(&mut (row.new)(1), N);
            let moment = |k: i32| values.iter().map(|v| f64::from(*v).powi(k)).sum::<f64>() / N as f64;
            let pairs = values.windows(2).map(|v| f64::from(v[0] * v[1])).sum::<f64>() / N as f64;
            // (moment, expected, variance of one term)
            for (found, expected, variance) in [
                (moment(1), 0.0, 1.0),
                (moment(2), 1.0, 2.0),
                (moment(3), 0.0, 15.0),
                (moment(4), 3.0, 96.0),
                (pairs, 0.0, 1.0),
            ] {
                let error = (variance / N as f64).sqrt();
                assert!((found - expected).abs() < 5.0 * error, "{} {found} {expected} +- {error}", row.name);
            }
        }
    }
}
