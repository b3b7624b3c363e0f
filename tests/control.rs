//! Control against transcriptions: tests/golden/guidance/guidance.py.

use fewstep::sampler::{
    self, Betas, Edit, Grid, Level, Options, Parameterisation, Prediction, Process, Row, SAMPLERS, Table,
    Time, add_noise, advance, clean, feed, interpolate, keep, slerp, start,
};

const SHAPE: [usize; 3] = [3, 8, 16];
const TOLERANCE: f64 = 2e-5;

const CM: Parameterisation = Parameterisation {
    process: Process::Exploding { sigma_min: 0.002, sigma_max: 80.0 },
    prediction: Prediction::EdmConsistency { sigma_data: 0.5 },
    time: Time::Log { scale: 250.0 },
};

/// As guidance.py has it.
fn image(draw: usize) -> Vec<f32> {
    let count = SHAPE.iter().product::<usize>();
    (0..count).map(|j| (((draw * count + j) * 37 % 101) as f64 / 50.5 - 1.0) as f32).collect()
}

fn map(values: &[f32], change: impl Fn(f32) -> f32) -> Vec<f32> {
    values.iter().map(|&v| change(v)).collect()
}

fn golden(key: &str) -> Vec<f64> {
    let text = include_str!("golden/guidance/control.toml");
    let parsed: toml::Table = text.parse().expect("arrays");
    parsed[key].as_array().expect("an array").iter().map(|v| v.as_float().expect("a number")).collect()
}

fn assert_near(found: &[f32], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len());
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((f64::from(*found) - expected).abs() < TOLERANCE, "{what} {i}: {found} {expected}");
    }
}

fn table(name: &str, parameterisation: &Parameterisation, grid: Grid<'_>, options: &Options) -> Table {
    sampler::find(name).and_then(|s| s.table(parameterisation, &grid, options)).expect("a table")
}

#[test]
fn edits_are_those_of_the_consistency_models() {
    let options = Options { clamp: Some(1.0), ..Options::default() };
    let table = table("consistency", &CM, Grid::times(&[80.0, 24.4, 5.84, 0.9, 0.002]), &options);
    let on_clean = table.on_clean().expect("clean estimates");
    let (reference, mask) = (image(3), map(&image(7), |v| if v > 0.2 { 1.0 } else { 0.0 }));
    for (edit, name) in
        [(Edit::Inpaint, "inpaint"), (Edit::Colorize, "colorize"), (Edit::SuperResolution, "superres")]
    {
        let mut x = image(0);
        let (mut input, mut estimate) = (x.clone(), x.clone());
        start(&table, &mut x, None).expect("a start");
        for (step, row) in table.rows.iter().enumerate() {
            feed(row, &x, &mut input).expect("an input");
            let f = map(&input, |v| (3.0 * v).sin() + row.inputs.t as f32 / 1000.0);
            clean(row, &x, &f, &mut estimate).expect("an estimate");
            edit.apply(&SHAPE, &reference, &mask, &mut estimate).expect("an edit");
            advance(&on_clean, step, &mut x, &estimate, Some(&image(10 + step)), &mut []).expect("a step");
        }
        assert_near(&x, &golden(name), name);
    }
}

/// Every sampler takes the same trajectory from clean estimates that nobody changed.
#[test]
fn an_unchanged_estimate_changes_nothing() {
    let parameterisations = [
        CM,
        Parameterisation { prediction: Prediction::Clean, time: Time::Linear { scale: 1.0 }, ..CM },
        Parameterisation {
            process: Process::RectifiedFlow,
            prediction: Prediction::Velocity,
            time: Time::Linear { scale: 1.0 },
        },
        Parameterisation {
            process: Process::Preserving { betas: Betas::scaled_linear(0.00085, 0.012) },
            prediction: Prediction::Epsilon,
            time: Time::Linear { scale: 1.0 },
        },
    ];
    let (mut compared, mut refused) = (0, Vec::new());
    for sampler in SAMPLERS {
        for parameterisation in &parameterisations {
            let Ok(table) = sampler.table(parameterisation, &Grid::steps(4), &Options::default()) else {
                continue;
            };
            let Ok(on_clean) = table.on_clean() else {
                refused.push(sampler.name);
                continue;
            };
            let run = |edited: bool| {
                let (mut x, mut input, mut estimate) = ([0.7, -1.2], [0.0; 2], [0.0; 2]);
                let mut history = vec![0.0; 2 * table.history()];
                start(&table, &mut x, Some(&[0.1, 0.2])).expect("a start");
                for (step, row) in table.rows.iter().enumerate() {
                    feed(row, &x, &mut input).expect("an input");
                    let f = input.map(|v| v.sin() / 2.0);
                    clean(row, &x, &f, &mut estimate).expect("an estimate");
                    let (table, output) = if edited { (&on_clean, &estimate) } else { (&table, &f) };
                    advance(table, step, &mut x, output, Some(&[0.3, -0.4]), &mut history).expect("a step");
                }
                x
            };
            let (plain, edited) = (run(false), run(true));
            for (plain, edited) in plain.iter().zip(edited) {
                let off = (plain - edited).abs() / plain.abs().max(1.0);
                assert!(off < 2e-4, "{} {parameterisation:?}: {plain} {edited}", sampler.name);
            }
            compared += 1;
        }
    }
    assert!(compared > SAMPLERS.len() / 2, "{compared}");
    // It begins with data, of which the network's output says nothing.
    assert_eq!(refused, ["ddim-inverse"]);
}

