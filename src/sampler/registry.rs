//! Every sampler there is: a row each.

use super::{
    Family, Sampler, consistency, ddim, dpm, euler, flow_map, heun, perflow, renoise, trajectory, unipc,
};

/// Every sampler there is, the default of a family before its others.
pub const SAMPLERS: &[Sampler] = &[
    Sampler {
        name: "consistency",
        aliases: &["cm", "multistep-consistency"],
        families: &[Family::Consistency],
        stochastic: true,
        paper: "Song et al. 2023, Consistency Models, arXiv 2303.01469, algorithm 1",
        reference: "openai/consistency_models cm/karras_diffusion.py stochastic_iterative_sampler",
        rows: consistency::table,
        ..PLAIN
    },
    Sampler {
        name: "lcm",
        aliases: &["latent-consistency"],
        families: &[Family::Consistency],
        stochastic: true,
        paper: "Luo et al. 2023, Latent Consistency Models, arXiv 2310.04378, algorithm 3",
        reference: "diffusers LCMScheduler",
        rows: renoise::latent_consistency_table,
        ..PLAIN
    },
    Sampler {
        name: "tcd",
        aliases: &["trajectory-consistency"],
        families: &[Family::Consistency],
        stochastic: true,
        eta: Some(0.3),
        paper: "Zheng et al. 2024, Trajectory Consistency Distillation, arXiv 2402.19159, algorithm 4",
        reference: "diffusers TCDScheduler",
        rows: trajectory::tcd_table,
        ..PLAIN
    },
    Sampler {
        name: "scm",
        aliases: &["trigflow", "sana-sprint"],
        families: &[Family::Consistency],
        stochastic: true,
        paper: "Lu and Song 2024, Simplifying Continuous-Time Consistency Models, arXiv 2410.11081",
        reference: "diffusers SCMScheduler and SanaSprintPipeline",
        rows: renoise::angles_table,
        ..PLAIN
    },
    Sampler {
        name: "meanflow",
        aliases: &["flow-map"],
        families: &[Family::FlowMap],
        paper: "Geng et al. 2025, Mean Flows for One-step Generative Modeling, arXiv 2505.13447, algorithm 2",
        reference: "diffusers FlowMapEulerDiscreteScheduler; Gsunshine/meanflow",
        rows: flow_map::table,
        ..PLAIN
    },
    Sampler {
        name: "meanflow-sde",
        aliases: &["flow-map-sde"],
        families: &[Family::FlowMap],
        stochastic: true,
        paper: "Song et al. 2023, Consistency Models, arXiv 2303.01469, algorithm 1, on a flow map's s = 0 anchor",
        reference: "NVlabs/FastGen MeanFlow, student_sample_type sde",
        rows: flow_map::stochastic_table,
        ..PLAIN
    },
    Sampler {
        name: "ctm",
        aliases: &["gamma-sampling"],
        families: &[Family::FlowMap],
        eta: Some(0.0),
        paper: "Kim et al. 2023, Consistency Trajectory Models, arXiv 2310.02279, algorithm 3",
        reference: "sony/ctm code/cm/sample_util.py",
        rows: trajectory::ctm_table,
        ..PLAIN
    },
    Sampler {
        name: "imm",
        aliases: &["inductive-moment-matching"],
        families: &[Family::FlowMap],
        paper: "Zhou et al. 2025, Inductive Moment Matching, arXiv 2503.07565, algorithm 2",
        reference: "lumalabs/imm preconds.py",
        rows: trajectory::imm_table,
        ..PLAIN
    },
    Sampler {
        name: "shortcut",
        aliases: &["shortcut-model"],
        families: &[Family::FlowMap],
        paper: "Frans et al. 2024, One Step Diffusion via Shortcut Models, arXiv 2410.12557, algorithm 2",
        reference: "kvfrans/shortcut-models helper_inference.py",
        rows: flow_map::shortcut_table,
        ..PLAIN
    },
    Sampler {
        name: "euler",
        aliases: &["flow-euler", "instaflow"],
        families: &[Family::RectifiedFlow, Family::Diffusion, Family::FlowMap],
        paper: "Liu et al. 2022, Flow Straight and Fast, arXiv 2209.03003",
        reference: "black-forest-labs/flux sampling.py denoise; diffusers FlowMatchEuler-, Euler- and EDMEulerScheduler",
        rows: euler::table,
        ..PLAIN
    },
    Sampler {
        name: "perflow",
        aliases: &["piecewise-rectified-flow"],
        families: &[Family::RectifiedFlow],
        paper: "Yan et al. 2024, PeRFlow: Piecewise Rectified Flow, arXiv 2405.07510, algorithm 2",
        reference: "magic-research/piecewise-rectified-flow src/scheduler_perflow.py, ddim_eps",
        rows: perflow::table,
        ..PLAIN
    },
    Sampler {
        name: "renoise",
        aliases: &["dmd2", "pcm-stochastic", "ect"],
        families: &[Family::Consistency, Family::RectifiedFlow, Family::FlowMap],
        stochastic: true,
        paper: "Yin et al. 2024, Improved Distribution Matching Distillation, arXiv 2405.14867, section 4.4",
        reference: "tianweiy/DMD2; G-U-N/Phased-Consistency-Model pcm_fm_stochastic_scheduler.py; locuslab/ect ct_eval.py",
        rows: renoise::table,
        ..PLAIN
    },
    Sampler {
        name: "heun",
        aliases: &["edm"],
        families: &[Family::Diffusion, Family::RectifiedFlow],
        order: 2,
        evaluations_per_step: 2,
        paper: "Karras et al. 2022, Elucidating the Design Space, arXiv 2206.00364, algorithm 1",
        reference: "NVlabs/edm generate.py; diffusers HeunDiscreteScheduler, FlowMatchHeunDiscreteScheduler",
        rows: heun::table,
        ..PLAIN
    },
    Sampler {
        name: "dpmpp-2m",
        aliases: &["dpm-solver++"],
        families: &[Family::Diffusion, Family::RectifiedFlow],
        order: 2,
        paper: "Lu et al. 2022, DPM-Solver++, arXiv 2211.01095, algorithm 2",
        reference: "diffusers DPMSolverMultistepScheduler, EDMDPMSolverMultistepScheduler",
        rows: dpm::multistep_table,
        ..PLAIN
    },
    Sampler {
        name: "dpmpp-2m-sde",
        aliases: &["dpm-solver++-sde"],
        families: &[Family::Diffusion],
        stochastic: true,
        paper: "Lu et al. 2022, DPM-Solver++, arXiv 2211.01095, appendix D",
        reference: "diffusers DPMSolverMultistepScheduler, sde-dpmsolver++",
        rows: dpm::stochastic_table,
        ..PLAIN
    },
    Sampler {
        name: "unipc",
        aliases: &["unipc-bh2"],
        families: &[Family::Diffusion],
        order: 3,
        paper: "Zhao et al. 2023, UniPC, arXiv 2302.04867, algorithms 1 and 2",
        reference: "diffusers UniPCMultistepScheduler, bh2",
        rows: unipc::table,
        ..PLAIN
    },
    Sampler {
        name: "ddim",
        aliases: &["hyper-sd"],
        families: &[Family::Diffusion],
        eta: Some(0.0),
        paper: "Song et al. 2020, Denoising Diffusion Implicit Models, arXiv 2010.02502, equation 12",
        reference: "diffusers DDIMScheduler",
        rows: ddim::table,
        ..PLAIN
    },
    Sampler {
        name: "ddpm",
        aliases: &["ancestral"],
        families: &[Family::Diffusion],
        stochastic: true,
        eta: Some(1.0),
        paper: "Ho et al. 2020, Denoising Diffusion Probabilistic Models, arXiv 2006.11239, algorithm 2",
        reference: "diffusers DDPMScheduler, fixed_small",
        rows: ddim::ancestral_table,
        ..PLAIN
    },
    Sampler {
        name: "euler-ancestral",
        aliases: &["euler-a", "turbo"],
        families: &[Family::Diffusion],
        stochastic: true,
        eta: Some(1.0),
        paper: "Karras et al. 2022, Elucidating the Design Space, arXiv 2206.00364, and Song et al. 2020, arXiv 2011.13456",
        reference: "diffusers EulerAncestralDiscreteScheduler; k-diffusion sample_euler_ancestral",
        rows: euler::ancestral_table,
        ..PLAIN
    },
];

/// What most samplers are: one deterministic evaluation a step with nothing to choose.
const PLAIN: Sampler = Sampler {
    name: "",
    aliases: &[],
    families: &[],
    order: 1,
    evaluations_per_step: 1,
    stochastic: false,
    eta: None,
    orders: &[],
    churns: false,
    paper: "",
    reference: "",
    rows: euler::table,
};
