//! Every sampler there is: a row each.
//!
//! A program that names its sampler, such as [`MEANFLOW`], has that one in it; one that asks [`super::find`] has them all.

use super::{
    Family, Sampler, adams, consistency, ddim, deis, dpm, euler, flow_map, heun, k_sde, lms, midpoint,
    next_state, perflow, policy, renoise, res, reverse, sa, singlestep, trajectory, unipc,
};

/// Makes each row a constant, and a list of all.
macro_rules! samplers {
    ($($constant:ident { $($field:ident: $value:expr,)* })*) => {
        $(
            /// What [`super::find`] finds by this name in small letters, with hyphens.
            pub const $constant: Sampler = Sampler { $($field: $value,)* ..PLAIN };
        )*

        /// Every sampler there is, the default of a family before its others.
        pub const SAMPLERS: &[Sampler] = &[$($constant),*];
    };
}

samplers! {
    CONSISTENCY {
        name: "consistency",
        aliases: &["cm", "multistep-consistency"],
        families: &[Family::Consistency],
        stochastic: true,
        paper: "Song et al. 2023, Consistency Models, arXiv 2303.01469, algorithm 1",
        reference: "openai/consistency_models cm/karras_diffusion.py stochastic_iterative_sampler",
        rows: consistency::table,
    }
    LCM {
        name: "lcm",
        aliases: &["latent-consistency"],
        families: &[Family::Consistency],
        stochastic: true,
        paper: "Luo et al. 2023, Latent Consistency Models, arXiv 2310.04378, algorithm 3",
        reference: "diffusers LCMScheduler",
        from_pure_noise: true,
        rows: renoise::latent_consistency_table,
    }
    TCD {
        name: "tcd",
        aliases: &["trajectory-consistency"],
        families: &[Family::Consistency],
        stochastic: true,
        eta: Some(0.3),
        paper: "Zheng et al. 2024, Trajectory Consistency Distillation, arXiv 2402.19159, algorithm 4",
        reference: "diffusers TCDScheduler",
        from_pure_noise: true,
        rows: trajectory::tcd_table,
    }
    SCM {
        name: "scm",
        aliases: &["trigflow", "sana-sprint"],
        families: &[Family::Consistency],
        stochastic: true,
        paper: "Lu and Song 2024, Simplifying Continuous-Time Consistency Models, arXiv 2410.11081",
        reference: "diffusers SCMScheduler and SanaSprintPipeline",
        rows: renoise::angles_table,
    }
    MEANFLOW {
        name: "meanflow",
        aliases: &["flow-map", "anyflow", "lsd"],
        families: &[Family::FlowMap],
        paper: "Geng et al. 2025, Mean Flows for One-step Generative Modeling, arXiv 2505.13447, algorithm 2",
        reference: "diffusers FlowMapEulerDiscreteScheduler; Gsunshine/meanflow; Lyy-iiis/imeanflow; pocket-tts lsd_decode",
        rows: flow_map::table,
    }
    MEANFLOW_SDE {
        name: "meanflow-sde",
        aliases: &["flow-map-sde"],
        families: &[Family::FlowMap],
        stochastic: true,
        paper: "Song et al. 2023, Consistency Models, arXiv 2303.01469, algorithm 1, on a flow map's s = 0 anchor",
        reference: "NVlabs/FastGen MeanFlow, student_sample_type sde",
        rows: flow_map::stochastic_table,
    }
    CTM {
        name: "ctm",
        aliases: &["gamma-sampling"],
        families: &[Family::FlowMap],
        eta: Some(0.0),
        paper: "Kim et al. 2023, Consistency Trajectory Models, arXiv 2310.02279, algorithm 3",
        reference: "sony/ctm code/cm/sample_util.py",
        rows: trajectory::ctm_table,
    }
    CTM_CHAIN {
        name: "ctm-chain",
        aliases: &["consistency-policy"],
        families: &[Family::FlowMap],
        stochastic: true,
        paper: "Prasad et al. 2024, Consistency Policy, arXiv 2405.07503",
        reference: "Aaditya-Prasad/consistency-policy student/ctm_policy.py conditional_sample",
        rows: trajectory::chain_table,
    }
    IMM {
        name: "imm",
        aliases: &["inductive-moment-matching"],
        families: &[Family::FlowMap],
        paper: "Zhou et al. 2025, Inductive Moment Matching, arXiv 2503.07565, algorithm 2",
        reference: "lumalabs/imm training/preconds.py, generate_images.py pushforward_generator_fn",
        rows: trajectory::imm_table,
    }
    IMM_RESTART {
        name: "imm-restart",
        aliases: &["inductive-moment-matching-restart"],
        families: &[Family::FlowMap],
        stochastic: true,
        paper: "Zhou et al. 2025, Inductive Moment Matching, arXiv 2503.07565, restart sampling",
        reference: "lumalabs/imm generate_images.py restart_generator_fn",
        rows: trajectory::imm_restart_table,
    }
    SHORTCUT {
        name: "shortcut",
        aliases: &["shortcut-model"],
        families: &[Family::FlowMap],
        paper: "Frans et al. 2024, One Step Diffusion via Shortcut Models, arXiv 2410.12557, algorithm 2",
        reference: "kvfrans/shortcut-models helper_inference.py",
        rows: flow_map::shortcut_table,
    }
    EULER {
        name: "euler",
        aliases: &["flow-euler", "instaflow", "pcm-deterministic"],
        families: &[Family::RectifiedFlow, Family::Diffusion, Family::FlowMap],
        churns: true,
        paper: "Liu et al. 2022, Flow Straight and Fast, arXiv 2209.03003",
        reference: "black-forest-labs/flux sampling.py denoise; diffusers FlowMatchEuler-, Euler- and EDMEulerScheduler; k-diffusion sample_euler; G-U-N/Phased-Consistency-Model pcm_fm_deterministic_scheduler.py",
        rows: euler::table,
    }
    PERFLOW {
        name: "perflow",
        aliases: &["piecewise-rectified-flow"],
        families: &[Family::RectifiedFlow],
        paper: "Yan et al. 2024, PeRFlow: Piecewise Rectified Flow, arXiv 2405.07510, algorithm 2",
        reference: "magic-research/piecewise-rectified-flow src/scheduler_perflow.py, ddim_eps",
        rows: perflow::table,
    }
    PI_FLOW {
        name: "pi-flow",
        aliases: &["piflow"],
        families: &[Family::RectifiedFlow],
        paper: "Chen et al. 2025, pi-Flow: Policy-Based Few-Step Generation, arXiv 2510.14974",
        reference: "diffusers PiflowScheduler",
        rows: policy::table,
    }
    NEXT_STATE {
        name: "next-state",
        aliases: &["supertonic"],
        families: &[Family::RectifiedFlow],
        paper: "Kim et al. 2025, SupertonicTTS, arXiv 2503.23108",
        reference: "supertone-inc/supertonic py/helper.py",
        rows: next_state::table,
    }
    RENOISE {
        name: "renoise",
        aliases: &["dmd2", "pcm-stochastic", "ect"],
        families: &[Family::Consistency, Family::RectifiedFlow, Family::FlowMap],
        stochastic: true,
        paper: "Yin et al. 2024, Improved Distribution Matching Distillation, arXiv 2405.14867, section 4.4",
        reference: "tianweiy/DMD2; G-U-N/Phased-Consistency-Model pcm_fm_stochastic_scheduler.py; locuslab/ect ct_eval.py",
        from_pure_noise: true,
        rows: renoise::table,
    }
    HEUN {
        name: "heun",
        aliases: &["edm"],
        families: &[Family::Diffusion, Family::RectifiedFlow],
        order: 2,
        evaluations_per_step: 2,
        churns: true,
        paper: "Karras et al. 2022, Elucidating the Design Space, arXiv 2206.00364, algorithms 1 and 2",
        reference: "NVlabs/edm generate.py; k-diffusion sample_heun; diffusers HeunDiscreteScheduler, FlowMatchHeunDiscreteScheduler",
        rows: heun::table,
    }
    DPM_2 {
        name: "dpm-2",
        aliases: &["dpm2", "kdpm2"],
        families: &[Family::Diffusion],
        order: 2,
        evaluations_per_step: 2,
        churns: true,
        paper: "Karras et al. 2022, arXiv 2206.00364, algorithm 2, with Lu et al. 2022, DPM-Solver, arXiv 2206.00927",
        reference: "diffusers KDPM2DiscreteScheduler; k-diffusion sample_dpm_2",
        rows: midpoint::table,
    }
    LMS {
        name: "lms",
        aliases: &["linear-multistep"],
        families: &[Family::Diffusion],
        order: 2,
        orders: &[1, 2, 3, 4],
        paper: "Adams and Bashforth's method for the ODE of Karras et al. 2022, arXiv 2206.00364",
        reference: "diffusers LMSDiscreteScheduler; k-diffusion sample_lms",
        rows: lms::table,
    }
    IPNDM {
        name: "ipndm",
        aliases: &["improved-pndm"],
        families: &[Family::Diffusion],
        order: 2,
        orders: &[1, 2, 3, 4],
        paper: "Zhang and Chen 2022, Diffusion Exponential Integrator Sampler, arXiv 2204.13902, iPNDM",
        reference: "diffusers IPNDMScheduler; zju-pi/diff-sampler solvers.py ipndm_sampler",
        rows: adams::improved_table,
    }
    PLMS {
        name: "plms",
        aliases: &["pndm"],
        families: &[Family::Diffusion],
        paper: "Liu et al. 2022, Pseudo Numerical Methods for Diffusion Models on Manifolds, arXiv 2202.09778",
        reference: "diffusers PNDMScheduler, skip_prk_steps",
        rows: adams::table,
    }
    DPMPP_2M {
        name: "dpmpp-2m",
        aliases: &["dpm-solver++"],
        families: &[Family::Diffusion, Family::RectifiedFlow],
        order: 2,
        orders: &[1, 2, 3],
        paper: "Lu et al. 2022, DPM-Solver++, arXiv 2211.01095, algorithm 2",
        reference: "diffusers DPMSolverMultistepScheduler, EDMDPMSolverMultistepScheduler",
        rows: dpm::table,
    }
    DPMPP_2M_HEUN {
        name: "dpmpp-2m-heun",
        aliases: &["dpm-solver++-heun"],
        families: &[Family::Diffusion, Family::RectifiedFlow],
        order: 2,
        orders: &[1, 2, 3],
        paper: "Lu et al. 2022, DPM-Solver++, arXiv 2211.01095, algorithm 2, its integral exact",
        reference: "diffusers DPMSolverMultistepScheduler, solver_type heun",
        rows: dpm::heun_table,
    }
    DPMPP_2M_SDE {
        name: "dpmpp-2m-sde",
        aliases: &["dpm-solver++-sde"],
        families: &[Family::Diffusion, Family::RectifiedFlow],
        order: 2,
        stochastic: true,
        orders: &[1, 2, 3],
        paper: "Lu et al. 2022, DPM-Solver++, arXiv 2211.01095, appendix D",
        reference: "diffusers DPMSolverMultistepScheduler, sde-dpmsolver++; CosineDPMSolverMultistepScheduler",
        rows: dpm::sde_table,
    }
    DPMPP_2M_SDE_HEUN {
        name: "dpmpp-2m-sde-heun",
        aliases: &["dpm-solver++-sde-heun"],
        families: &[Family::Diffusion, Family::RectifiedFlow],
        order: 2,
        stochastic: true,
        orders: &[1, 2, 3],
        paper: "Lu et al. 2022, DPM-Solver++, arXiv 2211.01095, appendix D, its integral exact",
        reference: "diffusers DPMSolverMultistepScheduler, sde-dpmsolver++, solver_type heun",
        rows: dpm::sde_heun_table,
    }
    DPM_SOLVER {
        name: "dpm-solver",
        aliases: &["dpmsolver"],
        families: &[Family::Diffusion],
        order: 2,
        orders: &[1, 2, 3],
        paper: "Lu et al. 2022, DPM-Solver, arXiv 2206.00927",
        reference: "diffusers DPMSolverMultistepScheduler, dpmsolver",
        rows: dpm::noise_table,
    }
    DPM_SOLVER_HEUN {
        name: "dpm-solver-heun",
        aliases: &["dpmsolver-heun"],
        families: &[Family::Diffusion],
        order: 2,
        orders: &[1, 2, 3],
        paper: "Lu et al. 2022, DPM-Solver, arXiv 2206.00927, its integral exact",
        reference: "diffusers DPMSolverMultistepScheduler, dpmsolver, solver_type heun",
        rows: dpm::noise_heun_table,
    }
    DPM_SOLVER_SDE {
        name: "dpm-solver-sde",
        aliases: &["sde-dpmsolver"],
        families: &[Family::Diffusion],
        order: 2,
        stochastic: true,
        orders: &[1, 2],
        paper: "Lu et al. 2022, DPM-Solver++, arXiv 2211.01095, appendix D, for the noise",
        reference: "diffusers DPMSolverMultistepScheduler, sde-dpmsolver",
        rows: dpm::noise_sde_table,
    }
    DPMPP_2S {
        name: "dpmpp-2s",
        aliases: &["dpm-solver++-singlestep"],
        families: &[Family::Diffusion, Family::RectifiedFlow],
        order: 2,
        orders: &[1, 2, 3],
        paper: "Lu et al. 2022, DPM-Solver++, arXiv 2211.01095, algorithm 1",
        reference: "diffusers DPMSolverSinglestepScheduler",
        rows: singlestep::table,
    }
    DPM_SOLVER_2S {
        name: "dpm-solver-2s",
        aliases: &["dpm-solver-singlestep"],
        families: &[Family::Diffusion],
        order: 2,
        orders: &[1, 2, 3],
        paper: "Lu et al. 2022, DPM-Solver, arXiv 2206.00927, algorithms 1 and 2",
        reference: "diffusers DPMSolverSinglestepScheduler, dpmsolver",
        rows: singlestep::noise_table,
    }
    UNIPC {
        name: "unipc",
        aliases: &["unipc-bh2"],
        families: &[Family::Diffusion, Family::RectifiedFlow],
        order: 3,
        orders: &[1, 2, 3],
        paper: "Zhao et al. 2023, UniPC, arXiv 2302.04867, algorithms 1 and 2",
        reference: "diffusers UniPCMultistepScheduler, bh2",
        rows: unipc::table,
    }
    UNIPC_BH1 {
        name: "unipc-bh1",
        aliases: &["uni-pc"],
        families: &[Family::Diffusion, Family::RectifiedFlow],
        order: 3,
        orders: &[1, 2, 3],
        paper: "Zhao et al. 2023, UniPC, arXiv 2302.04867, algorithms 1 and 2",
        reference: "diffusers UniPCMultistepScheduler, bh1",
        rows: unipc::plain_table,
    }
    UNIPC_NOISE {
        name: "unipc-noise",
        aliases: &["unipc-epsilon"],
        families: &[Family::Diffusion],
        order: 3,
        orders: &[1, 2, 3],
        paper: "Zhao et al. 2023, UniPC, arXiv 2302.04867, algorithms 1 and 2",
        reference: "diffusers UniPCMultistepScheduler, bh2, predict_x0 false",
        rows: unipc::noise_table,
    }
    DEIS {
        name: "deis",
        aliases: &["deis-logrho"],
        families: &[Family::Diffusion, Family::RectifiedFlow],
        order: 2,
        orders: &[1, 2, 3],
        paper: "Zhang and Chen 2022, Diffusion Exponential Integrator Sampler, arXiv 2204.13902",
        reference: "diffusers DEISMultistepScheduler",
        rows: deis::table,
    }
    SA_SOLVER {
        name: "sa-solver",
        aliases: &["sa"],
        families: &[Family::Diffusion, Family::RectifiedFlow],
        order: 2,
        stochastic: true,
        eta: Some(1.0),
        orders: &[1, 2, 3],
        paper: "Xue et al. 2023, SA-Solver, arXiv 2309.05019, algorithm 1",
        reference: "diffusers SASolverScheduler",
        rows: sa::table,
    }
    RES_2M {
        name: "res-2m",
        aliases: &["res-multistep"],
        families: &[Family::Diffusion, Family::RectifiedFlow],
        order: 2,
        eta: Some(0.0),
        paper: "Zhang et al. 2023, Improved Order Analysis of Exponential Integrator, arXiv 2308.02157",
        reference: "ComfyUI comfy/k_diffusion/sampling.py res_multistep",
        rows: res::table,
    }
    DDIM {
        name: "ddim",
        aliases: &["hyper-sd"],
        families: &[Family::Diffusion],
        eta: Some(0.0),
        paper: "Song et al. 2020, Denoising Diffusion Implicit Models, arXiv 2010.02502, equation 12",
        reference: "diffusers DDIMScheduler",
        from_pure_noise: true,
        rows: ddim::table,
    }
    DDIM_INVERSE {
        name: "ddim-inverse",
        aliases: &["ddim-inversion"],
        families: &[Family::Diffusion],
        paper: "Song et al. 2020, Denoising Diffusion Implicit Models, arXiv 2010.02502, section 4.3",
        reference: "diffusers DDIMInverseScheduler",
        from_pure_noise: true,
        rows: ddim::inverse_table,
    }
    DDPM {
        name: "ddpm",
        aliases: &["ancestral"],
        families: &[Family::Diffusion],
        stochastic: true,
        eta: Some(1.0),
        paper: "Ho et al. 2020, Denoising Diffusion Probabilistic Models, arXiv 2006.11239, algorithm 2",
        reference: "diffusers DDPMScheduler, fixed_small and fixed_small_log",
        from_pure_noise: true,
        rows: ddim::ancestral_table,
    }
    DDPM_LARGE {
        name: "ddpm-large",
        aliases: &["ddpm-fixed-large"],
        families: &[Family::Diffusion],
        stochastic: true,
        eta: Some(1.0),
        paper: "Ho et al. 2020, Denoising Diffusion Probabilistic Models, arXiv 2006.11239, section 3.2",
        reference: "diffusers DDPMScheduler, fixed_large",
        from_pure_noise: true,
        rows: ddim::large_ancestral_table,
    }
    EULER_ANCESTRAL {
        name: "euler-ancestral",
        aliases: &["euler-a", "turbo"],
        families: &[Family::Diffusion, Family::RectifiedFlow],
        stochastic: true,
        eta: Some(1.0),
        paper: "Karras et al. 2022, Elucidating the Design Space, arXiv 2206.00364, and Song et al. 2020, arXiv 2011.13456",
        reference: "diffusers EulerAncestralDiscreteScheduler; k-diffusion sample_euler_ancestral; diffusers LTXEulerAncestralRFScheduler",
        rows: euler::ancestral_table,
    }
    REVERSE_DIFFUSION {
        name: "reverse-diffusion",
        aliases: &["sgmse"],
        families: &[Family::Diffusion],
        stochastic: true,
        paper: "Richter et al. 2022, Speech Enhancement and Dereverberation with Diffusion-based Generative Models, arXiv 2208.05830",
        reference: "sp-uhh/sgmse sampling/predictors.py ReverseDiffusionPredictor",
        rows: reverse::table,
    }
    PREDICTOR_CORRECTOR {
        name: "predictor-corrector",
        aliases: &["sgmse-pc"],
        families: &[Family::Diffusion],
        evaluations_per_step: 2,
        stochastic: true,
        eta: Some(0.5),
        paper: "Song et al. 2020, arXiv 2011.13456, predictor-corrector sampling, as in Richter et al. 2022, arXiv 2208.05830",
        reference: "sp-uhh/sgmse sampling/__init__.py get_pc_sampler, with ReverseDiffusionPredictor and AnnealedLangevinDynamics",
        rows: reverse::corrected_table,
    }
    DPM_2_ANCESTRAL {
        name: "dpm-2-ancestral",
        aliases: &["dpm2-a", "kdpm2-ancestral"],
        families: &[Family::Diffusion],
        evaluations_per_step: 2,
        stochastic: true,
        eta: Some(1.0),
        paper: "Lu et al. 2022, DPM-Solver, arXiv 2206.00927, with noise as in Song et al. 2020, arXiv 2011.13456",
        reference: "diffusers KDPM2AncestralDiscreteScheduler; k-diffusion sample_dpm_2_ancestral",
        rows: midpoint::ancestral_table,
    }
    DPMPP_2S_ANCESTRAL {
        name: "dpmpp-2s-ancestral",
        aliases: &["dpmpp-2s-a"],
        families: &[Family::Diffusion],
        evaluations_per_step: 2,
        stochastic: true,
        eta: Some(1.0),
        paper: "Lu et al. 2022, DPM-Solver++, arXiv 2211.01095, algorithm 1, with noise as in Song et al. 2020, arXiv 2011.13456",
        reference: "k-diffusion sample_dpmpp_2s_ancestral",
        rows: midpoint::ancestral_2s_table,
    }
    DPMPP_SDE {
        name: "dpmpp-sde",
        aliases: &["dpm-solver++-sde-singlestep"],
        families: &[Family::Diffusion],
        evaluations_per_step: 2,
        stochastic: true,
        eta: Some(1.0),
        paper: "Lu et al. 2022, DPM-Solver++, arXiv 2211.01095, algorithm 1, for the reverse SDE",
        reference: "k-diffusion sample_dpmpp_sde; diffusers DPMSolverSDEScheduler",
        rows: midpoint::sde_table,
    }
    DPMPP_3M_SDE {
        name: "dpmpp-3m-sde",
        aliases: &["dpm-solver++-3m-sde"],
        families: &[Family::Diffusion],
        order: 3,
        stochastic: true,
        eta: Some(1.0),
        orders: &[1, 2, 3],
        paper: "Lu et al. 2022, DPM-Solver++, arXiv 2211.01095, appendix D, of order three",
        reference: "k-diffusion sample_dpmpp_3m_sde, sample_dpmpp_2m_sde",
        rows: k_sde::table,
    }
}

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
    from_pure_noise: false,
    paper: "",
    reference: "",
    rows: euler::table,
};
