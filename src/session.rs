//! A session: a manifest, its network and a sampler, with everything that a sample needs allocated beforehand.

use crate::engine::{Engine, EngineError};
use crate::graph::Fact;
use crate::kernels::DType;
use crate::manifest::{ConditionError, Manifest, ManifestError, Request, RequestError, Role};
use crate::onnx::{Dimension, Model, Shapes};
use crate::provider::{Network, NetworkError, Settings};
use crate::sampler::{self, Noise, Row, Table};
use std::path::Path;
use std::string::{String, ToString};
use std::vec::Vec;

/// Why there is no sample.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Condition(#[from] ConditionError),
    #[error(transparent)]
    Sampler(#[from] sampler::Error),
    #[error(
        "the manifest names an input {input}, but the network's inputs are {known}; correct the manifest"
    )]
    NoInput { input: String, known: String },
    #[error("the network's input {input} has no role in the manifest; add a section [inputs.{input}]")]
    NoRole { input: String },
    #[error("input {input}: the manifest gives shape {manifest:?} a sample, the network declares {network}")]
    Shape { input: String, manifest: Vec<usize>, network: String },
    #[error("the manifest's output {output} is not one of the network's: {known}; correct the manifest")]
    NoOutput { output: String, known: String },
    #[error("output {output} is {found}, but the state is {state}; the sampler needs them alike")]
    OutputShape { output: String, found: Fact, state: Fact },
    #[error("condition `{name}` has no default; give it a value")]
    Unset { name: String },
    #[error("the noise has {found} values, a sample of this model needs {needed}")]
    NoiseLength { found: usize, needed: usize },
    #[error(
        "step {step} of {steps}: the network returned {value} at element {at}; check the conditions and the noise"
    )]
    NotFinite { step: usize, steps: usize, at: usize, value: f32 },
    #[error("stopped after step {step}")]
    Cancelled { step: usize },
}

/// What a caller's closure says after each step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    Continue,
    Cancel,
}

/// Numbers of the network's inputs, by role.
#[derive(Debug, Default)]
struct Ports {
    state: usize,
    times: Vec<(usize, TimeKind)>,
    conditions: Vec<(usize, String)>,
    output: usize,
}

#[derive(Clone, Copy, Debug)]
enum TimeKind {
    Time,
    Target,
    Duration,
}

/// A model that is ready to be sampled.
#[derive(Debug)]
pub struct Session {
    manifest: Manifest,
    network: Network,
    ports: Ports,
    table: Table,
    /// Conditions without a default that have no value yet.
    unset: Vec<String>,
    /// [elements of a sample]
    state: Vec<f32>,
    /// [elements of a sample]
    noise: Vec<f32>,
    /// [estimates the sampler looks back at, elements of a sample]
    history: Vec<f32>,
}

impl Session {
    /// Opens the model of a manifest, or of the manifest in a folder.
    ///
    /// # Errors
    /// If the manifest or its network can not be read, do not fit each other, or can not run here.
    pub fn open(path: &Path, settings: Settings) -> Result<Session, SessionError> {
        let manifest = Manifest::read(path)?;
        let model = Model::read(&manifest.network_path()).map_err(NetworkError::from)?;
        Session::new(manifest, model, settings)
    }

