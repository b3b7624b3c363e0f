//! How much noise the timesteps of a variance-preserving process have.

use core::f64::consts::FRAC_PI_2;

use rkyv::{Archive, Deserialize, Serialize};

use super::{
    Error, Level, positive,
    process::{TIMESTEPS, above},
};

/// How much noise each timestep of a variance-preserving process adds.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
pub struct Betas {
    shape: Shape,
    /// What is left of the data's variance at the last timestep, the others being rescaled to end with none.
    terminal: Option<f64>,
}

#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
enum Shape {
    Linear { first: f64, last: f64 },
    ScaledLinear { first: f64, last: f64 },
    Cosine,
}

/// What diffusers leaves of the data's variance where a sampler divides by it.
const TRACE_OF_DATA: f64 = 1.0 / (1 << 24) as f64;

impl Betas {
    /// Nichol and Dhariwal 2021, arXiv 2102.09672: `abar = cos^2((t + 0.008) / 1.008 * pi/2)`.
    pub const COSINE: Betas = Betas { shape: Shape::Cosine, terminal: None };

    /// Even from `first` to `last`.
    pub const fn linear(first: f64, last: f64) -> Betas {
        Betas { shape: Shape::Linear { first, last }, terminal: None }
    }

    /// Even in their roots.
    pub const fn scaled_linear(first: f64, last: f64) -> Betas {
        Betas { shape: Shape::ScaledLinear { first, last }, terminal: None }
    }

    pub(super) fn check(self) -> Result<(), Error> {
        match self.shape {
            Shape::Cosine => Ok(()),
            Shape::Linear { first, last } | Shape::ScaledLinear { first, last } => {
                positive("beta_start", first)?;
                above("beta_end", last, "from beta_start to 0.5", last >= first && last <= 0.5)
            }
        }
    }

    /// The same with a trace of the data at the last timestep, if there is none.
    pub(super) fn with_a_trace_of_data(self) -> Betas {
        Betas { terminal: self.terminal.and(Some(TRACE_OF_DATA)), ..self }
    }

    /// Rescaled so that the last timestep is pure noise: Lin et al. 2023, arXiv 2305.08891, algorithm 1.
    pub const fn with_zero_terminal_snr(self) -> Betas {
        Betas { terminal: Some(0.0), ..self }
    }

    /// The level of a timestep. Between two, `sigma / alpha` is linear, as `numpy.interp` has it in diffusers.
    pub(super) fn level(self, t: f64) -> Level {
        if t < 0.0 {
            return Level::DATA;
        }
        let below = libm::floor(t);
        let here = Level::of_alpha_bar(self.alpha_bar(below as usize));
        if below == t {
            return here;
        }
        let next = Level::of_alpha_bar(self.alpha_bar(below as usize + 1));
        Level::of_ratio(here.ratio() + (t - below) * (next.ratio() - here.ratio()))
    }

    /// The level of a timestep. Between two, `ln(sigma / alpha)` is linear, as ComfyUI has it.
    pub(super) fn level_in_logs(self, t: f64) -> Level {
        let below = libm::floor(t);
        let [low, high] = [below, below + 1.0].map(|t| self.log_ratio(t as usize));
        Level::of_ratio(libm::exp(low + (t - below) * (high - low)))
    }

    /// Where `ln(sigma / alpha)`, linear between timesteps, is that of `ratio`: diffusers' `_sigma_to_t`.
    pub(super) fn timestep_of_ratio(self, ratio: f64) -> f64 {
        let wanted = libm::log(ratio);
        let mut low = self.timestep_near(ratio).clamp(0.0, (TIMESTEPS - 2) as f64) as usize;
        let (mut below, mut above) = (self.log_ratio(low), self.log_ratio(low + 1));
        while wanted < below && low > 0 {
            low -= 1;
            (below, above) = (self.log_ratio(low), below);
        }
        while wanted > above && low + 2 < TIMESTEPS {
            low += 1;
            (below, above) = (above, self.log_ratio(low + 1));
        }
        low as f64 + ((wanted - below) / (above - below)).clamp(0.0, 1.0)
    }

