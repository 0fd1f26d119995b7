//! The GGUF container: metadata and tensor table of a memory-mapped file, every length checked.
//!
//! Layout (versions 2 and 3, little-endian): magic, version, tensor count, metadata count, the metadata
//! (key, type, value), the tensor table (name, dimensions, ggml type, offset), padding to the alignment,
//! the tensor data. Source: the GGUF specification in ggml's documentation. Nothing is allocated by a
//! length the file states; strings and arrays are read in place.

mod cursor;
mod ggml_type;
mod index;
mod value;

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use memmap2::Mmap;

pub use cursor::Problem;
pub use ggml_type::GgmlType;
pub use index::TensorInfo;
pub use value::{Array, FromMetadata, Value, ValueType};

use cursor::{Cursor, Malformed};
use index::Index;

/// An open GGUF file.
#[derive(Debug)]
pub struct GgufFile {
    path: PathBuf,
    map: Mmap,
    index: Index,
}

/// Why a GGUF file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    /// The file could not be opened or mapped.
    #[error("{}: cannot be read: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The bytes are not a whole, consistent GGUF file.
    #[error("{}: broken GGUF file at byte {offset}, {place}: {problem}\nhint: fetch the file again and compare its size", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Byte offset of what is wrong.
        offset: usize,
        /// What was being read, for example "metadata key `general.name`".
        place: String,
        /// What is wrong.
        problem: Problem,
    },
    /// A metadata key is absent.
    #[error("{}: no metadata key `{key}` (expected: {expected})", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The type it should have.
        expected: &'static str,
    },
    /// A metadata value has another type, or a number that does not fit.
    #[error("{}: metadata key `{key}` is {found}, expected {expected}", path.display())]
    Type {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The type it should have.
        expected: &'static str,
        /// The type (and number) it has.
        found: String,
    },
}

impl GgufFile {
    /// Maps `path` and checks its metadata and tensor table.
    pub fn open(path: &Path) -> Result<Self, GgufError> {
        let io = |source| GgufError::Io { path: path.into(), source };
        let file = File::open(path).map_err(io)?;
        #[expect(
            unsafe_code,
            reason = "memory-mapping a file that other programs may change cannot be made safe"
        )]
        // SAFETY: the map is read-only and only read as bytes; a file shortened while it is mapped ends the
        // process with SIGBUS, as it does in every program that maps weights.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        let index = Index::parse(&map).map_err(|Malformed { offset, place, problem }| {
            GgufError::Malformed { path: path.into(), offset, place, problem }
        })?;
        Ok(Self { path: path.into(), map, index })
    }

    /// The file as it was named.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The value of a metadata key.
    pub fn metadata(&self, key: &str) -> Option<Value<'_>> {
        let &(kind, offset) = self.index.metadata.get(key)?;
        Cursor::at(&self.map, offset).value(kind, 0).ok()
    }

    /// All metadata keys, sorted.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.index.metadata.keys().map(String::as_str)
    }

    /// The value of a key as `T`; `None` where the key is absent, an error where its type is another.
    pub fn optional<'a, T: FromMetadata<'a>>(&'a self, key: &str) -> Result<Option<T>, GgufError> {
        let Some(value) = self.metadata(key) else {
            return Ok(None);
        };
        T::from_metadata(&value).map(Some).ok_or_else(|| GgufError::Type {
            path: self.path.clone(),
            key: key.into(),
            expected: T::EXPECTED,
            found: value.describe(),
        })
    }

    /// The value of a key as `T`, which must be there.
    pub fn required<'a, T: FromMetadata<'a>>(&'a self, key: &str) -> Result<T, GgufError> {
        self.optional(key)?.ok_or_else(|| GgufError::Missing {
            path: self.path.clone(),
            key: key.into(),
            expected: T::EXPECTED,
        })
    }

    /// The tensor table in file order.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.index.tensors
    }

    /// The tensor called `name`.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.index.tensors.get(*self.index.by_name.get(name)?)
    }

    /// The stored bytes of a tensor of this file; empty for an entry of another file that lies outside.
    pub fn bytes(&self, tensor: &TensorInfo) -> &[u8] {
        self.map.get(tensor.range.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
