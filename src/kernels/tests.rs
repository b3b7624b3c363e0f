//! Every kernel of every instruction set that this CPU has, against naive scalar code in f64.
//!
//! Each check runs the tasks twice, first to last and last to first, and asks for the same bits.

extern crate std;

use super::*;
use std::{vec, vec::Vec};

/// Half a unit in the last place of 1.
const EPS: f64 = f32::EPSILON as f64 / 2.0;
/// Half a unit in the last place of 1 in half precision.
const HALF_EPS: f64 = 1.0 / 2048.0;
/// What outputs hold before a kernel runs; must survive where it has no business.
const UNTOUCHED: f32 = 12345.0;

fn rows() -> impl Iterator<Item = &'static Kernels> {
    cpu::ROWS.iter().filter(|row| row.isa.supported())
}

/// Whether a multiply-add rounds its product too.
fn rounds_twice(row: &Kernels) -> bool {
    matches!(row.isa, Isa::Portable | Isa::WasmSimd128)
}

/// Splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn flip(&mut self) -> bool {
        self.below(2) == 0
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// In -1..1.
    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / 8_388_608.0 - 1.0
    }

    fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.unit()).collect()
    }
}

/// Floats on a 64-byte boundary.
struct Aligned(Vec<f32>, usize);

impl Aligned {
    fn new(len: usize) -> Aligned {
        let buffer = vec![f32::NAN; len + 16];
        let skip = buffer.as_ptr().align_offset(64);
        Aligned(buffer, skip)
    }

    fn ptr(&mut self) -> *mut f32 {
        self.0[self.1..].as_mut_ptr()
    }
}

fn ptr_or_null(v: &[f32], there: bool) -> *const f32 {
    if there { v.as_ptr() } else { core::ptr::null() }
}

/// Runs tasks in order, or backwards.
fn run(tasks: usize, backwards: bool, mut task: impl FnMut(usize)) {
    for i in 0..tasks {
        task(if backwards { tasks - 1 - i } else { i });
    }
}

/// A task in an area that no other is in at the same time.
fn at(task: usize) -> At {
    At { task, area: 0 }
}

/// The buffer after `kernel` ran in order, checked to be the same after it ran backwards.
fn both_orders<T: Copy>(buffer: &[T], bits: impl Fn(T) -> u64, kernel: impl Fn(*mut T, bool)) -> Vec<T> {
    let (mut forward, mut backward) = (buffer.to_vec(), buffer.to_vec());
    kernel(forward.as_mut_ptr(), false);
    kernel(backward.as_mut_ptr(), true);
    for (i, (&a, &b)) in forward.iter().zip(&backward).enumerate() {
        assert_eq!(bits(a), bits(b), "element {i} depends on the order of tasks");
    }
    forward
}

fn float_bits(x: f32) -> u64 {
    u64::from(x.to_bits())
}

#[track_caller]
fn close(got: f32, want: f64, tolerance: f64, what: &dyn core::fmt::Debug) {
    if want.is_nan() {
        return assert!(got.is_nan(), "got {got}, want NaN: {what:?}");
    }
    let same = f64::from(got) == want || (f64::from(got) - want).abs() <= tolerance || got == want as f32;
    assert!(same, "got {got}, want {want}, tolerance {tolerance}: {what:?}");
}

/// Fails if the CPU met a denormal operand or result in any step of what runs here. x86-64 keeps flags of that.
#[track_caller]
fn without_denormals(what: &dyn core::fmt::Debug, kernel: impl FnOnce()) {
    #[cfg(target_arch = "x86_64")]
    {
        const DENORMAL_OPERAND: u32 = 1 << 1;
        const UNDERFLOW: u32 = 1 << 4;
        const MASKED_AND_CLEAR: u32 = 0x1f80;
        let mut flags = MASKED_AND_CLEAR;
        // SAFETY: the state that a program begins with.
        unsafe { core::arch::asm!("ldmxcsr [{}]", in(reg) &flags, options(nostack, readonly)) };
        kernel();
        // SAFETY: it writes the four bytes that it is given.
        unsafe { core::arch::asm!("stmxcsr [{}]", in(reg) &mut flags, options(nostack)) };
        assert_eq!(flags & (DENORMAL_OPERAND | UNDERFLOW), 0, "met a denormal: {what:?}");
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = what;
        kernel();
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-x))
}

fn activation(a: Activation, x: f64) -> f64 {
    match a {
        Activation::None => x,
        Activation::Relu => x.max(0.0),
        Activation::Sigmoid => sigmoid(x),
        Activation::Tanh => libm::tanh(x),
        Activation::Silu => x * sigmoid(x),
        Activation::Gelu => 0.5 * x * libm::erfc(-x / core::f64::consts::SQRT_2),
        Activation::GeluTanh => gelu_tanh(x),
        Activation::Mish => x * libm::tanh(softplus(x)),
    }
}

fn gelu_tanh(x: f64) -> f64 {
    0.5 * x * (1.0 + libm::tanh((2.0 / core::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)))
}

fn softplus(x: f64) -> f64 {
    x.max(0.0) + libm::log1p(libm::exp(-x.abs()))
}

const ACTIVATIONS: [Activation; 8] = [
    Activation::None,
    Activation::Relu,
    Activation::Sigmoid,
    Activation::Tanh,
    Activation::Silu,
    Activation::Gelu,
    Activation::GeluTanh,
    Activation::Mish,
];

/// The largest slope of an activation is below 1.2; its own error is a few units of its argument's size.
const ACTIVATION_SLOPE: f64 = 1.2;
const ACTIVATION_ULPS: f64 = 8.0;

fn after_activation(a: Activation, x: f64, tolerance: f64) -> (f64, f64) {
    match a {
        Activation::None | Activation::Relu => (activation(a, x), tolerance),
        _ => (
            activation(a, x),
            ACTIVATION_SLOPE * tolerance + ACTIVATION_ULPS * EPS * x.abs().max(activation(a, x)),
        ),
    }
}

mod gemm {
    use super::*;

    /// Rounding errors of a sum of k products are below (k + this) units of the sum of magnitudes.
    const EXTRA: f64 = 8.0;

    /// Packs B[k, n] of row-major or column-major memory and checks the panels.
    fn packed(row: &Kernels, b: &[f32], k: usize, n: usize, transposed: bool) -> Aligned {
        let mut to = Aligned::new(row.packed_len(k, n));
        let strides = if transposed { [1, k as isize] } else { [n as isize, 1] };
        let args = PackArgs { ptr: b.as_ptr(), strides, k, n, packed: to.ptr() };
        // SAFETY: B and the panels are as large as the arguments say.
        run(row.pack_tasks(&args), false, |task| unsafe { (row.pack)(&args, task) });
        for i in 0..row.packed_len(k, n) {
            let (panel, rest) = (i / (row.nr * k), i % (row.nr * k));
            let (depth, column) = (rest / row.nr, panel * row.nr + rest % row.nr);
            let at = if transposed { column * k + depth } else { depth * n + column };
            let want = if column < n { b[at] } else { 0.0 };
            assert_eq!(to.0[to.1 + i], want, "{} panel {panel} depth {depth} column {column}", row.isa);
        }
        to
    }

    /// C by the definition, and the sum of magnitudes.
    pub(super) struct Oracle<'a> {
        pub(super) a: &'a dyn Fn(usize, usize, usize) -> f32,
        pub(super) b: &'a dyn Fn(usize, usize, usize) -> f32,
    }

    impl Oracle<'_> {
        fn at(&self, m: usize, n: usize, taps: usize, k: usize) -> (f64, f64) {
            let (mut sum, mut size) = (0.0, 0.0);
            for tap in 0..taps {
                for k in 0..k {
                    let product = f64::from((self.a)(m, tap, k)) * f64::from((self.b)(tap, k, n));
                    sum += product;
                    size += product.abs();
                }
            }
            (sum, size)
        }
    }

    pub(super) struct Case {
        bias: bool,
        residual: bool,
        in_place: bool,
        activation: Activation,
    }

    pub(super) fn case(random: &mut Random) -> Case {
        Case {
            bias: random.flip(),
            residual: random.flip(),
            in_place: random.flip(),
            activation: random.pick(&ACTIVATIONS),
        }
    }

    /// Runs one GEMM and checks it.
    fn check(row: &Kernels, random: &mut Random, case: &Case, args: GemmArgs, oracle: &Oracle) {
        let size = EPS * ((args.taps * args.k) as f64 + EXTRA);
        // SAFETY: all memory is as large as the arguments say.
        let gemm = |args: &GemmArgs, backwards| unsafe {
            run(row.gemm_tasks(args), backwards, |task| (row.gemm)(args, task));
        };
        check_by(row, random, case, args, oracle, size, &gemm);
    }

    /// Runs what computes a GEMM and checks it, to so much of the sum of magnitudes.
    pub(super) fn check_by(
        row: &Kernels,
        random: &mut Random,
        case: &Case,
        mut args: GemmArgs,
        oracle: &Oracle,
        relative: f64,
        kernel: &dyn Fn(&GemmArgs, bool),
    ) {
        let (m, n) = (args.m, args.n);
        let (bias, residual) = (random.floats(n), random.floats(m * (n + 3)));
        args.bias = ptr_or_null(&bias, case.bias);
        args.activation = case.activation;
        let mut buffer = vec![UNTOUCHED; m * (n + 3)];
        if case.in_place && case.residual {
            for i in (0..buffer.len()).filter(|i| i % (n + 3) < n) {
                buffer[i] = residual[i];
            }
        }
        let c = both_orders(&buffer, float_bits, |c, backwards| {
            let mut args = GemmArgs { c, c_stride: n as isize + 3, residual_stride: n as isize + 3, ..args };
            args.residual = if case.in_place { c } else { residual.as_ptr() };
            if !case.residual {
                args.residual = core::ptr::null();
            }
            kernel(&args, backwards);
        });
        for (i, &got) in c.iter().enumerate() {
            let (y, x) = (i / (n + 3), i % (n + 3));
            if x >= n {
                assert_eq!(got, UNTOUCHED);
                continue;
            }
            let (mut sum, mut size) = oracle.at(y, x, args.taps, args.k);
            for extra in [(case.bias, bias[x]), (case.residual, residual[i])] {
                if extra.0 {
                    sum += f64::from(extra.1);
                    size += f64::from(extra.1).abs();
                }
            }
            let (want, tolerance) = after_activation(case.activation, sum, relative * size);
            close(got, want, tolerance, &(row.isa, m, n, args.k, y, x, case.activation));
        }
    }

    /// A product without anything around it.
    pub(super) fn plain([m, n, k]: [usize; 3], taps: usize, a: Rows) -> GemmArgs {
        GemmArgs {
            m,
            n,
            k,
            taps,
            a,
            b: core::ptr::null(),
            bias: core::ptr::null(),
            residual: core::ptr::null(),
            residual_stride: 0,
            activation: Activation::None,
            c: core::ptr::null_mut(),
            c_stride: 0,
        }
    }

    /// From a row of A to the next: now and then one by which rows compete for the same lines of a cache.
    pub(super) fn stride(random: &mut Random, k: usize) -> usize {
        if random.flip() { k.next_multiple_of(1024) } else { k + random.below(5) }
    }

    fn matrix(row: &Kernels, random: &mut Random, [m, n, k]: [usize; 3]) {
        let stride = stride(random, k);
        let (a, b) = (random.floats(m * stride + 1), random.floats(k * n));
        let transposed = random.flip();
        let mut panels = packed(row, &b, k, n, transposed);
        let oracle = Oracle {
            a: &|m, _, k| a[m * stride + k],
            b: &|_, i, n_| if transposed { b[n_ * k + i] } else { b[i * n + n_] },
        };
        let rows = Rows::Matrix { ptr: a.as_ptr(), stride: stride as isize };
        let args = GemmArgs { b: panels.ptr(), ..plain([m, n, k], 1, rows) };
        let case = case(random);
        check(row, random, &case, args, &oracle);
    }

    #[test]
    fn matrices() {
        let (ms, ns) = ([0, 1, 2, 3, 5, 7, 12, 13, 15, 29, 131], [1, 2, 7, 8, 16, 17, 31, 33, 65, 100]);
        let ks = [0, 1, 2, 3, 17, 64, 511, 513, 1100];
        for row in rows() {
            let mut random = Random(1);
            for _ in 0..150 {
                let size = [random.pick(&ms), random.pick(&ns), random.pick(&ks)];
                matrix(row, &mut random, size);
            }
            for size in [[1, 300, 300], [700, 40, 70], [14, 600, 33], [300, 300, 65]] {
                matrix(row, &mut random, size);
            }
        }
    }

    #[test]
    fn convolutions() {
        for row in rows() {
            let mut random = Random(2);
            for _ in 0..60 {
                let image = Image::random(&mut random, &[1, 3, 4, 16, 30]);
                convolution(row, &mut random, &image);
            }
            let mut image = Image::random(&mut random, &[64]);
            image.channels = 700;
            image.data = random.floats(image.n * image.input[0] * image.input[1] * 702);
            convolution(row, &mut random, &image);
        }
    }

    fn convolution(row: &Kernels, random: &mut Random, image: &Image) {
        let (n, k, taps) = (random.pick(&[1, 3, 16, 40]), image.channels, image.kernel[0] * image.kernel[1]);
        let b = random.floats(taps * k * n);
        let mut panels = packed(row, &b, taps * k, n, false);
        let zeros = vec![0.0; k];
        let oracle = Oracle {
            a: &|m, tap, k| image.at(m, tap, k).unwrap_or(0.0),
            b: &|tap, i, n_| b[(tap * k + i) * n + n_],
        };
        let args = of_image(image, &zeros, n, &mut panels);
        let case = case(random);
        check(row, random, &case, args, &oracle);
    }

    /// A convolution of an image; the check adds what a case has.
    fn of_image(image: &Image, zeros: &[f32], n: usize, panels: &mut Aligned) -> GemmArgs {
        let taps = image.kernel[0] * image.kernel[1];
        let args = plain([image.pixels(), n, image.channels], taps, Rows::Patches(image.patches(zeros)));
        GemmArgs { b: panels.ptr(), ..args }
    }

    #[test]
    fn winograd() {
        for row in rows() {
            let mut random = Random(7);
            for _ in 0..40 {
                let image = three_by_three(&mut random);
                filtered(row, &mut random, &image);
            }
        }
    }

    /// An image that Winograd's method convolves.
    pub(super) fn three_by_three(random: &mut Random) -> Image {
        let mut image = Image::random(random, &[1, 3, 16, 30]);
        (image.kernel, image.stride, image.dilation) = ([3, 3], [1, 1], [1, 1]);
        for i in 0..2 {
            image.pad[i] = random.below(3);
            image.input[i] = 3 + random.below(30);
            image.output[i] = image.input[i] + image.pad[i] + random.below(3) - 2;
        }
        image.data = random.floats(image.n * image.input[0] * image.input[1] * (image.channels + 2));
        image
    }

    /// The weights of all places, from those of nine taps: `[places][k * n]`.
    pub(super) fn places(b: &[f32], kn: usize) -> Vec<f32> {
        let mut places = vec![0.0; PLACES * kn];
        for i in 0..kn {
            let taps = core::array::from_fn(|tap| f64::from(b[tap * kn + i]));
            for (place, value) in winograd_weights(&taps).into_iter().enumerate() {
                places[place * kn + i] = value as f32;
            }
        }
        places
    }

    fn filtered(row: &Kernels, random: &mut Random, image: &Image) {
        let (n, k) = (random.pick(&[1, 3, 16, 40]), image.channels);
        let b = random.floats(9 * k * n);
        let mut panels = packed(row, &places(&b, k * n), PLACES * k, n, false);
        let zeros = vec![0.0; k];
        let oracle = Oracle {
            a: &|m, tap, k| image.at(m, tap, k).unwrap_or(0.0),
            b: &|tap, i, n_| b[(tap * k + i) * n + n_],
        };
        let args = of_image(image, &zeros, n, &mut panels);
        let floats = winograd_scratch(image.n, image.output, k, row.format());
        let filter = |args: &GemmArgs, backwards| {
            let mut scratch = Aligned::new(floats);
            let product = GemmArgs { taps: PLACES, ..*args };
            let args = WinogradArgs { product, scratch: scratch.ptr() };
            // SAFETY: all memory is as large as the arguments say.
            run(row.winograd_tasks(&args), backwards, |task| unsafe { (row.winograd)(&args, at(task)) });
        };
        let case = case(random);
        // The transforms multiply rounding: a patch's largest values count for all of its pixels. Magnitudes of random
        // values below 1 differ little, so a multiple of the direct bound holds.
        let relative = 12.0 * EPS * ((9 * k) as f64 + 40.0);
        check_by(row, random, &case, args, &oracle, relative, &filter);
    }
}

