//! What a comparison is made of: a base configuration and, a variant each, pieces laid over it.

use std::path::PathBuf;

use asft_data::sampler::choose;
use asft_train::{
    Metrics, RunConfig,
    config::{assign, parse_table, read_table},
};
use serde::Deserialize;
use toml::{Table, Value};

use crate::failure::Failure;

/// `[compare]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Directory of the results and the report.
    pub output: PathBuf,
    /// Learning rates that every variant is tried with.
    pub learning_rates: Vec<f64>,
    /// Seeds of the order of pairs: the first for the choice of the learning rate, all for the result.
    pub seeds: Vec<u64>,
    /// Held-out pairs on which the learning rate is chosen; the rest are the test.
    pub validation_pairs: usize,
    /// What is to be best on them.
    #[serde(default)]
    pub select: Select,
    /// The variant that others are compared with; absent: the first.
    #[serde(default)]
    pub baseline: Option<String>,
    /// Test prompts that each trained model answers, greedily; the answers are held against the chosen ones.
    #[serde(default)]
    pub generate_pairs: usize,
    /// Tokens after which such an answer is cut.
    #[serde(default = "default_generate_tokens")]
    pub generate_tokens: usize,
    /// What `asft eval` printed of the variants' models with --json: mt-bench show, arena-hard show, alpaca. A model is a
    /// variant's if it has its name.
    #[serde(default)]
    pub summaries: Vec<PathBuf>,
    /// Whether checkpoints stay after their run's result is written.
    #[serde(default)]
    pub keep_checkpoints: bool,
}

fn default_generate_tokens() -> usize {
    256
}

/// What the best learning rate is best at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Select {
    /// The greatest margin.
    #[default]
    Margin,
    /// The greatest preference accuracy.
    Accuracy,
    /// The least loss of the variant's own objective.
    Loss,
}

impl Select {
    /// How good metrics are, greater being better.
    pub fn score(self, metrics: &Metrics) -> Option<f64> {
        match self {
            Self::Margin => metrics.margin,
            Self::Accuracy => metrics.accuracy,
            Self::Loss => Some(-metrics.loss),
        }
    }

    /// As a report says it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Margin => "greatest margin",
            Self::Accuracy => "greatest preference accuracy",
            Self::Loss => "least loss of the objective itself",
        }
    }
}

/// A comparison as it was typed, every run of it checked.
#[derive(Clone, Debug)]
pub struct Plan {
    /// `[compare]`.
    pub settings: Settings,
    /// Names of the variants, in file order.
    pub variants: Vec<String>,
    base: Table,
    pieces: Table,
    file: String,
}

/// One training run of a comparison.
#[derive(Clone, Debug)]
pub struct Run {
    /// Name of its files.
    pub name: String,
    /// Its variant.
    pub variant: String,
    /// Its configuration.
    pub config: RunConfig,
}

