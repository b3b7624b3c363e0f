//! The keys of `[sampling]` that say where the times lie.

use std::{borrow::ToOwned, format, vec::Vec};

use super::{
    file::*,
    parse::{Checked, Fault, fault, refuse, span, value},
};
use crate::sampler::{
    self, Curve, Family, MAX_STEPS, Parameter, Parameters, Process, Rounding, Stop, Within,
};

/// Points of the grid of consistency distillation, of which `ts` are some.
const KARRAS_POINTS: usize = 40;
const KARRAS_RHO: f64 = 7.0;

impl RawSampling {
    /// Default and largest number of steps.
    pub(super) fn steps(&self) -> Checked<(usize, usize)> {
        let max_steps = self.max_steps.map_or(MAX_STEPS, |most| most.0);
        let steps = value(&self.steps).map(|steps| steps.0);
        if let (Some(_), Some(sigmas)) = (&self.times, &self.sigmas) {
            return fault(sigmas, "`sigmas` and `times` say the same thing: keep one");
        }
        let list =
            self.times.as_ref().or(self.sigmas.as_ref()).map(|list| (list.span(), list.get_ref().len()));
        let list = list.or(self.ts.as_ref().map(|list| (list.span(), list.get_ref().len())));
        let listed = list.as_ref().map(|(_, length)| length.saturating_sub(1));
        let count = steps.or(listed).unwrap_or(1);
        let problem = if listed.is_some_and(|listed| listed != count) {
            "`steps` and `times` disagree: a list has one time more than steps, so leave `steps` out"
                .to_owned()
        } else if count > max_steps {
            format!("{count} `steps` are more than `max_steps`, which is {max_steps}")
        } else {
            return Ok((count, max_steps));
        };
        let at = span(&self.steps).or(list.map(|(at, _)| at)).unwrap_or(self.family.span());
        Err(Fault { at, problem })
    }

