//! How data becomes noise, and so what a time means.

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
}

/// How much noise each timestep of a variance-preserving process adds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Betas {
    /// Even from `first` to `last`.
    Linear { first: f64, last: f64 },
    /// Even in their roots.
    ScaledLinear { first: f64, last: f64 },
    /// Nichol and Dhariwal 2021: `abar = cos^2((t + 0.008) / 1.008 * pi/2)`.
    Cosine,
}

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
pub(super) struct Level {
    pub(super) alpha: f64,
    pub(super) sigma: f64,
}

impl Process {
    pub(super) fn check(self) -> Result<(), Error> {
        match self {
            Process::Exploding { sigma_min, sigma_max } => {
                positive("sigma_min", sigma_min)?;
                positive("sigma_max", sigma_max)?;
                above("sigma_max", sigma_max, "above sigma_min", sigma_max > sigma_min)
            }
            Process::RectifiedFlow | Process::Preserving { betas: Betas::Cosine } => Ok(()),
            Process::Preserving {
                betas: Betas::Linear { first, last } | Betas::ScaledLinear { first, last },
            } => {
                positive("beta_start", first)?;
                above("beta_end", last, "from beta_start to 0.5", last >= first && last <= 0.5)
            }
            Process::Trigonometric { sigma_data } => positive("sigma_data", sigma_data),
        }
    }

    /// Its time, for messages.
    pub(super) fn what(self) -> &'static str {
        match self {
            Process::Exploding { .. } => "a noise level as time",
            Process::RectifiedFlow => "a rectified flow",
            Process::Preserving { .. } => "timesteps",
            Process::Trigonometric { .. } => "an angle as time",
        }
    }

    /// The time of pure noise.
    pub(super) fn start(self) -> f64 {
        match self {
            Process::Exploding { sigma_max, .. } => sigma_max,
            Process::RectifiedFlow => 1.0,
            Process::Preserving { .. } => (TIMESTEPS - 1) as f64,
            Process::Trigonometric { .. } => QUARTER_TURN,
        }
    }

    /// The time that counts as data.
    pub(super) fn end(self) -> f64 {
        match self {
            Process::Exploding { sigma_min, .. } => sigma_min,
            Process::RectifiedFlow | Process::Trigonometric { .. } => 0.0,
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
        }
    }
}

fn above(name: &'static str, value: f64, must: &'static str, holds: bool) -> Result<(), Error> {
    if holds && value.is_finite() { Ok(()) } else { Err(Error::BadSetting { name, value, must }) }
}

impl Betas {
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

    /// Where `ln(sigma / alpha)`, linear between timesteps, is that of `ratio`: diffusers' `_sigma_to_t`.
    fn timestep_of_ratio(self, ratio: f64) -> f64 {
        let log_ratio = |timestep: usize| libm::log(Level::of_alpha_bar(self.alpha_bar(timestep)).ratio());
        let wanted = libm::log(ratio);
        let (mut low, mut high) = (0, TIMESTEPS - 1);
        while high - low > 1 {
            let middle = (low + high) / 2;
            if log_ratio(middle) <= wanted { low = middle } else { high = middle }
        }
        let (below, above) = (log_ratio(low), log_ratio(high));
        low as f64 + ((wanted - below) / (above - below)).clamp(0.0, 1.0)
    }

    /// Share of the data's variance that is left at a timestep.
    fn alpha_bar(self, timestep: usize) -> f64 {
        let (even, count) = (1.0 / (TIMESTEPS - 1) as f64, timestep.min(TIMESTEPS - 1) + 1);
        match self {
            Betas::Linear { first, last } => {
                let step = even * (last - first);
                libm::exp(sum_of_logs(first, step, count))
            }
            Betas::ScaledLinear { first, last } => {
                let (first, last) = (libm::sqrt(first), libm::sqrt(last));
                let step = even * (last - first);
                // 1 - root^2 = (1 - root) * (1 + root)
                libm::exp(sum_of_logs(first, step, count) + sum_of_logs(-first, -step, count))
            }
            Betas::Cosine => {
                let share = |i: usize| {
                    let cosine = libm::cos(
                        (i as f64 / TIMESTEPS as f64 + 0.008) / 1.008 * core::f64::consts::FRAC_PI_2,
                    );
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
fn sum_of_logs(first: f64, step: f64, count: usize) -> f64 {
    if step == 0.0 {
        return count as f64 * libm::log1p(-first);
    }
    let end = first + count as f64 * step;
    let integral = |u: f64| -(1.0 - u) * libm::log1p(-u) - u;
    let slope = |u: f64| -step / (1.0 - u);
    let bend = |u: f64| 2.0 * slope(u) * slope(u) * slope(u);
    (integral(end) - integral(first)) / step - 0.5 * (libm::log1p(-end) - libm::log1p(-first))
        + (slope(end) - slope(first)) / 12.0
        - (bend(end) - bend(first)) / 720.0
}

impl Level {
    pub(super) const DATA: Level = Level { alpha: 1.0, sigma: 0.0 };

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
                Betas::Linear { first: 0.0001, last: 0.02 },
                [0.9999, 0.49761381201678034, 0.07779665836502389, 4.0358297653756754e-05],
            ),
            (
                Betas::ScaledLinear { first: 0.00085, last: 0.012 },
                [0.99915, 0.658975526890813, 0.2763326838229746, 0.004660098513077238],
            ),
            (
                Betas::Cosine,
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
        let betas = Betas::Linear { first: 0.0001, last: 0.02 };
        let ratio = |t| betas.level(t).ratio();
        assert!((ratio(749.25) - (0.75 * ratio(749.0) + 0.25 * ratio(750.0))).abs() < 1e-12);
        assert_eq!(betas.level(-1.0), Level::DATA);
    }

    #[test]
    fn bad_betas_are_named() {
        for (first, last, expected) in [
            (0.0, 0.02, "beta_start"),
            (0.1, 0.02, "beta_end"),
            (0.1, 1.0, "beta_end"),
            (0.1, f64::NAN, "beta_end"),
        ] {
            let error = Process::Preserving { betas: Betas::Linear { first, last } }.check();
            assert!(matches!(error, Err(Error::BadSetting { name, .. }) if name == expected));
        }
    }
}
