//! Arrays in NumPy's `.npy` files.
//!
//! Every numeric type that a person saves by accident is read (`float64`, `int32`, Fortran order, ...) and becomes
//! one of the three that networks take. A file may be anything: its header is checked before `npyz` parses it, and
//! memory grows only with bytes that are there.
#![forbid(unsafe_code)]

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
};

use fewstep::kernels;
use half::f16;
use npyz::{DType, Endianness, NpyHeader, Order, TypeChar, WriterBuilder};

use super::output::{self, OutputError};

/// NumPy refuses longer headers too; that of an array of numbers is 118 bytes.
const MAX_HEADER: usize = 10_000;
/// Deeper than the header of a structured array, far less deep than the stack of the recursive parser.
const MAX_NESTING: usize = 4;

#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    pub shape: Vec<usize>,
    pub data: Elements,
}

/// Elements in C order, the last axis fastest.
#[derive(Clone, Debug, PartialEq)]
pub enum Elements {
    /// From `float16`, `float32` and `float64`.
    F32(Vec<f32>),
    /// From all signed and unsigned integers.
    I64(Vec<i64>),
    Bool(Vec<bool>),
}

impl Elements {
    pub fn dtype(&self) -> kernels::DType {
        match self {
            Elements::F32(_) => kernels::DType::F32,
            Elements::I64(_) => kernels::DType::I64,
            Elements::Bool(_) => kernels::DType::Bool,
        }
    }
}

/// Read the array in the file `path`.
pub fn read(path: &Path) -> Result<Array, NpyError> {
    let file = File::open(path).map_err(|source| NpyError::Read { path: path.into(), source })?;
    decode(&mut BufReader::new(file)).map_err(|problem| problem.at(path))
}

/// Write `values`, in C order, as an array of `float32`.
pub fn write_f32(path: &Path, shape: &[usize], values: &[f32]) -> Result<(), NpyError> {
    write(path, shape, values)
}

/// Write `values`, in C order, as an array of `int64`.
pub fn write_i64(path: &Path, shape: &[usize], values: &[i64]) -> Result<(), NpyError> {
    write(path, shape, values)
}

/// Write `values`, in C order, as an array of `bool`.
pub fn write_bool(path: &Path, shape: &[usize], values: &[bool]) -> Result<(), NpyError> {
    write(path, shape, values)
}

