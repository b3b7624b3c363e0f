//! A program without std and without a heap that samples a plan: what firmware would contain.
//!
//! That it links is the test: no std is here to be called, and a crate that used `alloc` would need a global allocator,
//! which nobody defines. On a computer it also runs, and returns 0.
#![no_std]
#![no_main]

use core::{hint::black_box, panic::PanicInfo, slice};

use fewstep::engine::{Engine, EngineError};
use fewstep::plan::{Plan, PlanError};
use fewstep::sampler::{
    self, Grid, Noise, Options, Parameterisation, Philox, Prediction, Process, Table, Time,
    registry::MEANFLOW,
};

/// Values of a sample.
const LEN: usize = 16;

/// The parameterisation of `models/digits`.
const DIGITS: Parameterisation = Parameterisation {
    process: Process::RectifiedFlow,
    prediction: Prediction::Velocity,
    time: Time::Linear { scale: 1.0 },
};

#[derive(Debug)]
enum Failure {
    Plan(#[expect(dead_code, reason = "for the debugger")] PlanError),
    Engine(#[expect(dead_code, reason = "for the debugger")] EngineError),
    Sampler(#[expect(dead_code, reason = "for the debugger")] sampler::Error),
}

impl From<PlanError> for Failure {
    fn from(error: PlanError) -> Failure {
        Failure::Plan(error)
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Failure {
        Failure::Engine(error)
    }
}

impl From<sampler::Error> for Failure {
    fn from(error: sampler::Error) -> Failure {
        Failure::Sampler(error)
    }
}

/// Draws one sample: a plan in flash, working memory and a sample in statics.
fn sample(plan: &[u8], memory: &mut [u8], out: &mut [f32; LEN]) -> Result<(), Failure> {
    let mut engine = Engine::new(Plan::view(plan)?, memory)?;
    run(out, |row, x, f| {
        sampler::feed(row, x, engine.input_f32(0)?)?;
        engine.input_f32(1)?.fill(row.inputs.t as f32);
        engine.run()?;
        f.copy_from_slice(engine.output_f32(0)?);
        Ok(())
    })
}

/// Two steps of the flow map that `network` evaluates.
fn run(
    x: &mut [f32; LEN],
    mut network: impl FnMut(&sampler::Row, &[f32; LEN], &mut [f32; LEN]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let table: Table = MEANFLOW.table(&DIGITS, &Grid::steps(2), &Options::default())?;
    let (mut f, mut z) = ([0.0; LEN], [0.0; LEN]);
    let mut noise = Philox::new(42, 0);
    noise.fill_normal(x);
    sampler::start(&table, x, None)?;
    for row in &table.rows {
        network(row, x, &mut f)?;
        if row.noise.is_some() {
            noise.fill_normal(&mut z);
        }
        sampler::apply(row, x, &f, Some(&z))?;
    }
    Ok(())
}

/// What C code on the device would call.
///
/// # Safety
/// The first pointer is to as many readable bytes as its length says, the second to writable ones, the last to `LEN`
/// writable floats, and nothing else uses the written ones meanwhile.
#[unsafe(no_mangle)]
unsafe extern "C" fn fewstep_sample(
    plan: *const u8,
    plan_len: usize,
    memory: *mut u8,
    memory_len: usize,
    out: *mut [f32; LEN],
) -> i32 {
    // SAFETY: the caller's contract.
    let result = unsafe {
        let plan = slice::from_raw_parts(plan, plan_len);
        sample(plan, slice::from_raw_parts_mut(memory, memory_len), &mut *out)
    };
    match result {
        Ok(()) => 0,
        Err(Failure::Plan(_)) => 1,
        Err(Failure::Engine(_)) => 2,
        Err(Failure::Sampler(_)) => 3,
    }
}

#[unsafe(no_mangle)]
extern "C" fn main() -> i32 {
    // A velocity of (x - 1) / t leads to 1 from everywhere.
    let mut ones = [0.0; LEN];
    let network = |row: &sampler::Row, x: &[f32; LEN], f: &mut [f32; LEN]| {
        f.iter_mut().zip(x).for_each(|(f, x)| *f = (x - 1.0) / row.inputs.t as f32);
        Ok(())
    };
    if run(&mut ones, network).is_err() || ones.iter().any(|x| (x - 1.0).abs() > 1e-5) {
        return 1;
    }
    // Not a plan. The optimiser must not know that, or it would drop the engine.
    let (torn, mut memory, mut out) = (black_box([0xA5u8; 64]), [0u8; 64], [0.0; LEN]);
    // SAFETY: pointers and lengths are those of the arrays above.
    let refused = unsafe {
        fewstep_sample(torn.as_ptr(), black_box(torn.len()), memory.as_mut_ptr(), memory.len(), &mut out)
    };
    i32::from(refused != 1)
}

#[panic_handler]
fn panic(_: &PanicInfo) -> ! {
    loop {
        core::hint::spin_loop();
    }
}
