//! `targets/*.toml`: each is whole, says nothing that nobody reads, and fits what the program has (docs/targets.md).
#![cfg(feature = "compile")]

mod common;

use common::path;
use fewstep::kernels::Isa;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Target {
    name: String,
    triple: String,
    cpu: String,
    features: Vec<String>,
    plan: String,
    precision: Precision,
    models: Vec<String>,
    machine: Machine,
    build: Build,
    run: Run,
    budget: BTreeMap<String, Budget>,
}

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Precision {
    F32,
    F16,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Machine {
    cores: u32,
    memory_bytes: u64,
    peak_gflops: f64,
    half_peak_gflops: Option<f64>,
    read_gb_per_s: f64,
}

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Product {
    Program,
    Library,
    Runtime,
    Firmware,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Build {
    product: Product,
    #[serde(default)]
    packages: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    missing: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Run {
    emulator: Option<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    missing: Option<String>,
}

/// Upper bounds of figures of `fewstep bench --json`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Budget {
    open_ms: f64,
    first_sample_ms: f64,
    sample_ms: f64,
    sample_p99_ms: f64,
    jitter: f64,
    arena_bytes: u64,
    rss_bytes: Option<u64>,
    private_dirty_bytes: Option<u64>,
    allocations_per_step: u64,
}

fn targets() -> Vec<(String, Target)> {
    let files = std::fs::read_dir(path("targets")).expect("targets").map(|e| e.expect("an entry").path());
    let files = files.filter(|file| file.extension().is_some_and(|extension| extension == "toml"));
    files.map(|file| (file.file_stem().expect("a name").to_string_lossy().into(), read(&file))).collect()
}

fn read(file: &Path) -> Target {
    let text = std::fs::read_to_string(file).expect("text");
    toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

#[test]
fn every_class_of_the_list_is_there() {
    let mut names: Vec<String> = targets().into_iter().map(|(name, _)| name).collect();
    names.sort();
    let expected = [
        "aarch64-linux-gnu",
        "aarch64-linux-musl",
        "android-arm64",
        "bare-aarch64",
        "cortex-m55",
        "graviton",
        "ios-arm64",
        "jetson-orin",
        "macos-arm64",
        "raspberry-pi-4",
        "raspberry-pi-5",
        "raspberry-pi-zero-2w",
        "wasm32",
        "x86-avx2",
    ];
    assert_eq!(names, expected);
}

#[test]
fn plans_are_of_instruction_sets_that_the_cpu_has() {
    for (name, target) in targets() {
        let isa: Isa = target.plan.parse().unwrap_or_else(|error| panic!("{name}: {error}"));
        for feature in isa.features() {
            assert!(target.features.iter().any(|f| f == feature), "{name}: {isa} needs {feature}");
        }
        assert_eq!(target.precision == Precision::F16, isa == Isa::ArmFp16, "{name}");
        assert_eq!(target.precision == Precision::F16, target.machine.half_peak_gflops.is_some(), "{name}");
        assert!(target.triple.split('-').count() >= 3 && !target.cpu.is_empty() && !target.name.is_empty());
    }
}

#[test]
fn what_is_built_runs_or_says_what_it_takes() {
    for (name, Target { triple, build, run, .. }) in targets() {
        let runs = matches!(build.product, Product::Program | Product::Firmware);
        assert_eq!(runs, run.missing.is_none(), "{name}");
        assert_eq!(run.emulator.is_some(), runs && triple != "x86_64-unknown-linux-gnu", "{name}");
        assert_eq!(build.missing.is_some(), build.product == Product::Library, "{name}");
        for text in build.packages.iter().chain(build.env.values()).chain(run.env.values()) {
            assert!(!text.is_empty(), "{name}");
        }
    }
}

#[test]
fn budgets_are_of_the_models_and_fit_the_machine() {
    for (name, Target { models, machine, budget, .. }) in targets() {
        assert!(budget.keys().eq(models.iter().collect::<std::collections::BTreeSet<_>>()), "{name}");
        assert!(machine.cores > 0 && machine.peak_gflops > 0.0 && machine.read_gb_per_s > 0.0, "{name}");
        for (model, b) in &budget {
            let times = [b.sample_ms, b.sample_p99_ms, b.first_sample_ms];
            assert!(b.open_ms > 0.0 && b.sample_ms > 0.0 && times.is_sorted(), "{name}: {model}: {times:?}");
            assert!(b.jitter >= 1.0 && b.allocations_per_step == 0, "{name}: {model}");
            // What the system itself needs is left.
            let memory = b.rss_bytes.unwrap_or(b.arena_bytes);
            assert!(b.private_dirty_bytes.unwrap_or_default() <= memory, "{name}: {model}");
            assert!(memory < machine.memory_bytes * 3 / 4, "{name}: {model}: {memory} bytes");
        }
    }
}
