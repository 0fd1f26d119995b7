//! `asft devices`.

use asft_model::{TrainBackend, WeightType};
use burn::tensor::DType;
use clap::Args;
use serde::Serialize;

use crate::{
    backend::{self, Backend, Device, Work, device, matmul_gflops},
    failure::Failure,
    output,
};

#[derive(Args)]
pub struct Arguments {
    /// One JSON array instead of a table.
    #[arg(long)]
    json: bool,
}

/// What is known of a backend.
#[derive(Serialize)]
struct Row {
    backend: &'static str,
    compiled_in: bool,
    /// Whether `--backend auto` takes it.
    auto: bool,
    device: Option<String>,
    memory_bytes: Option<u64>,
    /// Types of weights that it trains in, with the rate of a product of 2,048 x 2,048 matrices. Nothing for a GPU made in
    /// software, where trying out kernels takes minutes.
    matmul_gflops: Vec<(&'static str, f64)>,
    /// Why it cannot be used, or how to get it.
    problem: Option<String>,
}

pub fn run(Arguments { json }: Arguments) -> Result<(), Failure> {
    let best = Backend::best().ok();
    let rows: Vec<Row> =
        Backend::ALL.into_iter().map(|backend| look(backend, best)).collect::<Result<_, Failure>>()?;
    match json {
        true => output::print(&format!("{:#}\n", serde_json::json!(rows))),
        false => output::print(&table(&rows)),
    }
}

fn look(backend: Backend, best: Option<Backend>) -> Result<Row, Failure> {
    let mut row = Row {
        backend: backend.name(),
        compiled_in: backend.is_compiled_in(),
        auto: best == Some(backend),
        device: None,
        memory_bytes: None,
        matmul_gflops: vec![],
        problem: None,
    };
    match (row.compiled_in, row.compiled_in.then(|| device(backend))) {
        (true, Some(Ok(Device { name, memory, is_gpu }))) => {
            row.device = Some(name.clone());
            row.memory_bytes = *memory;
            if *is_gpu || backend != Backend::Wgpu {
                row.matmul_gflops = backend::dispatch(backend, Rates)?;
            }
        }
        (true, Some(Err(why))) => row.problem = Some(why.clone()),
        _ => row.problem = Some(format!("not compiled in: {}", backend.hint())),
    }
    Ok(row)
}

struct Rates;

impl Work for Rates {
    type Output = Vec<(&'static str, f64)>;

    fn run<A: TrainBackend>(self, device: &A::Device) -> Result<Self::Output, Failure> {
        let types = [WeightType::F32, WeightType::Bf16].into_iter();
        let rate = |weight_type: WeightType| {
            let dtype = DType::from(weight_type.dtype());
            Ok((weight_type.name(), matmul_gflops::<A::InnerBackend>(device, dtype, 2048)?))
        };
        types.filter(|weight_type| A::trains_in(*weight_type, device)).map(rate).collect()
    }
}

fn table(rows: &[Row]) -> String {
    let mut text = String::new();
    for row in rows {
        let mark = if row.auto { "*" } else { " " };
        let what = match (&row.device, &row.problem) {
            (Some(device), _) => {
                let memory =
                    row.memory_bytes.map_or(String::new(), |bytes| format!(", {:.1} GB", bytes as f64 / 1e9));
                let rates: Vec<String> = row
                    .matmul_gflops
                    .iter()
                    .map(|(name, rate)| format!("{name} {rate:.0} GFLOP/s"))
                    .collect();
                match rates.is_empty() {
                    true => format!("{device}{memory}; in software, not measured"),
                    false => format!("{device}{memory}; {}", rates.join(", ")),
                }
            }
            (None, problem) => problem.clone().unwrap_or_default(),
        };
        text += &format!("{mark} {:8} {what}\n", row.backend);
    }
    text + "\n* taken by --backend auto. Rates are of products of 2,048 x 2,048 matrices in each type that training can use.\n"
}