#[cfg(feature = "f16")]
mod half {
    use super::*;
    use ::half::f16;

    fn rows() -> impl Iterator<Item = &'static Kernels> {
        super::rows().filter(|row| row.half.arithmetic != Arithmetic::Fixed)
    }

    /// Packs B[k, n], rounded to half precision.
    fn packed(row: &Kernels, b: &[f32], k: usize, n: usize) -> Halves {
        let nr = row.half.nr;
        let mut to = Halves(vec![0; row.half.packed_len(k, n) + 32]);
        let (first, panels) = (to.first(), &mut to.0);
        for (i, half) in panels[first..first + row.half.packed_len(k, n)].iter_mut().enumerate() {
            let (panel, rest) = (i / (nr * k), i % (nr * k));
            let (depth, column) = (rest / nr, panel * nr + rest % nr);
            *half = if column < n { f16::from_f32(b[depth * n + column]).to_bits() } else { 0 };
        }
        to
    }

    /// On a 64-byte boundary.
    pub(super) struct Halves(pub(super) Vec<u16>);

    impl Halves {
        pub(super) fn first(&self) -> usize {
            self.0.as_ptr().align_offset(64)
        }

        pub(super) fn ptr(&self) -> *const u16 {
            self.0[self.first()..].as_ptr()
        }
    }

    /// Powers of two.
    pub(super) fn powers(random: &mut Random, n: usize) -> Vec<f32> {
        (0..n).map(|_| 2f32.powi(random.below(9) as i32 - 4)).collect()
    }

    fn round(x: f32) -> f32 {
        f16::from_f32(x).to_f32()
    }

    /// The bound of a product of depth k: what rounding A to half precision and summing in it may make of the sum of
    /// magnitudes, where kernels do.
    fn relative(row: &Kernels, m: usize, k: usize, stretch: usize) -> f64 {
        let single = EPS * (k as f64 + 8.0);
        if row.half.native() && m > row.half.few {
            single + HALF_EPS * (stretch as f64 + 1.0)
        } else {
            single
        }
    }

    fn check(
        row: &Kernels,
        random: &mut Random,
        mut args: GemmArgs,
        a: &dyn Fn(usize, usize, usize) -> f32,
        b: &[f32],
    ) {
        let (k, n, stretch) = (args.k, args.n, random.pick(&[1, 7, 16, 64]));
        let (scale, unscale) = (powers(random, k), powers(random, n));
        let panels = packed(row, b, args.taps * k, n);
        let scaled = |k: usize| if row.half.native() { scale[k] } else { 1.0 };
        let oracle = gemm::Oracle {
            a: &|m, tap, k| a(m, tap, k) * scaled(k),
            b: &|tap, i, j| round(b[(tap * k + i) * n + j]) * unscale[j],
        };
        let depth = args.taps * k;
        let relative = relative(row, args.m, depth, stretch);
        let half = |args: &GemmArgs, backwards| {
            let scale = if row.half.native() { scale.as_ptr() } else { core::ptr::null() };
            let args = HalfArgs { gemm: *args, b: panels.ptr(), scale, unscale: unscale.as_ptr(), stretch };
            // SAFETY: all memory is as large as the arguments say.
            run(row.half.gemm_tasks(&args), backwards, |task| unsafe { (row.half.gemm)(&args, task) });
        };
        args.b = core::ptr::null();
        let case = gemm::case(random);
        gemm::check_by(row, random, &case, args, &oracle, relative, &half);
    }

    #[test]
    fn matrices() {
        let (ms, ns) = ([0, 1, 2, 5, 7, 8, 9, 13, 14, 15, 29, 131], [1, 2, 7, 16, 31, 33, 65, 100, 130]);
        let ks = [0, 1, 2, 3, 17, 64, 65, 511, 513, 1100];
        for row in rows() {
            let mut random = Random(11);
            for _ in 0..120 {
                let [m, n, k] = [random.pick(&ms), random.pick(&ns), random.pick(&ks)];
                let stride = gemm::stride(&mut random, k);
                let (a, b) = (random.floats(m * stride + 1), random.floats(k * n));
                let rows = Rows::Matrix { ptr: a.as_ptr(), stride: stride as isize };
                let args = gemm::plain([m, n, k], 1, rows);
                check(row, &mut random, args, &|m, _, k| a[m * stride + k], &b);
            }
        }
    }

    #[test]
    fn convolutions() {
        for row in rows() {
            let mut random = Random(12);
            for _ in 0..60 {
                let image = Image::random(&mut random, &[1, 3, 16, 30, 64]);
                let (n, k, taps) =
                    (random.pick(&[1, 3, 16, 40, 70]), image.channels, image.kernel[0] * image.kernel[1]);
                let (b, zeros) = (random.floats(taps * k * n), vec![0.0; k]);
                let args = gemm::plain([image.pixels(), n, k], taps, Rows::Patches(image.patches(&zeros)));
                check(row, &mut random, args, &|m, tap, k| image.at(m, tap, k).unwrap_or(0.0), &b);
            }
        }
    }

    #[test]
    fn winograd() {
        for row in rows() {
            let mut random = Random(15);
            for _ in 0..40 {
                let image = gemm::three_by_three(&mut random);
                filtered(row, &mut random, &image);
            }
        }
    }

    fn filtered(row: &Kernels, random: &mut Random, image: &Image) {
        let (n, k, stretch) =
            (random.pick(&[1, 3, 16, 40, 70]), image.channels, random.pick(&[1, 7, 16, 64]));
        let (b, zeros) = (random.floats(9 * k * n), vec![0.0; k]);
        let (scale, unscale) = (powers(random, k), powers(random, n));
        let panels = packed(row, &gemm::places(&b, k * n), PLACES * k, n);
        let scaled = |k: usize| if row.half.native() { scale[k] } else { 1.0 };
        let oracle = gemm::Oracle {
            a: &|m, tap, k| image.at(m, tap, k).unwrap_or(0.0) * scaled(k),
            b: &|tap, i, j| b[(tap * k + i) * n + j] * unscale[j],
        };
        let floats = winograd_scratch(image.n, image.output, k, row.half.format());
        let filter = |args: &GemmArgs, backwards| {
            let mut scratch = Aligned::new(floats);
            let scale = if row.half.native() { scale.as_ptr() } else { core::ptr::null() };
            let gemm = GemmArgs { taps: PLACES, ..*args };
            let product = HalfArgs { gemm, b: panels.ptr(), scale, unscale: unscale.as_ptr(), stretch };
            let args = WinogradArgs { product, scratch: scratch.ptr() };
            // SAFETY: all memory is as large as the arguments say.
            run(row.half.winograd_tasks(&args), backwards, |task| unsafe {
                (row.half.winograd)(&args, at(task))
            });
        };
        // Weights are rounded once they are transformed, and so is A where kernels compute in half precision; errors of
        // sums grow with the square root. The transforms multiply that, most of all where a pixel has few and small
        // products and its patch larger ones.
        let roundings = if row.half.native() { 2.0 + (stretch as f64).sqrt() } else { 1.0 };
        let relative = 12.0 * EPS * ((9 * k) as f64 + 40.0) + 50.0 * HALF_EPS * roundings;
        let case = gemm::case(random);
        let rows = Rows::Patches(image.patches(&zeros));
        let args = gemm::plain([image.pixels(), n, k], 9, rows);
        gemm::check_by(row, random, &case, args, &oracle, relative, &filter);
    }

    /// What a product with nothing around it makes of A[m, 1] and B[1, n].
    fn outer(row: &Kernels, a: &[f32], b: &[f32]) -> Vec<f32> {
        let (m, n) = (a.len(), b.len());
        let panels = packed(row, b, 1, n);
        let mut c = vec![UNTOUCHED; m * n];
        let rows = Rows::Matrix { ptr: a.as_ptr(), stride: 1 };
        let gemm = GemmArgs { c: c.as_mut_ptr(), c_stride: n as isize, ..gemm::plain([m, n, 1], 1, rows) };
        let (scale, unscale) = (core::ptr::null(), core::ptr::null());
        let args = HalfArgs { gemm, b: panels.ptr(), scale, unscale, stretch: 16 };
        // SAFETY: all memory is as large as the arguments say.
        run(row.half.gemm_tasks(&args), false, |task| unsafe { (row.half.gemm)(&args, task) });
        c
    }

    fn same(a: f32, b: f32) -> bool {
        a == b || (a.is_nan() && b.is_nan())
    }

    /// Every value of half precision, as kernels widen it: as it is, and, with more rows, once it is multiplied.
    #[test]
    fn widening() {
        let all: Vec<f32> = (0..=u16::MAX).map(|bits| f16::from_bits(bits).to_f32()).collect();
        for row in rows() {
            for m in [1, 9] {
                for (i, &got) in outer(row, &vec![1.0; m], &all).iter().enumerate() {
                    let want = all[i % all.len()];
                    assert!(same(got, want), "{} {m}: got {got}, want {want}", row.isa);
                }
            }
        }
    }

    /// Values of every magnitude, as kernels that compute in half precision round them.
    #[test]
    fn narrowing() {
        let mut random = Random(14);
        let values: Vec<f32> = (0..200_000).map(|_| f32::from_bits(random.next() as u32)).collect();
        for row in rows().filter(|row| row.half.native()) {
            for (&x, got) in values.iter().zip(outer(row, &values, &[1.0])) {
                assert!(same(got, round(x)), "{}: got {got}, want {x} rounded", row.isa);
            }
        }
    }

    /// All bit patterns but NaN's, there and back.
    #[test]
    fn conversions() {
        fn one<V: Simd>() {
            for bits in 0..=u16::MAX {
                let (half, mut lanes, mut back) = ([bits; 16], [0f32; 16], [0u16; 16]);
                // SAFETY: sixteen values are as many as any vector has.
                unsafe {
                    let wide = V::load_half(half.as_ptr());
                    wide.store(lanes.as_mut_ptr());
                    wide.store_half(back.as_mut_ptr());
                }
                let wanted = f16::from_bits(bits).to_f32();
                if wanted.is_nan() {
                    assert!(lanes[0].is_nan() && f16::from_bits(back[0]).is_nan());
                } else {
                    assert_eq!((lanes[0].to_bits(), back[0]), (wanted.to_bits(), bits));
                }
            }
        }
        one::<cpu::Portable>();
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        one::<cpu::Wasm128>();
    }

    /// Between, beyond and below what half precision has.
    #[test]
    fn rounding() {
        fn one<V: Simd>() {
            let mut random = Random(13);
            for _ in 0..200_000 {
                let x = f32::from_bits(random.next() as u32);
                let mut half = [0u16; 16];
                // SAFETY: sixteen values are as many as any vector has.
                unsafe { V::splat(x).store_half(half.as_mut_ptr()) };
                let wanted = f16::from_f32(x);
                assert!(
                    half[0] == wanted.to_bits() || (wanted.is_nan() && f16::from_bits(half[0]).is_nan()),
                    "{x}"
                );
            }
        }
        one::<cpu::Portable>();
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        one::<cpu::Wasm128>();
    }

    use simd::Simd;
}

