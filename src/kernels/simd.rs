//! The vector trait that every kernel body is written over.

/// The widest vector, in lanes; what stack buffers for one vector are sized by.
pub const MAX_LANES: usize = 16;

/// Added to a value of small magnitude, it rounds that to an integer n, and leaves n + 127 in the low bits: what the
/// exponent of 2^n is in memory.
pub const POW2_BIAS: f32 = 12_582_912.0 + 127.0;

/// What the exponents of single and half precision are apart, as a factor.
pub const HALF_EXPONENT: f32 = f32::from_bits((127 + 112) << 23);

/// The numbers of the lanes.
const LANE: [f32; MAX_LANES] = [0., 1., 2., 3., 4., 5., 6., 7., 8., 9., 10., 11., 12., 13., 14., 15.];

/// The bits of a number in half precision (IEEE 754 binary16).
pub type F16 = u16;

/// What a matrix in memory consists of.
pub(super) trait Element: Copy {
    /// # Safety
    /// As [`Simd::load`].
    unsafe fn load<V: Simd>(ptr: *const Self) -> V;
    /// # Safety
    /// As [`Simd::store`].
    unsafe fn store<V: Simd>(vector: V, ptr: *mut Self);
    /// # Safety
    /// As [`Simd::store_first`].
    unsafe fn store_first<V: Simd>(vector: V, ptr: *mut Self, count: usize);
}

impl Element for f32 {
    #[inline(always)]
    unsafe fn load<V: Simd>(ptr: *const f32) -> V {
        // SAFETY: the caller's contract.
        unsafe { V::load(ptr) }
    }

    #[inline(always)]
    unsafe fn store<V: Simd>(vector: V, ptr: *mut f32) {
        // SAFETY: the caller's contract.
        unsafe { vector.store(ptr) }
    }

    #[inline(always)]
    unsafe fn store_first<V: Simd>(vector: V, ptr: *mut f32, count: usize) {
        // SAFETY: the caller's contract.
        unsafe { vector.store_first(ptr, count) }
    }
}

impl Element for F16 {
    #[inline(always)]
    unsafe fn load<V: Simd>(ptr: *const F16) -> V {
        // SAFETY: the caller's contract.
        unsafe { V::load_half(ptr) }
    }

    #[inline(always)]
    unsafe fn store<V: Simd>(vector: V, ptr: *mut F16) {
        // SAFETY: the caller's contract.
        unsafe { vector.store_half(ptr) }
    }

    #[inline(always)]
    unsafe fn store_first<V: Simd>(vector: V, ptr: *mut F16, count: usize) {
        // SAFETY: the caller's contract.
        unsafe { vector.store_half_first(ptr, count) }
    }
}

/// A vector of f32 lanes.
///
/// A value is the proof that the CPU has the instruction set: only [`Simd::splat`] and [`Simd::load`] make one, and
/// those are unsafe for that reason; operations on values are safe. Everything is `#[inline(always)]` and must end up
/// in a function that enables the instruction set, hence no closures: they would not inherit it.
pub trait Simd: Copy {
    /// A multiple of four.
    const LANES: usize;
    type Mask: Copy;
    /// Whether [`Simd::mul_add_lane`] is one instruction.
    const BY_LANE: bool = false;
    /// Whether the CPU has sixteen registers for vectors, and not 32.
    const FEW_REGISTERS: bool = false;

    /// # Safety
    /// The CPU has the instruction set of this type.
    unsafe fn splat(value: f32) -> Self;
    /// # Safety
    /// As [`Simd::splat`]; `ptr` is readable for LANES values. No alignment is asked for.
    unsafe fn load(ptr: *const f32) -> Self;
    /// # Safety
    /// `ptr` is writable for LANES values.
    unsafe fn store(self, ptr: *mut f32);