#[derive(Debug, thiserror::Error)]
pub enum NpyError {
    #[error("{path}: cannot read the file: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path}: {problem}")]
    Invalid { path: PathBuf, problem: Problem },
    #[error(transparent)]
    Write(#[from] OutputError),
    #[error("{path}: cannot write {elements} elements as an array of shape {shape:?}")]
    Shape { path: PathBuf, shape: Vec<usize>, elements: usize },
}

/// What is wrong with the contents of a file.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    #[error("cannot read the file: {0}")]
    Io(#[from] io::Error),
    #[error("not an .npy file; write one with numpy.save")]
    NotNpy,
    #[error("a zip archive, not an .npy file; write the array in it with numpy.save, not numpy.savez")]
    Zip,
    #[error("the header has {0} bytes, more than the {MAX_HEADER} of any array of numbers")]
    LongHeader(usize),
    #[error("the header is not that of an array of numbers: {0}")]
    Header(String),
    #[error("the elements are {0}; save the array with .astype('<f4') or .astype('<i8')")]
    Unsupported(String),
    #[error("the file is cut short: {shape:?} needs {expected} bytes of elements, {found} are there")]
    Truncated { shape: Vec<usize>, expected: usize, found: usize },
    #[error("element {index} (counted as stored) is {value}, too large for {holder}")]
    TooLarge { index: usize, value: String, holder: &'static str },
}

impl Problem {
    fn at(self, path: &Path) -> NpyError {
        match self {
            Problem::Io(source) => NpyError::Read { path: path.into(), source },
            problem => NpyError::Invalid { path: path.into(), problem },
        }
    }
}

fn decode(file: &mut impl Read) -> Result<Array, Problem> {
    let header = read_header(file)?;
    let number = Number::of(&header.dtype())?;
    let shape = to_usize(header.shape())?;
    let bytes = read_elements(file, &shape, number.bytes)?;
    let data = number.decode(&bytes)?;
    if header.order() == Order::C {
        return Ok(Array { shape, data });
    }
    let strides = to_usize(header.strides())?;
    let data = match data {
        Elements::F32(values) => Elements::F32(to_c_order(&values, &shape, &strides)),
        Elements::I64(values) => Elements::I64(to_c_order(&values, &shape, &strides)),
        Elements::Bool(values) => Elements::Bool(to_c_order(&values, &shape, &strides)),
    };
    Ok(Array { shape, data })
}

/// Everything before the elements: magic, version, length of the dictionary, dictionary.
fn read_header(file: &mut impl Read) -> Result<NpyHeader, Problem> {
    let mut bytes = Vec::new();
    extend(file, &mut bytes, 8)?;
    if bytes.starts_with(b"PK\x03\x04") {
        return Err(Problem::Zip);
    }
    if bytes.len() < 8 || !bytes.starts_with(b"\x93NUMPY") {
        return Err(Problem::NotNpy);
    }
    let length_bytes = if bytes[6] == 1 { 2 } else { 4 };
    extend(file, &mut bytes, length_bytes)?;
    let length = bytes[8..].iter().rev().fold(0, |length, &byte| length << 8 | usize::from(byte));
    if length > MAX_HEADER {
        return Err(Problem::LongHeader(length));
    }
    let start = bytes.len();
    extend(file, &mut bytes, length)?;
    check_header(&bytes[start..]).map_err(|reason| Problem::Header(reason.into()))?;
    NpyHeader::from_reader(&bytes[..]).map_err(|error| Problem::Header(error.to_string()))
}

/// Append the next `count` bytes, or what is left of the file.
fn extend(file: &mut impl Read, bytes: &mut Vec<u8>, count: usize) -> io::Result<()> {
    file.take(count as u64).read_to_end(bytes).map(drop)
}

/// What `npyz` does not survive: deep nesting overflows its parser's stack, and the product of the shape overflows.
/// Only decimal literals may stand in the header, and even the product of all of them must fit.
fn check_header(text: &[u8]) -> Result<(), &'static str> {
    let text = str::from_utf8(text).map_err(|_| "it is not text")?;
    if !text.is_ascii() || text.contains(['\\', '+', '-']) {
        return Err("it has characters that do not belong there");
    }
    let mut depth = 0usize;
    for c in text.chars() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_NESTING {
            return Err("its brackets are nested too deep");
        }
    }
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words
        .filter(|word| word.starts_with(|c: char| c.is_ascii_digit()))
        .try_fold(1u64, |product, word| product.checked_mul(word.parse::<u64>().ok()?.max(1)))
        .map(drop)
        .ok_or("a number in it is too large or not decimal")
}

fn to_usize(values: &[u64]) -> Result<Vec<usize>, Problem> {
    values
        .iter()
        .map(|&value| usize::try_from(value).map_err(|_| Problem::Header(format!("{value} is too large"))))
        .collect()
}

/// Memory is taken as bytes arrive, so a short file with a huge shape costs nothing.
fn read_elements(file: &mut impl Read, shape: &[usize], size: usize) -> Result<Vec<u8>, Problem> {
    let expected = shape
        .iter()
        .try_fold(size, |product, &length| product.checked_mul(length))
        .ok_or_else(|| Problem::Header(format!("an array of shape {shape:?} fits in no memory")))?;
    let mut bytes = Vec::new();
    extend(file, &mut bytes, expected)?;
    if bytes.len() < expected {
        return Err(Problem::Truncated { shape: shape.into(), expected, found: bytes.len() });
    }
    Ok(bytes)
}

/// How one element is stored, little endian.
struct Number {
    kind: TypeChar,
    bytes: usize,
}

