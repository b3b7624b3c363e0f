//! A session: a manifest, its network and a sampler, with everything that a sample needs allocated beforehand.

mod builder;
#[cfg(feature = "compile")]
mod cached;
#[cfg(feature = "compile")]
mod calibration;
#[cfg(feature = "compile")]
mod compile;
mod control;
mod guidance;
mod ports;
#[cfg(feature = "compile")]
mod resident;
#[cfg(feature = "compile")]
mod shapes;

pub use builder::Builder;
#[cfg(feature = "compile")]
pub use calibration::Change;
#[cfg(feature = "compile")]
pub use compile::package;
pub use control::{Control, Gradient, Steer, Step, Weight};
#[cfg(feature = "compile")]
pub use shapes::{bind, bindings, input_shapes};

use crate::engine::EngineError;
use crate::manifest::{ConditionError, Manifest, ManifestError, Request, RequestError};
use crate::plan::Fact;
use crate::provider::{Network, NetworkError};
use crate::sampler::{self, Noise, Table, TorchCpu, Weights};
use control::Reference;
use guidance::Evaluator;
use ports::Moment;
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
    #[error("the network that guides gives {found} values, the other {needed}; they have to be alike")]
    Guide { found: usize, needed: usize },
    #[error("condition `{name}` has no default; give it a value")]
    Unset { name: String },
    #[error(
        "guidance needs something to move away from: give a condition a negative value, or a network that guides"
    )]
    NoNegative,
    #[error("a strength of {strength} begins with a reference; give one")]
    NoReference { strength: f64 },
    #[error("samples of `{model}` begin with its prior, and can have no reference")]
    Prior { model: String },
    #[error("{what} has {found} values, a sample of this model needs {needed}")]
    Length { what: &'static str, found: usize, needed: usize },
    #[error("{what} has {value} at element {at}; it has to be finite")]
    Infinite { what: &'static str, at: usize, value: f32 },
    #[error("the mask has a value {value}; write 0 to keep, 1 to draw anew, or what is between")]
    Mask { value: f32 },
    #[error(
        "step {step} of {steps}: the network returned {value} at element {at}; check the conditions and the noise"
    )]
    NotFinite { step: usize, steps: usize, at: usize, value: f32 },
    #[error("there is nothing to build a session of; give the builder a plan")]
    NoPlan,
    #[error("{}: the plan has no manifest; compile the model with a fewstep.toml beside it", .0.display())]
    NoManifest(std::path::PathBuf),
    #[error("a plan file holds one network, and this one is guided by another; sample the model itself")]
    GuideInPlan,
    #[cfg(feature = "compile")]
    #[error("for {isa} the network keeps its times otherwise than here; compile it there, or without baking")]
    Bake { isa: crate::kernels::Isa },
    #[cfg(feature = "compile")]
    #[error(transparent)]
    Cache(#[from] crate::cache::CacheError),
    #[cfg(feature = "compile")]
    #[error(
        "operator {operator} has no native kernel, so a plan file can not hold it; sample the model itself"
    )]
    HostInPlan { operator: String },
    #[cfg(feature = "compile")]
    #[error(
        "samples of {provider} have a PSNR of {decibel:.1} dB against the engine's in f32, and have to keep to 40; use another \
         provider for this model, or other options of it"
    )]
    Unlike { provider: String, decibel: f64 },
    #[error("stopped after step {step}")]
    Cancelled { step: usize },
}

/// Room for as many as a plan file says, which anybody may have written: an error where the system does not give it.
fn room<T>(len: usize) -> Result<Vec<T>, SessionError> {
    let mut room = Vec::new();
    let bytes = len.saturating_mul(size_of::<T>());
    room.try_reserve_exact(len).map_err(|_| NetworkError::Memory { bytes })?;
    Ok(room)
}

fn zeros(len: usize) -> Result<Vec<f32>, SessionError> {
    let mut zeros = room(len)?;
    zeros.resize(len, 0.0);
    Ok(zeros)
}

/// What a caller's closure says after each step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    Continue,
    Cancel,
}

