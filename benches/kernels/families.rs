//! The families of kernels, each with the shapes that it is measured at. To add one: a function and its row.
//!
//! What is bound by arithmetic works on the same operands in every call. What is bound by memory takes the next of so many
//! sets of operands that they come from beyond the caches.

use fewstep::engine::Threads;
use fewstep::kernels::*;
use std::ptr::null;

pub struct Family {
    pub name: &'static str,
    /// One after the other, since each holds its operands.
    pub cases: fn(&'static Kernels) -> Cases,
}

type Cases = Box<dyn Iterator<Item = Case>>;

pub const FAMILIES: &[Family] = &[
    Family { name: "gemm", cases: gemm },
    Family { name: "gemm-f16", cases: gemm_half },
    Family { name: "conv3x3", cases: conv3x3 },
    Family { name: "conv3x3-f16", cases: conv3x3_half },
    Family { name: "winograd", cases: winograd },
    Family { name: "conv1x1", cases: conv1x1 },
    Family { name: "strided", cases: strided },
    Family { name: "conv1d", cases: conv1d },
    Family { name: "attention", cases: attention },
    Family { name: "few-rows", cases: few_rows },
    Family { name: "few-rows-f16", cases: few_rows_half },
    Family { name: "depthwise", cases: depthwise },
    Family { name: "norm", cases: norm },
    Family { name: "softmax", cases: softmax },
    Family { name: "map", cases: map },
];

/// A kernel with operands of one shape.
pub struct Case {
    pub shape: String,
    /// Whether it computes in 16 bits.
    pub half: bool,
    /// Floating point operations of a call, and bytes that it takes at least from memory and to it, where they bound it.
    pub flops: Option<f64>,
    pub bytes: Option<f64>,
    /// Runs the kernel once.
    pub call: Call,
}

type Call = Box<dyn FnMut(&dyn Threads)>;

/// A case for each shape, made when its turn comes.
fn each<S: Copy>(
    kernels: &'static Kernels,
    shapes: &'static [S],
    case: fn(&'static Kernels, S) -> Case,
) -> Cases {
    Box::new(shapes.iter().map(move |&shape| case(kernels, shape)))
}

// --- operands -------------------------------------------------------------

/// Beyond the caches of any one core.
const COLD: usize = 256 << 20;

/// Floats on a 64-byte boundary, in one or more sets of which each call takes the next.
struct Floats {
    memory: Vec<f32>,
    begin: usize,
    len: usize,
    sets: usize,
    next: usize,
}

impl Floats {
    /// In -1..1.
    fn sets(sets: usize, len: usize) -> Floats {
        let len = len.next_multiple_of(16);
        let value = |i: usize| (i.wrapping_mul(2_654_435_761) >> 8 & 0xffff) as f32 / 32_768.0 - 1.0;
        let memory: Vec<f32> = (0..sets * len + 16).map(value).collect();
        let begin = memory.as_ptr().align_offset(64);
        Floats { memory, begin, len, sets, next: 0 }
    }

    fn new(len: usize) -> Floats {
        Floats::sets(1, len)
    }

    /// As many sets as fill [`COLD`] bytes.
    fn cold(len: usize) -> Floats {
        Floats::sets((COLD / (4 * len)).max(1), len)
    }

    fn next(&mut self) -> *mut f32 {
        let first = self.begin + self.next * self.len;
        self.next = (self.next + 1) % self.sets;
        self.memory[first..first + self.len].as_mut_ptr()
    }
}

/// A kernel's arguments, for the tasks of one call.
struct Shared<'a, A>(&'a A);

// SAFETY: tasks only read the arguments; see `run` for the memory that they lead to.
unsafe impl<A> Sync for Shared<'_, A> {}

impl<A> Shared<'_, A> {
    /// A method, so that closures capture the whole struct and with it its `Sync`.
    fn get(&self) -> &A {
        self.0
    }
}

/// All tasks of a kernel. Every case gives memory as large as its arguments say, and tasks of one kernel write to disjoint
/// elements.
fn run<A>(threads: &dyn Threads, tasks: usize, kernel: unsafe fn(&A, usize), args: &A) {
    let args = Shared(args);
    // SAFETY: as above; the row is one that the CPU supports.
    threads.run(tasks, &|task| unsafe { kernel(args.get(), task) });
}

// --- products -------------------------------------------------------------

/// `[m, k, n]`: of a DiT-S, a DiT-B, an attention's output and a UNet's.
const MATRICES: &[[usize; 3]] = &[
    [256, 384, 1536],
    [256, 1536, 384],
    [64, 768, 3072],
    [64, 3072, 768],
    [1024, 64, 512],
    [4096, 320, 320],
];

