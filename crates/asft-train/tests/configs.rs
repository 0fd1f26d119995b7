//! Every configuration that is shipped can be used as it is.

use std::path::Path;

use asft_model::WeightType;
use asft_train::RunConfig;

#[test]
fn shipped_configurations_parse_and_survive_being_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs");
    let mut names: Vec<String> = vec![];
    // Comparisons have more tables; the command's own tests read them.
    for path in walk(&folder).into_iter().filter(|path| !path.starts_with(folder.join("compare"))) {
        let name = path.strip_prefix(&folder).unwrap().display().to_string();
        let text = std::fs::read_to_string(&path).unwrap();
        let config = RunConfig::parse(&text, &name, None, &[]).unwrap_or_else(|error| panic!("{error}"));
        let written = RunConfig::parse(&config.to_toml(), &name, None, &[]).unwrap();
        assert_eq!(written, config, "{name}");
        names.push(name);
    }
    assert!(names.contains(&"paper-llama3-8b.toml".into()), "{names:?}");
}

/// The objectives that the paper compares, on both of its data sets, differ in nothing else.
#[test]
fn the_papers_comparison_is_there_and_fair() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/paper");
    for data in ["ultrafeedback", "hh"] {
        let mut others = vec![];
        for objective in ["sft", "dpo", "ipo", "orpo", "asft"] {
            let name = format!("{objective}-{data}.toml");
            let text = std::fs::read_to_string(folder.join(&name)).unwrap();
            let mut config = RunConfig::parse(&text, &name, None, &[]).unwrap();
            assert_eq!(config.objective.name(), objective);
            assert_eq!(config.train.output, format!("runs/paper/{objective}-{data}"));
            assert_eq!(config.optimizer.learning_rate, 1e-5);
            config.objective = asft_core::Objective::by_name("sft").unwrap();
            config.train.output.clear();
            others.push(config);
        }
        assert!(others.iter().all(|config| *config == others[0]), "{data}");
    }
}

#[test]
fn the_papers_recipe_is_the_papers() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/paper-llama3-8b.toml");
    let text = std::fs::read_to_string(path).unwrap();
    let config = RunConfig::parse(&text, "paper-llama3-8b.toml", None, &[]).unwrap();
    let asft = asft_core::Asft { beta: 0.1, ..Default::default() };
    assert_eq!(config.objective, asft_core::Objective::Asft(asft));
    assert_eq!(config.optimizer.learning_rate, 1e-5);
    assert_eq!((config.train.epochs, config.train.pairs_per_step, config.train.max_steps), (2, 4, 0));
    assert_eq!(config.data.max_length, 2048);
    assert_eq!(config.data.truncation, asft_data::truncation::Truncation::KeepStart);
}

/// All .toml files below `folder`.
fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| match path.is_dir() {
            true => walk(&path),
            false => {
                vec![path].into_iter().filter(|path| path.extension() == Some("toml".as_ref())).collect()
            }
        })
        .collect()
}

/// All weights of 8 billion parameters with the memory of one card.
#[test]
fn eight_billion_parameters_are_trained_in_bf16_and_by_block() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/llama3-8b-full.toml");
    let text = std::fs::read_to_string(path).unwrap();
    let config = RunConfig::parse(&text, "llama3-8b-full.toml", None, &[]).unwrap();
    assert_eq!((config.model.dtype, config.optimizer.state_dtype), (WeightType::Bf16, WeightType::Bf16));
    assert!(config.optimizer.in_backward);
    assert_eq!(config.train.segments.exactly(), Some(32));
}
