//! Creation: tensors from the host's numbers, and constant and counted ones.
//!
//! Knows no device: elements stay with the host until a device first needs them.

use half::{bf16, f16};

use crate::dtype::{DType, Element, Number};
use crate::graph::device::Device;
use crate::graph::op::Op;
use crate::graph::tensor::{Operands, Tensor};
use crate::shape::{Dims, RANK_MAX, Shape, shape_of};

/// What [`Tensor::new`] takes: a number, or arrays, slices and vectors of what it takes.
///
/// `f64` becomes `f32` and `i64` becomes `i32`; an `i64` beyond `i32` makes the tensor invalid.
pub trait IntoData {
    /// The dtype of the elements.
    const DTYPE: DType;
    /// Appends the dimensions of `sample`; of an empty array where there is none.
    fn dims(sample: Option<&Self>, dims: &mut Vec<usize>);
    /// Appends the bytes of `items`, each of which must have the dimensions `dims`.
    fn write(items: &[Self], dims: &[usize], out: &mut Vec<u8>) -> Result<(), String>
    where
        Self: Sized;
}

macro_rules! number_data {
    ($($t:ty => $as:ty, $convert:expr);* $(;)?) => {$(
        impl IntoData for $t {
            const DTYPE: DType = <$as as Element>::DTYPE;
            fn dims(_: Option<&Self>, _: &mut Vec<usize>) {}
            fn write(items: &[Self], dims: &[usize], out: &mut Vec<u8>) -> Result<(), String> {
                if !dims.is_empty() {
                    return Err(RAGGED.into());
                }
                let convert: fn($t) -> Result<$as, String> = $convert;
                let items = items.iter().map(|&x| convert(x)).collect::<Result<Vec<$as>, String>>()?;
                out.extend(<$as as Element>::to_bytes(&items));
                Ok(())
            }
        }
    )*};
}
number_data!(
    f32 => f32, Ok;
    f64 => f32, |x| Ok(x as f32);
    f16 => f16, Ok;
    bf16 => bf16, Ok;
    i32 => i32, Ok;
    i64 => i32, |x| i32::try_from(x).map_err(|_| format!("{x} does not fit i32"));
    u32 => u32, Ok;
    u8 => u8, Ok;
    bool => bool, Ok;
);

const RAGGED: &str = "rows of different lengths";

macro_rules! array_data {
    ($([$($generic:tt)*] $t:ty, $len:expr);* $(;)?) => {$(
        impl<$($generic)*> IntoData for $t {
            const DTYPE: DType = T::DTYPE;
            fn dims(sample: Option<&Self>, dims: &mut Vec<usize>) {
                let len: fn(Option<&Self>) -> usize = $len;
                dims.push(len(sample));
                T::dims(sample.and_then(|x| x.first()), dims);
            }
            fn write(items: &[Self], dims: &[usize], out: &mut Vec<u8>) -> Result<(), String> {
                let (&n, inner) = dims.split_first().ok_or(RAGGED)?;
                items.iter().try_for_each(|item| match item.len() == n {
                    true => T::write(&item[..], inner, out),
                    false => Err(RAGGED.into()),
                })
            }
        }
    )*};
}
array_data!(
    [T: IntoData, const N: usize] [T; N], |_| N;
    [T: IntoData, const N: usize] &[T; N], |_| N;
    [T: IntoData] &[T], |x| x.map_or(0, |x| x.len());
    [T: IntoData] Vec<T>, |x| x.map_or(0, |x| x.len());
    [T: IntoData] &Vec<T>, |x| x.map_or(0, |x| x.len());
);

impl Tensor {
    /// A tensor of what is written: a number, or nested arrays, slices or vectors of numbers.
    ///
    /// `[[a, b], [c, d]] -> [2, 2]`; `f64` becomes `f32`, `i64` becomes `i32`.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], &Device::cpu());
    /// assert_eq!((x.dims(), x.dtype()), (&[2, 3][..], DType::F32));
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn new<T: IntoData>(data: T, device: &Device) -> Tensor {
        let (mut dims, mut bytes) = (Vec::new(), Vec::new());
        T::dims(Some(&data), &mut dims);
        let written = T::write(std::slice::from_ref(&data), &dims, &mut bytes);
        match written.and_then(|()| Shape::new(&dims)) {
            Ok(shape) => Tensor::host(bytes, shape, T::DTYPE, device),
            Err(fact) => Tensor::invalid("new", fact, device),
        }
    }

