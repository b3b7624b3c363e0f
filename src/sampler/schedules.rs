//! Every schedule there is, by the words that users say.

use super::{Aligned, Curve, Error, Process, Spread, Within, curves::KARRAS_RHO, error::shorten};

/// One row of [`SCHEDULES`].
#[derive(Debug)]
pub struct Schedule {
    /// What users type.
    pub name: &'static str,
    /// The times that have it.
    pub on: &'static [Times],
    /// Which of [`Parameters`] shape it.
    pub takes: &'static [Parameter],
    /// The implementation it agrees with.
    pub reference: &'static str,
    curve: fn(Process, &Parameters) -> Curve<'static>,
}

/// What a schedule's times are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    NoiseLevels,
    Timesteps,
    Flow,
    Angles,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parameter {
    Rho,
    Offset,
    Points,
    Sway,
    Within,
}

/// What can be chosen about a schedule. What is left out is usual.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Parameters {
    /// The exponent of `karras`, `karras-strides`, `edm` (7) and `polyexponential` (1).
    pub rho: Option<f64>,
    /// Of `leading` and `leading-open` (0): diffusers' `steps_offset`.
    pub offset: Option<u8>,
    /// Of `origin` (50) and `karras-strides` (40): at how many moments the network was distilled.
    pub points: Option<usize>,
    /// Of `sway` (-1).
    pub sway: Option<f64>,
    /// The ends of noise levels on timesteps (all of the training).
    pub within: Option<Within>,
}

impl Schedule {
    pub fn curve(&self, process: Process, parameters: &Parameters) -> Curve<'static> {
        (self.curve)(process, parameters)
    }
}

/// The schedule called `name`.
pub fn schedule(name: &str) -> Result<&'static Schedule, Error> {
    let called = |schedule: &&Schedule| schedule.name == name;
    SCHEDULES.iter().find(called).ok_or_else(|| Error::UnknownSchedule { name: shorten(name) })
}

const LEVELS: &[Times] = &[Times::NoiseLevels, Times::Timesteps, Times::Flow];
const STEPS: &[Times] = &[Times::Timesteps];
const STEPS_AND_FLOW: &[Times] = &[Times::Timesteps, Times::Flow];
const FLOW: &[Times] = &[Times::Flow];

