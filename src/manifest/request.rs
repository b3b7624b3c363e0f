//! What a caller may ask for, and what becomes of it.

use std::{borrow::ToOwned, string::String, vec::Vec};

use super::{Manifest, Names, Sampling, samplers};
use crate::sampler::{
    self, Churn, Family, Grid, Guidance, Interval, Method, Options, Parameter, Parameters, Process,
    SCHEDULES, Sampler, Schedule, Table,
};

/// What a caller may ask for. The rest is the manifest's.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Request<'a> {
    pub sampler: Option<&'a str>,
    pub steps: Option<usize>,
    /// Times from noise to data, the last included.
    pub times: Option<&'a [f64]>,
    /// A manifest's word for where the times lie.
    pub schedule: Option<&'a str>,
    /// Exponent of a schedule that has one.
    pub rho: Option<f64>,
    /// [`Grid::shift`].
    pub shift: Option<f64>,
    pub clamp: Option<f64>,
    pub eta: Option<f64>,
    pub order: Option<u8>,
    pub churn: Option<f64>,
    pub noise_scale: Option<f64>,
    pub temperature: Option<f64>,
    /// Share of the steps that are taken, from a noised reference.
    pub strength: Option<f64>,
    /// Scale of the guidance.
    pub guidance: Option<f64>,
    /// One of [`Method::NAMED`].
    pub guidance_method: Option<&'a str>,
    /// Fractions of the steps.
    pub guidance_interval: Option<[f64; 2]>,
    pub guidance_rescale: Option<f64>,
}

