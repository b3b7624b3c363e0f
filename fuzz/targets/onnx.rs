//! ONNX files: an error, or a graph.
#![no_main]

use fewstep::onnx::{Dimension, Model, Shapes};
use libfuzzer_sys::fuzz_target;
use std::path::Path;

fuzz_target!(
    // The library catches panics of the one that it asks about shapes; the fuzzer would end at each all the same.
    init: std::panic::set_hook(Box::new(|_| ())),
    |data: &[u8]| {
        let Ok(model) = Model::parse(data, Path::new("fuzzed.onnx"), None) else { return };
        let size = |dimension: &Dimension| match dimension {
            Dimension::Fixed(size) => *size,
            Dimension::Symbol(_) => 1,
        };
        let shapes: Shapes =
            model.inputs.iter().map(|i| (i.name.clone(), i.dims.iter().map(size).collect())).collect();
        let _ = model.into_graph(&shapes).map(|graph| graph.optimized());
    }
);
