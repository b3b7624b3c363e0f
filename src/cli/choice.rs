//! The arguments of `sample` that choose how the model is sampled.
#![forbid(unsafe_code)]

use fewstep::manifest::{ConfigError, Manifest, Request, Sampling};
use fewstep::sampler::{Family, Method, SCHEDULES};
use std::fs;
use std::io;
use std::path::PathBuf;

/// A scheduler's file is a page.
const MAX_CONFIG: u64 = 64 * 1024;

/// What becomes a [`Request`]; what is left out is the manifest's.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Sampling")]
pub struct Choice {
    /// Steps a sample
    #[arg(long)]
    steps: Option<usize>,
    /// A diffusers scheduler_config.json in the place of what the manifest says of sampling
    #[arg(long, value_name = "FILE.json")]
    scheduler: Option<PathBuf>,
    /// One of `fewstep list samplers`
    #[arg(long, value_name = "NAME")]
    pub sampler: Option<String>,
    #[arg(long, value_name = "NAME", help = schedules())]
    schedule: Option<String>,
    /// Times from noise to data, the last included, in place of a schedule
    #[arg(long, value_name = "T[,T..]", value_delimiter = ',', conflicts_with_all = ["schedule", "rho", "shift"])]
    times: Option<Vec<f64>>,
    /// Exponent of a schedule that has one
    #[arg(long, requires = "schedule")]
    rho: Option<f64>,
    /// More steps near the noise if above 1, for a rectified flow
    #[arg(long)]
    shift: Option<f64>,
    /// How much of the noise is drawn anew in each step, 0 to 1
    #[arg(long)]
    eta: Option<f64>,
    /// Order of a multistep solver
    #[arg(long)]
    order: Option<u8>,
    /// Noise that is added before each step and taken away by it, shared out over the steps
    #[arg(long)]
    churn: Option<f64>,
    /// Multiplies the noise of every step, but not the initial one
    #[arg(long, value_name = "SCALE")]
    noise_scale: Option<f64>,
    /// Multiplies the initial noise
    #[arg(long)]
    temperature: Option<f64>,
    /// Clamp clean estimates to this value and its negative
    #[arg(long, value_name = "LIMIT")]
    clamp: Option<f64>,
    /// How far samples are moved towards their conditions
    #[arg(long, value_name = "SCALE")]
    guidance: Option<f64>,
    #[arg(long, value_name = "NAME", help = methods())]
    guidance_method: Option<String>,
    /// The guided steps, as fractions of all
    #[arg(long, value_name = "START,STOP", value_parser = pair)]
    guidance_interval: Option<[f64; 2]>,
    /// Share of the guided output that gets the deviation of the conditional one, 0 to 1
    #[arg(long, value_name = "SHARE")]
    guidance_rescale: Option<f64>,
}

#[derive(Debug, thiserror::Error)]
pub enum SchedulerError {
    #[error("{}: cannot read the scheduler: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: too long for a scheduler_config.json", .0.display())]
    Long(PathBuf),
    #[error("{}: {source}", path.display())]
    Config { path: PathBuf, source: ConfigError },
    #[error("{}: this scheduler is for the family {found}, {model} is of {wanted}", path.display())]
    Family { path: PathBuf, found: Family, model: String, wanted: Family },
}

impl Choice {
    /// The manifest, with the sampling of a scheduler's file if there is one.
    pub fn manifest(&self, own: &Manifest) -> Result<Manifest, SchedulerError> {
        let mut manifest = own.clone();
        let Some(path) = &self.scheduler else { return Ok(manifest) };
        let failed = |source| SchedulerError::Read { path: path.clone(), source };
        if fs::metadata(path).map_err(failed)?.len() > MAX_CONFIG {
            return Err(SchedulerError::Long(path.clone()));
        }
        let json = fs::read_to_string(path).map_err(failed)?;
        let steps = format!("steps = {}", own.sampling.steps);
        let sampling = Sampling::from_scheduler_config(&json, &steps);
        let sampling = sampling.map_err(|source| SchedulerError::Config { path: path.clone(), source })?;
        let (found, wanted) = (sampling.family, own.sampling.family);
        // The network's inputs are those of a flow map or not.
        if (found == Family::FlowMap) != (wanted == Family::FlowMap) {
            let model = own.model.name.clone();
            return Err(SchedulerError::Family { path: path.clone(), found, model, wanted });
        }
        manifest.sampling = sampling;
        Ok(manifest)
    }

    /// Whether a scheduler's file takes the place of the model's own.
    pub fn has_scheduler(&self) -> bool {
        self.scheduler.is_some()
    }

    pub fn request(&self, strength: Option<f64>) -> Request<'_> {
        Request {
            sampler: self.sampler.as_deref(),
            steps: self.steps,
            times: self.times.as_deref(),
            schedule: self.schedule.as_deref(),
            rho: self.rho,
            shift: self.shift,
            clamp: self.clamp,
            eta: self.eta,
            order: self.order,
            churn: self.churn,
            noise_scale: self.noise_scale,
            temperature: self.temperature,
            strength,
            guidance: self.guidance,
            guidance_method: self.guidance_method.as_deref(),
            guidance_interval: self.guidance_interval,
            guidance_rescale: self.guidance_rescale,
        }
    }
}

fn schedules() -> String {
    let names: Vec<_> = SCHEDULES.iter().map(|schedule| schedule.name).collect();
    format!("Where the times lie: {} (docs/samplers.md)", names.join(", "))
}

fn methods() -> String {
    format!("How samples are guided: {}", Method::NAMED.map(|(name, _)| name).join(", "))
}

/// `A,B`.
fn pair(text: &str) -> Result<[f64; 2], String> {
    let ends: Option<Vec<f64>> = text.split(',').map(|end| end.trim().parse().ok()).collect();
    let ends = ends.and_then(|ends| ends.try_into().ok());
    ends.ok_or_else(|| "write two numbers, START,STOP".into())
}
