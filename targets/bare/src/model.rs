//! A model whose plan lies in flash and whose working memory is a static.

use crate::print;
use fewstep::engine::{Engine, EngineError};
use fewstep::plan::{Plan, PlanError};
use fewstep::sampler::{
    self, Grid, Noise, Options, Parameterisation, Philox, Prediction, Process, Sampler, Table, Time, registry,
};

/// How the models here are sampled: what their manifests say.
const SAMPLER: Sampler = registry::MEANFLOW;
const STEPS: usize = 2;
const PARAMETERISATION: Parameterisation = Parameterisation {
    process: Process::RectifiedFlow,
    prediction: Prediction::Velocity,
    time: Time::Linear { scale: 1.0 },
};

/// Why there is no sample. What an error of fewstep says in detail is left to a debugger: formatting it would take 40 kB.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{0} is no number")]
    Argument(&'static str),
    #[error("somebody has taken the memory")]
    Memory,
    #[error("the plan is damaged, or of another version")]
    Plan(#[from] PlanError),
    #[error("the plan does not run: it needs more memory, or another CPU")]
    Engine(#[from] EngineError),
    #[error("the sampler cannot do what it is asked for")]
    Sampler(#[from] sampler::Error),
    #[error("the network has no input {0}")]
    NoInput(&'static str),
}

/// A model that is ready to be sampled.
pub struct Model<'a> {
    engine: Engine<'a>,
    table: Table,
    state: usize,
    time: usize,
    duration: usize,
}

impl<'a> Model<'a> {
    /// # Errors
    /// If the bytes are no plan file, the plan is one for another CPU, or needs more memory.
    pub fn new(plan: &'a [u8], memory: &'a mut [u8]) -> Result<Model<'a>, Failure> {
        let plan = Plan::view(plan)?;
        Ok(Model {
            engine: Engine::new(plan, memory)?,
            table: SAMPLER.table(&PARAMETERISATION, &Grid::steps(STEPS), &Options::default())?,
            state: input(&plan, "x")?,
            time: input(&plan, "t")?,
            duration: input(&plan, "h")?,
        })
    }

    /// Sets a condition for the samples to come.
    ///
    /// # Errors
    /// If the network has no such input, or it takes no integers.
    pub fn set(&mut self, name: &'static str, value: i64) -> Result<(), Failure> {
        let condition = input(&self.engine.plan(), name)?;
        self.engine.input_i64(condition)?.fill(value);
        Ok(())
    }

    /// Draws one sample into `x`.
    ///
    /// # Errors
    /// If `x` has another length than the network's state.
    pub fn sample(&mut self, seed: u64, x: &mut [f32]) -> Result<(), Failure> {
        let Model { engine, table, state, time, duration } = self;
        Philox::new(seed, 0).fill_normal(x);
        sampler::start(table, x, None)?;
        for row in &table.rows {
            sampler::feed(row, x, engine.input_f32(*state)?)?;
            engine.input_f32(*time)?.fill(row.inputs.t as f32);
            engine.input_f32(*duration)?.fill(row.inputs.h as f32);
            engine.run()?;
            sampler::apply(row, x, engine.output_f32(0)?, None)?;
        }
        Ok(())
    }
}

/// The number of a network's input.
fn input(plan: &Plan, name: &'static str) -> Result<usize, Failure> {
    plan.inputs().position(|port| plan.name(port) == name).ok_or(Failure::NoInput(name))
}

/// Prints the bits of all values, for those who compare.
pub fn print_bits(values: &[f32]) {
    for line in values.chunks(8) {
        line.iter().for_each(|x| print!(" {:08x}", x.to_bits()));
        print!("\n");
    }
}