impl Plan {
    /// Parses `text` (`file` names it in errors), applies `--set` assignments and checks every run.
    pub fn read(text: &str, file: &str, assignments: &[String]) -> Result<Self, Failure> {
        let mut base = parse_table(text, file)?;
        for assignment in assignments {
            assign(&mut base, assignment)?;
        }
        let wrong = |key: &str, what: &str| Failure::input(format!("{file}: {key}: {what}"));
        let mut table = |name: &str, hint: &str| match base.remove(name) {
            Some(Value::Table(table)) => Ok(table),
            Some(_) => Err(wrong(name, &format!("must be a table\nhint: {hint}"))),
            None => Err(wrong(name, &format!("is missing\nhint: {hint}"))),
        };
        let settings =
            Table::from_iter([("compare".to_owned(), Value::Table(table("compare", "add [compare]")?))]);
        let pieces = table("variants", "add a table for each, such as [variants.dpo.objective.dpo]")?;
        #[derive(Deserialize)]
        struct Outer {
            compare: Settings,
        }
        let settings = read_table::<Outer>(settings, file)?.compare;
        let variants: Vec<String> = pieces.keys().cloned().collect();
        let plain = |name: &String| {
            !name.is_empty()
                && name.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(letter))
        };
        if let Some(name) = variants.iter().find(|name| !plain(name)) {
            let key = format!("variants.{name:?}");
            return Err(wrong(&key, "its name makes file names: letters, digits, - _ and . only"));
        }
        let lists = [
            ("variants", variants.len()),
            ("compare.learning_rates", settings.learning_rates.len()),
            ("compare.seeds", settings.seeds.len()),
            ("compare.validation_pairs", settings.validation_pairs),
        ];
        if let Some((key, _)) = lists.into_iter().find(|(_, count)| *count == 0) {
            return Err(wrong(key, "must be at least one"));
        }
        if repeats(&settings.seeds) || repeats(&settings.learning_rates) {
            return Err(wrong("compare", "a seed or learning rate is given twice"));
        }
        if let Some(baseline) = settings.baseline.as_ref().filter(|name| !variants.contains(name)) {
            let known = variants.join(", ");
            return Err(wrong(
                "compare.baseline",
                &format!("{baseline:?} is no variant\nhint: one of {known}"),
            ));
        }
        for own in ["optimizer.learning_rate", "train.seed", "train.output"] {
            let (outer, key) = own.split_once('.').expect("a table and a key");
            let has = |table: &Table| table.get(outer).and_then(|table| table.get(key)).is_some();
            let hint = "is set for each run from [compare]\nhint: leave it out here";
            if has(&base) {
                return Err(wrong(own, hint));
            }
            let of = |(name, piece): (&String, &Value)| {
                piece.as_table().filter(|piece| has(piece)).map(|_| name.clone())
            };
            if let Some(name) = pieces.iter().find_map(of) {
                return Err(wrong(&format!("variants.{name}.{own}"), hint));
            }
        }
        let plan = Self { settings, variants, base, pieces, file: file.to_owned() };
        for variant in &plan.variants {
            for &rate in &plan.settings.learning_rates {
                plan.run(variant, rate, plan.settings.seeds[0])?;
            }
        }
        Ok(plan)
    }

    /// The run of a variant with a learning rate and a seed. All runs hold out the same pairs.
    pub fn run(&self, variant: &str, learning_rate: f64, seed: u64) -> Result<Run, Failure> {
        let name = format!("{variant}-lr{learning_rate:e}-seed{seed}");
        let mut table = self.base.clone();
        if let Some(Value::Table(piece)) = self.pieces.get(variant) {
            lay_over(&mut table, piece);
        } else {
            return Err(Failure::input(format!("{}: variants.{variant}: must be a table", self.file)));
        }
        let own = [
            ("optimizer", "learning_rate", Value::Float(learning_rate)),
            ("train", "seed", Value::Integer(seed as i64)),
            ("train", "output", Value::String(self.run_directory(&name).display().to_string())),
        ];
        for (outer, key, value) in own {
            set(&mut table, outer, key, value);
        }
        let first = Value::Integer(self.settings.seeds[0] as i64);
        if table.get("data").and_then(|data| data.get("eval_seed")).is_none() {
            set(&mut table, "data", "eval_seed", first);
        }
        let file = format!("{} (variant {variant})", self.file);
        let config = RunConfig::from_table(table, &file)?;
        Ok(Run { name, variant: variant.to_owned(), config })
    }

    /// Which of so many held-out pairs choose the learning rate; the others are the test.
    pub fn validation(&self, held_out: usize) -> Vec<bool> {
        choose(held_out, self.settings.validation_pairs, self.settings.seeds[0])
    }

    /// The variant that others are compared with.
    pub fn baseline(&self) -> &str {
        self.settings.baseline.as_deref().unwrap_or(&self.variants[0])
    }

    /// Where a run trains.
    pub fn run_directory(&self, name: &str) -> PathBuf {
        self.settings.output.join("runs").join(name)
    }

    /// Where its result is.
    pub fn result_file(&self, name: &str) -> PathBuf {
        self.settings.output.join("results").join(format!("{name}.json"))
    }
}

