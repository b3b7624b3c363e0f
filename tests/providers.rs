//! Networks on other runtimes: the samples are the engine's, and what is not there is an error that says what is missing.
//!
//! What needs ONNX Runtime runs where `onnxruntime::library` finds it. tests/providers.sh has the heavy ones.
#![cfg(feature = "cli")]

mod common;
mod onnxruntime;
mod program;

use common::path;
use fewstep::cache::Cache;
use fewstep::graph::Binding;
use fewstep::manifest::{Manifest, Request};
use fewstep::onnx::{Model, Shapes};
use fewstep::plan::Stage;
use fewstep::provider::ort::Choice;
use fewstep::provider::{Network, OnnxFile, Opening, Provider, Settings};
use fewstep::sampler::{Noise, TorchCpu};
use fewstep::session::{Control, Session};
use program::{fewstep, program, try_fewstep};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// Of the range of samples, -1 to 1: runtimes compute the same in another order.
const TOLERANCE: f32 = 2.0 * 1e-4;

const ALONE: Settings = Settings {
    threads: 1,
    isa: None,
    precision: fewstep::provider::Precision::F32,
    max_memory: None,
    resident: None,
    frugal: false,
    prefault: false,
    unstaged: false,
};

/// tract, and ONNX Runtime if it is there.
fn providers() -> Vec<Provider> {
    let ort = onnxruntime::library().map(|library| Choice { library: Some(library), ..Choice::default() });
    std::iter::once(Provider::Tract).chain(ort.map(Provider::Ort)).collect()
}

fn digits(provider: &Provider) -> Session {
    let manifest = Manifest::read(path("models/digits")).expect("a manifest");
    let network = manifest.network_path();
    let file = OnnxFile { path: &network, bytes: None };
    Session::on(provider, manifest.clone(), file, ALONE, None).unwrap_or_else(|error| panic!("{error}"))
}

fn assert_close(found: &[f32], wanted: &[f32], tolerance: f32, what: &str) {
    assert_eq!(found.len(), wanted.len(), "{what}");
    let most = found.iter().zip(wanted).fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
    assert!(most <= tolerance, "{what}: {most}");
}

#[test]
fn samples_are_the_engines() {
    let mut engine = digits(&Provider::Cpu);
    for provider in providers() {
        let mut session = digits(&provider);
        assert_eq!(session.network().provider(), provider.name());
        for steps in [1, 3] {
            for session in [&mut engine, &mut session] {
                session.prepare(&Request { steps: Some(steps), ..Request::default() }).expect("steps");
            }
            for class in 0..10 {
                let [wanted, found] = [&mut engine, &mut session].map(|session| {
                    let mut out = vec![0.0; session.elements()];
                    session.set_condition("label", &[class as f64]).expect("a class");
                    session.sample_from(&mut TorchCpu::new(class), &mut out).expect("a sample");
                    out
                });
                assert_close(&found, &wanted, TOLERANCE, &format!("{} {class}", provider.name()));
            }
        }
    }
}

/// Both values of a condition keep their place, and the state is written once for both.
#[test]
fn guidance_is_the_engines() {
    let request = Request { steps: Some(2), guidance: Some(2.0), ..Request::default() };
    let sample = |provider: &Provider| {
        let mut session = digits(provider);
        session.prepare(&request).expect("guidance");
        session.set_condition("label", &[7.0]).expect("a class");
        session.set_negative("label", &[1.0]).expect("a class");
        let mut out = vec![0.0; session.elements()];
        session.sample_from(&mut TorchCpu::new(3), &mut out).expect("a sample");
        out
    };
    let wanted = sample(&Provider::Cpu);
    for provider in providers() {
        // Guidance makes differences of twice the size.
        assert_close(&sample(&provider), &wanted, 3.0 * TOLERANCE, &provider.name());
    }
}

