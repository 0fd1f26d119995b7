//! Log-prob sums of a frozen model on disk: one file a model, one line a pair.
//!
//! A pair is known by its token ids, so a line holds for every data set, template and truncation that lead to the
//! same tokens, and for no other. Lines are appended as they are computed; what a killed run leaves is whole but for
//! its last line.

use std::{
    collections::{HashMap, HashSet},
    fs::{File, OpenOptions, TryLockError},
    io::Write,
    path::{Path, PathBuf},
};

use asft_core::ReferenceSums;
use asft_data::EncodedPair;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{checkpoint::hex, error::TrainError, job::digest};

/// Sums of one model by pair.
#[derive(Debug)]
pub struct ReferenceCache {
    path: PathBuf,
    header: Header,
    sums: HashMap<String, ReferenceSums>,
    /// Open for appending once something was missing.
    file: Option<File>,
}

/// First line of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Header {
    /// What the file is.
    kind: String,
    version: u32,
    /// Digest of the model's files.
    model: String,
    /// Type of the weights that it computed in.
    dtype: String,
}

#[derive(Serialize, Deserialize)]
struct Line {
    /// Digest of the pair's token ids.
    pair: String,
    #[serde(flatten)]
    sums: ReferenceSums,
    /// Digest of both, so that a number that was changed is not trained on.
    check: String,
}

impl Line {
    fn new(pair: String, sums: ReferenceSums) -> Self {
        let ReferenceSums { chosen, rejected } = sums;
        let bits = (chosen.to_bits(), rejected.map(f64::to_bits));
        let check = hex(&Sha256::digest(format!("{pair} {bits:?}")))[..16].to_owned();
        Self { pair, sums, check }
    }
}

impl ReferenceCache {
    /// Reads what `directory` holds of the model; nothing is written yet.
    pub fn open(directory: &Path, model: &str, dtype: &str) -> Result<Self, TrainError> {
        let mut cache = Self::new(directory, model, dtype);
        cache.read()?;
        Ok(cache)
    }

    /// Knows nothing yet.
    pub fn new(directory: &Path, model: &str, dtype: &str) -> Self {
        let header = Header {
            kind: "reference log-probs".to_owned(),
            version: 1,
            model: model.to_owned(),
            dtype: dtype.to_owned(),
        };
        let path = directory.join(format!("{}-{dtype}.jsonl", &model[..16]));
        Self { path, header, sums: HashMap::new(), file: None }
    }

