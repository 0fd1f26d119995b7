//! The rules of ARCHITECTURE.md, each a row of a table: who may depend on whom, and what files may look like.

use std::{path::Path, process::Command};

use crate::launch::cargo;

/// Crates that a package must not reach, not even through others; a name stands for all that begin with it and `-`.
const FORBIDDEN: [(&str, &[&str]); 7] = [
    (
        "asft-core",
        &["asft-data", "asft-model", "asft-train", "asft-eval", "tokenizers", "safetensors", "ureq", "clap"],
    ),
    ("asft-data", &["burn", "asft-core", "asft-model", "asft-train", "asft-eval", "ureq", "clap"]),
    ("asft-model", &["asft-core", "asft-train", "asft-eval", "ureq", "clap"]),
    ("asft-train", &["asft-eval", "ureq", "clap", "indicatif", "signal-hook"]),
    ("asft-eval", &["burn", "asft-core", "asft-model", "asft-train", "clap"]),
    ("asft-cli", &["xtask"]),
    // Everything: its start must cost nothing.
    ("xtask", &[""]),
];

/// A file as the rules see it.
struct File<'a> {
    /// From the root of the repository, with slashes.
    path: &'a str,
    bytes: u64,
    text: &'a str,
}

/// Says what is wrong with a file.
type Check = fn(&File) -> Option<String>;

const CHECKS: [(&str, Check); 7] = [
    ("files are at most 2 MiB", |file| (file.bytes > 2 << 20).then(|| format!("{} bytes", file.bytes))),
    ("sources have at most 700 lines", |file| {
        let lines = file.text.lines().count();
        (is(file, &[".rs", ".py", ".md", ".toml"]) && lines > 700).then(|| format!("{lines} lines"))
    }),
    ("a Rust file begins with its module doc", |file| {
        (is(file, &[".rs"]) && !file.text.starts_with("//!")).then(|| "line 1: no //!".into())
    }),
    ("nothing is unfinished, and no test is skipped or content with a panic", |file| {
        // In pieces, so that this file passes.
        let words = [
            concat!("to", "do!("),
            concat!("unimpl", "emented!("),
            concat!("#[ig", "nore"),
            concat!("#[should", "_panic"),
            concat!("TO", "DO"),
            concat!("FIX", "ME"),
            concat!("```ig", "nore"),
        ];
        is(file, &[".rs"])
            .then(|| lines_with(file.text, |line| words.iter().any(|word| line.contains(word))))?
    }),
    ("no path of one person's machine", |file| lines_with(file.text, has_private_path)),
    ("concrete backends are named in asft-cli and in asft-model's files for backends only", |file| {
        const GENERIC: [&str; 4] = [
            "crates/asft-core/src/",
            "crates/asft-data/src/",
            "crates/asft-train/src/",
            "crates/asft-eval/src/",
        ];
        let names = ["backend::Flex", "burn_flex", "NdArray", "LibTorch", "Cuda", "Wgpu"];
        let code = file.text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        let concrete =
            |line: &str| !line.trim_start().starts_with("//") && names.iter().any(|name| line.contains(name));
        let generic =
            GENERIC.iter().any(|folder| file.path.starts_with(folder)) && !file.path.ends_with("tests.rs");
        generic.then(|| lines_with(code, concrete))?
    }),
    ("no mark of a merge that was not finished", |file| {
        let marks = ["<<<<<<< ", ">>>>>>> "];
        lines_with(file.text, |line| marks.iter().any(|mark| line.starts_with(mark)))
    }),
];

/// Checks everything and names every violation.
pub fn run() -> Result<(), String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut violations = vec![];
    for (package, forbidden) in FORBIDDEN {
        let tree = output(
            &root,
            &cargo(),
            &["tree", "--locked", "-p", package, "-e", "normal", "--prefix", "none", "-f", "{p}"],
        )?;
        violations.extend(dependencies(package, &tree, forbidden));
    }
    let names = output(
        &root,
        "git",
        &["-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
    )?;
    let mut files = 0;
    for path in names.split('\0').filter(|path| !path.is_empty()) {
        // Removed, but not yet committed.
        let Ok(bytes) = std::fs::read(root.join(path)) else { continue };
        let text = String::from_utf8(bytes).map_err(|error| error.into_bytes());
        let size = text.as_ref().map_or_else(|bytes| bytes.len(), |text| text.len());
        let file = File { path, bytes: size as u64, text: text.as_deref().unwrap_or_default() };
        files += 1;
        violations.extend(violations_of(&file));
    }
    if !violations.is_empty() {
        return Err(format!("{} violated:\n  {}", violations.len(), violations.join("\n  ")));
    }
    println!("{} dependency rules and {} rules over {files} files hold", FORBIDDEN.len(), CHECKS.len());
    Ok(())
}

