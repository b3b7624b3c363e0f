//! The table `[sampling]`: what its keys mean together.

use std::{format, ops::Range};

use toml::Spanned;

use super::{
    Sampling,
    file::*,
    parse::{Checked, Fault, fault, refuse, required, span, value},
    samplers,
};
use crate::sampler::{
    self, Betas, Churn, Family, Options, Parameterisation, Prediction, Process, Sampler, Time,
};

impl RawSampling {
    /// The parsed table, at the place of its family.
    pub(super) fn parse(self) -> Checked<Spanned<Sampling>> {
        let family = Family::from(*self.family.get_ref());
        self.time_fits(family)?;
        self.times_fit()?;
        let (process, time) = (self.process()?, self.time()?);
        let parameterisation = Parameterisation { process, prediction: self.prediction()?, time };
        let (steps, max_steps) = self.steps()?;
        let mut sampling = Sampling {
            family,
            sampler: self.sampler(family)?,
            steps,
            max_steps,
            parameterisation,
            options: self.options(),
            curve: self.curve(family, process)?,
            shift: value(&self.shift).map_or(1.0, |shift| shift.0),
            terminal: value(&self.terminal).map(|terminal| terminal.0),
            stop: self.stop(),
            rounding: self.rounding(),
            times: self.listed(process)?,
            sigmas: self.sigmas.as_ref().map(|sigmas| sigmas.get_ref().clone()),
        };
        if self.sampler.is_none() {
            // The first of the family is for other processes, perhaps.
            let fits = |sampler: &&Sampler| sampling.run(sampler).is_ok();
            sampling.sampler = family.samplers().find(fits).unwrap_or(sampling.sampler);
        }
        self.options_fit(sampling.sampler)?;
        // What the sampler refuses with these settings it would refuse on every run.
        match sampling.sampler.table(&sampling.parameterisation, &sampling.grid(steps), &sampling.options) {
            Ok(_) => Ok(Spanned::new(self.family.span(), sampling)),
            Err(error) => {
                let (key, at) = self.cause(&error);
                Err(Fault { at, problem: format!("`{key}`: {error}") })
            }
        }
    }

    /// Each family counts time in some ways and not in others.
    fn time_fits(&self, family: Family) -> Checked<()> {
        let time = *self.time.get_ref();
        let noise_level = matches!(time, RawTime::Sigma | RawTime::LogSigma);
        let (fits, allowed) = match family {
            Family::Consistency => (
                !matches!(time, RawTime::Unit | RawTime::MeanReverting),
                "\"sigma\" or \"log-sigma\", or else \"timestep\", \"angle\" or \"angle-share\"",
            ),
            Family::Diffusion => (
                time != RawTime::Unit,
                "\"sigma\" or \"log-sigma\", or else \"timestep\", \"angle\", \"angle-share\" or \"mean-reverting\"",
            ),
            Family::FlowMap => {
                (noise_level || time == RawTime::Unit, "\"unit\", or else \"sigma\" or \"log-sigma\"")
            }
            Family::RectifiedFlow => (time == RawTime::Unit, "\"unit\""),
        };
        if fits {
            return Ok(());
        }
        fault(&self.time, format_args!("`time` of the family {family} must be {allowed}"))
    }

    fn process(&self) -> Checked<Process> {
        let time = *self.time.get_ref();
        if !matches!(time, RawTime::Sigma | RawTime::LogSigma | RawTime::MeanReverting) {
            let sigmas = [("sigma_min", span(&self.sigma_min)), ("sigma_max", span(&self.sigma_max))];
            refuse("only the times \"sigma\" and \"log-sigma\" are noise levels", &sigmas)?;
        }
        if time != RawTime::MeanReverting {
            refuse("only the time \"mean-reverting\" has it", &[("theta", span(&self.theta))])?;
        }
        if time != RawTime::Timestep && *self.prediction.get_ref() != RawPrediction::WindowedNoise {
            let betas = [
                ("betas", span(&self.betas)),
                ("beta_start", span(&self.beta_start)),
                ("beta_end", span(&self.beta_end)),
                ("zero_terminal_snr", span(&self.zero_terminal_snr)),
            ];
            refuse("only the time \"timestep\" and the prediction \"windowed-noise\" have betas", &betas)?;
        }
        match time {
            RawTime::Sigma | RawTime::LogSigma => {
                let why = "the time is a noise level, and needs those of the training";
                Ok(Process::Exploding {
                    sigma_min: required("sigma_min", &self.sigma_min, &self.family, why)?,
                    sigma_max: required("sigma_max", &self.sigma_max, &self.family, why)?,
                })
            }
            RawTime::MeanReverting => {
                let why = "the noise is that of the training";
                Ok(Process::MeanReverting {
                    theta: required("theta", &self.theta, &self.time, why)?,
                    sigma_min: required("sigma_min", &self.sigma_min, &self.time, why)?,
                    sigma_max: required("sigma_max", &self.sigma_max, &self.time, why)?,
                })
            }
            RawTime::Unit => Ok(Process::RectifiedFlow),
            RawTime::Timestep => Ok(Process::Preserving { betas: self.betas()? }),
            RawTime::Angle | RawTime::AngleShare => {
                let why = "the noise between angles is scaled by the standard deviation of the data";
                let sigma_data = required("sigma_data", &self.sigma_data, &self.time, why)?;
                Ok(Process::Trigonometric { sigma_data })
            }
        }
    }

