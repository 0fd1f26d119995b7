//! From TOML text and `--set` assignments to a [`RunConfig`] whose every value has been looked at.

use asft_core::Objective;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::RunConfig;

/// A configuration that cannot be used, by key path.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The text is no TOML.
    #[error("{file}: {message}")]
    Syntax {
        /// The file as it was named.
        file: String,
        /// The parser's message, with line and column.
        message: String,
    },
    /// A key is unknown, missing, of a wrong type or out of range.
    #[error("{file}: {key}: {message}")]
    Key {
        /// The file as it was named.
        file: String,
        /// Dotted path of the key.
        key: String,
        /// What is wrong, and a hint.
        message: String,
    },
    /// A `--set` assignment is malformed.
    #[error(
        "--set {assignment}: {message}\nhint: write --set table.key=value, for example --set optimizer.learning_rate=1e-5"
    )]
    Assignment {
        /// As it was typed.
        assignment: String,
        /// What is wrong with it.
        message: String,
    },
    /// `--objective` names none.
    #[error("objective {name:?} is unknown\nhint: one of {}", Objective::NAMES.join(", "))]
    Objective {
        /// As it was typed.
        name: String,
    },
}

impl RunConfig {
    /// Parses `text` (`file` names it in errors, but where an assignment is to blame). `objective` replaces the
    /// `[objective.NAME]` table by that objective's defaults; then each assignment `a.b=value` is applied; then every value is checked.
    pub fn parse(
        text: &str,
        file: &str,
        objective: Option<&str>,
        assignments: &[String],
    ) -> Result<Self, ConfigError> {
        let mut table = parse_table(text, file)?;
        if let Some(name) = objective {
            Objective::by_name(name).ok_or_else(|| ConfigError::Objective { name: name.to_owned() })?;
            let defaults = Table::from_iter([(name.to_owned(), Value::Table(Table::new()))]);
            table.insert("objective".to_owned(), Value::Table(defaults));
        }
        for assignment in assignments {
            assign(&mut table, assignment)?;
        }
        let is_assigned = |key: &str| {
            assignments.iter().filter_map(|assignment| assignment.split_once('=')).any(|(path, _)| {
                key.strip_prefix(path.trim())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
            })
        };
        Self::from_table(table, file).map_err(|error| match error {
            ConfigError::Key { key, message, .. } if is_assigned(&key) => {
                ConfigError::Key { file: "command line".to_owned(), key, message }
            }
            other => other,
        })
    }

    /// Checks every value of a table.
    pub fn from_table(table: Table, file: &str) -> Result<Self, ConfigError> {
        if let Some(objectives) = table.get("objective") {
            check_one_objective(objectives, file)?;
        }
        let config: Self = read_table(table, file)?;
        config.check(file)?;
        Ok(config)
    }

    /// The configuration in full, as `config.toml` of a run directory holds it.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).expect("every setting has a TOML form")
    }

    fn check(&self, file: &str) -> Result<(), ConfigError> {
        let error = |key: &str, message: String| {
            Err(ConfigError::Key { file: file.to_owned(), key: key.to_owned(), message })
        };
        if let Err(range) = self.objective.validate() {
            let key = format!("objective.{}.{}", range.objective, range.key);
            return error(&key, format!("must be {}, got {}", range.must, range.got));
        }
        let optimizer = &self.optimizer;
        let reals = [
            ("optimizer.learning_rate", optimizer.learning_rate, 0.0..=1.0, "from 0 to 1"),
            ("optimizer.betas[0]", optimizer.betas[0], 0.0..=1.0 - f64::EPSILON, "from 0 to below 1"),
            ("optimizer.betas[1]", optimizer.betas[1], 0.0..=1.0 - f64::EPSILON, "from 0 to below 1"),
            ("optimizer.eps", optimizer.eps, 1e-30..=1.0, "from 1e-30 to 1"),
            ("optimizer.weight_decay", optimizer.weight_decay, 0.0..=1e3, "from 0 to 1000"),
            (
                "optimizer.max_grad_norm",
                optimizer.max_grad_norm,
                0.0..=f64::MAX,
                "0 (off) or a finite number above",
            ),
            ("schedule.warmup_ratio", self.schedule.warmup_ratio, 0.0..=1.0, "from 0 to 1"),
            ("data.eval_fraction", self.data.eval_fraction, 0.0..=0.9, "from 0 to 0.9"),
        ];
        for (key, value, range, must) in reals {
            if !range.contains(&value) {
                return error(key, format!("must be {must}, got {value}"));
            }
        }
        if let Some(lora) = &self.lora {
            if !(1..=1 << 16).contains(&lora.rank) {
                return error("lora.rank", format!("must be from 1 to 65536, got {}", lora.rank));
            }
            if !(lora.alpha > 0.0 && lora.alpha <= 1e6) {
                return error("lora.alpha", format!("must be above 0 and at most 1e6, got {}", lora.alpha));
            }
            if !(0.0..=0.99).contains(&lora.dropout) {
                return error("lora.dropout", format!("must be from 0 to 0.99, got {}", lora.dropout));
            }
            if lora.target_modules.is_empty() {
                return error("lora.target_modules", "must name a projection at least".to_owned());
            }
        }
        let counts = [
            ("data.max_length", self.data.max_length, 2),
            ("train.epochs", self.train.epochs, 1),
            ("train.pairs_per_step", self.train.pairs_per_step, 1),
            ("train.keep_checkpoints", self.train.keep_checkpoints, 1),
        ];
        for (key, value, least) in counts {
            if value < least {
                return error(key, format!("must be at least {least}, got {value}"));
            }
        }
        if self.train.collective_timeout == 0 {
            return error("train.collective_timeout", "must be at least 1, got 0".to_owned());
        }
        const MOST: usize = 1 << 30;
        for (key, value) in [
            ("train.epochs", self.train.epochs),
            ("train.max_steps", self.train.max_steps),
            ("train.pairs_per_step", self.train.pairs_per_step),
            ("data.max_length", self.data.max_length),
        ] {
            if value > MOST {
                return error(key, format!("must be at most {MOST}, got {value}"));
            }
        }
        let held_out = [
            ("data.eval", !self.data.eval.is_empty()),
            ("data.eval_pairs", self.data.eval_pairs > 0),
            ("data.eval_fraction", self.data.eval_fraction > 0.0),
        ];
        let given: Vec<&str> = held_out.into_iter().filter_map(|(key, given)| given.then_some(key)).collect();
        if let [first, second, ..] = given.as_slice() {
            return error(second, format!("and {first} both say what is held out\nhint: give one of them"));
        }
        let texts = [
            ("model.path", self.model.path.is_empty()),
            ("reference.cache", self.reference.cache.is_empty()),
            ("train.output", self.train.output.is_empty()),
            ("data.train", self.data.train.is_empty()),
        ];
        for (key, empty) in texts {
            if empty {
                return error(key, "must not be empty".to_owned());
            }
        }
        Ok(())
    }
}

