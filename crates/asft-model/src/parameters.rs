//! A module's parameters by their path, whatever their rank.
//!
//! The path of a parameter of [`crate::Llama`] is its tensor's Hugging Face name. Values go in and out
//! flat, so that what handles them (accumulation, clipping, optimizers) needs no rank.

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    tensor::{
        Tensor,
        backend::{AutodiffBackend, Backend},
    },
};

/// Calls `visit(path, flat values, shape)` for each parameter, in the order of the fields.
pub fn for_each<B: Backend, M: Module<B>>(module: &M, visit: impl FnMut(&str, Tensor<B, 1>, &[usize])) {
    module.visit(&mut ForEach { path: vec![], visit });
}

/// Takes the gradients of a module's parameters out of `gradients`, as `sink(prefix.path, flat gradient)`;
/// parameters that had no part in the graph are passed over.
pub fn take_gradients<A: AutodiffBackend, M: Module<A>>(
    module: &M,
    prefix: &str,
    gradients: &mut A::Gradients,
    sink: impl FnMut(&str, Tensor<A::InnerBackend, 1>),
) {
    module.visit(&mut TakeGradients::<A, _> { path: vec![prefix.to_owned()], gradients, sink });
}

/// Replaces each parameter by what `update(path, flat values)` gives; shapes and gradient tracking stay.
pub fn update<A: AutodiffBackend, M: Module<A>>(
    module: M,
    update: impl FnMut(&str, Tensor<A::InnerBackend, 1>) -> Tensor<A::InnerBackend, 1>,
) -> M {
    module.map(&mut Update { path: vec![], update })
}

fn flat<B: Backend, const D: usize>(value: Tensor<B, D>) -> Tensor<B, 1> {
    let length = value.shape().num_elements();
    value.reshape([length])
}

struct ForEach<F> {
    path: Vec<String>,
    visit: F,
}

struct TakeGradients<'a, A: AutodiffBackend, F> {
    path: Vec<String>,
    gradients: &'a mut A::Gradients,
    sink: F,
}

struct Update<F> {
    path: Vec<String>,
    update: F,
}

macro_rules! follow_path {
    () => {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.to_owned());
        }

        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }
    };
}

impl<B: Backend, F: FnMut(&str, Tensor<B, 1>, &[usize])> ModuleVisitor<B> for ForEach<F> {
    follow_path!();

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let value = param.val();
        let shape = value.dims();
        (self.visit)(&self.path.join("."), flat(value), &shape);
    }
}

impl<A, F> ModuleVisitor<A> for TakeGradients<'_, A, F>
where
    A: AutodiffBackend,
    F: FnMut(&str, Tensor<A::InnerBackend, 1>),
{
    follow_path!();

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<A, D>>) {
        if let Some(gradient) = param.val().grad_remove(self.gradients) {
            (self.sink)(&self.path.join("."), flat(gradient));
        }
    }
}

impl<A, F> ModuleMapper<A> for Update<F>
where
    A: AutodiffBackend,
    F: FnMut(&str, Tensor<A::InnerBackend, 1>) -> Tensor<A::InnerBackend, 1>,
{
    follow_path!();

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<A, D>>) -> Param<Tensor<A, D>> {
        let (id, value, mapper) = param.consume();
        let (shape, tracked) = (value.dims(), value.is_require_grad());
        let updated = (self.update)(&self.path.join("."), flat(value.inner())).reshape(shape);
        Param::from_mapped_value(id, Tensor::from_inner(updated).set_require_grad(tracked), mapper)
    }
}
