//! Samplers: from a grid of times to a table of coefficients, and from coefficients to samples.
//!
//! Every few-step rule has one shape. With `F` what the network returned and `z` fresh noise, a step is
//!
//! ```text
//! y  = clamp(p*x + q*F)        the estimate the rule is written in: clean sample or velocity
//! x' = a*x + b*y + c*z   (and multiples of F and of what earlier rows kept of x and y)
//! ```
//!
//! and its scalars are known before the first step. So a sampler is a function from times to a [`Table`] of
//! [`Row`]s in f64, and one fused kernel, [`apply`], runs every sampler there is. The sampler never sees the
//! network: the caller evaluates it between [`feed`] and [`apply`].
//!
//! ```
//! use fewstep::sampler::{self, Grid, Noise, Options, Parameterisation, Philox, Prediction, Process, Time};
//!
//! let digits = Parameterisation {
//!     process: Process::RectifiedFlow,
//!     prediction: Prediction::Velocity,
//!     time: Time::Linear { scale: 1.0 },
//! };
//! let table = sampler::find("meanflow")?.table(&digits, &Grid::steps(2), &Options::default())?;
//!
//! let (mut x, mut input, mut z) = ([0.0; 4], [0.0; 4], [0.0; 4]);
//! let mut noise = Philox::new(42, 0);
//! noise.fill_normal(&mut x);
//! sampler::start(&table, &mut x, None)?;
//! for row in &table.rows {
//!     sampler::feed(row, &x, &mut input)?;
//!     let f = input.map(|v| v * row.inputs.t as f32); // the network
//!     if row.noise.is_some() {
//!         noise.fill_normal(&mut z);
//!     }
//!     sampler::apply(row, &mut x, &f, Some(&z))?;
//! }
//! # Ok::<(), sampler::Error>(())
//! ```
//!
//! To add a sampler, write a file with one function and add its row to [`registry`].

mod adams;
mod betas;
mod churn;
mod consistency;
mod control;
mod conversions;
mod curves;
mod ddim;
mod deis;
mod dpm;
mod error;
mod euler;
mod exponential;
mod family;
mod flow_map;
mod guidance;
mod heun;
mod k_sde;
mod lms;
mod midpoint;
mod next_state;
mod options;
mod parallel;
mod perflow;
mod policy;
mod process;
mod quantile;
mod random;
pub mod registry;
mod renoise;
mod res;
mod reverse;
mod sa;
mod schedule;
mod schedules;
mod singlestep;
mod table;
mod trajectory;
mod unipc;
mod update;

pub use betas::Betas;
pub use control::{Edit, add_noise, interpolate, keep, slerp};
pub use conversions::{Parameterisation, Prediction, Time};
pub use curves::{Aligned, Spread, karras};
pub use error::{Error, ShortName};
pub use family::{Family, Sampler};
pub use guidance::{Guidance, Interval, Method, Pass, Start};
pub use options::{Churn, Options};
pub use parallel::Parallel;
pub use policy::{MAX_VELOCITIES, Policy, Weights, combine};
pub use process::{Level, Process};
pub use random::{
    GENERATORS, Generator, Gpu, Jax, NamedGenerator, Noise, Numpy, NumpyLegacy, Philox, TorchCpu, TorchCuda,
};
pub use registry::SAMPLERS;
pub use schedule::{Curve, Grid, Rounding, Stop, Within};
pub use schedules::{Parameter, Parameters, SCHEDULES, Schedule, Times, schedule};
pub use table::{Combination, Inputs, Row, Table};
pub use update::{advance, apply, clean, feed, first_non_finite, start};

use error::shorten;
use process::Knot;
use table::Setup;

/// The most network evaluations a [`Table`] can hold.
pub const MAX_STEPS: usize = 64;

/// How many earlier rows a [`Row`] can look back at.
pub const MAX_HISTORY: usize = 3;

/// The sampler called `name`, by its name or one of its aliases.
pub fn find(name: &str) -> Result<&'static Sampler, Error> {
    SAMPLERS
        .iter()
        .find(|sampler| sampler.is_called(name))
        .ok_or_else(|| Error::UnknownSampler { name: shorten(name) })
}

fn positive(name: &'static str, value: f64) -> Result<(), Error> {
    if value.is_finite() && value > 0.0 {
        return Ok(());
    }
    Err(Error::BadSetting { name, value, must: "finite and above 0" })
}

#[cfg(test)]
pub(crate) mod tests;
