//! Memory: what a run is expected to need, and what the process has used.

use asft_model::{LlamaConfig, LoraConfig, Projection, WeightType, head};

use crate::config::MemoryBudget;

/// Expected bytes of a training run by part, at the moment when they are most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Segments of blocks; all but the last are one block each, recomputed in the backward pass.
    pub segments: usize,
    /// Most tokens of a micro-batch that holds more than one pair.
    pub micro_batch_tokens: usize,
    /// Weights.
    pub weights: u64,
    /// Weights of a reference model that stands beside.
    pub reference: u64,
    /// Summed gradients, and those of a segment before they are added.
    pub gradients: u64,
    /// Both moments.
    pub optimizer: u64,
    /// Inputs of the recomputed blocks and the insides of the others, for the fullest micro-batch.
    pub activations: u64,
    /// Logits of a chunk, in f32 and in the weights' type, and the scored rows' hidden states with their gradients.
    pub head: u64,
    /// The program itself: code, tokenizer, pairs.
    pub process: u64,
}

/// Lengths of the pairs that an optimizer step may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepLoad {
    /// Tokens of the longest pair, which is never split.
    pub longest_pair: usize,
    /// Tokens of the longest pairs that may meet in a step.
    pub longest_step: usize,
    /// Pairs of a step.
    pub pairs: usize,
}

impl StepLoad {
    /// The load of steps of `pairs` out of pairs of these lengths.
    pub fn new(lengths: &[usize], pairs: usize) -> Self {
        let mut lengths = lengths.to_vec();
        lengths.sort_unstable_by(|a, b| b.cmp(a));
        Self {
            longest_pair: lengths.first().copied().unwrap_or(0),
            longest_step: lengths.iter().take(pairs).sum(),
            pairs: pairs.min(lengths.len()),
        }
    }

    /// Tokens of the fullest micro-batch bounded by `micro_batch_tokens`.
    fn fullest(&self, micro_batch_tokens: usize) -> usize {
        micro_batch_tokens.min(self.longest_step).max(self.longest_pair)
    }
}

const F32: u64 = 4;
/// Most tokens of a micro-batch that is chosen, unless a pair is longer: products gain nothing beyond, and on a CPU what
/// lies between them no longer stays in the cache.
const MOST_TOKENS: usize = 2048;
/// What adding a micro-batch's gradients to the sums costs, in tokens of a forward and backward pass. An
/// estimate: 24 bytes moved against 6 FLOP a token for each parameter, at 50 FLOP a byte.
const MICRO_BATCH_COST: f64 = 200.0;
/// What the program takes by itself: the peak of a dry run of 1,000 pairs with SmolLM2, or where LibTorch is linked, its
/// libraries and what they set up (docs/log.md, 2026-11-23 and 2026-11-27).
const PROCESS: u64 = if cfg!(feature = "tch") { 500_000_000 } else { 84_000_000 };

/// What memory is planned for.
#[derive(Clone, Copy, Debug)]
pub struct TrainedModel<'a> {
    /// Shape of the model.
    pub config: &'a LlamaConfig,
    /// Type of its weights.
    pub dtype: WeightType,
    /// Type of the optimizer's moments.
    pub state_dtype: WeightType,
    /// The adapters, where they are what is trained.
    pub lora: Option<&'a LoraConfig>,
    /// Whether gradients are applied segment by segment in the backward pass.
    pub in_backward: bool,
}

