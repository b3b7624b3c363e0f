//! `fewstep inspect` of a pipeline's folder: its components.
#![forbid(unsafe_code)]

use super::inspect::InspectError;
use super::{columns, row, scaled};
use fewstep::onnx::Declared;
use fewstep::pipeline::{Described, Pipeline, Placements};
use serde::Serialize;
use std::path::Path;

/// What is in a pipeline's folder.
#[derive(Serialize)]
pub struct PipelineReport {
    path: String,
    class: &'static str,
    /// When none are asked for.
    steps: usize,
    guidance: f64,
    components: Vec<Component>,
}

#[derive(Serialize)]
struct Component {
    name: String,
    path: String,
    bytes: u64,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
}

#[derive(Serialize)]
struct Port {
    name: String,
    shape: String,
}

impl PipelineReport {
    pub fn of(path: &Path) -> Result<PipelineReport, InspectError> {
        let wrap = |source| InspectError::Pipeline { path: path.into(), source: Box::new(source) };
        let pipeline = Pipeline::open(path, Placements::default()).map_err(wrap)?;
        let class = pipeline.class();
        let components = pipeline.described().map_err(wrap)?.into_iter().map(Component::of).collect();
        let path = path.display().to_string();
        Ok(PipelineReport {
            path,
            class: class.name,
            steps: class.steps,
            guidance: class.guidance,
            components,
        })
    }

    pub fn text(&self) -> String {
        let PipelineReport { path, class, steps, guidance, components } = self;
        let head = format!("{path}: {class}, {steps} steps and guidance {guidance} by default\n\n");
        let names = |ports: &[Port]| {
            let ports: Vec<_> = ports.iter().map(|port| format!("{}{}", port.name, port.shape)).collect();
            ports.join(" ")
        };
        let first = row(&["component", "size", "inputs"]);
        let rest = components
            .iter()
            .map(|own| row(&[&own.name, &format!("{}B", scaled(own.bytes as f64)), &names(&own.inputs)]));
        head + &columns(&[first].into_iter().chain(rest).collect::<Vec<_>>())
    }
}

impl Component {
    fn of(own: Described) -> Component {
        let ports = |declared: &[Declared]| {
            let port = |own: &Declared| Port { name: own.name.clone(), shape: own.shape() };
            declared.iter().map(port).collect()
        };
        Component {
            path: own.path.display().to_string(),
            bytes: own.bytes,
            inputs: ports(&own.header.inputs),
            outputs: ports(&own.header.outputs),
            name: own.name,
        }
    }
}
