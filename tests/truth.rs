//! The samplers against the truth: on a mixture of normals the probability flow can be followed to any precision.

mod support;

use fewstep::manifest::{Manifest, Request};
use fewstep::sampler::{Family, Inputs, SAMPLERS, Sampler};
use std::collections::HashSet;
use support::network::{Level, Network, Point, covariance, flow, mean};
use support::{START, manifest, run};

const DATA: Level = Level { alpha: 1.0, sigma: 0.0 };

/// A network for solvers, and times for them: from mild noise, where a few steps are many, and to a level at which the
/// error is taken; the step from there to the data has an error of its own.
struct Setting {
    sampling: &'static str,
    /// Each time from its share of the way.
    time: fn(f64) -> f64,
    data: f64,
}

const SETTINGS: [Setting; 4] = [
    Setting {
        sampling: "family = 'diffusion'\nprediction = 'x0'\ntime = 'sigma'\nsigma_min = 0.01\nsigma_max = 3",
        time: |share| (2f64.cbrt() + share * (0.1f64.cbrt() - 2f64.cbrt())).powi(3),
        data: 0.0,
    },
    Setting {
        sampling: "family = 'diffusion'\nprediction = 'v'\ntime = 'timestep'\nbetas = 'cosine'",
        time: |share| (640.0 - 480.0 * share).round(),
        data: -1.0,
    },
    Setting {
        sampling: "family = 'diffusion'\nprediction = 'v'\ntime = 'angle'\nsigma_data = 0.5",
        time: |share| 1.2 - share,
        data: 0.0,
    },
    Setting {
        sampling: "family = 'rectified-flow'\nprediction = 'velocity'\ntime = 'unit'",
        time: |share| 0.7 - 0.6 * share,
        data: 0.0,
    },
];

/// Solvers of the probability flow.
fn solvers() -> impl Iterator<Item = &'static Sampler> {
    // A piecewise flow is a flow map, and below. Two more take their steps inside the network, or without it, and one goes
    // to the noise.
    let others = ["perflow", "pi-flow", "next-state", "ddim-inverse"];
    let solves = move |s: &&Sampler| {
        let families = [Family::Diffusion, Family::RectifiedFlow];
        !s.stochastic && !others.contains(&s.name) && s.families.iter().any(|f| families.contains(f))
    };
    SAMPLERS.iter().filter(solves)
}

