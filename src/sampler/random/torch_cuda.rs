//! What PyTorch draws on an NVIDIA GPU.

use super::{Noise, philox::philox4x32_10};

/// The values of `torch.randn(n, device="cuda")` in f32, after `torch.cuda.manual_seed(seed)`, draw by draw.
///
/// Thread `t` of the GPU walks over elements `t`, `t + threads`, `t + 2 * threads`, ... and gives four in a row the
/// four words of one Philox4x32-10 block. The seed is the key and the counter is `[block, t]`, 64 bits each; the next
/// draw goes on where the blocks of this one end. So values depend on the [`Gpu`] in draws of more elements than it
/// has threads, and there alone.
///
/// The words are PyTorch's to the bit. A GPU's fast sine and cosine are not libm's: normals agree to 3e-6.
/// Draws of up to 2^29 values; PyTorch splits longer ones.
#[derive(Clone, Debug)]
pub struct TorchCuda {
    seed: u64,
    /// Blocks that every thread has used so far: a quarter of PyTorch's Philox offset.
    block: u64,
    gpu: Gpu,
}

/// What the values of a long draw depend on, as in `torch.cuda.get_device_properties(0)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// `multi_processor_count`
    pub multiprocessors: u32,
    /// `max_threads_per_multi_processor`
    pub threads_per_multiprocessor: u32,
}

impl Gpu {
    pub const T4: Gpu = Gpu { multiprocessors: 40, threads_per_multiprocessor: 1024 };
    pub const V100: Gpu = Gpu { multiprocessors: 80, threads_per_multiprocessor: 2048 };
    pub const A100: Gpu = Gpu { multiprocessors: 108, threads_per_multiprocessor: 2048 };
    pub const H100_SXM: Gpu = Gpu { multiprocessors: 132, threads_per_multiprocessor: 2048 };
    pub const RTX_3090: Gpu = Gpu { multiprocessors: 82, threads_per_multiprocessor: 1536 };
    pub const RTX_4090: Gpu = Gpu { multiprocessors: 128, threads_per_multiprocessor: 1536 };

    /// How many threads PyTorch starts for a draw: whole blocks, at most those that the GPU runs at once.
    fn threads(self, elements: usize) -> usize {
        let resident =
            self.multiprocessors as usize * (self.threads_per_multiprocessor as usize / THREAD_BLOCK);
        THREAD_BLOCK * elements.div_ceil(THREAD_BLOCK).min(resident.max(1))
    }
}

/// Threads in a block of PyTorch's kernel `distribution_elementwise_grid_stride_kernel`.
const THREAD_BLOCK: usize = 256;

impl TorchCuda {
    pub fn new(seed: u64, gpu: Gpu) -> TorchCuda {
        TorchCuda { seed, block: 0, gpu }
    }

    /// Each value from the words of its block and the place of its own word among them.
    fn fill<T>(&mut self, out: &mut [T], value_of: impl Fn(&[u32; 4], usize) -> T) {
        let threads = self.gpu.threads(out.len()).max(1);
        for round in out.chunks_mut(4 * threads) {
            for thread in 0..threads.min(round.len()) {
                let words = self.words(thread as u64);
                let elements = round[thread..].iter_mut().step_by(threads);
                elements.enumerate().for_each(|(i, value)| *value = value_of(&words, i));
            }
            self.block += 1;
        }
    }

    fn words(&self, thread: u64) -> [u32; 4] {
        let counter = [self.block as u32, (self.block >> 32) as u32, thread as u32, (thread >> 32) as u32];
        philox4x32_10(counter, [self.seed as u32, (self.seed >> 32) as u32])
    }
}

impl Noise for TorchCuda {
    fn fill_normal(&mut self, out: &mut [f32]) {
        self.fill(out, normal);
    }
}

/// Word `i` of a block as a normal. cuRAND's Box-Muller: words pair up, the sine comes first.
fn normal(words: &[u32; 4], i: usize) -> f32 {
    let radius = libm::sqrtf(-2.0 * libm::logf(unit(words[i & !1])));
    let angle = turn(words[i | 1]);
    radius * if i.is_multiple_of(2) { libm::sinf(angle) } else { libm::cosf(angle) }
}

/// In `(0, 1]`: 1 where f32 rounds up to 2^32.
fn unit(word: u32) -> f32 {
    const STEP: f32 = 1.0 / 4_294_967_296.0;
    word as f32 * STEP + STEP / 2.0
}

