//! Sums of gradients: by token of the embedding, and of squares over all parameters.

use burn::tensor::{IndexingUpdateOp, Int, Tensor, backend::Backend, s};

/// `sum` with each of `rows` added to the row that its index names, in order.
pub fn add_rows<B: Backend>(
    sum: Tensor<B, 2>,
    indices: Tensor<B, 1, Int>,
    rows: Tensor<B, 2>,
) -> Tensor<B, 2> {
    let rows = rows.cast(sum.dtype());
    sum.select_assign(0, indices, rows, IndexingUpdateOp::Add)
}

/// Elements of a row in [`sum_of_squares`].
const ROW: usize = 512;

/// Squares are summed in f32 over short rows, whose order of summation no backend changes from run to run, and
/// the rows' sums in f64.
pub fn sum_of_squares<B: Backend>(values: Tensor<B, 1>) -> f64 {
    let length = values.dims()[0];
    let rows = length / ROW;
    let whole = values.clone().slice(s![..rows * ROW]).reshape([rows, ROW]);
    let rest = values.slice(s![rows * ROW..]);
    let rest: f64 = host(rest).map(|value| value * value).sum();
    match rows {
        0 => rest,
        _ => host((whole.clone() * whole).sum_dim(1)).sum::<f64>() + rest,
    }
}

fn host<B: Backend, const D: usize>(values: Tensor<B, D>) -> impl Iterator<Item = f64> {
    values
        .into_data()
        .convert::<f32>()
        .into_vec::<f32>()
        .expect("converted to f32")
        .into_iter()
        .map(f64::from)
}