    fn log_ratio(self, timestep: usize) -> f64 {
        libm::log(Level::of_alpha_bar(self.alpha_bar(timestep)).ratio())
    }

    /// About where the level's ratio is `ratio`.
    fn timestep_near(self, ratio: f64) -> f64 {
        let alpha_bar = 1.0 / (1.0 + ratio * ratio);
        self.shape.timestep_near(match self.terminal {
            None => alpha_bar,
            Some(_) => {
                let [first, least] = self.shape.end_alphas();
                let alpha = least + libm::sqrt(alpha_bar) * ((first - least) / first);
                alpha * alpha
            }
        })
    }

    /// Share of the data's variance that is left at a timestep.
    fn alpha_bar(self, timestep: usize) -> f64 {
        let last = TIMESTEPS - 1;
        match self.terminal {
            None => self.shape.alpha_bar(timestep.min(last)),
            Some(terminal) if timestep >= last => terminal,
            Some(_) => {
                let [first, least] = self.shape.end_alphas();
                let alpha = libm::sqrt(self.shape.alpha_bar(timestep));
                let alpha = (alpha - least) * (first / (first - least));
                alpha * alpha
            }
        }
    }
}

impl Shape {
    /// Share of the data at the first and the last timestep.
    fn end_alphas(self) -> [f64; 2] {
        [0, TIMESTEPS - 1].map(|timestep| libm::sqrt(self.alpha_bar(timestep)))
    }

    /// About where [`Shape::alpha_bar`] is `alpha_bar`: a sum of small betas, inverted, and Newton's method.
    fn timestep_near(self, alpha_bar: f64) -> f64 {
        let total = -libm::log(alpha_bar);
        let even = 1.0 / (TIMESTEPS - 1) as f64;
        let newton = |count: f64, total_of: &dyn Fn(f64) -> f64, beta_of: &dyn Fn(f64) -> f64| {
            (0..2).fold(count, |count, _| count + (total - total_of(count)) / -libm::log1p(-beta_of(count)))
        };
        let count = match self {
            Shape::Linear { first, last } => {
                let step = even * (last - first);
                let count = 2.0 * total / (first + libm::sqrt(first * first + 2.0 * step * total));
                newton(count, &|count| -sum_of_logs(first, step, count), &|count| first + step * count)
            }
            Shape::ScaledLinear { first, last } => {
                let (first, last) = (libm::sqrt(first), libm::sqrt(last));
                let step = even * (last - first);
                let (cube, square) = (first * first * first, first * first);
                let count = if step == 0.0 {
                    total / square
                } else {
                    (libm::cbrt(cube + 3.0 * step * total) - first) / step
                };
                let total_of = |count| -sum_of_logs(first, step, count) - sum_of_logs(-first, -step, count);
                newton(count, &total_of, &|count| libm::pow(first + step * count, 2.0))
            }
            Shape::Cosine => {
                let start = libm::cos(0.008 / 1.008 * FRAC_PI_2);
                let angle = libm::acos((libm::sqrt(alpha_bar) * start).min(1.0));
                TIMESTEPS as f64 * (1.008 * angle / FRAC_PI_2 - 0.008)
            }
        };
        count - 1.0
    }

    fn alpha_bar(self, timestep: usize) -> f64 {
        let (even, count) = (1.0 / (TIMESTEPS - 1) as f64, (timestep + 1) as f64);
        match self {
            Shape::Linear { first, last } => {
                let step = even * (last - first);
                libm::exp(sum_of_logs(first, step, count))
            }
            Shape::ScaledLinear { first, last } => {
                let (first, last) = (libm::sqrt(first), libm::sqrt(last));
                let step = even * (last - first);
                // 1 - root^2 = (1 - root) * (1 + root)
                libm::exp(sum_of_logs(first, step, count) + sum_of_logs(-first, -step, count))
            }
            Shape::Cosine => {
                let share = |i: usize| {
                    let cosine = libm::cos((i as f64 / TIMESTEPS as f64 + 0.008) / 1.008 * FRAC_PI_2);
                    cosine * cosine
                };
                // The last beta would be 1, and is cut to 0.999; the product of the others telescopes.
                let all = timestep + 1 >= TIMESTEPS;
                let left = if all { 1.0 - 0.999 } else { 1.0 };
                share((timestep + 1).min(TIMESTEPS - 1)) / share(0) * left
            }
        }
    }
}

