//! Whole trajectories against the references: `golden/trajectories.txt`, which `golden/make.py` writes, with its
//! network, its start and its noise.

extern crate std;
use super::*;
use std::{collections::HashSet, format, string::String, vec, vec::Vec};

const GOLDENS: &str = include_str!("golden/trajectories.txt");

/// Of a table in f64, relative to the largest element.
const F64_ERROR: f64 = 1e-9;
/// Of the f32 kernel: rounding of up to 20 steps.
const F32_ERROR: f64 = 2e-5;

const START: [f64; 4] = [0.5, -1.0, 0.1, 2.0];

const SD: Process = Process::Preserving { betas: Betas::ScaledLinear { first: 0.00085, last: 0.012 } };
const EDM: Process = Process::Exploding { sigma_min: 0.002, sigma_max: 80.0 };
const FLOW: Process = Process::RectifiedFlow;
const ANGLES: Process = Process::Trigonometric { sigma_data: 0.5 };
const AS_IS: Time = Time::Linear { scale: 1.0 };
const LN: Time = Time::Log { scale: 0.25 };

/// A run whose end is the golden called `label`.
struct Case {
    label: String,
    sampler: &'static str,
    parameterisation: Parameterisation,
    grid: Grid<'static>,
    eta: Option<f64>,
    /// What the network's time is divided by.
    divisor: f64,
    /// What the network reads beside its time.
    second: fn(Inputs) -> f64,
}

impl Case {
    fn new(
        label: impl Into<String>,
        sampler: &'static str,
        (process, prediction, time): (Process, Prediction, Time),
        grid: Grid<'static>,
    ) -> Case {
        let parameterisation = Parameterisation { process, prediction, time };
        let divisor = if matches!(process, Process::Preserving { .. }) { 1000.0 } else { 1.0 };
        Case { label: label.into(), sampler, parameterisation, grid, eta: None, divisor, second: |_| 0.0 }
    }

    fn eta(self, eta: f64) -> Case {
        Case { eta: Some(eta), ..self }
    }

    fn second(self, second: fn(Inputs) -> f64) -> Case {
        Case { second, ..self }
    }

    fn table(&self) -> Table {
        let options = Options { eta: self.eta, ..Options::default() };
        let table = find(self.sampler).and_then(|s| s.table(&self.parameterisation, &self.grid, &options));
        table.unwrap_or_else(|error| panic!("{}: {error}", self.label))
    }

    fn network(&self, x: f64, inputs: Inputs) -> f64 {
        0.4 * x + 0.25 * inputs.t / self.divisor - 0.15 * (self.second)(inputs) - 0.1
    }

    fn in_f64(&self) -> [f64; 4] {
        let table = self.table();
        let mut x = START.map(|x| x * table.initial_scale);
        let (mut earlier, mut draws) = ([[0.0; 4]; MAX_HISTORY], 0);
        for row in &table.rows {
            let before = x;
            let y: [f64; 4] = core::array::from_fn(|j| {
                row.estimate.x * x[j] + row.estimate.y * self.network(row.inputs.scale * x[j], row.inputs)
            });
            for j in 0..4 {
                x[j] = row.update.x * x[j] + row.update.y * y[j];
                x[j] += (0..MAX_HISTORY).map(|k| row.earlier[k] * earlier[k][j]).sum::<f64>();
                x[j] += row.noise.unwrap_or(0.0) * noise(draws, j);
            }
            draws += usize::from(row.noise.is_some());
            earlier.rotate_right(1);
            earlier[0] = core::array::from_fn(|j| row.keep.x * before[j] + row.keep.y * y[j]);
        }
        x
    }

    fn in_f32(&self) -> [f64; 4] {
        let table = self.table();
        let mut x = START.map(|x| x as f32);
        let (mut input, mut history, mut draws) = ([0.0; 4], vec![f32::NAN; 4 * table.history()], 0);
        start(&table, &mut x, None).unwrap();
        for (step, row) in table.rows.iter().enumerate() {
            feed(row, &x, &mut input).unwrap();
            let f = input.map(|x| self.network(f64::from(x), row.inputs) as f32);
            let z: [f32; 4] = core::array::from_fn(|j| noise(draws, j) as f32);
            draws += usize::from(row.noise.is_some());
            advance(&table, step, &mut x, &f, Some(&z), &mut history).unwrap();
        }
        x.map(f64::from)
    }
}