    /// A session of a manifest and its network, which may come from anywhere.
    ///
    /// # Errors
    /// As [`Session::open`].
    pub fn new(manifest: Manifest, model: Model, settings: Settings) -> Result<Session, SessionError> {
        let shapes = input_shapes(&manifest, &model)?;
        let network = Network::new(model, &shapes, settings)?;
        let ports = Ports::of(&manifest, &network)?;
        let elements = network.inputs().nth(ports.state).map_or(0, |(_, fact)| fact.len());
        let table = manifest.table(&Request::default())?;
        let (state, noise) = (std::vec![0.0; elements], std::vec![0.0; elements]);
        let history = std::vec![0.0; elements * table.history()];
        let mut session =
            Session { manifest, network, ports, table, unset: Vec::new(), state, noise, history };
        session.set_defaults()?;
        Ok(session)
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Number of elements of one sample.
    pub fn elements(&self) -> usize {
        self.state.len()
    }

    /// Number of network evaluations a sample.
    pub fn steps(&self) -> usize {
        self.table.rows.len()
    }

    /// Chooses sampler, steps and times for the samples to come.
    ///
    /// # Errors
    /// If the model does not allow what is asked for.
    pub fn prepare(&mut self, request: &Request) -> Result<(), SessionError> {
        self.table = self.manifest.table(request)?;
        self.history.resize(self.state.len() * self.table.history(), 0.0);
        Ok(())
    }

    /// Sets a condition for the samples to come: one value for all its elements, or one for each.
    ///
    /// # Errors
    /// If there is no such condition, or it does not take these values.
    pub fn set_condition(&mut self, name: &str, values: &[f64]) -> Result<(), SessionError> {
        self.manifest.condition(name, values)?;
        let Some(&(index, _)) = self.ports.conditions.iter().find(|(_, own)| own == name) else {
            return Err(SessionError::NoRole { input: name.to_string() });
        };
        write_input(&mut self.network.engine()?, index, |i| {
            if values.len() == 1 { values[0] } else { values[i] }
        })?;
        self.unset.retain(|unset| unset != name);
        Ok(())
    }

    fn set_defaults(&mut self) -> Result<(), SessionError> {
        let conditions = self.manifest.conditions();
        let defaults: Vec<_> = conditions.map(|(name, c)| (name.to_string(), c.default.clone())).collect();
        for (name, default) in defaults {
            match default {
                Some(values) => self.set_condition(&name, &values)?,
                None => self.unset.push(name),
            }
        }
        Ok(())
    }

    /// Draws one sample into `out`, from unit normal noise that `noise` draws.
    ///
    /// # Errors
    /// If a condition has no value, `out` has the wrong length, or the network returns what is not finite.
    pub fn sample(&mut self, noise: &mut (dyn Noise + Send), out: &mut [f32]) -> Result<(), SessionError> {
        self.sample_with(None, noise, out, &mut |_, _| Flow::Continue)
    }

    /// As [`Session::sample`], from given unit normal noise if there is any; `after` is called after each step with the
    /// step's number, from 1, and the state, and may stop the run.
    ///
    /// Allocates nothing, unless the network has operators that the host runs.
    ///
    /// # Errors
    /// As [`Session::sample`]; or [`SessionError::Cancelled`].
    pub fn sample_with(
        &mut self,
        initial: Option<&[f32]>,
        noise: &mut (dyn Noise + Send),
        out: &mut [f32],
        after: &mut (dyn FnMut(usize, &[f32]) -> Flow + Send),
    ) -> Result<(), SessionError> {
        let needed = self.state.len();
        for found in [initial.map_or(needed, <[f32]>::len), out.len()] {
            if found != needed {
                return Err(SessionError::NoiseLength { found, needed });
            }
        }
        if let Some(name) = self.unset.first() {
            return Err(SessionError::Unset { name: name.clone() });
        }
        match initial {
            Some(initial) => self.state.copy_from_slice(initial),
            None => noise.fill_normal(&mut self.state),
        }
        if self.table.initial_noise.is_some() {
            noise.fill_normal(&mut self.noise);
        }
        sampler::start(&self.table, &mut self.state, Some(&self.noise))?;
        // One hand-over to the pool for the whole loop: within it, nothing needs one, and nothing allocates.
        match self.network.pool() {
            Some(pool) => pool.install(|| self.steps_of(noise, after))?,
            None => self.steps_of(noise, after)?,
        }
        out.copy_from_slice(&self.state);
        Ok(())
    }

    fn steps_of(
        &mut self,
        noise: &mut dyn Noise,
        after: &mut dyn FnMut(usize, &[f32]) -> Flow,
    ) -> Result<(), SessionError> {
        let steps = self.table.rows.len();
        for step in 0..steps {
            self.step(step, noise)?;
            if let Some(at) = sampler::first_non_finite(&self.state) {
                let value = self.state[at];
                return Err(SessionError::NotFinite { step: step + 1, steps, at, value });
            }
            if after(step + 1, &self.state) == Flow::Cancel {
                return Err(SessionError::Cancelled { step: step + 1 });
            }
        }
        Ok(())
    }

    /// One network evaluation and its update.
    fn step(&mut self, step: usize, noise: &mut dyn Noise) -> Result<(), SessionError> {
        let row: &Row = &self.table.rows[step];
        let mut engine = self.network.engine()?;
        sampler::feed(row, &self.state, engine.input_f32(self.ports.state)?)?;
        for &(index, kind) in &self.ports.times {
            let value = match kind {
                TimeKind::Time => row.inputs.t,
                TimeKind::Target => row.inputs.s,
                TimeKind::Duration => row.inputs.h,
            };
            write_input(&mut engine, index, |_| value)?;
        }
        engine.run()?;
        if row.noise.is_some() {
            noise.fill_normal(&mut self.noise);
        }
        let output = engine.output_f32(self.ports.output)?;
        sampler::advance(&self.table, step, &mut self.state, output, Some(&self.noise), &mut self.history)?;
        Ok(())
    }
}

/// Fills an input of any type; integers are rounded.
fn write_input(engine: &mut Engine, index: usize, value: impl Fn(usize) -> f64) -> Result<(), EngineError> {
    let plan = engine.plan();
    let dtype = plan.inputs().nth(index).and_then(|port| plan.view_at(port.view)).map(|view| view.dtype);
    match dtype {
        Some(DType::I64) => {
            engine
                .input_i64(index)?
                .iter_mut()
                .enumerate()
                .for_each(|(i, x)| *x = libm::rint(value(i)) as i64);
        }
        Some(DType::Bool) => {
            engine
                .input_bool(index)?
                .iter_mut()
                .enumerate()
                .for_each(|(i, x)| *x = u8::from(value(i) != 0.0));
        }
        _ => engine.input_f32(index)?.iter_mut().enumerate().for_each(|(i, x)| *x = value(i) as f32),
    }
    Ok(())
}

/// Concrete input shapes for one sample at a time: what the manifest says, with a batch of one.
///
/// # Errors
/// If the manifest and the network do not fit each other.
pub fn input_shapes(manifest: &Manifest, model: &Model) -> Result<Shapes, SessionError> {
    let known = || model.inputs.iter().map(|i| i.name.as_str()).collect::<Vec<_>>().join(", ");
    let mut shapes = Shapes::new();
    for input in &manifest.inputs {
        let name = || input.name.clone();
        let declared = model.inputs.iter().find(|i| i.name == input.name);
        let declared = declared.ok_or_else(|| SessionError::NoInput { input: name(), known: known() })?;
        let own: &[usize] = match &input.role {
            Role::State { shape } => shape,
            Role::Condition(condition) => &condition.shape,
            Role::Time | Role::Target | Role::Duration => &[],
        };
        let lead = declared.dims.len().checked_sub(own.len()).filter(|&lead| lead <= 1 || own.is_empty());
        let fits = |lead: usize| {
            let tail = declared.dims[lead..].iter().zip(own);
            tail.into_iter().all(|(d, &size)| !matches!(d, Dimension::Fixed(fixed) if *fixed != size))
        };
        let lead = lead.filter(|&lead| fits(lead)).ok_or_else(|| SessionError::Shape {
            input: name(),
            manifest: own.to_vec(),
            network: declared.shape(),
        })?;
        shapes.insert(name(), [&std::vec![1; lead][..], own].concat());
    }
    match model.inputs.iter().find(|i| !shapes.contains_key(&i.name)) {
        Some(input) => Err(SessionError::NoRole { input: input.name.clone() }),
        None => Ok(shapes),
    }
}

impl Ports {
    fn of(manifest: &Manifest, network: &Network) -> Result<Ports, SessionError> {
        let mut ports = Ports::default();
        for (index, (name, _)) in network.inputs().enumerate() {
            let role = manifest.inputs.iter().find(|i| i.name == name).map(|i| &i.role);
            match role.ok_or_else(|| SessionError::NoRole { input: name.to_string() })? {
                Role::State { .. } => ports.state = index,
                Role::Time => ports.times.push((index, TimeKind::Time)),
                Role::Target => ports.times.push((index, TimeKind::Target)),
                Role::Duration => ports.times.push((index, TimeKind::Duration)),
                Role::Condition(_) => ports.conditions.push((index, name.to_string())),
            }
        }
        let known = || network.outputs().map(|(name, _)| name).collect::<Vec<_>>().join(", ");
        let wanted = manifest.output.name.as_deref();
        let found = network.outputs().position(|(name, _)| wanted.is_none_or(|w| w == name));
        ports.output = found.ok_or_else(|| SessionError::NoOutput {
            output: wanted.unwrap_or("0").to_string(),
            known: known(),
        })?;
        let state = network.inputs().nth(ports.state).map(|(_, fact)| fact);
        let output = network.outputs().nth(ports.output);
        match (state, output) {
            (Some(state), Some((name, found))) if state.len() != found.len() || found.dtype != DType::F32 => {
                Err(SessionError::OutputShape { output: name.to_string(), found, state })
            }
            _ => Ok(ports),
        }
    }
}