fn gemm(kernels: &'static Kernels) -> Cases {
    each(kernels, MATRICES, |kernels, [m, k, n]| {
        product(kernels, [m, k, n], Floats::new(kernels.packed_len(k, n)), false)
    })
}

fn gemm_half(kernels: &'static Kernels) -> Cases {
    each(kernels, MATRICES, |kernels, [m, k, n]| {
        half_product(kernels, [m, k, n], Floats::new(kernels.half.packed_len(k, n).div_ceil(2)), false)
    })
}

/// Rows of a single sample, whose time is that of reading the weights.
const FEW_ROWS: &[[usize; 3]] = &[
    [1, 1024, 1024],
    [4, 1024, 1024],
    [8, 1024, 1024],
    [16, 1024, 1024],
    [1, 512, 1536],
    [1, 768, 4608],
    [16, 768, 3072],
];

fn few_rows(kernels: &'static Kernels) -> Cases {
    each(kernels, FEW_ROWS, |kernels, [m, k, n]| {
        product(kernels, [m, k, n], Floats::cold(kernels.packed_len(k, n)), true)
    })
}

fn few_rows_half(kernels: &'static Kernels) -> Cases {
    each(kernels, FEW_ROWS, |kernels, [m, k, n]| {
        half_product(kernels, [m, k, n], Floats::cold(kernels.half.packed_len(k, n).div_ceil(2)), true)
    })
}

/// Weights of 16 bits; what they are does not matter, as long as no bits are those of an infinity.
fn half_product(kernels: &'static Kernels, [m, k, n]: [usize; 3], mut b: Floats, from_memory: bool) -> Case {
    let (mut a, mut c) = (Floats::new(m * k), Floats::new(m * n));
    b.memory.fill(f32::from_bits(0x3800_3800));
    let (scale, unscale) = (vec![1.0; k], vec![1.0; n]);
    Case {
        shape: format!("{m}x{k}x{n}"),
        half: match kernels.half.arithmetic {
            Arithmetic::Single => false,
            // Few rows are read in half precision, and computed in f32.
            Arithmetic::Half => m > 8,
            Arithmetic::Fixed => true,
        },
        flops: Some((2 * m * k * n) as f64),
        bytes: from_memory.then_some((2 * k * n) as f64),
        call: Box::new(move |threads| {
            let rows = Rows::Matrix { ptr: a.next(), stride: k as isize };
            let gemm = plain([m, k, n], 1, rows, null(), c.next());
            let args = half_args(kernels, gemm, b.next(), [&scale, &unscale]);
            run(threads, kernels.half.gemm_tasks(&args), kernels.half.gemm, &args);
        }),
    }
}

fn half_args(kernels: &Kernels, gemm: GemmArgs, b: *const f32, [scale, unscale]: [&[f32]; 2]) -> HalfArgs {
    let scale = if kernels.half.native() { scale.as_ptr() } else { null() };
    HalfArgs { gemm, b: b.cast(), scale, unscale: unscale.as_ptr(), stretch: 64 }
}

fn product(kernels: &'static Kernels, [m, k, n]: [usize; 3], mut b: Floats, from_memory: bool) -> Case {
    let (mut a, mut c) = (Floats::new(m * k), Floats::new(m * n));
    Case {
        shape: format!("{m}x{k}x{n}"),
        half: false,
        flops: Some((2 * m * k * n) as f64),
        bytes: from_memory.then_some((4 * k * n) as f64),
        call: Box::new(move |threads| {
            let rows = Rows::Matrix { ptr: a.next(), stride: k as isize };
            let args = plain([m, k, n], 1, rows, b.next(), c.next());
            run(threads, kernels.gemm_tasks(&args), kernels.gemm, &args);
        }),
    }
}

/// A product without bias, residual and activation.
fn plain([m, k, n]: [usize; 3], taps: usize, a: Rows, b: *const f32, c: *mut f32) -> GemmArgs {
    let (bias, residual, activation) = (null(), null(), Activation::None);
    GemmArgs { m, n, k, taps, a, b, bias, residual, residual_stride: 0, activation, c, c_stride: n as isize }
}

// --- convolutions ---------------------------------------------------------

/// A convolution of one image, with as much padding as keeps the size.
#[derive(Clone, Copy)]
struct Conv {
    input: [usize; 2],
    channels: [usize; 2],
    kernel: [usize; 2],
    stride: usize,
}

impl Conv {
    const fn new(input: [usize; 2], channels: [usize; 2], kernel: [usize; 2], stride: usize) -> Conv {
        Conv { input, channels, kernel, stride }
    }

