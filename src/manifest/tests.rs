use std::{
    borrow::ToOwned,
    format, panic,
    path::Path,
    string::{String, ToString},
    vec,
    vec::Vec,
};

use super::*;

const TERRAIN: &str = include_str!("../../models/terrain/fewstep.toml");
const DIGITS: &str = include_str!("../../models/digits/fewstep.toml");

/// Line numbers in the tests below count from here.
const FLOW: &str = r#"[model]
name = "toy"
network = "toy.onnx"
[inputs.x]
role = "state"
shape = [3, 8, 8]
[inputs.t]
role = "time"
[inputs.h]
role = "duration"
[inputs.label]
role = "condition"
default = 0
range = [0, 9]
integer = true
[sampling]
family = "flow-map"
prediction = "velocity"
time = "unit"
[output]
kind = "image"
"#;

const CONSISTENCY: &str = r#"[model]
name = "toy"
network = "toy.onnx"
[inputs.x]
role = "state"
shape = [1, 8, 8]
[inputs.t]
role = "time"
[sampling]
family = "consistency"
prediction = "x0"
time = "sigma"
sigma_min = 0.002
sigma_max = 80.0
[output]
kind = "heightmap"
height_range = 2
"#;

fn parse(text: &str) -> Manifest {
    Manifest::parse(text, "m/fewstep.toml").unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn error(text: &str) -> String {
    match Manifest::parse(text, "m/fewstep.toml") {
        Ok(manifest) => panic!("accepted: {manifest:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn terrain_is_one_step_of_a_consistency_model() {
    let terrain = parse(TERRAIN);
    assert_eq!(
        terrain.inputs[0],
        Input { name: "noisy".into(), role: Role::State { shape: vec![1, 128, 128] } }
    );
    assert_eq!(terrain.inputs[1], Input { name: "sigma".into(), role: Role::Time });
    let table = terrain.table(&Request::default()).unwrap();
    assert_eq!((table.initial_scale, table.rows.len()), (80.0, 1));
    let row = table.rows[0];
    assert_eq!((row.inputs.scale, row.inputs.t, row.noise), (1.0, 80.0, None));
    assert_eq!(terrain.condition("difficulty", &[0.25]).unwrap().default, Some(vec![0.5]));
    let error = terrain.table(&Request { steps: Some(2), ..Request::default() }).unwrap_err();
    assert_eq!(error.to_string(), "`terrain` was made for at most 1 step, not 2");
}

#[test]
fn digits_are_one_step_of_a_flow_map() {
    let digits = parse(DIGITS);
    let names: Vec<&str> = digits.inputs.iter().map(|input| input.name.as_str()).collect();
    assert_eq!(names, ["x", "t", "h", "label"]);
    assert_eq!(digits.network_path(), Path::new("m/digits.onnx"));
    assert_eq!(digits.output.kind, OutputKind::Image { range: [-1.0, 1.0] });
    let table = digits.table(&Request::default()).unwrap();
    let inputs = table.rows[0].inputs;
    assert_eq!((table.rows.len(), inputs.t, inputs.h), (1, 1.0, 1.0));
    assert!(digits.condition("label", &[9.0]).unwrap().integer);
}

#[test]
fn the_reference_page_tells_the_truth() {
    let page = include_str!("../../docs/manifest.md");
    let toml = |block: &str| block.split("```").next().unwrap_or_default().to_owned();
    let examples: Vec<String> = page.split("```toml\n").skip(1).map(toml).collect();
    parse(&examples[0]);
    let label = &FLOW[FLOW.find("[inputs.label]").unwrap()..FLOW.find("[sampling]").unwrap()];
    parse(&FLOW.replace(label, &examples[1]));
    let sampling = CONSISTENCY.find("[sampling]").unwrap()..CONSISTENCY.find("[output]").unwrap();
    parse(&CONSISTENCY.replace(&CONSISTENCY[sampling.clone()], &examples[2]));
    parse(&CONSISTENCY.replace(&CONSISTENCY[sampling], &examples[3]));
    // The last names a file, as tests/diffusers_config.rs does.
    assert_eq!(examples.len(), 6);
    for schedule in sampler::SCHEDULES {
        let name = format!("`{}`", schedule.name);
        assert!(page.lines().any(|line| line.starts_with("| `") && line.contains(&name)), "{name}");
    }
}

#[test]
fn other_exports_can_be_said() {
    let scm = CONSISTENCY
        .replace("\"x0\"", "\"edm-consistency\"\nsigma_data = 0.5\nclamp = 1\ntimes = [80.0, 1.382, 0.0]")
        .replace("\"sigma\"", "\"log-sigma\"\ntime_scale = 250")
        .replace("[output]", "rho = 5\n[output]");
    let manifest = parse(&scm);
    let table = |steps| manifest.table(&Request { steps, ..Request::default() }).unwrap();
    assert_eq!(table(None).rows.len(), 2);
    assert!((table(None).rows[1].inputs.t - 250.0 * 1.382f64.ln()).abs() < 1e-9);
    // A number of steps that the list is not for takes the schedule.
    assert_eq!(table(Some(4)).rows.len(), 4);
    assert!(
        (table(Some(4)).rows[1].inputs.t - 250.0 * sampler::karras(0.25, 80.0, 0.002, 5.0).ln()).abs() < 1e-9
    );

    let reversed = FLOW
        .replace("\"flow-map\"", "\"rectified-flow\"\nsteps = 4\nnoise_at = 0\ntime_scale = 1000")
        .replace("[inputs.h]\nrole = \"duration\"\n", "")
        .replace("default = 0\nrange = [0, 9]\ninteger = true", "default = [0.5, 1.5]");
    let manifest = parse(&reversed);
    assert_eq!((manifest.sampling.sampler.name, manifest.sampling.steps), ("euler", 4));
    assert_eq!(manifest.table(&Request::default()).unwrap().rows[1].inputs.t, 250.0);
    let (_, condition) = manifest.conditions().next().unwrap();
    assert_eq!((condition.shape.as_slice(), condition.elements()), (&[2][..], 2));
}

/// Replaces the keys of a toy's sampling.
fn sampled(text: &str, keys: &str) -> String {
    let (start, end) = (text.find("[sampling]").unwrap(), text.find("[output]").unwrap());
    format!("{}[sampling]\n{keys}\n{}", &text[..start], &text[end..])
}

const TIMESTEPS: &str =
    "time = \"timestep\"\nbetas = \"scaled-linear\"\nbeta_start = 0.00085\nbeta_end = 0.012";

#[test]
fn every_kind_of_network_finds_its_sampler_and_times() {
    let sd = |rest: &str| format!("prediction = \"epsilon\"\n{TIMESTEPS}\nsteps = 4\n{rest}");
    let noise_levels =
        "sigma_data = 0.5\nsigma_min = 0.002\nsigma_max = 80\ntime = \"log-sigma\"\ntime_scale = 0.25";
    for (text, family, keys, sampler, times) in [
        (CONSISTENCY, "consistency", sd(""), "lcm", &[999.0, 759.0, 499.0, 259.0][..]),
        (
            CONSISTENCY,
            "consistency",
            sd("sampler = \"tcd\"\neta = 0.5"),
            "tcd",
            &[999.0, 759.0, 499.0, 259.0],
        ),
        (
            CONSISTENCY,
            "consistency",
            sd("sampler = \"dmd2\"\nschedule = \"trailing\""),
            "renoise",
            &[999.0, 749.0, 499.0, 249.0],
        ),
        (CONSISTENCY, "diffusion", sd(""), "euler", &[999.0, 749.0, 499.0, 249.0]),
        (
            CONSISTENCY,
            "diffusion",
            sd("schedule = \"leading\"\noffset = 1"),
            "euler",
            &[751.0, 501.0, 251.0, 1.0],
        ),
        (
            CONSISTENCY,
            "diffusion",
            sd("schedule = \"linspace\"\nsampler = \"ddim\""),
            "ddim",
            &[999.0, 666.0, 333.0, 0.0],
        ),
        (
            CONSISTENCY,
            "consistency",
            "prediction = \"v\"\ntime = \"angle\"\nsigma_data = 0.5\nsteps = 2".into(),
            "scm",
            &[core::f64::consts::FRAC_PI_2, 1.3],
        ),
        (
            FLOW,
            "flow-map",
            "prediction = \"velocity\"\ntime = \"unit\"\nsampler = \"shortcut\"\nsteps = 2".into(),
            "shortcut",
            &[1.0, 0.5],
        ),
        (
            FLOW,
            "flow-map",
            "prediction = \"simple-edm\"\nsigma_data = 0.5\ntime = \"unit\"\nsampler = \"imm\"".into(),
            "imm",
            &[1.0],
        ),
        (FLOW, "flow-map", format!("prediction = \"edm\"\n{noise_levels}"), "ctm", &[0.25 * 80f64.ln()]),
        (
            CONSISTENCY,
            "rectified-flow",
            format!("prediction = \"windowed-noise\"\n{TIMESTEPS}\ntime_scale = 1000\nsteps = 5")
                .replace("\"timestep\"", "\"unit\""),
            "perflow",
            &[1000.0, 875.0, 750.0, 500.0, 250.0],
        ),
        (
            CONSISTENCY,
            "diffusion",
            format!("prediction = \"edm\"\n{noise_levels}\nsampler = \"heun\""),
            "heun",
            &[0.25 * 80f64.ln()],
        ),
    ] {
        let manifest = parse(&sampled(text, &format!("family = \"{family}\"\n{keys}")));
        assert_eq!(manifest.sampling.sampler.name, sampler, "{keys}");
        let found: Vec<f64> =
            manifest.table(&Request::default()).unwrap().rows.iter().map(|row| row.inputs.t).collect();
        assert_eq!(found.len(), times.len(), "{keys}");
        assert!(found.iter().zip(times).all(|(found, t)| (found - t).abs() < 1e-5), "{keys}: {found:?}");
    }
}

/// The times and the options of a run.
#[test]
fn solvers_take_their_options() {
    let run = |keys: &str| {
        let manifest = parse(&sampled(CONSISTENCY, &format!("family = \"diffusion\"\n{keys}")));
        (manifest.table(&Request::default()).unwrap(), manifest.sampling.options)
    };
    let v = format!("prediction = \"v\"\n{TIMESTEPS}\nsteps = 2\n");
    let (table, _) = run(&format!("{v}sampler = \"ddim\"\nzero_terminal_snr = true\ntemperature = 0.5"));
    assert_eq!((table.initial_scale, table.rows[0].estimate.x), (0.5, 0.0));
    let (_, options) = run(&format!("{v}sampler = \"dpmpp-2m-sde\"\norder = 1\nnoise_scale = 2"));
    assert_eq!((options.order, options.noise_scale), (Some(1), 2.0));
    let wrong = format!("{v}sampler = \"dpmpp-2m\"\norder = 9");
    let error = error(&sampled(CONSISTENCY, &format!("family = \"diffusion\"\n{wrong}")));
    assert!(error.contains("`order`: order is 9: it must be 1, 2 or 3"), "{error}");

    let flow = |keys: &str| -> Vec<f64> {
        let keys = format!(
            "family = \"rectified-flow\"\nprediction = \"velocity\"\ntime = \"unit\"\nsteps = 4\n{keys}"
        );
        let table = parse(&sampled(CONSISTENCY, &keys)).table(&Request::default()).unwrap();
        table.rows.iter().map(|row| (row.inputs.t * 1e9).round() / 1e9).collect()
    };
    assert_eq!(flow("shift = 3"), [1.0, 0.9, 0.75, 0.5]);
    assert_eq!(flow("terminal = 0.1"), [1.0, 0.7, 0.4, 0.1]);
}

#[test]
fn keys_of_other_times_and_samplers_are_refused() {
    let sd = format!("family = \"consistency\"\nprediction = \"epsilon\"\n{TIMESTEPS}");
    for (from, to, part) in [
        ("betas = \"scaled-linear\"\n", "", "`betas` is missing"),
        ("\"scaled-linear\"", "\"cosine\"", "`beta_start` has no meaning here"),
        ("beta_end = 0.012", "", "`beta_end` is missing"),
        ("beta_end = 0.012", "beta_end = 0.0001", "`beta_end`: beta_end is 0.0001"),
        ("beta_end = 0.012", "beta_end = 0.012\neta = 0.5", "`eta` has no meaning here: the sampler lcm"),
        ("beta_end = 0.012", "beta_end = 0.012\nsampler = \"tcd\"\neta = 2", "`eta`: eta is 2"),
        ("beta_end = 0.012", "beta_end = 0.012\noffset = 1", "`offset` has no meaning here"),
        ("beta_end = 0.012", "beta_end = 0.012\nrho = 7", "`rho` has no meaning here"),
        (
            "beta_end = 0.012",
            "beta_end = 0.012\nschedule = \"trailing\"\npoints = 9",
            "`points` has no meaning",
        ),
        (
            "beta_end = 0.012",
            "beta_end = 0.012\nschedule = \"uniform\"",
            "`schedule`: this grid has no times",
        ),
        ("beta_end = 0.012", "beta_end = 0.012\nsigma_data = 1", "`sigma_data` has no meaning here"),
        ("beta_end = 0.012", "beta_end = 0.012\nsigma_min = 1", "`sigma_min` has no meaning here"),
        ("beta_end = 0.012", "beta_end = 0.012\norder = 2", "`order` has no meaning here: the sampler lcm"),
        ("beta_end = 0.012", "beta_end = 0.012\nchurn = 2", "`churn` has no meaning here: the sampler lcm"),
        ("beta_end = 0.012", "beta_end = 0.012\nchurn_range = [0, 1]", "`churn_range` has no meaning here"),
        ("beta_end = 0.012", "beta_end = 0.012\nchurn_range = [2, 1]", "the largest may be inf"),
        ("beta_end = 0.012", "beta_end = 0.012\nshift = 3", "`shift` has no meaning here: only the time"),
        ("beta_end = 0.012", "beta_end = 0.012\nterminal = 0.1", "`terminal` has no meaning here"),
        ("beta_end = 0.012", "beta_end = 0.012\nstop = \"end\"", "unknown variant `end`"),
        ("\"epsilon\"", "\"velocity\"", "cannot use a velocity"),
        ("\"timestep\"", "\"angle\"", "`betas` has no meaning here"),
    ] {
        assert!(sd.contains(from));
        let error = error(&sampled(CONSISTENCY, &sd.replacen(from, to, 1)));
        assert!(error.contains(part) && !error.contains('\n'), "{error}");
    }
}

#[test]
fn mistakes_name_their_line_and_key() {
    // The text, what to replace in it and by what, the line of the mistake, what the message must contain.
    let cases: &[(&str, &str, &str, usize, &[&str])] = &[
        (FLOW, "[model]", "[modell]", 1, &["unknown field `modell`"]),
        (FLOW, "name =", "nmae =", 2, &["unknown field `nmae`", "`network`"]),
        (FLOW, "\"toy\"", "3", 2, &["invalid type: integer `3`", "model.name"]),
        (FLOW, "\"toy\"", "\"\"", 2, &["write one line", "model.name"]),
        (FLOW, "\"toy\"", "\"a\\nb\"", 2, &["write one line", "model.name"]),
        (FLOW, "name = \"toy\"\n", "", 1, &["missing field `name`"]),
        (FLOW, "toy.onnx", "../toy.onnx", 3, &["without `..`", "model.network"]),
        (FLOW, "toy.onnx", "/etc/passwd", 3, &["relative", "model.network"]),
        (FLOW, "\"toy.onnx\"", "'a\\..\\b'", 3, &["model.network"]),
        (FLOW, "toy.onnx", "C:toy.onnx", 3, &["model.network"]),
        (FLOW, "toy.onnx", "", 3, &["model.network"]),
        (FLOW, "\"state\"", "\"stat\"", 5, &["unknown variant `stat`", "`state`", "inputs.x.role"]),
        (FLOW, "shape = [3, 8, 8]\n", "", 5, &["`shape` is missing", "`x`"]),
        (FLOW, "[3, 8, 8]", "[3, 0, 8]", 6, &["sizes above 0", "inputs.x.shape"]),
        (FLOW, "[3, 8, 8]", "[3, -1, 8]", 6, &["-1", "inputs.x.shape"]),
        (FLOW, "[3, 8, 8]", "[4294967296, 4294967296]", 6, &["2^31", "inputs.x.shape"]),
        (FLOW, "[3, 8, 8]", "[1, 1, 1, 1, 1, 1, 1, 1, 1]", 6, &["up to 8", "inputs.x.shape"]),
        (FLOW, "\"state\"\nshape = [3, 8, 8]", "\"condition\"", 4, &["role \"state\"", "`inputs`"]),
        (FLOW, "\"time\"", "\"time\"\nshape = [1]", 9, &["`shape` has no meaning here"]),
        (FLOW, "\"time\"", "\"target\"", 17, &["role \"time\"", "`inputs`"]),
        (FLOW, "\"duration\"", "\"time\"", 9, &["`h`", "`role`", "keep one"]),
        (FLOW, "\"duration\"", "\"condition\"", 17, &["\"target\" or \"duration\"", "`inputs`"]),
        (FLOW, "\"duration\"", "\"duration\"\ndefault = 1", 11, &["`default` has no meaning here"]),
        (
            FLOW,
            "default = 0",
            "default = \"a\"",
            13,
            &["a number or a list of numbers", "inputs.label.default"],
        ),
        (FLOW, "default = 0", "default = 10", 13, &["`default`", "`label` = 10", "0 to 9"]),
        (FLOW, "default = 0", "default = 0.5", 13, &["`default`", "`label` = 0.5", "whole number"]),
        (FLOW, "default = 0", "default = [1, 2]\nshape = [3]", 13, &["`default`", "got 2 values", "1 or 3"]),
        (FLOW, "[0, 9]", "[9, 0]", 14, &["[smallest, largest]", "inputs.label.range"]),
        (FLOW, "[0, 9]", "[0, 9, 10]", 14, &["inputs.label.range"]),
        (FLOW, "[0, 9]", "[0, nan]", 14, &["inputs.label.range"]),
        (FLOW, "integer = true", "integer = 1", 15, &["boolean", "inputs.label.integer"]),
        (FLOW, "\"flow-map\"", "\"flowmap\"", 17, &["`flow-map`", "sampling.family"]),
        (FLOW, "time = \"unit\"", "time = \"angle\"", 19, &["`time`", "\"unit\""]),
        (FLOW, "\"velocity\"", "\"edm-consistency\"", 18, &["`sigma_data` is missing"]),
        (FLOW, "\"velocity\"", "\"edm-consistency\"\nsigma_data = 1", 18, &["consistency preconditioning"]),
        (FLOW, "[output]", "sigma_max = 80\n[output]", 20, &["`sigma_max` has no meaning here"]),
        (FLOW, "[output]", "rho = 7\n[output]", 20, &["`rho` has no meaning here"]),
        (FLOW, "[output]", "noise_at = 2\n[output]", 20, &["write 0 or 1", "sampling.noise_at"]),
        (FLOW, "[output]", "time_scale = 0\n[output]", 20, &["above 0", "sampling.time_scale"]),
        (FLOW, "[output]", "clamp = inf\n[output]", 20, &["finite", "sampling.clamp"]),
        (FLOW, "[output]", "steps = 0\n[output]", 20, &["write 1 to 64", "sampling.steps"]),
        (FLOW, "[output]", "steps = 1.5\n[output]", 20, &["invalid type", "sampling.steps"]),
        (FLOW, "[output]", "max_steps = 65\n[output]", 20, &["write 1 to 64", "sampling.max_steps"]),
        (FLOW, "[output]", "max_steps = 2\nsteps = 3\n[output]", 21, &["3 `steps`", "`max_steps`", "2"]),
        (FLOW, "[output]", "sampler = \"cm\"\n[output]", 20, &["`sampler`", "flow-map: `meanflow`"]),
        (FLOW, "[output]", "times = [1.0, 0.5]\n[output]", 20, &["the last time is 0.5", "times"]),
        (FLOW, "[output]", "times = [0.5, 1.0, 0]\n[output]", 20, &["`times`", "times[0] = 0.5"]),
        (FLOW, "[output]", "times = []\n[output]", 20, &["`times`", "0 steps"]),
        (FLOW, "[output]", "times = [1, 0]\nsteps = 2\n[output]", 21, &["`steps` and `times` disagree"]),
        (FLOW, "[output]", "stop = \"data\"\n[output]", 20, &["`stop` has no meaning here"]),
        (FLOW, "[output]", "zero_terminal_snr = true\n[output]", 20, &["`zero_terminal_snr` has no meaning"]),
        (FLOW, "[output]", "noise_scale = 2\n[output]", 20, &["`noise_scale` has no meaning", "meanflow"]),
        (FLOW, "[output]", "terminal = 1\nsteps = 2\n[output]", 20, &["`terminal`", "between 0 and 1"]),
        (FLOW, "\"image\"", "\"heightmap\"\nheight_range = 2", 21, &["`kind`", "channels in [1]"]),
        (FLOW, "[3, 8, 8]", "[192]", 21, &["`kind`", "[channels, rows, columns]"]),
        (FLOW, "\"image\"", "\"image\"\nzero_floor = true", 22, &["`zero_floor` has no meaning here"]),
        (FLOW, "\"image\"", "\"tensor\"\nrange = [0, 1]", 22, &["`range` has no meaning here"]),
        (FLOW, "[output]", "[output", 20, &["expected"]),
        (FLOW, "[output]", "time = \"unit\"\n[output]", 20, &["`time`: duplicate key"]),
        (FLOW, "[inputs.x]", "[inputs.\"\"]", 4, &["write one line", "inputs"]),
        (FLOW, "[output]", "\"a\\nb\" = 1\n[output]", 20, &["unknown field `a b`", "`sampling`"]),
        (CONSISTENCY, "sigma_min = 0.002\n", "", 10, &["`sigma_min` is missing"]),
        (CONSISTENCY, "80.0", "0.001", 14, &["sigma_max is 0.001", "above sigma_min"]),
        (CONSISTENCY, "[output]", "steps = 3\nrho = 1e-300\n[output]", 16, &["`rho`", "must fall"]),
        (CONSISTENCY, "0.002", "-1", 13, &["above 0", "sampling.sigma_min"]),
        (CONSISTENCY, "\"x0\"", "\"velocity\"", 11, &["cannot use a velocity"]),
        (CONSISTENCY, "\"sigma\"", "\"log-sigma\"", 12, &["`time_scale` is missing"]),
        (CONSISTENCY, "\"sigma\"", "\"unit\"", 12, &["`time`", "\"sigma\" or \"log-sigma\""]),
        (CONSISTENCY, "[output]", "noise_at = 1\n[output]", 15, &["`noise_at` has no meaning here"]),
        (CONSISTENCY, "[output]", "sigma_data = 1\n[output]", 15, &["`sigma_data` has no meaning here"]),
        (
            CONSISTENCY,
            "[output]",
            "[inputs.s]\nrole = \"target\"\n[output]",
            15,
            &["`s`", "`role`", "flow-map"],
        ),
        (CONSISTENCY, "height_range = 2\n", "", 16, &["`height_range` is missing"]),
        (CONSISTENCY, "[output]", "[output]\ntransform = \"asinh\"", 17, &["`scale` is missing"]),
        (CONSISTENCY, "[output]", "[output]\nscale = 1", 16, &["`scale` has no meaning here"]),
    ];
    for (text, from, to, line, parts) in cases {
        assert!(text.contains(from), "{from}");
        let error = error(&text.replacen(from, to, 1));
        assert!(error.starts_with(&format!("m/fewstep.toml:{line}: ")), "{to}: line {line}? {error}");
        assert!(!error.contains('\n'), "{error}");
        for part in *parts {
            assert!(error.contains(part), "{to}: no {part:?} in {error}");
        }
    }
}

#[test]
fn requests_that_make_no_sense_say_what_would() {
    let manifest = parse(FLOW);
    let times = [1.0, 0.5, 0.0];
    let error = |request: Request<'_>| manifest.table(&request).unwrap_err().to_string();
    let sampler = |name| Request { sampler: Some(name), ..Request::default() };
    assert_eq!(
        error(sampler("cm")),
        "sampler `consistency` makes no sense for `toy`, whose family is flow-map: use `meanflow`, \
         `meanflow-sde`, `ctm`, `ctm-chain`, `imm`, `imm-restart`, `shortcut`, `euler`, `renoise`"
    );
    assert!(error(sampler("hume")).contains("there are `consistency`"));
    assert!(error(Request { steps: Some(0), ..Request::default() }).contains("ask for 1"));
    assert!(error(Request { steps: Some(65), ..Request::default() }).contains("at most 64 steps"));
    assert!(
        error(Request { steps: Some(usize::MAX), times: Some(&times), ..Request::default() })
            .contains("not 3")
    );
    assert!(error(Request { times: Some(&[]), ..Request::default() }).contains("0 steps"));
    let table = manifest.table(&Request { times: Some(&times), ..sampler("euler") }).unwrap();
    assert_eq!(table.rows.len(), 2);
}

#[test]
fn conditions_are_held_to_their_range() {
    let manifest = parse(FLOW);
    let error = |name: &str, values: &[f64]| manifest.condition(name, values).unwrap_err().to_string();
    assert_eq!(error("label", &[10.0]), "condition `label` = 10 is outside its range, 0 to 9");
    assert_eq!(
        error("label", &[1.5]),
        "condition `label` = 1.5 is not a whole number, which this network needs"
    );
    assert_eq!(error("label", &[1.0, 2.0]), "condition `label` got 2 values: it takes 1 or 1");
    assert_eq!(error("class", &[1.0]), "there is no condition `class`; there are `label`");
    assert!(manifest.condition("label", &[f64::NAN]).is_err());
    assert!(manifest.condition("label", &[]).is_err());
    let unbounded = parse(&FLOW.replace("range = [0, 9]\ninteger = true\n", ""));
    assert!(unbounded.condition("label", &[f64::INFINITY]).is_err());
    assert!(unbounded.condition("label", &[-1e30]).is_ok());
}

/// Every prefix and every single broken byte of a real manifest: an answer, never a panic.
#[test]
fn torn_text_is_an_error_or_a_manifest() {
    for i in 0..DIGITS.len() {
        let _ = Manifest::parse(&DIGITS[..i], "m");
        for byte in ["\"", "[", "9", "\u{e9}", "\0"] {
            let _ = Manifest::parse(&format!("{}{byte}{}", &DIGITS[..i], &DIGITS[i + 1..]), "m");
        }
    }
    assert!(error(&format!("a = {}", "[".repeat(60_000))).starts_with("m/fewstep.toml:1: "));
    assert!(error(&"#".repeat(70_000)).contains("longer than 65536 bytes"));
}

/// A manifest in memory at the alignment of a plan file's sections.
fn archive(manifest: &Manifest) -> rkyv::util::AlignedVec {
    let mut bytes = rkyv::util::AlignedVec::new();
    bytes.extend_from_slice(&manifest.archived());
    bytes
}

#[test]
fn archives_are_the_manifests_that_they_were_made_of() {
    let consistency =
        CONSISTENCY.replace("[output]", "sampler = 'consistency'\ntimes = [80, 2, 0]\n[output]");
    let guided = "[guidance]\nscale = 2\nmethod = 'apg'\nnetwork = 'weak.onnx'\n";
    for text in [TERRAIN, DIGITS, CONSISTENCY, &consistency, &format!("{FLOW}{guided}")] {
        let manifest = parse(text);
        let again = Manifest::from_archive(&archive(&manifest), "m/fewstep.toml").unwrap();
        assert_eq!(format!("{again:?}"), format!("{manifest:?}"));
        let [table, expected] = [&again, &manifest].map(|manifest| manifest.table(&Request::default()));
        assert_eq!(table.unwrap(), expected.unwrap());
    }
}

#[test]
fn archives_are_held_to_the_rules_of_texts() {
    type Change = fn(&mut Manifest);
    let cases: [(Change, &str); 12] = [
        (|m| m.model.name = "a\x1b[2J".into(), "write one line of 1 to 200 bytes"),
        (|m| m.model.network = "../up".into(), "write a path inside the manifest's folder"),
        (|m| m.inputs.clear(), "no input of `inputs` has the role \"state\""),
        (|m| m.inputs.push(m.inputs[0].clone()), "there are two inputs `label`"),
        (|m| set_shape(m, &[1 << 16; 8]), "at most 2^31 elements"),
        (|m| set_shape(m, &[2, 8, 8]), "not of the shape of the output's kind"),
        (|m| m.sampling.steps = 65, "65 of at most 64 steps"),
        (|m| m.sampling.max_steps = 65, "1 of at most 65 steps"),
        (|m| m.sampling.family = Family::Diffusion, "is not one of the family diffusion"),
        (|m| m.sampling.shift = f64::NAN, "shift"),
        (|m| m.guidance = Some(Guidance { scale: f64::INFINITY, ..Guidance::default() }), "finite"),
        (|m| m.output.kind = OutputKind::Image { range: [1.0, -1.0] }, "write [smallest, largest]"),
    ];
    for (change, expected) in cases {
        let mut manifest = parse(FLOW);
        manifest.inputs.rotate_left(3);
        change(&mut manifest);
        let error = Manifest::from_archive(&archive(&manifest), "a.fsp").unwrap_err().to_string();
        let named =
            error.starts_with("a.fsp: the plan's manifest is not sound (") && error.contains(expected);
        assert!(named, "{expected}: {error}");
    }
}

fn set_shape(manifest: &mut Manifest, sizes: &[usize]) {
    for input in &mut manifest.inputs {
        if let Role::State { shape } = &mut input.role {
            *shape = sizes.to_vec();
        }
    }
}

/// Every word of an archive, set to what may be wrong there: an error, or a manifest that can be sampled.
#[test]
fn damaged_archives_are_errors_or_manifests() {
    let whole = archive(&parse(FLOW));
    let (mut sound, mut refused) = (0, 0);
    for at in 0..whole.len() {
        for byte in [0, 1, 2, 3, 7, 0x7f, 0x80, 0xf0, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] = byte;
            match Manifest::from_archive(&bytes, "m") {
                Err(_) => refused += 1,
                Ok(manifest) => {
                    assert!(manifest.table(&Request::default()).is_ok());
                    sound += 1;
                }
            }
        }
    }
    let error = Manifest::from_archive(&vec![0; (1 << 20) + 1], "m").unwrap_err().to_string();
    assert!(error.contains("more than 1048576 bytes"), "{error}");
    for end in 0..whole.len() {
        assert!(Manifest::from_archive(&whole[whole.len() - end..], "m").is_err());
    }
    assert!(refused > 100 && sound > 100, "{refused} {sound}");
}

#[test]
fn reading_names_the_file_that_is_not_there() {
    let error = Manifest::read("/no/such/folder/fewstep.toml").unwrap_err().to_string();
    assert!(error.starts_with("/no/such/folder/fewstep.toml: cannot read the manifest: "), "{error}");
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/models/digits");
    let manifest = Manifest::read(folder).unwrap();
    assert_eq!(manifest.network_path(), Path::new(folder).join("digits.onnx"));
}

/// terrain_diffusion's `_from_model_space(numpy.float32([[[-1.5, -1, -0.5], [0, 0.5, 1]]]), zero_floor=False)`.
#[test]
fn heights_are_those_of_the_python_package() {
    let expected = [0.0, 0.0, 0.218_540_42, 1.050_449_1, 4.830_609_3, 22.168_64];
    let mut values = [-1.5, -1.0, -0.5, 0.0, 0.5, 1.0];
    let OutputKind::Heightmap(heightmap) = parse(TERRAIN).output.kind else { panic!() };
    Heightmap { zero_floor: false, ..heightmap }.to_metres(&mut values);
    for (found, expected) in values.iter().zip(expected) {
        assert!((found - expected).abs() <= 1e-6 * expected.abs(), "{found} {expected}");
    }
    let mut raised = [0.0, 0.5];
    heightmap.to_metres(&mut raised);
    assert_eq!(raised, [0.0, values[4] - values[3]]);
    let mut linear = [-1.0, 0.5, 3.0];
    let transform = HeightTransform::Linear;
    Heightmap { transform, height_range: 4.0, zero_floor: false }.to_metres(&mut linear);
    assert_eq!(linear, [0.0, 3.0, 4.0]);
}

/// The published list of ImageNet 64, whose middle is about 1.382.
#[test]
fn points_of_a_karras_grid_can_be_listed() {
    let keys =
        "family = \"consistency\"\nprediction = \"x0\"\ntime = \"sigma\"\nsigma_min = 0.002\nsigma_max = 80";
    let with = |more: &str| sampled(CONSISTENCY, &format!("{keys}\n{more}"));
    let table = parse(&with("ts = [0, 22, 39]")).table(&Request::default()).unwrap();
    let levels: Vec<f64> = table.rows.iter().map(|row| row.inputs.t).collect();
    assert!(levels[0] == 80.0 && (levels[1] - 1.382).abs() < 1e-3 && levels.len() == 2, "{levels:?}");
    let finer = parse(&with("ts = [0, 106, 200]\npoints = 201")).table(&Request::default()).unwrap();
    assert!((finer.rows[1].inputs.t - sampler::karras(0.53, 80.0, 0.002, 7.0)).abs() < 1e-12);
    for (more, expected) in [
        ("ts = [0, 40]", "point 40 is outside a grid of 40 points"),
        ("ts = [0, 22]", "`ts`: the last time is 1.38"),
        ("ts = [0, 39]\ntimes = [80, 0]", "`times` has no meaning here"),
        ("ts = [0, 22, 39]\nsteps = 3", "disagree"),
        ("points = 40", "`points` has no meaning here"),
    ] {
        let error = error(&with(more));
        assert!(error.contains(expected), "{more}: {error}");
    }
}

#[test]
fn a_flow_may_stop_early_if_its_list_does() {
    let with = |more: &str| {
        sampled(FLOW, &format!("family = \"flow-map\"\nprediction = \"velocity\"\ntime = \"unit\"\n{more}"))
    };
    let early = "times = [1, 0.5, 0.03]";
    assert!(error(&with(early)).contains("which is not yet data"));
    let table = parse(&with(&format!("{early}\nstop = \"sigma-min\""))).table(&Request::default()).unwrap();
    assert_eq!((table.rows[1].inputs.t, table.rows[1].inputs.h), (0.5, 0.47));
    let noised = Request { sampler: Some("renoise"), ..Request::default() };
    let last = parse(&with(&format!("{early}\nstop = \"sigma-min\""))).table(&noised).unwrap().rows[1];
    assert_eq!((last.update.x, last.update.y), (0.0, 0.97));
    assert!(error(&with("stop = \"sigma-min\"")).contains("`stop` has no meaning here"));
}

#[test]
fn the_initial_noise_may_be_scaled() {
    let scaled = FLOW.replace("[output]", "initial_scale = 0.487\ntemperature = 0.5\n[output]");
    assert_eq!(parse(&scaled).table(&Request::default()).unwrap().initial_scale, 0.2435);
    assert!(error(&FLOW.replace("[output]", "initial_scale = 0\n[output]")).contains("initial_scale"));
}
