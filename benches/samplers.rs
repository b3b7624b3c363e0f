//! Tables of 8 steps for every sampler and for every schedule, and the update of a million numbers against a plain pass over as
//! many bytes. Medians, one thread.
//!
//! `cargo bench --no-default-features --features std --bench samplers`

use fewstep::sampler::*;
use std::hint::black_box;
use std::time::Instant;

/// Bound in microseconds for a table.
const TABLE: f64 = 20.0;
const STEPS: usize = 8;
const ELEMENTS: usize = 1_000_000;

const NOISE_LEVELS: Parameterisation = Parameterisation {
    process: Process::Exploding { sigma_min: 0.002, sigma_max: 80.0 },
    prediction: Prediction::Edm { sigma_data: 0.5 },
    time: Time::Log { scale: 0.25 },
};
const STABLE: Process = Process::Preserving { betas: Betas::scaled_linear(0.00085, 0.012) };
const TIMESTEPS: Parameterisation =
    Parameterisation { process: STABLE, prediction: Prediction::Epsilon, time: Time::Linear { scale: 1.0 } };
const FLOW: Parameterisation = Parameterisation {
    process: Process::RectifiedFlow,
    prediction: Prediction::Velocity,
    time: Time::Linear { scale: 1000.0 },
};
const ANGLES: Parameterisation = Parameterisation {
    process: Process::Trigonometric { sigma_data: 0.5 },
    prediction: Prediction::V,
    time: Time::Linear { scale: 1.0 },
};
const NETWORKS: [(&str, Parameterisation); 4] =
    [("noise levels", NOISE_LEVELS), ("timesteps", TIMESTEPS), ("flow", FLOW), ("angles", ANGLES)];

/// Microseconds.
fn median(runs: usize, mut work: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..runs)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[runs / 2]
}

/// The time that a table takes, if the sampler makes one for this network on this grid.
fn table(sampler: &Sampler, network: &Parameterisation, grid: &Grid<'_>) -> Option<f64> {
    let make = || sampler.table(black_box(network), black_box(grid), &Options::default());
    make().ok()?;
    Some(median(201, || {
        let _ = black_box(make());
    }))
}

fn main() {
    let mut slowest: f64 = 0.0;
    let mut report = |label: &str, on: &str, micros: Option<f64>| {
        if let Some(micros) = micros {
            println!("{label:<24}{on:<16}{micros:>8.2} us");
            slowest = slowest.max(micros);
        }
    };
    for sampler in SAMPLERS {
        for (on, network) in &NETWORKS {
            report(sampler.name, on, table(sampler, network, &Grid::steps(STEPS)));
        }
    }
    let euler = find("euler").expect("a sampler");
    for schedule in SCHEDULES {
        for (on, network) in &NETWORKS {
            let curve = schedule.curve(network.process, &Parameters::default());
            report(schedule.name, on, table(euler, network, &Grid::new(curve, STEPS)));
        }
    }
    println!("{:<40}{slowest:>8.2} us   (bound {TABLE:.0})", "slowest table");
    updates();
    assert!(slowest < TABLE, "a bound is exceeded");
}

fn updates() {
    let mut x = vec![0.5f32; ELEMENTS];
    let (f, z) = (vec![0.25f32; ELEMENTS], vec![-0.5f32; ELEMENTS]);
    let report = |label: &str, passes: usize, micros: f64| {
        let bytes = (4 * passes * ELEMENTS) as f64;
        println!("{label:<40}{micros:>8.0} us {:>8.1} GB/s", bytes / micros / 1e3);
    };
    let triad = median(51, || {
        for ((x, f), z) in x.iter_mut().zip(&f).zip(&z) {
            *x = f + 0.75 * z;
        }
        black_box(&x);
    });
    report("plain x = f + a*z", 3, triad);
    for (name, noise) in
        [("euler", None), ("euler-ancestral", Some(z.as_slice())), ("dpmpp-2m", None), ("unipc", None)]
    {
        let sampler = find(name).expect("a sampler");
        let table = sampler.table(&TIMESTEPS, &Grid::steps(STEPS), &Options::default()).expect("a table");
        let depth = table.history();
        let mut history = vec![0.0; depth * ELEMENTS];
        let step = STEPS / 2;
        let micros =
            median(51, || advance(&table, step, black_box(&mut x), &f, noise, &mut history).expect("a step"));
        // What is kept is read, as deep as it is, and written once.
        let passes = 3 + usize::from(noise.is_some()) + depth + usize::from(depth > 0);
        report(&format!("{name}, {depth} kept"), passes, micros);
    }
}
