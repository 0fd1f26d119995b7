//! How fast a backend multiplies.

use std::time::{Duration, Instant};

use asft_model::LlamaBackend;
use burn::tensor::{DType, Distribution, Tensor, backend::Backend};

use crate::failure::Failure;

/// Most products that are timed, and how long.
const MOST: usize = 10;
const LONGEST: Duration = Duration::from_secs(5);

/// Median rate of up to ten products of matrices of `size` x `size`, in 10⁹ multiplications and additions a second.
pub fn matmul_gflops<B: LlamaBackend>(device: &B::Device, dtype: DType, size: usize) -> Result<f64, Failure> {
    let [a, b] = [(); 2].map(|()| random_matrix::<B>([size, size], dtype, device).into_primitive().tensor());
    product_gflops::<B, _>(device, [size; 3], || B::product(a.clone(), b.clone()))
}

/// Numbers from -1 to 1.
pub fn random_matrix<B: Backend>(shape: [usize; 2], dtype: DType, device: &B::Device) -> Tensor<B, 2> {
    Tensor::<B, 2>::random(shape, Distribution::Uniform(-1.0, 1.0), device).cast(dtype)
}

/// Median rate of up to ten calls of `product`, which multiplies `[m, k]` by `[k, n]`, in 10⁹ multiplications and additions a
/// second.
pub fn product_gflops<B: Backend, T>(
    device: &B::Device,
    shape: [usize; 3],
    product: impl Fn() -> T,
) -> Result<f64, Failure> {
    let flops = 2.0 * shape.into_iter().map(|size| size as f64).product::<f64>();
    let mut rates = vec![];
    let begun = Instant::now();
    // The first warms up.
    while rates.len() < 2 || (rates.len() <= MOST && begun.elapsed() < LONGEST) {
        let started = Instant::now();
        let product = product();
        B::sync(device).map_err(|error| Failure::Run(anyhow::anyhow!("{error:?}")))?;
        rates.push(flops / started.elapsed().as_secs_f64() / 1e9);
        drop(product);
    }
    let mut rates = rates.split_off(1);
    rates.sort_by(f64::total_cmp);
    let middle = rates.len() / 2;
    Ok(match rates.len() % 2 {
        0 => (rates[middle - 1] + rates[middle]) / 2.0,
        _ => rates[middle],
    })
}