/// Relative error of a gate beside fixed point: of a reciprocal in fourteen bits, and of a polynomial.
const FIXED_GATE: f64 = 6.5e-5;

#[cfg(feature = "f16")]
mod fixed {
    use super::half::{Halves, powers};
    use super::*;
    use simd::Simd as _;

    fn rows() -> impl Iterator<Item = &'static Kernels> {
        super::rows().filter(|row| row.half.arithmetic == Arithmetic::Fixed)
    }

    /// The largest weight: as many products of it as are added up in 32 bits stay there.
    const LARGEST: i32 = (i32::MAX as f32 / FIXED_LIMIT) as i32 / FIXED_STRETCH as i32;

    /// Packs B[k, n] of whole numbers.
    fn packed(row: &Kernels, b: &[f32], k: usize, n: usize) -> Halves {
        let (nr, len) = (row.half.nr, row.half.packed_len(k, n));
        let mut to = Halves(vec![0; len + 32]);
        let first = to.first();
        for (depth, column) in (0..k).flat_map(|depth| (0..n).map(move |column| (depth, column))) {
            let (panel, pair) = (column / nr * nr * k, (depth / 2 * nr + column % nr) * 2);
            to.0[first + panel + pair + depth % 2] = b[depth * n + column] as i16 as u16;
        }
        to
    }

    fn weights(random: &mut Random, count: usize) -> Vec<f32> {
        (0..count).map(|_| random.below(2 * LARGEST as usize + 1) as f32 - LARGEST as f32).collect()
    }

    /// Values that are whole numbers of their block's unit, whichever part of a row is a block: every eighth has the largest
    /// magnitude there is.
    fn whole(random: &mut Random, count: usize) -> Vec<f32> {
        let limit = FIXED_LIMIT as usize;
        let value = |random: &mut Random| random.below(2 * limit + 1) as f32 - FIXED_LIMIT;
        let sign = |random: &mut Random| if random.flip() { FIXED_LIMIT } else { -FIXED_LIMIT };
        (0..count).map(|i| if i % 8 == 3 { sign(random) } else { value(random) }).collect()
    }

    fn product(
        row: &Kernels,
        gemm: &GemmArgs,
        panels: &Halves,
        [scale, unscale]: [&[f32]; 2],
        backwards: bool,
    ) {
        let pointer = |values: &[f32]| if values.is_empty() { core::ptr::null() } else { values.as_ptr() };
        let (scale, unscale) = (pointer(scale), pointer(unscale));
        let args = HalfArgs { gemm: *gemm, b: panels.ptr(), scale, unscale, stretch: 1 };
        // SAFETY: all memory is as large as the arguments say.
        run(row.half.gemm_tasks(&args), backwards, |task| unsafe { (row.half.gemm)(&args, task) });
    }

    fn check(
        row: &Kernels,
        random: &mut Random,
        args: GemmArgs,
        a: &dyn Fn(usize, usize, usize) -> f32,
        [b, scale]: [&[f32]; 2],
    ) {
        let (k, n) = (args.k, args.n);
        let unscale = powers(random, n);
        let panels = packed(row, b, args.taps * k, n);
        let oracle = gemm::Oracle {
            a: &|m, tap, k| a(m, tap, k) * scale[k],
            b: &|tap, i, j| b[(tap * k + i) * n + j] * unscale[j],
        };
        let fixed = |args: &GemmArgs, backwards| product(row, args, &panels, [scale, &unscale], backwards);
        let case = gemm::case(random);
        gemm::check_by(row, random, &case, args, &oracle, EPS * ((args.taps * k) as f64 + 8.0), &fixed);
    }

    /// Whole numbers come out as exactly as in f32.
    #[test]
    fn matrices() {
        let (ms, ns) = ([0, 1, 2, 5, 7, 13, 14, 15, 29, 131], [1, 2, 7, 16, 31, 33, 65, 100, 130, 1100]);
        let ks = [0, 8, 16, 24, 64, 120, 128, 136, 512, 520, 1104];
        for row in rows() {
            let mut random = Random(11);
            for _ in 0..120 {
                let [m, n, k] = [random.pick(&ms), random.pick(&ns), random.pick(&ks)];
                let stride = gemm::stride(&mut random, k).next_multiple_of(8);
                let (scale, b) = (powers(&mut random, k), weights(&mut random, k * n));
                let mut a = whole(&mut random, m * stride + 1);
                a.iter_mut()
                    .enumerate()
                    .for_each(|(i, x)| *x /= scale.get(i % stride.max(1)).unwrap_or(&1.0));
                let rows = Rows::Matrix { ptr: a.as_ptr(), stride: stride as isize };
                let args = gemm::plain([m, n, k], 1, rows);
                check(row, &mut random, args, &|m, _, k| a[m * stride + k], [&b, &scale]);
            }
        }
    }

    #[test]
    fn convolutions() {
        for row in rows() {
            let mut random = Random(12);
            for _ in 0..60 {
                let mut image = Image::random(&mut random, &[8, 16, 40, 64, 144]);
                let (n, k, taps) =
                    (random.pick(&[1, 3, 16, 40, 70]), image.channels, image.kernel[0] * image.kernel[1]);
                // Blocks reach over pixels, of which some are zeros: values of few magnitudes are whole in any.
                image.data.iter_mut().for_each(|x| *x = FIXED_LIMIT * (2.0 * *x).trunc());
                let (b, zeros) = (weights(&mut random, taps * k * n), vec![0.0; k]);
                let args = gemm::plain([image.pixels(), n, k], taps, Rows::Patches(image.patches(&zeros)));
                let a = |m, tap, k| image.at(m, tap, k).unwrap_or(0.0);
                check(row, &mut random, args, &a, [&b, &vec![1.0; k]]);
            }
        }
    }

    /// Of any values, and depths that no vector divides: each is off by half a unit at the most.
    #[test]
    fn values_are_rounded_to_units_of_their_row() {
        for row in rows() {
            let mut random = Random(13);
            for k in [2, 6, 30, 34, 126, 130, 258, 514, 1026] {
                let [m, n] = [random.pick(&[1, 5, 14, 31]), random.pick(&[1, 16, 33])];
                let (mut a, b) = (random.floats(m * k), weights(&mut random, k * n));
                for (r, row) in a.chunks_mut(k).enumerate() {
                    row.iter_mut().for_each(|x| *x *= 10f32.powi(4 * r as i32 % 60 - 30));
                }
                let rows = Rows::Matrix { ptr: a.as_ptr(), stride: k as isize };
                let mut c = vec![UNTOUCHED; m * n];
                let args =
                    GemmArgs { c: c.as_mut_ptr(), c_stride: n as isize, ..gemm::plain([m, n, k], 1, rows) };
                product(row, &args, &packed(row, &b, k, n), [&[], &[]], false);
                for (i, &got) in c.iter().enumerate() {
                    let (a, b) = (&a[i / n * k..][..k], b[i % n..].iter().step_by(n));
                    let most = a.iter().fold(0.0f32, |most, x| most.max(x.abs()));
                    let half = 0.5 * f64::from(most / FIXED_LIMIT);
                    let (mut sum, mut size) = (0.0, 0.0);
                    for (&a, &b) in a.iter().zip(b) {
                        sum += f64::from(a) * f64::from(b);
                        size += (half + EPS * (k as f64 + 8.0) * f64::from(a).abs()) * f64::from(b).abs();
                    }
                    close(got, sum, size, &(row.isa, m, n, k, i));
                }
            }
        }
    }

    /// Ties to even, and the nearest that there is.
    #[test]
    fn vectors_become_whole_numbers() {
        for (x, want) in
            [(0.5, 0), (1.5, 2), (-2.5, -2), (-7.51, -8), (32766.6, 32767), (4e4, 32767), (-4e4, -32768)]
        {
            let mut whole = [0i16; 16];
            // SAFETY: sixteen values are as many as any vector has.
            unsafe { cpu::Portable::splat(x).store_whole(whole.as_mut_ptr()) };
            assert_eq!(whole[0], want, "{x}");
        }
    }

    /// What is not finite leaves no number in its row, and nothing in another one.
    #[test]
    fn rows_are_each_their_own() {
        let (k, n) = (140, 20);
        for row in rows() {
            let mut random = Random(14);
            let (mut a, b) = (random.floats(5 * k), weights(&mut random, k * n));
            (a[7], a[k + 139], a[2 * k + 128]) = (f32::NAN, f32::INFINITY, f32::NEG_INFINITY);
            a[3 * k..4 * k].fill(0.0);
            a[4 * k..].iter_mut().for_each(|x| *x *= f32::MIN_POSITIVE);
            let rows = Rows::Matrix { ptr: a.as_ptr(), stride: k as isize };
            let mut c = vec![UNTOUCHED; 5 * n];
            let args =
                GemmArgs { c: c.as_mut_ptr(), c_stride: n as isize, ..gemm::plain([5, n, k], 1, rows) };
            product(row, &args, &packed(row, &b, k, n), [&[], &[]], false);
            assert!(c[..3 * n].iter().all(|x| !x.is_finite()), "{c:?}");
            assert!(c[3 * n..4 * n].iter().all(|&x| x == 0.0), "{c:?}");
            let most = (k as i32 * LARGEST) as f32 * f32::MIN_POSITIVE;
            assert!(c[4 * n..].iter().all(|x| x.abs() <= most), "{c:?}");
        }
    }

    /// Of products that are the operands themselves.
    #[test]
    fn activations() {
        const COLUMNS: usize = 20;
        for row in rows() {
            let x: Vec<f32> = (-300..=300).map(|i| i as f32 * 0.05).collect();
            let a: Vec<f32> = x.iter().flat_map(|&x| [x, 0.0]).collect();
            let mut b = vec![0.0; 2 * COLUMNS];
            b[..COLUMNS].fill(LARGEST as f32);
            let (panels, unscale) = (packed(row, &b, 2, COLUMNS), [1.0 / LARGEST as f32; COLUMNS]);
            for activation in ACTIVATIONS {
                let mut c = vec![UNTOUCHED; x.len() * COLUMNS];
                let rows = Rows::Matrix { ptr: a.as_ptr(), stride: 2 };
                let args = gemm::plain([x.len(), COLUMNS, 2], 1, rows);
                let args = GemmArgs { activation, c: c.as_mut_ptr(), c_stride: COLUMNS as isize, ..args };
                product(row, &args, &panels, [&[], &unscale], false);
                for (&x, got) in x.iter().zip(c.chunks(COLUMNS)) {
                    let want = super::activation(activation, f64::from(x));
                    let tolerance = FIXED_GATE * want.abs() + 8.0 * EPS * f64::from(x).abs();
                    got.iter().for_each(|&got| close(got, want, tolerance, &(row.isa, activation, x)));
                }
            }
        }
    }

    #[test]
    fn winograd() {
        for row in rows() {
            let mut random = Random(15);
            for channels in [2, 16, 30, 32, 64, 130, 144].into_iter().cycle().take(40) {
                let mut image = gemm::three_by_three(&mut random);
                image.channels = channels;
                image.data = random.floats(image.n * image.input[0] * image.input[1] * (channels + 2));
                filtered(row, &mut random, &image);
            }
        }
    }

    fn filtered(row: &Kernels, random: &mut Random, image: &Image) {
        let (n, k) = (random.pick(&[1, 3, 16, 40, 70]), image.channels);
        let (b, zeros) = (random.floats(9 * k * n), vec![0.0; k]);
        // What leaves room for a sum of so many; and a transformed filter is at most 1.6 times as large as the filter.
        let largest = (LARGEST * FIXED_STRETCH as i32 / k.min(FIXED_STRETCH) as i32).min(i16::MAX.into());
        let unit = 1.6 / largest as f32;
        let (scale, unscale) = (powers(random, k), vec![unit; n]);
        let whole: Vec<f32> = gemm::places(&b, k * n).iter().map(|x| (x / unit).round()).collect();
        let panels = packed(row, &whole, PLACES * k, n);
        let oracle = gemm::Oracle {
            a: &|m, tap, k| image.at(m, tap, k).unwrap_or(0.0) * scale[k],
            b: &|tap, i, j| b[(tap * k + i) * n + j],
        };
        let floats = winograd_scratch(image.n, image.output, k, row.half.format());
        let filter = |args: &GemmArgs, backwards| {
            let mut scratch = Aligned::new(floats);
            let gemm = GemmArgs { taps: PLACES, ..*args };
            let (scale, unscale) = (scale.as_ptr(), unscale.as_ptr());
            let product = HalfArgs { gemm, b: panels.ptr(), scale, unscale, stretch: 1 };
            let args = WinogradArgs { product, scratch: scratch.ptr() };
            // SAFETY: all memory is as large as the arguments say.
            run(row.half.winograd_tasks(&args), backwards, |task| unsafe {
                (row.half.winograd)(&args, at(task))
            });
        };
        // As for half precision, whose numbers have as many bits and are added up exactly here.
        let relative = 12.0 * EPS * ((9 * k) as f64 + 40.0) + 50.0 * HALF_EPS * 2.0;
        let case = gemm::case(random);
        let args = gemm::plain([image.pixels(), n, k], 9, Rows::Patches(image.patches(&zeros)));
        gemm::check_by(row, random, &case, args, &oracle, relative, &filter);
    }
}

