//! What is wrong with an input is said in one line that names it, and nothing is left behind.
#![cfg(all(feature = "cli", target_os = "linux"))]

mod program;

use npyz::WriterBuilder;
use prost::Message;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;
use tract_onnx::pb::{ModelProto, StringStringEntryProto, tensor_proto::DataLocation};

/// A mistake: the arguments, split at spaces, and what the message must contain.
struct Row {
    arguments: &'static str,
    says: &'static [&'static str],
    isa: &'static str,
}

const fn row(arguments: &'static str, says: &'static [&'static str]) -> Row {
    Row { arguments, says, isa: "" }
}

/// The inputs of `run` that fit the mlp.
macro_rules! mlp {
    ($start:literal, $end:literal) => {
        concat!($start, " --input s=one.npy --input t=one.npy --input condition=ten.npy ", $end)
    };
}

const ROWS: &[Row] = &[
    // Models
    row("sample cat", &["`cat`", "embedded model (digits)"]),
    row("sample gone.onnx", &["gone.onnx: there is no such file", "check the path"]),
    row("inspect gone/model", &["gone/model: there is no such file"]),
    row("sample empty", &["empty: the folder has no fewstep.toml", "write one"]),
    row("sample plan.fsp", &["plan.fsp", "not a plan", "fewstep compile"]),
    row("sample mlp.onnx", &["mlp.onnx: there is no fewstep.toml", "fewstep run"]),
    row("inspect /dev/null", &["/dev/null", "not a regular file"]),
    // ONNX files
    row("inspect text.onnx", &["text.onnx: not an ONNX file", "again"]),
    row("inspect nothing.onnx", &["nothing.onnx: not an ONNX file"]),
    row("inspect truncated.onnx", &["truncated.onnx: not an ONNX file, or cut off"]),
    row("inspect unknown.onnx --shape x=1x6", &["unknown.onnx: operator Frobnicate", "not known"]),
    row("inspect undefined.onnx --shape x=1x6", &["nowhere", "damaged"]),
    row("inspect element.onnx", &["element type 99", "not supported"]),
    row("inspect mlp.onnx", &["mlp.onnx: input x", "dimension 0 (batch)", "--shape x=1x6"]),
    row("inspect mlp.onnx --shape x=1x7", &["input x", "[1, 7]", "[batch,6]"]),
    row("inspect mlp.onnx --shape y=1x7", &["no input y", "x, s, t, condition"]),
    row("sample unreadable", &["unreadable/gone.onnx", "No such file", "check the path"]),
    row("sample unfetched", &["unfetched/gone.onnx", "or fetch the file with", "unfetched/fetch.sh"]),
    // External data
    row("inspect external/up.onnx", &["\"../secret.bin\"", "not inside of the model's folder"]),
    row("inspect external/absolute.onnx", &["\"/etc/passwd\"", "not inside of the model's folder"]),
    row("inspect external/link.onnx", &["\"link.bin\"", "not inside of the model's folder"]),
    row("inspect external/gone.onnx", &["gone.bin", "No such file", "again"]),
    row("inspect external/short.onnx", &["short.bin", "beyond its 3 bytes"]),
    // Manifests
    row("sample key", &["key/fewstep.toml:5", "`sumary`", "`summary`"]),
    row("sample type", &["type/fewstep.toml:6", "license"]),
    row("sample role", &["role/fewstep.toml:", "role \"time\""]),
    row("sample escape", &["escape/fewstep.toml:4", "inside the manifest's folder"]),
    row("sample stranger", &["stranger/mlp.onnx", "names an input y", "x, s, t, condition"]),
    row("sample silent", &["silent/mlp.onnx", "condition has no role", "[inputs.condition]"]),
    row("sample shape", &["shape/mlp.onnx", "input x", "[7]", "[batch,6]"]),
    // Conditions, samplers, steps
    row("sample --cond label=11", &["`label` = 11", "outside its range, 0 to 9"]),
    row("sample --cond label=1.5", &["`label` = 1.5", "whole number"]),
    row("sample --cond label=1,2", &["`label` got 2 values", "1"]),
    row("sample --cond class=1", &["no condition `class`", "`label`"]),
    row("sample --cond label=1 --cond label=2", &["label is given twice"]),
    row("sample unset", &["`condition` has no default"]),
    row("sample --sampler dpm", &["no sampler `dpm`", "`meanflow`"]),
    row("sample --sampler consistency", &["`consistency`", "flow-map", "use `meanflow`"]),
    row("sample --steps 0", &["0 steps", "1 to 64"]),
    row("sample few --steps 3", &["at most 2 steps, not 3"]),
    row("sample --steps 99999999999", &["at most 64 steps"]),
    row("sample --schedule steep", &["no schedule `steep`", "`uniform`"]),
    row("sample --schedule uniform --rho 7", &["rho shapes the schedules", "`karras`"]),
    row("sample --schedule trailing", &["grid", "1000 timesteps"]),
    row("sample --steps 2 --times 1,0", &["2 steps need 3 times, not 2"]),
    row("sample --times 0.5,1,0", &["times must fall"]),
    row("sample --shift -1", &["shift is -1"]),
    row("sample --eta 0.5", &["`meanflow` cannot use eta"]),
    row("sample --order 2", &["`meanflow` cannot use an order"]),
    row("sample --churn 2", &["`meanflow` cannot use churn"]),
    row("sample --temperature 0", &["temperature is 0", "above 0"]),
    row("sample --noise-scale nan", &["noise_scale is NaN"]),
    row("sample --clamp -1", &["clamp is -1"]),
    row("sample --scheduler gone.json", &["gone.json: cannot read the scheduler"]),
    row("sample --scheduler text.npy", &["text.npy: this is not the JSON object of a scheduler"]),
    row("sample --scheduler ddim.json", &["ddim.json", "family diffusion, digits is of flow-map"]),
    // Guidance
    row("sample --guidance 3", &["guidance needs something to move away from", "negative"]),
    row("sample --guidance inf --negative label=0", &["guidance scale is inf"]),
    row("sample --guidance-method apg", &["digits", "ask for a scale as well"]),
    row("sample --guidance 3 --guidance-method magic", &["no guidance method `magic`", "`cfg`", "`apg`"]),
    row("sample --guidance 3 --guidance-interval 0.5,2", &["guidance interval", "from 0 to 1"]),
    row("sample --guidance 3 --guidance-rescale 2", &["guidance rescale is 2"]),
    row("sample --negative label=11", &["--negative", "`label` = 11", "0 to 9"]),
    row("sample --negative label=1 --negative label=2", &["--negative label is given twice"]),
    // References
    row("sample --init gone.npy", &["gone.npy", "No such file"]),
    row("sample --init one.jpg", &["one.jpg", ".png or .npy"]),
    row("sample --init text.png", &["text.png: cannot read the picture"]),
    row("sample --init six.npy", &["six.npy", "f32[1, 6]", "[1, 28, 28]"]),
    row("sample --init small.png", &["small.png", "4 rows of 4 pixels", "[1, 28, 28]"]),
    row("sample --init small.png --mask small.png", &["small.png", "[1, 28, 28]"]),
    row("sample tensor --init small.png", &["small.png", "mlp makes no pictures", ".npy"]),
    row("sample --init square.npy", &["strength is 0.8", "ask for more"]),
    row("sample --init square.npy --steps 4 --strength 2", &["strength is 2"]),
    row("sample --init square.npy --edit inpaint", &["--edit inpaint needs a --mask"]),
    row("sample --init square.npy --edit colorize", &["colorize needs images of three channels"]),
    row("sample --init square.npy --edit superres", &["superres needs images of multiples of 8"]),
    row("sample --init square.npy --edit superres --mask square.npy", &["--mask says nothing"]),
    row("sample --init nan.npy --steps 2", &["the reference has NaN at element 0"]),
    row("sample --init square.npy --mask twos.npy", &["the mask has a value 2"]),
    row("sample --between 1,2 -n 1", &["two samples at least"]),
    // What is to come
    row("sample --provider tpu", &["no provider `tpu`", "cpu"]),
    row("compile digits -o digits.fsp --target cray", &["--target cray", "native", "x86-avx2"]),
    row("compile digits -o digits.fsp --shape x=1x1x28x28", &["--shape", "fewstep.toml"]),
    row("compile digits -o none/digits.fsp", &["none", "create it first"]),
    Row { isa: "z80", ..row("sample", &["FEWSTEP_ISA=z80", "known are portable"]) },
    Row { isa: FOREIGN, ..row("sample", &["this CPU lacks", FOREIGN, "portable"]) },
    Row { isa: FOREIGN, ..row("inspect digits", &["this CPU lacks", FOREIGN]) },
    // Noise
    row("sample --noise gone.npy", &["gone.npy", "No such file"]),
    row("sample --noise text.npy", &["text.npy: not an .npy file", "numpy.save"]),
    row("sample --noise cut.npy", &["cut.npy: the file is cut short"]),
    row("sample --noise six.npy", &["six.npy: the noise is f32[1, 6]", "f32[1, 28, 28]"]),
    row("sample --noise integers.npy", &["integers.npy: the noise is i64[1, 28, 28]"]),
    row("sample -n 3 --noise two.npy", &["two.npy", "noise for 2", "asks for 3"]),
    row("sample --noise nan.npy", &["sample 0", "step 1 of 1", "NaN", "noise"]),
    // Inputs of run
    row(
        "run mlp.onnx --input x=six.npy -o out",
        &["mlp.onnx: nothing is given for s, t, condition", "--input"],
    ),
    row(mlp!("run mlp.onnx --input y=six.npy", "-o out"), &["no input y", "x, s, t, condition"]),
    row(mlp!("run mlp.onnx --input t=one.npy", "-o out"), &["t is given twice"]),
    row(mlp!("run mlp.onnx --input x=one.npy", "-o out"), &["input x: one.npy has shape [1]", "[batch,6]"]),
    row(
        mlp!("run mlp.onnx --input x=whole.npy", "-o out"),
        &["input x: whole.npy is i64[1,6]", "f32[1,6]", "astype('<f4')"],
    ),
    row(mlp!("run mlp.onnx --input x=gone.npy", "-o out"), &["gone.npy", "No such file"]),
    row(mlp!("run mlp.onnx --input x=text.npy", "-o out"), &["text.npy: not an .npy file"]),
    row(mlp!("run unknown.onnx --input x=six.npy", "-o out"), &["operator Frobnicate"]),
    // Outputs
    row("sample -o digits.jpg", &["digits.jpg", ".png or .npy"]),
    row("sample -o gone/digits.png", &["gone/digits.png", "no folder gone", "create it"]),
    row("sample -o folder.png", &["folder.png", "this is a folder"]),
    row("sample tensor -o tensor.png", &["tensor.png", "mlp are no pictures", ".npy"]),
    row("sample -n 4000000000 -o large.png", &["large.png", "4000000000 samples is too large", ".npy"]),
    row("sample -o full.png", &["full.png", "No space left on device"]),
    row("sample -o full.npy", &["full.npy", "No space left on device"]),
    row(mlp!("run mlp.onnx --input x=six.npy", "-o text.npy"), &["text.npy: cannot write the outputs"]),
    row(
        mlp!("run mlp.onnx --input x=six.npy", "-o /dev/null/out"),
        &["/dev/null/out: cannot write the outputs"],
    ),
];

/// An instruction set that this CPU can not have.
const FOREIGN: &str = if cfg!(target_arch = "x86_64") { "arm-neon" } else { "x86-avx2" };

#[test]
fn every_mistake_is_explained_in_one_line() {
    let folder = fixtures();
    let before = files(folder.path());
    let mut failures = Vec::new();
    for row in ROWS {
        let arguments = row.arguments.split(' ').filter(|argument| !argument.is_empty());
        let output =
            fewstep(folder.path()).args(arguments).env("FEWSTEP_ISA", row.isa).output().expect("a run");
        let mut problems = problems(&output, row.says);
        let after = files(folder.path());
        problems
            .extend(after.symmetric_difference(&before).map(|file| format!("{} changed", file.display())));
        if !problems.is_empty() {
            failures.push(format!("{}: {}", row.arguments, problems.join("; ")));
        }
    }
    assert!(failures.is_empty(), "{} of {} rows:\n{}", failures.len(), ROWS.len(), failures.join("\n"));
}

/// A file that grows over the limit of its size fails like one on a full disk: in the middle.
#[test]
fn a_file_that_can_not_be_finished_is_not_begun() {
    let folder = fixtures();
    let before = files(folder.path());
    let commands = [
        ("sample -n 4 -o samples.npy", "samples.npy: cannot write the file"),
        ("sample -o samples.png", "samples.png: cannot write the file"),
        (mlp!("run mlp.onnx --input x=many.npy", "-o ."), "cannot write the file"),
    ];
    for (arguments, says) in commands {
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' XFSZ; ulimit -f 1; exec \"$@\"", "sh"]).args(program::words());
        command
            .args(arguments.replace("one.npy", "ones.npy").replace("ten.npy", "tens.npy").split_whitespace());
        let output = command.current_dir(folder.path()).output().expect("a run");
        assert_eq!(problems(&output, &[says]), Vec::<String>::new(), "{arguments}");
        assert_eq!(files(folder.path()), before, "{arguments}");
    }
}

#[test]
fn output_that_nobody_takes_is_an_error_unless_they_have_seen_enough() {
    let folder = fixtures();
    let mut command = fewstep(folder.path());
    let full = fs::File::create("/dev/full").expect("a device");
    let output = command.args(["inspect", "digits"]).stdout(full).output().expect("a run");
    assert_eq!(problems(&output, &["standard output", "No space left"]), Vec::<String>::new());

    let mut command = fewstep(folder.path());
    let command = command.args(["list", "samplers"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("a run");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("a run");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

fn fewstep(folder: &Path) -> Command {
    let mut command = program::program();
    command.current_dir(folder);
    command
}

/// Everything about a failed run that is not as it should be.
fn problems(output: &Output, says: &[&str]) -> Vec<String> {
    let message = String::from_utf8_lossy(&output.stderr);
    let mut problems = Vec::new();
    if output.status.code() != Some(1) {
        problems.push(format!("it ends with {}", output.status));
    }
    if !message.starts_with("fewstep: error: ")
        || message.lines().count() != 1
        || message.contains("panicked")
    {
        problems.push("the message is not one line of an error".to_string());
    }
    if !output.stdout.is_empty() {
        problems.push("it prints to standard output".to_string());
    }
    problems.extend(
        says.iter().filter(|part| !message.contains(**part)).map(|part| format!("it does not say {part:?}")),
    );
    if !problems.is_empty() {
        problems.push(format!("it says {message:?}"));
    }
    problems
}

/// All paths below a folder.
fn files(folder: &Path) -> BTreeSet<PathBuf> {
    let mut paths = BTreeSet::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && !path.is_symlink() {
            paths.extend(files(&path));
        }
        paths.insert(path);
    }
    paths
}

/// A folder with the files that the table names.
fn fixtures() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let write = |name: &str, bytes: &[u8]| {
        fs::create_dir_all(at(name).parent().expect("a folder")).expect("a folder");
        fs::write(at(name), bytes).expect("a file");
    };
    for name in ["empty", "folder.png"] {
        fs::create_dir(at(name)).expect("a folder");
    }
    for name in ["full.png", "full.npy"] {
        symlink("/dev/full", at(name)).expect("a link");
    }
    write("text.npy", b"hello, this is no array");
    write("ddim.json", br#"{"_class_name": "DDIMScheduler"}"#);
    write("text.png", b"hello, this is no picture");
    image::GrayImage::new(4, 4).save(at("small.png")).expect("a picture");
    write("plan.fsp", b"hello, this is no plan");
    networks(&write);
    symlink("../secret.bin", at("external/link.bin")).expect("a link");
    manifests(&write);
    arrays(&at);
    folder
}

fn networks(write: &dyn Fn(&str, &[u8])) {
    let mlp = fs::read(in_repository("tests/networks/mlp/mlp.onnx")).expect("a fixture");
    write("mlp.onnx", &mlp);
    write("text.onnx", b"hello, this is no network");
    write("nothing.onnx", b"");
    write("truncated.onnx", &mlp[..mlp.len() / 2]);
    let edited = |name: &str, edit: &dyn Fn(&mut ModelProto)| {
        let mut model = ModelProto::decode(&mlp[..]).expect("a model");
        edit(&mut model);
        write(name, &model.encode_to_vec());
    };
    edited("unknown.onnx", &|model| {
        model.graph.as_mut().expect("a graph").node[0].op_type = "Frobnicate".into()
    });
    edited("undefined.onnx", &|model| {
        model.graph.as_mut().expect("a graph").node[0].input[0] = "nowhere".into()
    });
    edited("element.onnx", &|model| model.graph.as_mut().expect("a graph").initializer[0].data_type = 99);

    write("secret.bin", &[0; 1 << 16]);
    write("external/short.bin", &[0; 3]);
    let places = [
        ("up", "../secret.bin"),
        ("absolute", "/etc/passwd"),
        ("link", "link.bin"),
        ("gone", "gone.bin"),
        ("short", "short.bin"),
    ];
    for (name, location) in places {
        let entry = |key: &str, value: &str| StringStringEntryProto { key: key.into(), value: value.into() };
        edited(&format!("external/{name}.onnx"), &|model| {
            let tensor = &mut model.graph.as_mut().expect("a graph").initializer[0];
            tensor.raw_data.clear();
            tensor.data_location = Some(DataLocation::External as i32);
            tensor.external_data =
                vec![entry("location", location), entry("offset", "0"), entry("length", "64")];
        });
    }
}

const MLP: &str = r#"[model]
name = "mlp"
network = "mlp.onnx"
[inputs.x]
role = "state"
shape = [6]
[inputs.t]
role = "time"
[inputs.s]
role = "target"
[inputs.condition]
role = "condition"
shape = [10]
default = 0
[sampling]
family = "flow-map"
prediction = "velocity"
time = "unit"
[output]
kind = "tensor"
"#;

fn manifests(write: &dyn Fn(&str, &[u8])) {
    let digits = fs::read_to_string(in_repository("models/digits/fewstep.toml")).expect("a manifest");
    let mlp = fs::read(in_repository("tests/networks/mlp/mlp.onnx")).expect("a fixture");
    let manifests: &[(&str, &str, &str, &str)] = &[
        ("key", &digits, "summary", "sumary"),
        ("type", &digits, "\"MIT OR Apache-2.0\"", "3"),
        ("role", &digits, "role = \"time\"", "role = \"condition\"\ndefault = 0"),
        ("escape", &digits, "digits.onnx", "../digits.onnx"),
        ("unreadable", &digits, "digits.onnx", "gone.onnx"),
        ("unfetched", &digits, "digits.onnx", "gone.onnx"),
        ("few", &digits, "steps = 1", "steps = 1\nmax_steps = 2"),
        ("tensor", MLP, "", ""),
        ("stranger", MLP, "[inputs.x]", "[inputs.y]"),
        ("silent", MLP, "[inputs.condition]\nrole = \"condition\"\nshape = [10]\ndefault = 0\n", ""),
        ("shape", MLP, "shape = [6]", "shape = [7]"),
        ("unset", MLP, "default = 0", ""),
    ];
    for (folder, text, from, to) in manifests {
        assert!(text.contains(from), "{folder}: there is no {from:?}");
        write(&format!("{folder}/fewstep.toml"), text.replacen(from, to, 1).as_bytes());
        if *text == MLP {
            write(&format!("{folder}/mlp.onnx"), &mlp);
        }
    }
    write("unfetched/fetch.sh", b"");
}

fn arrays(at: &dyn Fn(&str) -> PathBuf) {
    let floats: &[(&str, &[u64], f32)] = &[
        ("one.npy", &[1], 1.0),
        ("six.npy", &[1, 6], 0.5),
        ("ten.npy", &[1, 10], 0.0),
        ("ones.npy", &[2000], 1.0),
        ("many.npy", &[2000, 6], 0.5),
        ("tens.npy", &[2000, 10], 0.0),
        ("two.npy", &[2, 1, 28, 28], 0.0),
        ("square.npy", &[1, 28, 28], 0.0),
        ("twos.npy", &[1, 28, 28], 2.0),
        ("nan.npy", &[1, 28, 28], f32::NAN),
    ];
    for (name, shape, value) in floats {
        save(&at(name), shape, *value);
    }
    save(&at("integers.npy"), &[1, 28, 28], 1i64);
    save(&at("whole.npy"), &[1, 6], 1i64);
    let bytes = fs::read(at("two.npy")).expect("a file");
    fs::write(at("cut.npy"), &bytes[..bytes.len() / 2]).expect("a file");
}

fn save<T: npyz::AutoSerialize + Copy>(path: &Path, shape: &[u64], value: T) {
    let file = fs::File::create(path).expect("a file");
    let options = npyz::WriteOptions::new().default_dtype().shape(shape);
    let mut writer = options.writer(file).begin_nd().expect("a header");
    let count = shape.iter().product::<u64>() as usize;
    writer.extend(std::iter::repeat_n(value, count)).expect("elements");
    writer.finish().expect("a file");
}

fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
