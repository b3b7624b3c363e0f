//! diffusers' scheduler_config.json: the runs of tests/golden/configs.py, files that say what has no counterpart, and manifests
//! that name a file.

mod support;

use fewstep::manifest::{Manifest, Request, Sampling};
use fewstep::sampler::Table;
use std::{fs, path::Path};
use support::network::{Network, Point};
use support::{START, distance, golden, run, start};

/// Of the coefficients.
const F64_ERROR: f64 = 1e-9;

#[test]
fn runs_are_those_that_diffusers_makes_of_the_file() {
    let text = fs::read_to_string(golden("schedulers/configs.toml")).expect("configs.toml");
    let cases: toml::Table = text.parse().expect("TOML");
    let cases = cases["case"].as_array().expect("cases");
    let failures: Vec<String> = cases.iter().filter_map(failure).collect();
    assert!(cases.len() > 100 && failures.is_empty(), "{}", failures.join("\n"));
}

fn failure(case: &toml::Value) -> Option<String> {
    let text = |key: &str| case[key].as_str().expect("a string");
    let sampling = match Sampling::from_scheduler_config(text("scheduler_config"), text("sampling")) {
        Ok(sampling) => sampling,
        Err(error) => return Some(format!("{}: {error}", text("label"))),
    };
    let table = table(&sampling);
    let network = Network::new(text("network"), None);
    let mut x = START;
    let draws = start(&table, &mut x);
    run(&table.rows, &mut x, draws, |fed, inputs| network.evaluate(fed, inputs));
    let numbers: Vec<f64> =
        case["result"].as_array().expect("a list").iter().map(|v| v.as_float().expect("a number")).collect();
    let expected: Vec<Point> = numbers.chunks(2).map(|p| [p[0], p[1]]).collect();
    let off = distance(&x, &expected);
    (off.is_nan() || off > F64_ERROR).then(|| format!("{}: off by {off:.1e}", text("label")))
}

/// The default run.
fn table(sampling: &Sampling) -> Table {
    let grid = sampling.grid(sampling.steps);
    sampling.sampler.table(&sampling.parameterisation, &grid, &sampling.options).expect("a table")
}

