//! Element-wise operations on integers and truth values, in wrapping i64 arithmetic.

use super::args::{IntArgs, IntCode, Operand};
use super::data::place;
use super::view::DType;

/// Elements of a task.
const TASK: usize = 16384;

pub fn int_tasks(args: &IntArgs) -> usize {
    args.output.layout.len().div_ceil(TASK)
}

/// # Safety
/// The contract of [`IntArgs`]; the task is below the count.
pub unsafe fn int(args: &IntArgs, task: usize) {
    for i in task * TASK..((task + 1) * TASK).min(args.output.layout.len()) {
        // SAFETY: element i of every operand.
        unsafe {
            let value = apply(args.code, load(&args.a, i), load(&args.b, i), load(&args.c, i));
            let at = place(&args.output.layout, i);
            match args.output.dtype {
                DType::I64 => *args.output.ptr.cast::<i64>().offset(at) = value,
                DType::Bool => *args.output.ptr.offset(at) = u8::from(value != 0),
                DType::F32 => *args.output.ptr.cast::<f32>().offset(at) = value as f32,
            }
        }
    }
}

unsafe fn load(operand: &Operand, i: usize) -> i64 {
    let at = place(&operand.layout, i);
    // SAFETY: the caller vouches for element i.
    unsafe {
        match operand.dtype {
            DType::I64 => *operand.ptr.cast::<i64>().offset(at),
            DType::Bool => i64::from(*operand.ptr.offset(at) != 0),
            DType::F32 => *operand.ptr.cast::<f32>().offset(at) as i64,
        }
    }
}

fn apply(code: IntCode, a: i64, b: i64, c: i64) -> i64 {
    match code {
        IntCode::Copy => a,
        IntCode::Neg => a.wrapping_neg(),
        IntCode::Abs => a.wrapping_abs(),
        IntCode::Sign => a.signum(),
        IntCode::Not => i64::from(a == 0),
        IntCode::Add => a.wrapping_add(b),
        IntCode::Sub => a.wrapping_sub(b),
        IntCode::Mul => a.wrapping_mul(b),
        IntCode::Div if b == 0 => 0,
        IntCode::Div => a.wrapping_div(b),
        IntCode::Min => a.min(b),
        IntCode::Max => a.max(b),
        IntCode::Pow => pow(a, b),
        IntCode::Mod | IntCode::Fmod if b == 0 => 0,
        IntCode::Mod => {
            let r = a.wrapping_rem(b);
            if r != 0 && (r < 0) != (b < 0) { r + b } else { r }
        }
        IntCode::Fmod => a.wrapping_rem(b),
        IntCode::And => i64::from(a != 0 && b != 0),
        IntCode::Or => i64::from(a != 0 || b != 0),
        IntCode::Xor => i64::from((a != 0) != (b != 0)),
        IntCode::Equal => i64::from(a == b),
        IntCode::Less => i64::from(a < b),
        IntCode::LessEqual => i64::from(a <= b),
        IntCode::Greater => i64::from(a > b),
        IntCode::GreaterEqual => i64::from(a >= b),
        IntCode::Where => {
            if a != 0 {
                b
            } else {
                c
            }
        }
    }
}

/// Wrapping power; a negative exponent rounds the fraction toward zero.
fn pow(base: i64, exponent: i64) -> i64 {
    match base {
        _ if exponent >= 0 => {
            let (mut result, mut square, mut e) = (1i64, base, exponent);
            while e > 0 {
                if e & 1 == 1 {
                    result = result.wrapping_mul(square);
                }
                square = square.wrapping_mul(square);
                e >>= 1;
            }
            result
        }
        1 => 1,
        -1 if exponent % 2 == 0 => 1,
        -1 => -1,
        _ => 0,
    }
}
