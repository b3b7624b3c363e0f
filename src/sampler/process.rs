//! How data becomes noise, and so what a time means.

use rkyv::{Archive, Deserialize, Serialize};

use super::{Betas, Error, positive};

/// Timesteps of a variance-preserving process: 0 to 999.
pub(super) const TIMESTEPS: usize = 1000;

/// A little above a quarter turn: what SANA-Sprint and diffusers start from, to the bit.
#[expect(clippy::approx_constant, reason = "as rounded as the reference's")]
pub(super) const QUARTER_TURN: f64 = 1.5708;

/// How data becomes noise, and so what a time `t` means.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
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
            Process::Preserving { betas } => betas.check(),
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
            Process::Preserving { betas } => Process::Preserving { betas: betas.with_a_trace_of_data() },
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

pub(super) fn above(name: &'static str, value: f64, must: &'static str, holds: bool) -> Result<(), Error> {
    if holds && value.is_finite() { Ok(()) } else { Err(Error::BadSetting { name, value, must }) }
}

impl Level {
    /// No noise.
    pub const DATA: Level = Level { alpha: 1.0, sigma: 0.0 };

    pub(super) fn of_alpha_bar(alpha_bar: f64) -> Level {
        Level { alpha: libm::sqrt(alpha_bar), sigma: libm::sqrt(1.0 - alpha_bar) }
    }

    /// The variance-preserving level whose [`Level::ratio`] is `ratio`.
    pub(super) fn of_ratio(ratio: f64) -> Level {
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
