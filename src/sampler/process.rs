//! How data becomes noise, and so what a time means.

use core::f64::consts::FRAC_PI_2;

use super::{Error, positive};

/// Timesteps of a variance-preserving process: 0 to 999.
pub(super) const TIMESTEPS: usize = 1000;

/// A little above a quarter turn: what SANA-Sprint and diffusers start from, to the bit.
#[expect(clippy::approx_constant, reason = "as rounded as the reference's")]
pub(super) const QUARTER_TURN: f64 = 1.5708;

/// How data becomes noise, and so what a time `t` means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Process {
    /// `x = data + t * noise`: time is the noise level sigma. EDM and consistency models.
    Exploding { sigma_min: f64, sigma_max: f64 },
    /// `x = (1 - t) * data + t * noise`, `t` from 1 (noise) to 0 (data).
    RectifiedFlow,
    /// `x = sqrt(abar) * data + sqrt(1 - abar) * noise`, `t` from timestep 999 (noise) to 0. The data stand one before
    /// that, at -1. DDPM, Stable Diffusion, LCM.
    Preserving { betas: Betas },
    /// `x = cos(t) * data + sin(t) * sigma_data * noise`, `t` from a quarter turn to 0. TrigFlow.
    Trigonometric { sigma_data: f64 },
    /// `x = exp(-theta * t) * data + deviation(t) * noise`, `t` from 1 to 0, with both relative to an observation, which the
    /// noise leads to. SGMSE's OUVE (Richter et al. 2022, arXiv 2208.05830).
    MeanReverting { theta: f64, sigma_min: f64, sigma_max: f64 },
}

/// How much noise each timestep of a variance-preserving process adds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Betas {
    shape: Shape,
    /// What is left of the data's variance at the last timestep, the others being rescaled to end with none.
    terminal: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Shape {
    Linear { first: f64, last: f64 },
    ScaledLinear { first: f64, last: f64 },
    Cosine,
}

/// What diffusers leaves of the data's variance where a sampler divides by it.
const TRACE_OF_DATA: f64 = 1.0 / (1 << 24) as f64;

/// A moment of a run: what the network is told, and how much noise the state has.
///
/// The two are apart because grids over noise levels meet timesteps that no level of the training stands for, and
/// because references round the one and not the other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Knot {
    /// In the process's time.
    pub(super) t: f64,
    pub(super) level: Level,
}

/// Scales of data and noise in the state.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level {
    pub alpha: f64,
    pub sigma: f64,
}

impl Process {
    pub(super) fn check(self) -> Result<(), Error> {
        match self {
            Process::Exploding { sigma_min, sigma_max } => {
                positive("sigma_min", sigma_min)?;
                positive("sigma_max", sigma_max)?;
                above("sigma_max", sigma_max, "above sigma_min", sigma_max > sigma_min)
            }
            Process::RectifiedFlow => Ok(()),
            Process::Preserving { betas } => match betas.shape {
                Shape::Cosine => Ok(()),
                Shape::Linear { first, last } | Shape::ScaledLinear { first, last } => {
                    positive("beta_start", first)?;
                    above("beta_end", last, "from beta_start to 0.5", last >= first && last <= 0.5)
                }
            },
            Process::Trigonometric { sigma_data } => positive("sigma_data", sigma_data),
            Process::MeanReverting { theta, sigma_min, sigma_max } => {
                positive("theta", theta)?;
                Process::Exploding { sigma_min, sigma_max }.check()
            }
        }
    }

