//! `fewstep bench` and `fewstep inspect --profile` as scripts use them. Times are only looked at for their order.
#![cfg(feature = "cli")]

mod common;
mod program;

use common::path;
use program::{fewstep, program, try_fewstep};
use serde_json::Value;
use std::fs;
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
    for absent in ["peer", "sustained", "sweep", "budget"] {
        assert!(report.get(absent).is_none(), "{absent}");
    }
    let (step, jitter) = (&report["step_ms"], number(&report["jitter"]));
    assert!(jitter >= 1.0 && (jitter - number(&step["p99"]) / number(&step["p50"])).abs() < 1e-9);
    assert!(report["energy"].is_null() || number(&report["energy"]["joules_per_run"]) >= 0.0);
    // A program that is emulated can not start itself.
    let starts = report["cold_start"].as_array();
    assert!(starts.is_some() || std::env::var_os("FEWSTEP_RUNNER").is_some(), "new processes");
    assert!(starts.is_none_or(|starts| (1..=3).contains(&starts.len())));
    for start in starts.into_iter().flatten() {
        let parts = number(&start["open_ms"]) + number(&start["first_sample_ms"]);
        assert!(parts > 0.0 && number(&start["process_ms"]) > parts, "{start}");
    }
    if cfg!(target_os = "linux") {
        let [resident, dirty] = ["rss_bytes", "private_dirty_bytes"].map(|key| number(&report[key]));
        assert!(dirty > number(&report["arena_bytes"]) && resident > dirty);
        assert!(machine["kernel"].is_string() && number(&machine["memory_bytes"]) > resident);
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
    let more = "--sustain 1 --sweep --threads 2 --against tract";
    let printed = fewstep(&folder, &format!("bench digits --runs 4 {more} --html page.html"));
    assert!(printed.lines().any(|line| line.starts_with("sample  ")), "{printed}");
    let page = fs::read_to_string(folder.path().join("page.html")).expect("a page");
    assert!(page.contains("<rect") && page.contains("<td>digits</td>"));
    for chart in ["take no longer", "one after the other", "without a pause", "Speed-up of a step"] {
        assert!(page.contains(&format!("{chart}</figcaption>")), "{chart}");
    }
    assert!(page.matches("<svg").count() >= 4 && page.contains(">tract</span>"));
    for foreign in ["<script", "src=", "href=", "url(", "http", "@import"] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    let (code, printed) = try_fewstep(&folder, "bench digits --json no/bench.json");
    assert!(code == Some(1) && printed.contains("there is no folder no"), "{printed}");
}

#[test]
fn a_sustained_run_and_a_sweep_are_in_the_report() {
    let folder = folder();
    let report = bench(&folder, "digits --runs 4 --sustain 1 --sweep --threads 2");
    let sustained = &report["sustained"];
    let windows = sustained["windows"].as_array().expect("windows");
    assert!((1..=25).contains(&windows.len()) && number(&sustained["seconds"]) >= 1.0);
    let runs: f64 = windows.iter().map(|window| number(&window["runs"])).sum();
    assert_eq!(runs, number(&sustained["runs"]));
    let ratio = number(&sustained["last_ms"]) / number(&sustained["first_ms"]);
    assert!((number(&sustained["slowdown"]) - ratio).abs() < 1e-9);

    let sweep = report["sweep"].as_array().expect("a sweep");
    let threads: Vec<f64> = sweep.iter().map(|point| number(&point["threads"])).collect();
    assert_eq!(threads, [1.0, 2.0]);
    assert_eq!(number(&sweep[0]["speedup"]), 1.0);
    // Written and read again, a number may be off in its last place.
    assert!((number(&sweep[1]["efficiency"]) - number(&sweep[1]["speedup"]) / 2.0).abs() < 1e-9);
}

/// All keys of an object and of those below, apart from those of distributions.
fn keys(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(object) => object.iter().for_each(|(key, below)| {
            found.push(key.clone());
            keys(below, found);
        }),
        Value::Array(array) => array.iter().for_each(|below| keys(below, found)),
        _ => (),
    }
}

