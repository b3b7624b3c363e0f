//! The command line program as scripts use it.
#![cfg(feature = "cli")]

mod common;
mod program;

use common::{distance, npy_file, path};
use fewstep::graph::Tensor;
use fewstep::kernels::Isa;
use program::{fewstep, try_fewstep};
use serde_json::Value;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// Relative to the largest magnitude of an output.
const TOLERANCE: f64 = 2e-5;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn samples(folder: &TempDir, arguments: &str) -> Tensor {
    fewstep(folder, &format!("sample {arguments} -o samples.npy"));
    npy_file(&folder.path().join("samples.npy"))
}

fn json(folder: &TempDir, arguments: &str) -> Value {
    let printed = fewstep(folder, arguments);
    serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{arguments}: {error}: {printed}"))
}

fn picture(path: &Path) -> image::RgbImage {
    image::open(path).expect("a picture").into_rgb8()
}

#[test]
fn sample_alone_writes_a_sheet_of_the_ten_digits() {
    let folder = folder();
    let printed = fewstep(&folder, "sample");
    for part in ["digits.png: 10 samples of digits, meanflow, 1 step, f32, ", " a sample, opened in "] {
        assert!(printed.contains(part), "{printed}");
    }
    assert_eq!(printed.lines().count(), 1);
    // Two rows of five, 28 pixels enlarged four times, with margins, gaps and labels.
    assert_eq!(picture(&folder.path().join("digits.png")).dimensions(), (640, 308));
    let names: Vec<_> = fs::read_dir(folder.path()).expect("a folder").collect();
    assert_eq!(names.len(), 1);
}

#[test]
fn one_sample_is_only_enlarged() {
    let folder = folder();
    fewstep(&folder, "sample digits -n 1 --cond label=3 -o three.PNG");
    assert_eq!(picture(&folder.path().join("three.PNG")).dimensions(), (280, 280));
}

#[test]
fn a_sample_of_a_batch_is_the_sample_alone() {
    let folder = folder();
    for rest in ["--steps 1", "--steps 3", "--steps 3 --sampler meanflow-sde"] {
        let batch = samples(&folder, &format!("-n 4 --seed 40 {rest}"));
        assert_eq!(batch.shape(), [4, 1, 28, 28]);
        for i in 0..4 {
            let alone = samples(&folder, &format!("-n 1 --seed {} --cond label={i} {rest}", 40 + i));
            assert_eq!(alone.shape(), [1, 1, 28, 28]);
            assert!(batch.to_f32()[i * 784..][..784] == alone.to_f32()[..], "sample {i}, {rest}");
        }
    }
}

#[test]
fn threads_change_nothing() {
    let folder = folder();
    let alone = samples(&folder, "-n 2 --threads 1");
    assert!(alone.to_f32() == samples(&folder, "-n 2 --threads 2").to_f32());
    assert!(alone.to_f32() == samples(&folder, "-n 2").to_f32());
    assert!(alone.to_f32() != samples(&folder, "-n 2 --seed 1").to_f32());
}

#[test]
fn noise_comes_from_a_file() {
    let folder = folder();
    let golden = path("models/digits/golden");
    let noise = npy_file(&golden.join("x.npy"));
    let found = samples(&folder, &format!("--noise {}", golden.join("x.npy").display()));
    assert_eq!(found.shape(), noise.shape());
    assert!(found.to_f32() != samples(&folder, &format!("-n {}", noise.shape()[0])).to_f32());
}

#[test]
fn a_model_is_a_folder_its_manifest_or_its_network() {
    let folder = folder();
    let embedded = samples(&folder, "digits -n 1");
    for model in ["models/digits", "models/digits/fewstep.toml", "models/digits/digits.onnx"] {
        let found = samples(&folder, &format!("{} -n 1", path(model).display()));
        assert!(found.to_f32() == embedded.to_f32(), "{model}");
    }
}

#[test]
fn heights_are_metres_or_a_relief() {
    let folder = folder();
    let digits = fs::read_to_string(path("models/digits/fewstep.toml")).expect("a manifest");
    let image = "kind = \"image\"\nrange = [-1, 1]";
    assert!(digits.contains(image));
    let heights = "kind = \"heightmap\"\ntransform = \"linear\"\nheight_range = 500\nzero_floor = true";
    fs::create_dir(folder.path().join("hills")).expect("a folder");
    fs::write(folder.path().join("hills/fewstep.toml"), digits.replace(image, heights)).expect("a manifest");
    fs::copy(path("models/digits/digits.onnx"), folder.path().join("hills/digits.onnx")).expect("a network");
    let metres = samples(&folder, "hills -n 2");
    assert_eq!(metres.shape(), [2, 28, 28]);
    for sample in metres.to_f32().chunks(784) {
        let [low, high] =
            [f32::min, f32::max].map(|pick| sample.iter().copied().reduce(pick).expect("heights"));
        assert!(low == 0.0 && (250.0..=500.0).contains(&high), "from {low} to {high}");
    }
    fewstep(&folder, "sample hills -n 1 -o hill.png");
    // Four pixels a cell, and the legend.
    assert_eq!(picture(&folder.path().join("hill.png")).dimensions(), (28 * 4 + 84 + 48, 28 * 4 + 32));
    fewstep(&folder, "sample hills -o hills.png");
    assert!(picture(&folder.path().join("hills.png")).width() > 1000);
}

