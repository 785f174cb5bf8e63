//! Tensors beside plain arrays: samples, elementwise comparison, and what an error must say.

use wgrad::prelude::*;

pub const SHAPES: [&[usize]; 8] = [&[], &[1], &[0], &[5], &[2, 3], &[3, 1, 2], &[2, 0, 3], &[1, 4, 2, 3]];

pub fn cpu() -> Device {
    Device::cpu()
}

/// A tensor of `dims` and its elements, none like another, in no order.
pub fn sample(dims: &[usize]) -> (Tensor, Array) {
    let n: usize = dims.iter().product();
    let data: Vec<f32> = (0..n).map(|k| ((k * 37 + 11) % 101) as f32 * 0.5 - 20.0).collect();
    let wide = data.iter().map(|&x| f64::from(x)).collect();
    (Tensor::from_vec(data, dims, &cpu()), Array { dims: dims.to_vec(), data: wide })
}

pub fn ints(data: &[i32], dims: &[usize]) -> Tensor {
    Tensor::from_slice(data, dims, &cpu())
}

/// Elements in row-major order, for closures to index.
pub struct Array {
    pub dims: Vec<usize>,
    pub data: Vec<f64>,
}

impl Array {
    #[track_caller]
    pub fn of(x: &Tensor) -> Array {
        let data = match x.dtype() {
            DType::Bool => widened(x, |x: bool| f64::from(u8::from(x))),
            DType::U8 => widened(x, |x: u8| f64::from(x)),
            DType::U32 => widened(x, |x: u32| f64::from(x)),
            DType::I32 => widened(x, |x: i32| f64::from(x)),
            DType::F32 => widened(x, |x: f32| f64::from(x)),
            _ => widened(&x.cast(DType::F32), |x: f32| f64::from(x)),
        };
        Array { dims: x.dims().to_vec(), data }
    }

    pub fn at(&self, index: &[usize]) -> f64 {
        assert_eq!(index.len(), self.dims.len());
        self.data[index.iter().zip(&self.dims).fold(0, |at, (i, n)| at * n + i)]
    }

    /// The elements whose index away from `axes` is `index`, in row-major order.
    pub fn over(&self, axes: &[usize], index: &[usize]) -> Vec<f64> {
        let fits = |at: &Vec<usize>| {
            let rest = (0..at.len()).filter(|k| !axes.contains(k)).map(|k| at[k]);
            rest.eq(index.iter().copied())
        };
        indices(&self.dims).into_iter().filter(fits).map(|at| self.at(&at)).collect()
    }
}

#[track_caller]
fn widened<T: wgrad::Element>(x: &Tensor, f: impl Fn(T) -> f64) -> Vec<f64> {
    match x.to_vec::<T>() {
        Ok(elements) => elements.into_iter().map(f).collect(),
        Err(error) => panic!("{error}"),
    }
}

/// Every index of a tensor of `dims`, in row-major order.
pub fn indices(dims: &[usize]) -> Vec<Vec<usize>> {
    dims.iter().fold(vec![Vec::new()], |all, &n| {
        all.iter().flat_map(|at| (0..n).map(move |i| [&at[..], &[i]].concat())).collect()
    })
}

/// Checks shape and every element of `y`.
#[track_caller]
pub fn check(y: &Tensor, dims: &[usize], f: impl Fn(&[usize]) -> f64) {
    let got = Array::of(y);
    assert_eq!(got.dims, dims);
    assert_eq!(got.data.len(), dims.iter().product::<usize>());
    for index in indices(dims) {
        let (got, want) = (got.at(&index), f(&index));
        let near = got == want || (got.is_nan() && want.is_nan()) || (got - want).abs() <= 1e-5 * want.abs().max(1.0);
        assert!(near, "at {index:?} of {dims:?}: {got}, not {want}");
    }
}

/// Checks that `y` is the error `word: fact` at a line of the tests.
#[track_caller]
pub fn refused(y: &Tensor, word: &str, fact: &str) {
    let Some(error) = y.error() else { panic!("{word} took what it should not, and gave {y:?}") };
    let text = error.to_string();
    assert!(text.starts_with(&format!("{word}: ")) && text.contains(fact), "{text}");
    let file = error.location().map_or("nowhere", |at| at.file());
    assert!(file.contains("tests/it/"), "{text}");
}

/// A tensor that stands for an error, which every word must pass on.
pub fn invalid() -> Tensor {
    ints(&[1], &[2])
}

/// Checks that `y` is the error of [`invalid`].
#[track_caller]
pub fn passes_on(y: &Tensor) {
    refused(y, "from_slice", "1 elements for the shape [2]");
}