    /// Reads the file and returns the length of its whole lines.
    fn read(&mut self) -> Result<u64, TrainError> {
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(self.unusable(&error)),
        };
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        let refused = |what: String| TrainError::ReferenceCache { path: self.path.clone(), what };
        let text = str::from_utf8(&bytes[..whole]).map_err(|error| refused(error.to_string()))?;
        let mut lines = text.lines();
        let Some(first) = lines.next() else { return Ok(0) };
        match serde_json::from_str::<Header>(first) {
            Ok(header) if header == self.header => {}
            Ok(_) => return Err(refused("holds the log-probs of another model".to_owned())),
            Err(error) => return Err(refused(format!("line 1: not reference log-probs: {error}"))),
        }
        for (index, line) in lines.enumerate() {
            let line: Line = serde_json::from_str(line)
                .map_err(|error| refused(format!("line {}: {error}", index + 2)))?;
            let expected = Line::new(line.pair, line.sums);
            if line.check != expected.check {
                return Err(refused(format!(
                    "line {}: its numbers are not those that were written",
                    index + 2
                )));
            }
            self.sums.insert(expected.pair, line.sums);
        }
        Ok(whole as u64)
    }

    fn unusable(&self, error: &std::io::Error) -> TrainError {
        TrainError::ReferenceCache { path: self.path.clone(), what: format!("cannot be used: {error}") }
    }

    /// The sums of a pair, if they are there.
    pub fn get(&self, pair: &EncodedPair) -> Option<ReferenceSums> {
        self.sums.get(&digest([pair])).copied()
    }

    /// Those of `pairs` that are not there, each once.
    pub fn missing<'a>(&self, pairs: &[&'a EncodedPair]) -> Vec<&'a EncodedPair> {
        let mut seen = HashSet::new();
        let missing = |pair: &&&EncodedPair| {
            let digest = digest([**pair]);
            !self.sums.contains_key(&digest) && seen.insert(digest)
        };
        pairs.iter().filter(missing).copied().collect()
    }

    /// Makes the file ready for appending, held by this process alone.
    pub fn lock(&mut self) -> Result<(), TrainError> {
        let directory = self.path.parent().expect("the file lies in a directory");
        std::fs::create_dir_all(directory).map_err(|error| self.unusable(&error))?;
        let options = OpenOptions::new().create(true).append(true).open(&self.path);
        let mut file = options.map_err(|error| self.unusable(&error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let what = "another process is computing these log-probs; wait until it is done".to_owned();
                return Err(TrainError::RunDirectory { path: self.path.clone(), what });
            }
            Err(TryLockError::Error(error)) => return Err(self.unusable(&error)),
        }
        // Another process may have added lines before it let go; a line that was cut by its death goes.
        let whole = self.read()?;
        let prepare = |file: &mut File| {
            file.set_len(whole)?;
            match whole {
                0 => writeln!(file, "{}", json(&self.header)),
                _ => Ok(()),
            }
        };
        prepare(&mut file).map_err(TrainError::io(&self.path))?;
        self.file = Some(file);
        Ok(())
    }

    /// Keeps the sums of pairs in memory.
    pub fn learn<'a>(&mut self, pairs: impl IntoIterator<Item = (&'a EncodedPair, ReferenceSums)>) {
        self.sums.extend(pairs.into_iter().map(|(pair, sums)| (digest([pair]), sums)));
    }

    /// Keeps the sums of pairs, in memory and at the end of the file.
    ///
    /// # Panics
    /// Without [`Self::lock`] before.
    pub fn add<'a>(
        &mut self,
        pairs: impl IntoIterator<Item = (&'a EncodedPair, ReferenceSums)>,
    ) -> Result<(), TrainError> {
        let mut lines = String::new();
        for (pair, sums) in pairs {
            let line = Line::new(digest([pair]), sums);
            lines += &json(&line);
            lines.push('\n');
            self.sums.insert(line.pair, sums);
        }
        let mut file = self.file.as_ref().expect("the file was locked");
        file.write_all(lines.as_bytes()).map_err(TrainError::io(&self.path))
    }

    /// Makes every line durable and lets the file go.
    pub fn release(&mut self) -> Result<(), TrainError> {
        match self.file.take() {
            Some(file) => file.sync_all().map_err(TrainError::io(&self.path)),
            None => Ok(()),
        }
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("lines hold numbers and texts")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use asft_data::Origin;

    use super::*;

    const MODEL: &str = "0123456789abcdef0123456789abcdef";

    fn pair(first: u32) -> EncodedPair {
        let origin = Origin { file: Arc::from(Path::new("pairs.jsonl")), row: 1 };
        EncodedPair { origin, prompt: vec![first, 2], chosen: vec![3], rejected: vec![4, 5] }
    }

    fn sums(chosen: f64) -> ReferenceSums {
        ReferenceSums { chosen, rejected: Some(-0.1 - chosen) }
    }

    #[test]
    fn what_was_added_is_there_again_to_the_last_bit() {
        let directory = tempfile::tempdir().unwrap();
        let open = || ReferenceCache::open(&directory.path().join("made"), MODEL, "f32").unwrap();
        let mut cache = open();
        assert_eq!(cache.get(&pair(1)), None);
        cache.lock().unwrap();
        let values: Vec<f64> = (1..200).map(|i| -f64::from(i) * 0.1 / 3.0).collect();
        let pairs: Vec<EncodedPair> = (1..200).map(pair).collect();
        let (first, second) = pairs.split_at(100);
        cache.add(first.iter().zip(values.iter().map(|&value| sums(value)))).unwrap();
        cache.release().unwrap();
        // A line that was cut.
        let file = || OpenOptions::new().append(true).open(&cache.path).unwrap();
        file().write_all(b"{\"pair\": \"00").unwrap();
        let mut again = open();
        assert_eq!(again.sums.len(), 100);
        again.lock().unwrap();
        let rest = values[100..].iter().map(|&value| sums(value));
        again.add(second.iter().zip(rest)).unwrap();
        again.release().unwrap();
        let last = open();
        for (pair, value) in pairs.iter().zip(values) {
            assert_eq!(last.get(pair), Some(sums(value)));
        }
        let (new, old) = (pair(1000), pair(1));
        assert_eq!(last.get(&new), None);
        assert_eq!(last.missing(&[&new, &old, &new]), [&new]);
    }

    #[test]
    fn what_does_not_match_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let open = |model: &str| ReferenceCache::open(directory.path(), model, "f32");
        let mut cache = open(MODEL).unwrap();
        cache.lock().unwrap();
        cache.add([(&pair(1), sums(-1.0))]).unwrap();
        let busy = open(MODEL).unwrap().lock().unwrap_err().to_string();
        assert!(busy.contains("another process"), "{busy}");
        cache.release().unwrap();
        // The same beginning of the digest, and so the same file.
        let other = open(&format!("{}ffff", &MODEL[..16])).unwrap_err().to_string();
        assert!(other.contains("another model") && other.contains("hint: remove the file"), "{other}");
        assert_eq!(ReferenceCache::open(directory.path(), MODEL, "bf16").unwrap().get(&pair(1)), None);
        for (text, what) in
            [("{\"pair\": \"00\", \"chosen\": null}\n", "line 3: "), ("nonsense\n", "line 3: ")]
        {
            let whole = std::fs::read_to_string(&cache.path).unwrap();
            std::fs::write(&cache.path, format!("{whole}{text}")).unwrap();
            let error = open(MODEL).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
            std::fs::write(&cache.path, whole).unwrap();
        }
        // One digit of a number.
        let whole = std::fs::read_to_string(&cache.path).unwrap();
        std::fs::write(&cache.path, whole.replace("\"chosen\":-1.0", "\"chosen\":-2.0")).unwrap();
        assert!(open(MODEL).unwrap_err().to_string().contains("line 2: its numbers"));
        let blocked = directory.path().join("file");
        std::fs::write(&blocked, "").unwrap();
        let error = ReferenceCache::open(&blocked, MODEL, "f32").unwrap_err();
        assert!(error.is_input() && error.to_string().contains("cannot be used"), "{error}");
        std::fs::write(&cache.path, "{}\n").unwrap();
        assert!(open(MODEL).unwrap_err().to_string().contains("line 1: "));
    }
}
