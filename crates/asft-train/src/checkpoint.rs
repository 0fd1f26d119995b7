//! Checkpoints of a run: weights as a Hugging Face directory, or adapters in PEFT's format, and beside them all that training goes on from.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use asft_data::sampler::SamplerState;
use asft_model::{
    Llama, LlamaBackend, LlamaConfig, LoraConfig, WeightType,
    checkpoint::{Checkpoint, NamedTensor, SafetensorsFile, write_adapter, write_model, write_safetensors},
    ops::AdamWState,
};
use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    error::TrainError,
    run_directory::{sync_directory, write_atomically},
};

const OPTIMIZER: &str = "optimizer.safetensors";
const STATE: &str = "state.json";
const MANIFEST: &str = "manifest.json";

/// Where a run stands after a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunState {
    /// Optimizer steps made.
    pub step: usize,
    /// Where the order of pairs stands.
    pub sampler: SamplerState,
    /// Digest of the training and held-out pairs' token ids.
    pub data: String,
    /// Digest of the reference model, for objectives that need one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Digest of the model under the adapters, where it is adapters that are trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// Gradient norm of the last step, where the next one is clipped by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grad_norm: Option<f64>,
}

/// Lists every file of a checkpoint with its length and digest; written last, so that a directory with a
/// manifest that holds is whole.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    step: usize,
    files: BTreeMap<String, FileDigest>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct FileDigest {
    bytes: u64,
    sha256: String,
}

/// Everything a checkpoint is made of.
pub struct Snapshot<'a, B: LlamaBackend> {
    /// Shape of the model.
    pub config: &'a LlamaConfig,
    /// Its weights.
    pub model: &'a Llama<B>,
    /// Settings of its adapters and the name of the model under them, where they are all that is written.
    pub adapters: Option<(&'a LoraConfig, &'a str)>,
    /// Tokenizer and template files.
    pub files: &'a [(String, Vec<u8>)],
    /// The optimizer's moments.
    pub moments: &'a BTreeMap<String, AdamWState<B>>,
    /// Where the run stands.
    pub state: &'a RunState,
}

/// Writes `checkpoints/step-N`, moves `latest` to it and removes all but the newest `keep`.
pub fn save<B: LlamaBackend>(
    run: &Path,
    snapshot: &Snapshot<'_, B>,
    keep: usize,
) -> Result<PathBuf, TrainError> {
    let checkpoints = run.join("checkpoints");
    let target = checkpoints.join(format!("step-{}", snapshot.state.step));
    let temporary = tempfile::Builder::new()
        .prefix(".partial-")
        .tempdir_in(&checkpoints)
        .map_err(TrainError::io(&checkpoints))?;
    let directory = temporary.path();
    let written = match snapshot.adapters {
        None => write_model(directory, snapshot.config, snapshot.model, snapshot.files),
        Some((lora, base)) => write_adapter(directory, lora, base, snapshot.model, snapshot.files),
    };
    written
        .and_then(|()| write_safetensors(&directory.join(OPTIMIZER), &moment_tensors(snapshot.moments)))
        .map_err(|source| TrainError::Save { path: target.clone(), source: source.into() })?;
    write_atomically(&directory.join(STATE), &json(snapshot.state))?;
    let manifest = Manifest { step: snapshot.state.step, files: digests(directory)? };
    write_atomically(&directory.join(MANIFEST), &json(&manifest))?;

    let directory = temporary.keep();
    let finish = || {
        make_readable(&directory)?;
        if target.exists() {
            fs::remove_dir_all(&target)?;
        }
        fs::rename(&directory, &target)?;
        sync_directory(&checkpoints)?;
        point_latest(run, snapshot.state.step)?;
        let steps = steps_newest_first(run)?;
        steps
            .into_iter()
            .skip(keep)
            .try_for_each(|step| fs::remove_dir_all(checkpoints.join(format!("step-{step}"))))
    };
    finish().map_err(TrainError::io(&target))?;
    Ok(target)
}