#[test]
fn solvers_converge_with_the_order_that_they_claim() {
    let mut failures = Vec::new();
    for solver in solvers() {
        let mut settings = 0;
        for setting in &SETTINGS {
            let manifest = manifest(setting.sampling, None);
            if let Some(slope) = slope(solver, setting, &manifest) {
                println!("{} {:?} {slope:.2}", solver.name, manifest.sampling.parameterisation.process);
                settings += 1;
                if (slope - f64::from(solver.order)).abs() > 0.35 {
                    failures.push(format!("{}: {slope:.2} with {}", solver.name, setting.sampling));
                }
            }
        }
        assert!(settings > 0, "{} takes none of the settings", solver.name);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Of the logarithm of the error against that of the length of a step, if the solver takes this setting.
fn slope(solver: &Sampler, setting: &Setting, manifest: &Manifest) -> Option<f64> {
    let most = 60 / usize::from(solver.evaluations_per_step);
    let counts = [most / 2, most * 2 / 3, most];
    let points = counts.map(|steps| {
        let error = error(solver, setting, manifest, steps)?;
        Some([-(steps as f64).ln(), error.ln()])
    });
    let points: Vec<Point> = points.into_iter().collect::<Option<_>>()?;
    let centre = [0, 1].map(|d| points.iter().map(|p| p[d]).sum::<f64>() / points.len() as f64);
    let sum = |d: usize| points.iter().map(|p| (p[0] - centre[0]) * (p[d] - centre[d])).sum::<f64>();
    Some(sum(1) / sum(0))
}

fn error(solver: &Sampler, setting: &Setting, manifest: &Manifest, steps: usize) -> Option<f64> {
    let mut times: Vec<f64> = (0..=steps).map(|i| (setting.time)(i as f64 / steps as f64)).collect();
    times.push(setting.data);
    let request = Request { sampler: Some(solver.name), times: Some(&times), ..Request::default() };
    let table = manifest.table(&request).ok()?;
    let network = Network::new(setting.sampling, None);
    let [from, to] = [times[0], times[steps]].map(|t| network.level(t));
    let start = START.map(|p| p.map(|x| x * from.sigma.hypot(0.7 * from.alpha)));
    let mut x = start;
    let (_, before) = table.rows.split_last().expect("rows");
    run(before, &mut x, 0, |fed, inputs| network.evaluate(fed, inputs));
    let squares = start.iter().zip(&x).flat_map(|(start, x)| {
        let expected = flow(*start, from, to, 2000);
        [0, 1].map(|d| (x[d] - expected[d]).powi(2))
    });
    Some(squares.sum::<f64>().sqrt())
}

/// Where the exact network's jump ends, from the inputs.
type Target = fn(&Network, &Inputs) -> Level;

const TO_DATA: Target = |_, _| DATA;
const TO_SECOND: Target = |network, inputs| network.level(inputs.s);
const TO_WINDOW: Target = |network, inputs| network.level(inputs.t - 250.0);

/// Processes whose noisiest state has next to nothing of the data, for the initial state has nothing of them.
const NOISE_LEVELS: &str =
    "time = 'log-sigma'\ntime_scale = 0.25\nsigma_min = 0.002\nsigma_max = 8000\nsigma_data = 0.5";
const TIMESTEPS: &str = "time = 'timestep'\nbetas = 'cosine'";
const ANGLE: &str = "time = 'angle'\nsigma_data = 0.5";
const ANGLE_SHARE: &str = "time = 'angle-share'\nsigma_data = 0.5";
const UNIT: &str = "time = 'unit'\ntime_scale = 1000";
const REVERSED: &str = "time = 'unit'\nnoise_at = 0";
/// Of unit noise, as the others.
const SCALED: &str = "time = 'unit'\nsigma_data = 0.5\ninitial_scale = 1";
const WINDOWS: &str = "time = 'unit'\ntime_scale = 1000\nbetas = 'cosine'\nsteps = 4";

/// Samplers of networks that jump, where they jump to, what the networks predict, and of which process.
const JUMPS: [(&str, Target, &str, &str); 16] = [
    ("consistency", TO_DATA, "edm-consistency", NOISE_LEVELS),
    ("ect", TO_DATA, "edm", NOISE_LEVELS),
    ("lcm", TO_DATA, "v", TIMESTEPS),
    ("tcd", TO_SECOND, "v", TIMESTEPS),
    ("scm", TO_DATA, "v", ANGLE),
    ("scm", TO_DATA, "velocity", ANGLE_SHARE),
    ("instaflow", TO_DATA, "data-velocity", UNIT),
    ("meanflow", TO_SECOND, "velocity", UNIT),
    ("meanflow-sde", TO_SECOND, "velocity", UNIT),
    ("shortcut", TO_SECOND, "velocity", REVERSED),
    ("ctm", TO_SECOND, "edm-consistency", NOISE_LEVELS),
    ("ctm-chain", TO_SECOND, "edm-consistency", NOISE_LEVELS),
    ("imm", TO_SECOND, "scaled-velocity", SCALED),
    ("imm-restart", TO_SECOND, "scaled-velocity", SCALED),
    ("imm", TO_SECOND, "simple-edm", SCALED),
    ("perflow", TO_WINDOW, "windowed-noise", WINDOWS),
];

/// Of mean and covariance: what the even grid over the noise leaves out. Half its spacing leaves a tenth of it.
const MOMENT_ERROR: f64 = 1e-3;

#[test]
fn exact_jumps_give_the_distribution_of_the_data() {
    for (sampler, target, prediction, process) in JUMPS {
        let (mean_off, covariance_off) = moments_off(&jump(sampler, target, prediction, process));
        println!("{sampler} {mean_off:.1e} {covariance_off:.1e}");
        assert!(mean_off.max(covariance_off) < MOMENT_ERROR, "{sampler}: {mean_off} {covariance_off}");
    }
}

#[test]
fn every_sampler_that_jumps_is_here() {
    let known: HashSet<&str> =
        JUMPS.iter().map(|(name, ..)| fewstep::sampler::find(name).expect("a sampler").name).collect();
    for sampler in Family::Consistency.samplers().chain(Family::FlowMap.samplers()) {
        assert!(known.contains(sampler.name), "{}", sampler.name);
    }
}

/// Points of the plane with the density of unit normal noise at each: sums over an even grid converge faster than any
/// power of its spacing.
fn normal_grid() -> Vec<(Point, f64)> {
    const SPACING: f64 = 0.25;
    let density = |z: f64| SPACING * (-0.5 * z * z).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let axis: Vec<f64> = (-20..=20).map(|i| f64::from(i) * SPACING).collect();
    axis.iter().flat_map(|&a| axis.iter().map(move |&b| ([a, b], density(a) * density(b)))).collect()
}

/// Samples, with their weights, of an exact network in as few steps as it takes.
fn jump(sampler: &str, target: Target, prediction: &str, process: &str) -> Vec<(Point, f64)> {
    let family = fewstep::sampler::find(sampler).expect("a sampler").families[0];
    let second = (family == Family::FlowMap).then_some("target");
    let sampling =
        format!("family = '{family}'\nsampler = '{sampler}'\nprediction = '{prediction}'\n{process}");
    let table = manifest(&sampling, second).table(&Request::default()).expect("a table");
    let network = Network::new(&sampling, second);
    let (mut x, weights): (Vec<Point>, Vec<f64>) = normal_grid().into_iter().unzip();
    support::start(&table, &mut x);
    run(&table.rows, &mut x, 0, |fed, inputs| {
        network.answer(fed, inputs, |x, from| {
            // The clean sample towards which a straight line in `sigma / alpha` meets the flow at the target.
            let to = target(&network, inputs);
            let end = flow(x, from, to, 40);
            let kept = to.sigma / from.sigma;
            [0, 1].map(|d| (end[d] - kept * x[d]) / (to.alpha - kept * from.alpha))
        })
    });
    x.into_iter().zip(weights).collect()
}

/// Largest differences from the mean and from the covariance of the data.
fn moments_off(samples: &[(Point, f64)]) -> (f64, f64) {
    let first = [0, 1].map(|d| samples.iter().map(|(x, weight)| weight * x[d]).sum::<f64>());
    let second = |a: usize, b: usize| {
        samples.iter().map(|(x, weight)| weight * (x[a] - first[a]) * (x[b] - first[b])).sum::<f64>()
    };
    let mean_off = [0, 1].map(|d| (first[d] - mean()[d]).abs());
    let pairs = [(0, 0), (0, 1), (1, 1)];
    let covariance_off = pairs.map(|(a, b)| (second(a, b) - covariance()[a][b]).abs());
    (mean_off.into_iter().fold(0.0, f64::max), covariance_off.into_iter().fold(0.0, f64::max))
}
