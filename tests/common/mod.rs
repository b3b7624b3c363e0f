//! What the integration tests share: .npy and .npz files, and running a model on every instruction set.
#![allow(dead_code)]

use fewstep::engine::Engine;
use fewstep::graph::{Data, Graph, Tensor};
use fewstep::kernels::{Kernels, cpu};
use fewstep::onnx::{Model, Shapes};
use fewstep::plan::{ALIGNMENT, CompiledPlan, Constants, Recipe, Slots, lower};
use npyz::{DType, NpyFile, Order, TypeChar};
use std::io::Read;
use std::path::{Path, PathBuf};

pub fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

/// Reads a .npy stream as one of the run-time types.
pub fn npy(reader: impl Read) -> Tensor {
    let file = NpyFile::new(reader).expect("a .npy header");
    assert_eq!(file.order(), Order::C, "fixtures are in C order");
    let shape: Vec<usize> = file.shape().iter().map(|&d| d as usize).collect();
    let DType::Plain(kind) = file.dtype() else { panic!("a fixture with records") };
    macro_rules! read {
        ($t:ty, $wrap:path, $convert:expr) => {
            $wrap(file.into_vec::<$t>().expect("elements").into_iter().map($convert).collect())
        };
    }
    let data = match (kind.type_char(), kind.size_field()) {
        (TypeChar::Float, 4) => read!(f32, Data::F32, |x| x),
        (TypeChar::Float, 8) => read!(f64, Data::F32, |x| x as f32),
        (TypeChar::Float, 2) => read!(half::f16, Data::F32, |x| x.to_f32()),
        (TypeChar::Int, 8) => read!(i64, Data::I64, |x| x),
        (TypeChar::Int, 4) => read!(i32, Data::I64, i64::from),
        (TypeChar::Int, 2) => read!(i16, Data::I64, i64::from),
        (TypeChar::Int, 1) => read!(i8, Data::I64, i64::from),
        (TypeChar::Uint, 1) => read!(u8, Data::I64, i64::from),
        (TypeChar::Uint, 4) => read!(u32, Data::I64, i64::from),
        (TypeChar::Bool, _) => read!(bool, Data::Bool, |x| x),
        other => panic!("a fixture of type {other:?}"),
    };
    Tensor::new(&shape, data).expect("a whole array")
}

/// All arrays of a .npz file with their names.
pub fn npz(path: &Path) -> Vec<(String, Tensor)> {
    let file = std::fs::File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut archive = zip::ZipArchive::new(file).expect("an archive");
    (0..archive.len())
        .map(|i| {
            let entry = archive.by_index(i).expect("an entry");
            let name = entry.name().strip_suffix(".npy").expect("an array").to_string();
            (name, npy(entry))
        })
        .collect()
}

pub fn npy_file(path: &Path) -> Tensor {
    npy(std::fs::File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
}

/// A network of tests/networks, inputs, and the outputs that ONNX Runtime computes.
pub struct Fixture {
    pub name: String,
    pub model: Model,
    pub inputs: Vec<(String, Tensor)>,
    pub outputs: Vec<(String, Tensor)>,
}

pub fn fixtures() -> impl Iterator<Item = Fixture> {
    let entries = std::fs::read_dir(path("tests/networks")).expect("tests/networks");
    let mut folders: Vec<PathBuf> =
        entries.map(|e| e.expect("an entry").path()).filter(|p| p.join("in").is_dir()).collect();
    folders.sort();
    folders.into_iter().map(|folder| {
        let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
        let model = Model::read(&folder.join(format!("{name}.onnx"))).expect("a model");
        let (inputs, outputs) = (arrays(&folder.join("in")), arrays(&folder.join("out")));
        Fixture { name, model, inputs, outputs }
    })
}

fn arrays(folder: &Path) -> Vec<(String, Tensor)> {
    let files = std::fs::read_dir(folder).expect("fixtures").map(|e| e.expect("an entry").path());
    files.map(|p| (p.file_stem().expect("a name").to_string_lossy().into_owned(), npy_file(&p))).collect()
}

/// The rows that this CPU can run.
pub fn rows() -> impl Iterator<Item = &'static Kernels> {
    cpu::ROWS.iter().filter(|row| row.isa.supported())
}

/// Memory at the engine's alignment.
pub struct Arena(Vec<u8>, usize);

impl Arena {
    pub fn new(bytes: usize) -> Arena {
        let memory = vec![0u8; bytes + ALIGNMENT];
        let start = memory.as_ptr().align_offset(ALIGNMENT);
        Arena(memory, start)
    }