/// Parses TOML text; `file` names it in errors.
pub fn parse_table(text: &str, file: &str) -> Result<Table, ConfigError> {
    toml::from_str(text).map_err(|error| ConfigError::Syntax {
        file: file.to_owned(),
        message: error.to_string().trim_end().to_owned(),
    })
}

/// Reads strict settings from a table; errors name the key's path and the nearest known key.
pub fn read_table<T: DeserializeOwned>(table: Table, file: &str) -> Result<T, ConfigError> {
    serde_path_to_error::deserialize(Value::Table(table)).map_err(|error| {
        let path = error.path().to_string();
        key_error(file, path, error.into_inner().message())
    })
}

/// Sets one key. The value is read as TOML, and as a plain string where that fails.
pub fn assign(table: &mut Table, assignment: &str) -> Result<(), ConfigError> {
    let error = |message: &str| ConfigError::Assignment {
        assignment: assignment.to_owned(),
        message: message.to_owned(),
    };
    let (path, text) = assignment.split_once('=').ok_or_else(|| error("has no ="))?;
    let value =
        match toml::from_str::<Table>(&format!("value = {text}")).map(|mut parsed| parsed.remove("value")) {
            Ok(Some(value)) => value,
            _ => Value::String(text.to_owned()),
        };
    let (tables, key) = match path.trim().rsplit_once('.') {
        Some((tables, key)) if !key.is_empty() && !tables.split('.').any(str::is_empty) => (tables, key),
        _ => return Err(error("needs a key path such as train.epochs")),
    };
    let mut inner = table;
    for name in tables.split('.') {
        let entry = inner.entry(name).or_insert_with(|| Value::Table(Table::new()));
        inner = entry.as_table_mut().ok_or_else(|| error(&format!("{name} is not a table")))?;
    }
    // A list may be given as one plain value.
    let value = match inner.get(key) {
        Some(Value::Array(_)) if !value.is_array() => Value::Array(vec![value]),
        _ => value,
    };
    inner.insert(key.to_owned(), value);
    Ok(())
}

fn check_one_objective(objectives: &Value, file: &str) -> Result<(), ConfigError> {
    let error =
        |message: String| ConfigError::Key { file: file.to_owned(), key: "objective".to_owned(), message };
    let Value::Table(table) = objectives else {
        return Err(error("must be a table such as [objective.asft]".to_owned()));
    };
    let names: Vec<_> = table.keys().map(String::as_str).collect();
    match names.as_slice() {
        [name] if Objective::NAMES.contains(name) => Ok(()),
        [name] => Err(error(unknown(name, Objective::NAMES))),
        [] => Err(error("must hold exactly one table, such as [objective.asft]".to_owned())),
        names => Err(error(format!(
            "must hold exactly one table, found {}\nhint: --objective NAME picks one",
            names.join(", ")
        ))),
    }
}

/// Turns serde's message into ours: the key itself at the end of its path, and the nearest known one.
fn key_error(file: &str, path: String, message: &str) -> ConfigError {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let (parent, message) = match (message.starts_with("unknown field"), quoted.as_slice()) {
        (true, [name, known @ ..]) => {
            (path.strip_suffix(name).unwrap_or(&path).trim_end_matches('.').to_owned(), unknown(name, known))
        }
        _ => {
            let key = if path == "." { "(top level)".to_owned() } else { path };
            // What serde says of an enum that is given a number or the like.
            let message = match message.starts_with("invalid type: unit variant") {
                true => "must be a string in quotes",
                false => message,
            };
            return ConfigError::Key { file: file.to_owned(), key, message: message.to_owned() };
        }
    };
    let key = match parent.as_str() {
        "" | "." => quoted[0].to_owned(),
        parent => format!("{parent}.{}", quoted[0]),
    };
    ConfigError::Key { file: file.to_owned(), key, message }
}

fn unknown(name: &str, known: &[&str]) -> String {
    let nearest =
        known.iter().max_by(|a, b| strsim::jaro_winkler(name, a).total_cmp(&strsim::jaro_winkler(name, b)));
    match nearest {
        Some(nearest) if strsim::jaro_winkler(name, nearest) > 0.75 => {
            format!("unknown key\nhint: did you mean {nearest}?")
        }
        _ => format!("unknown key\nhint: known here: {}", known.join(", ")),
    }
}