/// Why a request has no table.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RequestError {
    #[error("sampler `{sampler}` makes no sense for `{model}`, whose family is {family}: use {}", samplers(*family))]
    Sampler { sampler: &'static str, model: String, family: Family },
    #[error("`{model}` was made for at most {most} step{}, not {steps}", if *most == 1 { "" } else { "s" })]
    TooManySteps { model: String, steps: usize, most: usize },
    #[error("{steps} steps need {} times, not {times}: ask for one or the other", steps.saturating_add(1))]
    StepsAndTimes { steps: usize, times: usize },
    #[error("a list of times leaves no {what} to choose: ask for one or the other")]
    TimesAnd { what: &'static str },
    #[error("rho shapes the schedules {}: ask for one of them", Names::of(&exponents()))]
    NoRho,
    #[error("`{model}` has no times to shift: only those of a rectified flow are")]
    NoShift { model: String },
    #[error("there is no guidance method `{name}`; there are {}", Names::of(&Method::NAMED.map(|(name, _)| name)))]
    Method { name: String },
    #[error("`{model}` has no guidance of its own: ask for a scale as well")]
    NoScale { model: String },
    #[error("`{model}` has its guidance inside: ask for its scale alone")]
    Distilled { model: String },
    #[error(transparent)]
    Table(#[from] sampler::Error),
}

impl Manifest {
    /// The coefficients of the run that is asked for.
    pub fn table(&self, request: &Request<'_>) -> Result<Table, RequestError> {
        let sampling = &self.sampling;
        let sampler = request.sampler.map_or(Ok(sampling.sampler), sampler::find)?;
        if !sampler.families.contains(&sampling.family) {
            return Err(RequestError::Sampler {
                sampler: sampler.name,
                model: self.model.name.clone(),
                family: sampling.family,
            });
        }
        let grid = self.grid(request)?;
        if grid.steps > sampling.max_steps {
            let (model, most) = (self.model.name.clone(), sampling.max_steps);
            return Err(RequestError::TooManySteps { model, steps: grid.steps, most });
        }
        Ok(sampler.table(&sampling.parameterisation, &grid, &sampling.asked(sampler, request))?)
    }

    fn grid<'a>(&'a self, request: &Request<'a>) -> Result<Grid<'a>, RequestError> {
        let sampling = &self.sampling;
        if let Some(times) = request.times {
            let chosen = [
                (request.schedule.is_some(), "schedule"),
                (request.rho.is_some(), "rho"),
                (request.shift.is_some(), "shift"),
            ];
            if let Some(&(_, what)) = chosen.iter().find(|(asked, _)| *asked) {
                return Err(RequestError::TimesAnd { what });
            }
            return match request.steps {
                Some(steps) if steps.saturating_add(1) != times.len() => {
                    Err(RequestError::StepsAndTimes { steps, times: times.len() })
                }
                _ => Ok(Grid { stop: sampling.stop, ..Grid::times(times) }),
            };
        }
        let mut grid = sampling.grid(request.steps.unwrap_or(sampling.steps));
        if let Some(name) = request.schedule {
            let schedule = sampler::schedule(name)?;
            if request.rho.is_some() && !schedule.takes.contains(&Parameter::Rho) {
                return Err(RequestError::NoRho);
            }
            let parameters = Parameters { rho: request.rho, ..Parameters::default() };
            grid.curve = schedule.curve(sampling.parameterisation.process, &parameters);
        } else if request.rho.is_some() {
            return Err(RequestError::NoRho);
        } else if request.shift.is_some() {
            grid.curve = sampling.curve;
        }
        if let Some(shift) = request.shift {
            if sampling.parameterisation.process != Process::RectifiedFlow {
                return Err(RequestError::NoShift { model: self.model.name.clone() });
            }
            grid.shift = shift;
        }
        Ok(grid)
    }

    /// The guidance that is asked for, or the manifest's.
    pub fn guidance(&self, request: &Request<'_>) -> Result<Option<Guidance>, RequestError> {
        let Request { guidance, guidance_method, guidance_interval, guidance_rescale, .. } = *request;
        // Without a `[guidance]`, a network that reads the scale has all of it inside.
        let inside = self.guidance.is_none() && self.distilled_guidance().is_some();
        if self.guidance.is_none() && (guidance.is_none() || inside) {
            let asked =
                guidance_method.is_some() || guidance_interval.is_some() || guidance_rescale.is_some();
            let model = || self.model.name.clone();
            return match (asked, inside) {
                (true, true) => Err(RequestError::Distilled { model: model() }),
                (true, false) => Err(RequestError::NoScale { model: model() }),
                (false, _) => Ok(None),
            };
        }
        let mut own = self.guidance.unwrap_or_default();
        if let Some(name) = guidance_method {
            let named = Method::NAMED.into_iter().find(|(known, _)| *known == name);
            let (_, method) = named.ok_or_else(|| RequestError::Method { name: name.to_owned() })?;
            // What the manifest says of the same method stays.
            if core::mem::discriminant(&method) != core::mem::discriminant(&own.method) {
                own.method = method;
            }
        }
        own.scale = guidance.unwrap_or(own.scale);
        own.rescale = guidance_rescale.unwrap_or(own.rescale);
        own.interval = guidance_interval.map_or(own.interval, Interval::Steps);
        own.check()?;
        Ok(Some(own))
    }
}

impl Sampling {
    /// The manifest's options that the sampler has, and all that are asked for: those that it lacks it refuses.
    fn asked(&self, sampler: &Sampler, request: &Request<'_>) -> Options {
        let own = self.options(sampler);
        let range = own.churn.map_or([0.0, f64::INFINITY], |churn| churn.range);
        Options {
            clamp: request.clamp.or(own.clamp),
            eta: request.eta.or(own.eta),
            order: request.order.or(own.order),
            churn: request.churn.map(|amount| Churn { amount, range }).or(own.churn),
            noise_scale: request.noise_scale.unwrap_or(own.noise_scale),
            temperature: request.temperature.unwrap_or(own.temperature),
            strength: request.strength.unwrap_or(own.strength),
            ..own
        }
    }
}

/// The schedules that have a rho.
fn exponents() -> Vec<&'static str> {
    let has = |schedule: &&Schedule| schedule.takes.contains(&Parameter::Rho);
    SCHEDULES.iter().filter(has).map(|schedule| schedule.name).collect()
}