#[test]
fn what_has_no_counterpart_is_named() {
    for (json, expected) in [
        ("[]", "this is not the JSON object of a scheduler: invalid type"),
        ("{", "this is not the JSON object of a scheduler: EOF"),
        ("{}", "no `_class_name`: it says which scheduler of diffusers this is"),
        (
            r#"{"_class_name": "ScoreSdeVeScheduler"}"#,
            "no sampler is like `ScoreSdeVeScheduler`: there are `DDIM`,",
        ),
        (r#"{"_class_name": "DDIMScheduler", "eta": 1}"#, "DDIMScheduler knows no key `eta`"),
        (r#"{"_class_name": "DDIMScheduler", "_other": 1}"#, "DDIMScheduler knows no key `_other`"),
        (
            r#"{"_class_name": "DDIMScheduler", "thresholding": true}"#,
            "`thresholding` of DDIMScheduler is true: clean",
        ),
        (
            r#"{"_class_name": "DDIMScheduler", "num_train_timesteps": 50}"#,
            "is 50: a process has 1000 timesteps",
        ),
        (
            r#"{"_class_name": "DDIMScheduler", "trained_betas": [0.1]}"#,
            "`trained_betas` of DDIMScheduler is [0.1]",
        ),
        (r#"{"_class_name": "DDIMScheduler", "beta_start": "x"}"#, "is \"x\": it has to be a number"),
        (
            r#"{"_class_name": "DDPMScheduler", "beta_schedule": "sigmoid"}"#,
            "is \"sigmoid\": this has no counterpart",
        ),
        (
            r#"{"_class_name": "DDPMScheduler", "variance_type": "learned"}"#,
            "`variance_type` of DDPMScheduler is",
        ),
        (r#"{"_class_name": "PNDMScheduler"}"#, "`skip_prk_steps` of PNDMScheduler is false"),
        (
            r#"{"_class_name": "EulerDiscreteScheduler", "use_karras_sigmas": true, "use_beta_sigmas": true}"#,
            "`use_beta_sigmas` of EulerDiscreteScheduler is true: another curve is switched on as well",
        ),
        (
            r#"{"_class_name": "EulerDiscreteScheduler", "timestep_type": "continuous", "prediction_type": "v_prediction"}"#,
            "`timestep_type` of EulerDiscreteScheduler is continuous",
        ),
        (
            r#"{"_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "dpmsolver"}"#,
            "`final_sigmas_type` of DPMSolverMultistepScheduler is \"zero\"",
        ),
        (
            r#"{"_class_name": "DPMSolverMultistepScheduler", "lambda_min_clipped": -5.1}"#,
            "`lambda_min_clipped` of DPMSolverMultistepScheduler is -5.1",
        ),
        (
            r#"{"_class_name": "FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting": true}"#,
            "`shift` is missing: this scheduler's `use_dynamic_shifting` leaves it to the size",
        ),
        (
            r#"{"_class_name": "UniPCMultistepScheduler", "solver_order": 7}"#,
            "`order`: order is 7: it must be 1, 2 or 3",
        ),
    ] {
        let error = Sampling::from_scheduler_config(json, "").expect_err(json).to_string();
        assert!(error.contains(expected) && !error.contains('\n'), "{json}: {error}");
    }
}

/// Files keep what an earlier class had, and Python writes infinities.
#[test]
fn keys_without_effect_are_passed_over() {
    let json = r#"{"_class_name": "DPMSolverMultistepScheduler", "_diffusers_version": "0.30.0", "skip_prk_steps": true,
        "clip_sample": true, "lambda_min_clipped": -Infinity, "dynamic_thresholding_ratio": 0.9, "flow_shift": 3.0}"#;
    let plain = r#"{"_class_name": "DPMSolverMultistepScheduler"}"#;
    let [found, expected] =
        [json, plain].map(|json| table(&Sampling::from_scheduler_config(json, "steps = 4").expect(json)));
    assert_eq!(found, expected);
}

const MANIFEST: &str = r#"[model]
name = "toy"
network = "toy.onnx"
[inputs.x]
role = "state"
shape = [4]
[inputs.t]
role = "time"
[sampling]
scheduler = "scheduler/scheduler_config.json"
steps = 4
[output]
kind = "tensor"
"#;

#[test]
fn a_manifest_may_name_the_file() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("named-scheduler");
    let file = folder.join("scheduler/scheduler_config.json");
    fs::create_dir_all(folder.join("scheduler")).expect("a folder");
    let parse = |json: &str, manifest: &str| {
        fs::write(&file, json).expect("a file");
        Manifest::parse(manifest, folder.join("fewstep.toml"))
    };
    let error = |json: &str, manifest: &str| parse(json, manifest).expect_err(json).to_string();
    let turbo = r#"{"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "trailing"}"#;
    let times = |manifest: &str| -> Vec<f64> {
        let table = parse(turbo, manifest).expect("a manifest").table(&Request::default()).expect("a table");
        table.rows.iter().map(|row| row.inputs.t).collect()
    };
    assert_eq!(times(MANIFEST), [999.0, 749.0, 499.0, 249.0]);
    // What the manifest says itself counts.
    assert_eq!(times(&MANIFEST.replace("steps = 4", "steps = 2\nschedule = \"linspace\"")), [999.0, 0.0]);

    let line = "fewstep.toml:10: ";
    for (json, manifest, expected) in [
        ("{}", MANIFEST.to_string(), "scheduler_config.json: no `_class_name`"),
        (turbo, MANIFEST.replace("scheduler/", "other/"), "No such file"),
        (
            turbo,
            MANIFEST.replace("scheduler/", "../"),
            "`scheduler`: write a path inside the manifest's folder",
        ),
        (turbo, MANIFEST.replace("\"scheduler/scheduler_config.json\"", "1"), "`scheduler`: write the path"),
        (
            r#"{"_class_name": "LCMScheduler", "prediction_type": "sample", "beta_end": 0.7}"#,
            MANIFEST.into(),
            "beta_end",
        ),
    ] {
        let error = error(json, &manifest);
        assert!(error.contains(line) && error.contains(expected) && !error.contains('\n'), "{error}");
    }
}
