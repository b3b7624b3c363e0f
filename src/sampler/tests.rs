//! What holds for every row of `SAMPLERS`.

extern crate std;
use super::*;
use std::{collections::HashSet, string::ToString, vec::Vec};

/// Networks of every kind. Each sampler takes some of them.
fn examples() -> Vec<Parameterisation> {
    let noise_levels = Process::Exploding { sigma_min: 0.002, sigma_max: 80.0 };
    let betas = Betas::scaled_linear(0.00085, 0.012);
    let timesteps = Process::Preserving { betas };
    let reverting = Process::MeanReverting { theta: 1.5, sigma_min: 0.05, sigma_max: 0.5 };
    let as_is = Time::Linear { scale: 1.0 };
    [
        (noise_levels, Prediction::EdmConsistency { sigma_data: 0.5 }, Time::Log { scale: 250.0 }),
        (Process::RectifiedFlow, Prediction::Velocity, as_is),
        (Process::RectifiedFlow, Prediction::SimpleEdm { sigma_data: 0.5 }, as_is),
        (Process::RectifiedFlow, Prediction::WindowedNoise { betas }, as_is),
        (Process::RectifiedFlow, Prediction::VelocityGrid { points: 10 }, as_is),
        (Process::RectifiedFlow, Prediction::NextState, as_is),
        (timesteps, Prediction::Epsilon, as_is),
        (Process::Trigonometric { sigma_data: 0.5 }, Prediction::V, as_is),
        (reverting, Prediction::Score, as_is),
    ]
    .map(|(process, prediction, time)| Parameterisation { process, prediction, time })
    .to_vec()
}

/// Of the examples, those that a sampler takes.
pub(crate) fn accepted(sampler: &Sampler) -> Vec<Parameterisation> {
    // PeRFlow takes no less than four.
    let fits = |p: &Parameterisation| sampler.table(p, &Grid::steps(4), &Options::default()).is_ok();
    examples().into_iter().filter(fits).collect()
}

#[test]
fn every_family_has_a_sampler() {
    for family in Family::ALL {
        assert!(family.samplers().next().is_some(), "{family}");
    }
}

#[test]
fn names_and_aliases_are_unique_and_found() {
    let mut seen = HashSet::new();
    for sampler in SAMPLERS {
        for name in core::iter::once(&sampler.name).chain(sampler.aliases) {
            assert!(seen.insert(*name), "{name} twice");
            assert_eq!(find(name).unwrap().name, sampler.name);
        }
    }
}

#[test]
fn the_documentation_lists_every_row() {
    let page = include_str!("../../docs/samplers.md");
    for sampler in SAMPLERS {
        let families: Vec<&str> = sampler.families.iter().map(|family| family.name()).collect();
        let line = std::format!(
            "| `{}` | `{}` | {} | {} | {} |",
            sampler.name,
            sampler.aliases.join("`, `"),
            families.join(", "),
            sampler.order,
            if sampler.stochastic { "each step" } else { "initial only" }
        );
        assert!(page.contains(&line), "{line}");
    }
}

#[test]
fn an_unknown_name_lists_those_that_exist() {
    let error = find("hume").unwrap_err().to_string();
    assert!(error.starts_with("there is no sampler `hume`; there are `consistency`, `lcm`, "), "{error}");
    assert!(find(&"é".repeat(1000)).unwrap_err().to_string().len() < error.len() + 100);
}

/// Holds for every row of `SAMPLERS`, present and future.
#[test]
fn every_table_is_finite_and_as_long_as_it_says() {
    for sampler in SAMPLERS {
        assert!(!accepted(sampler).is_empty(), "{}", sampler.name);
        for example in accepted(sampler) {
            let fewest = if sampler.name == "perflow" { 4 } else { 1 };
            // PLMS takes its first step twice if it is not the only one.
            let twice = usize::from(sampler.name == "plms");
            let most = MAX_STEPS / usize::from(sampler.evaluations_per_step) - twice;
            for steps in [fewest, 2 * fewest, 16, most] {
                let table = sampler
                    .table(&example, &Grid::steps(steps), &Options::default())
                    .unwrap_or_else(|error| panic!("{} {steps}: {error}", sampler.name));
                // Speech enhancement corrects before its last step as well.
                let last = usize::from(sampler.name == "predictor-corrector");
                let again = last + if steps > 1 { twice } else { 0 };
                let rows = (steps - 1) * usize::from(sampler.evaluations_per_step) + 1 + again;
                assert_eq!(table.rows.len(), rows);
                assert!(table.initial_scale.is_finite() && table.initial_scale > 0.0);
                check_rows(sampler, &table);
            }
        }
    }
}

fn check_rows(sampler: &Sampler, table: &Table) {
    let rows = &table.rows;
    for row in rows {
        let Inputs { scale, t, s, h } = row.inputs;
        let pairs = [row.estimate, row.update, row.clean];
        let finite = pairs.iter().all(|pair| pair.x.is_finite() && pair.y.is_finite())
            && [scale, t, s, h, row.noise.unwrap_or(0.0)].iter().all(|value| value.is_finite())
            && row.earlier.iter().all(|value| value.is_finite());
        assert!(finite && h >= 0.0, "{} {row:?}", sampler.name);
    }
    let last = rows[rows.len() - 1];
    let draws = rows[..rows.len() - 1].iter().any(|row| row.noise.is_some());
    assert_eq!(draws, sampler.stochastic && rows.len() > 1, "{}", sampler.name);
    // TCD may stop at timestep 0, CTM at sigma_min and pi-Flow just before 0, which are not yet the data; the others have
    // rules of their own for the last step, and one of them ends in noise.
    let early = ["tcd", "ctm", "ctm-chain", "pi-flow"];
    let own = [
        "ddim",
        "ddim-inverse",
        "ddpm-large",
        "lms",
        "ipndm",
        "plms",
        "reverse-diffusion",
        "predictor-corrector",
    ];
    let others = [&early[..], &own].concat();
    if !others.contains(&sampler.name) {
        assert_eq!((last.update, last.noise.unwrap_or(0.0)), (last.clean, 0.0), "{}", sampler.name);
    }
}