    /// A tensor of `dims` whose elements are `data` in row-major order.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::from_slice(&[1u8, 2, 3, 4, 5, 6], [2, 3], &Device::cpu());
    /// assert_eq!(x.to_vec::<u8>()?, [1, 2, 3, 4, 5, 6]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn from_slice<T: Element>(data: &[T], dims: impl Dims, device: &Device) -> Tensor {
        Tensor::from_elements("from_slice", data, &dims, device)
    }

    /// A tensor of `dims` whose elements are `data` in row-major order.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::from_vec(vec![1.0f32, 2.0, 3.0], [3, 1], &Device::cpu());
    /// assert_eq!(x.dims(), [3, 1]);
    /// ```
    #[track_caller]
    pub fn from_vec<T: Element>(data: Vec<T>, dims: impl Dims, device: &Device) -> Tensor {
        Tensor::from_elements("from_vec", &data, &dims, device)
    }

    #[track_caller]
    fn from_elements<T: Element>(word: &str, data: &[T], dims: &dyn Dims, device: &Device) -> Tensor {
        match shape_of(dims) {
            Ok(shape) if shape.numel() == data.len() => Tensor::host(T::to_bytes(data), shape, T::DTYPE, device),
            Ok(shape) => Tensor::invalid(word, format!("{} elements for the shape {shape}", data.len()), device),
            Err(fact) => Tensor::invalid(word, fact, device),
        }
    }

    /// `dims` zeros in `f32`.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// assert_eq!(Tensor::zeros([2], &Device::cpu()).to_vec::<f32>()?, [0.0, 0.0]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn zeros(dims: impl Dims, device: &Device) -> Tensor {
        Tensor::filled("zeros", &dims, Number::Float(0.0), device)
    }

    /// `dims` ones in `f32`.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// assert_eq!(Tensor::ones([2], &Device::cpu()).to_vec::<f32>()?, [1.0, 1.0]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn ones(dims: impl Dims, device: &Device) -> Tensor {
        Tensor::filled("ones", &dims, Number::Float(1.0), device)
    }

    /// `dims` times `value`: `f32` for a float, `i32` for an integer, `bool` for a bool.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// assert_eq!(Tensor::full([2], 7, &Device::cpu()).to_vec::<i32>()?, [7, 7]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn full(dims: impl Dims, value: impl Into<Number>, device: &Device) -> Tensor {
        Tensor::filled("full", &dims, value.into(), device)
    }

    #[track_caller]
    fn filled(word: &str, dims: &dyn Dims, value: Number, device: &Device) -> Tensor {
        match shape_of(dims).and_then(|shape| value.fits(value.dtype()).map(|()| shape)) {
            Ok(shape) => Tensor::constant(value, shape, value.dtype(), device),
            Err(fact) => Tensor::invalid(word, fact, device),
        }
    }

    /// Zeros of this tensor's shape, dtype and device.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([3, 4], &Device::cpu());
    /// assert_eq!(x.zeros_like().to_vec::<i32>()?, [0, 0]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn zeros_like(&self) -> Tensor {
        self.full_like(0)
    }

    /// Ones of this tensor's shape, dtype and device.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([3.0, 4.0], &Device::cpu());
    /// assert_eq!(x.ones_like().to_vec::<f32>()?, [1.0, 1.0]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn ones_like(&self) -> Tensor {
        self.full_like(1)
    }

    /// `value` in this tensor's shape, dtype and device.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([3.0, 4.0], &Device::cpu());
    /// assert_eq!(x.full_like(7).to_vec::<f32>()?, [7.0, 7.0]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn full_like(&self, value: impl Into<Number>) -> Tensor {
        let value = value.into();
        given!("full_like", &[self], value.fits(self.dtype()));
        Tensor::constant(value, *self.shape(), self.dtype(), self.device())
    }

    /// `start, start + step, …`, all before `end`; empty when `end` lies on the other side.
    ///
    /// `i32` when every argument is an integer, otherwise `f32`.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// assert_eq!(Tensor::arange(1, 8, 3, &Device::cpu()).to_vec::<i32>()?, [1, 4, 7]);
    /// assert_eq!(Tensor::arange(1.0, 0.0, -0.5, &Device::cpu()).to_vec::<f32>()?, [1.0, 0.5]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn arange(
        start: impl Into<Number>,
        end: impl Into<Number>,
        step: impl Into<Number>,
        device: &Device,
    ) -> Tensor {
        let (start, end, step) = (start.into(), end.into(), step.into());
        let float = [start, end, step].iter().any(|x| matches!(x, Number::Float(_)));
        let dtype = if float { DType::F32 } else { DType::I32 };
        match count(start, end, step, float) {
            Ok(shape) => {
                let index = Tensor::iota(0, shape, device).cast(dtype);
                // A step that wraps is made once at most, and wraps back.
                let step = if float { step } else { Number::Int(i64::from(step.as_i64() as i32)) };
                let (start, step) = (Tensor::scalar(start, dtype, device), Tensor::scalar(step, dtype, device));
                index * step + start
            }
            Err(fact) => Tensor::invalid("arange", fact, device),
        }
    }

    /// `n` evenly spaced `f32` from `start` to `end`, both included.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// assert_eq!(Tensor::linspace(0.0, 1.0, 5, &Device::cpu()).to_vec::<f32>()?, [0.0, 0.25, 0.5, 0.75, 1.0]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn linspace(start: f64, end: f64, n: usize, device: &Device) -> Tensor {
        let shape = match Shape::new(&[n]).and_then(countable) {
            Ok(shape) => shape,
            Err(fact) => return Tensor::invalid("linspace", fact, device),
        };
        let index = Tensor::iota(0, shape, device);
        let step = if n > 1 { (end - start) / (n - 1) as f64 } else { 0.0 };
        // Counted from the nearer end, so that both ends are exact.
        let rest = index.neg() + (n as i64 - 1);
        let (low, high) = (index.cast(DType::F32) * step + start, end - rest.cast(DType::F32) * step);
        index.lt(n.div_ceil(2) as i64).where_(low, high)
    }

    /// The identity matrix `[n, n]` in `f32`.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// assert_eq!(Tensor::eye(2, &Device::cpu()).to_vec::<f32>()?, [1.0, 0.0, 0.0, 1.0]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn eye(n: usize, device: &Device) -> Tensor {
        match Shape::new(&[n, n]) {
            Ok(shape) => Tensor::iota(0, shape, device).eq(Tensor::iota(1, shape, device)).cast(DType::F32),
            Err(fact) => Tensor::invalid("eye", fact, device),
        }
    }

    /// `[..] -> [.., classes]` in `f32`: 1 at each integer's place, 0 elsewhere; a number that is
    /// no class gives a row of zeros.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let labels = Tensor::new([2, 0], &Device::cpu());
    /// assert_eq!(labels.one_hot(3).to_vec::<f32>()?, [0.0, 0.0, 1.0, 1.0, 0.0, 0.0]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn one_hot(&self, classes: usize) -> Tensor {
        if !self.dtype().is_int() {
            return self.refuse("one_hot", format!("classes are integers, got {}", self.dtype()));
        }
        if self.rank() == RANK_MAX {
            return self.refuse("one_hot", format!("{} has {RANK_MAX} dimensions already", self.shape()));
        }
        let shape = checked!(self, "one_hot", Shape::new(&[classes]).and_then(countable));
        let mut dims = self.dims().to_vec();
        dims.push(classes);
        checked!(self, "one_hot", Shape::new(&dims));
        let class = Tensor::iota(0, shape, self.device());
        // A u32 beyond i32 becomes negative, which is no class either.
        self.cast(DType::I32).unsqueeze(-1).eq(class).cast(DType::F32)
    }

    /// A scalar that may be another number in the next step without a new plan: a learning rate,
    /// a step number.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let rate = Tensor::input(0.5, &Device::cpu());
    /// assert_eq!((rate * 4.0).item::<f32>()?, 2.0);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn input(value: impl Into<Number>, device: &Device) -> Tensor {
        let value = value.into();
        match value.fits(value.dtype()) {
            Ok(()) => Tensor::node(Op::Input(value), Operands::new(), Shape::SCALAR, value.dtype(), device),
            Err(fact) => Tensor::invalid("input", fact, device),
        }
    }

    /// A scalar constant of `dtype`.
    #[track_caller]
    pub(crate) fn scalar(value: Number, dtype: DType, device: &Device) -> Tensor {
        Tensor::constant(value, Shape::SCALAR, dtype, device)
    }
}