/// The first output of a network on unit normal noise, from its file alone.
fn evaluated(provider: &Provider, network: &Path, shapes: &Shapes) -> Vec<f32> {
    let file = OnnxFile { path: network, bytes: None };
    let opening = Opening { shapes, settings: ALONE, bindings: &[], cache: None };
    let mut network = match provider {
        Provider::Cpu => Network::new(Model::read(network).expect("a network"), shapes, ALONE),
        provider => Network::on(provider, file, &opening),
    }
    .unwrap_or_else(|error| panic!("{error}"));
    let inputs = network.inputs().count();
    let mut io = network.io().expect("inputs");
    for index in 0..inputs {
        if let Ok(input) = io.input_f32(index) {
            TorchCpu::new(index as u64).fill_normal(input);
        }
    }
    network.run().unwrap_or_else(|error| panic!("{error}"));
    network.io().expect("outputs").output_f32(0).expect("an output").to_vec()
}

#[test]
fn half_precision_and_open_shapes_go_in_and_out() {
    let shape = |name: &str, shape: &[usize]| Shapes::from([(name.to_string(), shape.to_vec())]);
    let networks = [
        ("mlp_fp16/mlp_fp16.onnx", shape("x", &[2, 6]), 2e-2),
        ("unet2d/unet2d.onnx", shape("sample", &[1, 3, 8, 8]), 1e-3),
    ];
    for (network, shapes, tolerance) in networks {
        let network = path("tests/networks").join(network);
        let wanted = evaluated(&Provider::Cpu, &network, &shapes);
        // tract multiplies no matrices in half precision.
        let half = network.ends_with("mlp_fp16.onnx");
        for provider in providers().into_iter().filter(|p| !half || !matches!(p, Provider::Tract)) {
            let found = evaluated(&provider, &network, &shapes);
            let what = format!("{} {}", provider.name(), network.display());
            assert_close(&found, &wanted, tolerance, &what);
        }
    }
}

/// An input that is not the state: its name, what changes it, and its shape.
type Bound = (&'static str, Binding, &'static [usize]);

/// What depends on times and conditions alone is evaluated by the engine, and once for each of their values.
#[test]
fn a_network_is_handed_over_in_stages() {
    const TIME: Binding = Binding::TIME;
    const CONDITION: Binding = Binding::CONDITION;
    let networks: [(&str, &[usize], &[Bound]); 5] = [
        ("dit/dit.onnx", &[1, 4, 8, 8], &[("timestep", TIME, &[1]), ("class_labels", CONDITION, &[1])]),
        ("sit/sit.onnx", &[1, 4, 8, 8], &[("r", TIME, &[1]), ("t", TIME, &[1]), ("y", CONDITION, &[1])]),
        (
            "policy_unet1d/policy_unet1d.onnx",
            &[1, 16, 3],
            &[("timestep", TIME, &[1]), ("global_cond", CONDITION, &[1, 10])],
        ),
        (
            "unet2d_condition/unet2d_condition.onnx",
            &[1, 4, 8, 8],
            &[("timestep", TIME, &[1]), ("encoder_hidden_states", CONDITION, &[1, 5, 12])],
        ),
        (
            "external/external.onnx",
            &[1, 6],
            &[("s", TIME, &[1]), ("t", TIME, &[1]), ("condition", CONDITION, &[1, 10])],
        ),
    ];
    for (name, state, others) in networks {
        let path = path("tests/networks").join(name);
        let file = OnnxFile { path: &path, bytes: None };
        let header = file.header().expect("a network");
        let given = others.iter().map(|&(name, _, shape)| (name.to_string(), shape.to_vec()));
        let shapes: Shapes = given.chain([(header.inputs[0].name.clone(), state.to_vec())]).collect();
        let bindings: Vec<_> = others.iter().map(|&(name, binding, _)| (name, binding)).collect();
        for provider in providers() {
            let open = |bindings| {
                let opening = Opening { shapes: &shapes, settings: ALONE, bindings, cache: None };
                Network::on(&provider, file, &opening).unwrap_or_else(|error| panic!("{name}: {error}"))
            };
            let (mut whole, mut staged) = (open(&[]), open(&bindings));
            let names =
                |network: &Network| network.inputs().map(|(name, _)| name.to_string()).collect::<Vec<_>>();
            assert_eq!(names(&staged), names(&whole));
            assert!(whole.prelude().is_none());
            let (plan, handed_on) = staged.prelude().unwrap_or_else(|| panic!("{name} is whole"));
            assert!(plan.cost(Stage::Time).parameters > 0 && handed_on > 0, "{name}");
            assert!(
                matches!(provider, Provider::Tract) || staged.assignment().len() < whole.assignment().len()
            );
            // The condition stays the same in the second evaluation, the time in the third, and both in the fourth.
            for (time, condition) in [(500.0, 3), (20.0, 3), (20.0, 5), (20.0, 5)] {
                let [wanted, found] = [&mut whole, &mut staged].map(|network| {
                    fill(network, others, time, condition);
                    network.run().unwrap_or_else(|error| panic!("{error}"));
                    network.io().expect("outputs").output_f32(0).expect("an output").to_vec()
                });
                let range = wanted.iter().fold(1.0f32, |most, x| most.max(x.abs()));
                assert_close(&found, &wanted, 1e-4 * range, &format!("{} {name}", provider.name()));
            }
        }
    }
}