mod attention {
    use super::*;

    /// Operands of one attention, columns of K and V in any order of memory.
    struct Case {
        shape: AttentionShape,
        scale: f32,
        q: Vec<f32>,
        k: Vec<f32>,
        v: Vec<f32>,
        transposed: [bool; 2],
        /// Whether it may be computed in half precision.
        half: bool,
    }

    /// Values of a row of Y that are not the kernel's.
    const BESIDE: usize = 3;

    impl Case {
        fn random(random: &mut Random, shape: AttentionShape, scale: f32) -> Case {
            let AttentionShape { heads, m, n, depth, values } = shape;
            let [q, k, v] = [m * depth, depth * n, n * values].map(|count| random.floats(heads * count));
            let (transposed, half) = ([random.flip(), random.flip()], random.flip());
            Case { shape, scale, q, k, v, transposed, half }
        }

        fn operand(&self, x: *const f32, rows: usize, columns: usize, transposed: bool) -> Operand {
            let strides = if transposed { [1, rows as isize] } else { [columns as isize, 1] };
            let dims = [self.shape.heads, rows, columns];
            let layout = Layout::new(&dims, &[(rows * columns) as isize, strides[0], strides[1]]).unwrap();
            Operand { ptr: x.cast_mut().cast(), dtype: DType::F32, layout }
        }

        fn run(&self, row: &Kernels, y: *mut f32, backwards: bool) {
            let AttentionShape { heads, m, n, depth, values } = self.shape;
            let mut scratch = Aligned::new(attention_scratch(&self.shape, row.nr).unwrap());
            let stride = values + BESIDE;
            let layout =
                Layout::new(&[heads, m, values], &[(m * stride) as isize, stride as isize, 1]).unwrap();
            let args = AttentionArgs {
                scale: self.scale,
                half: self.half,
                q: self.operand(self.q.as_ptr(), m, depth, false),
                k: self.operand(self.k.as_ptr(), depth, n, self.transposed[0]),
                v: self.operand(self.v.as_ptr(), n, values, self.transposed[1]),
                y: Operand { ptr: y.cast(), dtype: DType::F32, layout },
                scratch: scratch.ptr(),
            };
            for phase in 0..row.attention_phases(&args) {
                // SAFETY: all memory is as large as the arguments say, and phases follow one another.
                run(row.attention_tasks(&args, phase), backwards, |task| unsafe {
                    (row.attention)(&args, phase, at(task));
                });
            }
        }

        fn results(&self, row: &Kernels) -> Vec<f32> {
            let AttentionShape { heads, m, values, .. } = self.shape;
            let buffer = vec![UNTOUCHED; heads * m * (values + BESIDE)];
            both_orders(&buffer, float_bits, |y, backwards| self.run(row, y, backwards))
        }

        fn k(&self, head: usize, c: usize, j: usize) -> f64 {
            let AttentionShape { n, depth, .. } = self.shape;
            let at = if self.transposed[0] { j * depth + c } else { c * n + j };
            f64::from(self.k[head * depth * n + at])
        }

        fn v(&self, head: usize, j: usize, c: usize) -> f64 {
            let AttentionShape { n, values, .. } = self.shape;
            let at = if self.transposed[1] { c * n + j } else { j * values + c };
            f64::from(self.v[head * n * values + at])
        }

        fn check(&self, row: &Kernels) {
            let AttentionShape { heads, m, n, depth, values } = self.shape;
            let y = self.results(row);
            let half = self.half && row.half.attention;
            let largest_v = self.v.iter().fold(0.0f64, |most, &v| most.max(f64::from(v.abs())));
            for (head, i) in (0..heads).flat_map(|head| (0..m).map(move |i| (head, i))) {
                let q = &self.q[(head * m + i) * depth..][..depth];
                let dot = |j: usize| {
                    let product = |c: usize| f64::from(q[c]) * self.k(head, c, j);
                    f64::from(self.scale) * (0..depth).map(product).sum::<f64>()
                };
                let scores: Vec<f64> = (0..n).map(dot).collect();
                let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                // The most that the terms of a score may come to.
                let terms =
                    |j: usize| (0..depth).map(|c| (f64::from(q[c]) * self.k(head, c, j)).abs()).sum::<f64>();
                let reach = f64::from(self.scale) * (0..n).map(terms).fold(0.0, f64::max);
                let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
                let sum: f64 = weights.iter().sum();
                for c in 0..values + BESIDE {
                    let got = y[(head * m + i) * (values + BESIDE) + c];
                    if c >= values {
                        assert_eq!(got, UNTOUCHED);
                        continue;
                    }
                    let want: f64 = (0..n).map(|j| weights[j] / sum * self.v(head, j, c)).sum();
                    // Rounding of a score moves a weight by as much, relatively.
                    let mut tolerance = EPS * (4.0 * reach * depth as f64 + n as f64 + 16.0);
                    if half {
                        // Roundings of sums go either way.
                        tolerance += HALF_EPS * (8.0 + 6.0 * reach);
                    }
                    let what = (row.isa, half, self.shape, head, i, c);
                    close(got, want, tolerance * largest_v, &what);
                }
            }
        }
    }

    #[test]
    fn random_shapes() {
        let sizes = [1, 2, 7, 8, 12, 13, 16, 31, 32, 33, 65, 200];
        for row in rows() {
            let mut random = Random(11);
            for _ in 0..60 {
                let [m, n, depth, values] = core::array::from_fn(|_| random.pick(&sizes));
                let shape = AttentionShape { heads: 1 + random.below(3), m, n, depth, values };
                let scale = random.pick(&[0.125, 1.0, 3.0]);
                Case::random(&mut random, shape, scale).check(row);
            }
        }
    }

    /// Heads of 8 have a kernel of their own; many keys come in blocks, many heads in groups.
    #[test]
    fn heads_and_blocks() {
        for row in rows() {
            let mut random = Random(12);
            for (heads, m, n, depth, values) in [
                (1, 30, 2600, 4, 5),
                (2, 13, 1, 8, 8),
                (2, 13, 63, 8, 8),
                (2, 50, 77, 8, 8),
                (3, 25, 1027, 8, 8),
                (2, 9, 513, 16, 16),
                (1, 5, 530, 3, 70),
                (40, 2, 500, 16, 16),
            ] {
                let shape = AttentionShape { heads, m, n, depth, values };
                Case::random(&mut random, shape, 3.0).check(row);
            }
        }
    }

    /// Whatever powers of two the operands have, they come out the same, even where half precision could not hold them.
    #[test]
    fn extreme_magnitudes() {
        for row in rows() {
            let mut random = Random(13);
            for [q, k, v] in [[40, -40, 90], [-60, 60, -90], [100, -20, 0], [-100, 110, 3], [20, 20, -20]] {
                for scale in [0.2, 2.0] {
                    let shape = AttentionShape { heads: 2, m: 13, n: 300, depth: 40, values: 24 };
                    let mut case = Case::random(&mut random, shape, scale * 2f32.powi(-q - k));
                    for (operand, power) in [(&mut case.q, q), (&mut case.k, k), (&mut case.v, v)] {
                        operand.iter_mut().for_each(|x| *x *= 2f32.powi(power));
                    }
                    for half in [false, true] {
                        case.half = half;
                        case.check(row);
                    }
                }
            }
        }
    }

    /// Operands that are all 0, scores far below any unit, and ones that leave one key.
    #[test]
    fn scores_of_all_sizes() {
        for row in rows() {
            let mut random = Random(14);
            for (scale, zero) in [(1.0, true), (1e-30, false), (1e-6, false), (1e4, false)] {
                let shape = AttentionShape { heads: 1, m: 9, n: 40, depth: 16, values: 5 };
                let mut case = Case { half: true, ..Case::random(&mut random, shape, scale) };
                if zero {
                    case.k.fill(0.0);
                }
                if scale < 1e3 {
                    case.check(row);
                    continue;
                }
                // What is nearly as large as the largest may count for more or less than it does in f32.
                let y = case.results(row);
                assert!(y.iter().all(|y| y.abs() <= 1.001 || *y == UNTOUCHED), "{} {y:?}", row.isa);
            }
        }
    }

    /// One query of 1, whose scores are the keys, and values that tell which key they are of.
    fn of_scores(scores: &[f32], values: usize, half: bool) -> Case {
        let n = scores.len();
        Case {
            shape: AttentionShape { heads: 1, m: 1, n, depth: 1, values },
            scale: 1.0,
            q: vec![1.0],
            k: scores.to_vec(),
            v: (0..n * values).map(|i| (i / values + 1) as f32).collect(),
            transposed: [false; 2],
            half,
        }
    }

    #[test]
    fn infinite_scores() {
        let low = f32::NEG_INFINITY;
        for row in rows() {
            for (values, half) in [(1, false), (8, false), (1, true), (8, true)] {
                for n in [2, 16, 70, 1100] {
                    let mut scores = vec![low; n];
                    let nothing = of_scores(&scores, values, half).results(row);
                    assert!(nothing[..values].iter().all(|y| y.is_nan()), "{} {n}", row.isa);
                    scores[n - 1] = -3.0;
                    let one = of_scores(&scores, values, half).results(row);
                    assert_eq!(one[..values], vec![n as f32; values], "{} {n}", row.isa);
                    scores[0] = f32::INFINITY;
                    let all = of_scores(&scores, values, half).results(row);
                    assert!(all[..values].iter().all(|y| y.is_nan()), "{} {n}", row.isa);
                }
            }
        }
    }

    #[test]
    fn small_weights() {
        for row in rows() {
            for (values, half) in [(1, false), (8, false), (1, true), (8, true)] {
                let scores: Vec<f32> = (0..1300).map(|i| i as f32 * 0.1 - 130.0).collect();
                let case = of_scores(&scores, values, half);
                let mut y = vec![0.0; values + BESIDE];
                without_denormals(&(row.isa, values), || case.run(row, y.as_mut_ptr(), false));
                let mut scores = vec![-87.5; 40];
                scores[0] = 0.0;
                let far = of_scores(&scores, values, half).results(row);
                assert_eq!(far[..values], vec![1.0; values], "{}", row.isa);
            }
        }
    }

    #[test]
    fn not_a_number_stays_in_its_row() {
        for row in rows() {
            for (n, half) in [(1, false), (20, false), (20, true)] {
                let mut case = of_scores(&vec![1.0; n], 1, half);
                case.v.fill(1.0);
                case.shape.m = 3;
                case.q = vec![1.0, f32::NAN, 2.0];
                let y = case.results(row);
                let [a, b, c] = [0, 1, 2].map(|i| y[i * (1 + BESIDE)]);
                assert!(a == 1.0 && b.is_nan() && c == 1.0, "{} {y:?}", row.isa);
            }
        }
    }
}