    fn shape(&self) -> String {
        let ([h, w], [from, to], [kh, kw]) = (self.input, self.channels, self.kernel);
        let stride = if self.stride == 1 { String::new() } else { format!(" /{}", self.stride) };
        format!("{h}x{w}x{from}->{to} {kh}x{kw}{stride}")
    }

    fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    fn output(&self) -> [usize; 2] {
        self.input.map(|size| size.div_ceil(self.stride))
    }

    /// `[m, k, n]` of the product.
    fn product(&self) -> [usize; 3] {
        let [h, w] = self.output();
        [h * w, self.channels[0], self.channels[1]]
    }

    /// Elements of the input.
    fn len(&self) -> usize {
        self.input[0] * self.input[1] * self.channels[0]
    }

    fn flops(&self) -> f64 {
        let [m, k, n] = self.product();
        (2 * self.taps() * m * k * n) as f64
    }

    fn patches(&self, ptr: *const f32, zeros: *const f32) -> Patches {
        Patches {
            ptr,
            image: self.len() as isize,
            row: (self.input[1] * self.channels[0]) as isize,
            pixel: self.channels[0] as isize,
            input: self.input,
            output: self.output(),
            kernel: self.kernel,
            stride: [if self.input[0] > 1 { self.stride } else { 1 }, self.stride],
            dilation: [1; 2],
            pad: self.kernel.map(|size| size / 2),
            zeros,
        }
    }

    fn direct(self, kernels: &'static Kernels) -> Case {
        let [m, k, n] = self.product();
        let (mut x, mut y) = (Floats::new(self.len()), Floats::new(m * n));
        let (mut b, zeros) = (Floats::new(kernels.packed_len(self.taps() * k, n)), vec![0.0; k]);
        Case {
            shape: self.shape(),
            half: false,
            flops: Some(self.flops()),
            bytes: None,
            call: Box::new(move |threads| {
                let rows = Rows::Patches(self.patches(x.next(), zeros.as_ptr()));
                let args = plain([m, k, n], self.taps(), rows, b.next(), y.next());
                run(threads, kernels.gemm_tasks(&args), kernels.gemm, &args);
            }),
        }
    }

    fn direct_half(self, kernels: &'static Kernels) -> Case {
        let [m, k, n] = self.product();
        let (mut x, mut y, zeros) = (Floats::new(self.len()), Floats::new(m * n), vec![0.0; k]);
        let mut b = Floats::new(kernels.half.packed_len(self.taps() * k, n).div_ceil(2));
        b.memory.fill(f32::from_bits(0x3800_3800));
        let (scale, unscale) = (vec![1.0; k], vec![1.0; n]);
        Case {
            shape: self.shape(),
            half: kernels.half.native(),
            flops: Some(self.flops()),
            bytes: None,
            call: Box::new(move |threads| {
                let rows = Rows::Patches(self.patches(x.next(), zeros.as_ptr()));
                let gemm = plain([m, k, n], self.taps(), rows, null(), y.next());
                let args = half_args(kernels, gemm, b.next(), [&scale, &unscale]);
                run(threads, kernels.half.gemm_tasks(&args), kernels.half.gemm, &args);
            }),
        }
    }

    /// Counted as the direct one that it replaces.
    fn filtered(self, kernels: &'static Kernels) -> Case {
        let [m, k, n] = self.product();
        let (mut x, mut y) = (Floats::new(self.len()), Floats::new(m * n));
        let (mut b, zeros) = (Floats::new(kernels.packed_len(PLACES * k, n)), vec![0.0; k]);
        let mut scratch = Floats::new(winograd_scratch(1, self.output(), k, kernels.format()));
        Case {
            shape: self.shape(),
            half: false,
            flops: Some(self.flops()),
            bytes: None,
            call: Box::new(move |threads| {
                let rows = Rows::Patches(self.patches(x.next(), zeros.as_ptr()));
                let product = plain([m, k, n], PLACES, rows, b.next(), y.next());
                let args = WinogradArgs { product, scratch: scratch.next() };
                let (args, areas) = (Shared(&args), Areas::default());
                threads.run(kernels.winograd_tasks(args.get()), &|task| {
                    // SAFETY: as for `run`.
                    areas.enter(task, |at| unsafe { (kernels.winograd)(args.get(), at) });
                });
            }),
        }
    }
}

/// Of the terrain model, and of UNets from the first level to the last.
const SQUARES: &[Conv] = &[
    Conv::new([128, 128], [32, 32], [3, 3], 1),
    Conv::new([64, 64], [64, 64], [3, 3], 1),
    Conv::new([8, 8], [256, 256], [3, 3], 1),
    Conv::new([64, 64], [320, 320], [3, 3], 1),
];