/// What was kept of the stages of a network is of no use once its external data are others.
#[test]
fn other_external_data_are_another_network() {
    let folder = TempDir::new().expect("a folder");
    let [from, to] = [path("tests/networks/external"), folder.path().to_owned()];
    fs::create_dir(to.join("part")).expect("a folder");
    for file in ["external.onnx", "external.onnx.data", "part/largest.bin"] {
        fs::copy(from.join(file), to.join(file)).expect("a copy");
    }
    let others: [Bound; 3] =
        [("s", Binding::TIME, &[1]), ("t", Binding::TIME, &[1]), ("condition", Binding::CONDITION, &[1, 10])];
    let shapes = others.map(|(name, _, shape)| (name.to_string(), shape.to_vec()));
    let shapes: Shapes = shapes.into_iter().chain([("x".to_string(), vec![1, 6])]).collect();
    let bindings = others.map(|(name, binding, _)| (name, binding));
    let cache = Cache { folder: to.join("cache"), limit: 1 << 30 };
    let network = to.join("external.onnx");
    let draw = |bindings, cache| {
        let opening = Opening { shapes: &shapes, settings: ALONE, bindings, cache };
        let file = OnnxFile { path: &network, bytes: None };
        let mut network =
            Network::on(&Provider::Tract, file, &opening).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(network.prelude().is_some(), !bindings.is_empty());
        fill(&mut network, &others, 20.0, 3);
        network.run().unwrap_or_else(|error| panic!("{error}"));
        network.io().expect("outputs").output_f32(0).expect("an output").to_vec()
    };
    let first = draw(&bindings, Some(&cache));
    assert_eq!(draw(&bindings, Some(&cache)), first);
    // All weights are halved. Another file takes the place of this one, which may be mapped.
    let data = fs::read(to.join("external.onnx.data")).expect("weights");
    let halved: Vec<u8> = data
        .as_chunks()
        .0
        .iter()
        .flat_map(|&bytes| (f32::from_le_bytes(bytes) / 2.0).to_le_bytes())
        .collect();
    fs::write(to.join("halved"), halved).expect("weights");
    fs::rename(to.join("halved"), to.join("external.onnx.data")).expect("another file");
    let second = draw(&bindings, Some(&cache));
    assert_ne!(second, first);
    assert_close(&second, &draw(&[], None), 1e-5, "halved");
}

/// Fills all inputs; the condition's only if it is another than before.
fn fill(network: &mut Network, others: &[Bound], time: f64, condition: u64) {
    let names: Vec<String> = network.inputs().map(|(name, _)| name.to_string()).collect();
    let mut io = network.io().expect("inputs");
    for (index, name) in names.iter().enumerate() {
        let binding = others.iter().find(|other| other.0 == name).map(|other| other.1);
        match (binding, io.input_i64(index).map(|input| input.len())) {
            (Some(Binding::TIME), Ok(_)) => io.input_i64(index).expect("i64").fill(time as i64),
            (Some(Binding::TIME), Err(_)) => io.input_f32(index).expect("f32").fill(time as f32),
            (Some(_), Ok(_)) => io.input_i64(index).expect("i64").fill(condition as i64),
            (Some(_), Err(_)) => TorchCpu::new(condition).fill_normal(io.input_f32(index).expect("f32")),
            (None, _) => TorchCpu::new(99).fill_normal(io.input_f32(index).expect("f32")),
        }
    }
}