#[test]
fn every_key_is_documented() {
    let folder = folder();
    fs::write(folder.path().join("board.toml"), "[budget.digits]\narena_bytes = 1e9").expect("a file");
    let more = "--sustain 1 --sweep --threads 1 --against tract --budget board.toml";
    let report = bench(&folder, &format!("digits --runs 4 {more}"));
    let compared = fewstep(&folder, "bench --compare bench.json bench.json --json compared.json");
    assert!(compared.lines().any(|line| line.starts_with("step_ms.p50 ")), "{compared}");
    let text = fs::read_to_string(folder.path().join("compared.json")).expect("a file");
    let mut found = Vec::new();
    keys(&report, &mut found);
    keys(&serde_json::from_str(&text).expect("JSON"), &mut found);
    let pages = fs::read_to_string(path("docs/bench.md")).expect("a page");
    // `machine.cpu` as well as `cpu`.
    let names: Vec<&str> =
        pages.split('`').flat_map(|code| code.split(|c: char| !c.is_alphanumeric() && c != '_')).collect();
    found.retain(|key| !names.contains(&key.as_str()));
    assert!(found.is_empty(), "docs/bench.md does not say what these are: {found:?}");
}

#[test]
fn a_budget_passes_or_fails() {
    let folder = folder();
    let run = |text: &str| {
        fs::write(folder.path().join("board.toml"), text).expect("a file");
        try_fewstep(&folder, "bench digits --runs 4 --threads 1 --budget board.toml --json bench.json")
    };
    let (code, printed) =
        run("triple = \"x\"\n[budget.digits]\nallocations_per_step = 0\narena_bytes = 1e9\n");
    assert_eq!(code, Some(0), "{printed}");
    assert!(printed.contains("allocations_per_step is 0 of 0\n"), "{printed}");

    let (code, printed) = run("[budget.digits]\nsample_ms = 1e-6\narena_bytes = 1\nrss_bytes = 1e15\n");
    assert_eq!(code, Some(1), "{printed}");
    let over: Vec<&str> = printed.lines().filter(|line| line.starts_with("fewstep: ")).collect();
    assert!(
        over[0].starts_with("fewstep: arena_bytes is ") && over[0].ends_with(": over the budget"),
        "{over:?}"
    );
    assert!(over[1].starts_with("fewstep: sample_ms is "), "{over:?}");
    assert_eq!(over[2..], ["fewstep: error: board.toml: 2 of 3 figures of digits are over the budget"]);
    // What was found is written all the same.
    let text = fs::read_to_string(folder.path().join("bench.json")).expect("a file");
    let report: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(report["budget"]["pass"], false);

    let (code, printed) = run("[budget.digits]\nsample = 1\n");
    assert!(
        code == Some(1) && printed.starts_with("fewstep: error: board.toml:2: `sample` is no figure"),
        "{printed}"
    );
    let (code, printed) = run("[budget.terrain]\nsample_ms = 1\n");
    assert_eq!(code, Some(1));
    assert_eq!(printed, "fewstep: error: board.toml: there is no [budget.digits]; it has [budget.terrain]\n");
}

#[test]
fn two_reports_are_set_side_by_side() {
    let folder = folder();
    let mut report = bench(&folder, "digits --runs 20 --threads 1");
    report["threads"] = 2.into();
    report["arena_bytes"] = (2.0 * number(&report["arena_bytes"])).into();
    fs::write(folder.path().join("b.json"), report.to_string()).expect("a file");
    let printed = fewstep(&folder, "bench --compare bench.json b.json --json compared.json");
    assert!(printed.contains("fewstep: warning: threads differs: 1, then 2\n"), "{printed}");
    let text = fs::read_to_string(folder.path().join("compared.json")).expect("a file");
    let compared: Value = serde_json::from_str(&text).expect("JSON");
    let figures = compared["figures"].as_array().expect("figures");
    let figure = |name: &str| figures.iter().find(|figure| figure["figure"] == name).expect("the figure");
    assert_eq!(figure("arena_bytes")["beyond_noise"], true);
    assert_eq!(number(&figure("arena_bytes")["ratio"]), 2.0);
    assert_eq!(figure("sample_ms.p50")["beyond_noise"], false);
    assert!(figure("open_ms")["beyond_noise"].is_null());

    let (code, printed) = try_fewstep(&folder, "bench --compare bench.json missing.json");
    assert!(code == Some(1) && printed.starts_with("fewstep: error: missing.json: "), "{printed}");
    for wrong in ["bench", "bench digits --compare a.json b.json", "bench --compare a.json"] {
        assert_eq!(try_fewstep(&folder, wrong).0, Some(2), "{wrong}");
    }
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
    let mut command = program();
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

    fewstep(&folder, "compile digits -o digits.fsp");
    let plans = |words: &str| -> Value {
        serde_json::from_str(&fewstep(&folder, &format!("inspect digits.fsp --json {words}"))).expect("JSON")
    };
    assert!(plans("").get("profile").is_none());
    let groups = plans("--profile")["profile"]["groups"].clone();
    let all: f64 =
        groups.as_array().expect("groups").iter().map(|group| number(&group["instructions"])).sum();
    assert_eq!(all, number(&plans("")["plans"][0]["instructions"]));
}
