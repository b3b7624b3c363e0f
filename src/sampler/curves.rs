//! The formulas of [`Curve`](super::Curve): where times and noise levels lie.

use core::f64::consts::FRAC_PI_2;

use rkyv::{Archive, Deserialize, Serialize};

use super::{
    Curve, Error, Process, Within,
    perflow::WINDOWS,
    positive,
    process::{QUARTER_TURN, TIMESTEPS},
    quantile,
};

/// The exponent that EDM and the consistency models use.
pub(super) const KARRAS_RHO: f64 = 7.0;

/// The two steps that SANA-Sprint was made for, as diffusers' `SCMScheduler` takes them.
const TWO_ANGLES: [f64; 3] = [QUARTER_TURN, 1.3, 0.0];

/// The smallest time of a rectified flow that is trained in whole timesteps.
const FIRST_TIMESTEP: f64 = 1.0 / TIMESTEPS as f64;

/// The last moment before the data that speech enhancement visits: `t_eps` of SGMSE.
const LAST_OF_SPEECH: f64 = 0.03;

/// A curve over noise levels, from the largest to the smallest, both included.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
pub enum Spread {
    /// Even in `sigma^(1/rho)`: Karras et al. 2022, arXiv 2206.00364, equation 5.
    Karras { rho: f64 },
    /// Even in `ln(sigma)`; the uniform lambdas of DPM-Solver, Lu et al. 2022, arXiv 2206.00927.
    Exponential,
    /// `ln(sigma)` falls as a power of what is left of the run: k-diffusion `get_sigmas_polyexponential`.
    Polyexponential { rho: f64 },
    /// Even in the time of the continuous VP process of Song et al. 2021, arXiv 2011.13456, with k-diffusion's ends:
    /// its `get_sigmas_vp`.
    Vp,
    /// Quantiles of Beta(0.6, 0.6): Lee et al. 2024, arXiv 2407.12173, as in diffusers' `use_beta_sigmas`.
    Beta,
    /// Even in `atan(sigma)`: ComfyUI's `kl_optimal_scheduler`, after Sabour et al. 2024, arXiv 2404.14507, equation 31.
    KlOptimal,
}

impl Spread {
    /// Level number `i` of `count`.
    pub(super) fn level(self, i: usize, count: usize, [high, low]: [f64; 2]) -> f64 {
        let position = i as f64 / count.saturating_sub(1).max(1) as f64;
        let between = |high: f64, low: f64| high + position * (low - high);
        match self {
            Spread::Karras { rho } => karras(position, high, low, rho),
            Spread::Exponential => libm::exp(between(libm::log(high), libm::log(low))),
            Spread::Polyexponential { rho } => {
                let left = libm::pow(1.0 - position, rho);
                libm::exp(libm::log(low) + left * libm::log(high / low))
            }
            Spread::Vp => {
                let t = between(1.0, 1e-3);
                libm::sqrt(libm::expm1(19.9 * t * t / 2.0 + 0.1 * t))
            }
            Spread::Beta => low + quantile::beta(1.0 - position) * (high - low),
            Spread::KlOptimal => libm::tan(between(libm::atan(high), libm::atan(low))),
        }
    }
}

/// `position` of the way from `start` to `end` along the curve of Karras et al. 2022, equation 5.
pub fn karras(position: f64, start: f64, end: f64, rho: f64) -> f64 {
    let (high, low) = (libm::pow(start, 1.0 / rho), libm::pow(end, 1.0 / rho));
    libm::pow(high + position * (low - high), rho)
}

/// Moments that were optimised for a network: Sabour et al. 2024, Align Your Steps, arXiv 2404.14507, for ten steps;
/// other numbers of steps interpolate them in `ln(sigma)`.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aligned {
    StableDiffusion15,
    StableDiffusionXl,
    StableVideoDiffusion,
}

impl Aligned {
    /// Timesteps or noise levels, as diffusers' `AysSchedules` has them. What comes after the last of them is
    /// the smallest of the training.
    pub(super) fn points(self) -> &'static [f64; 10] {
        match self {
            Aligned::StableDiffusion15 => {
                &[999.0, 850.0, 736.0, 645.0, 545.0, 455.0, 343.0, 233.0, 124.0, 24.0]
            }
            Aligned::StableDiffusionXl => {
                &[999.0, 845.0, 730.0, 587.0, 443.0, 310.0, 193.0, 116.0, 53.0, 13.0]
            }
            Aligned::StableVideoDiffusion => {
                &[700.0, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034]
            }
        }
    }

    /// Level number `i` of `steps`, from those at [`Aligned::points`] and the one after.
    pub(super) fn level(levels: &[f64; 11], i: usize, steps: usize) -> f64 {
        let at = i as f64 * 10.0 / steps as f64;
        let below = (at as usize).min(9);
        let (high, low) = (levels[below], levels[below + 1]);
        high * libm::pow(low / high, at - below as f64)
    }
}

