//! Element-wise programs: any chain of element-wise operators as one pass over memory.

use super::{OpError, Operator, broadcast_shapes, problem};
use crate::graph::{Builder, Data, Fact, Node, Tensor, ValueId};
use crate::kernels::{DType, IMMEDIATE, MAX_REGISTERS, MapCode, MapStep};
use crate::plan::{Instruction, Lower, element_wise, natural_order};
use std::vec::Vec;

/// An element-wise program on f32 registers (see [`MapStep`]); operands broadcast.
#[derive(Clone, Debug, PartialEq)]
pub struct Map {
    pub inputs: usize,
    pub steps: Vec<MapStep>,
    /// Type of the result; what a register holds is converted to it.
    pub dtype: DType,
}

impl Map {
    /// The program of a single operation on 1 to 3 inputs.
    pub fn single(code: MapCode, inputs: usize, dtype: DType) -> Map {
        let operand = |i: usize| if i < inputs { i as u8 } else { 0 };
        let step =
            MapStep { code, dst: inputs as u8, a: operand(0), b: operand(1), c: operand(2), immediate: 0.0 };
        Map { inputs, steps: std::vec![step], dtype }
    }
}

impl Operator for Map {
    fn shapes(&self, inputs: &[&Fact]) -> Result<Vec<Fact>, OpError> {
        if inputs.len() != self.inputs || self.inputs >= MAX_REGISTERS {
            return Err(problem!("an element-wise program of {} inputs got {}", self.inputs, inputs.len()));
        }
        let shape = broadcast_shapes(inputs.iter().map(|f| &f.shape[..]))?;
        Ok(std::vec![Fact { dtype: self.dtype, shape }])
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let shape = broadcast_shapes(inputs.iter().map(|t| t.shape()))?;
        let columns: Vec<Vec<f32>> = inputs.iter().map(|t| t.broadcast(&shape).to_f32()).collect();
        let count: usize = shape.iter().product();
        let values: Vec<f32> = (0..count).map(|i| self.evaluate(columns.iter().map(|c| c[i]))).collect();
        let data = match self.dtype {
            DType::F32 => Data::F32(values),
            DType::I64 => Data::I64(values.into_iter().map(|x| x as i64).collect()),
            DType::Bool => Data::Bool(values.into_iter().map(|x| x != 0.0).collect()),
        };
        Ok(std::vec![Tensor::new(&shape, data)?])
    }

    fn lower(&self, lower: &mut Lower, node: &Node) -> Result<(), OpError> {
        let output = node.outputs[0];
        let operands = lower.broadcast(&node.inputs, output)?;
        let order = natural_order(&operands);
        let result = lower.output(output, &order)?;
        let steps = lower.steps(&self.steps);
        let (inputs, output) = element_wise(&operands, &result, &order);
        let output = lower.view(&output)?;
        let inputs = lower.views(&inputs)?;
        lower.emit(Instruction::Map { steps, inputs, output });
        Ok(())
    }

    fn flops(&self, _inputs: &[Fact], outputs: &[Fact]) -> u64 {
        (self.steps.len() * outputs[0].len()) as u64
    }
}

impl Map {
    fn evaluate(&self, inputs: impl Iterator<Item = f32>) -> f32 {
        let mut registers = [0f32; MAX_REGISTERS];
        for (register, x) in registers.iter_mut().zip(inputs) {
            *register = x;
        }
        let mut result = registers[0];
        for step in &self.steps {
            let operand = |i: u8| if i == IMMEDIATE { step.immediate } else { registers[i as usize] };
            result = scalar(step.code, operand(step.a), operand(step.b), operand(step.c));
            registers[step.dst as usize] = result;
        }
        result
    }
}