fn conv3x3_half(kernels: &'static Kernels) -> Cases {
    each(kernels, SQUARES, |kernels, conv| conv.direct_half(kernels))
}

fn conv3x3(kernels: &'static Kernels) -> Cases {
    each(kernels, SQUARES, |kernels, conv| conv.direct(kernels))
}

fn winograd(kernels: &'static Kernels) -> Cases {
    each(kernels, SQUARES, |kernels, conv| conv.filtered(kernels))
}

fn conv1x1(kernels: &'static Kernels) -> Cases {
    const CONVS: &[Conv] =
        &[Conv::new([128, 128], [64, 32], [1, 1], 1), Conv::new([16, 16], [512, 256], [1, 1], 1)];
    each(kernels, CONVS, |kernels, conv| conv.direct(kernels))
}

fn strided(kernels: &'static Kernels) -> Cases {
    const CONVS: &[Conv] =
        &[Conv::new([128, 128], [32, 32], [3, 3], 2), Conv::new([64, 64], [320, 320], [3, 3], 2)];
    each(kernels, CONVS, |kernels, conv| conv.direct(kernels))
}

/// Those of a diffusion policy: few positions, many channels.
fn conv1d(kernels: &'static Kernels) -> Cases {
    const CONVS: &[Conv] = &[
        Conv::new([1, 16], [256, 256], [1, 5], 1),
        Conv::new([1, 8], [512, 512], [1, 5], 1),
        Conv::new([1, 4], [1024, 1024], [1, 5], 1),
        Conv::new([1, 4], [2048, 512], [1, 5], 1),
    ];
    each(kernels, CONVS, |kernels, conv| conv.direct(kernels))
}

fn depthwise(kernels: &'static Kernels) -> Cases {
    const CONVS: &[Conv] =
        &[Conv::new([64, 64], [256, 256], [3, 3], 1), Conv::new([32, 32], [384, 384], [7, 7], 1)];
    each(kernels, CONVS, |kernels, conv| {
        let [m, channels, _] = conv.product();
        let (mut x, mut y) = (Floats::cold(conv.len()), Floats::cold(m * channels));
        let (mut b, zeros) = (Floats::new(conv.taps() * channels), vec![0.0; channels]);
        Case {
            shape: conv.shape(),
            half: false,
            flops: Some((2 * conv.taps() * m * channels) as f64),
            bytes: Some((4 * (conv.len() + m * channels)) as f64),
            call: Box::new(move |threads| {
                let a = conv.patches(x.next(), zeros.as_ptr());
                let (b, c, c_stride) = (b.next().cast_const(), y.next(), channels as isize);
                let activation = Activation::None;
                let args = DepthwiseArgs { m, channels, a, b, bias: null(), activation, c, c_stride };
                run(threads, kernels.depthwise_tasks(&args), kernels.depthwise, &args);
            }),
        }
    })
}

// --- the rest -------------------------------------------------------------

/// `[tokens, channels of a head]`.
fn attention(kernels: &'static Kernels) -> Cases {
    each(kernels, &[[1024, 32], [256, 64], [1024, 8]], |kernels, [n, depth]| {
        let [mut q, mut k, mut v, mut y] = std::array::from_fn(|_| Floats::new(n * depth));
        let shape = AttentionShape { heads: 1, m: n, n, depth, values: depth };
        let mut scratch = Floats::new(attention_scratch(&shape, kernels.nr).expect("a size"));
        let operand = move |floats: &mut Floats, dims: [usize; 2], strides: [usize; 2]| {
            let layout = Layout::new(&dims, &strides.map(|stride| stride as isize)).expect("two dimensions");
            Operand { ptr: floats.next().cast(), dtype: DType::F32, layout }
        };
        Case {
            shape: format!("{n}x{n}x{depth}"),
            half: kernels.half.attention,
            flops: Some((4 * n * n * depth) as f64),
            bytes: None,
            call: Box::new(move |threads| {
                let args = AttentionArgs {
                    half: kernels.half.attention,
                    scale: 1.0 / (depth as f32).sqrt(),
                    q: operand(&mut q, [n, depth], [depth, 1]),
                    k: operand(&mut k, [depth, n], [1, depth]),
                    v: operand(&mut v, [n, depth], [depth, 1]),
                    y: operand(&mut y, [n, depth], [depth, 1]),
                    scratch: scratch.next(),
                };
                let args = Shared(&args);
                for phase in 0..kernels.attention_phases(args.get()) {
                    let areas = Areas::default();
                    threads.run(kernels.attention_tasks(args.get(), phase), &|task| {
                        // SAFETY: as for `run`; phases begin when the one before has ended.
                        areas.enter(task, |at| unsafe { (kernels.attention)(args.get(), phase, at) });
                    });
                }
            }),
        }
    })
}

