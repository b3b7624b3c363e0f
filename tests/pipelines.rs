//! Pipelines against PyTorch: the smallest one, and every folder that `tests/pipelines/make.py` has made, with the latents and
//! pictures that diffusers draws. `tests/pipelines.sh` makes them.
#![cfg(feature = "pipeline")]

mod common;
#[cfg(feature = "cli")]
mod program;

use common::npy_file;
use fewstep::cache::Cache;
use fewstep::graph::{Data, Tensor};
use fewstep::kernels::{Isa, cpu};
use fewstep::manifest;
use fewstep::pipeline::{
    Drawn, Event, Files, Folder, Pipeline, PipelineError, Placement, Placements, Planes, Request, Tokenizer,
};
use fewstep::plan::Bundle;
use fewstep::provider::{Precision, Provider, Settings};
use fewstep::session::Flow;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// Relative L2 of latents, and the pictures' PSNR in dB, in f32 and of exports in half precision.
const LATENTS: [f64; 2] = [1e-3, 2e-2];
const PICTURES: [f64; 2] = [40.0, 30.0];

/// All folders there are.
fn folders() -> Vec<PathBuf> {
    let named = std::env::var_os("FEWSTEP_PIPELINES").map(PathBuf::from);
    let root = named.unwrap_or_else(|| common::path("target/pipelines"));
    let entries = fs::read_dir(&root).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut folders: Vec<_> = entries.filter(|path| path.join("expected/case.json").exists()).collect();
    folders.sort();
    if folders.is_empty() {
        println!(
            "there are no pipelines in {} but the smallest; tests/pipelines.sh makes them",
            root.display()
        );
        folders.push(smallest());
    }
    folders
}

/// An LCM that is in the repository.
fn smallest() -> PathBuf {
    common::path("tests/pipelines/smallest")
}

fn json(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).expect("JSON")
}

/// One run of diffusers.
struct Case {
    folder: PathBuf,
    value: Value,
}

impl Case {
    fn of(folder: &Path) -> (Value, Vec<Case>) {
        let head = json(&folder.join("expected/case.json"));
        let cases = head["cases"].as_array().expect("cases").clone();
        let case = |value| Case { folder: folder.to_owned(), value };
        (head, cases.into_iter().map(case).collect())
    }

    fn name(&self) -> String {
        let folder = self.folder.file_name().expect("a name").to_string_lossy();
        format!("{folder}/{}", self.value["name"].as_str().expect("a name"))
    }

    fn array(&self, key: &str) -> Option<Tensor> {
        let path = self.value["files"].get(key)?.as_str().expect("a path");
        Some(npy_file(&self.folder.join("expected").join(path)))
    }

    /// The `i`th of what may be one for all.
    fn argument(&self, key: &str, i: usize) -> &Value {
        match &self.value["arguments"][key] {
            Value::Array(list) => &list[i],
            one => one,
        }
    }

    fn number(&self, key: &str) -> Option<f64> {
        self.value["arguments"][key].as_f64()
    }

    fn whole(&self, key: &str) -> Option<usize> {
        self.number(key).map(|number| number as usize)
    }

    /// [h, w, channels] from 0 to 1, as planes.
    fn picture(&self, key: &str, channels: usize, [low, high]: [f32; 2]) -> Option<Planes> {
        let picture = self.array(key)?;
        let &[height, width, found] = picture.shape() else { panic!("a picture of {:?}", picture.shape()) };
        let values = floats(&picture);
        let planes = (0..channels).flat_map(|c| values.iter().skip(c.min(found - 1)).step_by(found));
        let values = planes.map(|value| low + (high - low) * value).collect();
        Some(Planes { values, shape: [channels, height, width] })
    }

    /// Draws picture `i`.
    fn draw(&self, pipeline: &Pipeline, i: usize) -> Result<Drawn, PipelineError> {
        self.ask(i, |request| pipeline.generate(request, &mut |_| Flow::Continue))
    }

