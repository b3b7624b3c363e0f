//! Other runtimes that `fewstep bench` measures beside the engine, in the same process on the same inputs.
#![forbid(unsafe_code)]

use super::first_step::Input;
use super::models::Source;
use super::onnxruntime::OnnxRuntime;
use clap::ValueEnum;
use fewstep::graph::Data;
use fewstep::onnx::Declared;
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::TypedSimplePlan;

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Kind {
    /// ONNX Runtime's CPU provider; ORT_DYLIB_PATH is its library
    Ort,
    /// tract, as it is part of this program
    Tract,
}

#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    #[error(
        "--against ort needs ONNX Runtime: set ORT_DYLIB_PATH to its library, which is in its releases and in PyPI's \
         wheel onnxruntime (onnxruntime/capi/libonnxruntime.so.*)"
    )]
    NoLibrary,
    #[error("ORT_DYLIB_PATH={}: {problem}; name the library of ONNX Runtime 1.17 or later", path.display())]
    Library { path: PathBuf, problem: String },
    #[error("{peer} does not run this model: {problem}")]
    Refused { peer: &'static str, problem: String },
    #[error(
        "input {input} has ONNX type {onnx_type}, which the comparison cannot fill; run the bench without --against"
    )]
    Type { input: String, onnx_type: i32 },
}

/// A runtime with a network that is ready to be evaluated again and again.
pub trait Peer {
    fn name(&self) -> &'static str;
    fn version(&self) -> &str;
    fn threads(&self) -> usize;
    /// What a reader of its time has to know.
    fn note(&self) -> Option<&'static str>;
    /// Evaluates the network once.
    fn run(&mut self) -> Result<(), PeerError>;
    /// The outputs of the last evaluation; `None` for those that are not f32.
    fn outputs(&self) -> Result<Vec<Option<Vec<f32>>>, PeerError>;
}

/// What a peer is opened for.
pub struct Request<'a> {
    pub source: &'a Source,
    /// As the file declares them, in the order of `inputs`.
    pub declared: &'a [Declared],
    pub inputs: &'a [Input],
    pub outputs: &'a [String],
    pub threads: usize,
}

pub fn open(kind: Kind, request: &Request) -> Result<Box<dyn Peer>, PeerError> {
    Ok(match kind {
        Kind::Ort => Box::new(OnnxRuntime::open(request)?),
        Kind::Tract => Box::new(Tract::open(request)?),
    })
}

/// The elements of an input in the type that the file declares, in memory's order; `None` for other types.
pub fn bytes(data: &Data, onnx_type: i32) -> Option<Vec<u8>> {
    Some(match (data, onnx_type) {
        (Data::F32(v), 1) => v.iter().flat_map(|x| x.to_ne_bytes()).collect(),
        (Data::F32(v), 10) => v.iter().flat_map(|&x| half::f16::from_f32(x).to_ne_bytes()).collect(),
        (Data::F32(v), 11) => v.iter().flat_map(|&x| f64::from(x).to_ne_bytes()).collect(),
        (Data::I64(v), 6) => v.iter().flat_map(|&x| (x as i32).to_ne_bytes()).collect(),
        (Data::I64(v), 7) => v.iter().flat_map(|x| x.to_ne_bytes()).collect(),
        (Data::Bool(v), 9) => v.iter().map(|&x| u8::from(x)).collect(),
        _ => return None,
    })
}

/// tract, on one thread. The host library of this program is built quickly rather than fast, hence the note.
struct Tract {
    plan: Arc<TypedSimplePlan>,
    inputs: TVec<TValue>,
    outputs: TVec<TValue>,
}

impl Tract {
    const NAME: &'static str = "tract";

    fn open(request: &Request) -> Result<Tract, PeerError> {
        let mut inputs: TVec<TValue> = tvec!();
        for (input, declared) in request.inputs.iter().zip(request.declared) {
            inputs.push(tensor(input, declared.onnx_type)?.into_tvalue());
        }
        let plan = caught(|| {
            let onnx = tract_onnx::onnx();
            let mut model = match request.source.embedded() {
                Some(bytes) => onnx.model_for_read(&mut Cursor::new(bytes))?,
                None => onnx.model_for_path(request.source.path())?,
            };
            for (index, input) in inputs.iter().enumerate() {
                let fact = InferenceFact::dt_shape(input.datum_type(), input.shape());
                model.set_input_fact(index, fact)?;
            }
            model.into_optimized()?.into_runnable()
        })?;
        Ok(Tract { plan, inputs, outputs: tvec!() })
    }
}

/// Runs a piece of tract, which panics where it has no code.
fn caught<T>(work: impl FnOnce() -> TractResult<T>) -> Result<T, PeerError> {
    let refused = |problem: String| PeerError::Refused { peer: Tract::NAME, problem };
    // What it borrows is dropped or left unchanged: nothing is seen half done.
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|error| refused(format!("{error:#}"))),
        Err(_) => Err(refused("it panics".into())),
    }
}

fn tensor(input: &Input, onnx_type: i32) -> Result<Tensor, PeerError> {
    let wrong = || PeerError::Type { input: input.name.clone(), onnx_type };
    let dtype = match onnx_type {
        1 => f32::datum_type(),
        6 => i32::datum_type(),
        7 => i64::datum_type(),
        9 => bool::datum_type(),
        10 => f16::datum_type(),
        11 => f64::datum_type(),
        _ => return Err(wrong()),
    };
    let tensor = match &input.data {
        Data::F32(v) => Tensor::from_shape(&input.shape, v),
        Data::I64(v) => Tensor::from_shape(&input.shape, v),
        Data::Bool(v) => Tensor::from_shape(&input.shape, v),
    };
    let cast = tensor.and_then(|tensor| Ok(tensor.cast_to_dt(dtype)?.into_owned()));
    cast.map_err(|_| wrong())
}

impl Peer for Tract {
    fn name(&self) -> &'static str {
        Tract::NAME
    }

    fn version(&self) -> &str {
        "0.23"
    }

    fn threads(&self) -> usize {
        1
    }

    fn note(&self) -> Option<&'static str> {
        Some("tract runs on one thread, and this program's copy is compiled with opt-level 1")
    }

    fn run(&mut self) -> Result<(), PeerError> {
        self.outputs = caught(|| self.plan.run(self.inputs.clone()))?;
        Ok(())
    }

    fn outputs(&self) -> Result<Vec<Option<Vec<f32>>>, PeerError> {
        let floats = |output: &TValue| {
            if output.datum_type() != f32::datum_type() {
                return Ok(None);
            }
            caught(|| Ok(Some(output.to_plain_array_view::<f32>()?.iter().copied().collect())))
        };
        self.outputs.iter().map(floats).collect()
    }
}
