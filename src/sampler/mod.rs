//! Samplers: from a grid of times to a table of coefficients, and from coefficients to samples.
//!
//! Every few-step rule has one shape. With `F` what the network returned and `z` fresh noise, a step is
//!
//! ```text
//! y  = clamp(p*x + q*F)        the estimate the rule is written in: clean sample or velocity
//! x' = a*x + b*y + c*z   (and multiples of earlier y)
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
//! let table = sampler::find("meanflow")?.table(&digits, &Grid::Steps(2), &Options::default())?;
//!
//! let (mut x, mut input, mut z) = ([0.0; 4], [0.0; 4], [0.0; 4]);
//! let mut noise = Philox::new(42, 0);
//! noise.fill_normal(&mut x);
//! sampler::start(&table, &mut x);
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
//! To add a sampler, write a file with one function and add its row to [`SAMPLERS`].

#[cfg(test)]
mod conformance;
mod consistency;
mod conversions;
mod ddim;
mod dpm;
mod error;
mod euler;
mod flow_map;
mod heun;
mod perflow;
mod process;
mod random;
mod renoise;
mod schedule;
mod table;
mod trajectory;
mod unipc;
mod update;

pub use conversions::{Parameterisation, Prediction, Time};
pub use error::{Error, ShortName};
pub use process::{Betas, Process};
pub use random::{
    GENERATORS, Generator, Gpu, Jax, NamedGenerator, Noise, Numpy, NumpyLegacy, Philox, TorchCpu, TorchCuda,
};
pub use schedule::{Grid, Spacing, karras};
pub use table::{Combination, Inputs, Row, Table};
pub use update::{advance, apply, clean, feed, first_non_finite, start};

use core::fmt;

use error::shorten;
use process::Level;
use table::Setup;

/// The most network evaluations a [`Table`] can hold.
pub const MAX_STEPS: usize = 64;

/// How many earlier estimates a [`Row`] can look back at.
pub const MAX_HISTORY: usize = 3;

