//! The digits network, sampled as its manifest says.

use crate::memory;
use core::ffi::CStr;
use fewstep::engine::Engine;
use fewstep::plan::{File, Plan, Slots};
use fewstep::sampler::{
    self, Grid, Noise, Options, Parameterisation, Prediction, Process, Sampler, Time, TorchCpu, registry,
};

/// Of a picture.
pub const PIXELS: usize = 28 * 28;

const SAMPLER: Sampler = registry::MEANFLOW;
const PARAMETERISATION: Parameterisation = Parameterisation {
    process: Process::RectifiedFlow,
    prediction: Prediction::Velocity,
    time: Time::Linear { scale: 1.0 },
};
const CLASSES: u32 = 10;

/// Times that the engine keeps what it has computed for: those of the page's step counts.
const TIMES: usize = 15;

/// Why there is no picture.
#[derive(Clone, Copy)]
#[repr(u32)]
pub enum Failure {
    NoPlan = 1,
    Plan,
    Engine,
    Memory,
    Model,
    Label,
    Steps,
    Run,
}

impl Failure {
    const ALL: [(Failure, &CStr); 8] = [
        (Failure::NoPlan, c"there is no plan"),
        (Failure::Plan, c"the plan file is damaged, or of another version of fewstep"),
        (Failure::Engine, c"the plan is for other kernels: compile it with --target wasm-simd128"),
        (Failure::Memory, c"the browser gives no memory for the model"),
        (Failure::Model, c"the plan is not one of the digits network"),
        (Failure::Label, c"the classes are 0 to 9"),
        (Failure::Steps, c"there is no such number of steps: take 1 to 64"),
        (Failure::Run, c"the network does not run"),
    ];

    /// The words for a number of one.
    pub fn message(number: u32) -> &'static CStr {
        let found = Failure::ALL.into_iter().find(|(failure, _)| *failure as u32 == number);
        found.map_or(c"unknown failure", |(_, words)| words)
    }
}

/// A model that is ready to be sampled.
pub struct Model {
    engine: Engine<'static>,
    state: usize,
    time: usize,
    duration: usize,
    label: usize,
}

impl Model {
    /// # Errors
    /// If the bytes are no sound plan file of the network for these kernels, or there is no memory.
    pub fn new(file: &'static [u8]) -> Result<Model, Failure> {
        File::view(file).and_then(|file| file.verify()).map_err(|_| Failure::Plan)?;
        let plan = Plan::view(file).map_err(|_| Failure::Plan)?;
        let bytes = plan.memory_bytes(Slots { times: TIMES, conditions: 1 }).ok_or(Failure::Memory)?;
        let memory = memory::grow(bytes).ok_or(Failure::Memory)?;
        let input = |name| plan.inputs().position(|port| plan.name(port) == name).ok_or(Failure::Model);
        let (state, time, duration, label) = (input("x")?, input("t")?, input("h")?, input("label")?);
        let engine = Engine::new(plan, memory).map_err(|_| Failure::Engine)?;
        Ok(Model { engine, state, time, duration, label })
    }

    /// Draws one picture into `x`.
    ///
    /// # Errors
    /// If there is no such class or number of steps, or the network is another one.
    pub fn draw(
        &mut self,
        label: u32,
        seed: u32,
        steps: usize,
        x: &mut [f32; PIXELS],
    ) -> Result<(), Failure> {
        if label >= CLASSES {
            return Err(Failure::Label);
        }
        let table = SAMPLER.table(&PARAMETERISATION, &Grid::steps(steps), &Options::default());
        let table = table.map_err(|_| Failure::Steps)?;
        let Model { engine, state, time, duration, label: condition } = self;
        engine.input_i64(*condition).map_err(|_| Failure::Model)?.fill(i64::from(label));
        TorchCpu::new(seed.into()).fill_normal(x);
        sampler::start(&table, x, None).map_err(|_| Failure::Model)?;
        for row in &table.rows {
            let input = engine.input_f32(*state).map_err(|_| Failure::Model)?;
            sampler::feed(row, x, input).map_err(|_| Failure::Model)?;
            engine.input_f32(*time).map_err(|_| Failure::Model)?.fill(row.inputs.t as f32);
            engine.input_f32(*duration).map_err(|_| Failure::Model)?.fill(row.inputs.h as f32);
            engine.run().map_err(|_| Failure::Run)?;
            let output = engine.output_f32(0).map_err(|_| Failure::Model)?;
            sampler::apply(row, x, output, None).map_err(|_| Failure::Model)?;
        }
        Ok(())
    }
}
