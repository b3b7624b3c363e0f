//! Draws a handwritten digit: `digits [LABEL [SEED]]`.
#![no_std]
#![no_main]

use bare::{Failure, Memory, Model, print, print_bits, println, semihosting};

/// Pixels of a picture's side.
const SIDE: usize = 28;

/// From paper to ink.
const SHADES: &[u8; 10] = b" .:-=+*#%@";

bare::plan!("digits");

static MEMORY: Memory<{ 1 << 20 }> = Memory::new();

#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    bare::run(draw)
}

fn draw() -> Result<(), Failure> {
    let mut line = [0; 64];
    let mut arguments = semihosting::command_line(&mut line).split_ascii_whitespace().skip(1);
    let label = arguments.next().map_or(Ok(7), str::parse).map_err(|_| Failure::Argument("LABEL"))?;
    let seed = arguments.next().map_or(Ok(42), str::parse).map_err(|_| Failure::Argument("SEED"))?;

    let memory = MEMORY.take().ok_or(Failure::Memory)?;
    let mut model = Model::new(&PLAN.0, memory)?;
    let mut picture = [0.0; SIDE * SIDE];
    model.set("label", label)?;
    model.sample(seed, &mut picture)?;

    for row in picture.chunks(SIDE) {
        // A character is twice as high as it is wide.
        row.iter().map(|&x| shade(x)).for_each(|ink| print!("{ink}{ink}"));
        println!();
    }
    print_bits(&picture);
    Ok(())
}

/// The character for a value of -1 to 1.
fn shade(x: f32) -> char {
    let step = (x + 1.0) * (SHADES.len() as f32 / 2.0);
    SHADES[(step as usize).min(SHADES.len() - 1)].into()
}