#[test]
fn every_sampler_refuses_bad_settings() {
    for sampler in SAMPLERS {
        let example = accepted(sampler)[0];
        let refused = |options| sampler.table(&example, &Grid::steps(4), &options).unwrap_err();
        for value in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let error = refused(Options { clamp: Some(value), ..Options::default() });
            assert!(matches!(error, Error::BadSetting { name: "clamp", .. }));
        }
        for value in [-0.1, 1.1, f64::NAN] {
            let error = refused(Options { eta: Some(value), ..Options::default() });
            let known = matches!(error, Error::BadSetting { name: "eta", .. });
            assert!(known || (sampler.eta.is_none() && matches!(error, Error::Unsupported { .. })));
        }
        let eta = Options { eta: Some(0.5), ..Options::default() };
        assert_eq!(sampler.table(&example, &Grid::steps(4), &eta).is_ok(), sampler.eta.is_some());
        let error = sampler.table(&example, &Grid::steps(0), &Options::default()).unwrap_err();
        assert_eq!(error, Error::NoSteps);
    }
}

#[test]
fn networks_that_do_not_fit_are_refused_with_what_would() {
    for sampler in SAMPLERS {
        for example in examples() {
            // Any prediction on any process: what fits gives a table, the rest an error and never a wrong sample.
            for process in examples().into_iter().map(|other| other.process) {
                let mixed = Parameterisation { process, ..example };
                match sampler.table(&mixed, &Grid::steps(4), &Options::default()) {
                    Ok(_) if ["perflow", "pi-flow", "next-state"].contains(&sampler.name) => {
                        assert_eq!(mixed, example);
                    }
                    Ok(_) => assert_eq!(mixed.mismatch(), None, "{}", sampler.name),
                    Err(error) => assert!(matches!(error, Error::Unsupported { .. }), "{error}"),
                }
            }
        }
    }
}

/// On normal data of deviation 1/2 the trajectory and the clean estimate are known. Halving the steps' length divides
/// the distance to it by 2 to the power of the order that a row claims.
#[test]
fn solvers_have_the_order_that_they_claim() {
    const DEVIATION: f64 = 0.5;
    let process = Process::Exploding { sigma_min: 0.05, sigma_max: 2.0 };
    let parameterisation =
        Parameterisation { process, prediction: Prediction::Clean, time: Time::Linear { scale: 1.0 } };
    let mut solvers = 0;
    // Adams' methods come to their order only with more steps: they are in tests/truth.rs.
    let claims = |sampler: &&Sampler| !sampler.stochastic && !["lms", "ipndm"].contains(&sampler.name);
    for sampler in Family::Diffusion.samplers().filter(claims) {
        // Down to a noise level, for the step to the data has an error of its own.
        let distance = |steps: usize| {
            let grid = Grid::new(Curve::Karras { rho: 7.0 }, steps);
            let table = sampler.table(&parameterisation, &grid, &Options::default())?;
            let evaluations = (steps - 1) * usize::from(sampler.evaluations_per_step);
            let (mut x, mut earlier) = (1.7, [0.0; MAX_HISTORY]);
            for row in &table.rows[..evaluations] {
                let sigma = row.inputs.t;
                let clean = x * DEVIATION * DEVIATION / (DEVIATION * DEVIATION + sigma * sigma);
                let back: f64 = row.earlier.iter().zip(earlier).map(|(d, kept)| d * kept).sum();
                earlier = [row.keep.x * x + row.keep.y * clean, earlier[0], earlier[1]];
                x = row.update.x * x + row.update.y * clean + back;
            }
            let last = table.rows[evaluations].inputs.t;
            let expected = 1.7 * libm::hypot(DEVIATION, last) / libm::hypot(DEVIATION, 2.0);
            Ok::<f64, Error>((x - expected).abs())
        };
        // Those for timesteps alone have their goldens.
        let (Ok(coarse), Ok(fine)) = (distance(16), distance(32)) else { continue };
        let order = (coarse / fine).log2();
        assert!((order - f64::from(sampler.order)).abs() < 0.35, "{}: {order}", sampler.name);
        solvers += 1;
    }
    assert!(solvers >= 4);
}

#[test]
fn errors_are_one_line() {
    let errors: Vec<Error> = std::vec![
        Error::NoSteps,
        Error::TooManySteps { steps: 65 },
        Error::BadTime { index: 1, value: f64::NAN },
        Error::NotFalling { index: 0, value: 1.0, next: 2.0 },
        Error::AboveStart { first: 81.0, start: 80.0 },
        Error::Unfinished { last: 0.5, end: 0.0 },
        Error::OutsideGrid { index: 40, points: 40 },
        Error::MissingNoise,
        Error::MissingHistory,
        Error::WindowLength { name: "the noise", found: 4, expected: 8 },
        Error::TooManyEvaluations { evaluations: 65 },
        Error::NoSuchStep { step: 3, steps: 3 },
        Error::BadGrid { what: "timesteps", accepts: "trailing" },
    ];
    for error in errors {
        assert!(!error.to_string().contains('\n') && error.to_string().len() > 30, "{error}");
    }
}