/// Where the state stays in the provider's memory, a sample is what it is where the state is fed in every step. All else
/// of a session goes on, in one way or the other.
#[test]
fn samples_are_the_same_where_the_state_stays() {
    let Some(library) = onnxruntime::library() else { return };
    let on = |resident| {
        let library = Some(library.clone());
        digits(&Provider::Ort(Choice { library, resident: Some(resident), ..Choice::default() }))
    };
    let (mut fed, mut kept) = (on(false), on(true));
    assert!(kept.keeps_state() && !fed.keeps_state());
    let reference = vec![0.25; kept.elements()];
    let requests = [
        Request::default(),
        Request { steps: Some(4), ..Request::default() },
        Request { sampler: Some("meanflow-sde"), steps: Some(3), ..Request::default() },
        Request { sampler: Some("euler"), steps: Some(2), ..Request::default() },
        Request { guidance: Some(2.0), steps: Some(2), ..Request::default() },
        Request { steps: Some(2), ..Request::default() },
    ];
    for (at, request) in requests.iter().enumerate() {
        for class in [3, 3, 8] {
            let [wanted, found] = [&mut fed, &mut kept].map(|session| {
                session.prepare(request).unwrap_or_else(|error| panic!("{error}"));
                session.set_condition("label", &[f64::from(class)]).expect("a class");
                session.set_negative("label", &[1.0]).expect("a class");
                if at == 5 {
                    let mask = vec![1.0; reference.len()];
                    session.set_reference(&reference, Control::Keep { mask: &mask }).expect("a reference");
                }
                let mut out = vec![0.0; session.elements()];
                session.sample_from(&mut TorchCpu::new(5), &mut out).expect("a sample");
                out
            });
            assert_eq!(found, wanted, "{request:?}");
            assert_eq!(kept.keeps_state(), request.guidance.is_none() && at != 5, "{request:?}");
        }
    }
}