impl Number {
    fn of(dtype: &DType) -> Result<Self, Problem> {
        let DType::Plain(plain) = dtype else {
            return Err(Problem::Unsupported("records".into()));
        };
        let number = Number { kind: plain.type_char(), bytes: plain.num_bytes().unwrap_or(0) };
        let known = match number.kind {
            TypeChar::Float => matches!(number.bytes, 2 | 4 | 8),
            TypeChar::Int | TypeChar::Uint => matches!(number.bytes, 1 | 2 | 4 | 8),
            TypeChar::Bool => number.bytes == 1,
            _ => false,
        };
        if !known || (plain.endianness() == Endianness::Big && number.bytes > 1) {
            return Err(Problem::Unsupported(format!("of type '{plain}'")));
        }
        Ok(number)
    }

    fn decode(&self, bytes: &[u8]) -> Result<Elements, Problem> {
        Ok(match (self.kind, self.bytes) {
            (TypeChar::Float, 2) => Elements::F32(map(bytes, |b| f16::from_le_bytes(b).to_f32())),
            (TypeChar::Float, 4) => Elements::F32(map(bytes, f32::from_le_bytes)),
            (TypeChar::Float, _) => Elements::F32(try_map(bytes, f64::from_le_bytes, narrow, "float32")?),
            (TypeChar::Int, 1) => Elements::I64(map(bytes, |b| i8::from_le_bytes(b).into())),
            (TypeChar::Int, 2) => Elements::I64(map(bytes, |b| i16::from_le_bytes(b).into())),
            (TypeChar::Int, 4) => Elements::I64(map(bytes, |b| i32::from_le_bytes(b).into())),
            (TypeChar::Int, _) => Elements::I64(map(bytes, i64::from_le_bytes)),
            (TypeChar::Uint, 1) => Elements::I64(map(bytes, |b| u8::from_le_bytes(b).into())),
            (TypeChar::Uint, 2) => Elements::I64(map(bytes, |b| u16::from_le_bytes(b).into())),
            (TypeChar::Uint, 4) => Elements::I64(map(bytes, |b| u32::from_le_bytes(b).into())),
            (TypeChar::Uint, _) => {
                Elements::I64(try_map(bytes, u64::from_le_bytes, |v| v.try_into().ok(), "int64")?)
            }
            _ => Elements::Bool(map(bytes, |[byte]| byte != 0)),
        })
    }
}

fn map<const N: usize, T>(bytes: &[u8], decode: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks().0.iter().map(|&element| decode(element)).collect()
}

fn try_map<const N: usize, S: Copy + ToString, T>(
    bytes: &[u8],
    decode: impl Fn([u8; N]) -> S,
    convert: impl Fn(S) -> Option<T>,
    holder: &'static str,
) -> Result<Vec<T>, Problem> {
    let elements = bytes.as_chunks().0.iter().enumerate();
    elements
        .map(|(index, &element)| {
            let value = decode(element);
            convert(value).ok_or_else(|| Problem::TooLarge { index, value: value.to_string(), holder })
        })
        .collect()
}

/// Rounded to the nearest; infinite only if it was.
fn narrow(value: f64) -> Option<f32> {
    let narrowed = value as f32;
    (narrowed.is_finite() || !value.is_finite()).then_some(narrowed)
}

/// `stored` has `strides` elements between neighbours along each axis.
fn to_c_order<T: Copy>(stored: &[T], shape: &[usize], strides: &[usize]) -> Vec<T> {
    if stored.is_empty() {
        return Vec::new();
    }
    let mut offsets = vec![0];
    for (&length, &stride) in shape.iter().zip(strides) {
        offsets = offsets.iter().flat_map(|offset| (0..length).map(move |i| offset + i * stride)).collect();
    }
    offsets.into_iter().map(|offset| stored[offset]).collect()
}

