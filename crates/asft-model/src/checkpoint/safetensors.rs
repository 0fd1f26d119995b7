//! One safetensors file, memory-mapped.

use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};

use super::{checked, map_file, missing};
use crate::{ModelError, WeightType};

/// A safetensors file whose header has been checked against its length.
pub struct SafetensorsFile {
    path: PathBuf,
    map: memmap2::Mmap,
}

impl SafetensorsFile {
    /// Maps and checks the file.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let path = path.to_owned();
        let map = map_file(&path)?;
        let file = Self { path, map };
        file.parsed()?;
        Ok(file)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn parsed(&self) -> Result<SafeTensors<'_>, ModelError> {
        SafeTensors::deserialize(&self.map).map_err(|error| ModelError::Damaged {
            path: self.path.clone(),
            what: format!("not a whole safetensors file: {error}"),
        })
    }

    /// Names of the tensors, sorted.
    pub fn names(&self) -> Result<Vec<String>, ModelError> {
        let mut names: Vec<_> = self.parsed()?.names().into_iter().map(str::to_owned).collect();
        names.sort();
        Ok(names)
    }

    /// Shape of a tensor.
    pub fn shape(&self, name: &str) -> Result<Vec<usize>, ModelError> {
        let parsed = self.parsed()?;
        let tensor = parsed.tensor(name).map_err(|_| missing(&self.path, name))?;
        Ok(tensor.shape().to_vec())
    }

    /// Type in which a tensor is best kept: bf16 where that holds all it has.
    pub fn weight_type(&self, name: &str) -> Result<WeightType, ModelError> {
        let parsed = self.parsed()?;
        let tensor = parsed.tensor(name).map_err(|_| missing(&self.path, name))?;
        Ok(if tensor.dtype() == Dtype::BF16 { WeightType::Bf16 } else { WeightType::F32 })
    }

    /// Values of a tensor as f32, checked for shape and finiteness.
    pub fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
        let parsed = self.parsed()?;
        let tensor = parsed.tensor(name).map_err(|_| missing(&self.path, name))?;
        let bytes = tensor.data();
        checked(&self.path, name, shape, tensor.shape(), || match tensor.dtype() {
            Dtype::F32 => {
                Ok(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
            }
            Dtype::BF16 => {
                Ok(bytes.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect())
            }
            Dtype::F16 => {
                Ok(bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect())
            }
            other => Err(format!("has type {other:?}; F32, BF16 and F16 are supported")),
        })
    }
}