/// A random NHWC image and a window over it, for everything that reads patches.
struct Image {
    n: usize,
    channels: usize,
    input: [usize; 2],
    output: [usize; 2],
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    pad: [usize; 2],
    pad_end: [usize; 2],
    /// Two more values than channels a pixel.
    data: Vec<f32>,
}

impl Image {
    fn random(random: &mut Random, channels: &[usize]) -> Image {
        let mut two = |from: usize, n: usize| [from + random.below(n), from + random.below(n)];
        let (kernel, stride, dilation, input) = (two(1, 5), two(1, 3), two(1, 2), two(1, 12));
        let (mut pad, mut pad_end) = (two(0, 3), two(0, 3));
        let mut output = [0; 2];
        for i in 0..2 {
            pad[i] = pad[i].min(kernel[i] - 1);
            let reach = dilation[i] * (kernel[i] - 1) + 1;
            pad_end[i] += reach.saturating_sub(input[i] + pad[i] + pad_end[i]);
            output[i] = (input[i] + pad[i] + pad_end[i] - reach) / stride[i] + 1;
        }
        let (n, channels) = (1 + random.below(2), random.pick(channels));
        let data = random.floats(n * input[0] * input[1] * (channels + 2));
        Image { n, channels, input, output, kernel, stride, dilation, pad, pad_end, data }
    }

    fn pixels(&self) -> usize {
        self.n * self.output[0] * self.output[1]
    }

    fn patches(&self, zeros: &[f32]) -> Patches {
        let pixel = self.channels + 2;
        Patches {
            ptr: self.data.as_ptr(),
            image: (self.input[0] * self.input[1] * pixel) as isize,
            row: (self.input[1] * pixel) as isize,
            pixel: pixel as isize,
            input: self.input,
            output: self.output,
            kernel: self.kernel,
            stride: self.stride,
            dilation: self.dilation,
            pad: self.pad,
            zeros: zeros.as_ptr(),
        }
    }

    /// Channel c at a tap of an output pixel; `None` in the padding.
    fn at(&self, m: usize, tap: usize, c: usize) -> Option<f32> {
        let (n, y, x) =
            (m / (self.output[0] * self.output[1]), m / self.output[1] % self.output[0], m % self.output[1]);
        let y = (y * self.stride[0] + tap / self.kernel[1] * self.dilation[0]).checked_sub(self.pad[0])?;
        let x = (x * self.stride[1] + tap % self.kernel[1] * self.dilation[1]).checked_sub(self.pad[1])?;
        if y >= self.input[0] || x >= self.input[1] {
            return None;
        }
        Some(self.data[((n * self.input[0] + y) * self.input[1] + x) * (self.channels + 2) + c])
    }

    /// Taps of an output pixel that lie within the padded image.
    fn padded_taps(&self, m: usize) -> usize {
        let at = [m / self.output[1] % self.output[0], m % self.output[1]];
        let inside = |axis: usize, tap: usize| {
            at[axis] * self.stride[axis] + tap * self.dilation[axis]
                < self.pad[axis] + self.input[axis] + self.pad_end[axis]
        };
        (0..self.kernel[0]).filter(|&i| inside(0, i)).count()
            * (0..self.kernel[1]).filter(|&j| inside(1, j)).count()
    }
}

const CHANNELS: [usize; 9] = [1, 2, 3, 7, 8, 17, 32, 64, 77];

#[test]
fn depthwise() {
    for row in rows() {
        let mut random = Random(3);
        for _ in 0..60 {
            let image = Image::random(&mut random, &CHANNELS);
            let (taps, c) = (image.kernel[0] * image.kernel[1], image.channels);
            let (b, bias, with_bias) = (random.floats(taps * c), random.floats(c), random.flip());
            let act = random.pick(&ACTIVATIONS);
            let out =
                both_orders(&vec![UNTOUCHED; image.pixels() * (c + 1)], float_bits, |ptr, backwards| {
                    let args = DepthwiseArgs {
                        m: image.pixels(),
                        channels: c,
                        a: image.patches(&[]),
                        b: b.as_ptr(),
                        bias: ptr_or_null(&bias, with_bias),
                        activation: act,
                        c: ptr,
                        c_stride: c as isize + 1,
                    };
                    // SAFETY: all memory is as large as the arguments say.
                    run(row.depthwise_tasks(&args), backwards, |task| unsafe {
                        (row.depthwise)(&args, task)
                    });
                });
            for (i, &got) in out.iter().enumerate() {
                let (m, channel) = (i / (c + 1), i % (c + 1));
                if channel == c {
                    assert_eq!(got, UNTOUCHED);
                    continue;
                }
                let mut sum = if with_bias { f64::from(bias[channel]) } else { 0.0 };
                for tap in 0..taps {
                    let x = image.at(m, tap, channel).unwrap_or(0.0);
                    sum += f64::from(x) * f64::from(b[tap * c + channel]);
                }
                let tolerance = EPS * (taps as f64 + 2.0) * (taps + 1) as f64;
                let (want, tolerance) = after_activation(act, sum, tolerance);
                close(got, want, tolerance, &(row.isa, m, channel, act));
            }
        }
    }
}

#[test]
fn pool() {
    for row in rows() {
        let mut random = Random(4);
        for _ in 0..60 {
            let mut image = Image::random(&mut random, &CHANNELS);
            if random.flip() {
                image.data[0] = f32::NAN;
            }
            let (taps, c) = (image.kernel[0] * image.kernel[1], image.channels);
            let kind = random.pick(&[PoolKind::Max, PoolKind::Average, PoolKind::AveragePadded]);
            let out =
                both_orders(&vec![UNTOUCHED; image.pixels() * (c + 1)], float_bits, |ptr, backwards| {
                    let args = PoolArgs {
                        kind,
                        m: image.pixels(),
                        channels: c,
                        a: image.patches(&[]),
                        pad_end: image.pad_end,
                        c: ptr,
                        c_stride: c as isize + 1,
                    };
                    // SAFETY: all memory is as large as the arguments say.
                    run(row.pool_tasks(&args), backwards, |task| unsafe { (row.pool)(&args, task) });
                });
            for (i, &got) in out.iter().enumerate() {
                let (m, channel) = (i / (c + 1), i % (c + 1));
                if channel == c {
                    assert_eq!(got, UNTOUCHED);
                    continue;
                }
                let seen: Vec<f64> =
                    (0..taps).filter_map(|tap| image.at(m, tap, channel)).map(f64::from).collect();
                let nan = seen.iter().any(|x| x.is_nan());
                let sum: f64 = seen.iter().sum();
                let want = match kind {
                    PoolKind::Max if nan => f64::NAN,
                    PoolKind::Max => seen.iter().copied().fold(f64::NEG_INFINITY, f64::max),
                    PoolKind::Average => sum / seen.len() as f64,
                    PoolKind::AveragePadded => sum / image.padded_taps(m) as f64,
                };
                close(got, want, EPS * (taps as f64 + 2.0), &(row.isa, kind, m, channel));
            }
        }
    }
}

#[test]
fn resample() {
    for row in rows() {
        let mut random = Random(5);
        for _ in 0..60 {
            let [outer, n_in, n_out] = [1 + random.below(3), 1 + random.below(9), 1 + random.below(20)];
            let (inner, taps) = (random.pick(&[1, 2, 7, 16, 33, 200]), 1 + random.below(4));
            let x = random.floats(outer * n_in * inner);
            let mut weights = random.floats(n_out * taps);
            if random.flip() {
                weights.fill(1.0);
            }
            let indices: Vec<i64> = (0..n_out * taps).map(|_| random.below(n_in) as i64).collect();
            let out = both_orders(&vec![UNTOUCHED; outer * n_out * inner], float_bits, |y, backwards| {
                let args = ResampleArgs {
                    outer,
                    n_in,
                    n_out,
                    inner,
                    taps,
                    indices: indices.as_ptr(),
                    weights: weights.as_ptr(),
                    x: x.as_ptr(),
                    y,
                };
                // SAFETY: all memory is as large as the arguments say.
                run(row.resample_tasks(&args), backwards, |task| unsafe { (row.resample)(&args, task) });
            });
            for (at, &got) in out.iter().enumerate() {
                let (o, i, j) = (at / inner / n_out, at / inner % n_out, at % inner);
                let term = |t: usize| {
                    let from = indices[i * taps + t] as usize;
                    f64::from(weights[i * taps + t]) * f64::from(x[(o * n_in + from) * inner + j])
                };
                close(got, (0..taps).map(term).sum(), EPS * 4.0 * (taps + 1) as f64, &(row.isa, at));
            }
        }
    }
}

mod softmax {
    use super::*;

    /// Relative error: of the exponent's argument (scaled by its size), of exp, and of the sum of n terms.
    fn tolerance(n: usize, size: f64) -> f64 {
        EPS * (8.0 + n as f64 / 4.0 + 4.0 * size)
    }

    fn check(row: &Kernels, rows: usize, n: usize, scale: f32, x: &[f32], in_place: bool) {
        let stride = n + 2;
        let buffer = if in_place { x.to_vec() } else { vec![UNTOUCHED; rows * stride] };
        let y = both_orders(&buffer, float_bits, |y, backwards| {
            let from = if in_place { y.cast_const() } else { x.as_ptr() };
            let args = SoftmaxArgs {
                rows,
                n,
                scale,
                x: from,
                x_stride: stride as isize,
                y,
                y_stride: stride as isize,
            };
            // SAFETY: all memory is as large as the arguments say.
            run(row.softmax_tasks(&args), backwards, |task| unsafe { (row.softmax)(&args, task) });
        });
        for r in 0..rows {
            let x: Vec<f64> = x[r * stride..][..n].iter().map(|&x| f64::from(x) * f64::from(scale)).collect();
            let top = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = x.iter().map(|x| libm::exp(x - top)).sum();
            for (i, &x) in x.iter().enumerate() {
                let want = libm::exp(x - top) / sum;
                let size = x.abs().max(top.abs());
                let tolerance = if size.is_finite() { want * tolerance(n, size) + 1e-37 } else { 1e-6 };
                close(y[r * stride + i], want, tolerance, &(row.isa, n, r, i, x, top));
            }
            let rest = &buffer[r * stride + n..][..2];
            let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(rest), bits(&y[r * stride + n..][..2]));
        }
    }

    #[test]
    fn random_rows() {
        for row in rows() {
            let mut random = Random(6);
            for n in [0, 1, 2, 3, 15, 16, 17, 31, 64, 77, 1000, 9000] {
                for scale in [1.0, -0.125, 30.0] {
                    let rows = 1 + random.below(20);
                    let x = random.floats(rows * (n + 2));
                    let in_place = random.flip();
                    check(row, rows, n, scale, &x, in_place);
                }
            }
        }
    }

    #[test]
    fn small_weights() {
        for row in rows() {
            for n in [2, 17, 4099] {
                let x: Vec<f32> = (0..n).map(|i| i as f32 * -90.0 / (n - 1) as f32).collect();
                let mut y = vec![f32::NAN; n];
                let stride = n as isize;
                let (x, to) = (x.as_ptr(), y.as_mut_ptr());
                let args =
                    SoftmaxArgs { rows: 1, n, scale: 1.0, x, x_stride: stride, y: to, y_stride: stride };
                without_denormals(&(row.isa, n), || {
                    // SAFETY: a row of n values.
                    run(row.softmax_tasks(&args), false, |task| unsafe { (row.softmax)(&args, task) });
                });
                assert!(y.iter().all(|y| *y == 0.0 || y.is_normal()), "{}", row.isa);
                assert!(y[0] > 0.0 && y[n - 1] == 0.0, "{} {y:?}", row.isa);
            }
        }
    }

    #[test]
    fn infinities() {
        let (inf, nan) = (f32::INFINITY, f32::NAN);
        for row in rows() {
            for special in [-inf, inf, nan, f32::MAX, f32::MIN] {
                for n in [1, 5, 21] {
                    let mut x = vec![0.5; n + 2];
                    x[n / 2] = special;
                    check(row, 1, n, 1.0, &x, false);
                    check(row, 1, n, 1.0, &vec![-inf; n + 2], false);
                }
            }
        }
    }
}

mod norm {
    use super::*;

    /// Error in units of a normalised value: rounding of the result, and of x relative to the deviation.
    const ULPS: f64 = 24.0;

    struct Shape {
        n: usize,
        s: usize,
        c: usize,
        groups: usize,
    }

    /// mean and 1 / deviation of a group.
    fn statistics(
        args: &NormArgs,
        x: &dyn Fn(usize, usize, usize) -> f64,
        n: usize,
        group: usize,
    ) -> (f64, f64) {
        let per = args.c / args.groups;
        let all = || (0..args.s).flat_map(move |s| (group * per..(group + 1) * per).map(move |c| x(n, s, c)));
        let count = (args.s * per) as f64;
        let mean = if args.center { all().sum::<f64>() / count } else { 0.0 };
        let variance = all().map(|x| (x - mean) * (x - mean)).sum::<f64>() / count;
        (mean, 1.0 / (variance + f64::from(args.epsilon)).sqrt())
    }