    /// Its time, for messages.
    pub(super) fn what(self) -> &'static str {
        match self {
            Process::Exploding { .. } => "a noise level as time",
            Process::RectifiedFlow => "a rectified flow",
            Process::Preserving { .. } => "timesteps",
            Process::Trigonometric { .. } => "an angle as time",
            Process::MeanReverting { .. } => "a process that reverts to a mean",
        }
    }

    /// The time of pure noise.
    pub(super) fn start(self) -> f64 {
        match self {
            Process::Exploding { sigma_max, .. } => sigma_max,
            Process::RectifiedFlow | Process::MeanReverting { .. } => 1.0,
            Process::Preserving { .. } => (TIMESTEPS - 1) as f64,
            Process::Trigonometric { .. } => QUARTER_TURN,
        }
    }

    /// The time that counts as data.
    pub(super) fn end(self) -> f64 {
        match self {
            Process::Exploding { sigma_min, .. } => sigma_min,
            Process::RectifiedFlow | Process::Trigonometric { .. } | Process::MeanReverting { .. } => 0.0,
            Process::Preserving { .. } => -1.0,
        }
    }

    /// Scale of the initial state for a run that starts at `t`.
    pub(super) fn noise_level(self, t: f64) -> f64 {
        match self {
            Process::Exploding { .. } => t,
            // A late start (0.994 in IMM, 0.999 in Wan) still means a network trained to start from unit noise.
            Process::RectifiedFlow | Process::Preserving { .. } => 1.0,
            Process::Trigonometric { sigma_data } => sigma_data,
            Process::MeanReverting { .. } => self.level(t).sigma,
        }
    }

    /// The moment at which the network's time is `t`.
    pub(super) fn knot(self, t: f64) -> Knot {
        Knot { t, level: self.level(t) }
    }

    /// The moment at which [`Level::ratio`] is `ratio`.
    pub(super) fn knot_of_ratio(self, ratio: f64) -> Knot {
        match self {
            Process::Exploding { .. } => self.knot(ratio),
            Process::RectifiedFlow => self.knot(ratio / (1.0 + ratio)),
            Process::Preserving { betas } => {
                Knot { t: betas.timestep_of_ratio(ratio), level: Level::of_ratio(ratio) }
            }
            Process::Trigonometric { sigma_data } => self.knot(libm::atan(ratio / sigma_data)),
            Process::MeanReverting { theta, sigma_min, sigma_max } => {
                let (rate, scale) = mean_reverting(theta, sigma_min, sigma_max);
                let relative = ratio / scale;
                self.knot(libm::log1p(relative * relative) / (2.0 * rate))
            }
        }
    }

    /// The same process with a trace of the data in every state, for samplers that divide by their share.
    pub(super) fn with_a_trace_of_data(self) -> Process {
        match self {
            Process::Preserving { betas: Betas { shape, terminal: Some(_) } } => {
                Process::Preserving { betas: Betas { shape, terminal: Some(TRACE_OF_DATA) } }
            }
            _ => self,
        }
    }

    pub(super) fn level(self, t: f64) -> Level {
        match self {
            Process::Exploding { .. } => Level { alpha: 1.0, sigma: t },
            Process::RectifiedFlow => Level { alpha: 1.0 - t, sigma: t },
            Process::Preserving { betas } => betas.level(t),
            Process::Trigonometric { sigma_data } => {
                Level { alpha: libm::cos(t), sigma: sigma_data * libm::sin(t) }
            }
            Process::MeanReverting { theta, sigma_min, sigma_max } => {
                let (rate, scale) = mean_reverting(theta, sigma_min, sigma_max);
                let alpha = libm::exp(-theta * t);
                Level { alpha, sigma: alpha * scale * libm::sqrt(libm::expm1(2.0 * rate * t)) }
            }
        }
    }
}

/// `(sigma / alpha)^2` is the square of the scale times `exp(2 * rate * t) - 1`.
fn mean_reverting(theta: f64, sigma_min: f64, sigma_max: f64) -> (f64, f64) {
    let growth = libm::log(sigma_max / sigma_min);
    (theta + growth, sigma_min * libm::sqrt(growth / (theta + growth)))
}

fn above(name: &'static str, value: f64, must: &'static str, holds: bool) -> Result<(), Error> {
    if holds && value.is_finite() { Ok(()) } else { Err(Error::BadSetting { name, value, must }) }
}

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
    fn timestep_of_ratio(self, ratio: f64) -> f64 {
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

impl Level {
    /// No noise.
    pub const DATA: Level = Level { alpha: 1.0, sigma: 0.0 };

    fn of_alpha_bar(alpha_bar: f64) -> Level {
        Level { alpha: libm::sqrt(alpha_bar), sigma: libm::sqrt(1.0 - alpha_bar) }
    }

    /// The variance-preserving level whose [`Level::ratio`] is `ratio`.
    fn of_ratio(ratio: f64) -> Level {
        let alpha = 1.0 / libm::sqrt(1.0 + ratio * ratio);
        Level { alpha, sigma: ratio * alpha }
    }

    /// The noise level of the state divided by `alpha`, which is what EDM calls sigma.
    pub(super) fn ratio(self) -> f64 {
        self.sigma / self.alpha
    }
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

    #[test]
    fn between_timesteps_the_noise_level_is_linear() {
        let betas = Betas::linear(0.0001, 0.02);
        let ratio = |t| betas.level(t).ratio();
        assert!((ratio(749.25) - (0.75 * ratio(749.0) + 0.25 * ratio(750.0))).abs() < 1e-12);
        assert_eq!(betas.level(-1.0), Level::DATA);
    }

    /// sp-uhh/sgmse `OUVESDE(theta=1.5, sigma_min=0.05, sigma_max=0.5)._std` at 1 and 0.03, in NumPy.
    #[test]
    fn noise_around_an_observation_is_that_of_sgmse() {
        let process = Process::MeanReverting { theta: 1.5, sigma_min: 0.05, sigma_max: 0.5 };
        for (t, deviation) in [(1.0, 0.38898265820667516), (0.03, 0.018830099937796434)] {
            let level = process.level(t);
            assert!((level.sigma - deviation).abs() < 1e-15 && level.alpha == libm::exp(-1.5 * t));
            assert!((process.knot_of_ratio(level.ratio()).t - t).abs() < 1e-14);
        }
        assert_eq!((process.level(0.0), process.end()), (Level::DATA, 0.0));
        let bad = Process::MeanReverting { theta: 0.0, sigma_min: 0.05, sigma_max: 0.5 };
        assert!(matches!(bad.check(), Err(Error::BadSetting { name: "theta", .. })));
    }

    #[test]
    fn bad_betas_are_named() {
        for (first, last, expected) in [
            (0.0, 0.02, "beta_start"),
            (0.1, 0.02, "beta_end"),
            (0.1, 1.0, "beta_end"),
            (0.1, f64::NAN, "beta_end"),
        ] {
            let error = Process::Preserving { betas: Betas::linear(first, last) }.check();
            assert!(matches!(error, Err(Error::BadSetting { name, .. }) if name == expected));
        }
    }
}