/// As NumPy computes it, whose last bit decides what a floor makes of it.
pub(super) fn linspace(start: f64, end: f64, i: usize, intervals: usize) -> f64 {
    start + i as f64 * ((end - start) / intervals.max(1) as f64)
}

/// Even whole timesteps from the last one down.
pub(super) fn trailing(i: usize, steps: usize) -> f64 {
    let all = TIMESTEPS as f64;
    libm::rint(all - i as f64 * (all / steps as f64)) - 1.0
}

/// Some of as many timesteps as were distilled.
pub(super) fn origin(i: usize, steps: usize, points: usize) -> f64 {
    let skipped = libm::floor(i as f64 * (points as f64 / steps as f64));
    (points as f64 - skipped) * (TIMESTEPS / points) as f64 - 1.0
}

/// Time number `i` of `steps` that are shared out among PeRFlow's windows.
pub(super) fn windowed(mut i: usize, steps: usize) -> f64 {
    for window in 0..WINDOWS {
        let count = steps / WINDOWS + usize::from(window < steps % WINDOWS);
        if i < count {
            let start = (WINDOWS - window) as f64 / WINDOWS as f64;
            let time = start - i as f64 * (1.0 / WINDOWS as f64 / count as f64);
            return libm::floor(time * 1000.0) / 1000.0;
        }
        i -= count;
    }
    0.0
}

/// Half of the steps cover the first fortieth of a flow, the others the rest along a parabola that continues them.
pub(super) fn linear_quadratic(i: usize, steps: usize) -> f64 {
    const THRESHOLD: f64 = 0.025;
    let (i, linear, all) = (i as f64, (steps / 2) as f64, steps as f64);
    if i < linear || linear == 0.0 {
        return 1.0 - i * THRESHOLD / linear.max(1.0);
    }
    let (bend, quadratic) = (linear - THRESHOLD * all, all - linear);
    let square = bend / (linear * quadratic * quadratic);
    let slope = THRESHOLD / linear - 2.0 * bend / (quadratic * quadratic);
    1.0 - square * (i * i + linear * linear) - slope * i
}

/// `t` of a flow, moved by `coefficient`: below 0 towards the noise. The paper's time runs to the data.
pub(super) fn swayed(t: f64, coefficient: f64) -> f64 {
    let done = 1.0 - t;
    t - coefficient * (libm::cos(FRAC_PI_2 * done) - t)
}

/// `shift * t / (1 + (shift - 1) * t)`.
pub(super) fn shifted(t: f64, shift: f64) -> f64 {
    shift * t / (1.0 + (shift - 1.0) * t)
}

