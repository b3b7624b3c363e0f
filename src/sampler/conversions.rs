//! What the network was trained on, and how its output becomes a clean sample or a velocity.

use rkyv::{Archive, Deserialize, Serialize};

use super::{
    Betas, Combination, Error, Inputs, Knot, Level, MAX_HISTORY, Process, Row, Setup, perflow::end_of_window,
    policy, positive,
};

/// What a network computes and how it is told the time: fixed by its training.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
pub struct Parameterisation {
    pub process: Process,
    pub prediction: Prediction,
    pub time: Time,
}

/// What the network's output `F` is.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
pub enum Prediction {
    /// The clean sample; any preconditioning is inside the graph.
    Clean,
    /// The noise.
    Epsilon,
    /// `alpha * noise - sigma * data`: progressive distillation's v, and what TrigFlow networks predict.
    V,
    /// `data = c_skip*x + c_out*F(c_in*x)` with the boundary condition of consistency models at `sigma_min`.
    EdmConsistency { sigma_data: f64 },
    /// The same with the boundary condition at 0: EDM, ECT.
    Edm { sigma_data: f64 },
    /// The velocity of the state along the network's own time; its mean over the jump if it is a flow map. Under a
    /// trigonometric process it is that of the rectified flow with the same share of noise, as in SANA-Sprint.
    Velocity,
    /// `data - noise`, whichever way the network's time runs: InstaFlow.
    DataVelocity,
    /// The velocity divided by `sigma_data`, from a state of unit variance: IMM's `euler_fm`.
    ScaledVelocity { sigma_data: f64 },
    /// What TrigFlow predicts, for a rectified flow's state that is divided by its deviation: IMM's `simple_edm`.
    SimpleEdm { sigma_data: f64 },
    /// The noise, which with these betas tells where the window of a piecewise rectified flow ends: PeRFlow.
    WindowedNoise { betas: Betas },
    /// The gradient of the log density, `-noise / sigma`.
    Score,
    /// So many velocities for one step, stacked; what their states of the step say of the data is a line between two of them:
    /// pi-Flow. Samplers see their mean, with the weights of [`Policy`](super::Policy).
    VelocityGrid { points: u8 },
    /// The next state: the update is inside the graph, which is told the number of the step and that of all steps.
    NextState,
}

/// The values of the network's time inputs.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
pub enum Time {
    /// `scale * t`.
    Linear { scale: f64 },
    /// `scale * (1 - t)`: a network for which 0 is noise and 1 is data, so its velocity points to the data.
    Reversed { scale: f64 },
    /// `scale * ln(t)`: 250 in consistency models, 1/4 in EDM.
    Log { scale: f64 },
    /// `scale * sin(t) / (sin(t) + cos(t))`: the share of noise at an angle, for networks made from rectified flows.
    Share { scale: f64 },
}

impl Parameterisation {
    pub(super) fn check(&self) -> Result<(), Error> {
        self.process.check()?;
        if let Prediction::WindowedNoise { betas } = self.prediction {
            Process::Preserving { betas }.check()?;
        }
        if let Some(sigma_data) = self.prediction.sigma_data() {
            positive("sigma_data", sigma_data)?;
        }
        if let Prediction::VelocityGrid { points } = self.prediction {
            policy::check(points)?;
        }
        positive("time_scale", self.time.scale())
    }

    /// The clean sample from the state and `F`; with windows, the state at the end of this one.
    ///
    /// EDM-style preconditioning as in openai/consistency_models `get_scalings_for_boundary_condition`.
    pub(super) fn clean(&self, Knot { t, level }: Knot) -> Combination {
        let Level { alpha, sigma } = level;
        match self.prediction {
            Prediction::Clean | Prediction::NextState => Combination::OTHER,
            Prediction::Epsilon => Combination { x: 1.0 / alpha, y: -sigma / alpha },
            Prediction::V => Combination { x: alpha, y: -sigma },
            Prediction::Score => Combination { x: 1.0 / alpha, y: sigma * sigma / alpha },
            Prediction::EdmConsistency { sigma_data } => edm(t, t - self.process.end(), sigma_data),
            Prediction::Edm { sigma_data } => edm(t, t, sigma_data),
            Prediction::Velocity => match self.process {
                Process::Trigonometric { sigma_data } => {
                    let (sine, cosine, share) = (libm::sin(t), libm::cos(t), share(t));
                    let norm = libm::hypot(share, 1.0 - share);
                    Combination { x: cosine - sine * (1.0 - 2.0 * share), y: -sine * norm * sigma_data }
                }
                _ => Combination { x: 1.0, y: -sigma * self.time.direction() },
            },
            Prediction::VelocityGrid { .. } => Combination { x: 1.0, y: -sigma * self.time.direction() },
            Prediction::DataVelocity => Combination { x: 1.0, y: sigma },
            Prediction::WindowedNoise { betas } => end_of_window(betas, t),
            Prediction::ScaledVelocity { sigma_data } => {
                Combination { x: 1.0, y: -sigma * sigma_data * self.time.direction() }
            }
            Prediction::SimpleEdm { sigma_data } => {
                let norm = libm::hypot(alpha, sigma);
                Combination { x: alpha / (norm * norm), y: -sigma / norm * sigma_data }
            }
        }
    }

