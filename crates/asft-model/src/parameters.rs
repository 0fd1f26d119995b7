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

#[cfg(all(test, feature = "flex"))]
mod tests {
    use std::{collections::BTreeMap, path::Path};

    use burn::backend::{Autodiff, Flex};

    use super::*;
    use crate::{
        Llama,
        checkpoint::{Checkpoint, SafetensorsFile},
    };

    type A = Autodiff<Flex>;

    /// A model of `tests/goldens` and the shapes of its file, which transformers wrote.
    fn golden<B: crate::LlamaBackend>(name: &str) -> (Llama<B>, BTreeMap<String, Vec<usize>>) {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(name);
        let mut checkpoint = Checkpoint::open(&directory).unwrap();
        let config = checkpoint.config().clone();
        let model = Llama::load(&config, checkpoint.weights(), &Default::default()).unwrap();
        let file = SafetensorsFile::open(&directory.join("model.safetensors")).unwrap();
        let shape = |name: String| (name.clone(), file.shape(&name).unwrap());
        (model, file.names().unwrap().into_iter().map(shape).collect())
    }

    #[test]
    fn paths_are_the_names_in_a_checkpoint() {
        for name in ["llama3", "llama31_tied", "head_dim"] {
            let (model, expected) = golden::<Flex>(name);
            let mut found = BTreeMap::new();
            for_each(&model, |path, values, shape| {
                assert_eq!(values.dims(), [shape.iter().product::<usize>()], "{path}");
                assert_eq!(found.insert(path.to_owned(), shape.to_vec()), None, "{path} occurs twice");
            });
            assert_eq!(found, expected, "{name}");
            assert!(expected.contains_key(model.head_weight_path()), "{name}");
        }
    }

    #[test]
    fn updates_change_what_they_name_and_keep_shapes() {
        let (model, shapes) = golden::<A>("llama3");
        let chosen = "model.layers.1.self_attn.k_proj.weight";
        let model = update(model, |path, values| if path == chosen { values.zeros_like() } else { values });
        let (before, _) = golden::<A>("llama3");
        let mut old = BTreeMap::new();
        for_each(&before, |path, values, _| _ = old.insert(path.to_owned(), values.into_data()));
        for_each(&model, |path, values, shape| {
            assert_eq!(shape, shapes[path], "{path}");
            match path == chosen {
                true => assert_eq!(values.abs().max().into_scalar(), 0.0),
                false => assert_eq!(values.into_data(), old[path], "{path}"),
            }
        });
    }

    #[test]
    fn gradients_come_once_under_their_prefix() {
        let (model, shapes) = golden::<A>("llama3");
        let mlp = &model.model.layers[0].mlp;
        let x = Tensor::<A, 2>::ones([3, 32], &Default::default());
        let mut gradients = (mlp.forward(x, None) * 2.0).sum().backward();
        let mut taken = BTreeMap::new();
        let prefix = "model.layers.0";
        take_gradients(&model.model.layers[0], prefix, &mut gradients, |path, gradient| {
            taken.insert(path.to_owned(), gradient.dims()[0]);
        });
        // Attention and norms had no part in this graph.
        let expected = ["down_proj", "gate_proj", "up_proj"].map(|part| {
            let path = format!("{prefix}.mlp.{part}.weight");
            let length = shapes[&path].iter().product::<usize>();
            (path, length)
        });
        assert_eq!(taken, expected.into());
        take_gradients(&model.model.layers[0], prefix, &mut gradients, |path, _| panic!("{path} came twice"));
    }
}