impl Curve<'_> {
    /// The same curve with another exponent, if it has one.
    pub fn with_rho(self, rho: f64) -> Option<Self> {
        Some(match self {
            Curve::Karras { .. } => Curve::Karras { rho },
            Curve::KarrasStrides { points, .. } => Curve::KarrasStrides { points, rho },
            Curve::Levels { spread: Spread::Karras { .. }, within } => {
                Curve::Levels { spread: Spread::Karras { rho }, within }
            }
            Curve::Levels { spread: Spread::Polyexponential { .. }, within } => {
                Curve::Levels { spread: Spread::Polyexponential { rho }, within }
            }
            _ => return None,
        })
    }

    /// Time number `i` of `steps`, the noisiest first, before any shift.
    pub(super) fn time(self, i: usize, steps: usize, shift: f64, process: Process) -> f64 {
        let (start, end) = (process.start(), process.end());
        let (flow, ascending) = (process == Process::RectifiedFlow, steps - 1 - i.min(steps - 1));
        match self {
            Curve::Usual => match process {
                Process::Exploding { .. } => Curve::Karras { rho: KARRAS_RHO }.time(i, steps, shift, process),
                Process::Trigonometric { .. } if steps == 2 => TWO_ANGLES[i],
                Process::RectifiedFlow | Process::Trigonometric { .. } => {
                    Curve::Uniform.time(i, steps, shift, process)
                }
                Process::Preserving { .. } => Curve::Trailing.time(i, steps, shift, process),
                Process::MeanReverting { .. } if i == steps => end,
                Process::MeanReverting { .. } => linspace(start, LAST_OF_SPEECH, i, steps - 1),
            },
            Curve::Uniform => start + i as f64 / steps as f64 * (end - start),
            Curve::Karras { rho } => karras(i as f64 / steps as f64, start, end, rho),
            Curve::KarrasPoints { indices, points, rho } => {
                // At least 1: a grid of one point has no interval.
                let last = points.saturating_sub(1).max(1);
                karras(indices[i] as f64 / last as f64, start, end, rho)
            }
            Curve::Times(list) | Curve::Sigmas(list) => list[i],
            _ if i == steps => end,
            Curve::KarrasStrides { points, rho } => {
                let last = points.saturating_sub(1).max(1);
                karras((i * (points / steps)) as f64 / last as f64, start, end, rho)
            }
            Curve::Leading { offset } => ascending as f64 * (TIMESTEPS / steps) as f64 + f64::from(offset),
            Curve::LeadingOpen { offset } => {
                (ascending + 1) as f64 * (TIMESTEPS / (steps + 1)) as f64 + f64::from(offset)
            }
            Curve::Linspace if flow => linspace(1.0, shifted(FIRST_TIMESTEP, shift), i, steps - 1),
            Curve::Linspace => linspace(0.0, start, ascending, steps - 1),
            Curve::LinspaceOpen if flow => linspace(1.0, FIRST_TIMESTEP, i, steps),
            Curve::LinspaceOpen => libm::rint(linspace(0.0, start, steps - i, steps)),
            Curve::SgmUniform if flow => linspace(1.0, shifted(FIRST_TIMESTEP, shift), i, steps),
            Curve::SgmUniform => linspace(start, 0.0, i, steps),
            Curve::Simple => {
                let left = TIMESTEPS as f64 - libm::floor(i as f64 * (TIMESTEPS as f64 / steps as f64));
                if flow { left / TIMESTEPS as f64 } else { left - 1.0 }
            }
            Curve::Origin { points } => origin(i, steps, points),
            Curve::Windows => windowed(i, steps),
            Curve::HalfLast => 1.0 - i as f64 / (steps as f64 - 0.5),
            Curve::FlowSigmas => 1.0 - linspace(1.0, FIRST_TIMESTEP, steps - i, steps),
            Curve::LinearQuadratic => linear_quadratic(i, steps),
            Curve::Sway { coefficient } => swayed(linspace(1.0, 0.0, i, steps), coefficient),
            // Curves over noise levels have no times.
            Curve::Trailing | Curve::Levels { .. } | Curve::Aligned(_) => trailing(i, steps),
        }
    }

    /// Refuses a curve that is made for another kind of time, and settings that make no curve.
    pub(super) fn check(self, steps: usize, process: Process) -> Result<(), Error> {
        let timesteps = matches!(process, Process::Preserving { .. });
        let noise_levels = matches!(process, Process::Exploding { .. });
        let flow = process == Process::RectifiedFlow;
        let (fits, accepts) = match self {
            Curve::Usual => (true, ""),
            Curve::Times(list) => return in_reach(list, process.end()),
            Curve::Origin { points } if timesteps && (steps > points || points > TIMESTEPS) => {
                return Err(Error::OutsideGrid { index: steps, points });
            }
            Curve::KarrasStrides { points, .. } if steps > points => {
                return Err(Error::OutsideGrid { index: steps, points });
            }
            Curve::KarrasPoints { indices, points, .. } if indices.iter().any(|&index| index >= points) => {
                let index = indices.iter().copied().max().unwrap_or_default();
                return Err(Error::OutsideGrid { index, points });
            }
            Curve::Sigmas(_)
            | Curve::Leading { .. }
            | Curve::LeadingOpen { .. }
            | Curve::Trailing
            | Curve::Origin { .. }
            | Curve::Aligned(Aligned::StableDiffusion15 | Aligned::StableDiffusionXl)
            | Curve::Levels { within: Within::Leading { .. } | Within::Trailing, .. } => {
                (timesteps, "a process of 1000 timesteps")
            }
            Curve::Linspace
            | Curve::LinspaceOpen
            | Curve::SgmUniform
            | Curve::Simple
            | Curve::Levels { within: Within::Linspace, .. } => {
                (timesteps || flow, "a process of 1000 timesteps or a rectified flow")
            }
            Curve::Windows
            | Curve::HalfLast
            | Curve::FlowSigmas
            | Curve::LinearQuadratic
            | Curve::Sway { .. } => (flow, "a rectified flow"),
            Curve::Uniform | Curve::Karras { .. } | Curve::KarrasPoints { .. } => {
                (!timesteps, "leading, trailing, linspace or origin")
            }
            Curve::Levels { within: Within::All, .. } => {
                (timesteps || noise_levels || flow, "uniform: it is made for noise levels")
            }
            Curve::KarrasStrides { .. } | Curve::Aligned(Aligned::StableVideoDiffusion) => {
                (noise_levels, "a noise level as time")
            }
        };
        if !fits {
            return Err(Error::BadGrid { what: process.what(), accepts });
        }
        match self {
            Curve::Karras { rho }
            | Curve::KarrasPoints { rho, .. }
            | Curve::KarrasStrides { rho, .. }
            | Curve::Levels { spread: Spread::Karras { rho } | Spread::Polyexponential { rho }, .. } => {
                positive("rho", rho)
            }
            _ => Ok(()),
        }
    }
}

/// Refuses times that no process has.
fn in_reach(times: &[f64], end: f64) -> Result<(), Error> {
    match times.iter().enumerate().find(|(_, t)| !(t.is_finite() && **t >= end.min(0.0))) {
        Some((index, &value)) => Err(Error::BadTime { index, value }),
        None => Ok(()),
    }
}