    /// The noise from the state and `F`.
    pub(super) fn noise(&self, at: Knot) -> Combination {
        let Level { alpha, sigma } = at.level;
        match self.prediction {
            Prediction::Epsilon => Combination::OTHER,
            Prediction::Score => Combination { x: 0.0, y: -sigma },
            Prediction::V if matches!(self.process, Process::Preserving { .. }) => {
                Combination { x: sigma, y: alpha }
            }
            _ => {
                let clean = self.clean(at);
                Combination { x: (1.0 - alpha * clean.x) / sigma, y: -alpha / sigma * clean.y }
            }
        }
    }

    /// What the network reads at `t` when it is to jump to `s`.
    pub(super) fn inputs(&self, t: f64, s: f64) -> Inputs {
        let scale = match (self.prediction, self.process) {
            (Prediction::EdmConsistency { sigma_data } | Prediction::Edm { sigma_data }, _) => {
                1.0 / libm::sqrt(t * t + sigma_data * sigma_data)
            }
            (Prediction::ScaledVelocity { sigma_data } | Prediction::SimpleEdm { sigma_data }, process) => {
                let Level { alpha, sigma } = process.level(t);
                1.0 / (sigma_data * libm::hypot(alpha, sigma))
            }
            (Prediction::V, Process::Trigonometric { sigma_data }) => 1.0 / sigma_data,
            (Prediction::Velocity, Process::Trigonometric { sigma_data }) => {
                libm::hypot(share(t), 1.0 - share(t)) / sigma_data
            }
            _ => 1.0,
        };
        Inputs { scale, t: self.time.value(t), s: self.time.value(s), h: self.time.duration(t, s) }
    }

    /// What does not fit the process, and what would.
    pub(super) fn mismatch(&self) -> Option<(&'static str, &'static str)> {
        use Prediction::*;
        let (predicts, predictions, tells, times) = match self.process {
            Process::Exploding { .. } => (
                matches!(self.prediction, Clean | Epsilon | Score | EdmConsistency { .. } | Edm { .. }),
                "a clean sample, the noise, the score or EDM's preconditioning",
                matches!(self.time, Time::Linear { .. } | Time::Log { .. }),
                "the noise level or its logarithm",
            ),
            Process::RectifiedFlow => (
                matches!(
                    self.prediction,
                    Clean | Velocity | DataVelocity | ScaledVelocity { .. } | SimpleEdm { .. }
                ),
                "a velocity or a clean sample",
                matches!(self.time, Time::Linear { .. } | Time::Reversed { .. }),
                "linear time",
            ),
            Process::Preserving { .. } => (
                matches!(self.prediction, Clean | Epsilon | Score | V),
                "the noise, the score, v or a clean sample",
                matches!(self.time, Time::Linear { .. }),
                "timesteps as they are",
            ),
            Process::Trigonometric { .. } => (
                matches!(self.prediction, Clean | V | Velocity),
                "v, a velocity or a clean sample",
                matches!(self.time, Time::Linear { .. } | Time::Share { .. }),
                "the angle or its share of noise",
            ),
            Process::MeanReverting { .. } => (
                matches!(self.prediction, Epsilon | Score),
                "the score or the noise",
                matches!(self.time, Time::Linear { .. }),
                "linear time",
            ),
        };
        if !predicts {
            return Some((self.prediction.what(), predictions));
        }
        (!tells).then_some((self.time.what(), times))
    }
}