#[test]
fn run_computes_what_onnx_runtime_does() {
    let folder = folder();
    for network in ["mlp", "external", "sit"] {
        let place = path("tests/networks").join(network);
        let mut arguments =
            format!("run {} -o made/{network}", place.join(format!("{network}.onnx")).display());
        for entry in fs::read_dir(place.join("in")).expect("inputs") {
            let input = entry.expect("an input").path();
            let name = input.file_stem().expect("a name").display().to_string();
            arguments.push_str(&format!(" --input {name}={}", input.display()));
        }
        let printed = fewstep(&folder, &arguments);
        assert!(printed.starts_with(&format!("made/{network}/output.npy: output, f32[")), "{printed}");
        let found = npy_file(&folder.path().join(format!("made/{network}/output.npy")));
        let off = distance(&found, &npy_file(&place.join("out/output.npy")), 1e-3).expect("alike");
        assert!(off < TOLERANCE, "{network} is off by {off:.1e}");
        let files = fs::read_dir(folder.path().join("made").join(network)).expect("a folder");
        assert_eq!(files.count(), 1);
    }
}

#[test]
fn inspect_describes_a_model() {
    let folder = folder();
    let report = json(&folder, "inspect digits --json");
    let keys = [
        "name",
        "path",
        "producer",
        "inputs",
        "outputs",
        "sampling",
        "parameters",
        "flop",
        "precision",
        "products",
        "halves",
        "islands",
        "instruction_set",
        "operators",
        "instructions",
        "arena",
        "arena_bytes",
        "arena_least_bytes",
        "stages",
        "weights_bytes",
        "host_operators",
        "import_ms",
        "plan_ms",
    ];
    let found: Vec<&String> = report.as_object().expect("an object").keys().collect();
    assert_eq!(found.len(), keys.len(), "{found:?}");
    keys.iter().for_each(|key| assert!(!report[key].is_null(), "{key}"));
    assert_eq!(report["inputs"][0]["name"], "x");
    assert_eq!(report["inputs"][0]["shape"], serde_json::json!([1, 1, 28, 28]));
    assert_eq!(report["inputs"][0]["type"], "f32");
    assert_eq!(report["inputs"][0]["role"], "state");
    assert_eq!(report["sampling"]["sampler"], "meanflow");
    assert_eq!(report["host_operators"], serde_json::json!([]));
    assert_eq!((&report["precision"], &report["halves"]), (&"f32".into(), &0.into()));
    let half = json(&folder, "inspect digits --json --precision f16");
    assert_eq!((&half["precision"], &half["islands"]), (&"f16".into(), &serde_json::json!([])));
    assert!(half["halves"].as_u64().is_some_and(|halves| halves > 10), "{half}");
    assert!(report["parameters"].as_u64().expect("a number") > 100_000);
    assert!(report["operators"]["imported"]["Conv"].as_u64().expect("a number") > 5);

    let stages: Vec<&str> =
        report["stages"].as_array().expect("stages").iter().filter_map(|s| s["name"].as_str()).collect();
    assert_eq!(stages, ["time", "condition", "time+condition", "state"]);
    let counts = report["stages"].as_array().expect("stages").iter().map(|s| s["parameters"].as_u64());
    // A few numbers that shapes were computed with are no stage's.
    let sum: u64 = counts.map(|count| count.expect("a number")).sum();
    assert!(sum.abs_diff(report["parameters"].as_u64().expect("a number")) < 500, "{sum}");

    let text = fewstep(&folder, "inspect digits");
    for part in ["digits", "f32[1, 1, 28, 28]", "parameters", "FLOP an evaluation", "arena", "Conv", "time+c"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    let mlp = path("tests/networks/mlp/mlp.onnx");
    let report = json(&folder, &format!("inspect {} --shape x=3x6 --json", mlp.display()));
    assert_eq!(report["outputs"][0]["shape"], serde_json::json!([3, 6]));
    assert!(report["sampling"].is_null());
}

#[test]
fn plan_files_are_described_too() {
    let folder = folder();
    fewstep(&folder, "compile digits -o d.fsp --target arm-fp16 --precision f32,f16");
    let report = json(&folder, "inspect d.fsp --json");
    let found: Vec<&String> = report.as_object().expect("an object").keys().collect();
    assert_eq!(found, ["name", "origin", "path", "plans", "sampling"]);
    let plans = report["plans"].as_array().expect("plans");
    assert_eq!(plans.len(), 2);
    for (plan, precision) in plans.iter().zip(["f32", "f16"]) {
        assert_eq!((&plan["precision"], &plan["instruction_set"]), (&precision.into(), &"arm-fp16".into()));
        assert_eq!(plan["runs_here"], Isa::ArmFp16.supported());
        assert_eq!(plan["inputs"][1]["role"], "time");
        assert!(plan["arena_bytes"].as_u64() >= plan["arena_least_bytes"].as_u64());
    }
    // How many are in half precision hangs on whether this CPU can try.
    let [halves, products] = ["halves", "products"].map(|key| plans[1][key].as_u64().expect("a number"));
    assert!(0 < halves && halves < products && products == 27, "{halves} of {products}");
    let text = fewstep(&folder, "inspect d.fsp");
    for part in ["arm-fp16, f16", &format!("{halves} of 27 products"), "made of", "parameters |"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn the_way_into_half_precision_can_be_named() {
    let folder = folder();
    let halves = |way: usize| {
        fewstep(&folder, &format!("compile digits -o d.fsp --target arm-fp16 --precision f16 --way {way}"));
        json(&folder, "inspect d.fsp --json")["plans"][0]["halves"].as_u64().expect("a number")
    };
    // The first has convolutions by Winograd's method in half precision too.
    assert!(halves(1) > halves(3));
}

#[test]
fn lists_are_arrays_with_names() {
    let folder = folder();
    let known = [("models", "digits"), ("samplers", "euler"), ("providers", "cpu"), ("targets", "portable")];
    for (what, name) in known {
        let list = json(&folder, &format!("list {what} --json"));
        let names: Vec<&str> =
            list.as_array().expect("an array").iter().filter_map(|row| row["name"].as_str()).collect();
        assert_eq!(names.len(), list.as_array().expect("an array").len());
        assert!(names.contains(&name), "{what}: {names:?}");
        let text = fewstep(&folder, &format!("list {what}"));
        assert_eq!(text.lines().count(), names.len());
        assert!(names.iter().all(|name| text.contains(name)), "{text}");
    }
}

#[test]
fn samplers_are_described() {
    let folder = folder();
    let text = fewstep(&folder, "list samplers");
    let heun = text.lines().find(|line| line.starts_with("heun ")).expect("heun");
    for part in ["diffusion", "order 2", "2 evaluations", "deterministic", "Karras", "generate.py"] {
        assert!(heun.contains(part), "{part}: {heun}");
    }
}

#[test]
fn choices_change_samples() {
    let folder = folder();
    let usual = samples(&folder, "-n 1 --cond label=3 --steps 2");
    let same = |arguments: &str| {
        let found = samples(&folder, &format!("-n 1 --cond label=3 {arguments}"));
        found.to_f32() == usual.to_f32()
    };
    for arguments in [
        "--times 1,0.5,0",
        "--steps 2 --schedule uniform",
        "--steps 2 --shift 1",
        "--steps 2 --temperature 1",
    ] {
        assert!(same(arguments), "{arguments}");
    }
    for arguments in [
        "--times 1,0.25,0",
        "--steps 2 --shift 3",
        "--steps 2 --temperature 0.5",
        "--steps 2 --clamp 0.1",
        "--steps 2 --sampler renoise --noise-scale 0.5",
        "--steps 2 --guidance 3 --negative label=8",
        "--steps 2 --guidance 3 --negative label=8 --guidance-method zero-star",
    ] {
        assert!(!same(arguments), "{arguments}");
    }
    // Guidance that ends before it begins is none, and neither is one by nothing.
    for arguments in
        ["--guidance 3 --guidance-interval 0,0.4", "--guidance 1", "--guidance 3 --negative label=3"]
    {
        let negative = if arguments.contains("--negative") { "" } else { "--negative label=8" };
        let found = samples(&folder, &format!("-n 1 --cond label=3 --steps 2 {arguments} {negative}"));
        let near = found.to_f32().iter().zip(usual.to_f32()).all(|(a, b)| (a - b).abs() < 1e-4);
        assert!(near, "{arguments}");
    }
}

#[test]
fn a_scheduler_of_diffusers_takes_the_place_of_the_manifests_sampling() {
    let folder = folder();
    fs::write(
        folder.path().join("map.json"),
        r#"{"_class_name": "FlowMapEulerDiscreteScheduler", "shift": 3.0}"#,
    )
    .expect("a file");
    let found = samples(&folder, "-n 1 --cond label=3 --steps 2 --scheduler map.json");
    let printed = fewstep(&folder, "sample -n 1 --steps 2 --scheduler map.json -o x.npy");
    assert!(printed.contains("meanflow, 2 steps"), "{printed}");
    assert_eq!(found.shape(), [1, 1, 28, 28]);
}

#[test]
fn a_reference_is_begun_with_or_kept() {
    let folder = folder();
    let golden = samples(&folder, "-n 1 --cond label=8");
    fs::rename(folder.path().join("samples.npy"), folder.path().join("eight.npy")).expect("a file");
    image::GrayImage::from_fn(28, 28, |x, _| image::Luma([if x < 14 { 0 } else { 255 }]))
        .save(folder.path().join("mask.png"))
        .expect("a mask");
    let label = "-n 1 --cond label=3 --steps 4";
    let free = samples(&folder, label);
    let begun = samples(&folder, &format!("{label} --init eight.npy --strength 0.5"));
    assert!(begun.to_f32() != free.to_f32());
    for edit in ["", "--edit inpaint"] {
        let kept = samples(&folder, &format!("{label} --init eight.npy --mask mask.png {edit}"));
        let left = |(i, (a, b)): (usize, (&f32, &f32))| i % 28 >= 14 || (a - b).abs() < 1e-4;
        assert!(kept.to_f32().iter().zip(&golden.to_f32()).enumerate().all(left), "{edit}");
    }
    // A picture is as good as its numbers, to 8 bits.
    fs::write(folder.path().join("black.png"), black()).expect("a picture");
    let picture = samples(&folder, &format!("{label} --init black.png --strength 0.5"));
    assert!(picture.to_f32() != begun.to_f32());
}

/// A black picture of 28 by 28.
fn black() -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image::GrayImage::new(28, 28).write_to(&mut bytes, image::ImageFormat::Png).expect("a picture");
    bytes.into_inner()
}

#[test]
fn samples_between_two_seeds_begin_and_end_with_theirs() {
    let folder = folder();
    let between = samples(&folder, "--between 4,9 -n 3 --cond label=3");
    assert_eq!(between.shape(), [3, 1, 28, 28]);
    for (at, seed) in [(0, 4), (2, 9)] {
        let alone = samples(&folder, &format!("-n 1 --seed {seed} --cond label=3"));
        let near =
            between.to_f32()[at * 784..][..784].iter().zip(alone.to_f32()).all(|(a, b)| (a - b).abs() < 1e-3);
        assert!(near, "seed {seed}");
    }
    assert_eq!(samples(&folder, "--between 4,9").shape(), [8, 1, 28, 28]);
}

#[test]
fn every_command_has_help() {
    let folder = folder();
    for command in ["", "sample", "run", "inspect", "list", "compile", "bench", "verify"] {
        assert!(fewstep(&folder, &format!("{command} --help")).contains("Usage: fewstep"));
    }
}

#[test]
fn the_noise_is_that_of_the_library_asked_for() {
    let folder = folder();
    let noise = |rng: &str| {
        let file = format!("{rng}.npy");
        fewstep(&folder, &format!("sample -n 1 --cond label=3 --rng {rng} -o {file}"));
        fs::read(folder.path().join(file)).expect("samples")
    };
    assert_eq!(noise("torch-cpu"), {
        fewstep(&folder, "sample -n 1 --cond label=3 -o default.npy");
        fs::read(folder.path().join("default.npy")).expect("samples")
    });
    assert_ne!(noise("numpy"), noise("torch-cpu"));
}

#[test]
fn wrong_usage_ends_with_2() {
    let folder = folder();
    let wrong = [
        "",
        "samples",
        "sample --colour red",
        "sample -n 0",
        "sample -n many",
        "sample --threads 0",
        "sample --steps -1",
        "sample --cond label",
        "sample --cond label=seven",
        "sample --cond label=inf",
        "sample --precision f8",
        "sample --rng dice",
        "sample --schedule uniform --times 1,0",
        "sample --rho 7",
        "sample --times one,0",
        "sample --guidance-interval 0.5",
        "sample --guidance-interval a,b",
        "sample --negative label",
        "sample --strength 0.5",
        "sample --mask mask.png",
        "sample --edit colorize",
        "sample --init a.npy --edit paint",
        "sample --between 1",
        "sample --between 1,2 --seed 3",
        "sample --between 1,2 --noise x.npy",
        "sample --order many",
        "sample a b",
        "run",
        "run mlp.onnx",
        "run mlp.onnx --input x -o out",
        "inspect",
        "inspect digits --shape x=1xtwo",
        "inspect digits --shape x=99999999999x99999999999",
        "list",
        "list colours",
    ];
    for arguments in wrong {
        let (code, printed) = try_fewstep(&folder, arguments);
        assert!(
            code == Some(2) && printed.contains("Usage") | printed.contains("--help"),
            "{arguments}: {printed}"
        );
    }
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
}