    pub fn bytes(&mut self) -> &mut [u8] {
        &mut self.0[self.1..]
    }
}

/// The graph of a model for inputs of these shapes.
pub fn graph(model: Model, inputs: &[(String, Tensor)]) -> Result<Graph, String> {
    let shapes: Shapes = inputs.iter().map(|(name, t)| (name.clone(), t.shape().to_vec())).collect();
    model.into_graph(&shapes).map_err(|e| e.to_string())
}

/// Runs a plan once.
pub fn run(plan: &CompiledPlan, inputs: &[(String, Tensor)]) -> Result<Vec<Tensor>, String> {
    let mut arena = Arena::new(plan.plan().memory_bytes(Slots::ONE).expect("a size"));
    // Whatever lies in the arena before must not matter.
    arena.bytes().fill(0xA5);
    let view = plan.plan();
    let mut engine = Engine::new(view, arena.bytes()).map_err(|e| e.to_string())?.with_host(plan);
    write(&mut engine, inputs)?;
    engine.run().map_err(|e| e.to_string())?;
    read(&mut engine)
}

/// Fills the inputs by their names.
pub fn write(engine: &mut Engine<'_>, inputs: &[(String, Tensor)]) -> Result<(), String> {
    let view = engine.plan();
    for (i, port) in view.inputs().enumerate() {
        let name = view.name(port);
        let (_, tensor) = inputs.iter().find(|(n, _)| n == name).ok_or(format!("no input {name}"))?;
        match tensor.data() {
            Data::F32(v) => engine.input_f32(i).map_err(|e| e.to_string())?.copy_from_slice(v),
            Data::I64(v) => engine.input_i64(i).map_err(|e| e.to_string())?.copy_from_slice(v),
            Data::Bool(v) => {
                let bytes: Vec<u8> = v.iter().map(|&b| u8::from(b)).collect();
                engine.input_bool(i).map_err(|e| e.to_string())?.copy_from_slice(&bytes);
            }
        }
    }
    Ok(())
}

/// All outputs.
pub fn read(engine: &mut Engine<'_>) -> Result<Vec<Tensor>, String> {
    let view = engine.plan();
    let mut outputs = Vec::new();
    for (i, port) in view.outputs().enumerate() {
        let layout = view.view_at(port.view).ok_or("no view")?;
        let shape: Vec<usize> = (0..layout.layout.rank()).map(|a| layout.layout.dim(a)).collect();
        let data = match layout.dtype {
            fewstep::kernels::DType::F32 => {
                Data::F32(engine.output_f32(i).map_err(|e| e.to_string())?.to_vec())
            }
            fewstep::kernels::DType::I64 => {
                Data::I64(engine.output_i64(i).map_err(|e| e.to_string())?.to_vec())
            }
            fewstep::kernels::DType::Bool => {
                let bytes = engine.output_bool(i).map_err(|e| e.to_string())?;
                Data::Bool(bytes.iter().map(|&b| b != 0).collect())
            }
        };
        outputs.push(Tensor::new(&shape, data).map_err(|e| e.to_string())?);
    }
    Ok(outputs)
}

pub fn compile(graph: &Graph, row: &'static Kernels) -> Result<CompiledPlan, String> {
    compile_by(graph, Recipe::new(row.isa))
}

pub fn compile_by(graph: &Graph, recipe: Recipe<'_>) -> Result<CompiledPlan, String> {
    lower(graph, recipe, Constants::default()).map_err(|e| e.to_string())
}

/// How far `found` is from `wanted`: the largest difference over the largest wanted magnitude (at least `floor`).
/// Infinities and NaNs must match one by one.
pub fn distance(found: &Tensor, wanted: &Tensor, floor: f32) -> Result<f64, String> {
    if found.shape() != wanted.shape() || found.dtype() != wanted.dtype() {
        return Err(format!("it is {}, not {}", found.fact(), wanted.fact()));
    }
    let (found, wanted) = (found.to_f32(), wanted.to_f32());
    let scale = wanted.iter().filter(|x| x.is_finite()).fold(floor, |m, x| m.max(x.abs()));
    let mut worst = 0f64;
    for (i, (&f, &w)) in found.iter().zip(&wanted).enumerate() {
        if w.is_nan() && f.is_nan() || f == w {
            continue;
        }
        if !w.is_finite() || !f.is_finite() {
            return Err(format!("element {i} is {f}, not {w}"));
        }
        worst = worst.max(f64::from((f - w).abs()) / f64::from(scale));
    }
    Ok(worst)
}