/// In `(0, 2*pi]`.
fn turn(word: u32) -> f32 {
    const STEP: f32 = core::f32::consts::TAU / 4_294_967_296.0;
    // In f64 the product is exact, as in the fused multiply-add that a GPU uses.
    (f64::from(word as f32) * f64::from(STEP) + f64::from(STEP / 2.0)) as f32
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::sampler::random::tests::{checksum, draw};
    use std::{vec, vec::Vec};

    fn words(noise: &mut TorchCuda, n: usize) -> Vec<u32> {
        let mut words = vec![0; n];
        noise.fill(&mut words, |words, i| words[i]);
        words
    }

    /// PyTorch 2.15's kernel and launch (DistributionTemplates.h), its threads run one after another on a CPU over the
    /// curand_kernel.h of nvidia-curand 10.4.5: seed 42 on a T4, draws of these sizes, `checksum` of the words.
    #[test]
    fn words_are_those_of_curand() {
        let mut noise = TorchCuda::new(42, Gpu::T4);
        for (n, expected) in [
            (1, 2632642643),
            (3, 17974174110),
            (16, 619827162007),
            (17, 553728317611),
            (1000, 2127598991778638),
            (100_000, 3007101025916285323),
            (200_000, 12183724919573091518),
            (5, 40752678805),
        ] {
            let words = words(&mut noise, n);
            assert_eq!(checksum(words.into_iter().map(u64::from)), expected, "{n} words");
        }
        let tiny = Gpu { multiprocessors: 1, threads_per_multiprocessor: 256 };
        let words = words(&mut TorchCuda::new(u64::MAX, tiny), 3000);
        assert_eq!(checksum(words.into_iter().map(u64::from)), 18743607851936463);
    }

    /// The same with curand_normal4, whose sines and cosines are glibc's there: values that threads made first,
    /// second, third and fourth, and again in a second round.
    #[test]
    #[allow(clippy::excessive_precision)]
    fn normals_are_those_of_curand_on_a_cpu() {
        let mut noise = TorchCuda::new(0, Gpu::T4);
        draw(&mut noise, 12);
        draw(&mut noise, 3);
        let values = draw(&mut noise, 200_000);
        for (i, expected) in [
            (0, 2.54409719),
            (40959, 0.75990659),
            (40960, -1.18635809),
            (81920, 1.96113145),
            (122880, -0.269650191),
            (163839, -0.0141403833),
            (163840, 0.351582348),
            (199999, -1.55275798),
        ] {
            assert!((values[i] - expected).abs() < 1e-6, "value {i}: {}, curand {expected}", values[i]);
        }
    }

    /// Printed by PyTorch on GPUs, with four decimals: torch.manual_seed(0); torch.randn(8, 8, device="cuda")[:2], in
    /// many places, and torch.manual_seed(42) with six draws of torch.randn(4, device="cuda"), in a bug report.
    #[test]
    fn normals_are_those_of_gpus() {
        let assert_near = |found: &[f32], expected: &[f32]| {
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() < 0.000_051, "{found}, GPU {expected}");
            }
        };
        let values = draw(&mut TorchCuda::new(0, Gpu::A100), 64);
        assert_near(&values, &[-0.9247, -0.4253, -2.6438, 0.1452, -0.1209, -0.5797, -0.6229, -0.3284]);
        assert_near(&values[8..], &[-1.0745, -0.3631, -1.6711, 2.2655, 0.3117, -0.1842, 1.2866, 1.1820]);
        let mut noise = TorchCuda::new(42, Gpu::A100);
        for expected in [
            [0.1940, 2.1614, -0.1721, 0.8491],
            [0.1391, -0.1082, -0.7174, 0.7566],
            [-0.5187, 1.2268, 0.6255, -0.9117],
            [-0.6974, -1.8688, -0.8832, -1.6627],
            [-1.2682, -0.0383, -0.1029, 1.4400],
            [1.4640, -0.3238, 0.7740, 1.5892],
        ] {
            assert_near(&draw(&mut noise, 4), &expected);
        }
    }

    /// PyTorch 2.11 on an H100, `torch.Generator("cuda").manual_seed(42)` with draws of these sizes in a row: single values, at
    /// the ends of rounds. All 1,501,023 are within 2.7e-6.
    #[test]
    #[allow(clippy::excessive_precision)]
    fn long_draws_are_those_of_a_gpu() {
        let mut noise = TorchCuda::new(42, Gpu::H100_SXM);
        let draws: [(usize, &[(usize, f32)]); 5] = [
            (5, &[(0, 0.1940188)]),
            (1000, &[(0, 0.13913755)]),
            (
                300_000,
                &[
                    (1, 1.2267580),
                    (135_168, 0.57864422),
                    (270_335, 0.15054344),
                    (270_336, -0.33696193),
                    (270_337, 1.2609460),
                    (299_999, -1.1155623),
                ],
            ),
            (17, &[(0, -0.6973659)]),
            (
                1_200_001,
                &[
                    (0, -1.2682215),
                    (270_336, 0.79420787),
                    (540_672, 1.4978778),
                    (811_015, 0.59041876),
                    (1_081_343, -0.25403497),
                    (1_081_344, 1.4639567),
                    (1_200_000, 0.93988734),
                ],
            ),
        ];
        for (n, expected) in draws {
            let values = draw(&mut noise, n);
            for &(i, expected) in expected {
                assert!(
                    (values[i] - expected).abs() < 3e-6,
                    "value {i} of {n}: {}, GPU {expected}",
                    values[i]
                );
            }
        }
    }

    #[test]
    fn a_gpu_changes_only_draws_longer_than_its_threads() {
        let both = |n| [Gpu::T4, Gpu::A100].map(|gpu| draw(&mut TorchCuda::new(1, gpu), n));
        let [t4, a100] = both(40 * 1024);
        assert_eq!(t4, a100);
        let [t4, a100] = both(40 * 1024 + 1);
        assert_ne!(t4, a100);
    }
}
