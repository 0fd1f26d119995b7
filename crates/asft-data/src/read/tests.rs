//! Containers and compressions, whole and damaged.

use std::io::Write;

use serde_json::json;
use tempfile::TempDir;

use super::*;

fn shared(path: &str) -> Option<PathBuf> {
    let file = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data")).join(path);
    if !file.exists() {
        println!("skipped: {} is not there", file.display());
        return None;
    }
    Some(file)
}

fn written(folder: &TempDir, name: &str, bytes: &[u8]) -> Source {
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).expect("a temporary file");
    Source::File(path)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
    encoder.write_all(bytes).expect("in memory");
    encoder.finish().expect("in memory")
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).expect("in memory")
}

/// Rows up to the first error, as `row number, value`, and that error.
fn read(source: &Source) -> (Vec<(usize, Value)>, Option<String>) {
    let rows = match open(source) {
        Ok(rows) => rows,
        Err(error) => return (vec![], Some(error.to_string())),
    };
    let mut read = vec![];
    let mut errors = vec![];
    for row in rows {
        match row {
            Ok((origin, row)) => read.push((origin.row, Value::Object(row))),
            Err(error) => errors.push(error.to_string()),
        }
    }
    assert!(errors.len() <= 1, "nothing follows an error: {errors:?}");
    (read, errors.pop())
}