/// `slice.onnx`, made with `onnx.helper`, is `x` from row `k` on, and declares no shape for that.
#[test]
fn an_evaluation_shows_a_shape_that_hangs_on_values() {
    let Some(library) = onnxruntime::library() else { return };
    let network = path("tests/onnxruntime/slice.onnx");
    let shapes = Shapes::from([("x".to_string(), vec![2, 3])]);
    let provider = Provider::Ort(Choice { library: Some(library), ..Choice::default() });
    let opening = Opening { shapes: &shapes, settings: ALONE, bindings: &[], cache: None };
    let file = OnnxFile { path: &network, bytes: None };
    let mut network = Network::on(&provider, file, &opening).expect("a network");
    assert_eq!(network.outputs().map(|(_, fact)| fact.shape).collect::<Vec<_>>(), [vec![2, 3]]);
    network.io().expect("inputs").input_f32(0).expect("x").fill(7.0);
    network.run().expect("an evaluation");
    assert_eq!(network.io().expect("outputs").output_f32(0).expect("y"), [7.0; 6]);

    // Now the output has another shape.
    network.io().expect("inputs").input_i64(1).expect("k").fill(1);
    let refused = network.run().expect_err("an error").to_string();
    assert!(refused.starts_with("ort:cpu does not run this network: "), "{refused}");
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

/// The program ends with exit code 1 and one line, which has these parts.
fn assert_refused(arguments: &str, expected: &[&str]) {
    let (code, printed) = try_fewstep(&folder(), arguments);
    assert_eq!(code, Some(1), "{arguments}: {printed}");
    assert_eq!(printed.lines().count(), 1, "{printed}");
    for part in expected {
        assert!(printed.contains(part), "{arguments}: {printed}");
    }
}

#[test]
fn providers_and_options_have_to_be_known() {
    assert_refused("sample digits --provider gpu", &["no provider `gpu`", "cpu, tract, ort", "openvino"]);
    assert_refused("sample digits --provider ort:npu", &["no provider `ort:npu`", "ort:qnn"]);
    let openvino = "sample digits --provider ort:openvino --provider-option";
    assert_refused(&format!("{openvino} device=CPU"), &["no option `device`", "device_type (a text)"]);
    assert_refused(&format!("{openvino} num_streams=two"), &["num_streams is a whole number, and not `two`"]);
    assert_refused("sample digits --strict", &["--strict is for --provider ort, and not for cpu"]);
    let half = "run digits -o out --provider tract --precision f16";
    assert_refused(
        &format!("bench digits --provider tract --precision f16 {}", ""),
        &["half precision is for --provider cpu"],
    );
    assert_eq!(try_fewstep(&folder(), half).0, Some(1));
}

#[test]
fn the_library_has_to_be_onnx_runtimes() {
    let folder = folder();
    let text = folder.path().join("text.so");
    fs::write(&text, "no library").expect("a file");
    let sample = |library: &Path| format!("sample digits --provider ort --ort-lib {}", library.display());
    assert_refused(&sample(Path::new("/not/here.so")), &["--ort-lib /not/here.so: ", "1.24 or later"]);
    assert_refused(&sample(&text), &["text.so: ", "1.24 or later"]);
    let none = fake(&folder, "none", "");
    assert_refused(&sample(&none), &["OrtGetApiBase"]);
    let old = fake(&folder, "old", OLD);
    assert_refused(
        &sample(&old),
        &["version 1.2.3 is too old; name the library of ONNX Runtime 1.24 or later"],
    );
}

/// A library of ONNX Runtime that serves no version of its API that anyone asks for.
const OLD: &str = r#"
    #[repr(C)]
    pub struct Base(extern "C" fn(u32) -> *const u8, extern "C" fn() -> *const u8);
    extern "C" fn api(_: u32) -> *const u8 { std::ptr::null() }
    extern "C" fn version() -> *const u8 { c"1.2.3".as_ptr().cast() }
    static BASE: Base = Base(api, version);
    #[unsafe(no_mangle)]
    pub extern "C" fn OrtGetApiBase() -> *const Base { &BASE }
"#;

/// Compiles a library.
fn fake(folder: &TempDir, name: &str, source: &str) -> std::path::PathBuf {
    let [input, output] = ["rs", "so"].map(|extension| folder.path().join(name).with_extension(extension));
    fs::write(&input, source).expect("a file");
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or("rustc".into()));
    rustc.args(["--edition=2024", "--crate-type=cdylib", "-Cpanic=abort", "-o"]).args([&output, &input]);
    assert!(rustc.status().expect("rustc").success());
    output
}

#[test]
fn everything_that_was_tried_is_named() {
    let mut command = program();
    command.args(["sample", "digits", "--provider", "ort"]);
    command.env_remove("ORT_DYLIB_PATH").env("FEWSTEP_ORT_LIB", "/not/here.so");
    let output = command.output().expect("a run");
    let printed = String::from_utf8(output.stderr).expect("text");
    assert!(
        output.status.code() == Some(1) && printed.contains("FEWSTEP_ORT_LIB /not/here.so: "),
        "{printed}"
    );
}

#[test]
fn a_provider_that_is_not_in_the_library_says_what_it_needs() {
    let Some(library) = onnxruntime::library() else { return };
    let sample = |more: &str| format!("sample digits --ort-lib {} --provider {more}", library.display());
    assert_refused(&sample("ort:cann"), &["ort:cann is not in ", "CPUExecutionProvider", "Ascend NPU"]);
    assert_refused(&sample("ort:qnn --ep-lib /not/here.so"), &["--ep-lib /not/here.so: "]);
}

