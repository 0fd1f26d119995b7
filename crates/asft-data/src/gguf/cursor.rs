//! A bounds-checked little-endian reader over the mapped bytes.

use super::value::{Array, Value, ValueType};

/// Nested arrays deeper than this are refused, so that a corrupt file cannot exhaust the stack.
const MAX_DEPTH: usize = 8;

/// What is wrong at a place of a GGUF file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message says what its fields mean")]
pub enum Problem {
    #[error("starts with {0:02x?}, not with the letters GGUF")]
    Magic([u8; 4]),
    #[error("version {0}, but only little-endian versions 2 and 3 can be read")]
    Version(u32),
    #[error("{needed} bytes needed, {left} left in the file")]
    Truncated { needed: u64, left: usize },
    #[error("text is not UTF-8")]
    NotUtf8,
    #[error("unknown metadata type {0}")]
    UnknownValueType(u32),
    #[error("a bool is stored as {0}")]
    Bool(u8),
    #[error("arrays nested more than {MAX_DEPTH} deep")]
    TooDeep,
    #[error("the name occurs twice")]
    Duplicate,
    #[error("general.alignment is {0}, expected a power of two of at least 8")]
    Alignment(String),
    #[error("{0} dimensions, at most 4 are allowed")]
    Dimensions(u32),
    #[error("ggml type {0} is unknown or withdrawn")]
    UnknownGgmlType(u32),
    #[error("rows of {row} values are no whole number of {kind} blocks of {block}")]
    PartialBlocks { row: u64, kind: &'static str, block: u64 },
    #[error("its size overflows")]
    Overflow,
    #[error("data offset {offset} is no multiple of the alignment {alignment}")]
    Misaligned { offset: u64, alignment: u64 },
    #[error("its data ends at byte {end}, the file at {file}")]
    OutOfFile { end: u64, file: usize },
    #[error("its data overlaps that of tensor `{0}`")]
    Overlap(String),
}

/// A problem with its place, before the file's name is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Malformed {
    pub offset: usize,
    pub place: String,
    pub problem: Problem,
}

/// A problem with its byte offset.
pub(super) type At = (usize, Problem);

#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Cursor<'a> {
    pub fn at(bytes: &'a [u8], offset: usize) -> Self {
        Self { bytes, offset }
    }

    pub fn offset(&self) -> usize {
        self.offset
    }

    pub fn take(&mut self, count: u64) -> Result<&'a [u8], At> {
        let rest = self.bytes.get(self.offset..).unwrap_or_default();
        let taken = usize::try_from(count).ok().and_then(|count| rest.get(..count));
        let taken = taken.ok_or((self.offset, Problem::Truncated { needed: count, left: rest.len() }))?;
        self.offset += taken.len();
        Ok(taken)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], At> {
        let taken = self.take(N as u64)?;
        let mut array = [0; N];
        array.copy_from_slice(taken);
        Ok(array)
    }

    pub fn u32(&mut self) -> Result<u32, At> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, At> {
        self.array().map(u64::from_le_bytes)
    }

    pub fn string(&mut self) -> Result<&'a str, At> {
        let start = self.offset;
        let length = self.u64()?;
        str::from_utf8(self.take(length)?).map_err(|_| (start, Problem::NotUtf8))
    }

    pub fn value_type(&mut self) -> Result<ValueType, At> {
        let start = self.offset;
        let id = self.u32()?;
        ValueType::from_id(id).ok_or((start, Problem::UnknownValueType(id)))
    }

    /// Reads one value of a known type; arrays are walked to their end, but stay in place.
    pub fn value(&mut self, kind: ValueType, depth: usize) -> Result<Value<'a>, At> {
        Ok(match kind {
            ValueType::U8 => Value::U8(u8::from_le_bytes(self.array()?)),
            ValueType::I8 => Value::I8(i8::from_le_bytes(self.array()?)),
            ValueType::U16 => Value::U16(u16::from_le_bytes(self.array()?)),
            ValueType::I16 => Value::I16(i16::from_le_bytes(self.array()?)),
            ValueType::U32 => Value::U32(self.u32()?),
            ValueType::I32 => Value::I32(i32::from_le_bytes(self.array()?)),
            ValueType::F32 => Value::F32(f32::from_le_bytes(self.array()?)),
            ValueType::U64 => Value::U64(self.u64()?),
            ValueType::I64 => Value::I64(i64::from_le_bytes(self.array()?)),
            ValueType::F64 => Value::F64(f64::from_le_bytes(self.array()?)),
            ValueType::Bool => match self.array()? {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                [other] => return Err((self.offset - 1, Problem::Bool(other))),
            },
            ValueType::String => Value::String(self.string()?),
            ValueType::Array => {
                if depth == MAX_DEPTH {
                    return Err((self.offset, Problem::TooDeep));
                }
                let element = self.value_type()?;
                let count = self.u64()?;
                let start = self.offset;
                match element.size() {
                    Some(size) => {
                        let length = count.checked_mul(size).ok_or((start, Problem::Overflow))?;
                        let stored = self.take(length)?;
                        let odd = stored.iter().position(|&byte| byte > 1);
                        if let (ValueType::Bool, Some(odd)) = (element, odd) {
                            return Err((start + odd, Problem::Bool(stored[odd])));
                        }
                    }
                    // Each turn takes 8 bytes at least, so a wrong count ends at the end of the file.
                    None => {
                        for _ in 0..count {
                            self.value(element, depth + 1)?;
                        }
                    }
                }
                let bytes = self.bytes.get(start..self.offset).unwrap_or_default();
                Value::Array(Array { element, count, bytes, depth: depth + 1 })
            }
        })
    }
}
