//! A file written by the test itself, whole and then broken in every way.

use super::{GgmlType, GgufError, GgufFile, Problem, Value, cursor::Malformed, index::Index};

/// Writes GGUF bytes and remembers where each field begins.
#[derive(Default)]
struct Writer {
    bytes: Vec<u8>,
    boundaries: Vec<usize>,
}

impl Writer {
    fn put(&mut self, bytes: &[u8]) -> &mut Self {
        self.boundaries.push(self.bytes.len());
        self.bytes.extend_from_slice(bytes);
        self
    }
    fn u32(&mut self, value: u32) -> &mut Self {
        self.put(&value.to_le_bytes())
    }
    fn u64(&mut self, value: u64) -> &mut Self {
        self.put(&value.to_le_bytes())
    }
    fn string(&mut self, text: &str) -> &mut Self {
        self.u64(text.len() as u64).put(text.as_bytes())
    }
}

struct Field {
    name: &'static str,
    at: usize,
}

/// The sample and the offsets of fields worth breaking.
fn sample() -> (Writer, Vec<Field>) {
    let mut w = Writer::default();
    let mut fields = vec![];
    macro_rules! field {
        ($name:literal) => {
            fields.push(Field { name: $name, at: w.bytes.len() })
        };
    }
    w.put(b"GGUF");
    field!("version");
    w.u32(3);
    field!("tensor count");
    w.u64(2);
    field!("metadata count");
    w.u64(7);
    w.string("general.name").u32(8).string("sample");
    w.string("a.u64").u32(10).u64(u64::MAX);
    w.string("a.bool").u32(7);
    field!("bool");
    w.put(&[1]);
    w.string("a.i8").u32(1).put(&[(-3i8) as u8]);
    w.string("a.f32").u32(6).put(&1.5f32.to_le_bytes());
    w.string("a.strings").u32(9).u32(8);
    field!("string count");
    w.u64(2);
    field!("string length");
    w.string("x").string("yß");
    w.string("a.nested").u32(9).u32(9).u64(2);
    w.u32(0).u64(3).put(&[1, 2, 3]);
    w.u32(0);
    field!("inner count");
    w.u64(0);
    field!("tensor name");
    w.string("first").u32(2);
    field!("dimension");
    w.u64(32).u64(2);
    field!("ggml type");
    w.u32(2).u64(0);
    w.string("other").u32(1).u64(3).u32(0);
    field!("data offset");
    w.u64(64);
    let padding = w.bytes.len().next_multiple_of(32) - w.bytes.len();
    w.put(&vec![0; padding]);
    w.put(&[7; 36]).put(&[0; 28]).put(&[9; 12]);
    (w, fields)
}

fn with(field: &str, value: &[u8]) -> Vec<u8> {
    let (w, fields) = sample();
    let at = fields.iter().find(|f| f.name == field).map(|f| f.at).expect("a field of the sample");
    let mut bytes = w.bytes;
    bytes[at..at + value.len()].copy_from_slice(value);
    bytes
}

#[test]
fn a_whole_file_reads_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sample.gguf");
    std::fs::write(&path, sample().0.bytes).unwrap();
    let file = GgufFile::open(&path).unwrap();

    assert_eq!(file.required::<&str>("general.name").unwrap(), "sample");
    assert_eq!(file.required::<u64>("a.u64").unwrap(), u64::MAX);
    assert!(file.required::<bool>("a.bool").unwrap());
    assert_eq!(file.required::<i64>("a.i8").unwrap(), -3);
    assert_eq!(file.required::<f64>("a.f32").unwrap(), 1.5);
    assert_eq!(file.required::<Vec<&str>>("a.strings").unwrap(), ["x", "yß"]);
    let Some(Value::Array(nested)) = file.metadata("a.nested") else { panic!("not an array") };
    let inner: Vec<Vec<Value>> = nested
        .iter()
        .map(|value| match value {
            Value::Array(inner) => inner.iter().collect(),
            other => vec![other],
        })
        .collect();
    assert_eq!(inner, [vec![Value::U8(1), Value::U8(2), Value::U8(3)], vec![]]);
    assert_eq!(file.keys().count(), 7);

    let first = file.tensor("first").unwrap();
    assert_eq!(
        (first.dims.as_slice(), first.kind, first.elements()),
        ([32, 2].as_slice(), GgmlType::Q4_0, 64)
    );
    assert_eq!(file.bytes(first), [7; 36]);
    assert_eq!(file.bytes(&file.tensors()[1]), [9; 12]);
    assert_eq!(file.tensor("none"), None);

    let errors = [
        (
            file.required::<&str>("a.u64").unwrap_err(),
            "metadata key `a.u64` is u64 18446744073709551615, expected a string",
        ),
        (file.required::<u32>("a.u64").unwrap_err(), "expected an unsigned 32-bit integer"),
        (file.required::<u32>("a.i8").unwrap_err(), "is i8 -3, expected an unsigned 32-bit integer"),
        (
            file.required::<Vec<i64>>("a.strings").unwrap_err(),
            "is an array of 2 string, expected an array of integers",
        ),
        (file.required::<bool>("b").unwrap_err(), "no metadata key `b` (expected: a bool)"),
    ];
    for (error, message) in errors {
        let text = error.to_string();
        assert!(text.contains(message) && text.contains("sample.gguf"), "{text}");
    }
}

