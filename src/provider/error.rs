//! Why a network does not run.

use crate::engine::EngineError;
use crate::kernels::Isa;
#[cfg(feature = "compile")]
use crate::onnx::OnnxError;
#[cfg(feature = "compile")]
use crate::plan::LowerError;
use crate::plan::OpenError;
use std::string::String;
use std::vec::Vec;

/// Why a network does not run.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    #[cfg(feature = "compile")]
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    #[cfg(feature = "compile")]
    #[error("{0}; give smaller shapes, or report the model")]
    Lower(#[from] LowerError),
    #[cfg(feature = "compile")]
    #[error(transparent)]
    Provider(#[from] super::ProviderError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("the file has no plan for this CPU and these settings, only {found}; compile the model for them")]
    NoPlan { found: String },
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("this CPU lacks the instruction set {isa} (it has {})", supported())]
    Unsupported { isa: Isa },
    #[error("the network does not run in {given} bytes of memory, but in {least}; allow as much")]
    Budget { given: usize, least: usize },
    #[error(
        "the network's working memory needs {bytes} bytes, which the system does not give; use smaller shapes"
    )]
    Memory { bytes: usize },
    #[error("the system gives no threads: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
}

fn supported() -> String {
    let names: Vec<&str> = Isa::ALL.iter().filter(|isa| isa.supported()).map(|isa| isa.name()).collect();
    names.join(", ")
}