/// Every sampler there is, the default of a family before its others.
pub const SAMPLERS: &[Sampler] = &[
    Sampler {
        name: "consistency",
        aliases: &["cm", "multistep-consistency"],
        families: &[Family::Consistency],
        order: 1,
        evaluations_per_step: 1,
        stochastic: true,
        eta: None,
        paper: "Song et al. 2023, Consistency Models, arXiv 2303.01469, algorithm 1",
        reference: "openai/consistency_models cm/karras_diffusion.py stochastic_iterative_sampler",
        rows: consistency::table,
    },
    Sampler {
        name: "lcm",
        aliases: &["latent-consistency"],
        families: &[Family::Consistency],
        order: 1,
        evaluations_per_step: 1,
        stochastic: true,
        eta: None,
        paper: "Luo et al. 2023, Latent Consistency Models, arXiv 2310.04378, algorithm 3",
        reference: "diffusers LCMScheduler",
        rows: renoise::latent_consistency_table,
    },
    Sampler {
        name: "tcd",
        aliases: &["trajectory-consistency"],
        families: &[Family::Consistency],
        order: 1,
        evaluations_per_step: 1,
        stochastic: true,
        eta: Some(0.3),
        paper: "Zheng et al. 2024, Trajectory Consistency Distillation, arXiv 2402.19159, algorithm 4",
        reference: "diffusers TCDScheduler",
        rows: trajectory::tcd_table,
    },
    Sampler {
        name: "scm",
        aliases: &["trigflow", "sana-sprint"],
        families: &[Family::Consistency],
        order: 1,
        evaluations_per_step: 1,
        stochastic: true,
        eta: None,
        paper: "Lu and Song 2024, Simplifying Continuous-Time Consistency Models, arXiv 2410.11081",
        reference: "diffusers SCMScheduler and SanaSprintPipeline",
        rows: renoise::angles_table,
    },
    Sampler {
        name: "meanflow",
        aliases: &["flow-map"],
        families: &[Family::FlowMap],
        order: 1,
        evaluations_per_step: 1,
        stochastic: false,
        eta: None,
        paper: "Geng et al. 2025, Mean Flows for One-step Generative Modeling, arXiv 2505.13447, algorithm 2",
        reference: "diffusers FlowMapEulerDiscreteScheduler; Gsunshine/meanflow",
        rows: flow_map::table,
    },
    Sampler {
        name: "meanflow-sde",
        aliases: &["flow-map-sde"],
        families: &[Family::FlowMap],
        order: 1,
        evaluations_per_step: 1,
        stochastic: true,
        eta: None,
        paper: "Song et al. 2023, Consistency Models, arXiv 2303.01469, algorithm 1, on a flow map's s = 0 anchor",
        reference: "NVlabs/FastGen MeanFlow, student_sample_type sde",
        rows: flow_map::stochastic_table,
    },
    Sampler {
        name: "ctm",
        aliases: &["gamma-sampling"],
        families: &[Family::FlowMap],
        order: 1,
        evaluations_per_step: 1,
        stochastic: false,
        eta: Some(0.0),
        paper: "Kim et al. 2023, Consistency Trajectory Models, arXiv 2310.02279, algorithm 3",
        reference: "sony/ctm code/cm/sample_util.py",
        rows: trajectory::ctm_table,
    },
    Sampler {
        name: "imm",
        aliases: &["inductive-moment-matching"],
        families: &[Family::FlowMap],
        order: 1,
        evaluations_per_step: 1,
        stochastic: false,
        eta: None,
        paper: "Zhou et al. 2025, Inductive Moment Matching, arXiv 2503.07565, algorithm 2",
        reference: "lumalabs/imm preconds.py",
        rows: trajectory::imm_table,
    },
    Sampler {
        name: "shortcut",
        aliases: &["shortcut-model"],
        families: &[Family::FlowMap],
        order: 1,
        evaluations_per_step: 1,
        stochastic: false,
        eta: None,
        paper: "Frans et al. 2024, One Step Diffusion via Shortcut Models, arXiv 2410.12557, algorithm 2",
        reference: "kvfrans/shortcut-models helper_inference.py",
        rows: flow_map::shortcut_table,
    },
    Sampler {
        name: "euler",
        aliases: &["flow-euler", "instaflow"],
        families: &[Family::RectifiedFlow, Family::Diffusion, Family::FlowMap],
        order: 1,
        evaluations_per_step: 1,
        stochastic: false,
        eta: None,
        paper: "Liu et al. 2022, Flow Straight and Fast, arXiv 2209.03003",
        reference: "black-forest-labs/flux sampling.py denoise; diffusers FlowMatchEuler-, Euler- and EDMEulerScheduler",
        rows: euler::table,
    },
    Sampler {
        name: "perflow",
        aliases: &["piecewise-rectified-flow"],
        families: &[Family::RectifiedFlow],
        order: 1,
        evaluations_per_step: 1,
        stochastic: false,
        eta: None,
        paper: "Yan et al. 2024, PeRFlow: Piecewise Rectified Flow, arXiv 2405.07510, algorithm 2",
        reference: "magic-research/piecewise-rectified-flow src/scheduler_perflow.py, ddim_eps",
        rows: perflow::table,
    },
    Sampler {
        name: "renoise",
        aliases: &["dmd2", "pcm-stochastic", "ect"],
        families: &[Family::Consistency, Family::RectifiedFlow, Family::FlowMap],
        order: 1,
        evaluations_per_step: 1,
        stochastic: true,
        eta: None,
        paper: "Yin et al. 2024, Improved Distribution Matching Distillation, arXiv 2405.14867, section 4.4",
        reference: "tianweiy/DMD2; G-U-N/Phased-Consistency-Model pcm_fm_stochastic_scheduler.py; locuslab/ect ct_eval.py",
        rows: renoise::table,
    },
    Sampler {
        name: "heun",
        aliases: &["edm"],
        families: &[Family::Diffusion, Family::RectifiedFlow],
        order: 2,
        evaluations_per_step: 2,
        stochastic: false,
        eta: None,
        paper: "Karras et al. 2022, Elucidating the Design Space, arXiv 2206.00364, algorithm 1",
        reference: "NVlabs/edm generate.py; diffusers HeunDiscreteScheduler, FlowMatchHeunDiscreteScheduler",
        rows: heun::table,
    },
    Sampler {
        name: "dpmpp-2m",
        aliases: &["dpm-solver++"],
        families: &[Family::Diffusion, Family::RectifiedFlow],
        order: 2,
        evaluations_per_step: 1,
        stochastic: false,
        eta: None,
        paper: "Lu et al. 2022, DPM-Solver++, arXiv 2211.01095, algorithm 2",
        reference: "diffusers DPMSolverMultistepScheduler, EDMDPMSolverMultistepScheduler",
        rows: dpm::multistep_table,
    },
    Sampler {
        name: "dpmpp-2m-sde",
        aliases: &["dpm-solver++-sde"],
        families: &[Family::Diffusion],
        order: 1,
        evaluations_per_step: 1,
        stochastic: true,
        eta: None,
        paper: "Lu et al. 2022, DPM-Solver++, arXiv 2211.01095, appendix D",
        reference: "diffusers DPMSolverMultistepScheduler, sde-dpmsolver++",
        rows: dpm::stochastic_table,
    },
    Sampler {
        name: "unipc",
        aliases: &["unipc-bh2"],
        families: &[Family::Diffusion],
        order: 3,
        evaluations_per_step: 1,
        stochastic: false,
        eta: None,
        paper: "Zhao et al. 2023, UniPC, arXiv 2302.04867, algorithms 1 and 2",
        reference: "diffusers UniPCMultistepScheduler, bh2",
        rows: unipc::table,
    },
    Sampler {
        name: "ddim",
        aliases: &["hyper-sd"],
        families: &[Family::Diffusion],
        order: 1,
        evaluations_per_step: 1,
        stochastic: false,
        eta: Some(0.0),
        paper: "Song et al. 2020, Denoising Diffusion Implicit Models, arXiv 2010.02502, equation 12",
        reference: "diffusers DDIMScheduler",
        rows: ddim::table,
    },
    Sampler {
        name: "ddpm",
        aliases: &["ancestral"],
        families: &[Family::Diffusion],
        order: 1,
        evaluations_per_step: 1,
        stochastic: true,
        eta: Some(1.0),
        paper: "Ho et al. 2020, Denoising Diffusion Probabilistic Models, arXiv 2006.11239, algorithm 2",
        reference: "diffusers DDPMScheduler, fixed_small",
        rows: ddim::ancestral_table,
    },
    Sampler {
        name: "euler-ancestral",
        aliases: &["euler-a", "turbo"],
        families: &[Family::Diffusion],
        order: 1,
        evaluations_per_step: 1,
        stochastic: true,
        eta: Some(1.0),
        paper: "Karras et al. 2022, Elucidating the Design Space, arXiv 2206.00364, and Song et al. 2020, arXiv 2011.13456",
        reference: "diffusers EulerAncestralDiscreteScheduler; k-diffusion sample_euler_ancestral",
        rows: euler::ancestral_table,
    },
];

