//! Element-wise operations on integers and truth values.

use super::{OpError, Operator, broadcast_shapes};
use crate::graph::{Data, Fact, Node, Tensor};
use crate::kernels::{DType, IntCode};
use crate::plan::{Instruction, Lower, canonical, element_wise};
use std::vec::Vec;

/// One operation on I64 and Bool operands, which broadcast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Integer {
    pub code: IntCode,
    pub dtype: DType,
}

impl Operator for Integer {
    fn shapes(&self, inputs: &[&Fact]) -> Result<Vec<Fact>, OpError> {
        if inputs.iter().any(|f| f.dtype == DType::F32) {
            return Err(OpError::new("integers are needed, but an input is f32"));
        }
        let shape = broadcast_shapes(inputs.iter().map(|f| &f.shape[..]))?;
        Ok(std::vec![Fact { dtype: self.dtype, shape }])
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let shape = broadcast_shapes(inputs.iter().map(|t| t.shape()))?;
        let columns: Vec<Vec<i64>> = inputs.iter().map(|t| t.broadcast(&shape).to_i64()).collect();
        let column = |i: usize| &columns[if i < columns.len() { i } else { 0 }];
        let count: usize = shape.iter().product();
        let values = (0..count).map(|i| scalar(self.code, column(0)[i], column(1)[i], column(2)[i]));
        let data = match self.dtype {
            DType::Bool => Data::Bool(values.map(|x| x != 0).collect()),
            _ => Data::I64(values.collect()),
        };
        Ok(std::vec![Tensor::new(&shape, data)?])
    }

    fn lower(&self, lower: &mut Lower, node: &Node) -> Result<(), OpError> {
        let output = node.outputs[0];
        let operands = lower.broadcast(&node.inputs, output)?;
        let order = canonical(lower.fact(output).rank());
        let result = lower.output(output, &order)?;
        let (inputs, output) = element_wise(&operands, &result, &order);
        let ids = inputs.iter().map(|p| lower.view(p)).collect::<Result<Vec<_>, _>>()?;
        let operand = |i: usize| ids.get(i).or(ids.first()).copied().unwrap_or_default();
        let output = lower.view(&output)?;
        lower.emit(Instruction::Int {
            code: self.code,
            operands: [operand(0), operand(1), operand(2)],
            output,
        });
        Ok(())
    }
}

fn scalar(code: IntCode, a: i64, b: i64, c: i64) -> i64 {
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
        IntCode::Pow => u32::try_from(b).map_or(0, |b| a.wrapping_pow(b)),
        IntCode::Mod | IntCode::Fmod if b == 0 => 0,
        IntCode::Mod => {
            let remainder = a.wrapping_rem(b);
            if remainder != 0 && (remainder < 0) != (b < 0) { remainder + b } else { remainder }
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
