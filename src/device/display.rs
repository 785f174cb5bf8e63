//! How tensors print: `Display` as NumPy prints arrays, `Debug` as one line that computes nothing.
//!
//! Neither ever fails: what cannot be read prints its error.

use std::fmt;

use half::{bf16, f16};

use crate::dtype::{DType, Element};
use crate::graph::tensor::Tensor;

/// Tensors of more elements show only the edges of their long axes.
const SHOWN_MAX: usize = 1000;
/// How many elements an edge shows.
const EDGE: usize = 3;
/// Where a row goes on in the next line.
const LINE_MAX: usize = 75;

/// `Tensor([2, 3] f32 on cpu)`; computes nothing.
impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.error() {
            Some(error) => write!(f, "Tensor(invalid: {error})"),
            None => write!(f, "Tensor({} {} on {})", self.shape(), self.dtype(), self.device()),
        }
    }
}

/// Nested brackets and aligned columns, as NumPy; computes the elements. Floats show up to four
/// decimals, or as many as the format asks for; a long tensor shows its edges.
///
/// ```
/// # use wgrad::prelude::*;
/// let x = Tensor::new([[1.0, -0.5], [100.0, 2.25]], &Device::cpu());
/// assert_eq!(x.to_string(), "[[  1.    -0.5 ]\n [100.     2.25]]");
/// ```
impl fmt::Display for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fetch_now("display", self.dtype()) {
            Ok(bytes) => {
                let printer = Printer::new(self, &bytes, f.precision().unwrap_or(4).min(16));
                let mut text = String::new();
                printer.write(&mut text, 0, 0);
                write!(f, "{text}")
            }
            Err(error) => write!(f, "{error}"),
        }
    }
}

/// The shown elements of one tensor as text of one width.
struct Printer {
    dims: Vec<usize>,
    /// Along each axis the shown indices; `None` stands for those left out.
    shown: Vec<Vec<Option<usize>>>,
    /// The shown elements in row-major order, without those left out.
    texts: Vec<String>,
    width: usize,
}

impl Printer {
    fn new(x: &Tensor, bytes: &[u8], precision: usize) -> Printer {
        let long = x.numel() > SHOWN_MAX;
        let axis = |&n: &usize| match n {
            // Beside an axis of 0, others may be as long as they like.
            _ if x.numel() == 0 => Vec::new(),
            _ if long && n > 2 * EDGE => (0..EDGE).map(Some).chain([None]).chain((n - EDGE..n).map(Some)).collect(),
            _ => (0..n).map(Some).collect(),
        };
        let shown: Vec<Vec<Option<usize>>> = x.dims().iter().map(axis).collect();
        let mut places = vec![0];
        for (axis, stride) in shown.iter().zip(x.shape().strides()) {
            places = places.iter().flat_map(|at| axis.iter().flatten().map(move |i| at + i * stride)).collect();
        }
        let texts = texts(bytes, x.dtype(), &places, precision);
        let width = texts.iter().map(String::len).max().unwrap_or(0);
        Printer { dims: x.dims().to_vec(), shown, texts, width }
    }

    /// The part under one index of each axis before `axis`; `first` is its first shown element.
    fn write(&self, out: &mut String, axis: usize, first: usize) {
        let Some(shown) = self.shown.get(axis) else {
            out.push_str(self.texts.get(first).map_or("", |text| text));
            return;
        };
        if self.dims.contains(&0) {
            out.push_str("[]");
            return;
        }
        out.push('[');
        let inner = self.shown.iter().skip(axis + 1);
        let size: usize = inner.map(|axis| axis.iter().flatten().count()).product();
        let last = axis + 1 == self.shown.len();
        let (mut at, mut column) = (first, axis + 1);
        for (k, index) in shown.iter().enumerate() {
            let width = if index.is_some() { self.width } else { 3 };
            let wrapped = last && column + 1 + width >= LINE_MAX;
            if k > 0 && last && !wrapped {
                out.push(' ');
            } else if k > 0 {
                // One empty line for each dimension between the elements and this axis.
                let lines = if last { 1 } else { self.shown.len() - axis - 1 };
                out.push_str(&"\n".repeat(lines));
                out.push_str(&" ".repeat(axis + 1));
                column = axis + 1;
            }
            column += width + 1;
            match index {
                None => out.push_str("..."),
                Some(_) => {
                    if last {
                        let text = self.texts.get(at).map_or("", |text| text);
                        out.push_str(&" ".repeat(self.width - text.len().min(self.width)));
                    }
                    self.write(out, axis + 1, at);
                    at += size;
                }
            }
        }
        out.push(']');
    }
}

