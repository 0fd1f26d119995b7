//! `asft bench matmul`.

use asft_model::{LlamaBackend, LlamaConfig, Projection, TrainBackend, WeightType};
use asft_train::{config::MemoryBudget, memory::budget_bytes, shape_of};
use burn::tensor::{DType, Tensor, TensorPrimitive};
use clap::Args;
use serde::Serialize;
use serde_json::json;

use crate::{
    backend::{self, Backend, Work, device, product_gflops, random_matrix},
    failure::Failure,
    output::{self, note},
    score::parse,
};

#[derive(Args)]
pub struct Arguments {
    /// The model whose products are timed: random:llama-3-8b, a Hugging Face directory or a GGUF file.
    #[arg(long, value_name = "M", default_value = "random:llama-3-8b")]
    model: String,
    /// Rows of the products: tokens of a micro-batch.
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..))]
    tokens: u32,
    /// Type of the numbers: f32 or bf16.
    #[arg(long, default_value = "bf16")]
    dtype: String,
    /// Where to compute.
    #[arg(long, value_enum, default_value = "auto")]
    backend: Backend,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let weight_type: WeightType = parse("--dtype", &arguments.dtype)?;
    let backend = arguments.backend.usable()?;
    let shapes = matrices(&shape_of(&arguments.model)?);
    let tokens = arguments.tokens as usize;
    let needed = shapes.iter().map(|(_, shape)| bytes(*shape, tokens, weight_type)).max().unwrap_or(0);
    if let Some(free) = budget_bytes(MemoryBudget::Auto).filter(|&free| needed > free) {
        return Err(Failure::input(format!(
            "--tokens {tokens}: the largest product takes {:.1} GB, more than three quarters of what is free ({:.1} GB)\nhint: give fewer tokens or a smaller model",
            needed as f64 / 1e9,
            free as f64 / 1e9
        )));
    }
    let products = backend::dispatch(backend, Products { weight_type, tokens, shapes })?;
    let name = device(backend).as_ref().map_or("", |device| device.name.as_str());
    let result = json!({
        "backend": backend.name(), "device": name, "dtype": weight_type.name(), "model": arguments.model,
        "tokens": tokens, "products": products,
    });
    output::print(&format!("{result:#}\n"))
}

/// Each size of matrix once, `[out, in]`, with the first name that has it. The head is cut to a chunk's width of rows
/// by training, not here: its columns are what makes it slow.
fn matrices(config: &LlamaConfig) -> Vec<(&'static str, [usize; 2])> {
    let mut found: Vec<(&str, [usize; 2])> = vec![];
    let projections = Projection::ALL.into_iter().map(|one| (one.name(), one.shape(config)));
    for (name, shape) in projections.chain([("lm_head", [config.vocab_size, config.hidden_size])]) {
        if !found.iter().any(|(_, known)| *known == shape) {
            found.push((name, shape));
        }
    }
    found
}

/// Bytes of the operands of a matrix's products and of the largest result.
fn bytes([out, r#in]: [usize; 2], tokens: usize, weight_type: WeightType) -> u64 {
    let operands = tokens * (out + r#in) + out * r#in;
    let result = (tokens * out.max(r#in)).max(out * r#in);
    (weight_type.bytes() * (operands + result)) as u64
}

/// The three products of a matrix in training, in 10⁹ multiplications and additions a second.
#[derive(Serialize)]
struct Rates {
    matrix: &'static str,
    out: usize,
    r#in: usize,
    /// `x Wᵀ`.
    forward: f64,
    /// `dy W`.
    input_gradient: f64,
    /// `dyᵀ x`.
    weight_gradient: f64,
}

struct Products {
    weight_type: WeightType,
    tokens: usize,
    shapes: Vec<(&'static str, [usize; 2])>,
}

impl Work for Products {
    type Output = Vec<Rates>;

    fn run<A: TrainBackend>(self, device: &A::Device) -> Result<Self::Output, Failure> {
        let Self { weight_type, tokens, shapes } = self;
        if !A::trains_in(weight_type, device) {
            return Err(Failure::input(format!(
                "--dtype: this backend does not compute in {}",
                weight_type.name()
            )));
        }
        shapes
            .into_iter()
            .map(|(name, shape)| {
                let rates = rates::<A::InnerBackend>(name, shape, tokens, weight_type, device)?;
                note!(
                    "{name:10} {shape:?}: {:.0} {:.0} {:.0} GFLOP/s",
                    rates.forward,
                    rates.input_gradient,
                    rates.weight_gradient
                );
                Ok(rates)
            })
            .collect()
    }
}

fn rates<B: LlamaBackend>(
    matrix: &'static str,
    [out, r#in]: [usize; 2],
    tokens: usize,
    weight_type: WeightType,
    device: &B::Device,
) -> Result<Rates, Failure> {
    let dtype = DType::from(weight_type.dtype());
    let random = |shape| random_matrix::<B>(shape, dtype, device);
    let (x, dy, weight) = (random([tokens, r#in]), random([tokens, out]), random([out, r#in]));
    let of = |tensor: &Tensor<B, 2>| match tensor.clone().into_primitive() {
        TensorPrimitive::Float(float) => float,
        TensorPrimitive::QFloat(_) => unreachable!("these are no codes"),
    };
    let shape = [tokens, out, r#in];
    Ok(Rates {
        matrix,
        out,
        r#in,
        forward: product_gflops::<B, _>(device, shape, || B::project(of(&x), of(&weight)))?,
        input_gradient: product_gflops::<B, _>(device, shape, || B::product(of(&dy), of(&weight)))?,
        weight_gradient: product_gflops::<B, _>(device, shape, || {
            B::product(of(&dy.clone().transpose()), of(&x))
        })?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_of_matrix_is_there_once() {
        let shapes = matrices(&shape_of("random:llama-3-8b").unwrap());
        let expected = [
            ("q_proj", [4096, 4096]),
            ("k_proj", [1024, 4096]),
            ("gate_proj", [14336, 4096]),
            ("down_proj", [4096, 14336]),
            ("lm_head", [128_256, 4096]),
        ];
        assert_eq!(shapes, expected);
    }
}