    /// What is asked for to draw picture `i`.
    fn ask<T>(&self, i: usize, of: impl FnOnce(&Request<'_>) -> T) -> T {
        let (image, mask) =
            (self.picture("image", 3, [-1.0, 1.0]), self.picture("mask_image", 1, [0.0, 1.0]));
        let output = self.array("output").expect("a picture");
        // The older script leaves no size beside its networks.
        let size = |key, axis: usize| self.whole(key).or(self.is_older().then_some(output.shape()[axis]));
        let request = Request {
            prompt: self.argument("prompt", i).as_str().expect("a prompt"),
            negative_prompt: self.value["arguments"]["negative_prompt"].as_str(),
            prompt_tokens: self.whole("max_sequence_length"),
            instructed: self.value["arguments"].get("complex_human_instruction") != Some(&Value::Null),
            height: size("height", 1),
            width: size("width", 2),
            seed: self.argument("seed", i).as_u64().expect("a seed"),
            sampling: manifest::Request {
                steps: self.whole("num_inference_steps"),
                guidance: self.number("guidance_scale"),
                strength: self.number("strength"),
                eta: self.number("eta"),
                ..manifest::Request::default()
            },
            image: image.as_ref(),
            mask: mask.as_ref(),
            ..Request::default()
        };
        of(&request)
    }

    /// Why it is another picture than diffusers', if it has to be.
    fn differs(&self) -> Option<&'static str> {
        let begun = self.array("image").is_some();
        let scheduler = json(&self.folder.join("scheduler/scheduler_config.json"));
        // The first timestep of PLMS comes twice, and what is left of a run has the second of them or none.
        (begun && scheduler["_class_name"] == "PNDMScheduler")
            .then_some("diffusers begins PLMS in its middle")
    }

    fn is_older(&self) -> bool {
        json(&self.folder.join("expected/case.json"))["exporter"] == "older_script"
    }

    fn scaling(&self) -> [f32; 2] {
        let path = self.folder.join("vae_decoder/config.json");
        let config = if path.exists() { json(&path) } else { Value::Null };
        let number = |key: &str, default| config[key].as_f64().unwrap_or(default) as f32;
        [number("scaling_factor", 0.18215), number("shift_factor", 0.0)]
    }
}

fn floats(tensor: &Tensor) -> &[f32] {
    match tensor.data() {
        Data::F32(values) => values,
        other => panic!("not f32: {other:?}"),
    }
}

fn relative(found: &[f32], wanted: &[f32]) -> f64 {
    assert_eq!(found.len(), wanted.len());
    let square = |x: f64| x * x;
    let error: f64 = found.iter().zip(wanted).map(|(&a, &b)| square(f64::from(a) - f64::from(b))).sum();
    (error / wanted.iter().map(|&b| square(b.into())).sum::<f64>()).sqrt()
}

/// Of values from 0 to 1.
fn psnr(found: impl Iterator<Item = f32>, wanted: &[f32]) -> f64 {
    let errors = found.zip(wanted).map(|(a, b)| f64::from(a - b).powi(2));
    -10.0 * (errors.sum::<f64>() / wanted.len() as f64).log10()
}

/// How far picture `i` of a case is off: latents, decibels.
fn compare(case: &Case, i: usize, drawn: &Drawn) -> (f64, f64) {
    let [scale, shift] = case.scaling();
    let latents: Vec<f32> = drawn.latents[0].values.iter().map(|x| x / scale + shift).collect();
    let wanted = case.array("decoder_input").expect("latents");
    let wanted = &floats(&wanted)[i * latents.len()..][..latents.len()];
    let picture = &drawn.pictures[0];
    let [channels, height, width] = picture.shape;
    let output = case.array("output").expect("a picture");
    assert_eq!(output.shape()[1..], [height, width, channels], "{}", case.name());
    let output = &floats(&output)[i * picture.values.len()..][..picture.values.len()];
    let plane = height * width;
    let at = |i: usize| picture.values[i % channels * plane + i / channels];
    let found = (0..output.len()).map(|i| (at(i) / 2.0 + 0.5).clamp(0.0, 1.0));
    (relative(&latents, wanted), psnr(found, output))
}

fn placements(precision: Precision, cache: &Path) -> Placements {
    let settings = Settings { threads: 1, precision, ..Settings::default() };
    let cache = Some(Cache { folder: cache.to_owned(), limit: 1 << 30 });
    Placements { default: Placement { settings, ..Placement::default() }, cache, ..Placements::default() }
}