/// The reference of one operation: in f64, rounded once.
pub(super) fn scalar(code: MapCode, a: f32, b: f32, c: f32) -> f32 {
    use MapCode::*;
    let (x, y, z) = (f64::from(a), f64::from(b), f64::from(c));
    let truth = |t: bool| f64::from(u8::from(t));
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let softplus = |x: f64| x.max(0.0) + (-x.abs()).exp().ln_1p();
    let result = match code {
        Copy => x,
        Neg => -x,
        Abs => x.abs(),
        Sign => {
            if x == 0.0 {
                0.0
            } else {
                x.signum()
            }
        }
        Floor => x.floor(),
        Ceil => x.ceil(),
        Round => x.round_ties_even(),
        Sqrt => x.sqrt(),
        Reciprocal => 1.0 / x,
        Exp => x.exp(),
        Log => x.ln(),
        Sin => x.sin(),
        Cos => x.cos(),
        Tan => x.tan(),
        Asin => x.asin(),
        Acos => x.acos(),
        Atan => x.atan(),
        Sinh => x.sinh(),
        Cosh => x.cosh(),
        Tanh => x.tanh(),
        Asinh => x.asinh(),
        Acosh => x.acosh(),
        Atanh => x.atanh(),
        Erf => libm::erf(x),
        Relu => {
            if x < 0.0 {
                0.0
            } else {
                x
            }
        }
        Sigmoid => sigmoid(x),
        Silu => x * sigmoid(x),
        Gelu => 0.5 * x * (1.0 + libm::erf(x * core::f64::consts::FRAC_1_SQRT_2)),
        GeluTanh => {
            let inner = (2.0 / core::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
            0.5 * x * (1.0 + inner.tanh())
        }
        Mish => x * softplus(x).tanh(),
        Softplus => softplus(x),
        Not => truth(x == 0.0),
        IsNan => truth(x.is_nan()),
        IsInf => truth(x.is_infinite()),
        Add => x + y,
        Sub => x - y,
        Mul => x * y,
        Div => x / y,
        Min if x.is_nan() || y.is_nan() => f64::NAN,
        Min => x.min(y),
        Max if x.is_nan() || y.is_nan() => f64::NAN,
        Max => x.max(y),
        Pow => x.powf(y),
        Mod => x - (x / y).floor() * y,
        Fmod => x % y,
        And => truth(x != 0.0 && y != 0.0),
        Or => truth(x != 0.0 || y != 0.0),
        Xor => truth((x != 0.0) != (y != 0.0)),
        Equal => truth(x == y),
        Less => truth(x < y),
        LessEqual => truth(x <= y),
        Greater => truth(x > y),
        GreaterEqual => truth(x >= y),
        Where => {
            if x != 0.0 {
                y
            } else {
                z
            }
        }
        MulAdd => x * y + z,
    };
    result as f32
}

/// Shorthand with which importers write formulas.
impl Builder {
    pub fn scalar(&mut self, x: f32) -> ValueId {
        self.constant(Tensor::scalar(x))
    }

    pub fn map1(&mut self, code: MapCode, a: ValueId) -> Result<ValueId, OpError> {
        self.push(Map::single(code, 1, DType::F32), &[a])
    }

    pub fn map2(&mut self, code: MapCode, a: ValueId, b: ValueId) -> Result<ValueId, OpError> {
        if let Some(same) = self.unchanged(code, [a, b]) {
            return Ok(same);
        }
        self.push(Map::single(code, 2, if code.is_truth() { DType::Bool } else { DType::F32 }), &[a, b])
    }

    /// What a product or a quotient with a constant of one returns: exporters leave these where a model has factors of one.
    fn unchanged(&self, code: MapCode, [a, b]: [ValueId; 2]) -> Option<ValueId> {
        let one = |id| self.known(id).is_some_and(|tensor| tensor.len() == 1 && tensor.to_f32() == [1.0]);
        let fits = |x, one| self.fact(x).dtype == DType::F32 && self.fact(one).rank() <= self.fact(x).rank();
        match code {
            MapCode::Mul | MapCode::Div if one(b) && fits(a, b) => Some(a),
            MapCode::Mul if one(a) && fits(b, a) => Some(b),
            _ => None,
        }
    }
}
