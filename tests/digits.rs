//! The embedded digits model: the network against ONNX Runtime, and the samples as an independent classifier reads them.

mod common;

use common::{compile, distance, npy_file, path, rows, run};
use fewstep::graph::Tensor;
use fewstep::manifest::{Manifest, Request};
use fewstep::onnx::Model;
use fewstep::provider::Settings;
use fewstep::sampler::TorchCpu;
use fewstep::session::Session;

/// Largest error over the output's largest magnitude.
const TOLERANCE: f64 = 1e-4;
/// Samples that are drawn for each number of steps, a tenth of them of each class.
const SAMPLES: usize = 1000;

#[test]
fn the_network_equals_onnx_runtime() {
    let names = ["x", "t", "h", "label"];
    let folder = path("models/digits/golden");
    let inputs: Vec<(String, Tensor)> =
        names.iter().map(|n| (n.to_string(), npy_file(&folder.join(format!("{n}.npy"))))).collect();
    let model = Model::read(&path("models/digits/digits.onnx")).expect("the network");
    let graph = common::graph(model, &inputs).expect("a graph").optimized();
    let wanted = npy_file(&folder.join("u.npy"));
    for row in rows() {
        let results = run(&compile(&graph, row).expect("a plan"), &inputs).expect("a result");
        let off = distance(&results[0], &wanted, 0.0).expect("finite");
        assert!(off < TOLERANCE, "{}: off by {off:.2e}", row.isa);
    }
}

/// Share of samples that are read as the digit that was asked for.
fn share(steps: usize) -> f64 {
    let manifest = Manifest::read(path("models/digits")).expect("the manifest");
    let model = Model::read(&manifest.network_path()).expect("the network");
    let mut session = Session::new(manifest, model, Settings::default()).expect("a session");
    session.prepare(&Request { steps: Some(steps), ..Request::default() }).expect("steps");
    let elements = session.elements();
    let mut samples = vec![0.0; SAMPLES * elements];
    for (i, sample) in samples.chunks_mut(elements).enumerate() {
        session.set_condition("label", &[(i % 10) as f64]).expect("a class");
        session.sample_from(&mut TorchCpu::new(i as u64), sample).expect("a sample");
    }
    let samples: Vec<f32> = samples.iter().map(|x| x.clamp(-1.0, 1.0)).collect();
    let images = vec![("x".to_string(), Tensor::f32(&[SAMPLES, 1, 28, 28], samples).expect("images"))];
    let reader = Model::read(&path("models/digits/classifier.onnx")).expect("the classifier");
    let graph = common::graph(reader, &images).expect("a graph").optimized();
    let logits =
        run(&compile(&graph, fewstep::kernels::cpu::best()).expect("a plan"), &images).expect("logits");
    let logits = logits[0].to_f32();
    let read = |row: &[f32]| (0..10).max_by(|&a, &b| row[a].total_cmp(&row[b])).expect("ten classes");
    let right = logits.chunks(10).enumerate().filter(|(i, row)| read(row) == i % 10).count();
    right as f64 / SAMPLES as f64
}

#[test]
fn samples_read_as_the_digit_that_was_asked_for() {
    let (one, two) = (share(1), share(2));
    println!("read as asked for: {:.1}% at one step, {:.1}% at two", one * 100.0, two * 100.0);
    assert!(one >= 0.95, "{one} at one step");
    assert!(two >= 0.97, "{two} at two steps");
}
