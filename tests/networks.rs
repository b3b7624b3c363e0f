//! Whole networks against ONNX Runtime: every folder of tests/networks holds an exported network with random weights,
//! inputs, and the outputs that ONNX Runtime computes (see export.py there).

mod common;

use common::{compile, distance, graph, npy_file, rows, run};
use fewstep::graph::Tensor;
use fewstep::onnx::Model;
use std::path::{Path, PathBuf};

/// Largest error over the output's largest magnitude.
const TOLERANCE: f64 = 1e-4;
/// fp16 exports: ONNX Runtime rounds every intermediate to fp16, the engine computes them in f32.
const HALF_TOLERANCE: f64 = 1e-2;

fn folders() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(common::path("tests/networks")).expect("tests/networks");
    let mut folders: Vec<PathBuf> =
        entries.map(|e| e.expect("an entry").path()).filter(|p| p.join("in").is_dir()).collect();
    folders.sort();
    folders
}

fn arrays(folder: &Path) -> Vec<(String, Tensor)> {
    let files = std::fs::read_dir(folder).expect("fixtures").map(|e| e.expect("an entry").path());
    files.map(|p| (p.file_stem().expect("a name").to_string_lossy().into_owned(), npy_file(&p))).collect()
}

#[test]
fn every_network_equals_onnx_runtime() {
    let mut failures = Vec::new();
    for folder in folders() {
        let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
        let (inputs, outputs) = (arrays(&folder.join("in")), arrays(&folder.join("out")));
        let model = Model::read(&folder.join(format!("{name}.onnx"))).expect("a model");
        let plain = graph(model, &inputs).unwrap_or_else(|e| panic!("{name}: {e}"));
        let host: Vec<&str> =
            plain.nodes.iter().filter(|n| n.op.name() == "Host").map(|n| n.name.as_str()).collect();
        assert!(host.is_empty(), "{name} has nodes without a native kernel: {host:?}");
        let tolerance = if name.ends_with("fp16") { HALF_TOLERANCE } else { TOLERANCE };
        let optimized = plain.clone().optimized();
        for row in rows() {
            for (how, graph) in [("plain", &plain), ("optimized", &optimized)] {
                let plan = compile(graph, row).unwrap_or_else(|e| panic!("{name}: {e}"));
                let results = run(&plan, &inputs).unwrap_or_else(|e| panic!("{name}: {e}"));
                for (found, output) in results.iter().zip(&graph.output_names) {
                    let wanted = outputs.iter().find(|(n, _)| n == output || outputs.len() == 1);
                    let off = distance(found, &wanted.expect("a golden output").1, 1e-3);
                    println!("{name} {output} {} {how}: {off:?}", row.isa);
                    if !off.as_ref().is_ok_and(|off| *off <= tolerance) {
                        failures.push(format!("{name} {output} {} {how}: {off:?}", row.isa));
                    }
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