/// Every schedule there is.
pub const SCHEDULES: &[Schedule] = &[
    Schedule {
        name: "uniform",
        on: &[Times::NoiseLevels, Times::Flow, Times::Angles],
        takes: &[],
        reference: "diffusers FlowMapEulerDiscreteScheduler, SCMScheduler; black-forest-labs/flux sampling.py",
        curve: |_, _| Curve::Uniform,
    },
    Schedule {
        name: "karras",
        on: LEVELS,
        takes: &[Parameter::Rho, Parameter::Within],
        reference: "openai/consistency_models; diffusers use_karras_sigmas",
        curve: |process, parameters| match process {
            // The last level of a consistency model counts as data.
            Process::Exploding { .. } => Curve::Karras { rho: parameters.rho.unwrap_or(KARRAS_RHO) },
            _ => karras_levels(parameters),
        },
    },
    Schedule {
        name: "karras-strides",
        on: &[Times::NoiseLevels],
        takes: &[Parameter::Rho, Parameter::Points],
        reference: "diffusers CMStochasticIterativeScheduler",
        curve: |_, parameters| Curve::KarrasStrides {
            points: parameters.points.unwrap_or(40),
            rho: parameters.rho.unwrap_or(KARRAS_RHO),
        },
    },
    Schedule {
        name: "edm",
        on: LEVELS,
        takes: &[Parameter::Rho, Parameter::Within],
        reference: "NVlabs/edm generate.py; k-diffusion get_sigmas_karras; diffusers EDMEulerScheduler",
        curve: |_, parameters| karras_levels(parameters),
    },
    Schedule {
        name: "exponential",
        on: LEVELS,
        takes: &[Parameter::Within],
        reference: "k-diffusion get_sigmas_exponential; diffusers use_exponential_sigmas",
        curve: |_, parameters| levels(Spread::Exponential, parameters),
    },
    Schedule {
        name: "lu",
        on: LEVELS,
        takes: &[Parameter::Within],
        reference: "diffusers use_lu_lambdas, whose levels are those of exponential",
        curve: |_, parameters| levels(Spread::Exponential, parameters),
    },
    Schedule {
        name: "polyexponential",
        on: LEVELS,
        takes: &[Parameter::Rho, Parameter::Within],
        reference: "k-diffusion get_sigmas_polyexponential",
        curve: |_, parameters| {
            levels(Spread::Polyexponential { rho: parameters.rho.unwrap_or(1.0) }, parameters)
        },
    },
    Schedule {
        name: "vp",
        on: &[Times::NoiseLevels, Times::Timesteps],
        takes: &[],
        reference: "k-diffusion get_sigmas_vp",
        curve: |_, parameters| levels(Spread::Vp, parameters),
    },
    Schedule {
        name: "beta",
        on: LEVELS,
        takes: &[Parameter::Within],
        reference: "diffusers use_beta_sigmas",
        curve: |_, parameters| levels(Spread::Beta, parameters),
    },
    Schedule {
        name: "kl-optimal",
        on: LEVELS,
        takes: &[Parameter::Within],
        reference: "ComfyUI comfy/samplers.py kl_optimal_scheduler",
        curve: |_, parameters| levels(Spread::KlOptimal, parameters),
    },
    Schedule {
        name: "ays-sd15",
        on: STEPS,
        takes: &[],
        reference: "diffusers AysSchedules; research.nvidia.com/labs/toronto-ai/AlignYourSteps/howto.html",
        curve: |_, _| Curve::Aligned(Aligned::StableDiffusion15),
    },
    Schedule {
        name: "ays-sdxl",
        on: STEPS,
        takes: &[],
        reference: "diffusers AysSchedules; research.nvidia.com/labs/toronto-ai/AlignYourSteps/howto.html",
        curve: |_, _| Curve::Aligned(Aligned::StableDiffusionXl),
    },
    Schedule {
        name: "ays-svd",
        on: &[Times::NoiseLevels],
        takes: &[],
        reference: "diffusers AysSchedules; research.nvidia.com/labs/toronto-ai/AlignYourSteps/howto.html",
        curve: |_, _| Curve::Aligned(Aligned::StableVideoDiffusion),
    },
    Schedule {
        name: "trailing",
        on: STEPS,
        takes: &[],
        reference: "diffusers timestep_spacing trailing",
        curve: |_, _| Curve::Trailing,
    },
    Schedule {
        name: "leading",
        on: STEPS,
        takes: &[Parameter::Offset],
        reference: "diffusers timestep_spacing leading",
        curve: |_, parameters| Curve::Leading { offset: parameters.offset.unwrap_or(0) },
    },
    Schedule {
        name: "leading-open",
        on: STEPS,
        takes: &[Parameter::Offset],
        reference: "diffusers timestep_spacing leading of DPMSolverMultistep-, UniPC-, DEIS- and SASolverScheduler",
        curve: |_, parameters| Curve::LeadingOpen { offset: parameters.offset.unwrap_or(0) },
    },
    Schedule {
        name: "linspace",
        on: STEPS_AND_FLOW,
        takes: &[],
        reference: "diffusers timestep_spacing linspace; FlowMatchEulerDiscreteScheduler without sigmas",
        curve: |_, _| Curve::Linspace,
    },
    Schedule {
        name: "linspace-open",
        on: STEPS_AND_FLOW,
        takes: &[],
        reference: "diffusers timestep_spacing linspace of DPMSolverMultistep-, UniPC-, DEIS- and SASolverScheduler; UniPC's use_flow_sigmas",
        curve: |_, _| Curve::LinspaceOpen,
    },
    Schedule {
        name: "sgm-uniform",
        on: STEPS_AND_FLOW,
        takes: &[],
        reference: "ComfyUI comfy/samplers.py normal_scheduler with sgm",
        curve: |_, _| Curve::SgmUniform,
    },
    Schedule {
        name: "simple",
        on: STEPS_AND_FLOW,
        takes: &[],
        reference: "ComfyUI comfy/samplers.py simple_scheduler",
        curve: |_, _| Curve::Simple,
    },
    Schedule {
        name: "ddim-uniform",
        on: STEPS,
        takes: &[],
        reference: "ComfyUI comfy/samplers.py ddim_scheduler, where it keeps the number of steps",
        curve: |_, _| Curve::Leading { offset: 1 },
    },
    Schedule {
        name: "origin",
        on: STEPS,
        takes: &[Parameter::Points],
        reference: "diffusers LCMScheduler, TCDScheduler",
        curve: |_, parameters| Curve::Origin { points: parameters.points.unwrap_or(ORIGIN_POINTS) },
    },
    Schedule {
        name: "flow-sigmas",
        on: FLOW,
        takes: &[],
        reference: "diffusers use_flow_sigmas of DPMSolverMultistep-, DEIS- and SASolverScheduler",
        curve: |_, _| Curve::FlowSigmas,
    },
    Schedule {
        name: "linear-quadratic",
        on: FLOW,
        takes: &[],
        reference: "diffusers MochiPipeline linear_quadratic_schedule; ComfyUI comfy/samplers.py",
        curve: |_, _| Curve::LinearQuadratic,
    },
    Schedule {
        name: "sway",
        on: FLOW,
        takes: &[Parameter::Sway],
        reference: "SWivid/F5-TTS src/f5_tts/model/cfm.py",
        curve: |_, parameters| Curve::Sway { coefficient: parameters.sway.unwrap_or(-1.0) },
    },
    Schedule {
        name: "windows",
        on: FLOW,
        takes: &[],
        reference: "magic-research/piecewise-rectified-flow src/scheduler_perflow.py",
        curve: |_, _| Curve::Windows,
    },
    Schedule {
        name: "half-last",
        on: FLOW,
        takes: &[],
        reference: "diffusers PiflowScheduler",
        curve: |_, _| Curve::HalfLast,
    },
];

