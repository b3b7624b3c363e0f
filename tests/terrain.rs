//! The terrain model, a real third-party network, against ONNX Runtime (tests/terrain/golden.py makes the golden files).

mod common;

use common::{compile, distance, npy_file, path, rows, run};
use fewstep::graph::{Data, Tensor};
use fewstep::onnx::Model;
use std::process::Command;

/// Largest error over the output's range.
const TOLERANCE: f64 = 1e-4;

/// Fetches the weights, which are not committed.
fn model() -> Model {
    let fetched = Command::new("sh").arg(path("models/terrain/fetch.sh")).output().expect("sh");
    let problem = String::from_utf8_lossy(&fetched.stderr).into_owned();
    assert!(
        fetched.status.success(),
        "the terrain model can not be fetched, so it can not be tested: {problem}"
    );
    Model::read(&path("models/terrain/terrain_consistency_unet_difficulty100.onnx"))
        .expect("the terrain model")
}

fn inputs() -> Vec<(String, Tensor)> {
    let noise = npy_file(&path("tests/terrain/noise.npy"));
    let scaled: Vec<f32> = noise.to_f32().iter().map(|x| x * 80.0).collect();
    let one = |x: f32| Tensor::f32(&[1], vec![x]).expect("one value");
    vec![
        ("noisy".to_string(), Tensor::new(noise.shape(), Data::F32(scaled)).expect("the noise")),
        ("sigma".to_string(), one(80.0)),
        ("difficulty".to_string(), one(0.5)),
    ]
}

#[test]
fn terrain_equals_onnx_runtime() {
    let inputs = inputs();
    let graph = common::graph(model(), &inputs).expect("a graph").optimized();
    assert!(graph.nodes.iter().all(|n| n.op.name() != "Host"), "terrain has nodes without a native kernel");
    let wanted = npy_file(&path("tests/terrain/denoised.npy"));
    let values = wanted.to_f32();
    let (low, high) = values.iter().fold((f32::MAX, f32::MIN), |(l, h), &x| (l.min(x), h.max(x)));
    let magnitude = f64::from(values.iter().fold(0f32, |m, x| m.max(x.abs())));
    for row in rows() {
        let plan = compile(&graph, row).expect("a plan");
        let results = run(&plan, &inputs).expect("a result");
        let off = distance(&results[0], &wanted, 0.0).expect("finite") * magnitude / f64::from(high - low);
        println!("terrain f32 {}: maximum error {off:.2e} of the output range", row.isa);
        assert!(off < TOLERANCE, "{}: off by {off:.2e} of the range", row.isa);
    }
}