#[test]
fn edits_need_images_that_have_what_they_keep() {
    for (edit, shape, fits) in [
        (Edit::Inpaint, &[6][..], true),
        (Edit::Colorize, &[3, 5, 5], true),
        (Edit::Colorize, &[1, 5, 5], false),
        (Edit::Colorize, &[3], false),
        (Edit::SuperResolution, &[1, 16, 8], true),
        (Edit::SuperResolution, &[1, 28, 28], false),
    ] {
        assert_eq!(edit.check(shape).is_ok(), fits, "{edit:?} {shape:?}");
    }
    let error = Edit::Colorize.check(&[1, 8, 8]).expect_err("one channel").to_string();
    assert!(error.contains("the edit colorize needs images of three channels"), "{error}");
    let mut x = [0.0; 3];
    assert!(Edit::Inpaint.apply(&[3], &[0.0; 2], &[0.0; 3], &mut x).is_err());
    assert!(Edit::Inpaint.apply(&[3], &[0.0; 3], &[0.0; 2], &mut x).is_err());
}

/// diffusers: `add_noise`, and `(1 - m) * add_noise(ref, t) + m * x` after each step.
#[test]
fn a_mask_keeps_the_noised_reference() {
    let level = Level { alpha: 0.6, sigma: 0.8 };
    let (reference, z) = ([1.0, -1.0, 0.5], [0.5, 0.25, -2.0]);
    let mut noised = [0.0; 3];
    add_noise(level, &reference, &z, &mut noised).expect("slices");
    assert_near(&noised, &[1.0, -0.4, -1.3], "noised");
    let mut x = [9.0; 3];
    keep(level, &reference, &z, &[0.0, 1.0, 0.5], &mut x).expect("slices");
    assert_near(&x, &[1.0, 9.0, 3.85], "kept");
    assert!(keep(level, &reference, &z, &[0.0; 2], &mut x).is_err());
}

#[test]
fn noise_between_two_noises_is_noise() {
    let (z0, z1) = (image(0), image(1));
    let mut between = z0.clone();
    slerp(&mut between, &z1, 0.3).expect("slices");
    assert_near(&between, &golden("slerp"), "slerp");
    for (a, end) in [(0.0, &z0), (1.0, &z1)] {
        for mix in [slerp, interpolate] {
            let mut z = z0.clone();
            mix(&mut z, &z1, a).expect("slices");
            assert_near(&z, &end.iter().map(|&v| f64::from(v)).collect::<Vec<_>>(), "end");
        }
    }
    let mut z = [1.0, 0.0];
    interpolate(&mut z, &[0.0, 1.0], 0.6).expect("slices");
    assert_near(&z, &[0.8, 0.6], "interpolate");
    slerp(&mut [1.0], &[1.0], 0.5).expect("no angle between");
    assert!(slerp(&mut z, &[0.0; 3], 0.5).is_err());
}

/// The last steps of the grid, whose rules still count all of them: diffusers' `get_timesteps`.
#[test]
fn strength_takes_the_last_steps() {
    let betas = Betas::scaled_linear(0.00085, 0.012);
    let diffusion = Parameterisation {
        process: Process::Preserving { betas },
        prediction: Prediction::Epsilon,
        time: Time::Linear { scale: 1.0 },
    };
    for (name, taken) in [("ddim", 2), ("euler", 2), ("lcm", 2), ("heun", 3)] {
        let of =
            |strength| table(name, &diffusion, Grid::steps(4), &Options { strength, ..Options::default() });
        let (all, last) = (of(1.0).rows, of(0.6).rows);
        assert_eq!(last[..], all[all.len() - taken..], "{name}");
    }
    // A multistep rule begins anew: its first row looks at nothing.
    let row = |strength| -> Row {
        table("dpmpp-2m", &diffusion, Grid::steps(4), &Options { strength, ..Options::default() }).rows[0]
    };
    assert_eq!(row(0.5).earlier, [0.0; sampler::MAX_HISTORY]);
    assert!((row(0.5).level.alpha - diffusion_alpha(499)).abs() < 1e-12);
    for strength in [0.2, 0.0, -1.0, 1.5, f64::NAN] {
        let options = Options { strength, ..Options::default() };
        let found = sampler::find("ddim").expect("ddim").table(&diffusion, &Grid::steps(4), &options);
        assert!(found.expect_err("no steps").to_string().starts_with("strength is"), "{strength}");
    }
}

/// diffusers' scaled linear betas.
fn diffusion_alpha(timestep: usize) -> f64 {
    let root = |i: usize| {
        let (first, last) = (0.00085f64.sqrt(), 0.012f64.sqrt());
        first + i as f64 / 999.0 * (last - first)
    };
    (0..=timestep).map(|i| 1.0 - root(i) * root(i)).product::<f64>().sqrt()
}
