//! Speech against PyTorch: the tiny model of `tests/speech/make.py`, with the mel spectrograms and waveforms that PyTorch
//! makes, and folders that are broken.
#![cfg(feature = "pipeline")]

mod common;
#[cfg(feature = "cli")]
mod program;

use common::npy_file;
use fewstep::cache::Cache;
use fewstep::graph::Data;
use fewstep::pipeline::speech::{Request, Said, Speech, SpeechError};
use fewstep::pipeline::{Event, Placements};
use fewstep::session::Flow;
use std::fs;
use std::path::Path;

const PROMPT: &str = "həlˈoʊ, testoʊa";
/// Relative L2 of mel spectrograms, and the waveforms' PSNR in dB for a peak of 1.
const MEL: f64 = 1e-3;
const WAVEFORM: f64 = 60.0;

/// A copy of the model with another manifest.
fn folder(edit: impl Fn(String) -> String) -> tempfile::TempDir {
    let (folder, from) = (tempfile::tempdir().unwrap(), common::path("tests/speech/matcha"));
    for entry in fs::read_dir(&from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    let manifest = folder.path().join("fewstep.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    let edited = edit(text);
    fs::write(&manifest, edited).unwrap();
    folder
}

fn replaced(from: &str, to: &str) -> tempfile::TempDir {
    folder(|text| {
        assert!(text.contains(from), "{from}");
        text.replace(from, to)
    })
}

fn say(folder: &Path, request: &Request<'_>) -> Result<Said, SpeechError> {
    Speech::open(folder, Placements::default())?.say(request, &mut |_| Flow::Continue)
}

fn request() -> Request<'static> {
    Request { prompt: PROMPT, seed: 7, ..Request::default() }
}

fn expected(name: &str) -> Vec<f32> {
    let array = npy_file(&common::path(&format!("tests/speech/matcha/{name}.npy")));
    match array.data() {
        Data::F32(values) => values.clone(),
        other => panic!("not f32: {other:?}"),
    }
}

fn squares(values: impl Iterator<Item = f32>) -> f64 {
    values.map(|value| f64::from(value).powi(2)).sum()
}

fn relative(found: &[f32], wanted: &[f32]) -> f64 {
    assert_eq!(found.len(), wanted.len());
    let difference = squares(found.iter().zip(wanted).map(|(a, b)| a - b));
    (difference / squares(wanted.iter().copied())).sqrt()
}

fn decibel(found: &[f32], wanted: &[f32]) -> f64 {
    assert_eq!(found.len(), wanted.len());
    let difference = squares(found.iter().zip(wanted).map(|(a, b)| a - b)) / wanted.len() as f64;
    -10.0 * difference.log10()
}

fn check(said: &Said, name: &str) {
    let mel = relative(&said.mel.values, &expected(&format!("{name}_mel")));
    let waveform = decibel(&said.waveform, &expected(&format!("{name}_audio")));
    println!("{name}: mel {mel:.1e}, waveform {waveform:.0} dB");
    assert!(mel < MEL, "{name}: mel {mel}");
    assert!(waveform > WAVEFORM, "{name}: waveform {waveform} dB");
}

#[test]
fn speech_is_that_of_pytorch() {
    let folder = common::path("tests/speech/matcha");
    let said = say(&folder, &request()).unwrap();
    assert_eq!((said.mel.shape, said.steps), ([1, 8, 102], 3));
    check(&said, "plain");
    let slow = Request { speaker: Some(1), length_scale: Some(1.3), ..request() };
    check(&say(&folder, &slow).unwrap(), "slow");
}

#[test]
fn padding_changes_nothing_in_a_network_that_masks_it() {
    let with = |buckets: bool| {
        let folder = folder(|text| {
            let text = text.replace("decoder.onnx", "decoder_masked.onnx");
            let text = text.replace(
                "log_durations = \"logw\"",
                &format!("log_durations = \"logw\"\nbuckets = {buckets}"),
            );
            text.replace("means = \"mu\"", &format!("means = \"mu\"\nbuckets = {buckets}"))
        });
        let said = say(folder.path(), &request()).unwrap();
        check(&said, "masked");
        said
    };
    let (exact, padded) = (with(false), with(true));
    let difference = relative(&padded.mel.values, &exact.mel.values);
    assert!(difference < 1e-5, "{difference}");
}

#[test]
fn a_vocoder_in_windows_gives_the_same_waveform() {
    let folder =
        replaced("network = \"vocoder.onnx\"", "network = \"vocoder.onnx\"\nwindow = 40\ncontext = 10");
    check(&say(folder.path(), &request()).unwrap(), "plain");
}

#[test]
fn a_plan_of_a_bucket_is_compiled_once() {
    let folder = folder(|text| {
        let text = text.replace("means = \"mu\"", "means = \"mu\"\nbuckets = true");
        text.replace("network = \"vocoder.onnx\"", "network = \"vocoder.onnx\"\nwindow = 40\ncontext = 10")
    });
    let plans = tempfile::tempdir().unwrap();
    let placements = Placements {
        cache: Some(Cache { folder: plans.path().to_owned(), limit: 1 << 30 }),
        ..Placements::default()
    };
    let speech = Speech::open(folder.path(), placements).unwrap();
    let count = || {
        fs::read_dir(plans.path())
            .unwrap()
            .flatten()
            .filter(|file| file.path().extension().is_some_and(|e| e == "fsp"))
            .count()
    };
    let say = |scale| {
        let request = Request { length_scale: Some(scale), ..request() };
        speech.say(&request, &mut |_| Flow::Continue).unwrap().mel.shape[2]
    };
    assert_eq!(say(1.0), 102);
    let first = count();
    assert_eq!(first, 3);
    // 103 frames are of the same bucket for the decoder, and go through the same window of the vocoder.
    assert_eq!(say(1.01), 103);
    assert_eq!(count(), first);
}

#[test]
fn a_watcher_sees_each_step_and_may_stop() {
    let speech = Speech::open(&common::path("tests/speech/matcha"), Placements::default()).unwrap();
    let mut steps = Vec::new();
    let mut watch = |event: Event<'_>| match event {
        Event::Step { step, .. } => {
            steps.push(step);
            if step == 2 { Flow::Cancel } else { Flow::Continue }
        }
        _ => Flow::Continue,
    };
    let error = speech.say(&request(), &mut watch).unwrap_err();
    assert!(matches!(error, SpeechError::Cancelled), "{error}");
    assert_eq!(steps, [1, 2]);
}