    fn add(self, b: Self) -> Self;
    fn sub(self, b: Self) -> Self;
    fn mul(self, b: Self) -> Self;
    fn div(self, b: Self) -> Self;
    /// `self * b + c`, in one rounding where the CPU has it and in two where not.
    fn mul_add(self, b: Self, c: Self) -> Self;
    /// Lane LANE, one of the first four, of `self` in every lane, times `b`, plus `c`.
    #[inline(always)]
    fn mul_add_lane<const LANE: i32>(self, b: Self, c: Self) -> Self {
        self.like(self.to_array()[LANE as usize]).mul_add(b, c)
    }
    /// NaN if `b` is; unspecified if only `self` is.
    fn min(self, b: Self) -> Self;
    /// NaN if `b` is; unspecified if only `self` is.
    fn max(self, b: Self) -> Self;
    fn sqrt(self) -> Self;
    /// To the nearest integer, ties to even.
    fn round(self) -> Self;
    fn floor(self) -> Self;
    fn abs(self) -> Self;
    fn neg(self) -> Self;
    /// The magnitude of `self` with the sign of `sign`.
    fn copysign(self, sign: Self) -> Self;
    /// 2 to the power of n, for n + [`POW2_BIAS`] and an integral n in -127..=128, whose powers are 0 and infinity;
    /// unspecified for any other.
    fn pow2(self) -> Self;
    fn lt(self, b: Self) -> Self::Mask;
    fn le(self, b: Self) -> Self::Mask;
    fn eq(self, b: Self) -> Self::Mask;
    /// Lanes of `a` where the mask is set, of `b` elsewhere.
    fn select(mask: Self::Mask, a: Self, b: Self) -> Self;

    /// LANES values in half precision, exactly.
    ///
    /// # Safety
    /// As [`Simd::load`].
    unsafe fn load_half(ptr: *const F16) -> Self;
    /// Rounds to half precision, ties to even; beyond its range to infinity.
    ///
    /// # Safety
    /// As [`Simd::store`].
    unsafe fn store_half(self, ptr: *mut F16);

    /// Rounds to whole numbers, ties to even; the nearest there is of what is beyond 16 bits, unspecified beyond 32.
    ///
    /// # Safety
    /// As [`Simd::store`].
    #[inline(always)]
    unsafe fn store_whole(self, ptr: *mut i16) {
        for (i, x) in self.round().to_array()[..Self::LANES].iter().enumerate() {
            // SAFETY: the caller vouches for LANES values.
            unsafe { *ptr.add(i) = *x as i16 };
        }
    }

    /// Asks for the cache line at `ptr`, which may be any address, and for the next one.
    #[inline(always)]
    fn prefetch(_ptr: *const u8) {}

    /// `value` in every lane.
    #[inline(always)]
    fn like(self, value: f32) -> Self {
        // SAFETY: `self` proves the instruction set.
        unsafe { Self::splat(value) }
    }

    /// The first `count` (below LANES) values at `ptr`, zeros in the other lanes.
    ///
    /// # Safety
    /// As [`Simd::load`], for `count` values.
    #[inline(always)]
    unsafe fn load_first(ptr: *const f32, count: usize) -> Self {
        let mut buffer = [0.0; MAX_LANES];
        // SAFETY: count < LANES <= MAX_LANES, and the caller vouches for `ptr`.
        unsafe {
            core::ptr::copy_nonoverlapping(ptr, buffer.as_mut_ptr(), count);
            Self::load(buffer.as_ptr())
        }
    }

    /// Stores the first `count` (below LANES) lanes.
    ///
    /// # Safety
    /// As [`Simd::store`], for `count` values.
    #[inline(always)]
    unsafe fn store_first(self, ptr: *mut f32, count: usize) {
        // SAFETY: count < LANES, and the caller vouches for `ptr`.
        unsafe { core::ptr::copy_nonoverlapping(self.to_array().as_ptr(), ptr, count) }
    }

    /// Stores the first `count` (below LANES) lanes as [`Simd::store_half`].
    ///
    /// # Safety
    /// As [`Simd::store`], for `count` values.
    #[inline(always)]
    unsafe fn store_half_first(self, ptr: *mut F16, count: usize) {
        let mut buffer = [0; MAX_LANES];
        // SAFETY: count < LANES <= MAX_LANES, and the caller vouches for `ptr`.
        unsafe {
            self.store_half(buffer.as_mut_ptr());
            core::ptr::copy_nonoverlapping(buffer.as_ptr(), ptr, count);
        }
    }

    /// Loads a whole vector, or the `left` values that there are.
    ///
    /// # Safety
    /// As [`Simd::load`], for `left` values at most.
    #[inline(always)]
    unsafe fn load_upto(ptr: *const f32, left: usize) -> Self {
        // SAFETY: the caller's contract.
        unsafe { if left >= Self::LANES { Self::load(ptr) } else { Self::load_first(ptr, left) } }
    }