    pub(super) fn curve(&self, family: Family, process: Process) -> Checked<Curve<'static>> {
        let Some(name) = self.schedule.as_ref().map(|name| name.get_ref().as_str()).or(self.usual(family))
        else {
            self.refuse_parameters(&[], "this time has no schedule to choose")?;
            return Ok(Curve::Usual);
        };
        let schedule = match (sampler::schedule(name), &self.schedule) {
            (Ok(schedule), _) => schedule,
            (Err(error), Some(at)) => return fault(at, error),
            (Err(error), None) => return fault(&self.family, error),
        };
        let mut takes: Vec<Parameter> = schedule.takes.to_vec();
        if value(&self.within) == Some(RawWithin::Leading) {
            takes.push(Parameter::Offset);
        }
        if self.ts.is_some() || *self.prediction.get_ref() == RawPrediction::VelocityGrid {
            takes.push(Parameter::Points);
        }
        self.refuse_parameters(&takes, &format!("the schedule {name} does not have it"))?;
        let offset = value(&self.offset);
        let parameters = Parameters {
            rho: value(&self.rho).map(|rho| rho.0),
            offset,
            points: value(&self.points).map(|points| points.0),
            sway: value(&self.sway),
            within: value(&self.within).map(|within| within.parse(offset)),
        };
        Ok(schedule.curve(process, &parameters))
    }

    /// The schedule of manifests that name none.
    fn usual(&self, family: Family) -> Option<&'static str> {
        Some(match (self.time.get_ref(), family) {
            (RawTime::Sigma | RawTime::LogSigma, Family::Diffusion) => "edm",
            (RawTime::Sigma | RawTime::LogSigma, _) => "karras",
            (RawTime::Timestep, Family::Consistency) => "origin",
            (RawTime::Timestep, _) => "trailing",
            (RawTime::Unit, _) if *self.prediction.get_ref() == RawPrediction::WindowedNoise => "windows",
            (RawTime::Unit, _) if *self.prediction.get_ref() == RawPrediction::VelocityGrid => "half-last",
            (RawTime::Unit, _) => "uniform",
            (RawTime::Angle | RawTime::AngleShare | RawTime::MeanReverting, _) => return None,
        })
    }

    fn refuse_parameters(&self, takes: &[Parameter], why: &str) -> Checked<()> {
        for (parameter, name, at) in [
            (Parameter::Rho, "rho", span(&self.rho)),
            (Parameter::Offset, "offset", span(&self.offset)),
            (Parameter::Points, "points", span(&self.points)),
            (Parameter::Sway, "sway", span(&self.sway)),
            (Parameter::Within, "within", span(&self.within)),
        ] {
            if !takes.contains(&parameter) {
                refuse(why, &[(name, at)])?;
            }
        }
        Ok(())
    }

    /// Refuses what the process's times do not have.
    pub(super) fn times_fit(&self) -> Checked<()> {
        let time = *self.time.get_ref();
        if time != RawTime::Unit {
            let times = [("shift", span(&self.shift)), ("terminal", span(&self.terminal))];
            refuse("only the time \"unit\" is shifted", &times)?;
        }
        let ends = match time {
            RawTime::Unit => self.times.is_none(),
            RawTime::Angle | RawTime::AngleShare | RawTime::MeanReverting => true,
            RawTime::Sigma | RawTime::LogSigma | RawTime::Timestep => false,
        };
        if ends {
            refuse("this time ends with the data", &[("stop", span(&self.stop))])?;
        }
        if !matches!(time, RawTime::Unit | RawTime::Timestep) {
            let why = "only timesteps and the time \"unit\", of which there are 1000, are rounded";
            refuse(why, &[("rounding", span(&self.rounding))])?;
        }
        if time != RawTime::Timestep {
            refuse("`times` are what this time takes", &[("sigmas", span(&self.sigmas))])?;
        }
        Ok(())
    }

    /// The times of the list, or of the points of a Karras grid.
    pub(super) fn listed(&self, process: Process) -> Checked<Option<Vec<f64>>> {
        let Some(ts) = &self.ts else {
            return Ok(self.times.as_ref().map(|times| times.get_ref().clone()));
        };
        refuse("`ts` is a list of times already", &[("times", span(&self.times))])?;
        let Process::Exploding { sigma_min, sigma_max } = process else {
            return fault(ts, "`ts` has no meaning here: only noise levels have a Karras grid");
        };
        let points = value(&self.points).map_or(KARRAS_POINTS, |points| points.0);
        if let Some(index) = ts.get_ref().iter().find(|&&index| index >= points) {
            let error = sampler::Error::OutsideGrid { index: *index, points };
            return fault(ts, format_args!("`ts`: {error}"));
        }
        let rho = value(&self.rho).map_or(KARRAS_RHO, |rho| rho.0);
        let last = points.saturating_sub(1).max(1) as f64;
        let time = |&index: &usize| sampler::karras(index as f64 / last, sigma_max, sigma_min, rho);
        Ok(Some(ts.get_ref().iter().map(time).collect()))
    }

    pub(super) fn stop(&self) -> Stop {
        match value(&self.stop) {
            None | Some(RawStop::Data) => Stop::Data,
            Some(RawStop::SigmaMin) => Stop::SigmaMin,
        }
    }

    pub(super) fn rounding(&self) -> Option<Rounding> {
        value(&self.rounding).map(|rounding| match rounding {
            RawRounding::Nearest => Rounding::Nearest,
            RawRounding::Down => Rounding::Down,
        })
    }
}

impl RawWithin {
    fn parse(self, offset: Option<u8>) -> Within {
        match self {
            RawWithin::All => Within::All,
            RawWithin::Linspace => Within::Linspace,
            RawWithin::Leading => Within::Leading { offset: offset.unwrap_or(0) },
            RawWithin::Trailing => Within::Trailing,
        }
    }
}