/// The elements at `places` as text.
fn texts(bytes: &[u8], dtype: DType, places: &[usize], precision: usize) -> Vec<String> {
    let raw = |at: usize| {
        let size = dtype.bytes();
        bytes.get(at * size..(at + 1) * size).unwrap_or(&[])
    };
    match dtype {
        DType::Bool => places.iter().map(|&at| first::<bool>(raw(at)).to_string()).collect(),
        DType::U8 => places.iter().map(|&at| first::<u8>(raw(at)).to_string()).collect(),
        DType::U32 => places.iter().map(|&at| first::<u32>(raw(at)).to_string()).collect(),
        DType::I32 => places.iter().map(|&at| first::<i32>(raw(at)).to_string()).collect(),
        DType::F32 => floats(places.iter().map(|&at| f64::from(first::<f32>(raw(at)))).collect(), precision),
        DType::F16 => floats(places.iter().map(|&at| f64::from(first::<f16>(raw(at)))).collect(), precision),
        DType::BF16 => floats(places.iter().map(|&at| f64::from(first::<bf16>(raw(at)))).collect(), precision),
    }
}

fn first<T: Element + Default>(bytes: &[u8]) -> T {
    T::from_bytes(bytes).first().copied().unwrap_or_default()
}

/// Floats with one number of decimals: as few as show all of them to `precision`.
fn floats(values: Vec<f64>, precision: usize) -> Vec<String> {
    let sizes = values.iter().map(|x| x.abs()).filter(|&x| x > 0.0 && x.is_finite());
    let greatest = sizes.clone().fold(0.0, f64::max);
    let least = sizes.fold(f64::INFINITY, f64::min);
    let scientific = greatest > 0.0 && (greatest >= 1e8 || least < 1e-4 || greatest / least > 1000.0);
    let text = |x: f64, decimals: usize| match scientific {
        true => format!("{x:.decimals$e}"),
        false => format!("{x:.decimals$}"),
    };
    let used = |x: f64| {
        let text = text(x, precision);
        let mantissa = text.split('e').next().unwrap_or("");
        mantissa.split_once('.').map_or(0, |(_, decimals)| decimals.trim_end_matches('0').len())
    };
    let decimals = values.iter().filter(|x| x.is_finite()).map(|&x| used(x)).max().unwrap_or(0);
    let whole = |x: f64| {
        let text = text(x, decimals);
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, ""));
        let point = if decimals == 0 { "." } else { "" };
        let exponent = match (exponent.strip_prefix('-'), exponent) {
            (_, "") => String::new(),
            (Some(digits), _) => format!("e-{digits:0>2}"),
            (None, digits) => format!("e+{digits:0>2}"),
        };
        let text = format!("{mantissa}{point}{exponent}");
        // NumPy aligns the points; the zeros that say nothing become blanks.
        if scientific {
            return text;
        }
        let kept = text.trim_end_matches('0');
        format!("{kept:<width$}", width = text.len())
    };
    let name = |x: f64| {
        if x.is_nan() {
            "nan"
        } else if x > 0.0 {
            "inf"
        } else {
            "-inf"
        }
    };
    values.iter().map(|&x| if x.is_finite() { whole(x) } else { name(x).into() }).collect()
}