    fn check(
        row: &Kernels,
        random: &mut Random,
        shape: &Shape,
        value: &mut dyn FnMut(&mut Random) -> f32,
        epsilon: f32,
    ) {
        let &Shape { n, s, c, groups } = shape;
        let (row_len, image) = (c + 1, s * (c + 1) + 3);
        let x: Vec<f32> = (0..n * image).map(|_| value(random)).collect();
        let (gamma, beta) = (random.floats(c), random.floats(c));
        let mut scratch = vec![f32::NAN; norm_scratch(n, s, c, groups)];
        let args = NormArgs {
            n,
            s,
            c,
            groups,
            center: random.below(4) > 0,
            epsilon,
            x: x.as_ptr(),
            x_image: image as isize,
            x_row: row_len as isize,
            gamma: ptr_or_null(&gamma, random.flip()),
            beta: ptr_or_null(&beta, random.flip()),
            activation: random.pick(&[Activation::None, Activation::Silu, Activation::None]),
            half: random.flip(),
            y: core::ptr::null_mut(),
            y_image: image as isize,
            y_row: row_len as isize,
            scratch: scratch.as_mut_ptr(),
        };
        let in_place = random.flip();
        let buffer = if in_place { x.clone() } else { vec![UNTOUCHED; n * image] };
        let y = both_orders(&buffer, float_bits, |y, backwards| {
            let args = NormArgs { y, x: if in_place { y } else { x.as_ptr() }, ..args };
            for phase in 0..row.norm_phases() {
                // SAFETY: all memory is as large as the arguments say, and phases follow one another.
                run(row.norm_tasks(&args, phase), backwards, |task| unsafe {
                    (row.norm)(&args, phase, task)
                });
            }
        });
        let at = |n: usize, s: usize, c: usize| n * image + s * row_len + c;
        for image in 0..n {
            for group in 0..groups {
                let (mean, inverse) = statistics(&args, &|n, s, c| f64::from(x[at(n, s, c)]), image, group);
                for (row_, channel) in (0..s).flat_map(|s| (0..c / groups).map(move |c| (s, c))) {
                    let channel = group * (c / groups) + channel;
                    let gamma = if args.gamma.is_null() { 1.0 } else { f64::from(gamma[channel]) };
                    let beta = if args.beta.is_null() { 0.0 } else { f64::from(beta[channel]) };
                    let normal = (f64::from(x[at(image, row_, channel)]) - mean) * inverse;
                    let want = normal * gamma + beta;
                    let tolerance =
                        EPS * ULPS * (normal.abs() * gamma.abs() + beta.abs() + gamma.abs() * 0.1);
                    let (want, mut tolerance) = after_activation(args.activation, want, tolerance);
                    if args.half && row.half.attention && args.activation == Activation::Silu {
                        tolerance += match row.half.arithmetic {
                            Arithmetic::Single => 0.0,
                            Arithmetic::Half => HALF_EPS * (4.0 * want.abs() + 0.5),
                            Arithmetic::Fixed => FIXED_GATE * want.abs(),
                        };
                    }
                    let got = y[at(image, row_, channel)];
                    close(
                        got,
                        want,
                        tolerance,
                        &(row.isa, n, s, c, groups, mean, inverse, image, row_, channel),
                    );
                }
            }
        }
        for i in (0..n * image).filter(|i| i % image >= s * row_len || i % image % row_len >= c) {
            assert_eq!(y[i].to_bits(), buffer[i].to_bits(), "wrote beside its rows");
        }
    }

    fn shape(random: &mut Random) -> Shape {
        let per = random.pick(&[1, 2, 3, 5, 8, 16, 40]);
        let groups = random.pick(&[1, 1, 2, 3, 8]);
        let s = random.pick(&[1, 2, 9, 127, 128, 129, 300]);
        Shape { n: 1 + random.below(3), s, c: per * groups, groups }
    }

    #[test]
    fn random_shapes() {
        for row in rows() {
            let mut random = Random(7);
            for _ in 0..80 {
                let shape = shape(&mut random);
                check(row, &mut random, &shape, &mut |random| random.unit(), 1e-5);
            }
            for shape in [
                Shape { n: 3, s: 1, c: 1, groups: 1 },
                Shape { n: 33, s: 1, c: 777, groups: 1 },
                Shape { n: 2, s: 5000, c: 4, groups: 1 },
                Shape { n: 1, s: 1, c: 20000, groups: 1 },
                Shape { n: 0, s: 4, c: 4, groups: 2 },
            ] {
                check(row, &mut random, &shape, &mut |random| random.unit(), 1e-5);
            }
        }
    }

    #[test]
    fn extreme_magnitudes() {
        for row in rows() {
            let mut random = Random(8);
            for size in [1e12, 1e-12, 1e-6] {
                for _ in 0..20 {
                    let shape = shape(&mut random);
                    check(row, &mut random, &shape, &mut |random| random.unit() * size, 1e-30);
                }
            }
        }
    }

    #[test]
    fn not_a_number_spreads() {
        for row in rows() {
            let mut random = Random(19);
            for _ in 0..30 {
                let shape = shape(&mut random);
                let mut i = 0;
                let mut value = |random: &mut Random| {
                    i += 1;
                    if i == 1 { f32::NAN } else { random.unit() }
                };
                check(row, &mut random, &shape, &mut value, 1e-5);
            }
        }
    }

    #[test]
    fn mean_far_from_zero() {
        for row in rows() {
            let mut random = Random(9);
            for mean in [1000.0, -1e5] {
                for _ in 0..20 {
                    let shape = shape(&mut random);
                    check(row, &mut random, &shape, &mut |random| random.unit() + mean, 1e-5);
                }
            }
        }
    }
}

/// A random tensor: memory, and a layout that need not be contiguous.
struct Tensor {
    f32s: Vec<f32>,
    i64s: Vec<i64>,
    bools: Vec<u8>,
    dtype: DType,
    layout: Layout,
    origin: usize,
}

impl Tensor {
    /// `zero` lets strides be zero, `negative` below zero.
    fn random(random: &mut Random, dtype: DType, dims: &[usize], zero: bool, negative: bool) -> Tensor {
        let mut order: Vec<usize> = (0..dims.len()).collect();
        if random.flip() {
            for i in (1..order.len()).rev() {
                order.swap(i, random.below(i + 1));
            }
        }
        let (mut strides, mut len, mut origin) = (vec![0isize; dims.len()], 1, 0);
        for &axis in order.iter().rev() {
            if zero && random.below(4) == 0 {
                continue;
            }
            strides[axis] = len as isize;
            let last = dims[axis].saturating_sub(1) * len;
            len *= dims[axis].max(1);
            if negative && random.below(4) == 0 {
                origin += last;
                strides[axis] = -strides[axis];
            }
            if random.below(4) == 0 {
                len += 1 + random.below(3);
            }
        }
        Tensor::with(random, dtype, Layout::new(dims, &strides).unwrap(), len + 1, origin)
    }

    fn contiguous(random: &mut Random, dtype: DType, dims: &[usize]) -> Tensor {
        let mut strides = vec![1isize; dims.len()];
        for i in (0..dims.len().saturating_sub(1)).rev() {
            strides[i] = strides[i + 1] * dims[i + 1] as isize;
        }
        let len = dims.iter().product::<usize>() + 1;
        Tensor::with(random, dtype, Layout::new(dims, &strides).unwrap(), len, 0)
    }

    fn with(random: &mut Random, dtype: DType, layout: Layout, len: usize, origin: usize) -> Tensor {
        let f32s = random.floats(len);
        let i64s = (0..len).map(|_| random.below(21) as i64 - 10).collect();
        let bools = (0..len).map(|_| random.below(2) as u8).collect();
        Tensor { f32s, i64s, bools, dtype, layout, origin }
    }

    /// # Safety
    /// None asked: the pointer is good as long as the tensor.
    fn operand(&mut self) -> Operand {
        let ptr: *mut u8 = match self.dtype {
            DType::F32 => self.f32s[self.origin..].as_mut_ptr().cast(),
            DType::I64 => self.i64s[self.origin..].as_mut_ptr().cast(),
            DType::Bool => self.bools[self.origin..].as_mut_ptr(),
        };
        Operand { ptr, dtype: self.dtype, layout: self.layout }
    }

    fn len(&self) -> usize {
        self.layout.len()
    }

    /// Memory position of element i, in the order of the dimensions.
    fn at(&self, i: usize) -> usize {
        let (mut rest, mut at) = (i, self.origin as isize);
        for axis in (0..self.layout.rank()).rev() {
            at += (rest % self.layout.dim(axis)) as isize * self.layout.stride(axis);
            rest /= self.layout.dim(axis);
        }
        at as usize
    }

    fn float(&self, i: usize) -> f64 {
        match self.dtype {
            DType::F32 => f64::from(self.f32s[self.at(i)]),
            DType::I64 => self.i64s[self.at(i)] as f64,
            DType::Bool => f64::from(self.bools[self.at(i)]),
        }
    }

    fn int(&self, i: usize) -> i64 {
        match self.dtype {
            DType::F32 => self.f32s[self.at(i)] as i64,
            DType::I64 => self.i64s[self.at(i)],
            DType::Bool => i64::from(self.bools[self.at(i)]),
        }
    }

    fn bits(&self) -> Vec<u64> {
        let mut bits: Vec<u64> = self.f32s.iter().map(|x| u64::from(x.to_bits())).collect();
        bits.extend(self.i64s.iter().map(|&x| x as u64));
        bits.extend(self.bools.iter().map(|&x| u64::from(x)));
        bits
    }

    /// Checks that nothing but the elements differs from `before`.
    fn assert_untouched_elsewhere(&self, before: &[u64]) {
        let mut mine = vec![false; before.len()];
        let skip = match self.dtype {
            DType::F32 => 0,
            DType::I64 => self.f32s.len(),
            DType::Bool => 2 * self.f32s.len(),
        };
        (0..self.len()).for_each(|i| mine[skip + self.at(i)] = true);
        for (i, (now, before)) in self.bits().iter().zip(before).enumerate() {
            assert!(mine[i] || now == before, "wrote outside of the layout");
        }
    }
}

/// Runs a kernel forward and backward into an output, checks that both agree and touch nothing else.
fn fill_output(output: &mut Tensor, mut kernel: impl FnMut(Operand, bool)) {
    let before = output.bits();
    let saved = (output.f32s.clone(), output.i64s.clone(), output.bools.clone());
    kernel(output.operand(), true);
    let backward = output.bits();
    (output.f32s, output.i64s, output.bools) = saved;
    kernel(output.operand(), false);
    assert_eq!(backward, output.bits(), "result depends on the order of tasks");
    output.assert_untouched_elsewhere(&before);
}

fn dims(random: &mut Random, most: usize) -> Vec<usize> {
    let sizes: &[usize] = if random.below(8) == 0 { &[0, 1, 5] } else { &[1, 2, 3, 7, 20, 33, 70] };
    let mut dims: Vec<usize> = (0..random.below(5)).map(|_| random.pick(sizes)).collect();
    while dims.iter().product::<usize>() > most {
        dims.pop();
    }
    dims
}

mod map {
    use super::*;
    use MapCode::*;

    const UNARY: [MapCode; 33] = [
        Copy, Neg, Abs, Sign, Floor, Ceil, Round, Sqrt, Reciprocal, Exp, Log, Sin, Cos, Tan, Asin, Acos,
        Atan, Sinh, Cosh, Tanh, Asinh, Acosh, Atanh, Erf, Relu, Sigmoid, Silu, Gelu, GeluTanh, Mish,
        Softplus, Not, IsNan,
    ];
    const BINARY: [MapCode; 18] = [
        Add,
        Sub,
        Mul,
        Div,
        Min,
        Max,
        Pow,
        Mod,
        Fmod,
        And,
        Or,
        Xor,
        Equal,
        Less,
        LessEqual,
        Greater,
        GreaterEqual,
        IsInf,
    ];

    fn truth(x: bool) -> f64 {
        f64::from(u8::from(x))
    }