fn noise(draw: usize, j: usize) -> f64 {
    ((draw * 4 + j) * 37 % 19) as f64 / 9.5 - 1.0
}

fn spaced(steps: usize, spacing: Curve<'static>) -> Grid<'static> {
    Grid::new(spacing, steps)
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let origin = |steps| spaced(steps, Curve::Origin { points: 50 });
    let kinds =
        [("epsilon", Prediction::Epsilon), ("v_prediction", Prediction::V), ("sample", Prediction::Clean)];
    for (name, prediction) in kinds {
        for n in [1, 2, 4, 8] {
            cases.push(Case::new(format!("lcm-{name}-{n}"), "lcm", (SD, prediction, AS_IS), origin(n)));
        }
    }
    for eta in [0.0, 0.3, 1.0] {
        for n in [1, 4, 8] {
            let network = (SD, Prediction::Epsilon, AS_IS);
            cases.push(Case::new(format!("tcd-{eta:?}-{n}"), "tcd", network, origin(n)).eta(eta));
        }
    }
    solvers(&mut cases);
    angles(&mut cases);
    flow_maps(&mut cases);
    cases.push(Case::new(
        "dmd2",
        "dmd2",
        (SD, Prediction::Epsilon, AS_IS),
        Grid::times(&[999.0, 749.0, 499.0, 249.0, 0.0]),
    ));
    let steps = Grid::times(&[1.0, 0.75, 0.4, 0.0]);
    cases.push(Case::new("pcm", "pcm-stochastic", (FLOW, Prediction::Velocity, AS_IS), steps));
    let ect = (EDM, Prediction::Edm { sigma_data: 0.5 }, LN);
    cases.push(Case::new("ect", "ect", ect, Grid::times(&[80.0, 0.821, 0.0])));
    cases
}

/// Of networks that know one time.
fn solvers(cases: &mut Vec<Case>) {
    let sd = (SD, Prediction::Epsilon, AS_IS);
    let spacings = [
        ("trailing", Curve::Trailing),
        ("leading", Curve::Leading { offset: 1 }),
        ("linspace", Curve::Linspace),
    ];
    for (name, spacing) in spacings {
        for n in [2, 5, 20] {
            let grid = spaced(n, spacing);
            cases.push(Case::new(format!("euler-{name}-{n}"), "euler", sd, grid));
            cases.push(Case::new(format!("ancestral-{name}-{n}"), "euler-ancestral", sd, grid));
            cases.push(Case::new(format!("heun-{name}-{n}"), "heun", sd, grid));
        }
    }
    for (name, spacing) in &spacings[..2] {
        for eta in [0.0, 0.7] {
            for n in [1, 3, 4, 20] {
                let label = format!("ddim-{name}-{eta:?}-{n}");
                cases.push(Case::new(label, "ddim", sd, spaced(n, *spacing)).eta(eta));
            }
        }
    }
    let linear = Betas::Linear { first: 0.0001, last: 0.02 };
    for (name, betas) in [("linear", linear), ("squaredcos_cap_v2", Betas::Cosine)] {
        for n in [1, 2, 3, 8, 20] {
            let network = (Process::Preserving { betas }, Prediction::Epsilon, AS_IS);
            let grid = spaced(n, Curve::Trailing);
            cases.push(Case::new(format!("dpmpp-{name}-{n}"), "dpmpp-2m", network, grid));
            cases.push(Case::new(format!("dpmpp-sde-{name}-{n}"), "dpmpp-2m-sde", network, grid));
            cases.push(Case::new(format!("unipc-{name}-{n}"), "unipc", network, grid));
            cases.push(Case::new(format!("ddpm-{name}-{n}"), "ddpm", network, grid));
        }
    }
    for n in [1, 2, 5, 18] {
        let (edm, grid) =
            ((EDM, Prediction::Edm { sigma_data: 0.5 }, LN), Grid::new(Curve::KarrasPadded { rho: 7.0 }, n));
        for (label, sampler) in [("heun", "heun"), ("euler", "euler"), ("dpmpp", "dpmpp-2m")] {
            cases.push(Case::new(format!("edm-{label}-{n}"), sampler, edm, grid));
        }
    }
    for n in [1, 4] {
        let network = (FLOW, Prediction::Velocity, AS_IS);
        cases.push(Case::new(format!("flow-heun-{n}"), "heun", network, Grid::steps(n)));
    }
    let betas = Betas::ScaledLinear { first: 0.00085, last: 0.012 };
    for n in [4, 6, 8] {
        let network = (FLOW, Prediction::WindowedNoise { betas }, Time::Linear { scale: 1000.0 });
        let case = Case::new(format!("perflow-{n}"), "perflow", network, Grid::new(Curve::Windows, n));
        cases.push(Case { divisor: 1000.0, ..case });
    }
    for n in [1, 3] {
        let network = (FLOW, Prediction::DataVelocity, AS_IS);
        cases.push(Case::new(format!("instaflow-{n}"), "instaflow", network, Grid::steps(n)));
    }
}

fn angles(cases: &mut Vec<Case>) {
    for n in [1, 2, 4] {
        let sana = (ANGLES, Prediction::Velocity, Time::Share { scale: 1.0 });
        cases.push(Case::new(format!("scm-sana-{n}"), "scm", sana, Grid::steps(n)));
        let trigflow = (ANGLES, Prediction::V, AS_IS);
        cases.push(Case::new(format!("scm-trigflow-{n}"), "scm", trigflow, Grid::steps(n)));
    }
}

fn flow_maps(cases: &mut Vec<Case>) {
    for gamma in [0.0, 0.5, 1.0] {
        let network = (EDM, Prediction::EdmConsistency { sigma_data: 0.5 }, LN);
        let grid = Grid::times(&[80.0, 10.0, 1.5, 0.002]);
        cases.push(Case::new(format!("ctm-{gamma:?}"), "ctm", network, grid).eta(gamma).second(|i| i.s));
    }
    for (name, prediction) in [
        ("euler_fm", Prediction::ScaledVelocity { sigma_data: 0.5 }),
        ("simple_edm", Prediction::SimpleEdm { sigma_data: 0.5 }),
    ] {
        let grid = Grid::times(&[0.994, 0.6, 0.2, 0.0]);
        cases.push(Case::new(format!("imm-{name}"), "imm", (FLOW, prediction, AS_IS), grid).second(|i| i.s));
    }
    for n in [1, 4, 8] {
        let network = (FLOW, Prediction::Velocity, Time::Reversed { scale: 1.0 });
        let case = Case::new(format!("shortcut-{n}"), "shortcut", network, Grid::steps(n));
        cases.push(case.second(|i| i.h));
    }
}

fn golden(label: &str) -> [f64; 4] {
    let mut words = GOLDENS.lines().map(str::split_whitespace);
    let mut words = words.find_map(|mut words| (words.next() == Some(label)).then_some(words)).expect(label);
    core::array::from_fn(|_| words.next().unwrap().parse().unwrap())
}

/// Largest difference, relative to the largest element.
fn error(found: [f64; 4], expected: [f64; 4]) -> f64 {
    let largest = |values: [f64; 4]| values.into_iter().fold(0.0, |most: f64, v| most.max(v.abs()));
    largest(core::array::from_fn(|j| found[j] - expected[j])) / largest(expected)
}

#[test]
fn trajectories_are_those_of_the_references() {
    let mut bad = Vec::new();
    for case in cases() {
        let expected = golden(&case.label);
        let (exact, rounded) = (error(case.in_f64(), expected), error(case.in_f32(), expected));
        std::println!("{} {exact:.1e} {rounded:.1e}", case.label);
        if !(exact < F64_ERROR && rounded < F32_ERROR) {
            bad.push(format!("{}: {exact:.1e} in f64, {rounded:.1e} in f32", case.label));
        }
    }
    assert!(bad.is_empty(), "{bad:#?}");
}

/// Those that are missing here have their references in their own files.
#[test]
fn every_sampler_has_a_golden() {
    let cases = cases();
    let mut known: HashSet<&str> = cases.iter().map(|case| find(case.sampler).unwrap().name).collect();
    known.extend(["consistency", "meanflow", "meanflow-sde"]);
    for sampler in SAMPLERS {
        assert!(known.contains(sampler.name), "{}", sampler.name);
    }
    assert_eq!(cases.len(), GOLDENS.lines().count());
}
