//! A model that draws handwritten digits, as a WebAssembly program: the functions that fewstep.js calls. An instance has one
//! model, asks nothing of the page, and takes its memory once.
#![no_std]
#![deny(clippy::undocumented_unsafe_blocks)]

mod memory;
mod model;

use memory::Global;
use model::{Failure, Model, PIXELS};

/// What the instance has so far.
enum State {
    Empty,
    /// Room for a plan file, which the page fills.
    Reserved(&'static mut [u8]),
    Open(Model),
}

static STATE: Global<State> = Global::new(State::Empty);
static PICTURE: Global<[f32; PIXELS]> = Global::new([0.0; PIXELS]);

/// Where the page is to put a plan file of so many bytes; null if there is no memory for it, or a model already.
#[unsafe(no_mangle)]
extern "C" fn reserve(bytes: usize) -> *mut u8 {
    STATE.with(|state| {
        let room = match state {
            State::Empty => memory::grow(bytes),
            _ => None,
        };
        room.map_or(core::ptr::null_mut(), |room| {
            let start = room.as_mut_ptr();
            *state = State::Reserved(room);
            start
        })
    })
}

/// Checks the plan file that the page has put into its room, its weights too, and takes the memory to run it: 0, or the
/// number of a message.
#[unsafe(no_mangle)]
extern "C" fn open() -> u32 {
    STATE.with(|state| {
        let State::Reserved(file) = core::mem::replace(state, State::Empty) else {
            return Failure::NoPlan as u32;
        };
        match Model::new(file) {
            Ok(model) => {
                *state = State::Open(model);
                0
            }
            Err(failure) => failure as u32,
        }
    })
}

/// Draws a digit of a class from the noise of a seed, as PyTorch draws it on a CPU, in so many network evaluations: 0, or
/// the number of a message.
#[unsafe(no_mangle)]
extern "C" fn draw(label: u32, seed: u32, steps: usize) -> u32 {
    STATE.with(|state| {
        let State::Open(model) = state else {
            return Failure::NoPlan as u32;
        };
        let drawn = PICTURE.with(|picture| model.draw(label, seed, steps, picture));
        drawn.map_or_else(|failure| failure as u32, |()| 0)
    })
}

/// What was drawn last: 28 rows of 28 floats, -1 for paper to 1 for ink.
#[unsafe(no_mangle)]
extern "C" fn picture() -> *const f32 {
    PICTURE.with(|picture| picture.as_ptr())
}

/// What a number other than 0 means: a text that ends in a zero.
#[unsafe(no_mangle)]
extern "C" fn message(failure: u32) -> *const core::ffi::c_char {
    Failure::message(failure).as_ptr()
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    core::arch::wasm32::unreachable()
}
