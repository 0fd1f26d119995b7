//! The paper's gradient field against what autodiff makes of Eq 15 and Eq 17 written as tensor operations.
#![cfg(feature = "flex")]

use asft_core::{Asft, Dpo, Objective};
use burn::{
    backend::{Autodiff, Flex},
    tensor::Tensor,
};

type Plane = Tensor<Autodiff<Flex>, 1>;

/// Points of the open square.
fn grid() -> Vec<[f64; 2]> {
    let axis = || (1..20).map(|i| f64::from(i) / 20.0);
    axis().flat_map(|x1| axis().map(move |x2| [x1, x2])).collect()
}

fn check(objective: &Objective, loss: impl Fn(Plane, Plane) -> Plane) {
    let points = grid();
    let column = |side: usize| {
        let values: Vec<f32> = points.iter().map(|x| x[side] as f32).collect();
        Plane::from_floats(values.as_slice(), &Default::default()).require_grad()
    };
    let (x1, x2) = (column(0), column(1));
    let losses = loss(x1.clone(), x2.clone());
    let gradients = losses.clone().sum().backward();
    let values = |tensor: Tensor<Flex, 1>| tensor.into_data().to_vec::<f32>().unwrap();
    let losses = values(losses.inner());
    let slopes = [x1, x2].map(|x| values(x.grad(&gradients).unwrap()));
    for (index, &x) in points.iter().enumerate() {
        let point = objective.at_likelihoods(x).unwrap();
        let close =
            |got: f64, want: f32| (got - f64::from(want)).abs() <= 2e-4 * f64::from(want.abs()).max(1e-2);
        assert!(close(point.loss, losses[index]), "{x:?}: {} {}", point.loss, losses[index]);
        for (descent, slopes) in point.descent.iter().zip(&slopes) {
            let (got, want) = (-descent, slopes[index]);
            assert!(close(got, want), "{x:?}: {got} {want}");
        }
    }
}

#[test]
fn bradley_terry() {
    for beta in [0.5, 1.0, 2.0] {
        check(&Objective::from(Dpo { beta, ..Dpo::default() }), |x1, x2| {
            let (x1, x2) = (x1.powf_scalar(beta), x2.powf_scalar(beta));
            -(x1.clone() / (x1 + x2)).log()
        });
    }
}

#[test]
fn asft() {
    check(&Objective::from(Asft::default()), |x1, x2| -x1.log() - (-x2 + 1.0).log());
}
