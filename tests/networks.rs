//! Whole networks against ONNX Runtime: every folder of tests/networks holds an exported network with random weights,
//! inputs, and the outputs that ONNX Runtime computes (see export.py there).

mod common;

use common::{Fixture, compile_by, distance, fixtures, graph, rows, run};
use fewstep::plan::Recipe;

/// Largest error over the output's largest magnitude.
const TOLERANCE: f64 = 1e-4;
/// fp16 exports: ONNX Runtime rounds every intermediate to fp16, the engine computes them in f32.
const HALF_TOLERANCE: f64 = 1e-2;

#[test]
fn every_network_equals_onnx_runtime() {
    let mut failures = Vec::new();
    for Fixture { name, model, inputs, outputs } in fixtures() {
        let plain = graph(model, &inputs).unwrap_or_else(|e| panic!("{name}: {e}"));
        let host: Vec<&str> =
            plain.nodes.iter().filter(|n| n.op.name() == "Host").map(|n| n.name.as_str()).collect();
        assert!(host.is_empty(), "{name} has nodes without a native kernel: {host:?}");
        let tolerance = if name.ends_with("fp16") { HALF_TOLERANCE } else { TOLERANCE };
        let optimized = plain.clone().optimized();
        for row in rows() {
            let fast = Recipe::new(row.isa);
            let frugal = Recipe { frugal: true, ..fast };
            let ways =
                [("plain", &plain, fast), ("optimized", &optimized, fast), ("frugal", &optimized, frugal)];
            for (how, graph, recipe) in ways {
                let plan = compile_by(graph, recipe).unwrap_or_else(|e| panic!("{name}: {e}"));
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