impl TrainedModel<'_> {
    /// Bytes of the weights without adapters. Where projections are kept as codes, the largest is there a second time,
    /// expanded for a product.
    fn weight_bytes(&self) -> u64 {
        let whole = (self.dtype.bytes() * self.config.parameters()) as u64;
        let Some(quantization) = self.lora.and_then(|lora| lora.quantization) else { return whole };
        let sizes = Projection::ALL.map(|projection| projection.shape(self.config).iter().product::<usize>());
        let saved = sizes.map(|size| self.dtype.bytes() * size - quantization.bytes(size));
        let expanded = self.dtype.bytes() * sizes.into_iter().max().unwrap_or(0);
        whole - (self.config.num_hidden_layers * saved.iter().sum::<usize>()) as u64 + expanded as u64
    }

    /// Numbers in all adapters: `rank (in + out)` for each adapted projection.
    pub fn adapter_parameters(&self) -> u64 {
        let numbers = |lora: &LoraConfig| {
            let widths = lora.target_modules.iter().flat_map(|projection| projection.shape(self.config));
            self.config.num_hidden_layers * lora.rank * widths.sum::<usize>()
        };
        self.lora.map_or(0, numbers) as u64
    }
}

impl MemoryPlan {
    /// The plan for given settings, with `reference` bytes of another model's weights beside.
    pub fn new(
        model: &TrainedModel<'_>,
        load: StepLoad,
        segments: usize,
        micro_batch_tokens: usize,
        reference: u64,
    ) -> Self {
        let TrainedModel { config, dtype, state_dtype, lora, in_backward } = *model;
        let weight = dtype.bytes() as u64;
        let parameters = config.parameters() as u64;
        let layers = config.num_hidden_layers as u64;
        let tokens = load.fullest(micro_batch_tokens) as u64;
        let hidden = config.hidden_size as u64;
        let vocabulary = config.vocab_size as u64;
        let segments = segments.clamp(1, config.num_hidden_layers);
        let last = layers - (segments as u64 - 1);
        let kept = block_floats(model);
        // What is trained, what of it belongs to the head, to a block, and the type of a gradient on its way.
        let (trained, head, block_parameters, gradient) = match lora {
            None => {
                let head = vocabulary * hidden;
                (parameters, head, (parameters - head) / layers, weight)
            }
            Some(_) => (model.adapter_parameters(), 0, model.adapter_parameters() / layers, F32),
        };
        let several = load.fullest(micro_batch_tokens) < load.longest_step;
        let plan = Self {
            segments,
            micro_batch_tokens,
            weights: model.weight_bytes() + F32 * model.adapter_parameters(),
            reference,
            gradients: F32 * trained,
            optimizer: 2 * state_dtype.bytes() as u64 * trained,
            activations: weight * tokens * (segments as u64 * hidden + last * kept),
            head: 0,
            process: PROCESS,
        };
        // When the head works, everything that the backward pass needs is there, but not its gradients: of them
        // only the sums of earlier micro-batches, and the head's own.
        let chunk = tokens.min(head::chunk_rows(config.vocab_size) as u64) * vocabulary;
        let at_the_head = Self {
            gradients: F32 * if several { trained } else { head },
            head: F32 * (chunk + 4 * tokens * hidden) + if weight == F32 { 0 } else { weight * chunk },
            ..plan
        };
        // Once the last segment is gone back through, all its gradients wait to be added.
        let after_the_last = Self {
            gradients: F32 * if several { trained } else { head + last * block_parameters }
                + gradient * last * block_parameters,
            activations: weight * tokens * (segments as u64 * hidden + kept),
            ..plan
        };
        // At the first block, which is recomputed, all other gradients are summed up.
        let at_the_first_block = Self {
            gradients: F32 * trained + gradient * block_parameters,
            activations: weight * tokens * (hidden + 2 * kept),
            ..plan
        };
        let phases = match (in_backward, segments) {
            (true, _) => {
                // The inputs of all micro-batches wait until they go back together.
                let inputs = weight * load.longest_step as u64 * segments as u64 * hidden;
                let block = weight * tokens * (hidden + 2 * kept);
                // The gradients above the blocks and of the last segment stay through the first step's search for
                // the norm; the embedding's comes at its end, and where it is the head's too, as a copy.
                let above = head + last * block_parameters;
                vec![
                    Self {
                        gradients: F32 * above,
                        activations: inputs + weight * tokens * last * kept,
                        ..at_the_head
                    },
                    Self {
                        gradients: F32 * above + gradient * last * block_parameters,
                        activations: inputs + weight * tokens * kept,
                        ..plan
                    },
                    Self {
                        gradients: F32 * (above + block_parameters) + gradient * block_parameters,
                        activations: inputs + block,
                        ..plan
                    },
                    Self { gradients: F32 * (above + head), activations: inputs, ..plan },
                ]
            }
            (false, 1) => vec![at_the_head, after_the_last],
            (false, _) => vec![at_the_head, after_the_last, at_the_first_block],
        };
        phases.into_iter().max_by_key(Self::peak).expect("a step has phases")
    }