/// `ln(1 - first) + ln(1 - first - step) + ...`, `count` of them, by Euler and Maclaurin's formula: a table of a thousand
/// products costs more than all the rest of a run's coefficients. The term left out is `(step / (1 - last))^5 / 1260`.
fn sum_of_logs(first: f64, step: f64, count: f64) -> f64 {
    if step == 0.0 {
        return count * libm::log1p(-first);
    }
    let end = first + count * step;
    let integral = |u: f64| -(1.0 - u) * libm::log1p(-u) - u;
    let slope = |u: f64| -step / (1.0 - u);
    let bend = |u: f64| 2.0 * slope(u) * slope(u) * slope(u);
    (integral(end) - integral(first)) / step - 0.5 * (libm::log1p(-end) - libm::log1p(-first))
        + (slope(end) - slope(first)) / 12.0
        - (bend(end) - bend(first)) / 720.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// torch, float64: betas by diffusers' formulas, `torch.cumprod(1 - betas, 0)` at 0, 259, 500 and 999.
    #[test]
    fn levels_are_those_of_diffusers_in_f64() {
        for (betas, expected) in [
            (
                Betas::linear(0.0001, 0.02),
                [0.9999, 0.49761381201678034, 0.07779665836502389, 4.0358297653756754e-05],
            ),
            (
                Betas::scaled_linear(0.00085, 0.012),
                [0.99915, 0.658975526890813, 0.2763326838229746, 0.004660098513077238],
            ),
            (
                Betas::COSINE,
                [0.999958715775178, 0.8356205769508875, 0.49228517244880304, 2.4287669070348567e-09],
            ),
        ] {
            for (timestep, expected) in [0, 259, 500, 999].into_iter().zip(expected) {
                let found = betas.alpha_bar(timestep);
                assert!(
                    (found - expected).abs() <= 1e-11 * expected,
                    "{betas:?} {timestep}: {found} {expected}"
                );
            }
        }
    }

    /// Of `ln(sigma / alpha)`, linear between two timesteps.
    #[test]
    fn timesteps_are_found_by_their_level() {
        let stable = Betas::scaled_linear(0.00085, 0.012);
        for betas in [
            Betas::linear(0.0001, 0.02),
            Betas::linear(0.001, 0.5),
            Betas::linear(0.01, 0.01),
            Betas::scaled_linear(0.01, 0.01),
            Betas::COSINE,
            stable,
            stable.with_zero_terminal_snr().with_a_trace_of_data(),
        ] {
            for t in [0.0, 0.25, 1.0, 17.5, 500.0, 900.75, 998.0, 998.5, 999.0] {
                let found = betas.timestep_of_ratio(betas.level_in_logs(t).ratio());
                assert!((found - t).abs() <= 1e-6, "{betas:?} {t}: {found}");
            }
            assert_eq!((betas.timestep_of_ratio(1e-9), betas.timestep_of_ratio(1e300)), (0.0, 999.0));
        }
    }

    #[test]
    fn between_timesteps_the_noise_level_is_linear() {
        let betas = Betas::linear(0.0001, 0.02);
        let ratio = |t| betas.level(t).ratio();
        assert!((ratio(749.25) - (0.75 * ratio(749.0) + 0.25 * ratio(750.0))).abs() < 1e-12);
        assert_eq!(betas.level(-1.0), Level::DATA);
    }
}
