//! One instruction: its views become a kernel's arguments, and the kernel's tasks run.

use super::{Engine, EngineError, MAX_HOST_OPERANDS};
use crate::kernels::*;
#[cfg(feature = "f16")]
use crate::plan::Scales;
use crate::plan::{Geometry, Instruction, Matrix, Panels, Span, ViewId};

type Steps = heapless::Vec<MapStep, MAX_MAP_STEPS>;
type Operands<const N: usize> = heapless::Vec<Operand, N>;

impl Engine<'_> {
    /// Runs instruction `i`.
    pub(super) fn execute(&mut self, i: usize) -> Result<(), EngineError> {
        let instruction = self.plan.instruction(i).ok_or(EngineError::Damaged { instruction: i })?;
        if let Instruction::Host { operator, inputs, outputs } = instruction {
            return self.host(i, operator, inputs, outputs);
        }
        self.kernel(instruction).ok_or(EngineError::Damaged { instruction: i })
    }

    /// `None` only for a plan that `check` would have refused.
    fn kernel(&mut self, instruction: Instruction) -> Option<()> {
        match instruction {
            Instruction::Map { steps, inputs, output } => self.map(steps, inputs, output),
            Instruction::Int { code, operands: [a, b, c], output } => {
                let args = IntArgs {
                    code,
                    a: self.operand(a)?,
                    b: self.operand(b)?,
                    c: self.operand(c)?,
                    output: self.operand(output)?,
                };
                // SAFETY: `check` has validated every operand (see `tasks`).
                self.tasks(int::int_tasks(&args), |task| unsafe { int::int(&args, task) })
            }
            Instruction::Copy { input, output } => {
                let args = CopyArgs { input: self.operand(input)?, output: self.operand(output)? };
                // SAFETY: as above.
                self.tasks(data::copy_tasks(&args), |task| unsafe { data::copy(&args, task) })
            }
            Instruction::Gather { data, indices, output, axis } => {
                let args = GatherArgs {
                    data: self.operand(data)?,
                    indices: self.operand(indices)?,
                    output: self.operand(output)?,
                    axis: axis as usize,
                };
                // SAFETY: as above.
                self.tasks(data::gather_tasks(&args), |task| unsafe { data::gather(&args, task) })
            }
            Instruction::CumSum { input, output, axis, exclusive, reverse } => {
                let (input, output) = (self.operand(input)?, self.operand(output)?);
                let args = CumSumArgs { input, output, axis: axis as usize, exclusive, reverse };
                // SAFETY: as above.
                self.tasks(data::cumsum_tasks(&args), |task| unsafe { data::cumsum(&args, task) })
            }
            Instruction::Reduce { kind, input, output } => {
                let args = ReduceArgs { kind, input: self.operand(input)?, output: self.operand(output)? };
                // SAFETY: as above.
                self.tasks(self.kernels.reduce_tasks(&args), |task| unsafe {
                    (self.kernels.reduce)(&args, task)
                })
            }
            Instruction::Gemm { a, b, bias, residual, activation, c } => {
                self.gemm(a, b, bias, residual, activation, c)
            }
            Instruction::Attention { q, k, v, scale, scratch, y } => {
                self.attention([q, k, v, scratch, y], scale)
            }
            Instruction::Conv { x, weights, bias, residual, activation, geometry, zeros, scratch, c } => {
                self.conv([x, zeros, c], weights, [bias, residual, scratch], (activation, geometry))
            }
            Instruction::Depthwise { x, weights, bias, activation, geometry, zeros, c } => {
                self.depthwise([x, weights, zeros, c], bias, activation, geometry)
            }
            Instruction::Norm { x, gamma, beta, groups, center, epsilon, activation, scratch, y } => {
                self.norm([x, scratch, y], [gamma, beta], groups, (center, epsilon, activation))
            }
            Instruction::Softmax { x, y, scale } => self.softmax(x, y, scale),
            Instruction::Resample { x, indices, weights, y } => self.resample(x, indices, weights, y),
            Instruction::Pool { kind, x, geometry, pad_end, y } => self.pool(kind, [x, y], geometry, pad_end),
            Instruction::Host { .. } => None,
        }
    }

    /// Runs a kernel's tasks.
    ///
    /// Why the kernels may be called: `Plan::view` has checked that every element of every operand lies inside of the
    /// arena or the weights, aligned for its type, and that the operands' dimensions fit together; the arena is borrowed
    /// mutably and the weights immutably for as long as the engine lives; the row is one that this CPU supports; and the
    /// tasks of one kernel write to disjoint elements.
    fn tasks(&self, count: usize, task: impl Fn(usize) + Sync) -> Option<()> {
        self.threads.run(count, &task);
        Some(())
    }

    /// Runs those of a kernel whose tasks have scratch areas.
    fn tasks_in_areas(&self, count: usize, task: impl Fn(At) + Sync) -> Option<()> {
        let areas = Areas::default();
        self.tasks(count, |number| areas.enter(number, &task))
    }

    fn map(&mut self, steps: Span, inputs: Span, output: ViewId) -> Option<()> {
        let steps: Steps = self.plan.steps(steps).collect();
        let mut operands = Operands::<MAX_REGISTERS>::new();
        for id in self.plan.operands(inputs) {
            operands.push(self.operand(id)?).ok()?;
        }
        let args = MapArgs { steps: &steps, inputs: &operands, output: self.operand(output)? };
        // SAFETY: see `tasks`.
        self.tasks(self.kernels.map_tasks(&args), |task| unsafe { (self.kernels.map)(&args, task) })
    }

    fn gemm(
        &mut self,
        a: ViewId,
        b: Matrix,
        bias: Option<ViewId>,
        residual: Option<ViewId>,
        activation: Activation,
        c: ViewId,
    ) -> Option<()> {
        let (a, c) = (self.operand(a)?, self.operand(c)?);
        let residual = residual.map(|id| self.operand(id));
        let right = match b {
            Matrix::Packed(panels) => self.right(panels)?,
            Matrix::Dynamic { scratch, .. } => Right::F32(floats(&self.operand(scratch)?)),
        };
        let matrix = match b {
            Matrix::Packed(_) => None,
            Matrix::Dynamic { matrix, .. } => Some(self.operand(matrix)?),
        };
        let rank = c.layout.rank();
        let (m, n, k) = (c.layout.dim(rank - 2), c.layout.dim(rank - 1), a.layout.dim(rank - 1));
        let size = self.kernels.packed_len(k, n);
        let bias = self.optional(bias)?;
        for (i, index) in Batches::of(&c.layout).enumerate() {
            let at = |operand: &Operand| offset(operand, &index);
            let right = match (&matrix, right) {
                (Some(matrix), Right::F32(panels)) => {
                    let panels = panels.wrapping_add(i * size);
                    self.pack(matrix, &index, panels)?;
                    Right::F32(panels)
                }
                _ => right,
            };
            let (residual, residual_stride) = match residual {
                Some(r) => r.map(|r| (at(&r).cast_const(), r.layout.stride(rank - 2)))?,
                None => (core::ptr::null(), 0),
            };
            let args = GemmArgs {
                m,
                n,
                k,
                taps: 1,
                a: Rows::Matrix { ptr: at(&a), stride: a.layout.stride(rank - 2) },
                b: core::ptr::null(),
                bias,
                residual,
                residual_stride,
                activation,
                c: at(&c),
                c_stride: c.layout.stride(rank - 2),
            };
            self.product(args, right)?;
        }
        Some(())
    }

    /// Packed constants as the kernels take them.
    fn right(&mut self, panels: Panels) -> Option<Right> {
        // `check` has found the offset to be inside, as in `operand`.
        let elements = self.plan.weights().as_ptr().wrapping_add(panels.offset as usize);
        Some(match panels.scales {
            None => Right::F32(elements.cast::<f32>().cast_mut()),
            // `Engine::new` has refused the plan.
            #[cfg(not(feature = "f16"))]
            Some(_) => return None,
            #[cfg(feature = "f16")]
            Some(Scales { input, output, stretch }) => Right::F16 {
                b: elements.cast(),
                scale: self.optional(input)?,
                unscale: self.optional(Some(output))?,
                stretch: stretch as usize,
            },
        })
    }

    /// A product, or a convolution as one.
    fn product(&self, gemm: GemmArgs, right: Right) -> Option<()> {
        match right {
            Right::F32(b) => {
                let args = Shared(GemmArgs { b, ..gemm });
                let count = self.kernels.gemm_tasks(&args.0);
                // SAFETY: see `tasks`.
                self.tasks(count, |task| unsafe { (self.kernels.gemm)(args.get(), task) })
            }
            #[cfg(feature = "f16")]
            Right::F16 { b, scale, unscale, stretch } => {
                let args = Shared(HalfArgs { gemm, b, scale, unscale, stretch });
                let count = self.kernels.half.gemm_tasks(&args.0);
                // SAFETY: see `tasks`.
                self.tasks(count, |task| unsafe { (self.kernels.half.gemm)(args.get(), task) })
            }
        }
    }

    /// A convolution by Winograd's method.
    fn winograd(&self, gemm: GemmArgs, right: Right, scratch: *mut f32) -> Option<()> {
        match right {
            Right::F32(b) => {
                let args = Shared(WinogradArgs { product: GemmArgs { b, ..gemm }, scratch });
                let count = self.kernels.winograd_tasks(&args.0);
                // SAFETY: see `tasks`.
                self.tasks_in_areas(count, |at| unsafe { (self.kernels.winograd)(args.get(), at) })
            }
            #[cfg(feature = "f16")]
            Right::F16 { b, scale, unscale, stretch } => {
                let args =
                    Shared(WinogradArgs { product: HalfArgs { gemm, b, scale, unscale, stretch }, scratch });
                let count = self.kernels.half.winograd_tasks(&args.0);
                // SAFETY: see `tasks`.
                self.tasks_in_areas(count, |at| unsafe { (self.kernels.half.winograd)(args.get(), at) })
            }
        }
    }

    /// Packs the matrix of a stack at the given leading indices.
    fn pack(&self, stack: &Operand, index: &[usize; MAX_RANK], packed: *mut f32) -> Option<()> {
        let [row, column] = [stack.layout.rank() - 2, stack.layout.rank() - 1];
        let args = Shared(PackArgs {
            ptr: offset(stack, index),
            strides: [stack.layout.stride(row), stack.layout.stride(column)],
            k: stack.layout.dim(row),
            n: stack.layout.dim(column),
            packed,
        });
        // SAFETY: see `tasks`.
        self.tasks(self.kernels.pack_tasks(&args.0), |task| unsafe { (self.kernels.pack)(args.get(), task) })
    }

    fn attention(&mut self, ids: [ViewId; 5], scale: f32) -> Option<()> {
        let [q, k, v, scratch, y] = ids.map(|id| self.operand(id));
        let scratch = floats(&scratch?);
        let half = self.plan.halves() > 0;
        let args = Shared(AttentionArgs { scale, half, q: q?, k: k?, v: v?, y: y?, scratch });
        for phase in 0..self.kernels.attention_phases(&args.0) {
            // SAFETY: see `tasks`.
            self.tasks_in_areas(self.kernels.attention_tasks(&args.0, phase), |at| unsafe {
                (self.kernels.attention)(args.get(), phase, at)
            })?;
        }
        Some(())
    }

    fn conv(
        &mut self,
        [x, zeros, c]: [ViewId; 3],
        weights: Panels,
        [bias, residual, scratch]: [Option<ViewId>; 3],
        (activation, geometry): (Activation, Geometry),
    ) -> Option<()> {
        let (x, c, right) = (self.operand(x)?, self.operand(c)?, self.right(weights)?);
        let (residual, residual_stride) = match residual {
            Some(id) => {
                let residual = self.operand(id)?;
                (floats(&residual).cast_const(), pixel_stride(&residual))
            }
            None => (core::ptr::null(), 0),
        };
        let taps = (geometry.kernel[0] * geometry.kernel[1]) as usize;
        let gemm = GemmArgs {
            m: pixels(&c),
            n: c.layout.dim(3),
            k: x.layout.dim(3),
            taps: if scratch.is_some() { PLACES } else { taps },
            a: rows(self.patches(&x, &c, geometry, Some(zeros))?, x.layout.dim(0)),
            b: core::ptr::null(),
            bias: self.optional(bias)?,
            residual,
            residual_stride,
            activation,
            c: floats(&c),
            c_stride: pixel_stride(&c),
        };
        match scratch {
            Some(scratch) => {
                let scratch = floats(&self.operand(scratch)?);
                self.winograd(gemm, right, scratch)
            }
            None => self.product(gemm, right),
        }
    }

    fn depthwise(
        &mut self,
        [x, weights, zeros, c]: [ViewId; 4],
        bias: Option<ViewId>,
        activation: Activation,
        geometry: Geometry,
    ) -> Option<()> {
        let (x, c, b) = (self.operand(x)?, self.operand(c)?, self.operand(weights)?);
        let args = Shared(DepthwiseArgs {
            m: pixels(&c),
            channels: c.layout.dim(3),
            a: self.patches(&x, &c, geometry, Some(zeros))?,
            b: floats(&b),
            bias: self.optional(bias)?,
            activation,
            c: floats(&c),
            c_stride: pixel_stride(&c),
        });
        let count = self.kernels.depthwise_tasks(&args.0);
        // SAFETY: see `tasks`.
        self.tasks(count, |task| unsafe { (self.kernels.depthwise)(args.get(), task) })
    }

    fn pool(
        &mut self,
        kind: PoolKind,
        [x, y]: [ViewId; 2],
        geometry: Geometry,
        pad_end: [u32; 2],
    ) -> Option<()> {
        let (x, y) = (self.operand(x)?, self.operand(y)?);
        let args = Shared(PoolArgs {
            kind,
            m: pixels(&y),
            channels: y.layout.dim(3),
            a: self.patches(&x, &y, geometry, None)?,
            pad_end: pad_end.map(|p| p as usize),
            c: floats(&y),
            c_stride: pixel_stride(&y),
        });
        // SAFETY: see `tasks`.
        self.tasks(self.kernels.pool_tasks(&args.0), |task| unsafe { (self.kernels.pool)(args.get(), task) })
    }

    fn patches(
        &mut self,
        x: &Operand,
        y: &Operand,
        geometry: Geometry,
        zeros: Option<ViewId>,
    ) -> Option<Patches> {
        let zeros = self.optional(zeros)?;
        let size = |v: [u32; 2]| v.map(|v| v as usize);
        Some(Patches {
            ptr: floats(x),
            image: x.layout.stride(0),
            row: x.layout.stride(1),
            pixel: x.layout.stride(2),
            input: [x.layout.dim(1), x.layout.dim(2)],
            output: [y.layout.dim(1), y.layout.dim(2)],
            kernel: size(geometry.kernel),
            stride: size(geometry.stride),
            dilation: size(geometry.dilation),
            pad: size(geometry.pad),
            zeros,
        })
    }

    fn norm(
        &mut self,
        [x, scratch, y]: [ViewId; 3],
        [gamma, beta]: [Option<ViewId>; 2],
        groups: u32,
        (center, epsilon, activation): (bool, f32, Activation),
    ) -> Option<()> {
        let (x, y, scratch) = (self.operand(x)?, self.operand(y)?, self.operand(scratch)?);
        let args = Shared(NormArgs {
            n: x.layout.dim(0),
            s: x.layout.dim(1),
            c: x.layout.dim(2),
            groups: groups as usize,
            center,
            epsilon,
            x: floats(&x),
            x_image: x.layout.stride(0),
            x_row: x.layout.stride(1),
            gamma: self.optional(gamma)?,
            beta: self.optional(beta)?,
            activation,
            half: self.plan.halves() > 0,
            y: floats(&y),
            y_image: y.layout.stride(0),
            y_row: y.layout.stride(1),
            scratch: floats(&scratch),
        });
        for phase in 0..self.kernels.norm_phases() {
            let count = self.kernels.norm_tasks(&args.0, phase);
            // SAFETY: see `tasks`.
            self.tasks(count, |task| unsafe { (self.kernels.norm)(args.get(), phase, task) })?;
        }
        Some(())
    }

    fn softmax(&mut self, x: ViewId, y: ViewId, scale: f32) -> Option<()> {
        let (x, y) = (self.operand(x)?, self.operand(y)?);
        let args = Shared(SoftmaxArgs {
            rows: x.layout.dim(0),
            n: x.layout.dim(1),
            scale,
            x: floats(&x),
            x_stride: x.layout.stride(0),
            y: floats(&y),
            y_stride: y.layout.stride(0),
        });
        // SAFETY: see `tasks`.
        self.tasks(self.kernels.softmax_tasks(&args.0), |task| unsafe {
            (self.kernels.softmax)(args.get(), task)
        })
    }

    fn resample(&mut self, x: ViewId, indices: ViewId, weights: ViewId, y: ViewId) -> Option<()> {
        let (x, y) = (self.operand(x)?, self.operand(y)?);
        let (indices, weights) = (self.operand(indices)?, self.operand(weights)?);
        let args = Shared(ResampleArgs {
            outer: x.layout.dim(0),
            n_in: x.layout.dim(1),
            n_out: y.layout.dim(1),
            inner: x.layout.dim(2),
            taps: indices.layout.dim(1),
            indices: indices.ptr.cast::<i64>(),
            weights: floats(&weights),
            x: floats(&x),
            y: floats(&y),
        });
        // SAFETY: see `tasks`.
        self.tasks(self.kernels.resample_tasks(&args.0), |task| unsafe {
            (self.kernels.resample)(args.get(), task)
        })
    }

    fn host(&mut self, i: usize, operator: u32, inputs: Span, outputs: Span) -> Result<(), EngineError> {
        let host = self.host.ok_or(EngineError::NoHost)?;
        let mut gather = |span| {
            let mut operands = Operands::<MAX_HOST_OPERANDS>::new();
            for id in self.plan.operands(span) {
                operands.push(self.operand(id)?).ok()?;
            }
            Some(operands)
        };
        let (inputs, outputs) = (gather(inputs), gather(outputs));
        let (Some(inputs), Some(outputs)) = (inputs, outputs) else {
            return Err(EngineError::Damaged { instruction: i });
        };
        if host.run(operator, &inputs, &outputs) { Ok(()) } else { Err(EngineError::Host { instruction: i }) }
    }

    /// The address of an optional vector: null if there is none.
    fn optional(&mut self, id: Option<ViewId>) -> Option<*const f32> {
        match id {
            Some(id) => Some(floats(&self.operand(id)?)),
            None => Some(core::ptr::null()),
        }
    }
}

