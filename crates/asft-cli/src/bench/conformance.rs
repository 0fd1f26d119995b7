//! `asft bench conformance`.

use asft_model::{TrainBackend, WeightType};
use asft_train::conformance::{Allowed, Check, compare};
use clap::Args;
use serde_json::json;

use crate::{
    backend::{self, Backend, Work, device},
    failure::Failure,
    output::{self, note},
    score::parse,
};

#[derive(Args)]
pub struct Arguments {
    /// Where to compute what is held against flex.
    #[arg(long, value_enum, default_value = "auto")]
    backend: Backend,
    /// Type of the weights: f32 or bf16.
    #[arg(long, default_value = "f32")]
    dtype: String,
}

pub fn run(Arguments { backend, dtype }: &Arguments) -> Result<(), Failure> {
    let weight_type: WeightType = parse("--dtype", dtype)?;
    let backend = backend.usable()?;
    let allowed = match (weight_type, backend) {
        (WeightType::Bf16, _) => Allowed::BF16,
        (WeightType::F32, Backend::Cuda) => Allowed::TF32,
        (WeightType::F32, _) => Allowed::F32,
    };
    let checks = backend::dispatch(backend, Comparison { weight_type, allowed })?;
    for Check { name, of, difference, allowed } in &checks {
        let of = of.as_ref().map_or(String::new(), |of| format!(" of {of}"));
        note!("{name:26} {difference:.1e} (at most {allowed:.0e}){of}");
    }
    let name = device(backend).as_ref().map_or("", |device| device.name.as_str());
    let result = json!({
        "backend": backend.name(), "device": name, "dtype": weight_type.name(), "checks": checks,
    });
    output::print(&format!("{result:#}\n"))?;
    match checks.iter().filter(|check| !check.passed()).count() {
        0 => Ok(()),
        count => Err(Failure::Run(anyhow::anyhow!("{count} of {} checks failed", checks.len()))),
    }
}

struct Comparison {
    weight_type: WeightType,
    allowed: Allowed,
}

impl Work for Comparison {
    type Output = Vec<Check>;

    #[cfg(feature = "flex")]
    fn run<A: TrainBackend>(self, device: &A::Device) -> Result<Self::Output, Failure> {
        use burn::backend::{Autodiff, Flex};

        let Self { weight_type, allowed } = self;
        compare::<Autodiff<Flex>, A>(&Default::default(), device, weight_type, allowed).map_err(|error| {
            match error {
                asft_train::conformance::ConformanceError::Train(error) => (*error).into(),
                error => Failure::Run(error.into()),
            }
        })
    }

    #[cfg(not(feature = "flex"))]
    fn run<A: TrainBackend>(self, _: &A::Device) -> Result<Self::Output, Failure> {
        Err(Failure::input(format!(
            "the numbers to hold it against are those of backend flex, which is not compiled in\nhint: {}",
            Backend::Flex.hint()
        )))
    }
}