    /// Expected peak: all parts.
    pub fn peak(&self) -> u64 {
        self.weights
            + self.reference
            + self.gradients
            + self.optimizer
            + self.activations
            + self.head
            + self.process
    }

    /// The fastest plan that fits into `budget`, or the smallest if none does; of `fixed` segments and
    /// micro-batch tokens those that are given. Without a budget as if there were nothing to spare.
    pub fn fit(
        model: &TrainedModel<'_>,
        load: StepLoad,
        fixed: (Option<usize>, Option<usize>),
        reference: u64,
        budget: Option<u64>,
    ) -> Self {
        let layers = model.config.num_hidden_layers;
        let segments = fixed.0.map_or(1..=layers, |count| count.min(layers)..=count.min(layers));
        let micro_batches = match fixed.1 {
            Some(tokens) => vec![tokens],
            None => {
                let parts = (1..=load.pairs.max(1)).map(|parts| load.longest_step.div_ceil(parts));
                let mut sizes: Vec<usize> = parts
                    .map(|tokens| tokens.clamp(load.longest_pair, MOST_TOKENS.max(load.longest_pair)))
                    .collect();
                sizes.dedup();
                sizes
            }
        };
        let plans = micro_batches.into_iter().flat_map(|tokens| {
            segments.clone().map(move |segments| Self::new(model, load, segments, tokens, reference))
        });
        let fits = |plan: &Self| budget.is_some_and(|budget| plan.peak() <= budget);
        let (fitting, others): (Vec<Self>, Vec<Self>) = plans.partition(fits);
        let fastest =
            fitting.into_iter().min_by(|a, b| a.cost(load, layers).total_cmp(&b.cost(load, layers)));
        fastest.unwrap_or_else(|| {
            others.into_iter().min_by_key(Self::peak).expect("there is at least one block")
        })
    }

    /// Time of a step of a model of `layers` blocks in tokens: a forward pass is a third of forward and backward, and is
    /// made again for all segments but the last.
    fn cost(&self, load: StepLoad, layers: usize) -> f64 {
        let recomputed = (self.segments - 1) as f64 / layers as f64 / 3.0;
        let micro_batches = load.longest_step.div_ceil(self.micro_batch_tokens.max(1)).min(load.pairs);
        load.longest_step as f64 * (1.0 + recomputed) + MICRO_BATCH_COST * micro_batches as f64
    }
}

/// Numbers of the weights' type that a block keeps for one token between the passes: four tensors as wide as the residual
/// stream (input, middle and their norms), queries and attention's output, which in bf16 is kept in f32 too, keys and
/// values, log-sum-exps, and the feed-forward layer's gate and up. Frozen projections do not need their inputs: a norm is kept where an adapter
/// takes it, and each adapter keeps what its `A` gives, and its input if elements of that are dropped.
fn block_floats(model: &TrainedModel<'_>) -> u64 {
    let TrainedModel { config, dtype, lora, .. } = model;
    let norms = match lora {
        None => 2,
        Some(lora) => {
            let adapted = |projections: &[Projection]| {
                usize::from(projections.iter().any(|one| lora.target_modules.contains(one)))
            };
            adapted(&[Projection::QProj, Projection::KProj, Projection::VProj])
                + adapted(&[Projection::GateProj, Projection::UpProj])
        }
    };
    let adapters: usize = lora
        .iter()
        .flat_map(|lora| {
            lora.target_modules.iter().map(|projection| {
                let [_, input] = projection.shape(config);
                lora.rank + if lora.dropout > 0.0 { input } else { 0 }
            })
        })
        .sum();
    let queries = config.head_dim * config.num_attention_heads;
    let keys = config.head_dim * config.num_key_value_heads;
    let outputs = match dtype {
        WeightType::F32 => 1,
        WeightType::Bf16 => 3,
    };
    let width =
        (2 + norms) * config.hidden_size + (1 + outputs) * queries + 2 * keys + 2 * config.intermediate_size;
    (width + config.num_attention_heads + adapters) as u64
}

