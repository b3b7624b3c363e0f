//! Whole trajectories against the references: the golden cases that the scripts of tests/golden write.

mod support;

use fewstep::sampler::{self, SAMPLERS};
use std::collections::HashSet;
use support::network::Point;
use support::{Case, START, cases, distance, noise, run, start};

/// Of the coefficients.
const F64_ERROR: f64 = 1e-9;
/// Of the kernel.
const F32_ERROR: f64 = 2e-5;

#[test]
fn trajectories_are_those_of_the_references() {
    let mut failures = Vec::new();
    for case in cases() {
        let (exact, draws) = in_f64(&case);
        let (exact, rounded) = (distance(&exact, &case.result), distance(&in_f32(&case), &case.result));
        println!("{} {exact:.1e} {rounded:.1e}", case.label);
        if !(exact <= F64_ERROR && rounded <= F32_ERROR && draws == case.draws) {
            let (label, expected) = (&case.label, case.draws);
            failures.push(format!(
                "{label}: off by {exact:.1e} in f64 and {rounded:.1e} in f32, {draws} draws of {expected}"
            ));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_sampler_has_a_case() {
    let cases = cases();
    let known: HashSet<&str> = cases.iter().map(|case| case.manifest.sampling.sampler.name).collect();
    for sampler in SAMPLERS {
        assert!(known.contains(sampler.name), "{}", sampler.name);
    }
}

#[test]
fn labels_are_unique() {
    let mut seen = HashSet::new();
    for case in cases() {
        assert!(seen.insert(case.label.clone()), "{} twice", case.label);
    }
}

fn in_f64(case: &Case) -> (Vec<Point>, usize) {
    let (table, mut x) = (case.table(), START);
    let draws = start(&table, &mut x);
    let draws = run(&table.rows, &mut x, draws, |fed, inputs| case.network.evaluate(fed, inputs));
    (case.observed(&x), draws)
}

fn in_f32(case: &Case) -> Vec<Point> {
    let table = case.table();
    let mut x: Vec<f32> = START.as_flattened().iter().map(|&x| x as f32).collect();
    let (mut fed, mut history) = (vec![0.0; x.len()], vec![f32::NAN; x.len() * table.history()]);
    let mut draws = 0;
    let mut draw = || {
        draws += 1;
        (0..START.as_flattened().len()).map(|j| noise(draws - 1, j) as f32).collect::<Vec<f32>>()
    };
    let more = table.initial_noise.map(|_| draw());
    sampler::start(&table, &mut x, more.as_deref()).expect("noise if it is needed");
    for (step, row) in table.rows.iter().enumerate() {
        sampler::feed(row, &x, &mut fed).expect("slices of one length");
        let points = fed.as_chunks::<2>().0.iter();
        let f: Vec<f32> = points
            .flat_map(|p| case.network.evaluate(p.map(f64::from), &row.inputs))
            .map(|f| f as f32)
            .collect();
        let z = row.noise.map(|_| draw());
        sampler::advance(&table, step, &mut x, &f, z.as_deref(), &mut history).expect("a step");
    }
    let points: Vec<Point> = x.as_chunks::<2>().0.iter().map(|p| p.map(f64::from)).collect();
    case.observed(&points)
}
