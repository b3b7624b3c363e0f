//! Steps that are taken at once, on the analytic network.

mod support;

use fewstep::manifest::Request;
use fewstep::sampler::{self, Parallel, Table};
use support::network::Network;
use support::{START, manifest, noise};

const SAMPLING: &str = "family = 'diffusion'\nprediction = 'epsilon'\ntime = 'timestep'\nbetas = 'scaled-linear'\n\
                        beta_start = 0.00085\nbeta_end = 0.012\nsteps = 50";

fn table(sampler: &str) -> Table {
    let request = Request { sampler: Some(sampler), ..Request::default() };
    manifest(SAMPLING, None).table(&request).expect("a table")
}

/// The sample, and how many rounds it took.
fn run(table: &Table, window: usize, tolerance: f64) -> (Vec<f32>, usize) {
    let (network, ancestral) = (Network::new(SAMPLING, None), self::table("ddpm"));
    let mut x: Vec<f32> = START.as_flattened().iter().map(|&x| x as f32).collect();
    let n = x.len();
    sampler::start(table, &mut x, None).expect("a start");
    let noise: Vec<f32> = (0..table.rows.len() * n).map(|i| noise(i / n, i % n) as f32).collect();
    let mut run = Parallel::new(table, &ancestral, window, tolerance).expect("a run");
    let mut states = vec![0.0; run.states() * n];
    run.start(&x, &mut states).expect("a start");
    let mut rounds = 0;
    while !run.rows().is_empty() {
        let evaluate = |(row, x): (&sampler::Row, &[f32])| {
            let points = x.as_chunks::<2>().0.iter();
            let fed = points.map(|p| p.map(|x| row.inputs.scale * f64::from(x)));
            let f = fed.flat_map(|fed| network.evaluate(fed, &row.inputs).map(|f| f as f32));
            f.collect::<Vec<f32>>()
        };
        let f: Vec<f32> = run.rows().iter().zip(states.chunks(n)).flat_map(evaluate).collect();
        run.advance(&mut states, &f, &noise).expect("a round");
        rounds += 1;
    }
    (states[..n].to_vec(), rounds)
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn a_little_tolerance_saves_most_rounds() {
    for sampler in ["ddim", "ddpm"] {
        let table = table(sampler);
        // One step at a time is the sequential run.
        let (expected, rounds) = run(&table, 1, 0.0);
        assert_eq!(rounds, 50);
        let (exact, rounds) = run(&table, 50, 0.0);
        assert!(distance(&exact, &expected) <= 1e-5 && rounds <= 50);
        let mut before = rounds;
        for tolerance in [1e-2, 1e-1] {
            let (found, rounds) = run(&table, 50, tolerance);
            println!("{sampler} {tolerance}: {rounds} rounds, off by {}", distance(&found, &expected));
            assert!(rounds < before && rounds <= 30, "{sampler} {tolerance}: {rounds}");
            assert!(f64::from(distance(&found, &expected)) < 3.0 * tolerance, "{sampler} {tolerance}");
            before = rounds;
        }
    }
}