/// The sampler called `name`, by its name or one of its aliases.
pub fn find(name: &str) -> Result<&'static Sampler, Error> {
    SAMPLERS
        .iter()
        .find(|sampler| sampler.is_called(name))
        .ok_or_else(|| Error::UnknownSampler { name: shorten(name) })
}

/// What a network has learned, which decides the samplers that make sense for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Jumps from any time to the data.
    Consistency,
    /// Jumps from any time `t` to any time `s` below it.
    FlowMap,
    /// The velocity at one time.
    RectifiedFlow,
    /// The noise or the clean sample at one time, on a process of noise levels, timesteps or angles.
    Diffusion,
}

impl Family {
    pub const ALL: [Family; 4] =
        [Family::Consistency, Family::FlowMap, Family::RectifiedFlow, Family::Diffusion];

    pub const fn name(self) -> &'static str {
        match self {
            Family::Consistency => "consistency",
            Family::FlowMap => "flow-map",
            Family::RectifiedFlow => "rectified-flow",
            Family::Diffusion => "diffusion",
        }
    }

    /// The samplers that make sense for this family, its default first.
    pub fn samplers(self) -> impl Iterator<Item = &'static Sampler> {
        SAMPLERS.iter().filter(move |sampler| sampler.families.contains(&self))
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One row of [`SAMPLERS`].
#[derive(Debug)]
pub struct Sampler {
    /// What users type.
    pub name: &'static str,
    pub aliases: &'static [&'static str],
    pub families: &'static [Family],
    /// Order of convergence towards the exact trajectory.
    pub order: u8,
    /// Network evaluations, and so table rows, for one interval of the grid. The last one always takes a single
    /// evaluation, for there is no noise left to evaluate at.
    pub evaluations_per_step: u8,
    /// Whether it draws noise after the initial state when it takes more than one step.
    pub stochastic: bool,
    /// What [`Options::eta`] is when it is not chosen. `None`: there is nothing to choose.
    pub eta: Option<f64>,
    pub paper: &'static str,
    /// The implementation it agrees with.
    pub reference: &'static str,
    rows: fn(&Setup<'_>) -> Result<Table, Error>,
}

impl Sampler {
    /// Whether `name` is its name or one of its aliases.
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || self.aliases.contains(&name)
    }

    /// The coefficients of a whole run.
    pub fn table(
        &self,
        parameterisation: &Parameterisation,
        grid: &Grid<'_>,
        options: &Options,
    ) -> Result<Table, Error> {
        parameterisation.check()?;
        options.check()?;
        if self.eta.is_none() && options.eta.is_some() {
            return Err(Error::Unsupported { sampler: self.name, what: "eta", accepts: "none" });
        }
        let times = grid.times(parameterisation.process)?;
        let eta = options.eta.or(self.eta).unwrap_or(0.0);
        (self.rows)(&Setup { sampler: self.name, parameterisation, grid, times: &times, options, eta })
    }
}

/// What the caller may choose beyond the times.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Options {
    /// Clamp every clean estimate to `[-limit, limit]`, for data that is known to lie there.
    pub clamp: Option<f64>,
    /// How much of the noise is drawn anew in each step, 0 (none) to 1 (all): DDIM's eta, the gamma of TCD and CTM.
    pub eta: Option<f64>,
}

impl Options {
    fn check(&self) -> Result<(), Error> {
        self.clamp.map_or(Ok(()), |limit| positive("clamp", limit))?;
        match self.eta {
            Some(value) if !(0.0..=1.0).contains(&value) => {
                Err(Error::BadSetting { name: "eta", value, must: "from 0 to 1" })
            }
            _ => Ok(()),
        }
    }
}

fn positive(name: &'static str, value: f64) -> Result<(), Error> {
    if value.is_finite() && value > 0.0 {
        return Ok(());
    }
    Err(Error::BadSetting { name, value, must: "finite and above 0" })
}

#[cfg(test)]
mod tests;