/// The budget in bytes; `None` where it is `auto` and the system does not tell what is free.
pub fn budget_bytes(budget: MemoryBudget) -> Option<u64> {
    match budget {
        MemoryBudget::Bytes(bytes) => Some(bytes),
        MemoryBudget::Auto => {
            let free = kilobytes("/proc/meminfo", "MemAvailable:");
            free.map(|free| free / 4 * 3 / processes_here())
        }
    }
}

/// Processes of this run that share the machine's memory.
fn processes_here() -> u64 {
    #[cfg(feature = "mpi")]
    return crate::mpi::processes_here();
    #[cfg(not(feature = "mpi"))]
    1
}

/// Highest resident memory of this process so far, where the system tells (Linux).
pub fn peak_bytes() -> Option<u64> {
    kilobytes("/proc/self/status", "VmHWM:")
}

fn kilobytes(file: &str, key: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use asft_model::Quantization;

    use super::*;

    /// SmolLM2-135M.
    fn config() -> LlamaConfig {
        let text = r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 576, "intermediate_size": 1536,
            "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152,
            "rms_norm_eps": 1e-5, "rope_theta": 100000, "max_position_embeddings": 8192,
            "tie_word_embeddings": true, "hidden_act": "silu"}"#;
        LlamaConfig::from_json(text.as_bytes(), std::path::Path::new("config.json")).unwrap()
    }

    /// All weights are trained.
    fn whole(config: &LlamaConfig) -> TrainedModel<'_> {
        TrainedModel {
            config,
            dtype: WeightType::F32,
            state_dtype: WeightType::F32,
            lora: None,
            in_backward: false,
        }
    }

    #[test]
    fn codes_take_the_place_of_the_projections() {
        let (config, load) = (config(), StepLoad::new(&[500; 8], 8));
        let weights = |quantization| {
            let lora = LoraConfig { quantization, ..LoraConfig::default() };
            let model = TrainedModel { lora: Some(&lora), ..whole(&config) };
            MemoryPlan::new(&model, load, 1, 4000, 0).weights
        };
        // 30 layers of q and o 576 x 576, k and v 192 x 576, and three of 1536 x 576, of which one is expanded.
        let (projections, largest) = (30 * 576 * (2 * 576 + 2 * 192 + 3 * 1536), 1536 * 576);
        for (quantization, bits) in [(Quantization::Int8, 8), (Quantization::Nf4, 4)] {
            let saved = weights(None) - weights(Some(quantization));
            assert_eq!(saved, 4 * projections - projections * bits / 8 - projections / 16 - 4 * largest);
        }
    }

    const GB: u64 = 1_000_000_000;

    #[test]
    fn adapters_are_all_that_has_gradients() {
        let (config, load) = (config(), StepLoad::new(&[500; 8], 8));
        let lora = LoraConfig::default();
        let adapted = TrainedModel { lora: Some(&lora), ..whole(&config) };
        // 30 layers, rank 16: q and o 576 + 576, k and v 576 + 192, gate, up and down 576 + 1536.
        assert_eq!(adapted.adapter_parameters(), 30 * 16 * (2 * 1152 + 2 * 768 + 3 * 2112));
        let plan = |model| MemoryPlan::new(model, load, 1, 4000, 0);
        let (whole, adapted) = (plan(&whole(&config)), plan(&adapted));
        assert_eq!(adapted.weights - whole.weights, 4 * 4_884_480);
        assert_eq!(adapted.optimizer, 8 * 4_884_480);
        assert!(adapted.gradients <= 8 * 4_884_480 && whole.gradients >= 4 * 49_152 * 576);
        assert!(adapted.peak() < whole.peak());
    }

    #[test]
    fn moments_in_bf16_take_half_as_much() {
        let (config, load) = (config(), StepLoad::new(&[500; 8], 8));
        let halved = TrainedModel { state_dtype: WeightType::Bf16, ..whole(&config) };
        let [whole, halved] = [whole(&config), halved].map(|model| MemoryPlan::new(&model, load, 1, 4000, 0));
        assert_eq!(
            (whole.optimizer, halved.optimizer),
            (8 * config.parameters() as u64, whole.optimizer / 2)
        );
        assert_eq!(whole.peak() - halved.peak(), halved.optimizer);
    }

    #[test]
    fn eight_billion_parameters_fit_one_card_where_gradients_are_applied_as_they_come() {
        let config = crate::shapes::named("random:llama-3-8b").unwrap().unwrap();
        let load = StepLoad::new(&[2048; 4], 4);
        let whole = TrainedModel {
            dtype: WeightType::Bf16,
            state_dtype: WeightType::Bf16,
            in_backward: true,
            ..whole(&config)
        };
        let plan = MemoryPlan::fit(&whole, load, (Some(32), None), 0, Some(70 * GB));
        // Weights and two moments are 6 bytes a parameter.
        assert!((50 * GB..=70 * GB).contains(&plan.peak()), "{plan:?}");
        let at_once = TrainedModel { in_backward: false, ..whole };
        assert!(MemoryPlan::fit(&at_once, load, (Some(32), None), 0, Some(70 * GB)).peak() > 80 * GB);
    }

    #[test]
    fn a_plan_uses_the_memory_there_is() {
        let config = config();
        let load = StepLoad::new(&[900, 300, 1200, 800, 700], 4);
        assert_eq!((load.longest_pair, load.longest_step, load.pairs), (1200, 3600, 4));
        let model = whole(&config);
        let fit = |budget| MemoryPlan::fit(&model, load, (None, None), 0, budget);
        let roomy = fit(Some(64 * GB));
        assert_eq!((roomy.segments, roomy.micro_batch_tokens), (1, MOST_TOKENS));
        let mut before = roomy;
        for budget in [5 * GB, 4 * GB, 3 * GB] {
            let plan = fit(Some(budget));
            assert!(plan.peak() <= budget, "{} of {budget}", plan.peak());
            assert!(plan.cost(load, 30) >= before.cost(load, 30) && plan.peak() <= before.peak());
            before = plan;
        }
        let least = fit(None);
        let every = (1..=30).flat_map(|segments| {
            [1200, 1800, MOST_TOKENS].map(|tokens| MemoryPlan::new(&model, load, segments, tokens, 0))
        });
        assert_eq!(every.map(|plan| plan.peak()).min(), Some(least.peak()));
        assert_eq!(fit(Some(GB)), least);
    }

    #[test]
    fn what_is_given_is_kept() {
        let (config, load) = (config(), StepLoad::new(&[500; 8], 8));
        for fixed in [(Some(7), Some(1000)), (Some(7), None), (None, Some(1000))] {
            let plan = MemoryPlan::fit(&whole(&config), load, fixed, 0, Some(64 * GB));
            assert!(fixed.0.is_none_or(|segments| plan.segments == segments));
            assert!(fixed.1.is_none_or(|tokens| plan.micro_batch_tokens == tokens));
        }
        let plan = MemoryPlan::fit(&whole(&config), load, (Some(99), None), 0, Some(64 * GB));
        assert_eq!((plan.segments, plan.micro_batch_tokens), (30, MOST_TOKENS));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_peak_rises_with_what_is_touched() {
        let before = peak_bytes().unwrap();
        let touched = vec![1u8; 64 << 20];
        assert!(touched.iter().map(|&byte| u64::from(byte)).sum::<u64>() == 64 << 20);
        assert!(peak_bytes().unwrap() >= before.max(64 << 20));
    }
}