/// A step that was taken. What a model's prior adds is not in it.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// Number of the evaluation, from 1.
    pub step: usize,
    pub steps: usize,
    /// Relative to the observation, if there is one that the noise leads to. [elements of a sample]
    pub state: &'a [f32],
    /// The clean sample as the step saw it. [elements of a sample]
    pub clean: &'a [f32],
}

/// What happens to a caller during a run.
#[derive(Default)]
pub struct Run<'a> {
    /// Unit normal noise in the place of what would be drawn at first. [elements of a sample]
    pub initial: Option<&'a [f32]>,
    pub steer: Option<&'a mut (dyn Steer + Send)>,
    /// Called after each step.
    pub after: Option<&'a mut (dyn FnMut(Progress<'_>) -> Flow + Send)>,
}

/// A model that is ready to be sampled.
#[derive(Debug)]
pub struct Session {
    manifest: Manifest,
    evaluator: Evaluator,
    table: Table,
    strength: f64,
    reference: Option<Reference>,
    /// Whether a provider keeps the state.
    #[cfg(feature = "compile")]
    resident: bool,
    /// Of the noise of the next sample.
    seed: u64,
    /// [elements of a sample]
    state: Vec<f32>,
    /// [elements of a sample]
    noise: Vec<f32>,
    /// [elements of a sample]
    clean: Vec<f32>,
    /// [estimates the sampler looks back at, elements of a sample]
    history: Vec<f32>,
}

impl Session {
    /// How sessions on plan files begin.
    pub fn builder<'a>() -> Builder<'a> {
        Builder::default()
    }