    fn oracle(code: MapCode, a: f64, b: f64, c: f64) -> f64 {
        match code {
            Copy => a,
            Neg => -a,
            Abs => a.abs(),
            Sign if a == 0.0 || a.is_nan() => a,
            Sign => a.signum(),
            Floor => a.floor(),
            Ceil => a.ceil(),
            Round => a.round_ties_even(),
            Sqrt => a.sqrt(),
            Reciprocal => 1.0 / a,
            Exp => libm::exp(a),
            Log => libm::log(a),
            Sin => libm::sin(a),
            Cos => libm::cos(a),
            Tan => libm::tan(a),
            Asin => libm::asin(a),
            Acos => libm::acos(a),
            Atan => libm::atan(a),
            Sinh => libm::sinh(a),
            Cosh => libm::cosh(a),
            Tanh => libm::tanh(a),
            Asinh => libm::asinh(a),
            Acosh => libm::acosh(a),
            Atanh => libm::atanh(a),
            Erf => libm::erf(a),
            Relu if a.is_nan() => a,
            Relu => a.max(0.0),
            Sigmoid => sigmoid(a),
            Silu => activation(Activation::Silu, a),
            Gelu => activation(Activation::Gelu, a),
            GeluTanh => gelu_tanh(a),
            Mish => activation(Activation::Mish, a),
            Softplus if a.is_nan() => a,
            Softplus => softplus(a),
            Not => truth(a == 0.0),
            IsNan => truth(a.is_nan()),
            IsInf => truth(a.is_infinite()),
            Add => a + b,
            Sub => a - b,
            Mul => a * b,
            Div => a / b,
            Min | Max if a.is_nan() || b.is_nan() => f64::NAN,
            Min => a.min(b),
            Max => a.max(b),
            Pow => libm::pow(a, b),
            Mod => {
                let r = libm::fmod(a, b);
                if r != 0.0 && (r < 0.0) != (b < 0.0) { r + b } else { r }
            }
            Fmod => libm::fmod(a, b),
            And => truth(a != 0.0 && b != 0.0),
            Or => truth(a != 0.0 || b != 0.0),
            Xor => truth((a != 0.0) != (b != 0.0)),
            Equal => truth(a == b),
            Less => truth(a < b),
            LessEqual => truth(a <= b),
            Greater => truth(a > b),
            GreaterEqual => truth(a >= b),
            Where => {
                if a != 0.0 {
                    b
                } else {
                    c
                }
            }
            MulAdd => a * b + c,
        }
    }

    /// Units of the result that an operation may be off; those not named are rounded once.
    fn ulps(code: MapCode) -> f64 {
        match code {
            Exp | Pow => 4.0,
            Log | Sin | Cos | Tan | Asin | Acos | Atan | Sinh | Cosh | Asinh | Acosh | Atanh => 6.0,
            Tanh | Erf | Softplus => 6.0,
            Sigmoid | Silu | Mish => 8.0,
            MulAdd => 2.0,
            _ => 1.0,
        }
    }

    /// What an operation may be off where its terms cancel, relative to its argument.
    fn absolute(code: MapCode, a: f64, b: f64, c: f64) -> f64 {
        let terms = match code {
            Gelu | GeluTanh => 6.0 * a.abs(),
            MulAdd => 2.0 * ((a * b).abs() + c.abs()),
            Mod => 2.0 * b.abs(),
            _ => 0.0,
        };
        EPS * terms + f64::from(f32::from_bits(1))
    }

    fn one(code: MapCode, inputs: usize) -> MapStep {
        MapStep {
            code,
            dst: inputs as u8,
            a: 0,
            b: 1.min(inputs as u8 - 1),
            c: 2.min(inputs as u8 - 1),
            immediate: 0.0,
        }
    }

    fn run_map(row: &Kernels, steps: &[MapStep], inputs: &[Operand], output: &mut Tensor) {
        fill_output(output, |output, backwards| {
            let args = MapArgs { steps, inputs, output };
            // SAFETY: the operands' memory outlives the call.
            run(row.map_tasks(&args), backwards, |task| unsafe { (row.map)(&args, task) });
        });
    }

    fn values(random: &mut Random, tensor: &mut Tensor) {
        let special = [
            0.0,
            -0.0,
            1.0,
            -1.0,
            0.5,
            2.5,
            -3.5,
            1e30,
            -1e30,
            1e-40,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::NAN,
        ];
        for x in &mut tensor.f32s {
            let size = random.pick(&[1.0, 4.0, 30.0, 100.0]);
            *x = if random.below(10) == 0 { random.pick(&special) } else { *x * size };
        }
    }

    #[test]
    fn every_operation() {
        for row in rows() {
            let mut random = Random(10);
            let ternary = [Where, MulAdd];
            for &code in UNARY.iter().chain(&BINARY).chain(&ternary) {
                for n in [1, 5, 300, 1000] {
                    let mut tensors: Vec<Tensor> =
                        (0..3).map(|_| Tensor::contiguous(&mut random, DType::F32, &[n])).collect();
                    tensors.iter_mut().for_each(|t| values(&mut random, t));
                    let inputs: Vec<Operand> = tensors.iter_mut().map(Tensor::operand).collect();
                    let mut output = Tensor::contiguous(&mut random, DType::F32, &[n]);
                    run_map(row, &[one(code, 3)], &inputs, &mut output);
                    for i in 0..n {
                        let [a, b, c] = [0, 1, 2].map(|t: usize| tensors[t].float(i));
                        compare(row, code, a, b, c, output.f32s[i]);
                    }
                }
            }
        }
    }

    fn compare(row: &Kernels, code: MapCode, a: f64, b: f64, c: f64, got: f32) {
        let want = oracle(code, a, b, c);
        // Limits at minus infinity that the formulas (ours and PyTorch's) do not take.
        if a == f64::NEG_INFINITY && matches!(code, Silu | Gelu | GeluTanh | Mish) {
            return;
        }
        let tolerance = EPS * 2.0 * ulps(code) * (want as f32).abs().min(f32::MAX) as f64;
        // 1 / (1 + exp(-x)) is 0 where exp(-x) leaves the range.
        let flush = if matches!(code, Sigmoid | Silu | Mish) { 3e-37 } else { 0.0 };
        close(got, want, tolerance + absolute(code, a, b, c) + flush, &(row.isa, code, a, b, c));
    }

    #[test]
    fn layouts_and_types() {
        let types = [DType::F32, DType::F32, DType::I64, DType::Bool];
        for row in rows() {
            let mut random = Random(11);
            for _ in 0..300 {
                let dims = dims(&mut random, 60000);
                let mut tensors: Vec<Tensor> = (0..3)
                    .map(|_| {
                        let dtype = random.pick(&types);
                        Tensor::random(&mut random, dtype, &dims, true, true)
                    })
                    .collect();
                let inputs: Vec<Operand> = tensors.iter_mut().map(Tensor::operand).collect();
                let dtype = random.pick(&types);
                let mut output = Tensor::random(&mut random, dtype, &dims, false, false);
                let steps = [
                    MapStep { code: Mul, dst: 3, a: 0, b: 1, c: 0, immediate: 0.0 },
                    MapStep { code: Sub, dst: 3, a: 3, b: IMMEDIATE, c: 0, immediate: 0.25 },
                    MapStep { code: Where, dst: 4, a: 2, b: 3, c: IMMEDIATE, immediate: 7.5 },
                    MapStep { code: Max, dst: 5, a: 4, b: 0, c: 0, immediate: 0.0 },
                ];
                run_map(row, &steps, &inputs, &mut output);
                for i in 0..output.len() {
                    let [a, b, c] = [0, 1, 2].map(|t: usize| tensors[t].float(i) as f32);
                    let x = if c != 0.0 { a * b - 0.25 } else { 7.5 };
                    let want = if x > a { x } else { a };
                    match dtype {
                        DType::F32 => assert_eq!(output.f32s[output.at(i)], want, "{} {dims:?} {i}", row.isa),
                        DType::I64 => assert_eq!(output.int(i), want as i64, "{} {dims:?} {i}", row.isa),
                        DType::Bool => assert_eq!(output.int(i), i64::from(want != 0.0)),
                    }
                }
            }
        }
    }

    #[test]
    fn in_place() {
        for row in rows() {
            let mut random = Random(12);
            for dims in [vec![], vec![5], vec![40000], vec![300, 3], vec![40, 50]] {
                let mut x = Tensor::random(&mut random, DType::F32, &dims, false, false);
                let before: Vec<f64> = (0..x.len()).map(|i| x.float(i)).collect();
                let output = x.operand();
                let steps = [
                    MapStep { code: Mul, dst: 1, a: 0, b: 0, c: 0, immediate: 0.0 },
                    MapStep { code: Add, dst: 1, a: 1, b: 0, c: 0, immediate: 0.0 },
                ];
                let args = MapArgs { steps: &steps, inputs: &[output], output };
                // SAFETY: the tensor outlives the call.
                run(row.map_tasks(&args), true, |task| unsafe { (row.map)(&args, task) });
                for (i, &a) in before.iter().enumerate() {
                    let a = a as f32;
                    assert_eq!(x.f32s[x.at(i)], a * a + a, "{} {dims:?}", row.isa);
                }
            }
        }
    }

    /// The results of an operation of one operand.
    fn unary(row: &Kernels, code: MapCode, x: &[f32]) -> Vec<f32> {
        let mut y = vec![f32::NAN; x.len()];
        let layout = Layout::new(&[x.len()], &[1]).unwrap();
        let operand = |ptr: *mut f32| Operand { ptr: ptr.cast(), dtype: DType::F32, layout };
        let args = MapArgs {
            steps: &[one(code, 1)],
            inputs: &[operand(x.as_ptr().cast_mut())],
            output: operand(y.as_mut_ptr()),
        };
        // SAFETY: both vectors are of the layout's length; the input is only read.
        run(row.map_tasks(&args), false, |task| unsafe { (row.map)(&args, task) });
        y
    }

    #[test]
    fn activations_without_denormals() {
        for row in rows() {
            // Products that are not fused with a sum are denormal for a small x.
            let small = if rounds_twice(row) { 1e-10 } else { 1e-30 };
            let all = (-30_000..=30_000).map(|i| i as f32 * 0.01).chain([-1e30, 1e30, small, -small]);
            let x: Vec<f32> = all.collect();
            for code in [Sigmoid, Tanh, Silu, Mish, Gelu, GeluTanh, Erf] {
                let mut y = Vec::new();
                without_denormals(&(row.isa, code), || y = unary(row, code, &x));
                assert!(y.iter().all(|y| *y == 0.0 || y.is_normal()), "{} {code:?}", row.isa);
            }
            let [low, high] = [-100.0, 30.0];
            let ends = |code| unary(row, code, &[low, high]);
            for (code, want) in [(Sigmoid, [0.0, 1.0]), (Silu, [0.0, high]), (Tanh, [-1.0, 1.0])] {
                assert_eq!(ends(code), want, "{} {code:?}", row.isa);
            }
            assert_eq!(unary(row, Exp, &[f32::NEG_INFINITY, -103.0]), [0.0, f32::from_bits(1)]);
        }
    }

    /// WebAssembly's kernels promise the portable ones' bits.
    #[test]
    fn wasm_has_the_bits_of_portable() {
        let Some(wasm) = cpu::find(Isa::WasmSimd128) else { return };
        let portable = cpu::find(Isa::Portable).unwrap();
        let x: Vec<f32> = (0..=u32::MAX).step_by(SWEEP_STEP).map(f32::from_bits).collect();
        let codes = [Neg, Abs, Floor, Ceil, Round, Sqrt, Reciprocal, Exp, Log, Sin, Cos, Tanh, Erf, Relu];
        let activations = [Sigmoid, Silu, Gelu, GeluTanh, Mish, Softplus];
        for code in codes.into_iter().chain(activations) {
            for ((&x, a), b) in x.iter().zip(unary(wasm, code, &x)).zip(unary(portable, code, &x)) {
                let same = a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
                assert!(same, "{code:?} of {x}: {a}, portable {b}");
            }
        }
    }

    /// Every 1009th float there is, of either sign.
    const SWEEP_STEP: usize = 1009;

    /// The largest error of a function over a sweep of all floats, in units in the last place of the exact result,
    /// not counting what is below `floor`.
    fn sweep(row: &Kernels, code: MapCode, floor: f64) -> f64 {
        let mut x: Vec<f32> = (0..=u32::MAX).step_by(SWEEP_STEP).map(f32::from_bits).collect();
        x.retain(|x| x.is_finite());
        let y = unary(row, code, &x);
        let mut worst = 0.0f64;
        for (&x, &y) in x.iter().zip(&y) {
            let want = oracle(code, f64::from(x), 0.0, 0.0);
            if f64::from(y) == want || want as f32 == y {
                continue;
            }
            let unit = 2f64.powi(libm::ilogb(want.abs().max(f64::from(f32::MIN_POSITIVE))) - 23);
            let error = (f64::from(y) - want).abs();
            if error > floor * x.abs().max(1.0) as f64 {
                worst = worst.max(error / unit);
            }
        }
        worst
    }

    /// Largest error in units in the last place, with and without fused multiply-add.
    const EXP_ULPS: [f64; 2] = [1.5, 2.0];
    const SIGMOID_ULPS: [f64; 2] = [3.0, 3.5];
    const TANH_ULPS: [f64; 2] = [2.0, 2.5];
    const ERF_ULPS: [f64; 2] = [2.0, 3.0];
    const SOFTPLUS_ULPS: [f64; 2] = [3.0, 4.0];
    const SILU_ULPS: [f64; 2] = [3.0, 3.5];
    const MISH_ULPS: [f64; 2] = [5.0, 6.0];
    /// GELU cancels for negative arguments: error relative to the argument instead.
    const GELU_FLOOR: f64 = 2.5 * EPS;
    /// Results near the smallest normal number, where exp(-x) overflows first, are not counted.
    const SIGMOID_FLOOR: f64 = 3e-37;

