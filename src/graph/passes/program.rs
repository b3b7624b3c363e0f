//! Element-wise programs with named results instead of registers, which is how passes rewrite them.

use crate::graph::ValueId;
use crate::kernels::{IMMEDIATE, MAX_MAP_STEPS, MAX_REGISTERS, MapCode, MapStep};
use std::vec::Vec;

/// An operand of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arg {
    Input(ValueId),
    /// The result of an earlier step.
    Step(usize),
    Immediate(f32),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    pub code: MapCode,
    pub args: [Arg; 3],
}

impl Step {
    /// The operands that the step reads.
    pub fn args(&self) -> &[Arg] {
        &self.args[..self.code.arity()]
    }
}

/// A program: the last step's result is the program's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Program {
    pub steps: Vec<Step>,
}

impl Program {
    /// From registers.
    pub fn of(steps: &[MapStep], inputs: &[ValueId]) -> Program {
        let mut registers: Vec<Option<Arg>> = inputs.iter().map(|&id| Some(Arg::Input(id))).collect();
        registers.resize(MAX_REGISTERS, None);
        let mut program = Program::default();
        for step in steps {
            let arg = |i: u8| match i {
                IMMEDIATE => Arg::Immediate(step.immediate),
                i => registers[i as usize].unwrap_or(Arg::Immediate(0.0)),
            };
            program.steps.push(Step { code: step.code, args: [arg(step.a), arg(step.b), arg(step.c)] });
            registers[step.dst as usize] = Some(Arg::Step(program.steps.len() - 1));
        }
        program
    }

    /// The values that the program reads, each once, in order of first use.
    pub fn inputs(&self) -> Vec<ValueId> {
        let mut inputs = Vec::new();
        for arg in self.steps.iter().flat_map(Step::args) {
            match arg {
                Arg::Input(id) if !inputs.contains(id) => inputs.push(*id),
                _ => {}
            }
        }
        inputs
    }

    /// The steps that read a value.
    pub fn readers(&self, of: Arg) -> Vec<usize> {
        (0..self.steps.len()).filter(|&i| self.steps[i].args().contains(&of)).collect()
    }

    /// The program with the one that computes `value` in front of it.
    pub fn after(&self, value: ValueId, first: &Program) -> Program {
        let shift = first.steps.len();
        let mut steps = first.steps.clone();
        for step in &self.steps {
            let args = step.args.map(|arg| match arg {
                Arg::Input(id) if id == value => Arg::Step(shift - 1),
                Arg::Step(i) => Arg::Step(i + shift),
                other => other,
            });
            steps.push(Step { code: step.code, args });
        }
        Program { steps }
    }

    /// Puts `by` wherever `what` is read.
    pub fn replace(&mut self, what: Arg, by: Arg) {
        for arg in self.steps.iter_mut().flat_map(|s| &mut s.args).filter(|arg| **arg == what) {
            *arg = by;
        }
    }

    /// Removes steps whose results nothing reads.
    pub fn prune(&mut self) {
        let mut i = self.steps.len().saturating_sub(1);
        while i > 0 {
            i -= 1;
            if self.readers(Arg::Step(i)).is_empty() {
                self.remove(i);
            }
        }
    }

    /// Removes a step that nothing reads.
    pub fn remove(&mut self, at: usize) {
        self.steps.remove(at);
        for arg in self.steps.iter_mut().flat_map(|s| &mut s.args) {
            match arg {
                Arg::Step(i) if *i > at => *i -= 1,
                _ => {}
            }
        }
    }

    /// The program on registers, and its inputs; `None` if it needs more registers, steps or immediates than there are.
    pub fn allocate(&self) -> Option<(Vec<MapStep>, Vec<ValueId>)> {
        let inputs = self.inputs();
        if inputs.len() >= MAX_REGISTERS || self.steps.len() > MAX_MAP_STEPS {
            return None;
        }
        let last_use = |i: usize| self.readers(Arg::Step(i)).last().copied().unwrap_or(self.steps.len());
        let mut busy_until = [0usize; MAX_REGISTERS];
        let mut registers = Vec::with_capacity(self.steps.len());
        let mut steps = Vec::with_capacity(self.steps.len());
        for (at, step) in self.steps.iter().enumerate() {
            let mut immediate = None;
            let mut operands = [0u8; 3];
            for (operand, arg) in operands.iter_mut().zip(step.args()) {
                *operand = match *arg {
                    Arg::Input(id) => inputs.iter().position(|&i| i == id)? as u8,
                    Arg::Step(i) => *registers.get(i)?,
                    Arg::Immediate(x) if immediate.is_none_or(|have: f32| have.to_bits() == x.to_bits()) => {
                        immediate = Some(x);
                        IMMEDIATE
                    }
                    Arg::Immediate(_) => return None,
                };
            }
            // A register is free again for the very step that reads it last.
            let dst = (inputs.len()..MAX_REGISTERS).find(|&r| busy_until[r] <= at)?;
            busy_until[dst] = last_use(at);
            registers.push(dst as u8);
            let [a, b, c] = operands;
            steps.push(MapStep {
                code: step.code,
                dst: dst as u8,
                a,
                b,
                c,
                immediate: immediate.unwrap_or(0.0),
            });
        }
        Some((steps, inputs))
    }
}

/// The value that a program multiplies by a number, and the number, if that is all it does.
pub fn scaled(program: &Program) -> Option<(ValueId, f32)> {
    let [Step { code, args }] = program.steps[..] else { return None };
    match (code, args) {
        (MapCode::Mul, [Arg::Input(x), Arg::Immediate(by), _] | [Arg::Immediate(by), Arg::Input(x), _]) => {
            Some((x, by))
        }
        (MapCode::Div, [Arg::Input(x), Arg::Immediate(by), _]) => Some((x, 1.0 / by)),
        _ => None,
    }
}