#[test]
fn every_truncation_is_an_error() {
    let (w, _) = sample();
    Index::parse(&w.bytes).unwrap();
    for &boundary in &w.boundaries {
        for end in [boundary.saturating_sub(1), boundary] {
            let error = Index::parse(&w.bytes[..end]).unwrap_err();
            let expected = matches!(error.problem, Problem::Truncated { .. } | Problem::OutOfFile { .. });
            assert!(expected, "cut at {end}: {error:?}");
        }
    }
    // Every other length, within the data too.
    for end in 0..w.bytes.len() {
        Index::parse(&w.bytes[..end]).unwrap_err();
    }
}

#[test]
fn every_broken_field_is_named() {
    let huge = u64::MAX.to_le_bytes();
    let cases: &[(&str, &[u8], &str, &str)] = &[
        ("version", &1u32.to_le_bytes(), "header", "version 1,"),
        ("version", &3u32.to_be_bytes(), "header", "version 50331648,"),
        ("tensor count", &huge, "tensor ``", "ggml type 117899264 is unknown or withdrawn"),
        ("metadata count", &huge, "", ""),
        ("metadata count", &8u64.to_le_bytes(), "name of tensor 0", "bytes needed"),
        ("bool", &[2], "metadata key `a.bool`", "a bool is stored as 2"),
        ("string count", &huge, "metadata key `a.strings`", ""),
        ("string length", &huge, "metadata key `a.strings`", "18446744073709551615 bytes needed"),
        ("inner count", &huge, "metadata key `a.nested`", "18446744073709551615 bytes needed"),
        ("tensor name", &huge, "name of tensor 0", "18446744073709551615 bytes needed"),
        (
            "dimension",
            &33u64.to_le_bytes(),
            "tensor `first`",
            "rows of 33 values are no whole number of Q4_0 blocks of 32",
        ),
        ("dimension", &(1u64 << 63).to_le_bytes(), "tensor `first`", "overflows"),
        ("dimension", &(1u64 << 40).to_le_bytes(), "tensor `first`", "its data ends at byte"),
        ("ggml type", &4u32.to_le_bytes(), "tensor `first`", "ggml type 4 is unknown or withdrawn"),
        ("data offset", &65u64.to_le_bytes(), "tensor `other`", "no multiple of the alignment 32"),
        ("data offset", &32u64.to_le_bytes(), "tensor `other`", "overlaps that of tensor `first`"),
        ("data offset", &(u64::MAX - 31).to_le_bytes(), "tensor `other`", "overflows"),
    ];
    for (field, value, place, problem) in cases {
        let error = Index::parse(&with(field, value)).unwrap_err();
        assert!(
            error.place.contains(place) && error.problem.to_string().contains(problem),
            "{field}: {error:?}"
        );
    }
}

#[test]
fn magic_depth_duplicates_and_alignment_are_checked() {
    let parse = |build: &dyn Fn(&mut Writer)| {
        let mut w = Writer::default();
        w.put(b"GGUF").u32(3).u64(0).u64(1);
        build(&mut w);
        Index::parse(&w.bytes).map(|_| ()).unwrap_err()
    };
    let nested = parse(&|w| {
        w.string("k").u32(9);
        for _ in 0..20 {
            w.u32(9).u64(1);
        }
    });
    assert_eq!(nested.problem, Problem::TooDeep);
    for (kind, value) in [(4, 0u64), (4, 24), (4, 4), (10, 32)] {
        let error = parse(&|w| {
            w.string("general.alignment").u32(kind).u64(value);
        });
        assert!(matches!(error.problem, Problem::Alignment(_)), "{error:?}");
    }
    assert_eq!(
        parse(&|w| {
            w.string("k").u32(13);
        })
        .problem,
        Problem::UnknownValueType(13)
    );
    assert_eq!(
        parse(&|w| {
            w.u64(1).put(&[0xff]);
        })
        .problem,
        Problem::NotUtf8
    );

    let mut twice = Writer::default();
    twice.put(b"GGUF").u32(2).u64(0).u64(2).string("k").u32(0).put(&[1]).string("k").u32(0).put(&[1]);
    let Malformed { place, problem, .. } = Index::parse(&twice.bytes).unwrap_err();
    assert_eq!((place.as_str(), problem), ("metadata key `k`", Problem::Duplicate));

    let dir = tempfile::tempdir().unwrap();
    for (content, message) in
        [(&b"not a model"[..], "not with the letters GGUF"), (b"", "0 left in the file")]
    {
        let path = dir.path().join("broken.gguf");
        std::fs::write(&path, content).unwrap();
        let text = GgufFile::open(&path).unwrap_err().to_string();
        assert!(text.contains(message) && text.contains("broken.gguf"), "{text}");
    }
    let missing = GgufFile::open(&dir.path().join("missing.gguf")).unwrap_err();
    assert!(matches!(missing, GgufError::Io { .. }));
}

#[test]
fn types_are_consistent() {
    for &kind in GgmlType::ALL {
        assert_eq!(GgmlType::from_id(kind.id()), Some(kind));
        assert_eq!(format!("{kind:?}").replace('_', ""), kind.name().replace('_', ""));
    }
    for id in [4, 5, 31, 32, 33, 36, 37, 38, 42, u32::MAX] {
        assert_eq!(GgmlType::from_id(id), None);
    }
}