    #[test]
    fn error_bounds() {
        for row in rows() {
            let i = usize::from(rounds_twice(row));
            let bounds = [
                (Exp, EXP_ULPS[i], 0.0),
                (Sigmoid, SIGMOID_ULPS[i], SIGMOID_FLOOR),
                (Tanh, TANH_ULPS[i], 0.0),
                (Erf, ERF_ULPS[i], 0.0),
                (Softplus, SOFTPLUS_ULPS[i], 0.0),
                (Silu, SILU_ULPS[i], SIGMOID_FLOOR),
                (Mish, MISH_ULPS[i], SIGMOID_FLOOR),
                (Gelu, 1.0, GELU_FLOOR),
                (GeluTanh, 1.0, GELU_FLOOR),
            ];
            for (code, bound, floor) in bounds {
                let worst = sweep(row, code, floor);
                std::println!("{} {code:?} {worst:.2} ulp", row.isa);
                assert!(worst <= bound, "{} {code:?}: {worst} ulp", row.isa);
            }
        }
    }
}

mod reduce {
    use super::*;
    use ReduceKind::*;

    const KINDS: [ReduceKind; 13] =
        [Sum, Mean, Max, Min, Prod, L1, L2, SumSquare, LogSumExp, ArgMax, ArgMin, ArgMaxLast, ArgMinLast];

    fn oracle(kind: ReduceKind, x: &[f64]) -> f64 {
        let top = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let low = x.iter().copied().fold(f64::INFINITY, f64::min);
        let square = || x.iter().map(|x| x * x).sum::<f64>();
        let position = |p: Option<usize>| p.unwrap_or(0) as f64;
        match kind {
            Sum => x.iter().sum(),
            Mean => x.iter().sum::<f64>() / x.len() as f64,
            Max if x.iter().any(|x| x.is_nan()) => f64::NAN,
            Max => top,
            Min if x.iter().any(|x| x.is_nan()) => f64::NAN,
            Min => low,
            Prod => x.iter().product(),
            L1 => x.iter().map(|x| x.abs()).sum(),
            L2 => square().sqrt(),
            SumSquare => square(),
            LogSumExp => libm::log(x.iter().map(|x| libm::exp(*x)).sum()),
            ArgMax => position(x.iter().position(|&x| x == top)),
            ArgMin => position(x.iter().position(|&x| x == low)),
            ArgMaxLast => position(x.iter().rposition(|&x| x == top)),
            ArgMinLast => position(x.iter().rposition(|&x| x == low)),
        }
    }

    fn check(row: &Kernels, random: &mut Random, kind: ReduceKind, dims: &[usize], kept: usize) {
        let arg = matches!(kind, ArgMax | ArgMin | ArgMaxLast | ArgMinLast);
        let integer = matches!(kind, Sum | Max | Min | Prod) || arg;
        let dtype = if integer && random.below(3) == 0 { DType::I64 } else { DType::F32 };
        let mut input = Tensor::random(random, dtype, dims, true, false);
        if kind == Max && dtype == DType::F32 && random.flip() {
            input.f32s[0] = f32::NAN;
        }
        let mut output =
            Tensor::random(random, if arg { DType::I64 } else { dtype }, &dims[..kept], false, false);
        let operand = input.operand();
        fill_output(&mut output, |output, backwards| {
            let args = ReduceArgs { kind, input: operand, output };
            // SAFETY: the operands' memory outlives the call.
            run(row.reduce_tasks(&args), backwards, |task| unsafe { (row.reduce)(&args, task) });
        });
        let count: usize = dims[kept..].iter().product();
        for i in 0..output.len() {
            let what = (row.isa, kind, dtype, dims, kept, i);
            if dtype == DType::I64 && !arg {
                let x = (0..count).map(|j| input.int(i * count + j));
                let want = match kind {
                    Sum => x.fold(0, i64::wrapping_add),
                    Prod => x.fold(1, i64::wrapping_mul),
                    Max => x.max().unwrap_or(i64::MIN),
                    _ => x.min().unwrap_or(i64::MAX),
                };
                assert_eq!(output.int(i), want, "{what:?}");
                continue;
            }
            let x: Vec<f64> = (0..count).map(|j| input.float(i * count + j)).collect();
            let want = oracle(kind, &x);
            if arg {
                assert_eq!(output.int(i) as f64, want, "{what:?}");
                continue;
            }
            let size = x.iter().map(|x| x.abs()).sum::<f64>();
            close(
                output.f32s[output.at(i)],
                want,
                EPS * 64.0 * (size + 1.0) / if kind == Mean { count as f64 } else { 1.0 },
                &what,
            );
        }
    }

    #[test]
    fn random_shapes() {
        for row in rows() {
            let mut random = Random(13);
            for kind in KINDS {
                for _ in 0..60 {
                    let dims = dims(&mut random, 20000);
                    let kept = random.below(dims.len() + 1);
                    check(row, &mut random, kind, &dims, kept);
                }
                check(row, &mut random, kind, &[3, 5000], 1);
                check(row, &mut random, kind, &[5000, 17], 1);
            }
        }
    }
}

mod data {
    use super::*;
    use crate::kernels::data::*;

    const TYPES: [DType; 3] = [DType::F32, DType::I64, DType::Bool];

    #[test]
    fn copies() {
        let mut random = Random(14);
        for _ in 0..600 {
            let (dims, dtype) = (dims(&mut random, 100_000), random.pick(&TYPES));
            let mut input = Tensor::random(&mut random, dtype, &dims, true, true);
            let mut output = Tensor::random(&mut random, dtype, &dims, false, true);
            let from = input.operand();
            fill_output(&mut output, |output, backwards| {
                let args = CopyArgs { input: from, output };
                // SAFETY: the operands' memory outlives the call.
                run(copy_tasks(&args), backwards, |task| unsafe { copy(&args, task) });
            });
            for i in 0..output.len() {
                assert_eq!(output.float(i), input.float(i), "{:?} {:?}", input.layout, output.layout);
            }
        }
    }

    #[test]
    fn gathers() {
        let mut random = Random(16);
        for _ in 0..300 {
            let mut all = dims(&mut random, 3000);
            all.push(1 + random.below(6));
            let axis = random.below(all.len());
            all[axis] = all[axis].max(1);
            let n = all[axis];
            let picks: Vec<usize> = (0..random.below(3)).map(|_| 1 + random.below(5)).collect();
            let dtype = random.pick(&TYPES);
            let mut data = Tensor::random(&mut random, dtype, &all, false, true);
            let mut indices = Tensor::random(&mut random, DType::I64, &picks, true, true);
            let mut out_dims = all[..axis].to_vec();
            out_dims.extend(&picks);
            out_dims.extend(&all[axis + 1..]);
            let mut output = Tensor::random(&mut random, dtype, &out_dims, false, false);
            let (from, by) = (data.operand(), indices.operand());
            fill_output(&mut output, |output, backwards| {
                let args = GatherArgs { data: from, indices: by, output, axis };
                // SAFETY: the operands' memory outlives the call.
                run(gather_tasks(&args), backwards, |task| unsafe { gather(&args, task) });
            });
            let rest: usize = all[axis + 1..].iter().product();
            let count: usize = picks.iter().product();
            for i in 0..output.len() {
                let (o, p, r) = (i / rest / count, i / rest % count, i % rest);
                let pick = indices.int(p);
                let pick = (if pick < 0 { pick + n as i64 } else { pick }).clamp(0, n as i64 - 1) as usize;
                assert_eq!(
                    output.float(i),
                    data.float((o * n + pick) * rest + r),
                    "{all:?} {picks:?} {axis}"
                );
            }
        }
    }

    #[test]
    fn cumulative_sums() {
        let mut random = Random(17);
        for _ in 0..200 {
            let mut all = dims(&mut random, 5000);
            all.push(1 + random.below(9));
            let (axis, dtype) = (random.below(all.len()), random.pick(&TYPES[..2]));
            let (exclusive, reverse) = (random.flip(), random.flip());
            let mut input = Tensor::random(&mut random, dtype, &all, true, true);
            let mut output = Tensor::random(&mut random, dtype, &all, false, false);
            let from = input.operand();
            fill_output(&mut output, |output, backwards| {
                let args = CumSumArgs { input: from, output, axis, exclusive, reverse };
                // SAFETY: the operands' memory outlives the call.
                run(cumsum_tasks(&args), backwards, |task| unsafe { cumsum(&args, task) });
            });
            let (n, rest) = (all[axis], all[axis + 1..].iter().product::<usize>());
            for i in 0..output.len() {
                let at = i / rest % n;
                let seen = |j: &usize| {
                    if reverse {
                        *j > at || (*j == at && !exclusive)
                    } else {
                        *j < at || (*j == at && !exclusive)
                    }
                };
                let want: f64 = (0..n).filter(seen).map(|j| input.float(i - at * rest + j * rest)).sum();
                assert!((output.float(i) - want).abs() <= EPS * 2.0 * want.abs(), "{all:?} {axis}");
            }
        }
    }
}

mod int {
    use super::*;
    use crate::kernels::int::*;

    fn oracle(code: IntCode, a: i128, b: i128, c: i128) -> i128 {
        let truth = i128::from;
        match code {
            IntCode::Copy => a,
            IntCode::Neg => -a,
            IntCode::Abs => a.abs(),
            IntCode::Sign => a.signum(),
            IntCode::Not => truth(a == 0),
            IntCode::Add => a + b,
            IntCode::Sub => a - b,
            IntCode::Mul => a * b,
            IntCode::Div | IntCode::Mod | IntCode::Fmod if b == 0 => 0,
            IntCode::Div => a / b,
            IntCode::Min => a.min(b),
            IntCode::Max => a.max(b),
            IntCode::Pow if b < 0 && a.abs() != 1 => 0,
            IntCode::Pow => (0..b.unsigned_abs() % 64).fold(1i64, |p, _| p.wrapping_mul(a as i64)).into(),
            IntCode::Mod => a.rem_euclid(b.abs()) + if b < 0 && a.rem_euclid(b.abs()) != 0 { b } else { 0 },
            IntCode::Fmod => a % b,
            IntCode::And => truth(a != 0 && b != 0),
            IntCode::Or => truth(a != 0 || b != 0),
            IntCode::Xor => truth((a != 0) != (b != 0)),
            IntCode::Equal => truth(a == b),
            IntCode::Less => truth(a < b),
            IntCode::LessEqual => truth(a <= b),
            IntCode::Greater => truth(a > b),
            IntCode::GreaterEqual => truth(a >= b),
            IntCode::Where => {
                if a != 0 {
                    b
                } else {
                    c
                }
            }
        }
    }

    #[test]
    fn every_operation() {
        use IntCode::*;
        let codes = [
            Copy,
            Neg,
            Abs,
            Sign,
            Not,
            Add,
            Sub,
            Mul,
            Div,
            Min,
            Max,
            Pow,
            Mod,
            Fmod,
            And,
            Or,
            Xor,
            Equal,
            Less,
            LessEqual,
            Greater,
            GreaterEqual,
            Where,
        ];
        let mut random = Random(18);
        for code in codes {
            for round in 0..20 {
                let dims = dims(&mut random, 30000);
                let mut inputs = [0; 3].map(|_| {
                    let dtype = random.pick(&[DType::I64, DType::I64, DType::Bool]);
                    Tensor::random(&mut random, dtype, &dims, true, true)
                });
                if round == 0 && code != Pow {
                    inputs[0].i64s[0] = i64::MIN;
                    inputs[1].i64s[0] = -1;
                }
                let [a, b, c] = inputs.each_mut().map(|t| t.operand());
                let dtype = random.pick(&[DType::I64, DType::Bool]);
                let mut output = Tensor::random(&mut random, dtype, &dims, false, false);
                fill_output(&mut output, |output, backwards| {
                    let args = IntArgs { code, a, b, c, output };
                    // SAFETY: the operands' memory outlives the call.
                    run(int_tasks(&args), backwards, |task| unsafe { int(&args, task) });
                });
                for i in 0..output.len() {
                    let [a, b, c] = [0, 1, 2].map(|t: usize| i128::from(inputs[t].int(i)));
                    let want = oracle(code, a, b, c) as i64;
                    let want = if dtype == DType::Bool { i64::from(want != 0) } else { want };
                    assert_eq!(output.int(i), want, "{code:?} {a} {b} {c}");
                }
            }
        }
    }
}

#[test]
fn names() {
    for isa in Isa::ALL {
        assert_eq!(isa.name().parse(), Ok(isa));
    }
    assert!("x86-avx".parse::<Isa>().is_err());
    assert_eq!(cpu::best().isa, rows().next().unwrap().isa);
    assert!(cpu::find(Isa::Portable).is_some());
}