/// An operator that does not exist.
#[test]
fn a_network_that_is_not_taken_is_an_error() {
    let folder = folder();
    let mut network = fs::read(path("models/digits/digits.onnx")).expect("a network");
    let (known, unknown) = (b"InstanceNormalization", b"InstanceNormalizatiox");
    for at in 0..network.len() - known.len() {
        if &network[at..at + known.len()] == known {
            network[at..at + known.len()].copy_from_slice(unknown);
        }
    }
    fs::write(folder.path().join("digits.onnx"), network).expect("a file");
    fs::copy(path("models/digits/fewstep.toml"), folder.path().join("fewstep.toml")).expect("a file");
    let sample = |provider: &str| {
        let (code, printed) = try_fewstep(&folder, &format!("sample . --provider {provider}"));
        assert!(code == Some(1) && printed.lines().count() == 1, "{printed}");
        printed
    };
    assert!(sample("tract").contains("tract does not run this network: "));
    let Some(library) = onnxruntime::library() else { return };
    let printed = sample(&format!("ort --ort-lib {}", library.display()));
    assert!(printed.contains("ort:cpu does not run this network: ") && printed.contains("Normalizatiox"));
}

#[test]
fn providers_are_listed() {
    let rows: Value =
        serde_json::from_str(&fewstep(&folder(), "list providers --json --ort-lib /not/here.so"))
            .expect("JSON");
    let rows = rows.as_array().expect("an array");
    let row = |name: &str| rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("{name}"));
    assert!(row("cpu")["instruction_sets"].is_array() && row("tract").is_object());
    assert_eq!(rows.len(), 2 + 16);
    let openvino = row("ort:openvino");
    assert_eq!(openvino["full_name"], "OpenVINOExecutionProvider");
    assert_eq!(openvino["options"][0]["name"], "device_type");
    assert!(
        openvino["version"].is_null() && openvino["missing"].as_str().is_some_and(|text| !text.is_empty())
    );

    let Some(library) = onnxruntime::library() else { return };
    let listed = fewstep(&folder(), &format!("list providers --ort-lib {}", library.display()));
    let line = listed.lines().find(|line| line.starts_with("ort:cpu ")).expect("a line");
    assert!(line.contains("usable here, ONNX Runtime 1."), "{line}");
}

/// What is kept of a network is used, and made again where it is damaged.
#[test]
fn the_optimized_network_is_kept() {
    let Some(library) = onnxruntime::library() else { return };
    let folder = folder();
    let sample = |name: &str| {
        let ort = format!("--provider ort --ort-lib {}", library.display());
        fewstep(&folder, &format!("sample digits -n 1 {ort} -o {name}.npy"));
        fs::read(folder.path().join(name).with_extension("npy")).expect("a sample")
    };
    let entries = || {
        let files = fs::read_dir(folder.path().join("cache")).expect("a cache");
        let paths = files.map(|file| file.expect("a file").path());
        paths.collect::<Vec<_>>()
    };
    let first = sample("first");
    // The parts of the network in stages, and what becomes of the second.
    let stages = entries().into_iter().find(|entry| entry.join("after.onnx").is_file()).expect("stages");
    assert!(stages.join("before.fsp").is_file() && entries().len() == 2, "{:?}", entries());
    let entry = &entries().into_iter().find(|entry| *entry != stages).expect("an entry");
    assert!(entry.extension().is_some_and(|extension| extension == "onnxruntime"), "{entry:?}");
    let [network, weights] = ["network.onnx", "network.data"].map(|name| entry.join(name));
    let kept = fs::read(&network).expect("a network");
    assert!(kept.len() < 1_000_000 && fs::metadata(&weights).expect("weights").len() > 1_000_000);
    assert!(sample("second") == first);
    assert!(fs::read(&network).expect("a network") == kept);

    fs::write(&network, "damaged").expect("an entry");
    assert!(sample("third") == first);
    assert!(fs::read(&network).expect("a network").len() > 10_000);
}