fn repeats<T: PartialEq>(values: &[T]) -> bool {
    values.iter().enumerate().any(|(index, value)| values[..index].contains(value))
}

fn set(table: &mut Table, outer: &str, key: &str, value: Value) {
    let inner = table.entry(outer).or_insert_with(|| Value::Table(Table::new()));
    if let Value::Table(inner) = inner {
        inner.insert(key.to_owned(), value);
    }
}

/// Lays tables over tables; other values, and the objective as a whole, replace what was there.
fn lay_over(base: &mut Table, piece: &Table) {
    for (key, value) in piece {
        match (base.get_mut(key), value) {
            (Some(Value::Table(base)), Value::Table(piece)) if key != "objective" => lay_over(base, piece),
            _ => {
                base.insert(key.clone(), value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
        [model]
        path = "m"
        [data]
        train = ["pairs.jsonl"]
        eval_pairs = 10
        [objective.asft]
        beta = 0.5
        [train]
        max_steps = 3
        [compare]
        output = "out"
        learning_rates = [5e-6, 2e-5]
        seeds = [7, 8]
        validation_pairs = 4
        [variants.asft]
        [variants.dpo-online.objective.dpo]
        beta = 0.2
        [variants.dpo-online.reference]
        mode = "online"
    "#;

    #[test]
    fn variants_lie_over_the_base() {
        let plan = Plan::read(TEXT, "c.toml", &["train.epochs=1".to_owned()]).unwrap();
        assert_eq!(plan.variants, ["asft", "dpo-online"]);
        assert_eq!(plan.baseline(), "asft");
        let run = plan.run("dpo-online", 2e-5, 8).unwrap();
        assert_eq!(run.name, "dpo-online-lr2e-5-seed8");
        let config = &run.config;
        assert_eq!(serde_json::to_value(&config.objective).unwrap()["dpo"]["beta"], 0.2);
        assert_eq!((config.optimizer.learning_rate, config.train.seed), (2e-5, 8));
        // The pairs that are held out do not follow the seed of a run.
        assert_eq!((config.data.eval_seed, config.train.max_steps, config.train.epochs), (Some(7), 3, 1));
        assert_eq!(config.train.output, "out/runs/dpo-online-lr2e-5-seed8");
        let asft = plan.run("asft", 5e-6, 7).unwrap();
        assert_eq!(serde_json::to_value(&asft.config.objective).unwrap()["asft"]["beta"], 0.5);
    }

    #[test]
    fn the_comparisons_in_configs_are_plans() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/compare");
        let mut found = 0;
        for entry in folder.read_dir().unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            Plan::read(&text, &path.display().to_string(), &[]).unwrap();
            found += 1;
        }
        assert_eq!(found, 3);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (assignment, message) in [
            ("compare.seed=1", "compare.seed: unknown key\nhint: did you mean seeds?"),
            ("train.seed=3", "train.seed: is set for each run"),
            ("variants.asft.optimizer.learning_rate=3", "variants.asft.optimizer.learning_rate: is set for"),
            ("compare.seeds=[]", "compare.seeds: must be at least one"),
            ("compare.seeds=[1, 1]", "is given twice"),
            ("compare.learning_rates=[-1.0]", "(variant asft): optimizer.learning_rate: must be from 0 to 1"),
            ("compare.baseline=\"sft\"", "\"sft\" is no variant\nhint: one of asft, dpo-online"),
            (
                "variants.dpo-online.objective.dpo.bet=1",
                "(variant dpo-online): objective.dpo.bet: unknown key",
            ),
            ("variants.asft=3", "variants.asft: must be a table"),
            ("compare.select=\"best\"", "compare.select"),
        ] {
            let failure = Plan::read(TEXT, "c.toml", &[assignment.to_owned()]).unwrap_err();
            let Failure::Input(error) = failure else { panic!("{assignment}: {failure:?}") };
            assert!(error.to_string().contains(message), "{assignment}: {error}");
        }
    }
}