/// Patches, or where each is a pixel of some dense images, the rows of a matrix, which are found in fewer steps.
fn rows(p: Patches, images: usize) -> Rows {
    let [height, width] = p.input;
    let pixels = p.kernel == [1, 1] && p.stride == [1, 1] && p.pad == [0, 0] && p.output == p.input;
    let row = width as isize * p.pixel;
    let dense = (height <= 1 || p.row == row) && (images <= 1 || p.image == height as isize * row);
    if pixels && dense { Rows::Matrix { ptr: p.ptr, stride: p.pixel } } else { Rows::Patches(p) }
}

/// The right matrix of a product, as [`HalfArgs`] and [`GemmArgs`] have it.
#[derive(Clone, Copy)]
enum Right {
    F32(*mut f32),
    #[cfg(feature = "f16")]
    F16 {
        b: *const F16,
        scale: *const f32,
        unscale: *const f32,
        stretch: usize,
    },
}

/// Arguments that tasks on several threads read.
struct Shared<T>(T);

// SAFETY: the arguments are only read; what their pointers lead to is shared as `Engine::tasks` says.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// A method, so that closures capture the whole struct and with it its `Sync`.
    fn get(&self) -> &T {
        &self.0
    }
}

fn floats(operand: &Operand) -> *mut f32 {
    operand.ptr.cast()
}