    /// A session of a manifest and its network.
    fn of(manifest: Manifest, network: Network) -> Result<Session, SessionError> {
        let evaluator = Evaluator::new(&manifest, network)?;
        let elements = evaluator.output().len();
        let state = manifest.state_shape();
        if state.iter().product::<usize>() != elements {
            let input = evaluator.network.inputs().nth(evaluator.ports.state);
            let (input, network) =
                input.map(|(name, fact)| (name.to_string(), fact.to_string())).unwrap_or_default();
            return Err(SessionError::Shape { input, manifest: state.to_vec(), network });
        }
        let table = manifest.table(&Request::default())?;
        let mut session = Session {
            history: zeros(elements.saturating_mul(table.history()))?,
            state: zeros(elements)?,
            noise: zeros(elements)?,
            clean: zeros(elements)?,
            strength: 1.0,
            reference: None,
            #[cfg(feature = "compile")]
            resident: false,
            seed: 0,
            manifest,
            evaluator,
            table,
        };
        session.set_defaults()?;
        session.prepare(&Request::default())?;
        Ok(session)
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    pub fn network(&self) -> &Network {
        self.evaluator.network()
    }

    /// Whether the network is evaluated for the condition and for its negative at once.
    pub fn is_paired(&self) -> bool {
        self.evaluator.is_paired()
    }

    /// Number of elements of one sample.
    pub fn elements(&self) -> usize {
        self.state.len()
    }

    /// Number of network evaluations a sample, those of guidance counted once.
    pub fn steps(&self) -> usize {
        self.table.rows.len()
    }

    /// Chooses sampler, steps, times and guidance for the samples to come.
    ///
    /// # Errors
    /// If the model does not allow what is asked for.
    pub fn prepare(&mut self, request: &Request<'_>) -> Result<(), SessionError> {
        let guidance = self.manifest.guidance(request)?;
        self.table = self.manifest.table(request)?;
        let inside = self.manifest.guidance.is_none().then(|| self.manifest.distilled_guidance()).flatten();
        if let (Some(name), Some(scale)) = (inside.map(ToString::to_string), request.guidance) {
            self.set_condition(&name, &[scale])?;
        }
        self.strength = request.strength.unwrap_or(1.0);
        self.history.resize(self.state.len() * self.table.history(), 0.0);
        self.evaluator.set_guidance(guidance);
        self.evaluator.reserve(self.table.rows.len())?;
        #[cfg(feature = "compile")]
        self.keep_state()?;
        Ok(())
    }

    /// Guides by a weaker network, which has the same inputs, in the place of negative conditions.
    ///
    /// # Errors
    /// If it does not fit the manifest or the network.
    pub fn set_guide(&mut self, guide: Network) -> Result<(), SessionError> {
        self.evaluator.set_guide(&self.manifest, guide)
    }

    /// Sets a condition for the samples to come: one value for all its elements, or one for each.
    ///
    /// # Errors
    /// If there is no such condition, or it does not take these values.
    pub fn set_condition(&mut self, name: &str, values: &[f64]) -> Result<(), SessionError> {
        self.manifest.condition(name, values)?;
        self.evaluator.set(name, values, false)
    }

    /// Sets what guidance moves away from, as [`Session::set_condition`].
    ///
    /// # Errors
    /// As [`Session::set_condition`]; or if the network can not take it.
    pub fn set_negative(&mut self, name: &str, values: &[f64]) -> Result<(), SessionError> {
        self.manifest.condition(name, values)?;
        self.evaluator.set(name, values, true)
    }

    fn set_defaults(&mut self) -> Result<(), SessionError> {
        let conditions = self.manifest.conditions();
        let defaults: Vec<_> = conditions.map(|(name, c)| (name.to_string(), c.default.clone())).collect();
        for (name, default) in defaults {
            if let Some(values) = default {
                self.set_condition(&name, &values)?;
            }
        }
        Ok(())
    }

    /// Draws one sample into `out`, from the noise of a seed: that of [`Builder::seed`], and the next one for each further
    /// sample.
    ///
    /// # Errors
    /// If a condition has no value, `out` has the wrong length, or the network returns what is not finite.
    pub fn sample(&mut self, out: &mut [f32]) -> Result<(), SessionError> {
        self.sample_run(Run::default(), out)
    }

    /// As [`Session::sample`], and as `run` says.
    ///
    /// # Errors
    /// As [`Session::sample_with`].
    pub fn sample_run(&mut self, run: Run<'_>, out: &mut [f32]) -> Result<(), SessionError> {
        let mut noise = TorchCpu::new(self.seed);
        self.seed = self.seed.wrapping_add(1);
        self.sample_with(run, &mut noise, out)
    }

    /// Of the noise of the next [`Session::sample`].
    pub fn seed(&self) -> u64 {
        self.seed
    }

    pub fn set_seed(&mut self, seed: u64) {
        self.seed = seed;
    }

    /// As [`Session::sample`], from unit normal noise that `noise` draws.
    ///
    /// # Errors
    /// As [`Session::sample`].
    pub fn sample_from(
        &mut self,
        noise: &mut (dyn Noise + Send),
        out: &mut [f32],
    ) -> Result<(), SessionError> {
        self.sample_with(Run::default(), noise, out)
    }

    /// As [`Session::sample_from`], and as `run` says.
    ///
    /// Allocates nothing, unless the network has operators that the host runs.
    ///
    /// # Errors
    /// As [`Session::sample`]; or what steers, or [`SessionError::Cancelled`].
    pub fn sample_with(
        &mut self,
        run: Run<'_>,
        noise: &mut (dyn Noise + Send),
        out: &mut [f32],
    ) -> Result<(), SessionError> {
        let needed = self.state.len();
        let lengths = [("the noise", run.initial.map_or(needed, <[f32]>::len)), ("the output", out.len())];
        for (what, found) in lengths {
            if found != needed {
                return Err(SessionError::Length { what, found, needed });
            }
        }
        if let Some(name) = self.evaluator.unset() {
            return Err(SessionError::Unset { name: name.to_string() });
        }
        self.evaluator.begin()?;
        match run.initial {
            Some(initial) => self.state.copy_from_slice(initial),
            None => noise.fill_normal(&mut self.state),
        }
        self.start(noise)?;
        // One hand-over to the pool for the whole loop: within it, nothing needs one, and nothing allocates.
        match self.network().pool() {
            Some(pool) => pool.install(|| self.steps_of(run, noise))?,
            #[cfg(feature = "compile")]
            None if self.keeps_state() && run.steer.is_none() && run.after.is_none() => {
                self.resident_steps(noise)?;
            }
            None => self.steps_of(run, noise)?,
        }
        out.copy_from_slice(&self.state);
        out.iter_mut().zip(self.evaluator.prior()).for_each(|(out, prior)| *out += prior);
        Ok(())
    }

    /// Makes unit normal noise the initial state.
    fn start(&mut self, noise: &mut dyn Noise) -> Result<(), SessionError> {
        let (whole, first) = (self.strength == 1.0, self.table.rows.first().map(|row| row.level));
        if let (Some(reference), Some(first)) = (&mut self.reference, first)
            && reference.start(first, whole, &mut self.state)?
        {
            return Ok(());
        }
        if !whole {
            return Err(SessionError::NoReference { strength: self.strength });
        }
        if self.table.initial_noise.is_some() {
            noise.fill_normal(&mut self.noise);
        }
        Ok(sampler::start(&self.table, &mut self.state, Some(&self.noise))?)
    }

    fn steps_of(&mut self, mut run: Run<'_>, noise: &mut dyn Noise) -> Result<(), SessionError> {
        let steps = self.table.rows.len();
        let edited = run.steer.is_some() || self.reference.as_ref().is_some_and(Reference::edits);
        let on_clean = if edited { Some(self.table.on_clean()?) } else { None };
        let policy = self.manifest.sampling.policy();
        for step in 0..steps {
            let weights = match &policy {
                Some(policy) => policy.weights(&self.table, step)?,
                None => Weights::new(),
            };
            let at = Moment { row: &self.table.rows[step], step, steps, weights: &weights };
            self.evaluator.evaluate(at, &self.state)?;
            if edited || run.after.is_some() {
                let row = &self.table.rows[step];
                sampler::clean(row, &self.state, self.evaluator.output(), &mut self.clean)?;
            }
            self.change(step, &mut run)?;
            self.advance(step, on_clean.as_ref(), noise)?;
            if let Some(at) = sampler::first_non_finite(&self.state) {
                let value = self.state[at];
                return Err(SessionError::NotFinite { step: step + 1, steps, at, value });
            }
            let Some(after) = &mut run.after else { continue };
            self.clean.iter_mut().zip(self.evaluator.prior()).for_each(|(clean, prior)| *clean += prior);
            let progress = Progress { step: step + 1, steps, state: &self.state, clean: &self.clean };
            if after(progress) == Flow::Cancel {
                return Err(SessionError::Cancelled { step: step + 1 });
            }
        }
        Ok(())
    }

    /// Lets the reference and the caller change the clean estimate.
    fn change(&mut self, step: usize, run: &mut Run<'_>) -> Result<(), SessionError> {
        if let Some(reference) = &self.reference {
            reference.edit(self.manifest.state_shape(), &mut self.clean)?;
        }
        let Some(steer) = &mut run.steer else { return Ok(()) };
        let at = Step {
            step: step + 1,
            steps: self.table.rows.len(),
            row: &self.table.rows[step],
            state: &self.state,
            output: self.evaluator.output(),
        };
        steer.steer(&at, &mut self.clean)
    }

    /// Takes a step, from the network's output or from the clean estimate that was changed.
    fn advance(
        &mut self,
        step: usize,
        on_clean: Option<&Table>,
        noise: &mut dyn Noise,
    ) -> Result<(), SessionError> {
        if self.table.rows[step].noise.is_some() {
            noise.fill_normal(&mut self.noise);
        }
        let (table, output) = match on_clean {
            Some(table) => (table, &self.clean[..]),
            None => (&self.table, self.evaluator.output()),
        };
        sampler::advance(table, step, &mut self.state, output, Some(&self.noise), &mut self.history)?;
        match &self.reference {
            Some(reference) => reference.keep(&self.table, step, &mut self.state),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_nobody_has_is_an_error() {
        for len in [1 << 60, usize::MAX] {
            let error = zeros(len).unwrap_err().to_string();
            assert!(error.contains("bytes, which the system does not give"), "{error}");
        }
        assert_eq!(zeros(3).unwrap(), [0.0; 3]);
    }
}
