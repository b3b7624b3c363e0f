//! The ONNX operators that work element by element, as programs of [`Map`] and [`Integer`].

use super::{Call, Integer, Map, OpError, problem, unsupported};
use crate::graph::{Builder, Data, Tensor, ValueId};
use crate::kernels::{DType, IntCode, MapCode};
use std::vec::Vec;

/// Operators that are one operation: name, on floats, on integers and truth values.
type Row = (&'static str, MapCode, Option<IntCode>);

const PLAIN: &[Row] = &[
    ("Abs", MapCode::Abs, Some(IntCode::Abs)),
    ("Acos", MapCode::Acos, None),
    ("Acosh", MapCode::Acosh, None),
    ("Add", MapCode::Add, Some(IntCode::Add)),
    ("And", MapCode::And, Some(IntCode::And)),
    ("Asin", MapCode::Asin, None),
    ("Asinh", MapCode::Asinh, None),
    ("Atan", MapCode::Atan, None),
    ("Atanh", MapCode::Atanh, None),
    ("Ceil", MapCode::Ceil, None),
    ("Cos", MapCode::Cos, None),
    ("Cosh", MapCode::Cosh, None),
    ("Div", MapCode::Div, Some(IntCode::Div)),
    ("Equal", MapCode::Equal, Some(IntCode::Equal)),
    ("Erf", MapCode::Erf, None),
    ("Exp", MapCode::Exp, None),
    ("Floor", MapCode::Floor, None),
    ("Greater", MapCode::Greater, Some(IntCode::Greater)),
    ("GreaterOrEqual", MapCode::GreaterEqual, Some(IntCode::GreaterEqual)),
    ("IsNaN", MapCode::IsNan, None),
    ("Less", MapCode::Less, Some(IntCode::Less)),
    ("LessOrEqual", MapCode::LessEqual, Some(IntCode::LessEqual)),
    ("Log", MapCode::Log, None),
    ("Max", MapCode::Max, Some(IntCode::Max)),
    ("Min", MapCode::Min, Some(IntCode::Min)),
    ("Mish", MapCode::Mish, None),
    ("Mul", MapCode::Mul, Some(IntCode::Mul)),
    ("Neg", MapCode::Neg, Some(IntCode::Neg)),
    ("Not", MapCode::Not, Some(IntCode::Not)),
    ("Or", MapCode::Or, Some(IntCode::Or)),
    ("Pow", MapCode::Pow, Some(IntCode::Pow)),
    ("Reciprocal", MapCode::Reciprocal, None),
    ("Relu", MapCode::Relu, None),
    ("Sigmoid", MapCode::Sigmoid, None),
    ("Sign", MapCode::Sign, Some(IntCode::Sign)),
    ("Sin", MapCode::Sin, None),
    ("Sinh", MapCode::Sinh, None),
    ("Softplus", MapCode::Softplus, None),
    ("Sqrt", MapCode::Sqrt, None),
    ("Sub", MapCode::Sub, Some(IntCode::Sub)),
    ("Tan", MapCode::Tan, None),
    ("Tanh", MapCode::Tanh, None),
    ("Xor", MapCode::Xor, Some(IntCode::Xor)),
];

pub const PLAIN_NAMES: &[&str] = &{
    let mut names = [""; PLAIN.len()];
    let mut i = 0;
    while i < PLAIN.len() {
        names[i] = PLAIN[i].0;
        i += 1;
    }
    names
};

pub fn import_plain(b: &mut Builder, call: &Call) -> Result<Vec<ValueId>, OpError> {
    let row = PLAIN.iter().find(|row| row.0 == call.operator);
    let &(_, float, integer) = row.ok_or_else(|| problem!("{} is not element-wise", call.operator))?;
    let inputs = call.present();
    let Some((&first, rest)) = inputs.split_first() else {
        return Err(problem!("{} needs an input", call.operator));
    };
    if rest.is_empty() {
        return Ok(std::vec![plain(b, float, integer, &[first])?]);
    }
    let folded = rest.iter().try_fold(first, |acc, &next| plain(b, float, integer, &[acc, next]));
    Ok(std::vec![folded?])
}

fn plain(
    b: &mut Builder,
    float: MapCode,
    integer: Option<IntCode>,
    inputs: &[ValueId],
) -> Result<ValueId, OpError> {
    let truth = float.is_truth();
    if inputs.iter().any(|&i| b.fact(i).dtype == DType::F32) {
        return match *inputs {
            [x, y] => b.map2(float, x, y),
            _ => {
                b.push(Map::single(float, inputs.len(), if truth { DType::Bool } else { DType::F32 }), inputs)
            }
        };
    }
    let code = integer.ok_or_else(|| unsupported!("{float:?} takes no integers"))?;
    let dtype = if truth { DType::Bool } else { DType::I64 };
    b.push(Integer { code, dtype }, inputs)
}

pub fn import_variadic(b: &mut Builder, call: &Call) -> Result<Vec<ValueId>, OpError> {
    let inputs = call.present();
    let first = call.input(0)?;
    let sum = inputs[1..].iter().try_fold(first, |acc, &next| b.map2(MapCode::Add, acc, next))?;
    if call.operator == "Sum" {
        return Ok(std::vec![sum]);
    }
    let count = b.scalar(inputs.len() as f32);
    Ok(std::vec![b.map2(MapCode::Div, sum, count)?])
}

pub fn import_clip(b: &mut Builder, call: &Call) -> Result<Vec<ValueId>, OpError> {
    let mut x = call.input(0)?;
    let bounds = [("min", 1, MapCode::Max, IntCode::Max), ("max", 2, MapCode::Min, IntCode::Min)];
    for (name, i, float, integer) in bounds {
        let bound = match call.optional(i) {
            Some(id) => Some(id),
            None if call.attributes.contains_key(name) => {
                let bound = call.float(name, 0.0)?;
                Some(b.scalar(bound))
            }
            None => None,
        };
        if let Some(bound) = bound {
            x = plain(b, float, Some(integer), &[x, bound])?;
        }
    }
    Ok(std::vec![x])
}

pub fn import_gelu(b: &mut Builder, call: &Call) -> Result<Vec<ValueId>, OpError> {
    let code = match call.string("approximate", "none")? {
        "none" => MapCode::Gelu,
        "tanh" => MapCode::GeluTanh,
        other => return Err(problem!("Gelu has no approximation {other:?}")),
    };
    Ok(std::vec![b.map1(code, call.input(0)?)?])
}

/// Activations that are linear above zero and something else below.
pub fn import_rectifier(b: &mut Builder, call: &Call) -> Result<Vec<ValueId>, OpError> {
    let x = call.input(0)?;
    let zero = b.scalar(0.0);
    let positive = b.map2(MapCode::Max, x, zero)?;
    let negative = b.map2(MapCode::Min, x, zero)?;
    let name = call.operator.as_str();
    if name == "ThresholdedRelu" {
        let alpha = b.scalar(call.float("alpha", 1.0)?);
        let above = b.map2(MapCode::Greater, x, alpha)?;
        return Ok(std::vec![b.push(Map::single(MapCode::Where, 3, DType::F32), &[above, x, zero])?]);
    }
    let (below, scale) = match name {
        "PRelu" => (b.map2(MapCode::Mul, negative, call.input(1)?)?, 1.0),
        "LeakyRelu" => {
            let alpha = b.scalar(call.float("alpha", 0.01)?);
            (b.map2(MapCode::Mul, negative, alpha)?, 1.0)
        }
        "Elu" => (exponential_below(b, negative, call.float("alpha", 1.0)?, 1.0)?, 1.0),
        "Celu" => {
            let alpha = call.float("alpha", 1.0)?;
            (exponential_below(b, negative, alpha, alpha)?, 1.0)
        }
        _ => (
            exponential_below(b, negative, call.float("alpha", 1.673_263_2)?, 1.0)?,
            call.float("gamma", 1.050_701)?,
        ),
    };
    let sum = b.map2(MapCode::Add, positive, below)?;
    let scale = b.scalar(scale);
    Ok(std::vec![b.map2(MapCode::Mul, sum, scale)?])
}

/// `alpha * (exp(x / divisor) - 1)`.
fn exponential_below(b: &mut Builder, x: ValueId, alpha: f32, divisor: f32) -> Result<ValueId, OpError> {
    let (alpha, divisor, one) = (b.scalar(alpha), b.scalar(divisor), b.scalar(1.0));
    let scaled = b.map2(MapCode::Div, x, divisor)?;
    let exp = b.map1(MapCode::Exp, scaled)?;
    let shifted = b.map2(MapCode::Sub, exp, one)?;
    b.map2(MapCode::Mul, alpha, shifted)
}

/// Activations that scale their input by a bounded gate, and the gates themselves.
pub fn import_gate(b: &mut Builder, call: &Call) -> Result<Vec<ValueId>, OpError> {
    let x = call.input(0)?;
    let (zero, one) = (b.scalar(0.0), b.scalar(1.0));
    let result = match call.operator.as_str() {
        "Softsign" => {
            let magnitude = b.map1(MapCode::Abs, x)?;
            let divisor = b.map2(MapCode::Add, one, magnitude)?;
            b.map2(MapCode::Div, x, divisor)?
        }
        "Swish" | "QuickGelu" => {
            let default = if call.operator == "Swish" { 1.0 } else { 1.702 };
            let alpha = b.scalar(call.float("alpha", default)?);
            let scaled = b.map2(MapCode::Mul, x, alpha)?;
            let gate = b.map1(MapCode::Sigmoid, scaled)?;
            b.map2(MapCode::Mul, x, gate)?
        }
        name => {
            let swish = name == "HardSwish";
            let (alpha, beta) =
                if swish { (1.0 / 6.0, 0.5) } else { (call.float("alpha", 0.2)?, call.float("beta", 0.5)?) };
            let (alpha, beta) = (b.scalar(alpha), b.scalar(beta));
            let line = b.push(Map::single(MapCode::MulAdd, 3, DType::F32), &[x, alpha, beta])?;
            let low = b.map2(MapCode::Max, line, zero)?;
            let gate = b.map2(MapCode::Min, low, one)?;
            if swish { b.map2(MapCode::Mul, x, gate)? } else { gate }
        }
    };
    Ok(std::vec![result])
}

pub fn import_special(b: &mut Builder, call: &Call) -> Result<Vec<ValueId>, OpError> {
    let x = call.input(0)?;
    let result = match call.operator.as_str() {
        "Round" => b.map1(MapCode::Round, x)?,
        "Mod" => {
            let inputs = [x, call.input(1)?];
            let (float, integer) = if call.flag("fmod", false)? {
                (MapCode::Fmod, IntCode::Fmod)
            } else {
                (MapCode::Mod, IntCode::Mod)
            };
            plain(b, float, Some(integer), &inputs)?
        }
        _ => {
            let infinite = b.push(Map::single(MapCode::IsInf, 1, DType::Bool), &[x])?;
            let (low, high) = (call.flag("detect_negative", true)?, call.flag("detect_positive", true)?);
            let zero = b.scalar(0.0);
            let kept = match (low, high) {
                (true, true) => return Ok(std::vec![infinite]),
                (true, false) => b.map2(MapCode::Less, x, zero)?,
                (false, true) => b.map2(MapCode::Greater, x, zero)?,
                (false, false) => b.map2(MapCode::Less, infinite, zero)?,
            };
            b.map2(MapCode::And, infinite, kept)?
        }
    };
    Ok(std::vec![result])
}

/// The run-time type for an ONNX element type (`TensorProto.DataType`).
pub(crate) fn run_time_type(onnx: i64) -> Result<DType, OpError> {
    match onnx {
        1 | 10 | 11 | 16 => Ok(DType::F32),
        2..=7 | 12 | 13 => Ok(DType::I64),
        9 => Ok(DType::Bool),
        other => Err(problem!("element type {other} (TensorProto.DataType) is not supported")),
    }
}

pub fn import_cast(b: &mut Builder, call: &Call) -> Result<Vec<ValueId>, OpError> {
    let x = call.input(0)?;
    let to = match call.optional(1) {
        Some(like) => b.fact(like).dtype,
        None => run_time_type(call.int("to", 1)?)?,
    };
    Ok(std::vec![cast(b, x, to)?])
}

/// The value as another type.
pub(crate) fn cast(b: &mut Builder, x: ValueId, to: DType) -> Result<ValueId, OpError> {
    match (b.fact(x).dtype, to) {
        (from, to) if from == to => Ok(x),
        (DType::F32, DType::I64) | (_, DType::F32) => b.push(Map::single(MapCode::Copy, 1, to), &[x]),
        (DType::F32, _) => {
            // Not(Equal(x, 0)) rather than a bare copy, so that the truth value is 1.0 even inside of a fused program.
            let zero = b.scalar(0.0);
            let is_zero = b.map2(MapCode::Equal, x, zero)?;
            b.push(Map::single(MapCode::Not, 1, DType::Bool), &[is_zero])
        }
        _ => b.push(Integer { code: IntCode::Copy, dtype: to }, &[x]),
    }
}

pub fn import_where(b: &mut Builder, call: &Call) -> Result<Vec<ValueId>, OpError> {
    let inputs = [call.input(0)?, call.input(1)?, call.input(2)?];
    let dtype = b.fact(inputs[1]).dtype;
    let result = match dtype {
        DType::F32 => b.push(Map::single(MapCode::Where, 3, DType::F32), &inputs)?,
        _ => b.push(Integer { code: IntCode::Where, dtype }, &inputs)?,
    };
    Ok(std::vec![result])
}

impl Builder {
    /// A vector of integers as a constant.
    pub fn integers(&mut self, values: Vec<i64>) -> ValueId {
        self.constant(Tensor::integers(values))
    }

    /// A constant of one repeated value.
    pub fn filled(&mut self, shape: &[usize], x: f32) -> Result<ValueId, OpError> {
        let count = shape.iter().product();
        Ok(self.constant(Tensor::new(shape, Data::F32(std::vec![x; count]))?))
    }
}