/// How many timesteps LCM and TCD networks were distilled at.
const ORIGIN_POINTS: usize = 50;

fn levels(spread: Spread, parameters: &Parameters) -> Curve<'static> {
    Curve::Levels { spread, within: parameters.within.unwrap_or_default() }
}

fn karras_levels(parameters: &Parameters) -> Curve<'static> {
    levels(Spread::Karras { rho: parameters.rho.unwrap_or(KARRAS_RHO) }, parameters)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::super::*;
    use std::string::ToString;

    fn times(process: Process) -> Times {
        match process {
            Process::Exploding { .. } => Times::NoiseLevels,
            Process::RectifiedFlow => Times::Flow,
            Process::Preserving { .. } => Times::Timesteps,
            Process::Trigonometric { .. } | Process::MeanReverting { .. } => Times::Angles,
        }
    }

    /// Every row makes times in any number of steps where it says that it does, and is refused elsewhere.
    #[test]
    fn schedules_make_times_where_they_say() {
        for process in [
            Process::Exploding { sigma_min: 0.002, sigma_max: 700.0 },
            Process::RectifiedFlow,
            Process::Preserving { betas: Betas::scaled_linear(0.00085, 0.012) },
            Process::Preserving { betas: Betas::linear(0.0001, 0.02).with_zero_terminal_snr() },
            Process::Trigonometric { sigma_data: 0.5 },
        ] {
            let process = process.with_a_trace_of_data();
            for row in SCHEDULES {
                for steps in [1, 2, 3, 4, 8, 13, 20] {
                    let grid = Grid::new(row.curve(process, &Parameters::default()), steps);
                    let knots = grid.knots(process);
                    let fits = row.on.contains(&times(process));
                    assert_eq!(knots.is_ok(), fits, "{} {process:?} {steps}: {knots:?}", row.name);
                    assert!(knots.is_err() || knots.is_ok_and(|knots| knots.len() == steps + 1));
                }
            }
        }
    }

    #[test]
    fn names_are_unique_and_an_unknown_one_lists_them() {
        for (i, row) in SCHEDULES.iter().enumerate() {
            assert_eq!(SCHEDULES.iter().position(|other| other.name == row.name), Some(i));
        }
        let error = schedule("karas").unwrap_err().to_string();
        assert!(error.starts_with("there is no schedule `karas`; there are `uniform`, `karras`"), "{error}");
    }
}