    fn betas(&self) -> Checked<Betas> {
        let betas = self.trained_betas()?;
        Ok(if value(&self.zero_terminal_snr) == Some(true) { betas.with_zero_terminal_snr() } else { betas })
    }

    fn trained_betas(&self) -> Checked<Betas> {
        let Some(betas) = value(&self.betas) else {
            return fault(&self.time, "`betas` is missing: write those of the training");
        };
        let keys = [("beta_start", span(&self.beta_start)), ("beta_end", span(&self.beta_end))];
        if betas == RawBetas::Cosine {
            refuse("cosine has no ends to choose", &keys)?;
            return Ok(Betas::COSINE);
        }
        let why = "these betas run from one value to another";
        let first = required("beta_start", &self.beta_start, &self.time, why)?;
        let last = required("beta_end", &self.beta_end, &self.time, why)?;
        Ok(match betas {
            RawBetas::Linear => Betas::linear(first, last),
            RawBetas::ScaledLinear | RawBetas::Cosine => Betas::scaled_linear(first, last),
        })
    }

    fn time(&self) -> Checked<Time> {
        let time = *self.time.get_ref();
        if time != RawTime::Unit {
            refuse("only the time \"unit\" can run either way", &[("noise_at", span(&self.noise_at))])?;
        }
        let scale = self.time_scale.map_or(1.0, |scale| scale.0);
        Ok(match time {
            RawTime::LogSigma if self.time_scale.is_none() => {
                let problem = "`time_scale` is missing: it is 250 in consistency models and 0.25 in EDM";
                return fault(&self.time, problem);
            }
            RawTime::LogSigma => Time::Log { scale },
            RawTime::AngleShare => Time::Share { scale },
            RawTime::Unit if value(&self.noise_at) == Some(NoiseAt::Zero) => Time::Reversed { scale },
            _ => Time::Linear { scale },
        })
    }

    fn prediction(&self) -> Checked<Prediction> {
        let sigma_data = || {
            let why = "this prediction is scaled by the standard deviation of the data";
            required("sigma_data", &self.sigma_data, &self.prediction, why)
        };
        let prediction = match self.prediction.get_ref() {
            RawPrediction::EdmConsistency => {
                return Ok(Prediction::EdmConsistency { sigma_data: sigma_data()? });
            }
            RawPrediction::Edm => return Ok(Prediction::Edm { sigma_data: sigma_data()? }),
            RawPrediction::ScaledVelocity => {
                return Ok(Prediction::ScaledVelocity { sigma_data: sigma_data()? });
            }
            RawPrediction::SimpleEdm => return Ok(Prediction::SimpleEdm { sigma_data: sigma_data()? }),
            RawPrediction::WindowedNoise => Prediction::WindowedNoise { betas: self.betas()? },
            RawPrediction::Clean => Prediction::Clean,
            RawPrediction::Epsilon => Prediction::Epsilon,
            RawPrediction::V => Prediction::V,
            RawPrediction::Velocity => Prediction::Velocity,
            RawPrediction::DataVelocity => Prediction::DataVelocity,
            RawPrediction::Score => Prediction::Score,
            RawPrediction::NextState => Prediction::NextState,
            RawPrediction::VelocityGrid => match value(&self.points).map(|points| u8::try_from(points.0)) {
                Some(Ok(points)) => Prediction::VelocityGrid { points },
                _ => {
                    return fault(
                        &self.prediction,
                        "`points` is missing: write how many velocities there are",
                    );
                }
            },
        };
        if !matches!(self.time.get_ref(), RawTime::Angle | RawTime::AngleShare) {
            let why = "neither this prediction nor this time is scaled by the data";
            refuse(why, &[("sigma_data", span(&self.sigma_data))])?;
        }
        Ok(prediction)
    }