/// Removes what an interrupted save left behind.
pub fn remove_partial(run: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(run.join("checkpoints"))? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(".partial-") {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// The newest checkpoint whose files are those of its manifest; damaged ones are passed over with a warning.
/// `None` before the first; an error where there are some and none is whole.
pub fn newest(run: &Path) -> Result<Option<PathBuf>, TrainError> {
    let steps = match steps_newest_first(run) {
        Ok(steps) => steps,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(TrainError::io(run)(error)),
    };
    let mut newest_damage = None;
    for step in steps {
        let path = run.join("checkpoints").join(format!("step-{step}"));
        match verify(&path) {
            Ok(()) => return Ok(Some(path)),
            Err(what) => {
                tracing::warn!("passing over a damaged checkpoint: {}: {what}", path.display());
                newest_damage.get_or_insert(what);
            }
        }
    }
    newest_damage.map_or(Ok(None), |what| Err(TrainError::NoWholeCheckpoint { path: run.to_owned(), what }))
}

/// Reads where the run stood.
pub fn load_state(checkpoint: &Path) -> Result<RunState, TrainError> {
    let path = checkpoint.join(STATE);
    let text = fs::read_to_string(&path).map_err(TrainError::io(&path))?;
    serde_json::from_str(&text)
        .map_err(|error| TrainError::RunDirectory { path, what: format!("not the state of a run: {error}") })
}

/// Reads the optimizer's moments, to be kept in `state_type`.
pub fn load_moments<B: LlamaBackend>(
    checkpoint: &Path,
    state_type: WeightType,
    device: &B::Device,
) -> Result<BTreeMap<String, AdamWState<B>>, TrainError> {
    let file = SafetensorsFile::open(&checkpoint.join(OPTIMIZER))?;
    let mut moments = BTreeMap::new();
    for name in file.names()? {
        let Some(path) = name.strip_suffix(".exp_avg") else { continue };
        let read = |name: &str| -> Result<Tensor<B, 1>, TrainError> {
            let shape = file.shape(name)?;
            let values = file.values(name, &shape)?;
            let length = values.len();
            let values = Tensor::<B, 1>::from_data(TensorData::new(values, [length]), device);
            Ok(values.cast(state_type.dtype()))
        };
        let read = AdamWState { first: read(&name)?, second: read(&format!("{path}.exp_avg_sq"))? };
        moments.insert(path.to_owned(), read);
    }
    Ok(moments)
}

/// PyTorch's names of the moments, so that other tools can make sense of the file.
fn moment_tensors<B: LlamaBackend>(moments: &BTreeMap<String, AdamWState<B>>) -> Vec<NamedTensor<B>> {
    let tensor = |path: &str, kind: &str, values: &Tensor<B, 1>| NamedTensor {
        name: format!("{path}.{kind}"),
        shape: values.dims().to_vec(),
        values: values.clone(),
    };
    let both = |(path, AdamWState { first, second }): (&String, &AdamWState<B>)| {
        [tensor(path, "exp_avg", first), tensor(path, "exp_avg_sq", second)]
    };
    moments.iter().flat_map(both).collect()
}

/// Checks the manifest of a directory that is a run's checkpoint; any other directory passes.
pub(crate) fn verify_if_of_a_run(checkpoint: &Path) -> Result<(), TrainError> {
    match checkpoint.join(MANIFEST).is_file() && checkpoint.join(STATE).is_file() {
        false => Ok(()),
        true => verify(checkpoint).map_err(|what| TrainError::RunDirectory {
            path: checkpoint.to_owned(),
            what: format!("{what}\nhint: this checkpoint is damaged; name an older one of the run"),
        }),
    }
}

/// Checks that `base` is the model that the adapter of a run's checkpoint was trained on; any other adapter passes.
pub(crate) fn check_base(checkpoint: &Path, base: &Checkpoint) -> Result<(), TrainError> {
    if !checkpoint.join(STATE).is_file() {
        return Ok(());
    }
    match load_state(checkpoint)?.base {
        Some(expected) if expected != digest_of_files(&base.files())? => Err(TrainError::Adapter {
            path: checkpoint.to_owned(),
            what: format!(
                "{} is not the model that this adapter was trained on\nhint: put that one back, or correct base_model_name_or_path in a copy of the adapter",
                base.path().display()
            ),
        }),
        _ => Ok(()),
    }
}

fn verify(checkpoint: &Path) -> Result<(), String> {
    let text =
        fs::read_to_string(checkpoint.join(MANIFEST)).map_err(|error| format!("{MANIFEST}: {error}"))?;
    let manifest: Manifest = serde_json::from_str(&text).map_err(|error| format!("{MANIFEST}: {error}"))?;
    for (name, expected) in &manifest.files {
        let found = digest(&checkpoint.join(name)).map_err(|error| format!("{name}: {error}"))?;
        if found != *expected {
            return Err(format!("{name}: differs from {MANIFEST}"));
        }
    }
    Ok(())
}

fn digests(directory: &Path) -> Result<BTreeMap<String, FileDigest>, TrainError> {
    let read = || -> std::io::Result<_> {
        let named = |entry: std::io::Result<fs::DirEntry>| {
            let entry = entry?;
            Ok((entry.file_name().to_string_lossy().into_owned(), digest(&entry.path())?))
        };
        fs::read_dir(directory)?.map(named).collect()
    };
    read().map_err(TrainError::io(directory))
}

fn digest(path: &Path) -> std::io::Result<FileDigest> {
    let mut file = File::open(path)?;
    let (mut hasher, mut bytes) = (Sha256::new(), 0);
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            read => {
                hasher.update(&buffer[..read]);
                bytes += read as u64;
            }
        }
    }
    Ok(FileDigest { bytes, sha256: hex(&hasher.finalize()) })
}

