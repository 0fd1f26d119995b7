//! How fast a backend multiplies.

use std::time::{Duration, Instant};

use burn::tensor::{DType, Distribution, Tensor, backend::Backend};

use crate::failure::Failure;

/// Most products that are timed, and how long.
const MOST: usize = 10;
const LONGEST: Duration = Duration::from_secs(5);

/// Median rate of up to ten products of matrices of `size` x `size`, in 10⁹ multiplications and additions a second.
pub fn matmul_gflops<B: Backend>(device: &B::Device, dtype: DType, size: usize) -> Result<f64, Failure> {
    let matrix = || {
        let values = Tensor::<B, 2>::random([size, size], Distribution::Uniform(-1.0, 1.0), device);
        values.cast(dtype)
    };
    let (a, b) = (matrix(), matrix());
    let mut rates = vec![];
    let begun = Instant::now();
    // The first warms up.
    while rates.len() < 2 || (rates.len() <= MOST && begun.elapsed() < LONGEST) {
        let started = Instant::now();
        let product = a.clone().matmul(b.clone());
        B::sync(device).map_err(|error| Failure::Run(anyhow::anyhow!("{error:?}")))?;
        rates.push(2.0 * (size * size * size) as f64 / started.elapsed().as_secs_f64() / 1e9);
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