#[test]
fn pictures_are_those_of_diffusers() {
    let cache = tempfile::tempdir().expect("a folder");
    let mut wrong = Vec::new();
    for folder in folders() {
        let (head, cases) = Case::of(&folder);
        let half = usize::from(head["precision"] != "f32");
        let placements = placements(Precision::F32, cache.path());
        let pipeline = Pipeline::open(&folder, placements).expect("a pipeline");
        for case in cases {
            let pictures = case.array("output").expect("pictures").shape()[0];
            if let Some(why) = case.differs() {
                println!("{}: not compared, {why}", case.name());
                case.draw(&pipeline, 0).expect("a picture");
                continue;
            }
            for i in 0..pictures {
                let found = case.draw(&pipeline, i).map(|drawn| compare(&case, i, &drawn));
                let is_close =
                    |&(latents, decibel): &(f64, f64)| latents <= LATENTS[half] && decibel >= PICTURES[half];
                let said = match &found {
                    Ok((latents, decibel)) => format!("latents {latents:.1e}, {decibel:.1} dB"),
                    Err(error) => error.to_string(),
                };
                println!("{} {i}: {said}", case.name());
                if !found.as_ref().is_ok_and(is_close) {
                    wrong.push(format!("{} {i}: {said}", case.name()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Half precision of one's own, a budget, and tiles change little.
#[test]
fn other_ways_lead_to_the_same_pictures() {
    let cache = tempfile::tempdir().expect("a folder");
    let folder = smallest();
    let case = &Case::of(&folder).1[0];
    let half = Pipeline::open(&folder, placements(Precision::F16, cache.path())).expect("a pipeline");
    // Compiled, and then out of the cache.
    for _ in 0..2 {
        let (latents, decibel) = compare(case, 0, &case.draw(&half, 0).expect("a picture"));
        assert!(latents < LATENTS[1] && decibel > PICTURES[1], "{latents:.1e}, {decibel:.1} dB");
    }
    let mut little = placements(Precision::F32, cache.path());
    little.default.settings.max_memory = Some(1 << 30);
    let little = Pipeline::open(&folder, little).expect("a pipeline");
    let (latents, _) = compare(case, 0, &case.draw(&little, 0).expect("a picture"));
    assert!(latents < LATENTS[0], "{latents:.1e}");

    let mut none = placements(Precision::F32, cache.path());
    none.default.settings.max_memory = Some(1 << 20);
    let none = Pipeline::open(&folder, none).expect("a pipeline");
    let error = case.draw(&none, 0).expect_err("a budget that is too small").to_string();
    assert!(error.contains("does not run in 1048576 bytes of memory, but in"), "{error}");
}

/// A bundle is its folder, with nothing beside it.
#[test]
fn bundles_draw_what_their_folders_draw() {
    let (cache, made) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    for folder in folders() {
        let place = || placements(Precision::F32, cache.path());
        let pipeline = Pipeline::open(&folder, place()).expect("a pipeline");
        let path = made.path().join("bundle.fsp");
        let cases = Case::of(&folder).1;
        // The first, and one that begins with a picture.
        let begun = cases.iter().skip(1).find(|case| case.array("image").is_some());
        for case in cases.iter().take(1).chain(begun) {
            let bundled = case
                .ask(0, |request| pipeline.bundle(request, cpu::best().isa, &path, &mut |_| Flow::Continue));
            let bytes = bundled.unwrap_or_else(|error| panic!("{}: {error}", case.name()));
            assert_eq!(fs::metadata(&path).expect("a file").len(), bytes as u64);
            assert_eq!(fs::read_dir(made.path()).expect("a folder").count(), 1, "something is left behind");
            assert!(Folder::is_one(&path));
            Bundle::open(&path).expect("a bundle").verify().expect("a whole bundle");
            let bundle = Pipeline::open(&path, Placements { cache: None, ..place() }).expect("a bundle");
            let (wanted, found) = (case.draw(&pipeline, 0), case.draw(&bundle, 0));
            let found = found.unwrap_or_else(|error| panic!("{}: {error}", case.name()));
            let is_same = found.pictures == wanted.expect("a picture").pictures;
            assert!(is_same, "{}: another picture than the folder's", case.name());
            let components = |pipeline: &Pipeline| {
                let described = pipeline.described().expect("components");
                described.into_iter().map(|own| (own.name, own.header)).collect::<Vec<_>>()
            };
            assert_eq!(components(&bundle), components(&pipeline));
        }
    }
}

/// What a bundle can not do, it says.
#[test]
fn bundles_are_of_what_they_were_compiled_for() {
    let made = tempfile::tempdir().expect("a folder");
    let folder = smallest();
    let path = made.path().join("bundle.fsp");
    let place = || Placements { cache: None, ..placements(Precision::F32, made.path()) };
    let pipeline = Pipeline::open(&folder, place()).expect("a pipeline");
    let make = |request: &Request<'_>, target, path: &Path| {
        pipeline.bundle(request, target, path, &mut |_| Flow::Continue)
    };
    let small = Request::default();
    let [height, width] = pipeline.size(&small).expect("a size");
    make(&small, cpu::best().isa, &path).expect("a bundle");
    let bundle = |placements| Pipeline::open(&path, placements).expect("a bundle");
    let draw = |pipeline: &Pipeline, request: &Request<'_>| {
        let drawn = pipeline.generate(request, &mut |_| Flow::Continue);
        drawn.map_or_else(|error| error.to_string(), |drawn| format!("{:?}", drawn.pictures[0].shape))
    };
    assert_eq!(draw(&bundle(place()), &small), format!("[3, {height}, {width}]"));
    let large = Request { height: Some(2 * height), ..small.clone() };
    let said = draw(&bundle(place()), &large);
    assert!(
        said.contains("unet:") && said.contains("the bundle has no plan for pictures of this size"),
        "{said}"
    );
    let mut elsewhere = place();
    elsewhere.default.provider = Provider::Tract;
    let said = draw(&bundle(elsewhere), &small);
    assert!(said.contains("a bundle has plans for the provider cpu alone"), "{said}");
    let again = bundle(place()).bundle(&small, cpu::best().isa, &path, &mut |_| Flow::Continue);
    assert!(again.expect_err("a bundle").to_string().contains("this is a bundle already"));
    // For another computer: the plans that it has are as many.
    let other = Isa::ALL.into_iter().find(|isa| !isa.supported()).expect("an instruction set");
    let foreign = made.path().join("foreign.fsp");
    make(&small, other, &foreign).expect("a bundle");
    let plans = |path: &Path| {
        let bundle = Bundle::open(path).expect("a bundle");
        bundle.members().filter(|(name, _)| name.ends_with(".fsp")).count()
    };
    assert_eq!(plans(&foreign), plans(&path));
    let foreign = Pipeline::open(&foreign, place()).expect("a bundle");
    assert!(draw(&foreign, &small).contains(&other.to_string()), "{}", draw(&foreign, &small));
    // Cut off, or with a byte of its table changed.
    let bytes = fs::read(&path).expect("a file");
    let mut changed = bytes.clone();
    changed[80] ^= 1;
    for bytes in [&bytes[..bytes.len() - 1], &changed, &bytes[..100]] {
        fs::write(&path, bytes).expect("a file");
        let error = Pipeline::open(&path, place()).expect_err("a damaged bundle").to_string();
        assert!(error.contains("bundle.fsp: the plan") && !error.contains('\n'), "{error}");
    }
}

/// Runs end after any step.
#[test]
fn a_run_is_cancelled() {
    let cache = tempfile::tempdir().expect("a folder");
    let folder = smallest();
    let pipeline = Pipeline::open(&folder, placements(Precision::F32, cache.path())).expect("a pipeline");
    let mut steps = Vec::new();
    let mut watch = |event: Event<'_>| match event {
        Event::Step { step, clean, shape, .. } => {
            assert_eq!(clean.len(), shape.iter().product::<usize>());
            steps.push(step);
            if step == 2 { Flow::Cancel } else { Flow::Continue }
        }
        _ => Flow::Continue,
    };
    let request = Request { prompt: "a cat", ..Request::default() };
    let error = pipeline.generate(&request, &mut watch).expect_err("cancelled");
    assert!(matches!(error, PipelineError::Cancelled), "{error}");
    assert_eq!(steps, [1, 2]);
}

/// The program draws the same from a folder and from its bundle, and shows each step.
#[cfg(feature = "cli")]
#[test]
fn the_program_draws_bundles() {
    let place = tempfile::tempdir().expect("a folder");
    let run = |arguments: &str| {
        let mut command = program::program();
        command.current_dir(place.path()).env("FEWSTEP_CACHE", place.path().join("cache"));
        let folder = smallest().display().to_string();
        command.args(arguments.split(' ').map(|word| if word == "FOLDER" { folder.as_str() } else { word }));
        let output = command.output().expect("a run");
        (
            output.status.success(),
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
        )
    };
    let (done, said) = run("compile FOLDER -o lcm.fsp");
    assert!(done && said.starts_with("lcm.fsp: 4 networks of LatentConsistencyModel for "), "{said}");
    for source in ["FOLDER", "lcm.fsp"] {
        let (done, said) = run(&format!("sample {source} --prompt cat --preview seen.png -o {source}.npy"));
        assert!(done, "{said}");
        assert_eq!(fs::read(place.path().join("seen.png")).expect("a preview")[1..4], *b"PNG");
        fs::remove_file(place.path().join("seen.png")).expect("a preview");
    }
    let read = |name: &str| fs::read(place.path().join(name)).expect("pictures");
    assert!(read("FOLDER.npy") == read("lcm.fsp.npy"));
    let (done, said) = run("inspect lcm.fsp");
    assert!(done && said.contains("LatentConsistencyModel") && said.contains("vae_decoder"), "{said}");
    for (arguments, expected) in [
        ("sample lcm.fsp", "this is a pipeline"),
        ("bench lcm.fsp", "this is the bundle of a pipeline, and not one plan"),
        ("compile lcm.fsp -o again.fsp", "this is a bundle already"),
        ("compile FOLDER -o again.fsp --bake", "--bake has no meaning for a pipeline"),
        ("compile FOLDER -o again.fsp --precision f32,f16", "a pipeline is compiled in one precision"),
        ("compile digits -o again.fsp --width 8", "--width is for a folder with a model_index.json"),
        ("compile FOLDER -o nowhere/again.fsp", "nowhere"),
    ] {
        let (done, said) = run(arguments);
        assert!(!done && said.contains(expected) && said.trim().lines().count() == 1, "{arguments}: {said}");
    }
}

/// What may be wrong with a folder, and a part of what is said about it.
#[test]
fn broken_folders_are_one_clear_error() {
    let cache = tempfile::tempdir().expect("a folder");
    let folder = smallest();
    let edit = |file: &'static str, from: &'static str, to: &'static str| Break::Edit(file, from, to);
    let index = "model_index.json";
    let scheduler = "scheduler/scheduler_config.json";
    let broken = [
        (Break::Remove(index), "cannot read it"),
        (Break::Text(index, "{"), "EOF"),
        (Break::Text(index, "[]"), "expected a map"),
        (edit(index, "\"_class_name\"", "\"class\""), "there is no `_class_name`"),
        (
            edit(index, "LatentConsistencyModelPipeline", "WanPipeline"),
            "there is no way to sample a Wan; there are",
        ),
        (Break::Remove("unet/model.onnx"), "there is no .onnx file in its folder"),
        (Break::Remove("vae_decoder/model.onnx"), "there is no vae_decoder"),
        (Break::Remove("text_encoder/model.onnx"), "the pipeline has a text_encoder, but"),
        (Break::Remove(scheduler), "there is no scheduler/scheduler_config.json"),
        (Break::Text(scheduler, "{}"), "no `_class_name`"),
        (edit(scheduler, "LCMScheduler", "NoScheduler"), "no sampler is like"),
        (edit(scheduler, "scaled_linear", "sigmoid"), "`beta_schedule`"),
        (Break::Remove("tokenizer/tokenizer.json"), "neither a tokenizer.json nor vocab.json"),
        (Break::Text("tokenizer/tokenizer.json", "{}"), "save the tokenizer, again"),
        (
            Break::Text("tokenizer/tokenizer_config.json", r#"{"pad_token": "nowhere"}"#),
            "has no token \"nowhere\"",
        ),
        (Break::Text("tokenizer/tokenizer_config.json", r#"{"model_max_length": 2}"#), "has no room"),
        (Break::Text("unet/config.json", "{\"sample_size\": \"x\"}"), "did not match any variant"),
        (Break::Truncate("unet/model.onnx"), "not an ONNX file, or cut off"),
        (Break::Truncate("text_encoder/model.onnx"), "not an ONNX file, or cut off"),
        (Break::Text("vae_decoder/model.onnx", "no network"), "not an ONNX file"),
        (Break::Copy("text_encoder/model.onnx", "unet/model.onnx"), "input_ids is not known"),
        (Break::Copy("unet/model.onnx", "text_encoder/model.onnx"), "no input input_ids"),
        (Break::Copy("unet/model.onnx", "vae_decoder/model.onnx"), "not one input"),
        (Break::Copy("unet/model.onnx", "vae_decoder/other.onnx"), "None"),
    ];
    for (what, expected) in broken {
        let copy = tempfile::tempdir().expect("a folder");
        copy_folder(&folder, copy.path());
        what.apply(copy.path());
        let request = Request { prompt: "a cat", ..Request::default() };
        let drawn = Pipeline::open(copy.path(), placements(Precision::F32, cache.path()))
            .and_then(|pipeline| pipeline.generate(&request, &mut |_| Flow::Continue));
        let said = drawn.err().map_or("None".to_string(), |error| error.to_string());
        assert!(said.contains(expected), "{what:?}: {said}");
        assert!(!said.contains('\n'), "{what:?}: {said}");
    }
}

#[derive(Debug)]
enum Break {
    Remove(&'static str),
    Text(&'static str, &'static str),
    Edit(&'static str, &'static str, &'static str),
    Truncate(&'static str),
    Copy(&'static str, &'static str),
}

impl Break {
    fn apply(&self, folder: &Path) {
        let done = match *self {
            Break::Remove(file) => fs::remove_file(folder.join(file)),
            Break::Text(file, text) => fs::write(folder.join(file), text),
            Break::Edit(file, from, to) => {
                let text = fs::read_to_string(folder.join(file)).expect("a text");
                assert!(text.contains(from), "{file} has no {from}");
                fs::write(folder.join(file), text.replace(from, to))
            }
            Break::Truncate(file) => {
                let bytes = fs::read(folder.join(file)).expect("a file");
                fs::write(folder.join(file), &bytes[..bytes.len() / 2])
            }
            Break::Copy(from, to) => fs::copy(folder.join(from), folder.join(to)).map(drop),
        };
        done.unwrap_or_else(|error| panic!("{self:?}: {error}"));
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).expect("an entry");
        match path.is_dir() {
            true if name == "expected" => {}
            true => copy_folder(&path, &to.join(name)),
            false => _ = fs::copy(&path, to.join(name)).expect("a copy"),
        }
    }
}

#[test]
fn tokens_are_those_of_transformers() {
    for folder in folders() {
        for case in Case::of(&folder).1 {
            for (suffix, encoder) in
                [("", "text_encoder"), ("_2", "text_encoder_2"), ("_3", "text_encoder_3")]
            {
                let Some(ids) = case.array(&format!("{encoder}_ids_0")) else { continue };
                let tokenizer =
                    Tokenizer::read(&Files::Folder(folder.clone()), &format!("tokenizer{suffix}"))
                        .expect("a tokenizer");
                let Data::I64(wanted) = ids.data() else { panic!("ids") };
                let prompt = case.argument("prompt", 0).as_str().expect("a prompt");
                let prompt = if ["pixart", "sana"].iter().any(|own| case.name().contains(own)) {
                    prompt.to_lowercase()
                } else {
                    prompt.into()
                };
                let length = ids.shape()[1];
                if case.name() == "sana_sprint/text" || case.name().starts_with("sana_sprint_f16/text") {
                    // The instruction stands before it.
                    continue;
                }
                let found = tokenizer.encode(&prompt, length).expect("tokens");
                let found: Vec<i64> = found.ids.iter().map(|&id| id.into()).collect();
                assert_eq!(found, wanted[..length], "{} {encoder}", case.name());
            }
        }
    }
}
