//! Where the elements of a tensor lie: element type, dimensions and strides.

use rkyv::{Archive, Deserialize, Serialize};

/// The most dimensions a tensor may have.
pub const MAX_RANK: usize = 8;

/// Element types at run time. Narrower integers are widened to `I64`, other floats are converted to `F32`, on import.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[rkyv(derive(Clone, Copy))]
#[repr(u8)]
pub enum DType {
    F32,
    I64,
    Bool,
}

impl DType {
    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            DType::F32 => 4,
            DType::I64 => 8,
            DType::Bool => 1,
        }
    }
}

impl core::fmt::Display for DType {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            DType::F32 => "f32",
            DType::I64 => "i64",
            DType::Bool => "bool",
        })
    }
}

/// Dimensions and strides, in elements. The order of the dimensions is the network's own (ONNX) order; how they lie
/// in memory is what the strides say: NHWC data of an NCHW tensor has a channel stride of 1.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[rkyv(derive(Clone, Copy))]
pub struct Layout {
    pub rank: u8,
    pub dims: [u32; MAX_RANK],
    pub strides: [i32; MAX_RANK],
}

impl Layout {
    /// A layout of the given dimensions and strides; `None` if they are too many or do not pair up.
    pub fn new(dims: &[usize], strides: &[isize]) -> Option<Layout> {
        if dims.len() > MAX_RANK || dims.len() != strides.len() {
            return None;
        }
        let mut layout = Layout { rank: dims.len() as u8, dims: [1; MAX_RANK], strides: [0; MAX_RANK] };
        for (i, (&d, &s)) in dims.iter().zip(strides).enumerate() {
            layout.dims[i] = u32::try_from(d).ok()?;
            layout.strides[i] = i32::try_from(s).ok()?;
        }
        Some(layout)
    }

    pub fn rank(&self) -> usize {
        (self.rank as usize).min(MAX_RANK)
    }

    /// Dimension `axis`; 1 beyond the rank.
    pub fn dim(&self, axis: usize) -> usize {
        self.dims[axis] as usize
    }

    pub fn stride(&self, axis: usize) -> isize {
        self.strides[axis] as isize
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.dims[..self.rank()].iter().map(|&d| d as usize).product()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same elements in the same order with as few dimensions as possible.
    pub fn merged(&self) -> Layout {
        let mut out = Layout { rank: 0, dims: [1; MAX_RANK], strides: [0; MAX_RANK] };
        for axis in (0..self.rank()).filter(|&axis| self.dims[axis] != 1) {
            let (dim, stride) = (self.dims[axis], self.strides[axis]);
            let last = out.rank().wrapping_sub(1);
            let joint = out.rank > 0 && i64::from(out.strides[last]) == i64::from(stride) * i64::from(dim);
            match out.dims[last.min(MAX_RANK - 1)].checked_mul(dim) {
                Some(product) if joint => (out.dims[last], out.strides[last]) = (product, stride),
                _ => {
                    (out.dims[out.rank()], out.strides[out.rank()]) = (dim, stride);
                    out.rank += 1;
                }
            }
        }
        out
    }

    /// Lowest and highest element offset that the layout reaches; `None` if it has no element.
    pub fn reach(&self) -> Option<(i64, i64)> {
        if self.dims[..self.rank()].contains(&0) {
            return None;
        }
        let (mut low, mut high) = (0i64, 0i64);
        for axis in 0..self.rank() {
            let span = (i64::from(self.dims[axis]) - 1) * i64::from(self.strides[axis]);
            // What nobody has checked yet may reach anywhere.
            low = low.saturating_add(span.min(0));
            high = high.saturating_add(span.max(0));
        }
        Some((low, high))
    }
}