/// `[images, rows, channels, groups]`: group normalisations of UNets, a layer normalisation of a DiT.
fn norm(kernels: &'static Kernels) -> Cases {
    const SHAPES: &[[usize; 4]] = &[[1, 4096, 320, 32], [1, 1024, 64, 32], [256, 1, 384, 1]];
    each(kernels, SHAPES, |kernels, [n, s, c, groups]| {
        let (mut x, mut y) = (Floats::cold(n * s * c), Floats::cold(n * s * c));
        let (mut gamma, mut beta) = (Floats::new(c), Floats::new(c));
        let mut scratch = Floats::new(norm_scratch(n, s, c, groups));
        Case {
            shape: format!("{n}x{s}x{c}, {groups} groups"),
            half: false,
            flops: None,
            bytes: Some((8 * n * s * c) as f64),
            call: Box::new(move |threads| {
                let args = NormArgs {
                    half: kernels.half.attention,
                    n,
                    s,
                    c,
                    groups,
                    center: true,
                    epsilon: 1e-5,
                    x: x.next(),
                    x_image: (s * c) as isize,
                    x_row: c as isize,
                    gamma: gamma.next(),
                    beta: beta.next(),
                    activation: Activation::None,
                    y: y.next(),
                    y_image: (s * c) as isize,
                    y_row: c as isize,
                    scratch: scratch.next(),
                };
                let args = Shared(&args);
                for phase in 0..kernels.norm_phases() {
                    threads.run(kernels.norm_tasks(args.get(), phase), &|task| {
                        // SAFETY: as for `run`; phases begin when the one before has ended.
                        unsafe { (kernels.norm)(args.get(), phase, task) }
                    });
                }
            }),
        }
    })
}

fn softmax(kernels: &'static Kernels) -> Cases {
    each(kernels, &[[1024, 1024], [1024, 77]], |kernels, [rows, n]| {
        let (mut x, mut y) = (Floats::cold(rows * n), Floats::cold(rows * n));
        Case {
            shape: format!("{rows}x{n}"),
            half: false,
            flops: None,
            bytes: Some((8 * rows * n) as f64),
            call: Box::new(move |threads| {
                let (x_stride, y_stride) = (n as isize, n as isize);
                let args = SoftmaxArgs { rows, n, scale: 1.0, x: x.next(), x_stride, y: y.next(), y_stride };
                run(threads, kernels.softmax_tasks(&args), kernels.softmax, &args);
            }),
        }
    })
}

/// An element-wise program over dense operands.
#[derive(Clone, Copy)]
struct Program {
    name: &'static str,
    inputs: usize,
    steps: &'static [MapStep],
}

fn map(kernels: &'static Kernels) -> Cases {
    const STEP: MapStep = MapStep { code: MapCode::Add, dst: 2, a: 0, b: 1, c: 0, immediate: 0.0 };
    const PROGRAMS: &[Program] = &[
        Program { name: "a + b", inputs: 2, steps: &[STEP] },
        Program { name: "silu(a)", inputs: 1, steps: &[MapStep { code: MapCode::Silu, dst: 1, ..STEP }] },
        Program { name: "gelu(a)", inputs: 1, steps: &[MapStep { code: MapCode::Gelu, dst: 1, ..STEP }] },
    ];
    const LEN: usize = 64 * 64 * 320;
    each(kernels, PROGRAMS, |kernels, program| {
        let layout = Layout::new(&[LEN], &[1]).expect("one dimension");
        let operand =
            move |floats: &mut Floats| Operand { ptr: floats.next().cast(), dtype: DType::F32, layout };
        let mut inputs: Vec<Floats> = (0..program.inputs).map(|_| Floats::cold(LEN)).collect();
        let mut y = Floats::cold(LEN);
        Case {
            shape: format!("{}, {LEN}", program.name),
            half: false,
            flops: None,
            bytes: Some((4 * LEN * (program.inputs + 1)) as f64),
            call: Box::new(move |threads| {
                let inputs: Vec<Operand> = inputs.iter_mut().map(operand).collect();
                let args = MapArgs { steps: program.steps, inputs: &inputs, output: operand(&mut y) };
                run(threads, kernels.map_tasks(&args), kernels.map, &args);
            }),
        }
    })
}