fn output(root: &Path, program: &str, arguments: &[&str]) -> Result<String, String> {
    let shown = format!("{program} {}", arguments.join(" "));
    let output = Command::new(program).args(arguments).current_dir(root).output();
    let output = output.map_err(|error| format!("{shown}: {error}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!("{shown}: {}", String::from_utf8_lossy(&output.stderr).trim_end())),
    }
}

/// Forbidden crates in what `cargo tree` printed, one `name version` a line, the package itself first.
fn dependencies(package: &str, tree: &str, forbidden: &[&str]) -> Vec<String> {
    let names = tree.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    let mut found: Vec<_> = names
        .filter(|name| {
            forbidden.iter().any(|forbidden| {
                name.strip_prefix(forbidden)
                    .is_some_and(|rest| forbidden.is_empty() || rest.is_empty() || rest.starts_with('-'))
            })
        })
        .map(|name| {
            format!("{package} must not depend on {name}: cargo tree -p {package} -e normal -i {name}")
        })
        .collect();
    found.sort();
    found.dedup();
    found
}

fn violations_of(file: &File) -> Vec<String> {
    let found =
        CHECKS.iter().filter_map(|(rule, check)| Some(format!("{}: {}: {rule}", file.path, check(file)?)));
    found.collect()
}

fn is(file: &File, endings: &[&str]) -> bool {
    endings.iter().any(|ending| file.path.ends_with(ending))
}

fn lines_with(text: &str, found: impl Fn(&str) -> bool) -> Option<String> {
    let number = text.lines().position(found)?;
    Some(format!("line {}", number + 1))
}

/// An absolute path into a home or scratch directory; one in the middle of a longer path or address is not.
fn has_private_path(line: &str) -> bool {
    let folders = [
        concat!("/ho", "me/"),
        concat!("/ro", "ot/"),
        concat!("/Us", "ers/"),
        concat!("/t", "mp/"),
        concat!("/wo", "rk/"),
    ];
    folders.iter().any(|folder| {
        line.match_indices(folder).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            !before.is_some_and(|c| c.is_alphanumeric() || "._-~/}".contains(c))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "crates/asft-train/src/x.rs";

    #[test]
    fn every_check_fails_on_a_violation_and_passes_its_neighbour() {
        let long = format!("//! doc\n{}", "\n".repeat(700));
        let cut = &long[..long.len() - 1];
        let cases: [(usize, &str, u64, String, Option<&str>); 22] = [
            (0, "weights.bin", (2 << 20) + 1, String::new(), Some("2097153 bytes")),
            (0, "weights.bin", 2 << 20, String::new(), None),
            (1, SOURCE, 0, long.clone(), Some("701 lines")),
            (1, SOURCE, 0, cut.into(), None),
            (1, "goldens.json", 0, long.clone(), None),
            (2, SOURCE, 0, "use x;\n//! late".into(), Some("line 1: no //!")),
            (2, SOURCE, 0, "//! doc".into(), None),
            (3, SOURCE, 0, format!("//! doc\n{}!()", concat!("to", "do")), Some("line 2")),
            (3, SOURCE, 0, format!("{}]", concat!("#[ig", "nore")), Some("line 1")),
            (3, SOURCE, 0, format!("{}]", concat!("#[should", "_panic")), Some("line 1")),
            (3, SOURCE, 0, "// git ignores this".into(), None),
            (4, "README.md", 0, format!("\n\nsee {}me/x", concat!("/t", "mp/")), Some("line 3")),
            (4, "README.md", 0, format!("\"{}me\"", concat!("/ho", "me/")), Some("line 1")),
            (4, "README.md", 0, format!("https://host{}x", concat!("/wo", "rk/")), None),
            (5, SOURCE, 0, "type B = burn::backend::Flex;".into(), Some("line 1")),
            (5, SOURCE, 0, "let x = 1;\nCuda::default()".into(), Some("line 2")),
            (5, SOURCE, 0, "/// runs on Cuda".into(), None),
            (5, SOURCE, 0, "fn f() {}\n#[cfg(test)]\nmod tests { use burn::backend::Flex; }".into(), None),
            (5, "crates/asft-train/src/x/tests.rs", 0, "use burn::backend::Flex;".into(), None),
            (5, "crates/asft-cli/src/backend.rs", 0, "use burn::backend::Flex;".into(), None),
            (6, "README.md", 0, format!("a\n{} HEAD", "<".repeat(7)), Some("line 2")),
            (6, "README.md", 0, "let x = y <<<<<<< z;".into(), None),
        ];
        for (check, path, bytes, text, wanted) in cases {
            let found = (CHECKS[check].1)(&File { path, bytes, text: &text });
            assert_eq!(found.as_deref(), wanted, "{}: {path}", CHECKS[check].0);
        }
    }

    #[test]
    fn a_violation_names_file_place_and_rule() {
        let file = File { path: SOURCE, bytes: 6, text: "use x;" };
        assert_eq!(
            violations_of(&file),
            [format!("{SOURCE}: line 1: no //!: a Rust file begins with its module doc")]
        );
    }

    #[test]
    fn forbidden_crates_are_found_however_deep() {
        let tree = "asft-data v0.1.0 (x)\nserde v1.0.0\nburn-core v0.21.0\nserde v1.0.0 (*)\nburnish v1.0.0\nburn-core v0.21.0 (*)\n";
        let wanted = "asft-data must not depend on burn-core: cargo tree -p asft-data -e normal -i burn-core";
        assert_eq!(dependencies("asft-data", tree, &["burn"]), [wanted]);
        assert_eq!(dependencies("asft-data", tree, &["burn-core-extra", "tokenizers"]), [""; 0]);
        assert_eq!(dependencies("xtask", tree, &[""]).len(), 3);
    }
}