impl Prediction {
    fn sigma_data(self) -> Option<f64> {
        match self {
            Prediction::EdmConsistency { sigma_data }
            | Prediction::Edm { sigma_data }
            | Prediction::ScaledVelocity { sigma_data }
            | Prediction::SimpleEdm { sigma_data } => Some(sigma_data),
            _ => None,
        }
    }

    fn what(self) -> &'static str {
        match self {
            Prediction::Clean => "a clean sample",
            Prediction::Epsilon => "the noise",
            Prediction::V => "v",
            Prediction::EdmConsistency { .. } => "consistency preconditioning",
            Prediction::Edm { .. } => "EDM's preconditioning",
            Prediction::Velocity | Prediction::DataVelocity => "a velocity",
            Prediction::ScaledVelocity { .. } => "a scaled velocity",
            Prediction::SimpleEdm { .. } => "IMM's preconditioning",
            Prediction::WindowedNoise { .. } => "windows",
            Prediction::Score => "the score",
            Prediction::VelocityGrid { .. } => "several velocities a step",
            Prediction::NextState => "the next state",
        }
    }
}

/// EDM's `c_skip` and `c_out`, with the boundary condition where `above` is 0.
fn edm(t: f64, above: f64, d: f64) -> Combination {
    Combination { x: d * d / (above * above + d * d), y: above * d / libm::sqrt(t * t + d * d) }
}

/// The rectified flow's time with as much noise as an angle has.
fn share(angle: f64) -> f64 {
    let sine = libm::sin(angle);
    sine / (sine + libm::cos(angle))
}

impl Time {
    fn scale(self) -> f64 {
        match self {
            Time::Linear { scale }
            | Time::Reversed { scale }
            | Time::Log { scale }
            | Time::Share { scale } => scale,
        }
    }

    fn value(self, t: f64) -> f64 {
        match self {
            Time::Linear { scale } => scale * t,
            Time::Reversed { scale } => scale * (1.0 - t),
            Time::Log { scale } => scale * libm::log(t),
            Time::Share { scale } => scale * share(t),
        }
    }

    fn duration(self, t: f64, s: f64) -> f64 {
        match self {
            Time::Linear { scale } | Time::Reversed { scale } => scale * (t - s),
            Time::Log { scale } => scale * libm::log(t / s),
            Time::Share { scale } => scale * (share(t) - share(s)),
        }
    }

    /// Sign that turns a velocity along the network's time into one along `t`.
    pub(super) fn direction(self) -> f64 {
        match self {
            Time::Reversed { .. } => -1.0,
            Time::Linear { .. } | Time::Log { .. } | Time::Share { .. } => 1.0,
        }
    }

    fn what(self) -> &'static str {
        match self {
            Time::Linear { .. } => "time as it is",
            Time::Reversed { .. } => "reversed time",
            Time::Log { .. } => "the logarithm of a time",
            Time::Share { .. } => "the share of noise at an angle",
        }
    }
}

impl Setup<'_> {
    /// Refuses the processes that a rule is not for, and networks that do not fit theirs.
    pub(super) fn require(&self, knows: fn(Process) -> bool, accepts: &'static str) -> Result<(), Error> {
        if let Some((what, accepts)) = self.parameterisation.mismatch() {
            return Err(self.unsupported(what, accepts));
        }
        if !knows(self.parameterisation.process) {
            return Err(self.unsupported(self.parameterisation.process.what(), accepts));
        }
        Ok(())
    }

    /// For rules that are straight lines in the rectified flow's time.
    pub(super) fn require_rectified_flow(&self) -> Result<(), Error> {
        self.require(|process| process == Process::RectifiedFlow, "a rectified flow's time from 1 to 0")
    }

    /// What a network that knows one time reads. A jump of no length is what a flow map calls the velocity here; other
    /// networks read neither `s` nor `h`.
    pub(super) fn here(&self, at: Knot) -> Inputs {
        self.parameterisation.inputs(at.t, at.t)
    }

    /// `x' = update` of the state and the clean sample, after an evaluation at `at` that reads `inputs`.
    pub(super) fn row(&self, inputs: Inputs, at: Knot, update: Combination) -> Row {
        Row {
            inputs,
            level: at.level,
            estimate: self.parameterisation.clean(at),
            limit: self.options.clamp,
            update,
            direct: 0.0,
            keep: Combination::OTHER,
            earlier: [0.0; MAX_HISTORY],
            noise: None,
            clean: Combination::OTHER,
        }
    }

    /// `x' = x + (s - t) * v`, after an evaluation that reads `inputs`.
    pub(super) fn straight(&self, inputs: Inputs, at: Knot, s: f64, clamp: Option<f64>) -> Row {
        let t = at.t;
        if self.parameterisation.prediction == Prediction::Velocity && clamp.is_none() {
            let direction = self.parameterisation.time.direction();
            return Row {
                estimate: Combination { x: 0.0, y: direction },
                limit: None,
                clean: Combination { x: 1.0, y: -t },
                ..self.row(inputs, at, Combination { x: 1.0, y: s - t })
            };
        }
        // v = (x - clean) / t turns the step into an interpolation, which has a clean sample to clamp.
        let update = Combination { x: s / t, y: 1.0 - s / t };
        Row { limit: clamp, ..self.row(inputs, at, update) }
    }
}