/// Whether `i32` indices count the elements of `shape`.
fn countable(shape: Shape) -> Result<Shape, String> {
    match i32::try_from(shape.numel()) {
        Ok(_) => Ok(shape),
        Err(_) => Err(format!("{shape} has more than 2^31 - 1 elements")),
    }
}

/// The shape of `arange`.
fn count(start: Number, end: Number, step: Number, float: bool) -> Result<Shape, String> {
    let n = if float {
        let n = ((end.as_f64() - start.as_f64()) / step.as_f64()).ceil();
        if n.is_nan() || n > 4e9 {
            return Err(format!("no count of elements from {start} to {end} in steps of {step}"));
        }
        n.max(0.0) as u64
    } else {
        let (start, end, step) = (start.as_i64(), end.as_i64(), step.as_i64());
        if step == 0 {
            return Err("a step of 0".into());
        }
        let ahead = start != end && (start < end) == (step > 0);
        let n = if ahead { start.abs_diff(end).div_ceil(step.unsigned_abs()) } else { 0 };
        // Between start and end, so what wraps on the way comes back.
        let last = start.wrapping_add((n.saturating_sub(1) as i64).wrapping_mul(step));
        if [start, last].iter().any(|&x| i32::try_from(x).is_err()) {
            return Err(format!("{start} to {last} does not fit i32"));
        }
        n
    };
    countable(Shape::new(&[usize::try_from(n).unwrap_or(usize::MAX)])?)
}