#[test]
fn wrong_prompts_are_errors() {
    let folder = common::path("tests/speech/matcha");
    let message = |request: &Request<'_>| say(&folder, request).unwrap_err().to_string();
    let found = message(&Request { prompt: "hello wörld", ..request() });
    assert!(found.ends_with("tokens.txt has no symbol for `w`, `ö`, `r`, `d`; write phonemes as the model was trained on (docs/speech.md)"), "{found}");
    let found = message(&Request { prompt: "", ..request() });
    assert_eq!(found, "there is nothing to say; write the phonemes of a text");
    let found = message(&Request { length_scale: Some(0.0), ..request() });
    assert_eq!(found, "a length scale of 0 is none; write a finite number above 0");
    let found = message(&Request { length_scale: Some(1e6), ..request() });
    assert!(found.starts_with("speech of more than 65536 frames"), "{found}");
}

#[test]
fn broken_folders_are_errors() {
    let cases = [
        (
            "network = \"encoder.onnx\"",
            "network = \"noisy.onnx\"",
            "encoder draws noise inside of the network (RandomNormalLike), so that no seed gives a sample again; export",
        ),
        ("network = \"encoder.onnx\"", "network = \"nothing.onnx\"", "encoder: there is no "),
        ("network = \"decoder.onnx\"", "network = \"nothing.onnx\"", "decoder: there is no "),
        ("network = \"vocoder.onnx\"", "network = \"nothing.onnx\"", "vocoder: there is no "),
        ("shape = [8, 64]", "shape = [9, 64]", "encoder has 8 mel channels, and the manifest's state 9"),
        (
            "symbols = \"x\"",
            "symbols = \"text\"",
            "encoder has no input text, which the manifest names; it has x, x_lengths, speaker",
        ),
        ("speaker = \"speaker\"\n", "", "encoder has an input speaker of which the manifest says nothing"),
        (
            "means = \"mu_x\"",
            "means = \"mel\"",
            "encoder has no output mel, which the manifest names; it has mu_x, logw, spks",
        ),
        ("log_durations = \"logw\"", "log_durations = \"spks\"", "encoder gives 16 durations for "),
        ("hop = 8", "hop = 16", "vocoder gives 816 samples for 102 frames, and a hop of 16 needs 1632"),
        (
            "mask = \"mask\"",
            "mask = \"masks\"",
            "`masks` has to be an input with the role \"condition\" and `shape` [1, 64]",
        ),
        ("blank = \"_\"", "blank = \"#\"", "there is no symbol `#`, which the manifest has as the blank"),
        ("tokens = \"tokens.txt\"", "tokens = \"symbols.txt\"", "cannot read the table of symbols"),
        ("hop = 8", "hop = 0", "write 1 to 1000000"),
        ("hop = 8", "hops = 8", "unknown field `hops`"),
        (
            "network = \"vocoder.onnx\"",
            "network = \"vocoder.onnx\"\nwindow = 20\ncontext = 10",
            "`window` has to be more than twice the `context`",
        ),
    ];
    for (from, to, wanted) in cases {
        let error = say(replaced(from, to).path(), &request()).unwrap_err().to_string();
        assert!(error.contains(wanted) && !error.contains('\n'), "{to}: {error}");
    }
    let folder = replaced("[speech]", "[speech]");
    let text = fs::read_to_string(folder.path().join("fewstep.toml")).unwrap();
    fs::write(folder.path().join("fewstep.toml"), text.split("[speech]").next().unwrap()).unwrap();
    let error = say(folder.path(), &request()).unwrap_err().to_string();
    assert!(error.ends_with("the manifest has no table [speech]; write one (docs/speech.md)"), "{error}");
}