    /// A vector of a block of NV: only the last vector of a row, taken in a block of one, may be partial.
    ///
    /// # Safety
    /// As [`Simd::load`], for `left` values at most.
    #[inline(always)]
    unsafe fn load_block<const NV: usize>(ptr: *const f32, left: usize) -> Self {
        // SAFETY: the caller's contract.
        unsafe { if NV > 1 { Self::load(ptr) } else { Self::load_upto(ptr, left) } }
    }

    /// Stores a whole vector, or as many lanes as `left` says.
    ///
    /// # Safety
    /// As [`Simd::store`], for `left` values at most.
    #[inline(always)]
    unsafe fn store_upto(self, ptr: *mut f32, left: usize) {
        // SAFETY: the caller's contract.
        unsafe { if left >= Self::LANES { self.store(ptr) } else { self.store_first(ptr, left) } }
    }

    /// The lanes, followed by zeros.
    #[inline(always)]
    fn to_array(self) -> [f32; MAX_LANES] {
        let mut buffer = [0.0; MAX_LANES];
        // SAFETY: LANES <= MAX_LANES.
        unsafe { self.store(buffer.as_mut_ptr()) };
        buffer
    }

    /// Lane by lane through a scalar function, for what is rare.
    #[inline(always)]
    fn lanes(self, f: fn(f32) -> f32) -> Self {
        let mut buffer = self.to_array();
        for x in &mut buffer[..Self::LANES] {
            *x = f(*x);
        }
        // SAFETY: `self` proves the instruction set; the buffer holds LANES values.
        unsafe { Self::load(buffer.as_ptr()) }
    }

    /// Lane by lane through a scalar function of two values, for what is rare.
    #[inline(always)]
    fn lanes2(self, b: Self, f: fn(f32, f32) -> f32) -> Self {
        let (mut x, y) = (self.to_array(), b.to_array());
        for (x, y) in x[..Self::LANES].iter_mut().zip(y) {
            *x = f(*x, y);
        }
        // SAFETY: `self` proves the instruction set; the buffer holds LANES values.
        unsafe { Self::load(x.as_ptr()) }
    }

    /// The first `count` lanes of `self`, those of `other` beyond.
    #[inline(always)]
    fn keep(self, count: usize, other: Self) -> Self {
        // SAFETY: `self` proves the instruction set; there are MAX_LANES lane numbers.
        let lane = unsafe { Self::load(LANE.as_ptr()) };
        Self::select(lane.lt(self.like(count as f32)), self, other)
    }

    /// 1 / self to about a unit in the last place, for normal values whose reciprocals are normal: exact for powers of
    /// two, NaN of NaN, unspecified for any other. Where division is slow, this is not.
    #[inline(always)]
    fn reciprocal(self) -> Self {
        self.like(1.0).div(self)
    }

    /// The sum of all lanes.
    #[inline(always)]
    fn total(self) -> f32 {
        let mut lanes = self.to_array();
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                lanes[i] += lanes[i + half];
            }
        }
        lanes[0]
    }

    /// The sums of the lanes of eight vectors.
    #[inline(always)]
    fn totals(vectors: [Self; 8]) -> [f32; 8] {
        let mut totals = [0.0; 8];
        for (total, vector) in totals.iter_mut().zip(vectors) {
            *total = vector.total();
        }
        totals
    }

    /// The largest lane; unspecified if a lane is NaN.
    #[inline(always)]
    fn largest(self) -> f32 {
        let larger = |a, b| if a > b { a } else { b };
        self.to_array()[..Self::LANES].iter().copied().fold(f32::NEG_INFINITY, larger)
    }

    /// The sum of all lanes in f64.
    #[inline(always)]
    fn sum(self) -> f64 {
        let mut sums = [0.0; 4];
        for x in self.to_array()[..Self::LANES].chunks_exact(4) {
            for (sum, &x) in sums.iter_mut().zip(x) {
                *sum += f64::from(x);
            }
        }
        (sums[0] + sums[1]) + (sums[2] + sums[3])
    }

    /// The smaller one, NaN if either is.
    #[inline(always)]
    fn min_nan(self, b: Self) -> Self {
        Self::select(self.eq(self), self.min(b), self)
    }

    /// The larger one, NaN if either is.
    #[inline(always)]
    fn max_nan(self, b: Self) -> Self {
        Self::select(self.eq(self), self.max(b), self)
    }
}

/// Vectors with a gate of fewer bits than f32, for what is multiplied in 16 bits.
pub trait Gate: Simd {
    /// 1 / (1 + 2^x), NaN of NaN, to fourteen bits.
    fn gate(self) -> Self;
}