impl Level {
    /// The state at `to`, from the state here and its clean sample, along a straight line in `sigma / alpha`: DDIM.
    pub(super) fn transfer(self, to: Level) -> Combination {
        let ratio = to.sigma / self.sigma;
        Combination { x: ratio, y: to.alpha - ratio * self.alpha }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CM: Parameterisation = Parameterisation {
        process: Process::Exploding { sigma_min: 0.002, sigma_max: 80.0 },
        prediction: Prediction::EdmConsistency { sigma_data: 0.5 },
        time: Time::Log { scale: 250.0 },
    };

    #[test]
    fn consistency_preconditioning_is_the_identity_at_sigma_min() {
        assert_eq!(CM.clean(CM.process.knot(0.002)), Combination { x: 1.0, y: 0.0 });
    }

    /// numpy: e,d,s=.002,.5,1.382; d*d/((s-e)**2+d*d), (s-e)*d/np.hypot(s,d), 1/np.hypot(s,d), 250*np.log(s)
    #[test]
    fn consistency_preconditioning_agrees_with_numpy() {
        let clean = CM.clean(CM.process.knot(1.382));
        let inputs = CM.inputs(1.382, 0.002);
        let expected = [0.11604158930560714, 0.4694937937191354, 0.680425787998747, 80.88293133636952];
        for (found, expected) in [clean.x, clean.y, inputs.scale, inputs.t].into_iter().zip(expected) {
            assert!((found - expected).abs() < 1e-13 * expected, "{found} {expected}");
        }
    }

    #[test]
    fn times_follow_the_networks_convention() {
        let inputs = |time| Parameterisation { time, ..CM }.inputs(0.75, 0.25);
        let linear = inputs(Time::Linear { scale: 1000.0 });
        assert_eq!((linear.t, linear.s, linear.h), (750.0, 250.0, 500.0));
        let reversed = inputs(Time::Reversed { scale: 1.0 });
        assert_eq!((reversed.t, reversed.s, reversed.h), (0.25, 0.75, 0.5));
        let log = inputs(Time::Log { scale: 0.25 });
        let angle = inputs(Time::Share { scale: 1.0 });
        assert!((angle.h - (angle.t - angle.s)).abs() < 1e-15);
        assert!((log.h - (log.t - log.s)).abs() < 1e-15 && (log.t - 0.75f64.ln() / 4.0).abs() < 1e-15);
    }

    #[test]
    fn bad_settings_are_named() {
        let with = |sigma_min, sigma_max, sigma_data, scale| {
            let process = Process::Exploding { sigma_min, sigma_max };
            let prediction = Prediction::EdmConsistency { sigma_data };
            Parameterisation { process, prediction, time: Time::Log { scale } }.check()
        };
        assert_eq!(with(0.002, 80.0, 0.5, 250.0), Ok(()));
        for (result, expected) in [
            (with(0.0, 80.0, 0.5, 250.0), "sigma_min"),
            (with(f64::NAN, 80.0, 0.5, 250.0), "sigma_min"),
            (with(0.002, f64::INFINITY, 0.5, 250.0), "sigma_max"),
            (with(0.002, 0.001, 0.5, 250.0), "sigma_max"),
            (with(0.002, 80.0, -0.5, 250.0), "sigma_data"),
            (with(0.002, 80.0, 0.5, 0.0), "time_scale"),
        ] {
            assert!(matches!(result, Err(Error::BadSetting { name, .. }) if name == expected), "{expected}");
        }
    }
}