    /// The one that is named, or the family's first.
    fn sampler(&self, family: Family) -> Checked<&'static Sampler> {
        let named = self.sampler.as_ref().map(Spanned::get_ref);
        let fits = |sampler: &&Sampler| named.is_none_or(|name| sampler.is_called(name));
        let at = span(&self.sampler).unwrap_or(self.family.span());
        family.samplers().find(fits).ok_or_else(|| {
            let problem = format!("`sampler` must be one of the family {family}: {}", samplers(family));
            Fault { at, problem }
        })
    }

    fn options(&self) -> Options {
        let churn = value(&self.churn).map(|amount| {
            let range = value(&self.churn_range).map_or([0.0, f64::INFINITY], |range| range.0);
            Churn { amount, range }
        });
        Options {
            clamp: self.clamp.map(|clamp| clamp.0),
            eta: value(&self.eta),
            order: value(&self.order),
            churn,
            noise_scale: value(&self.noise_scale).map_or(1.0, |scale| scale.0),
            temperature: self.temperature.map_or(1.0, |temperature| temperature.0),
            initial_scale: self.initial_scale.map(|scale| scale.0),
            ..Options::default()
        }
    }

    /// Refuses options that the sampler does not have.
    fn options_fit(&self, sampler: &Sampler) -> Checked<()> {
        let name = sampler.name;
        if sampler.eta.is_none() {
            let why = format!("the sampler {name} draws all of its noise or none");
            refuse(&why, &[("eta", span(&self.eta))])?;
        }
        if sampler.orders.is_empty() {
            refuse(&format!("the sampler {name} has one order"), &[("order", span(&self.order))])?;
        }
        if !sampler.churns {
            refuse(&format!("the sampler {name} does not churn"), &[("churn", span(&self.churn))])?;
        }
        if self.churn.is_none() {
            refuse("there is no `churn` to limit", &[("churn_range", span(&self.churn_range))])?;
        }
        if !sampler.stochastic && sampler.eta.is_none() && self.churn.is_none() {
            let why = format!("the sampler {name} draws no noise after the first");
            refuse(&why, &[("noise_scale", span(&self.noise_scale))])?;
        }
        Ok(())
    }

    /// The key whose value the sampler refused.
    fn cause(&self, error: &sampler::Error) -> (&'static str, Range<usize>) {
        use sampler::Error::{BadGrid, BadSetting, TooManyEvaluations, Unsupported};
        let (key, at) = match error {
            BadSetting { name: "sigma_max", .. } => ("sigma_max", span(&self.sigma_max)),
            BadSetting { name: "beta_start", .. } => ("beta_start", span(&self.beta_start)),
            BadSetting { name: "beta_end", .. } => ("beta_end", span(&self.beta_end)),
            BadSetting { name: "eta", .. } => ("eta", span(&self.eta)),
            BadSetting { name: "order", .. } => ("order", span(&self.order)),
            BadSetting { name: "churn", .. } => ("churn", span(&self.churn)),
            BadSetting { name: "terminal", .. } => ("terminal", span(&self.terminal)),
            BadSetting { name: "points", .. } => ("points", span(&self.points)),
            Unsupported { .. } => ("prediction", Some(self.prediction.span())),
            BadGrid { .. } => ("schedule", span(&self.schedule)),
            TooManyEvaluations { .. } => ("steps", span(&self.steps)),
            _ if self.times.is_some() => ("times", span(&self.times)),
            _ if self.ts.is_some() => ("ts", span(&self.ts)),
            _ if self.sigmas.is_some() => ("sigmas", span(&self.sigmas)),
            _ if self.sway.is_some() => ("sway", span(&self.sway)),
            _ => ("rho", span(&self.rho)),
        };
        at.map_or(("family", self.family.span()), |at| (key, at))
    }
}

impl From<RawFamily> for Family {
    fn from(raw: RawFamily) -> Family {
        match raw {
            RawFamily::Consistency => Family::Consistency,
            RawFamily::FlowMap => Family::FlowMap,
            RawFamily::RectifiedFlow => Family::RectifiedFlow,
            RawFamily::Diffusion => Family::Diffusion,
        }
    }
}
