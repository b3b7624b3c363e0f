//! How a network reads the scale of the guidance that was distilled into it.

use rkyv::{Archive, Deserialize, Serialize};

/// What becomes of the scale `w` on its way to the network.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
pub enum Encoding {
    /// `scale * w`: 1 in FLUX.1, iMF and pMF, 0.1 in SANA-Sprint.
    Scaled { scale: f64 },
    /// `scale * (w - 1)`.
    Excess { scale: f64 },
    /// `1 - 1 / w`: the share of the guided velocity in iMF.
    Reciprocal,
    /// Sines and then cosines of `1000 * (w - 1)` at falling frequencies, for `timestep_cond`: diffusers'
    /// `get_guidance_scale_embedding` (Luo et al. 2023, arXiv 2310.04378).
    Embedding,
}

impl Encoding {
    /// Element `i` of `elements` of the input.
    pub fn value(self, w: f64, i: usize, elements: usize) -> f64 {
        match self {
            Encoding::Scaled { scale } => scale * w,
            Encoding::Excess { scale } => scale * (w - 1.0),
            Encoding::Reciprocal => 1.0 - 1.0 / w,
            Encoding::Embedding => {
                let half = elements / 2;
                let angle = |k: usize| {
                    let share = k as f64 / half.saturating_sub(1).max(1) as f64;
                    1000.0 * (w - 1.0) * libm::pow(10_000.0, -share)
                };
                match i {
                    i if i < half => libm::sin(angle(i)),
                    i if i < 2 * half => libm::cos(angle(i - half)),
                    // An odd length ends with a zero.
                    _ => 0.0,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// diffusers 0.42.1, `LatentConsistencyModelPipeline.get_guidance_scale_embedding` in double precision, of
    /// 7.5 - 1 in 8 and in 5 dimensions.
    #[test]
    fn embeddings_are_those_of_diffusers() {
        for (elements, expected) in [(8, &EIGHT[..]), (5, &FIVE)] {
            for (i, expected) in expected.iter().enumerate() {
                let found = Encoding::Embedding.value(7.5, i, elements);
                assert!((found - expected).abs() < 1e-9, "{i} of {elements}: {found} {expected}");
            }
        }
    }

    const EIGHT: [f64; 8] = [
        -0.04478473860112598,
        0.11015543983640037,
        0.9911231921924331,
        0.6051864057360391,
        -0.9989966602488863,
        0.993914372103779,
        0.13294667313731998,
        0.7960837985490562,
    ];
    const FIVE: [f64; 5] =
        [-0.04478473860112598, 0.6051864057360391, -0.9989966602488863, 0.7960837985490562, 0.0];

    #[test]
    fn scales_are_what_the_papers_say() {
        let value = |encoding: Encoding| encoding.value(8.0, 0, 1);
        assert_eq!(value(Encoding::Scaled { scale: 0.5 }), 4.0);
        assert_eq!(value(Encoding::Excess { scale: 1000.0 }), 7000.0);
        assert_eq!(value(Encoding::Reciprocal), 0.875);
    }
}
