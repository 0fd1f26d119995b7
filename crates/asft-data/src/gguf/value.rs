//! Metadata values: the types of the format, and the typed view a caller asks for.

use super::cursor::Cursor;

/// The type of a metadata value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the types")]
pub enum ValueType {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    String,
    Array,
    U64,
    I64,
    F64,
}

impl ValueType {
    /// The types in the order of their ids, which start at 0.
    const ALL: [Self; 13] = [
        Self::U8,
        Self::I8,
        Self::U16,
        Self::I16,
        Self::U32,
        Self::I32,
        Self::F32,
        Self::Bool,
        Self::String,
        Self::Array,
        Self::U64,
        Self::I64,
        Self::F64,
    ];

    pub(super) fn from_id(id: u32) -> Option<Self> {
        Self::ALL.get(id as usize).copied()
    }

    /// Bytes of one value, where all values of the type have the same size.
    pub(super) fn size(self) -> Option<u64> {
        match self {
            Self::U8 | Self::I8 | Self::Bool => Some(1),
            Self::U16 | Self::I16 => Some(2),
            Self::U32 | Self::I32 | Self::F32 => Some(4),
            Self::U64 | Self::I64 | Self::F64 => Some(8),
            Self::String | Self::Array => None,
        }
    }

    /// The name used in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::U8 => "u8",
            Self::I8 => "i8",
            Self::U16 => "u16",
            Self::I16 => "i16",
            Self::U32 => "u32",
            Self::I32 => "i32",
            Self::F32 => "f32",
            Self::Bool => "bool",
            Self::String => "string",
            Self::Array => "array",
            Self::U64 => "u64",
            Self::I64 => "i64",
            Self::F64 => "f64",
        }
    }
}

/// A metadata value, text and arrays in place.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names are the types")]
pub enum Value<'a> {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(&'a str),
    Array(Array<'a>),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// An array inside the mapped file; its elements may be arrays themselves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Array<'a> {
    pub(super) element: ValueType,
    pub(super) count: u64,
    pub(super) bytes: &'a [u8],
    pub(super) depth: usize,
}

impl<'a> Array<'a> {
    /// The type of its elements.
    pub fn element(&self) -> ValueType {
        self.element
    }

    /// The elements in order.
    pub fn iter(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let mut cursor = Cursor::at(self.bytes, 0);
        let Self { element, count, depth, .. } = *self;
        (0..count).map_while(move |_| cursor.value(element, depth).ok())
    }
}

impl Value<'_> {
    /// Type, and the number where it is one: what an error says was found.
    pub fn describe(&self) -> String {
        match self {
            Self::U8(v) => format!("u8 {v}"),
            Self::I8(v) => format!("i8 {v}"),
            Self::U16(v) => format!("u16 {v}"),
            Self::I16(v) => format!("i16 {v}"),
            Self::U32(v) => format!("u32 {v}"),
            Self::I32(v) => format!("i32 {v}"),
            Self::U64(v) => format!("u64 {v}"),
            Self::I64(v) => format!("i64 {v}"),
            Self::F32(v) => format!("f32 {v}"),
            Self::F64(v) => format!("f64 {v}"),
            Self::Bool(v) => format!("bool {v}"),
            Self::String(_) => "a string".into(),
            Self::Array(array) => format!("an array of {} {}", array.count, array.element.name()),
        }
    }
}

/// A Rust type that metadata values of any fitting stored type turn into.
pub trait FromMetadata<'a>: Sized {
    /// The name of the type in messages.
    const EXPECTED: &'static str;
    /// The value, if it fits.
    fn from_metadata(value: &Value<'a>) -> Option<Self>;
}

fn integer(value: &Value<'_>) -> Option<i128> {
    Some(match *value {
        Value::U8(v) => v.into(),
        Value::I8(v) => v.into(),
        Value::U16(v) => v.into(),
        Value::I16(v) => v.into(),
        Value::U32(v) => v.into(),
        Value::I32(v) => v.into(),
        Value::U64(v) => v.into(),
        Value::I64(v) => v.into(),
        _ => return None,
    })
}

macro_rules! integers {
    ($($type:ty: $expected:literal),*) => {$(
        impl FromMetadata<'_> for $type {
            const EXPECTED: &'static str = $expected;
            fn from_metadata(value: &Value<'_>) -> Option<Self> {
                integer(value)?.try_into().ok()
            }
        }
    )*};
}
integers!(u32: "an unsigned 32-bit integer", u64: "an unsigned integer", usize: "an unsigned integer", i64: "an integer");

impl FromMetadata<'_> for f64 {
    const EXPECTED: &'static str = "a number";
    fn from_metadata(value: &Value<'_>) -> Option<Self> {
        match *value {
            Value::F32(v) => Some(v.into()),
            Value::F64(v) => Some(v),
            _ => integer(value).map(|v| v as f64),
        }
    }
}

impl FromMetadata<'_> for bool {
    const EXPECTED: &'static str = "a bool";
    fn from_metadata(value: &Value<'_>) -> Option<Self> {
        match *value {
            Value::Bool(v) => Some(v),
            _ => None,
        }
    }
}

impl<'a> FromMetadata<'a> for &'a str {
    const EXPECTED: &'static str = "a string";
    fn from_metadata(value: &Value<'a>) -> Option<Self> {
        match *value {
            Value::String(v) => Some(v),
            _ => None,
        }
    }
}

impl<'a> FromMetadata<'a> for Vec<&'a str> {
    const EXPECTED: &'static str = "an array of strings";
    fn from_metadata(value: &Value<'a>) -> Option<Self> {
        elements(value)
    }
}

impl<'a> FromMetadata<'a> for Vec<i64> {
    const EXPECTED: &'static str = "an array of integers";
    fn from_metadata(value: &Value<'a>) -> Option<Self> {
        elements(value)
    }
}

impl<'a> FromMetadata<'a> for Vec<f64> {
    const EXPECTED: &'static str = "an array of numbers";
    fn from_metadata(value: &Value<'a>) -> Option<Self> {
        elements(value)
    }
}

fn elements<'a, T: FromMetadata<'a>>(value: &Value<'a>) -> Option<Vec<T>> {
    match value {
        Value::Array(array) => array.iter().map(|value| T::from_metadata(&value)).collect(),
        _ => None,
    }
}