/// Output pixels of an image [n, h, w, c].
fn pixels(image: &Operand) -> usize {
    (0..3).map(|axis| image.layout.dim(axis)).product()
}

/// The distance of neighbouring pixels of an image all of whose pixels are evenly spaced.
fn pixel_stride(image: &Operand) -> isize {
    (0..3).rev().find(|&axis| image.layout.dim(axis) != 1).map_or(0, |axis| image.layout.stride(axis))
}

/// The indices of the leading dimensions of a stack of matrices, in row-major order.
struct Batches<'a> {
    layout: &'a Layout,
    next: usize,
    count: usize,
}

impl<'a> Batches<'a> {
    fn of(layout: &'a Layout) -> Batches<'a> {
        let count = (0..layout.rank() - 2).map(|axis| layout.dim(axis)).product();
        Batches { layout, next: 0, count }
    }
}

impl Iterator for Batches<'_> {
    type Item = [usize; MAX_RANK];

    fn next(&mut self) -> Option<Self::Item> {
        if self.next == self.count {
            return None;
        }
        let (mut index, mut rest) = ([0; MAX_RANK], self.next);
        for axis in (0..self.layout.rank() - 2).rev() {
            index[axis] = rest % self.layout.dim(axis);
            rest /= self.layout.dim(axis);
        }
        self.next += 1;
        Some(index)
    }
}

/// The matrix of a stack at the given leading indices.
fn offset(operand: &Operand, index: &[usize; MAX_RANK]) -> *mut f32 {
    let lead = operand.layout.rank() - 2;
    let elements: isize = (0..lead).map(|axis| index[axis] as isize * operand.layout.stride(axis)).sum();
    floats(operand).wrapping_offset(elements)
}
