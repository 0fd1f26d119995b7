//! Memory: what a run is expected to need, and what the process has used.

use asft_model::{LlamaConfig, head};

use crate::config::MemoryBudget;

/// Expected bytes of a training run by part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Weights.
    pub weights: u64,
    /// Summed gradients.
    pub gradients: u64,
    /// Both moments.
    pub optimizer: u64,
    /// Segment inputs and the insides of one segment, for a full micro-batch.
    pub activations: u64,
    /// Logits of a chunk and what is computed from them.
    pub head: u64,
}

const F32: u64 = 4;

impl MemoryPlan {
    /// The plan for micro-batches of `tokens` and a number of segments.
    pub fn new(config: &LlamaConfig, tokens: usize, segments: usize) -> Self {
        let (parameters, tokens) = (config.parameters() as u64, tokens as u64);
        let layers = config.num_hidden_layers as u64;
        let hidden = config.hidden_size as u64;
        let heads = (config.head_dim * (config.num_attention_heads + 2 * config.num_key_value_heads)) as u64;
        // Tensors of each width that autodiff keeps for one token of one block: norms and residuals, rotary halves
        // and attention's operands, the feed-forward layer's gate, up and product. The counts are those of a
        // measurement (docs/log.md, 2026-11-23).
        let block = 8 * hidden + 4 * heads + 3 * config.intermediate_size as u64;
        let blocks = layers.div_ceil(segments as u64);
        let chunk = tokens.min(head::chunk_rows(config.vocab_size) as u64) * config.vocab_size as u64;
        Self {
            weights: F32 * parameters,
            gradients: F32 * parameters,
            optimizer: 2 * F32 * parameters,
            activations: F32 * tokens * (segments as u64 * hidden + blocks * block),
            head: 4 * F32 * chunk,
        }
    }

    /// Expected peak: everything at once.
    pub fn peak(&self) -> u64 {
        self.weights + self.gradients + self.optimizer + self.activations + self.head
    }

    /// The fewest segments that fit into `budget`, all of them if none does.
    pub fn segments(config: &LlamaConfig, tokens: usize, budget: u64) -> usize {
        let layers = config.num_hidden_layers;
        (1..layers).find(|&segments| Self::new(config, tokens, segments).peak() <= budget).unwrap_or(layers)
    }
}

/// The budget in bytes; `None` where it is `auto` and the system does not tell what is free.
pub fn budget_bytes(budget: MemoryBudget) -> Option<u64> {
    match budget {
        MemoryBudget::Bytes(bytes) => Some(bytes),
        MemoryBudget::Auto => kilobytes("/proc/meminfo", "MemAvailable:").map(|free| free / 4 * 3),
    }
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
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn the_peak_rises_with_what_is_touched() {
        let before = peak_bytes().unwrap();
        let touched = vec![1u8; 64 << 20];
        assert!(touched.iter().map(|&byte| u64::from(byte)).sum::<u64>() == 64 << 20);
        assert!(peak_bytes().unwrap() >= before.max(64 << 20));
    }
}
