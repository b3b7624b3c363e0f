//! `fewstep bench` and `fewstep inspect --profile` as scripts use them. Times are only looked at for their order.
#![cfg(feature = "cli")]

mod common;
mod program;

use common::path;
use program::{fewstep, try_fewstep};
use serde_json::Value;
use std::fs;
use std::process::Command;
use tempfile::TempDir;

/// Two runtimes that compute the same in another order.
const TOLERANCE: f64 = 1e-4;

fn bench(folder: &TempDir, arguments: &str) -> Value {
    fewstep(folder, &format!("bench {arguments} --json bench.json"));
    let text = fs::read_to_string(folder.path().join("bench.json")).expect("a file");
    serde_json::from_str(&text).expect("JSON")
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn assert_distribution(times: &Value) {
    let times = ["min", "p50", "p90", "p99", "max"].map(|key| number(&times[key]));
    assert!(times[0] > 0.0 && times.is_sorted(), "{times:?}");
}

fn assert_peer(report: &Value, name: &str) {
    let peer = &report["peer"];
    assert_eq!(peer["name"], name);
    assert!(peer["version"].as_str().is_some_and(|version| !version.is_empty()));
    [&peer["step_ms"], &peer["own_step_ms"]].into_iter().for_each(assert_distribution);
    assert!(number(&peer["ratio"]) > 0.0 && number(&peer["max_relative_l2"]) < TOLERANCE, "{peer}");
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

#[test]
fn bench_measures_samples() {
    let folder = folder();
    let report = bench(&folder, "digits --runs 4 --steps 3 --threads 1 --precision f32");
    for (key, expected) in [("model", "digits"), ("provider", "cpu"), ("precision", "f32")] {
        assert_eq!(report[key], expected);
    }
    for (key, expected) in [("threads", 1.0), ("steps", 3.0), ("runs", 4.0), ("allocations_per_step", 0.0)] {
        assert_eq!(number(&report[key]), expected, "{key}");
    }
    for key in ["open_ms", "first_sample_ms", "arena_bytes", "weights_bytes"] {
        assert!(number(&report[key]) > 0.0, "{key}");
    }
    [&report["step_ms"], &report["sample_ms"]].into_iter().for_each(assert_distribution);
    assert!(number(&report["sample_ms"]["min"]) > number(&report["step_ms"]["min"]));
    let machine = &report["machine"];
    for key in ["cores", "peak_gflops", "read_gb_per_s"] {
        assert!(number(&machine[key]) > 0.0, "{key}");
    }
    assert!(machine["cpu"].is_string() && machine["features"].is_array());
    assert!(report.get("peer").is_none());
    if cfg!(target_os = "linux") {
        let [resident, dirty] = ["rss_bytes", "private_dirty_bytes"].map(|key| number(&report[key]));
        assert!(dirty > number(&report["arena_bytes"]) && resident > dirty);
    }
}

#[test]
fn bench_measures_a_network_without_a_manifest() {
    let folder = folder();
    fs::copy(path("models/digits/digits.onnx"), folder.path().join("alone.onnx")).expect("a network");
    let shapes = "--shape x=1x1x28x28 --shape t=1 --shape h=1 --shape label=1";
    let report = bench(&folder, &format!("alone.onnx --runs 4 {shapes}"));
    assert_distribution(&report["step_ms"]);
    assert!(report["sample_ms"].is_null());
    assert_eq!(number(&report["steps"]), 1.0);

    let (code, printed) = try_fewstep(&folder, &format!("bench alone.onnx --steps 2 {shapes}"));
    assert!(code == Some(1) && printed.contains("--steps needs a fewstep.toml"), "{printed}");
    let (code, printed) = try_fewstep(&folder, "bench digits --shape x=1x1x28x28");
    assert!(code == Some(1) && printed.contains("--shape is for networks without"), "{printed}");
}

#[test]
fn bench_writes_a_page_that_needs_nothing_else() {
    let folder = folder();
    let printed = fewstep(&folder, "bench digits --runs 4 --html page.html");
    assert!(printed.lines().any(|line| line.starts_with("sample  ")), "{printed}");
    let page = fs::read_to_string(folder.path().join("page.html")).expect("a page");
    assert!(page.contains("<svg") && page.contains("<rect") && page.contains("<td>digits</td>"));
    for foreign in ["<script", "src=", "href=", "url("] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    let (code, printed) = try_fewstep(&folder, "bench digits --json no/bench.json");
    assert!(code == Some(1) && printed.contains("there is no folder no"), "{printed}");
}

#[test]
fn tract_computes_the_same() {
    assert_peer(&bench(&folder(), "digits --runs 4 --against tract --threads 1"), "tract");
}

#[test]
fn onnx_runtime_computes_the_same() {
    if std::env::var_os("ORT_DYLIB_PATH").is_none() {
        eprintln!("not run: ORT_DYLIB_PATH is not set");
        return;
    }
    let folder = folder();
    let networks = path("tests/networks");
    let open = format!("{} --shape sample=1x3x8x8", networks.join("unet2d/unet2d.onnx").display());
    for model in ["digits".into(), open] {
        let report = bench(&folder, &format!("{model} --runs 4 --against ort --threads 2"));
        assert_peer(&report, "onnxruntime");
        assert_eq!(report["peer"]["threads"], 2);
    }
    let half = networks.join("mlp_fp16/mlp_fp16.onnx").display().to_string();
    let report = bench(&folder, &format!("{half} --shape x=2x6 --runs 4 --against ort"));
    // The peer computes in half precision.
    assert!(number(&report["peer"]["max_relative_l2"]) < 1e-2 && number(&report["peer"]["ratio"]) > 0.0);
}

#[test]
fn onnx_runtime_has_to_be_there() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fewstep"));
    command.args(["bench", "digits", "--runs", "1", "--against", "ort"]).env_remove("FEWSTEP_ORT_LIB");
    let output = command.env("ORT_DYLIB_PATH", "/not/here.so").output().expect("a run");
    let printed = String::from_utf8(output.stderr).expect("text");
    assert!(
        output.status.code() == Some(1) && printed.contains("ORT_DYLIB_PATH /not/here.so: "),
        "{printed}"
    );
    assert_eq!(printed.lines().count(), 1);
}

#[test]
fn a_profile_accounts_for_every_instruction() {
    let folder = folder();
    let printed = fewstep(&folder, "inspect digits --profile --json");
    let report: Value = serde_json::from_str(&printed).expect("JSON");
    let groups = report["profile"]["groups"].as_array().expect("groups");
    let all: f64 = groups.iter().map(|group| number(&group["instructions"])).sum();
    assert_eq!(all, number(&report["instructions"]));
    let sum: f64 = groups.iter().map(|group| number(&group["ms"])).sum();
    let whole = number(&report["profile"]["ms"]);
    assert!((sum - whole).abs() <= 1e-9 * whole, "{sum} of {whole}");
    // Winograd's method does a direct convolution's work with fewer operations; nothing else beats the machine.
    let fast = |group: &&Value| group["share"].as_f64().is_some_and(|share| share > 1.2);
    let faster: Vec<_> = groups.iter().filter(fast).map(|group| &group["kind"]).collect();
    assert!(faster.iter().all(|kind| *kind == "Conv (Winograd)"), "{faster:?}");
    assert!(fewstep(&folder, "inspect digits --profile").contains("GFLOP/s"));
    let plain: Value = serde_json::from_str(&fewstep(&folder, "inspect digits --json")).expect("JSON");
    assert!(plain.get("profile").is_none());
}
