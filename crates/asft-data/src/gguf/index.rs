//! Where the metadata and the tensors of a GGUF file lie, checked once.

use std::{
    collections::{BTreeMap, HashMap, btree_map::Entry},
    ops::Range,
};

use super::{
    GgmlType, Problem, Value, ValueType,
    cursor::{At, Cursor, Malformed},
};

const DEFAULT_ALIGNMENT: u64 = 32;

/// One entry of the tensor table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name, for example `blk.0.attn_q.weight`.
    pub name: String,
    /// Dimensions in ggml's order: the first is the contiguous one (that of a row).
    pub dims: Vec<u64>,
    /// How its values are stored.
    pub kind: GgmlType,
    pub(super) range: Range<usize>,
}

impl TensorInfo {
    /// The number of values.
    pub fn elements(&self) -> u64 {
        self.dims.iter().product()
    }

    /// Its byte range in the file.
    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }
}

#[derive(Debug)]
pub(super) struct Index {
    pub metadata: BTreeMap<String, (ValueType, usize)>,
    pub tensors: Vec<TensorInfo>,
    pub by_name: HashMap<String, usize>,
}

impl Index {
    /// Reads everything but the tensor data.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::at(bytes, 0);
        let (tensor_count, metadata_count) = header(&mut cursor).map_err(at("header"))?;

        let mut metadata = BTreeMap::new();
        for number in 0..metadata_count {
            let start = cursor.offset();
            let key = cursor.string().map_err(at(format!("key of metadata entry {number}")))?;
            let place = format!("metadata key `{key}`");
            let kind = cursor.value_type().map_err(at(&place))?;
            match metadata.entry(key.to_owned()) {
                Entry::Occupied(_) => return Err(at(place)((start, Problem::Duplicate))),
                Entry::Vacant(entry) => entry.insert((kind, cursor.offset())),
            };
            cursor.value(kind, 0).map_err(at(place))?;
        }
        let alignment = alignment(bytes, &metadata).map_err(at("metadata key `general.alignment`"))?;

        let mut entries = vec![];
        let mut by_name = HashMap::new();
        for number in 0..tensor_count {
            let start = cursor.offset();
            let name = cursor.string().map_err(at(format!("name of tensor {number}")))?;
            let entry = TableEntry::read(&mut cursor, start, name, alignment)
                .map_err(at(format!("tensor `{name}`")))?;
            if by_name.insert(name.to_owned(), entries.len()).is_some() {
                return Err(at(format!("tensor `{name}`"))((start, Problem::Duplicate)));
            }
            entries.push(entry);
        }
        let data = (cursor.offset() as u64).next_multiple_of(alignment);
        let tensors =
            entries.into_iter().map(|entry| entry.place(data, bytes.len())).collect::<Result<Vec<_>, _>>()?;
        check_overlap(&tensors)?;
        Ok(Self { metadata, tensors, by_name })
    }
}

fn at(place: impl Into<String>) -> impl FnOnce(At) -> Malformed {
    move |(offset, problem)| Malformed { offset, place: place.into(), problem }
}

fn header(cursor: &mut Cursor<'_>) -> Result<(u64, u64), At> {
    let magic = cursor.array()?;
    if &magic != b"GGUF" {
        return Err((0, Problem::Magic(magic)));
    }
    let version = cursor.u32()?;
    if !(2..=3).contains(&version) {
        return Err((4, Problem::Version(version)));
    }
    Ok((cursor.u64()?, cursor.u64()?))
}

fn alignment(bytes: &[u8], metadata: &BTreeMap<String, (ValueType, usize)>) -> Result<u64, At> {
    let Some(&(kind, offset)) = metadata.get("general.alignment") else {
        return Ok(DEFAULT_ALIGNMENT);
    };
    match Cursor::at(bytes, offset).value(kind, 0)? {
        Value::U32(alignment) if alignment.is_power_of_two() && alignment >= 8 => Ok(alignment.into()),
        other => Err((offset, Problem::Alignment(other.describe()))),
    }
}

/// A row of the tensor table before the start of the data is known.
struct TableEntry {
    start: usize,
    name: String,
    dims: Vec<u64>,
    kind: GgmlType,
    offset: u64,
    bytes: u64,
}

impl TableEntry {
    fn read(cursor: &mut Cursor<'_>, start: usize, name: &str, alignment: u64) -> Result<Self, At> {
        let count = cursor.u32()?;
        if count > 4 {
            return Err((start, Problem::Dimensions(count)));
        }
        let dims = (0..count).map(|_| cursor.u64()).collect::<Result<Vec<_>, _>>()?;
        let id = cursor.u32()?;
        let kind = GgmlType::from_id(id).ok_or((start, Problem::UnknownGgmlType(id)))?;
        let offset = cursor.u64()?;
        if offset % alignment != 0 {
            return Err((start, Problem::Misaligned { offset, alignment }));
        }
        let (row, block) = (dims.first().copied().unwrap_or(1), kind.block_size());
        if row % block != 0 {
            return Err((start, Problem::PartialBlocks { row, kind: kind.name(), block }));
        }
        let bytes = dims
            .iter()
            .try_fold(1u64, |product, &dim| product.checked_mul(dim))
            .and_then(|elements| (elements / block).checked_mul(kind.block_bytes()))
            .ok_or((start, Problem::Overflow))?;
        Ok(Self { start, name: name.into(), dims, kind, offset, bytes })
    }

    fn place(self, data: u64, file: usize) -> Result<TensorInfo, Malformed> {
        let Self { start, name, dims, kind, offset, bytes } = self;
        let fail = |problem| Malformed { offset: start, place: format!("tensor `{name}`"), problem };
        let begin = data.checked_add(offset).ok_or_else(|| fail(Problem::Overflow))?;
        let end = begin.checked_add(bytes).ok_or_else(|| fail(Problem::Overflow))?;
        if end > file as u64 {
            return Err(fail(Problem::OutOfFile { end, file }));
        }
        // Both fit: they are not above the length of a slice.
        Ok(TensorInfo { name, dims, kind, range: begin as usize..end as usize })
    }
}

fn check_overlap(tensors: &[TensorInfo]) -> Result<(), Malformed> {
    let mut placed: Vec<_> = tensors.iter().filter(|tensor| !tensor.range.is_empty()).collect();
    placed.sort_by_key(|tensor| tensor.range.start);
    for pair in placed.windows(2) {
        if pair[1].range.start < pair[0].range.end {
            return Err(Malformed {
                offset: pair[1].range.start,
                place: format!("tensor `{}`", pair[1].name),
                problem: Problem::Overlap(pair[0].name.clone()),
            });
        }
    }
    Ok(())
}
