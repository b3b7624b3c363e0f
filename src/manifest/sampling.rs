//! The table `[sampling]`: what its keys mean together.

use std::{borrow::ToOwned, format, ops::Range};

use toml::Spanned;

use super::{
    Sampling,
    file::*,
    parse::{Checked, Fault, fault, refuse, required, span, value},
    samplers,
};
use crate::sampler::{
    self, Betas, Curve, Family, MAX_STEPS, Options, Parameterisation, Prediction, Process, Sampler, Stop,
    Time,
};

/// How many timesteps LCM and TCD networks were distilled at.
const ORIGIN_POINTS: usize = 50;

impl RawSampling {
    /// The parsed table, at the place of its family.
    pub(super) fn parse(self) -> Checked<Spanned<Sampling>> {
        let family = Family::from(*self.family.get_ref());
        self.time_fits(family)?;
        let (process, time) = (self.process()?, self.time()?);
        let parameterisation = Parameterisation { process, prediction: self.prediction()?, time };
        let (steps, max_steps) = self.steps()?;
        let mut sampling = Sampling {
            family,
            sampler: self.sampler(family)?,
            steps,
            max_steps,
            parameterisation,
            options: Options {
                clamp: self.clamp.map(|clamp| clamp.0),
                eta: value(&self.eta),
                ..Options::default()
            },
            curve: self.curve(family)?,
            shift: 1.0,
            terminal: None,
            stop: Stop::Data,
            times: self.times.as_ref().map(|times| times.get_ref().clone()),
        };
        if self.sampler.is_none() {
            // The first of the family is for other processes, perhaps.
            let fits = |sampler: &&Sampler| sampling.run(sampler).is_ok();
            sampling.sampler = family.samplers().find(fits).unwrap_or(sampling.sampler);
        }
        if sampling.sampler.eta.is_none() {
            let why = format!("the sampler {} draws all of its noise or none", sampling.sampler.name);
            refuse(&why, &[("eta", span(&self.eta))])?;
        }
        // What the sampler refuses with these settings it would refuse on every run.
        match sampling.run(sampling.sampler) {
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
            Family::Consistency | Family::Diffusion => (
                time != RawTime::Unit,
                "\"sigma\" or \"log-sigma\", or else \"timestep\", \"angle\" or \"angle-share\"",
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
        if !matches!(time, RawTime::Sigma | RawTime::LogSigma) {
            let sigmas = [("sigma_min", span(&self.sigma_min)), ("sigma_max", span(&self.sigma_max))];
            refuse("only the times \"sigma\" and \"log-sigma\" are noise levels", &sigmas)?;
        }
        if time != RawTime::Timestep && *self.prediction.get_ref() != RawPrediction::WindowedNoise {
            let betas = [
                ("betas", span(&self.betas)),
                ("beta_start", span(&self.beta_start)),
                ("beta_end", span(&self.beta_end)),
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
        let Some(betas) = value(&self.betas) else {
            return fault(&self.time, "`betas` is missing: write those of the training");
        };
        let keys = [("beta_start", span(&self.beta_start)), ("beta_end", span(&self.beta_end))];
        if betas == RawBetas::Cosine {
            refuse("cosine has no ends to choose", &keys)?;
            return Ok(Betas::Cosine);
        }
        let why = "these betas run from one value to another";
        let first = required("beta_start", &self.beta_start, &self.time, why)?;
        let last = required("beta_end", &self.beta_end, &self.time, why)?;
        Ok(match betas {
            RawBetas::Linear => Betas::Linear { first, last },
            RawBetas::ScaledLinear | RawBetas::Cosine => Betas::ScaledLinear { first, last },
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
            RawTime::Sigma | RawTime::Unit | RawTime::Timestep | RawTime::Angle => Time::Linear { scale },
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
        };
        if !matches!(self.time.get_ref(), RawTime::Angle | RawTime::AngleShare) {
            let why = "neither this prediction nor this time is scaled by the data";
            refuse(why, &[("sigma_data", span(&self.sigma_data))])?;
        }
        Ok(prediction)
    }

    /// Default and largest number of steps.
    fn steps(&self) -> Checked<(usize, usize)> {
        let max_steps = self.max_steps.map_or(MAX_STEPS, |most| most.0);
        let steps = value(&self.steps).map(|steps| steps.0);
        let listed = self.times.as_ref().map(|times| times.get_ref().len().saturating_sub(1));
        let count = steps.or(listed).unwrap_or(1);
        let problem = if listed.is_some_and(|listed| listed != count) {
            "`steps` and `times` disagree: a list has one time more than steps, so leave `steps` out"
                .to_owned()
        } else if count > max_steps {
            format!("{count} `steps` are more than `max_steps`, which is {max_steps}")
        } else {
            return Ok((count, max_steps));
        };
        let at = span(&self.steps).or(span(&self.times)).unwrap_or(self.family.span());
        Err(Fault { at, problem })
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

    fn curve(&self, family: Family) -> Checked<Curve<'static>> {
        let schedule = value(&self.schedule).or(match (self.time.get_ref(), family) {
            (RawTime::Sigma | RawTime::LogSigma, Family::Diffusion) => Some(RawSchedule::Edm),
            (RawTime::Sigma | RawTime::LogSigma, _) => Some(RawSchedule::Karras),
            (RawTime::Timestep, Family::Consistency) => Some(RawSchedule::Origin),
            (RawTime::Timestep, _) => Some(RawSchedule::Trailing),
            (RawTime::Unit, _) if *self.prediction.get_ref() == RawPrediction::WindowedNoise => {
                Some(RawSchedule::Windows)
            }
            (RawTime::Unit, _) => Some(RawSchedule::Uniform),
            (RawTime::Angle | RawTime::AngleShare, _) => None,
        });
        if !matches!(schedule, Some(RawSchedule::Karras | RawSchedule::Edm)) {
            refuse("only the schedules karras and edm have an exponent", &[("rho", span(&self.rho))])?;
        }
        if schedule != Some(RawSchedule::Leading) {
            refuse("only the schedule leading has it", &[("offset", span(&self.offset))])?;
        }
        if schedule != Some(RawSchedule::Origin) {
            refuse("only the schedule origin has them", &[("points", span(&self.points))])?;
        }
        let rho = value(&self.rho).map_or(7.0, |rho| rho.0);
        Ok(match schedule {
            None => Curve::Usual,
            Some(RawSchedule::Uniform) => Curve::Uniform,
            Some(RawSchedule::Windows) => Curve::Windows,
            Some(RawSchedule::Karras) => Curve::Karras { rho },
            Some(RawSchedule::Edm) => Curve::KarrasPadded { rho },
            Some(RawSchedule::Leading) => Curve::Leading { offset: value(&self.offset).unwrap_or(0) },
            Some(RawSchedule::Trailing) => Curve::Trailing,
            Some(RawSchedule::Linspace) => Curve::Linspace,
            Some(RawSchedule::Origin) => {
                Curve::Origin { points: value(&self.points).map_or(ORIGIN_POINTS, |points| points.0) }
            }
        })
    }

    /// The key whose value the sampler refused.
    fn cause(&self, error: &sampler::Error) -> (&'static str, Range<usize>) {
        use sampler::Error::{BadGrid, BadSetting, TooManyEvaluations, Unsupported};
        let (key, at) = match error {
            BadSetting { name: "sigma_max", .. } => ("sigma_max", span(&self.sigma_max)),
            BadSetting { name: "beta_start", .. } => ("beta_start", span(&self.beta_start)),
            BadSetting { name: "beta_end", .. } => ("beta_end", span(&self.beta_end)),
            BadSetting { name: "eta", .. } => ("eta", span(&self.eta)),
            Unsupported { .. } => ("prediction", Some(self.prediction.span())),
            BadGrid { .. } => ("schedule", span(&self.schedule)),
            TooManyEvaluations { .. } => ("steps", span(&self.steps)),
            _ if self.times.is_some() => ("times", span(&self.times)),
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
