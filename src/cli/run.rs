//! `fewstep run`: one evaluation of a network, from arrays to arrays.
#![forbid(unsafe_code)]

use super::npy::{self, Array, Elements, NpyError};
use super::provider::{ArgumentError, kernels, note_fallback};
use super::{IsaError, PrintError, Running, assignment, file_stem, first_step, models, print, time};
use fewstep::cache::CacheError;
use fewstep::engine::EngineError;
use fewstep::graph::Fact;
use fewstep::kernels::DType;
use fewstep::onnx::{Model, OnnxError, Shapes};
use fewstep::provider::{Io, Network, NetworkError, Opening, Provider};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Evaluate a network once, and write every output as NAME.npy.
///
/// The shapes of the arrays are those that the network is compiled for.
#[derive(clap::Args, Debug)]
pub struct Run {
    /// An embedded model's name, a folder with a fewstep.toml, that file, or an .onnx file
    model: PathBuf,
    /// An input, for each input of the network
    #[arg(long = "input", value_name = "NAME=FILE.npy", value_parser = input)]
    inputs: Vec<(String, PathBuf)>,
    /// The folder that the outputs are written to; it is created
    #[arg(short = 'o', long, value_name = "DIR")]
    output: PathBuf,
    #[command(flatten)]
    running: Running,
}

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Argument(#[from] ArgumentError),
    #[error(transparent)]
    Isa(#[from] IsaError),
    #[error(transparent)]
    Model(#[from] models::ModelError),
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    #[error("{}: {source}", path.display())]
    Network { path: PathBuf, source: Box<NetworkError> },
    #[error("--input {0} is given twice; give it once")]
    Twice(String),
    #[error("{}: the network has no input {name}; its inputs are {known}", path.display())]
    Unknown { path: PathBuf, name: String, known: String },
    #[error("{}: nothing is given for {missing}; give --input NAME=FILE.npy for each", path.display())]
    Missing { path: PathBuf, missing: String },
    #[error("input {input}: {} has shape {found:?}, the network wants {wanted}", path.display())]
    Shape { input: String, path: PathBuf, found: Vec<usize>, wanted: String },
    #[error("input {input}: {} is {found}, the network wants {wanted}; save it with .astype({})", path.display(), numpy(wanted.dtype))]
    Type { input: String, path: PathBuf, found: Fact, wanted: Fact },
    #[error(transparent)]
    Npy(#[from] NpyError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("{}: cannot write the outputs: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Print(#[from] PrintError),
}

/// How NumPy spells a type.
fn numpy(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "'<f4'",
        DType::I64 => "'<i8'",
        DType::Bool => "bool",
    }
}

impl Run {
    pub fn run(&self) -> Result<(), RunError> {
        let (provider, settings) = (self.running.provider()?, self.running.settings()?);
        let source = models::find(&self.model)?;
        if !matches!(provider, Provider::Cpu) {
            source.onnx()?;
        }
        let begin = Instant::now();
        let wrap = |error| RunError::Network { path: source.path().into(), source: Box::new(error) };
        let read = || self.inputs.iter().map(|(_, path)| npy::read(path)).collect::<Result<Vec<_>, _>>();
        let (mut network, arrays) = match source.plan() {
            Some(file) => {
                let network = Network::open(file, settings).map_err(wrap)?;
                self.check_names(source.path(), &network.inputs().map(|(name, _)| name).collect::<Vec<_>>())?;
                (network, read()?)
            }
            None => {
                let model = source.read()?;
                let names: Vec<_> = model.inputs.iter().map(|input| &input.name[..]).collect();
                self.check_names(source.path(), &names)?;
                let arrays = read()?;
                let named = self.inputs.iter().zip(&arrays);
                let shapes = named.map(|((name, _), array)| (name.clone(), array.shape.clone())).collect();
                self.check_shapes(&model, &shapes)?;
                let network = match provider {
                    Provider::Cpu => Network::new(model, &shapes, settings),
                    provider => {
                        let (shapes, bindings, cache) = (&shapes, &[][..], self.running.cache()?);
                        let opening = Opening { shapes, settings, bindings, cache: cache.as_ref() };
                        Network::on(&provider, source.onnx()?, &opening)
                    }
                };
                (network.map_err(wrap)?, arrays)
            }
        };
        self.fill(&mut network, arrays)?;
        first_step::settle(&mut network).map_err(wrap)?;
        let opened = begin.elapsed();

        let begin = Instant::now();
        first_step::evaluate(&mut network).map_err(wrap)?;
        let ran = begin.elapsed();
        let written = write(&mut network, &self.output)?;
        note_fallback(&network);
        let kernels = kernels(&network);
        print(&format!(
            "{written}{}: {} an evaluation on {kernels}, opened in {}\n",
            source.name,
            time(ran),
            time(opened)
        ))?;
        Ok(())
    }

    fn check_names(&self, path: &Path, known: &[&str]) -> Result<(), RunError> {
        let known = || known.iter().copied();
        for (i, (name, _)) in self.inputs.iter().enumerate() {
            if !known().any(|known| known == name) {
                let known = known().collect::<Vec<_>>().join(", ");
                return Err(RunError::Unknown { path: path.into(), name: name.clone(), known });
            }
            if self.inputs[..i].iter().any(|(other, _)| other == name) {
                return Err(RunError::Twice(name.clone()));
            }
        }
        let missing = |name: &&str| self.inputs.iter().all(|(given, _)| given != name);
        match known().filter(missing).collect::<Vec<_>>() {
            missing if missing.is_empty() => Ok(()),
            missing => Err(RunError::Missing { path: path.into(), missing: missing.join(", ") }),
        }
    }

    fn path(&self, input: &str) -> PathBuf {
        let given = self.inputs.iter().find(|(name, _)| name == input);
        given.map(|(_, path)| path.clone()).unwrap_or_default()
    }

    fn check_shapes(&self, model: &Model, shapes: &Shapes) -> Result<(), RunError> {
        match model.input_shapes(shapes) {
            Err(OnnxError::WrongShape { input, given, declared }) => {
                Err(RunError::Shape { path: self.path(&input), input, found: given, wanted: declared })
            }
            checked => Ok(checked.map(drop)?),
        }
    }

    /// Puts the arrays, in the order of the arguments, into the network's inputs.
    fn fill(&self, network: &mut Network, mut arrays: Vec<Array>) -> Result<(), RunError> {
        let inputs: Vec<(String, Fact)> = network.inputs().map(|(name, fact)| (name.into(), fact)).collect();
        let mut io = network.io()?;
        for (index, (input, wanted)) in inputs.into_iter().enumerate() {
            let Some(given) = self.inputs.iter().position(|(name, _)| *name == input) else { continue };
            let Array { shape, data } = &mut arrays[given];
            let found = Fact::new(data.dtype(), shape);
            if found != wanted {
                return Err(RunError::Type { path: self.path(&input), input, found, wanted });
            }
            match data {
                Elements::F32(values) => io.input_f32(index)?.copy_from_slice(values),
                Elements::I64(values) => io.input_i64(index)?.copy_from_slice(values),
                Elements::Bool(values) => {
                    let truth = io.input_bool(index)?.iter_mut().zip(values);
                    truth.for_each(|(byte, value)| *byte = u8::from(*value));
                }
            }
        }
        Ok(())
    }
}

/// `NAME=FILE`.
fn input(text: &str) -> Result<(String, PathBuf), String> {
    assignment(text).map(|(name, path)| (name, path.into()))
}

/// Writes all outputs or none. Returns a line for each.
fn write(network: &mut Network, folder: &Path) -> Result<String, RunError> {
    let failed = |source| RunError::Write { path: folder.into(), source };
    let outputs: Vec<(String, Fact)> = network.outputs().map(|(name, fact)| (name.into(), fact)).collect();
    let files = file_names(&outputs);
    fs::create_dir_all(folder).map_err(failed)?;
    // On the same file system, so that finished files can move; deleted with what is left in it on every return.
    let temporary = tempfile::Builder::new().prefix(".fewstep-").tempdir_in(folder).map_err(failed)?;
    let mut io = network.io()?;
    for (index, ((_, fact), file)) in outputs.iter().zip(&files).enumerate() {
        write_output(&mut io, index, fact, &temporary.path().join(file))?;
    }
    for (moved, file) in files.iter().enumerate() {
        if let Err(error) = fs::rename(temporary.path().join(file), folder.join(file)) {
            // Nothing more can be done about what can not be removed either.
            files[..moved].iter().for_each(|file| drop(fs::remove_file(folder.join(file))));
            return Err(failed(error));
        }
    }
    let line = |((name, fact), file): (&(String, Fact), &String)| {
        format!("{}: {name}, {fact}\n", folder.join(file).display())
    };
    Ok(outputs.iter().zip(&files).map(line).collect())
}

fn write_output(io: &mut Io, index: usize, fact: &Fact, path: &Path) -> Result<(), RunError> {
    match fact.dtype {
        DType::F32 => npy::write_f32(path, &fact.shape, io.output_f32(index)?)?,
        DType::I64 => npy::write_i64(path, &fact.shape, io.output_i64(index)?)?,
        DType::Bool => {
            let values: Vec<bool> = io.output_bool(index)?.iter().map(|&byte| byte != 0).collect();
            npy::write_bool(path, &fact.shape, &values)?;
        }
    }
    Ok(())
}

/// A file's name for each output. Names that become alike get a number.
fn file_names(outputs: &[(String, Fact)]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (output, _) in outputs {
        let stem = file_stem(output);
        let numbered = (2..).map(|number| format!("{stem}_{number}.npy"));
        let free = |name: &String| !names.contains(name);
        names.extend(std::iter::once(format!("{stem}.npy")).chain(numbered).find(free));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_output_has_a_file_of_its_own() {
        let output = |name: &str| (name.to_string(), Fact::new(DType::F32, &[]));
        let names = file_names(&["a/b", "a_b", "../x", "a_b_2", "a:b"].map(output));
        assert_eq!(names, ["a_b.npy", "a_b_2.npy", "_._x.npy", "a_b_2_2.npy", "a_b_3.npy"]);
    }
}
