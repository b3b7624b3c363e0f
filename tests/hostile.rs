//! Damaged ONNX files: each is an error or a network, never a panic, and never more memory than the file can ask for.

mod common;

use common::{npy_file, path};
use fewstep::kernels::cpu;
use fewstep::onnx::{Model, Shapes};
use fewstep::plan::{Constants, Recipe, lower};
use std::path::Path;

/// Damaged copies of each file.
const COPIES: u64 = 400;

/// splitmix64.
fn random(state: &mut u64) -> usize {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (z ^ (z >> 31)) as usize
}

/// Changes some bytes, cuts the file off, or repeats a piece of it elsewhere.
fn damaged(bytes: &[u8], seed: u64) -> Vec<u8> {
    let (mut bytes, mut state) = (bytes.to_vec(), seed);
    match random(&mut state) % 4 {
        0 => bytes.truncate(random(&mut state) % bytes.len()),
        1 => {
            let (from, to) = (random(&mut state) % bytes.len(), random(&mut state) % bytes.len());
            let piece = bytes[from..(from + random(&mut state) % 64).min(bytes.len())].to_vec();
            bytes.splice(to..to, piece);
        }
        _ => {
            for _ in 0..1 + random(&mut state) % 8 {
                let at = random(&mut state) % bytes.len();
                bytes[at] = random(&mut state) as u8;
            }
        }
    }
    bytes
}

/// As far as the bytes lead.
fn open(bytes: &[u8], name: &str, shapes: &Shapes) -> Result<(), String> {
    let model = Model::parse(bytes, Path::new(name), None).map_err(|e| e.to_string())?;
    let graph = model.into_graph(shapes).map_err(|e| e.to_string())?.optimized();
    lower(&graph, Recipe::new(cpu::best().isa), Constants::default()).map_err(|e| e.to_string())?;
    Ok(())
}

#[test]
fn no_damaged_file_panics() {
    // The host library's panics are caught; the test fails on what is not.
    std::panic::set_hook(Box::new(|_| {}));
    let mut panics = Vec::new();
    for name in ["mlp", "policy_unet1d", "sit_opset23", "dit"] {
        let folder = path("tests/networks").join(name);
        let bytes = std::fs::read(folder.join(format!("{name}.onnx"))).expect("a fixture");
        let inputs =
            std::fs::read_dir(folder.join("in")).expect("inputs").map(|e| e.expect("an entry").path());
        let shapes: Shapes = inputs
            .map(|p| {
                (p.file_stem().expect("a name").to_string_lossy().into_owned(), npy_file(&p).shape().to_vec())
            })
            .collect();
        open(&bytes, name, &shapes).expect("the whole file is a network");
        for seed in 0..COPIES {
            let damaged = damaged(&bytes, seed);
            if std::panic::catch_unwind(|| open(&damaged, name, &shapes)).is_err() {
                panics.push(format!("{name} {seed}"));
            }
        }
    }
    let _ = std::panic::take_hook();
    assert!(panics.is_empty(), "{panics:?}");
}