/// A waveform of 16 bits, and its samples a second.
#[cfg(feature = "cli")]
fn wav(path: &Path) -> (Vec<f32>, u32) {
    let bytes = fs::read(path).unwrap();
    assert_eq!((&bytes[..4], &bytes[8..16], &bytes[36..40]), (&b"RIFF"[..], &b"WAVEfmt "[..], &b"data"[..]));
    assert_eq!(bytes[20..24], [1, 0, 1, 0], "one channel of integers");
    let rate = u32::from_le_bytes(bytes[24..28].try_into().unwrap());
    let sample = |pair: &[u8]| f32::from(i16::from_le_bytes([pair[0], pair[1]])) / 32767.0;
    (bytes[44..].chunks(2).map(sample).collect(), rate)
}

#[test]
#[cfg(feature = "cli")]
fn the_program_writes_a_wav_file() {
    let out = tempfile::tempdir().unwrap();
    let model = common::path("tests/speech/matcha");
    let arguments = format!("sample {} --prompt hoʊ,a --seed 7", model.display());
    let printed = program::fewstep(&out, &format!("{arguments} -o out.wav"));
    assert!(printed.starts_with("out.wav: 0.0") && printed.contains(" s of tiny-matcha, "), "{printed}");
    assert!(printed.contains(" frames, 3 steps, "), "{printed}");
    program::fewstep(&out, &format!("{arguments} -o out.npy"));
    let exact = npy_file(&out.path().join("out.npy"));
    let Data::F32(exact) = exact.data() else { panic!("not f32") };
    let (found, rate) = wav(&out.path().join("out.wav"));
    assert_eq!((found.len(), rate), (exact.len(), 16000));
    assert!(found.iter().zip(exact).all(|(a, b)| (a - b).abs() <= 0.51 / 32767.0));
}

#[test]
#[cfg(feature = "cli")]
fn the_program_says_what_is_wrong() {
    let out = tempfile::tempdir().unwrap();
    let model = common::path("tests/speech/matcha");
    let cases = [
        ("", "this speaks; give the phonemes of a text with --prompt"),
        ("--prompt h -o out.png", "out.png: speech is written as .wav or .npy; name the file so"),
        ("--prompt h --width 64", "--width has no meaning for speech; leave it out"),
        ("--prompt h -n 2", "-n has no meaning for speech; leave it out"),
        ("--prompt h --cond mu=1", "--cond has no meaning for speech; leave it out"),
        (
            "--prompt h --provider unet=cpu",
            "the pipeline has no component unet; it has encoder, decoder, vocoder",
        ),
        (
            "--prompt x",
            "tokens.txt has no symbol for `x`; write phonemes as the model was trained on (docs/speech.md)",
        ),
    ];
    for (arguments, wanted) in cases {
        let (code, printed) = program::try_fewstep(&out, &format!("sample {} {arguments}", model.display()));
        assert_eq!(code, Some(1), "{arguments}: {printed}");
        assert!(printed.trim_end().ends_with(wanted) && printed.trim_end().lines().count() == 1, "{printed}");
    }
}