/// The precision that is left to us compares with the engine; what it refuses is tested where that is.
#[test]
fn auto_takes_a_provider_that_draws_the_same() {
    let manifest = Manifest::read(path("models/digits")).expect("a manifest");
    let settings = Settings { precision: fewstep::provider::Precision::Auto, ..ALONE };
    let network = manifest.network_path();
    let file = OnnxFile { path: &network, bytes: None };
    Session::on(&Provider::Tract, manifest, file, settings, None).expect("a session");
}

#[test]
fn nodes_are_inspected() {
    let Some(library) = onnxruntime::library() else { return };
    let arguments = format!("inspect digits --json --strict --provider ort --ort-lib {}", library.display());
    let report: Value = serde_json::from_str(&fewstep(&folder(), &arguments)).expect("JSON");
    let operators = report["assignment"]["CPUExecutionProvider"].as_object().expect("operators");
    let all: u64 = operators.values().filter_map(Value::as_u64).sum();
    assert!(all > 100 && report["nodes"] == all && operators["Softmax"] == 1, "{report}");
    let stages: Vec<_> =
        report["stages"].as_array().expect("stages").iter().map(|own| &own["name"]).collect();
    assert_eq!(stages, ["time", "condition", "time+condition"]);
    assert_eq!(report["fallback"].as_array().map(Vec::len), Some(0));
    assert_eq!(report["inputs"][0]["role"], "state");
}

/// OpenVINO computes no determinants. `determinant.onnx`, made with `onnx.helper`, is twice that of `x * x`.
#[test]
fn falling_back_is_never_silent() {
    let library = path("target/onnxruntime/openvino/onnxruntime/capi");
    // In an emulator, what was fetched is for another CPU.
    if std::env::var_os("FEWSTEP_RUNNER").is_some() || !library.is_dir() {
        eprintln!("not run: tests/onnxruntime.sh has not fetched OpenVINO for this CPU");
        return;
    }
    let folder = folder();
    let network = path("tests/onnxruntime/determinant.onnx");
    let on = format!("{} --provider ort:openvino --ort-lib {}", network.display(), library.display());
    let report = fewstep(&folder, &format!("inspect --json {on}"));
    let report: Value = serde_json::from_str(&report).expect("JSON");
    let fallen = report["fallback"].as_array().expect("nodes");
    assert!(
        fallen.iter().any(|node| node["node"] == "det" && node["to"] == "CPUExecutionProvider"),
        "{report}"
    );

    let noted = fewstep(&folder, &format!("bench --runs 1 {on}"));
    let expected =
        format!("{} of the network's 3 nodes run on the CPU and not on ort:openvino", fallen.len());
    assert!(noted.contains(&format!("fewstep: note: {expected}")), "{noted}");
    assert_refused(&format!("inspect --strict {on}"), &[&expected, "1 Det", "leave out --strict"]);
}

#[test]
fn samples_are_verified() {
    let folder = folder();
    let arguments = "verify digits --provider tract -n 2";
    let report: Value =
        serde_json::from_str(&fewstep(&folder, &format!("{arguments} --json"))).expect("JSON");
    assert!(report["psnr_db"].as_f64().is_some_and(|psnr| psnr > 100.0), "{report}");
    assert!(report["max_error"].as_f64().is_some_and(|error| error < 1e-4), "{report}");
    let (code, printed) = try_fewstep(&folder, &format!("{arguments} --min-psnr 400"));
    assert!(code == Some(1) && printed.contains("and have to keep to 400 dB"), "{printed}");
}

#[test]
fn a_network_is_run_and_measured_on_a_provider() {
    let folder = folder();
    fewstep(&folder, "bench digits --runs 4 --provider tract --json bench.json");
    let text = fs::read_to_string(folder.path().join("bench.json")).expect("a file");
    let report: Value = serde_json::from_str(&text).expect("JSON");
    assert!(report["provider"] == "tract" && report["arena_bytes"].is_null(), "{report}");
    let (code, printed) = try_fewstep(&folder, "compile digits -o digits.fsp");
    assert_eq!(code, Some(0), "{printed}");
    let (code, printed) = try_fewstep(&folder, "sample digits.fsp --provider tract");
    assert!(code == Some(1) && printed.contains("name the .onnx file"), "{printed}");
}