fn write<T: npyz::AutoSerialize + Copy>(path: &Path, shape: &[usize], values: &[T]) -> Result<(), NpyError> {
    let elements = shape.iter().try_fold(1usize, |product, &length| product.checked_mul(length));
    if elements != Some(values.len()) {
        return Err(NpyError::Shape { path: path.into(), shape: shape.into(), elements: values.len() });
    }
    let shape: Vec<u64> = shape.iter().map(|&length| length as u64).collect();
    output::write_atomically(path, |out| {
        let mut file = npyz::WriteOptions::new().default_dtype().shape(&shape).writer(out).begin_nd()?;
        file.extend(values.iter().copied())?;
        file.finish()
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A version 1 file as NumPy writes it, but for the padding.
    fn file(dictionary: &str, elements: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((dictionary.len() as u16).to_le_bytes());
        bytes.extend(dictionary.as_bytes());
        bytes.extend(elements);
        bytes
    }

    fn header(dtype: &str, fortran: &str, shape: &str) -> String {
        format!("{{'descr': '{dtype}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n")
    }

    fn parse(dictionary: &str, elements: &[u8]) -> Result<Array, Problem> {
        decode(&mut &file(dictionary, elements)[..])
    }

    fn error(dictionary: &str, elements: &[u8]) -> String {
        parse(dictionary, elements).unwrap_err().to_string()
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        for shape in [&[6][..], &[2, 3], &[1, 2, 1, 3]] {
            let shape = shape.to_vec();
            let values = vec![0.0, -1.5, f32::MAX, f32::MIN_POSITIVE, f32::INFINITY, -0.0];
            write_f32(&path, &shape, &values).unwrap();
            assert_eq!(read(&path).unwrap(), Array { shape: shape.clone(), data: Elements::F32(values) });
            let values = vec![0, -1, i64::MAX, i64::MIN, 4, 5];
            write_i64(&path, &shape, &values).unwrap();
            assert_eq!(read(&path).unwrap(), Array { shape: shape.clone(), data: Elements::I64(values) });
            let values = vec![true, false, false, true, true, false];
            write_bool(&path, &shape, &values).unwrap();
            assert_eq!(read(&path).unwrap(), Array { shape, data: Elements::Bool(values) });
        }
        write_f32(&path, &[], &[7.0]).unwrap();
        assert_eq!(read(&path).unwrap(), Array { shape: vec![], data: Elements::F32(vec![7.0]) });
        write_f32(&path, &[3, 0], &[]).unwrap();
        assert_eq!(read(&path).unwrap(), Array { shape: vec![3, 0], data: Elements::F32(vec![]) });
        let error = write_f32(&path, &[2, 2], &[1.0]).unwrap_err().to_string();
        assert!(error.ends_with("cannot write 1 elements as an array of shape [2, 2]"), "{error}");
    }

    /// Each type's two extremes, in the bytes NumPy stores.
    #[test]
    fn every_number_is_converted() {
        let check = |dtype, elements: &[u8], expected| {
            assert_eq!(parse(&header(dtype, "False", "(2,)"), elements).unwrap().data, expected, "{dtype}");
        };
        let integers = |low, high| Elements::I64(vec![low, high]);
        check("|i1", &[0x80, 0x7f], integers(-128, 127));
        check("<i2", &[0, 0x80, 0xff, 0x7f], integers(-32768, 32767));
        check("<i4", &[0, 0, 0, 0x80, 0xff, 0xff, 0xff, 0x7f], integers(i32::MIN.into(), i32::MAX.into()));
        check(
            "<i8",
            &[i64::MIN.to_le_bytes(), i64::MAX.to_le_bytes()].concat(),
            integers(i64::MIN, i64::MAX),
        );
        check("|u1", &[0, 0xff], integers(0, 255));
        check("<u2", &[0, 0, 0xff, 0xff], integers(0, 65535));
        check("<u4", &[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff], integers(0, u32::MAX.into()));
        check("<u8", &[0u64.to_le_bytes(), (i64::MAX as u64).to_le_bytes()].concat(), integers(0, i64::MAX));
        check("<f2", &[0xff, 0xfb, 0x01, 0x00], Elements::F32(vec![-65504.0, 5.9604645e-8]));
        check("<f8", &[0.1f64, -1e-60].map(f64::to_le_bytes).concat(), Elements::F32(vec![0.1, -0.0]));
        check("|b1", &[0, 1], Elements::Bool(vec![false, true]));

        let infinite = parse(&header("<f8", "False", "()"), &f64::NEG_INFINITY.to_le_bytes()).unwrap();
        assert_eq!(infinite.data, Elements::F32(vec![f32::NEG_INFINITY]));
        assert_eq!(
            error(&header("<u8", "False", "(1,)"), &[0xff; 8]),
            "element 0 (counted as stored) is 18446744073709551615, too large for int64"
        );
        let large = error(&header("<f8", "False", "(1,)"), &1e39f64.to_le_bytes());
        assert!(large.ends_with("too large for float32"), "{large}");
    }

    /// `numpy.asfortranarray(numpy.arange(24, dtype="u1").reshape(2, 3, 4))` stores `.T.ravel()`.
    #[test]
    fn fortran_order_is_undone() {
        let stored: Vec<u8> = (0..24).map(|i| (i % 2) * 12 + (i / 2 % 3) * 4 + i / 6).collect();
        let array = parse(&header("|u1", "True", "(2, 3, 4)"), &stored).unwrap();
        assert_eq!(array, Array { shape: vec![2, 3, 4], data: Elements::I64((0..24).collect()) });
        let empty = parse(&header("<f4", "True", "(4294967296, 0)"), &[]).unwrap();
        assert_eq!(empty.data, Elements::F32(vec![]));
    }

    #[test]
    fn a_file_that_is_no_array_of_numbers_says_so() {
        let broken = |bytes: &[u8]| decode(&mut &bytes[..]).unwrap_err().to_string();
        assert_eq!(broken(b""), "not an .npy file; write one with numpy.save");
        assert_eq!(broken(b"\x89PNG\r\n\x1a\n...."), "not an .npy file; write one with numpy.save");
        assert!(broken(b"PK\x03\x04........").starts_with("a zip archive, not an .npy file"));
        let unsupported = |dtype: &str| error(&header(dtype, "False", "(1,)"), &[0; 64]);
        for dtype in [">f4", "<f16", "<c8", "|O", "<U3", "<M8[s]"] {
            assert_eq!(
                unsupported(dtype),
                format!(
                    "the elements are of type '{dtype}'; save the array with .astype('<f4') or .astype('<i8')"
                )
            );
        }
        let records = "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }";
        assert!(error(records, &[0; 4]).starts_with("the elements are records"));
        let missing = read(Path::new("/no/such/file.npy")).unwrap_err().to_string();
        assert_eq!(
            missing,
            "/no/such/file.npy: cannot read the file: No such file or directory (os error 2)"
        );
        assert!(read(Path::new("/")).is_err());
    }

    #[test]
    fn hostile_headers_cost_nothing() {
        let shape = |shape: &str| error(&header("<f8", "False", shape), &[0; 20]);
        assert_eq!(shape("(2, 2)"), "the file is cut short: [2, 2] needs 32 bytes of elements, 20 are there");
        assert!(shape("(1099511627776,)").starts_with("the file is cut short"));
        assert!(shape("(4611686018427387904,)").ends_with("fits in no memory"));
        for hostile in [
            "(4294967296, 4294967296)",
            "(18446744073709551616,)",
            "(0x100000000, 0x100000000)",
            "(4_294_967_296, 4_294_967_296)",
            "(18446744073709551615+1, )",
            "(-1,)",
            "(0, 4294967296, 4294967296)",
            &"(".repeat(5000),
            &"[{(".repeat(1000),
        ] {
            assert!(shape(hostile).starts_with("the header is not that of an array"), "{hostile}");
        }
        let long = [b"\x93NUMPY\x02\x00".as_slice(), &[0xff; 4]].concat();
        let error = decode(&mut &long[..]).unwrap_err().to_string();
        assert!(error.starts_with("the header has 4294967295 bytes"), "{error}");
    }

    /// Every prefix and every single broken byte: an answer, never a panic.
    #[test]
    fn torn_files_are_errors_or_arrays() {
        let whole = file(&header("<f4", "True", "(2, 3)"), &[0; 24]);
        for end in 0..whole.len() {
            decode(&mut &whole[..end]).unwrap_err();
            for byte in 0..=255 {
                let mut broken = whole.clone();
                broken[end] = byte;
                let _ = decode(&mut &broken[..]);
            }
        }
    }
}