#[test]
fn every_text_container() {
    let folder = TempDir::new().expect("a temporary folder");
    let lines = "{\"a\": 1}\n\n  \r\n{\"a\": \"é\"}\r\n{\"a\": null}";
    let array = " [ {\"a\": 1},\n{\"a\": \"é\"} , {\"a\": null}\n] \n";
    let values = [json!({"a": 1}), json!({"a": "é"}), json!({"a": null})];
    let marked = |text: &str| format!("\u{feff}{text}").into_bytes();
    for (name, text, numbers) in [
        ("rows.jsonl", lines, [1, 4, 5]),
        ("rows.NDJSON", lines, [1, 4, 5]),
        ("lines.json", lines, [1, 4, 5]),
        ("rows.json", array, [1, 2, 3]),
    ] {
        let expected: Vec<_> = numbers.into_iter().zip(values.clone()).collect();
        for (ending, bytes) in [
            ("", text.into()),
            ("", marked(text)),
            (".gz", gzip(text.as_bytes())),
            (".gz", [gzip(&text.as_bytes()[..4]), gzip(&text.as_bytes()[4..])].concat()),
            (".zst", zstd(text.as_bytes())),
            (".zst", zstd(&marked(text))),
        ] {
            let source = written(&folder, &format!("{name}{ending}"), &bytes);
            assert_eq!(read(&source), (expected.clone(), None), "{name}{ending}");
        }
    }
    let embedded = Source::Embedded { name: "inside.json", bytes: br#"[{"a": 1}]"# };
    assert_eq!(read(&embedded), (vec![(1, json!({"a": 1}))], None));
    for (name, text) in [("none.json", ""), ("none.json", " [ ] "), ("none.jsonl", "\n \n")] {
        assert_eq!(read(&written(&folder, name, text.as_bytes())), (vec![], None), "{text:?}");
    }
}

#[test]
fn malformed_text_says_where() {
    let folder = TempDir::new().expect("a temporary folder");
    let cases: &[(&str, &[u8], usize, &[&str])] = &[
        ("a.jsonl", b"{\"a\":1}\n\n{\"a\" 2}\n{}", 1, &["a.jsonl:3", "line 3, column 6", "expected `:`"]),
        ("a.jsonl", b"{\"a\":1}\n[2]\n", 1, &["a.jsonl:2", "an array", "hint:", ".json"]),
        ("a.jsonl", b"7\n", 0, &["a.jsonl:1", "a number", "hint:"]),
        ("a.jsonl", b"{\"a\":\"\xff\"}\n", 0, &["a.jsonl:1", "line 1, column 7"]),
        ("a.jsonl", b"{\"a\":1} {\"a\":2}\n", 0, &["a.jsonl:1", "trailing characters"]),
        ("a.jsonl", b"{\"a\":1}\n{\"a\":\"b", 1, &["a.jsonl:2", "line 2", "EOF"]),
        ("a.json", b"[{\"a\":1},\n {\"a\":2},\n {\"a\"\n 3}]", 2, &["a.json:3", "line 4, column 2"]),
        ("a.json", b"[{\"a\":1}, {\"a\" 2}]", 1, &["a.json:2", "line 1, column 16"]),
        ("a.json", b"[{\"a\":1}", 1, &["line 1, column 9", "ends before the array"]),
        ("a.json", b"[{\"a\":1},", 1, &["a.json:2", "ends before the array"]),
        ("a.json", b"[{\"a\":1} {\"a\":2}]", 1, &["line 1, column 10", "expected `,` or `]`"]),
        ("a.json", b"[{\"a\":1}]\n[", 1, &["line 2, column 1", "follows the end"]),
        ("a.json", b"[{\"a\":1}, 7]", 1, &["a.json:2", "a number"]),
        ("a.json", b"\n\"text\"", 0, &["a.json: malformed", "line 2, column 1", "expected `[`"]),
        ("a.txt", b"", 0, &["a.txt", "hint:", ".parquet"]),
        ("a.gz", b"", 0, &["a.gz", "hint:"]),
        ("a.jsonl.gz", b"{\"a\":1}", 0, &["cannot read", "a.jsonl.gz"]),
        ("a.jsonl.zst", b"{\"a\":1} {\"a\":1}", 0, &["cannot read", "a.jsonl.zst"]),
        ("a.parquet", b"", 0, &["a.parquet: cannot decode Parquet", "hint:"]),
        ("a.parquet", b"PAR1 not really one, but it ends like one \xff\xff\xff\x7fPAR1", 0, &["Parquet"]),
        ("a.parquet.zst", b"\x28\xb5\x2f\xfd", 0, &["cannot read", "a.parquet.zst"]),
    ];
    for (name, bytes, rows, says) in cases {
        let (read, error) = read(&written(&folder, name, bytes));
        let error = error.unwrap_or_else(|| panic!("{name} was read: {read:?}"));
        assert_eq!(read.len(), *rows, "{name}: {error}");
        for text in *says {
            assert!(error.contains(text), "{name}: {text:?} is not in: {error}");
        }
    }
    let whole = gzip("{\"a\":1}\n".repeat(10_000).as_bytes());
    let (rows, error) = read(&written(&folder, "cut.jsonl.gz", &whole[..whole.len() - 12]));
    let error = error.expect("the stream ends early");
    assert!(error.contains(&format!("after row {}", rows.len())), "{error}");
    let deep = format!("{{\"a\":{}", "[".repeat(100_000));
    let (_, error) = read(&written(&folder, "deep.jsonl", deep.as_bytes()));
    assert!(error.is_some_and(|error| error.contains("recursion limit")));
}

#[test]
fn patterns_find_files_in_order() {
    let folder = TempDir::new().expect("a temporary folder");
    for name in ["b.jsonl", "a.jsonl", "c.json", "with[1].jsonl"] {
        written(&folder, name, b"");
    }
    let at = |name: &str| folder.path().join(name);
    let pattern = |name: &str| at(name).display().to_string();
    let found = |patterns: &[&str]| expand(&patterns.iter().map(|name| pattern(name)).collect::<Vec<_>>());
    let expect = |names: &[&str]| names.iter().map(|name| at(name)).collect::<Vec<_>>();
    for (patterns, names) in [
        (vec!["*.jsonl"], vec!["a.jsonl", "b.jsonl", "with[1].jsonl"]),
        (vec!["c.json", "[ab].jsonl"], vec!["c.json", "a.jsonl", "b.jsonl"]),
        (vec!["b.jsonl", "?.jsonl"], vec!["b.jsonl", "a.jsonl"]),
        (vec!["with[1].jsonl"], vec!["with[1].jsonl"]),
    ] {
        assert_eq!(found(&patterns).expect("all there"), expect(&names), "{patterns:?}");
    }
    for (patterns, says) in [
        (vec!["a.jsonl", "*.parquet"], "no file matches"),
        (vec!["d.jsonl"], "no such file"),
        (vec![""], "not a regular file"),
        (vec!["[.jsonl"], "is not a file pattern"),
    ] {
        let error = found(&patterns).expect_err("none there").to_string();
        let named = pattern(patterns.last().expect("not empty"));
        assert!(error.contains(says) && error.contains(&named), "{error}");
    }
    let missing = Source::File(at("d.jsonl"));
    assert!(matches!(open(&missing), Err(DataError::MissingFile { .. })));
}

mod parquet_files {
    use std::sync::Arc;

    use ::parquet::{
        data_type::{ByteArray, ByteArrayType, DoubleType},
        file::{properties::WriterProperties, writer::SerializedFileWriter},
        schema::parser::parse_message_type,
    };

    use super::*;

    /// Two rows in two row groups: `name` null and text, a score, and a list of `{content, role}` of two
    /// and no turns. `turn` holds the fields of the struct, `element` its name.
    fn nested(element: &str, turn: [&str; 2]) -> Vec<u8> {
        let fields = turn.map(|name| format!("required binary {name} (UTF8);")).concat();
        let schema = format!(
            "message rows {{ optional binary name (UTF8); required double score; required group turns (LIST) {{ \
             repeated group list {{ required group {element} {{ {fields} }} }} }} }}"
        );
        let schema = Arc::new(parse_message_type(&schema).expect("a schema"));
        let mut bytes = vec![];
        let properties = Arc::new(WriterProperties::builder().build());
        let mut writer = SerializedFileWriter::new(&mut bytes, schema, properties).expect("a writer");
        for row in [0, 1] {
            let mut group = writer.next_row_group().expect("a row group");
            let mut column = group.next_column().expect("a column").expect("name");
            let (name, level): (&[ByteArray], _) = match row {
                0 => (&[], [0]),
                _ => (&[ByteArray::from("é")], [1]),
            };
            let typed = column.typed::<ByteArrayType>();
            typed.write_batch(name, Some(&level), None).expect("a value");
            column.close().expect("written");
            let mut column = group.next_column().expect("a column").expect("score");
            let scores = [if row == 0 { 1.5 } else { f64::NAN }];
            column.typed::<DoubleType>().write_batch(&scores, None, None).expect("a value");
            column.close().expect("written");
            for field in turn {
                let mut column = group.next_column().expect("a column").expect("a turn's field");
                let texts = ["first", "second"].map(|which| ByteArray::from(&*format!("{which} {field}")));
                let (texts, defined, repeated): (&[ByteArray], &[i16], &[i16]) = match row {
                    0 => (&texts, &[1, 1], &[0, 1]),
                    _ => (&[], &[0], &[0]),
                };
                let typed = column.typed::<ByteArrayType>();
                typed.write_batch(texts, Some(defined), Some(repeated)).expect("values");
                column.close().expect("written");
            }
            group.close().expect("written");
        }
        writer.close().expect("written");
        bytes
    }

    #[test]
    fn nested_lists_however_they_are_named() {
        let folder = TempDir::new().expect("a temporary folder");
        let turn = |which| json!({"role": format!("{which} role"), "content": format!("{which} content")});
        let rows = vec![
            (1, json!({"name": null, "score": 1.5, "turns": [turn("first"), turn("second")]})),
            (2, json!({"name": "é", "score": null, "turns": []})),
        ];
        for element in ["element", "item"] {
            for turn in [["role", "content"], ["content", "role"]] {
                let bytes = nested(element, turn);
                for (name, bytes) in [
                    ("a.parquet", bytes.clone()),
                    ("a.parquet.gz", gzip(&bytes)),
                    ("a.parquet.zst", zstd(&bytes)),
                ] {
                    let read = read(&written(&folder, name, &bytes));
                    assert_eq!(read, (rows.clone(), None), "{name} {element} {turn:?}");
                }
            }
        }
    }

    /// Wherever a file is cut or damaged it is read as it was or refused, and never ends the program.
    #[test]
    fn damaged_files_are_errors() {
        let folder = TempDir::new().expect("a temporary folder");
        let bytes = nested("element", ["role", "content"]);
        for end in (0..bytes.len()).step_by(7) {
            let (_, error) = read(&written(&folder, "cut.parquet", &bytes[..end]));
            let error = error.unwrap_or_else(|| panic!("cut at {end} was read"));
            assert!(error.contains("cannot decode Parquet") && error.contains("hint:"), "{error}");
        }
        let mut refused = 0;
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0xff;
            let (rows, error) = read(&written(&folder, "damaged.parquet", &damaged));
            refused += usize::from(error.is_some());
            assert!(error.is_some() || rows.len() <= 2, "byte {at} invented rows");
        }
        assert!(refused > bytes.len() / 2, "only {refused} damages were noticed");
    }

    #[test]
    fn ultrafeedback_in_parquet_is_the_jsonl() {
        let (Some(parquet), Some(jsonl)) = (
            shared("preference/ultrafeedback_train_first100_binarized.parquet"),
            shared("preference/ultrafeedback_train_1000.jsonl"),
        ) else {
            return;
        };
        let (rows, error) = read(&Source::File(parquet));
        assert_eq!((rows.len(), error), (100, None));
        let (lines, error) = read(&Source::File(jsonl));
        assert_eq!((lines.len(), error), (1000, None));
        for ((number, row), (_, line)) in rows.iter().zip(&lines) {
            for side in ["chosen", "rejected"] {
                let turns = json!([
                    {"content": line["prompt"], "role": "user"},
                    {"content": line[side], "role": "assistant"},
                ]);
                assert_eq!(row[side], turns, "row {number}");
                let score = format!("score_{side}");
                assert_eq!(row[&score], line["metadata"][&score], "row {number}");
            }
            assert_eq!(row["prompt"], line["prompt"], "row {number}");
        }
    }
}
