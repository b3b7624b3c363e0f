//! Draws points of the three blades in the plane: `toy2d [SEED]`.
#![no_std]
#![no_main]

use bare::{Failure, Memory, Model, print, print_bits, println, semihosting};

const POINTS: usize = 256;

/// Rows of the picture, and the coordinate at its edge.
const ROWS: usize = 28;
const EDGE: f32 = 1.2;

bare::plan!("toy2d");

static MEMORY: Memory<2048> = Memory::new();

#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    bare::run(draw)
}

fn draw() -> Result<(), Failure> {
    let mut line = [0; 64];
    let mut arguments = semihosting::command_line(&mut line).split_ascii_whitespace().skip(1);
    let seed: u64 = arguments.next().map_or(Ok(42), str::parse).map_err(|_| Failure::Argument("SEED"))?;

    let memory = MEMORY.take().ok_or(Failure::Memory)?;
    let mut model = Model::new(&PLAN.0, memory)?;
    let mut points = [[0.0; 2]; POINTS];
    for (seed, point) in (seed..).zip(&mut points) {
        model.sample(seed, point)?;
    }

    // A character is twice as high as it is wide.
    let mut picture = [[' '; 2 * ROWS]; ROWS];
    for [x, y] in points {
        let (column, row) = (cell(x, 2 * ROWS), cell(-y, ROWS));
        if let Some(place) = picture.get_mut(row).and_then(|row| row.get_mut(column)) {
            *place = 'o';
        }
    }
    for row in picture {
        row.iter().for_each(|character| print!("{character}"));
        println!();
    }
    print_bits(points.as_flattened());
    Ok(())
}

/// In which of `count` cells a coordinate is.
fn cell(x: f32, count: usize) -> usize {
    ((x + EDGE) * (count as f32 / (2.0 * EDGE))) as usize
}
