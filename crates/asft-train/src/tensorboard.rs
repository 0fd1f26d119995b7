//! Event files that TensorBoard reads.
//!
//! A file is a sequence of records (length, its checksum, data, its checksum: TensorFlow's record format), each a
//! protocol-buffer `Event` with wall time, step and one `Summary.Value` a metric. Written by hand: an event has six
//! fields in all.

use serde_json::Value;

use crate::metrics::{Kind, MetricsRow};

/// The record that begins a file, written at `wall_time` seconds since 1970.
pub fn header(wall_time: f64) -> Vec<u8> {
    let mut event = double(1, wall_time);
    event.extend(bytes(3, b"brain.Event:2"));
    record(&event)
}

/// The record of a row: its numbers under `train/KEY` or `eval/KEY`.
pub fn event(row: &MetricsRow, wall_time: f64) -> Vec<u8> {
    let group = match row.kind {
        Kind::Train => "train",
        Kind::Eval => "eval",
    };
    let Value::Object(fields) = serde_json::to_value(row).expect("rows hold numbers and texts") else {
        unreachable!("a row is an object")
    };
    let mut summary = vec![];
    for (key, value) in &fields {
        if let (Some(value), false) = (value.as_f64(), key == "step") {
            let mut entry = bytes(1, format!("{group}/{key}").as_bytes());
            entry.extend(float(2, value as f32));
            summary.extend(bytes(1, &entry));
        }
    }
    let mut event = double(1, wall_time);
    // proto3 leaves out a number that is 0.
    if row.step > 0 {
        event.extend(varint(2 << 3));
        event.extend(varint(row.step as u64));
    }
    event.extend(bytes(5, &summary));
    record(&event)
}

fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    [&length[..], &masked_crc(&length), data, &masked_crc(data)].concat()
}

/// TensorFlow's checksum of a checksum's own field would be weak, so it is turned and shifted.
fn masked_crc(data: &[u8]) -> [u8; 4] {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = vec![];
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

/// Field of a type: 0 varint, 1 eight bytes, 2 bytes with their length before, 5 four bytes.
fn field(number: u64, kind: u64, data: &[u8]) -> Vec<u8> {
    [&varint(number << 3 | kind), data].concat()
}

fn double(number: u64, value: f64) -> Vec<u8> {
    field(number, 1, &value.to_le_bytes())
}

fn float(number: u64, value: f32) -> Vec<u8> {
    field(number, 5, &value.to_le_bytes())
}

fn bytes(number: u64, data: &[u8]) -> Vec<u8> {
    field(number, 2, &[&varint(data.len() as u64), data].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Byte for byte what TensorBoard's own package writes (`goldens/event_file.py`).
    #[test]
    fn a_file_is_tensorboards() {
        let golden = include_str!("../tests/goldens/tensorboard.json");
        let golden: Value = serde_json::from_str(golden).unwrap();
        let mut file = header(golden["wall_times"][0].as_f64().unwrap());
        for (index, row) in golden["rows"].as_array().unwrap().iter().enumerate() {
            let row: MetricsRow = serde_json::from_value(row.clone()).unwrap();
            file.extend(event(&row, golden["wall_times"][index + 1].as_f64().unwrap()));
        }
        let hex: String = file.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, golden["file"].as_str().unwrap());
    }
}