/// Digest of several files' contents, whatever their names.
pub fn digest_of_files(paths: &[PathBuf]) -> Result<String, TrainError> {
    let mut hasher = Sha256::new();
    for path in paths {
        hasher.update(digest(path).map_err(TrainError::io(path))?.sha256);
    }
    Ok(hex(&hasher.finalize()))
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn steps_newest_first(run: &Path) -> std::io::Result<Vec<usize>> {
    let mut steps = vec![];
    for entry in fs::read_dir(run.join("checkpoints"))? {
        let name = entry?.file_name();
        steps.extend(name.to_str().and_then(|name| name.strip_prefix("step-")?.parse::<usize>().ok()));
    }
    steps.sort_unstable_by(|a, b| b.cmp(a));
    Ok(steps)
}

/// Moves the link `latest` in one step.
fn point_latest(run: &Path, step: usize) -> std::io::Result<()> {
    let (link, temporary) = (run.join("latest"), run.join(".latest"));
    let target = Path::new("checkpoints").join(format!("step-{step}"));
    if temporary.symlink_metadata().is_ok() {
        fs::remove_file(&temporary)?;
    }
    #[cfg(unix)]
    std::os::unix::fs::symlink(target, &temporary)?;
    #[cfg(windows)]
    std::os::windows::fs::symlink_dir(target, &temporary)?;
    fs::rename(&temporary, &link)?;
    sync_directory(run)
}

/// Temporary directories are private; a checkpoint is for everybody who may read the run.
fn make_readable(directory: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let parent = directory.parent().unwrap_or(directory);
        let mode = fs::metadata(parent)?.permissions().mode();
        fs::set_permissions(directory, fs::Permissions::from_mode(mode))?;
    }
    #[cfg(not(unix))]
    let _ = directory;
    Ok(())
}

fn json(value: &impl Serialize) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(value).expect("states and manifests hold numbers and texts");
    text.push(b'\n');
    text
}
