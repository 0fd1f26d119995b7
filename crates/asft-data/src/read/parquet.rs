//! Parquet rows as JSON values, so that schemas see one kind of row whatever the file.

use std::{io::Read, path::Path, sync::Arc};

use bytes::Bytes;
use parquet::{
    errors::ParquetError,
    file::{reader::FileReader, serialized_reader::SerializedFileReader},
    record::{
        Field,
        reader::{ReaderIter, TreeBuilder},
    },
};
use serde_json::{Map, Number, Value};

use super::{Row, Rows, io_error};
use crate::{DataError, Origin, guard};

/// Reads the whole file: its directory stands at the end, a compressed file cannot be sought in, and in
/// memory a corrupt length is found out before anything is allocated for it.
pub(super) fn rows(mut reader: Box<dyn Read>, file: Arc<Path>) -> Result<Rows, DataError> {
    let mut bytes = vec![];
    reader.read_to_end(&mut bytes).map_err(|source| io_error(&file, 0, source))?;
    let reader = guarded(|| SerializedFileReader::new(Bytes::from(bytes)))
        .map_err(|reason| DataError::Parquet { origin: Origin { file: file.clone(), row: 0 }, reason })?;
    Ok(Box::new(ParquetRows { reader, group: 0, rows: None, row: 0, failed: false, file }))
}

struct ParquetRows {
    reader: SerializedFileReader<Bytes>,
    group: usize,
    rows: Option<ReaderIter>,
    row: usize,
    failed: bool,
    file: Arc<Path>,
}

impl Iterator for ParquetRows {
    type Item = Result<Row, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let row = self.map().transpose()?;
        self.row += 1;
        let origin = Origin { file: self.file.clone(), row: self.row };
        self.failed = row.is_err();
        Some(match row {
            Ok(map) => Ok((origin, map)),
            Err(reason) => Err(DataError::Parquet { origin, reason }),
        })
    }
}

impl ParquetRows {
    fn map(&mut self) -> Result<Option<Map<String, Value>>, String> {
        loop {
            if let Some(rows) = &mut self.rows
                && let Some(row) = guarded(|| rows.next().transpose())?
            {
                return Ok(Some(object(row)));
            }
            if self.group == self.reader.num_row_groups() {
                return Ok(None);
            }
            let (reader, group) = (&self.reader, self.group);
            self.rows = Some(guarded(|| {
                let schema = reader.metadata().file_metadata().schema_descr_ptr();
                TreeBuilder::new().as_iter(schema, &*reader.get_row_group(group)?)
            })?);
            self.group += 1;
        }
    }
}

/// Runs the decoder, which asserts where a damaged file breaks the format's rules, and makes an error of
/// that. Nothing of the decoder is used again after one.
fn guarded<T>(decode: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, String> {
    match guard::guarded(decode) {
        Some(result) => result.map_err(|error| error.to_string()),
        None => Err("the file breaks the rules of the format".to_owned()),
    }
}

fn object(row: parquet::record::Row) -> Map<String, Value> {
    row.into_columns().into_iter().map(|(key, field)| (key, value(field))).collect()
}

fn value(field: Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(flag) => flag.into(),
        Field::Byte(number) => number.into(),
        Field::Short(number) => number.into(),
        Field::Int(number) => number.into(),
        Field::Long(number) => number.into(),
        Field::UByte(number) => number.into(),
        Field::UShort(number) => number.into(),
        Field::UInt(number) => number.into(),
        Field::ULong(number) => number.into(),
        // JSON has no NaN or infinity; a score that is one is no score.
        Field::Float16(number) => Number::from_f64(number.into()).map_or(Value::Null, Value::Number),
        Field::Float(number) => Number::from_f64(number.into()).map_or(Value::Null, Value::Number),
        Field::Double(number) => Number::from_f64(number).map_or(Value::Null, Value::Number),
        Field::Str(text) => text.into(),
        // Some writers leave the string annotation out. What is not text (a picture, say) is no value of
        // any layout, and a layout that finds it where it needs text will say so.
        Field::Bytes(bytes) => std::str::from_utf8(bytes.data()).map_or(Value::Null, Value::from),
        Field::Group(row) => Value::Object(object(row)),
        Field::ListInternal(list) => list.elements().iter().cloned().map(value).collect(),
        Field::MapInternal(map) => {
            let pair = |(key, field): &(Field, Field)| {
                let key = match value(key.clone()) {
                    Value::String(key) => key,
                    other => other.to_string(),
                };
                (key, value(field.clone()))
            };
            Value::Object(map.entries().iter().map(pair).collect())
        }
        dated @ (Field::Decimal(_)
        | Field::Date(_)
        | Field::TimeMillis(_)
        | Field::TimeMicros(_)
        | Field::TimestampMillis(_)
        | Field::TimestampMicros(_)) => dated.to_string().into(),
    }
}
