//! Convolutions and their transposes over one, two and three spatial axes, as PyTorch's.
//!
//! A transposed convolution is a convolution of the spread-out input with the flipped weight, so
//! both are the one primitive, which is closed under differentiation.

use crate::dtype::DType;
use crate::graph::op::ConvSpec;
use crate::graph::tensor::Tensor;
use crate::shape::{AxisSet, Dims};

/// How a convolution runs: `ConvOptions::default().stride(2).padding([1, 0])`.
///
/// What goes by spatial axis is given as one number for all of them or as an array.
#[derive(Clone, Debug)]
pub struct ConvOptions {
    stride: Vec<isize>,
    /// `None` for "same".
    padding: Option<Vec<isize>>,
    output_padding: Vec<isize>,
    dilation: Vec<isize>,
    pub(crate) groups: usize,
}

impl Default for ConvOptions {
    /// Stride 1, no padding, dilation 1, one group.
    fn default() -> ConvOptions {
        let (zero, one) = (vec![0], vec![1]);
        ConvOptions { stride: one.clone(), padding: Some(zero.clone()), output_padding: zero, dilation: one, groups: 1 }
    }
}

impl ConvOptions {
    /// Distance between outputs, at least 1; of a transposed convolution, between inputs.
    pub fn stride(mut self, stride: impl Dims) -> ConvOptions {
        self.stride = stride.dims();
        self
    }

    /// Zeros on both sides; a transposed convolution leaves out as many outputs.
    pub fn padding(mut self, padding: impl Dims) -> ConvOptions {
        self.padding = Some(padding.dims());
        self
    }

    /// Zeros that make the output as long as the input, which takes stride 1; where their number
    /// is odd, one more comes after than before.
    pub fn padding_same(mut self) -> ConvOptions {
        self.padding = None;
        self
    }

    /// Outputs that a transposed convolution adds at the end; less than stride or dilation.
    pub fn output_padding(mut self, output_padding: impl Dims) -> ConvOptions {
        self.output_padding = output_padding.dims();
        self
    }

    /// Distance between elements of the kernel, at least 1.
    pub fn dilation(mut self, dilation: impl Dims) -> ConvOptions {
        self.dilation = dilation.dims();
        self
    }

    /// Groups of channels that do not see each other.
    pub fn groups(mut self, groups: usize) -> ConvOptions {
        self.groups = groups;
        self
    }
}

macro_rules! conv_words {
    ($($(#[doc = $doc:literal])+ $conv:ident $transposed:ident $spatial:literal)*) => {
        impl Tensor {$(
            $(#[doc = $doc])+
            #[track_caller]
            pub fn $conv(&self, weight: &Tensor, bias: Option<&Tensor>, options: ConvOptions) -> Tensor {
                self.convolved(stringify!($conv), $spatial, weight, bias, &options)
            }

            #[doc = concat!("The transpose of [`Tensor::", stringify!($conv), "`] with regard to its input:")]
            /// weight `[c, o / groups, kernel…]`, and each spatial axis of the result has
            /// `(n - 1) stride - 2 padding + dilation (kernel - 1) + output_padding + 1` elements.
            ///
            /// ```
            /// # use wgrad::prelude::*;
            /// let device = Device::cpu();
            #[doc = concat!("let kernel = [2; ", stringify!($spatial), "];")]
            /// let x = Tensor::ones([&[1, 1], &kernel[..]].concat(), &device);
            #[doc = concat!("let y = x.", stringify!($transposed), "(&x, None, ConvOptions::default().stride(2));")]
            #[doc = concat!("assert_eq!(y.dims()[2..], [4; ", stringify!($spatial), "]);")]
            /// assert_eq!(y.to_vec::<f32>()?[..4], [1.0; 4]);
            /// # Ok::<(), wgrad::Error>(())
            /// ```
            #[track_caller]
            pub fn $transposed(&self, weight: &Tensor, bias: Option<&Tensor>, options: ConvOptions) -> Tensor {
                self.conv_transposed(stringify!($transposed), $spatial, weight, bias, &options)
            }
        )*}
    };
}

conv_words! {
    /// Cross-correlation over one spatial axis: `[n, c, l]`, weight `[o, c / groups, k]`, bias `[o]`
    /// to `[n, o, (l + 2 padding - dilation (k - 1) - 1) / stride + 1]`.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let device = Device::cpu();
    /// let x = Tensor::new([[[1.0, 2.0, 4.0, 8.0]]], &device);
    /// let w = Tensor::new([[[-1.0, 1.0]]], &device);
    /// let y = x.conv1d(&w, None, ConvOptions::default());
    /// assert_eq!(y.to_vec::<f32>()?, [1.0, 2.0, 4.0]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    conv1d conv_transpose1d 1
    /// Cross-correlation over two spatial axes: `[n, c, h, w]`, weight `[o, c / groups, kh, kw]`,
    /// bias `[o]` to `[n, o, h', w']` with `h' = (h + 2 padding - dilation (kh - 1) - 1) / stride + 1`.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let device = Device::cpu();
    /// let x = Tensor::ones([1, 2, 4, 4], &device);
    /// let w = Tensor::ones([3, 2, 3, 3], &device);
    /// let y = x.conv2d(&w, None, ConvOptions::default().padding_same());
    /// assert_eq!(y.dims(), [1, 3, 4, 4]);
    /// assert_eq!(y.to_vec::<f32>()?[..2], [8.0, 12.0]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    conv2d conv_transpose2d 2
    /// Cross-correlation over three spatial axes: `[n, c, d, h, w]`, weight `[o, c / groups, kd, kh, kw]`,
    /// bias `[o]` to `[n, o, d', h', w']` with `d' = (d + 2 padding - dilation (kd - 1) - 1) / stride + 1`.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::ones([1, 1, 3, 3, 3], &Device::cpu());
    /// let y = x.conv3d(&x, None, ConvOptions::default());
    /// assert_eq!(y.item::<f32>()?, 27.0);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    conv3d conv_transpose3d 3
}

impl Tensor {
    #[track_caller]
    fn convolved(
        &self,
        word: &str,
        spatial: usize,
        weight: &Tensor,
        bias: Option<&Tensor>,
        options: &ConvOptions,
    ) -> Tensor {
        let src: Vec<&Tensor> = [self, weight].into_iter().chain(bias).collect();
        let (spec, dtype) = given!(word, &src, {
            ranks(spatial, self, weight)?;
            let stride = per_axis("stride", &options.stride, spatial, 1)?;
            let dilation = per_axis("dilation", &options.dilation, spatial, 1)?;
            let (mut lo, mut hi) = (Vec::new(), Vec::new());
            match &options.padding {
                Some(padding) => {
                    lo = signed(&per_axis("padding", padding, spatial, 0)?);
                    hi.clone_from(&lo);
                }
                None => {
                    if stride.iter().any(|&s| s != 1) {
                        return Err(format!("padding that keeps the length takes stride 1, got {stride:?}"));
                    }
                    for (&d, &k) in dilation.iter().zip(spatial_dims(weight)) {
                        let total = reach(d, k);
                        lo.push(total / 2);
                        hi.push(total - total / 2);
                    }
                }
            }
            unpadded(options)?;
            channels(weight.dims().first().copied().unwrap_or(0), bias)?;
            let spread = vec![1; spatial];
            Ok((ConvSpec { stride, lo, hi, spread, dilation, groups: options.groups }, dtype_of(&src)))
        });
        self.cast(dtype).conv(word, &weight.cast(dtype), spec).biased(word, spatial, bias, dtype)
    }

    #[track_caller]
    fn conv_transposed(
        &self,
        word: &str,
        spatial: usize,
        weight: &Tensor,
        bias: Option<&Tensor>,
        options: &ConvOptions,
    ) -> Tensor {
        let src: Vec<&Tensor> = [self, weight].into_iter().chain(bias).collect();
        let groups = options.groups;
        let (spec, outputs, dtype) = given!(word, &src, {
            ranks(spatial, self, weight)?;
            let stride = per_axis("stride", &options.stride, spatial, 1)?;
            let dilation = per_axis("dilation", &options.dilation, spatial, 1)?;
            let Some(padding) = &options.padding else {
                return Err("padding that keeps the length is for convolutions that are not transposed".into());
            };
            let padding = per_axis("padding", padding, spatial, 0)?;
            let more = per_axis("output_padding", &options.output_padding, spatial, 0)?;
            let (mut lo, mut hi) = (Vec::new(), Vec::new());
            for ((((&s, &d), &p), &m), &k) in
                stride.iter().zip(&dilation).zip(&padding).zip(&more).zip(spatial_dims(weight))
            {
                if m >= s.max(d) {
                    return Err(format!("output_padding {m} must be less than stride {s} or dilation {d}"));
                }
                lo.push(reach(d, k) - p as isize);
                hi.push(reach(d, k) - p as isize + m as isize);
            }
            let (&[_, c, ..], &[inputs, outputs, ..]) = (self.dims(), weight.dims()) else {
                return Err(String::new());
            };
            if c != inputs || groups == 0 || inputs % groups != 0 {
                return Err(format!(
                    "channels do not fit: input {} and weight {} in {groups} groups",
                    self.shape(),
                    weight.shape()
                ));
            }
            let outputs = outputs.saturating_mul(groups);
            channels(outputs, bias)?;
            let spec = ConvSpec { stride: vec![1; spatial], lo, hi, spread: stride, dilation, groups };
            Ok((spec, outputs, dtype_of(&src)))
        });
        let weight = weight.cast(dtype).conv_weight_transposed(word, groups, outputs);
        self.cast(dtype).conv(word, &weight, spec).biased(word, spatial, bias, dtype)
    }

    /// `[c, o / groups, kernel…]` as `[o, c / groups, kernel…]` with the kernel backwards.
    #[track_caller]
    fn conv_weight_transposed(&self, word: &str, groups: usize, outputs: usize) -> Tensor {
        let (inputs, kernel) = match self.dims() {
            [c, _, kernel @ ..] => (c / groups.max(1), kernel),
            _ => (0, &[][..]),
        };
        let split = [&[groups, inputs, outputs / groups.max(1)], kernel].concat();
        let joined = [&[outputs, inputs], kernel].concat();
        let perm: Vec<usize> = [0, 2, 1].into_iter().chain(3..split.len()).collect();
        let spatial = (2..joined.len()).fold(AxisSet::default(), AxisSet::and);
        self.to_dims(word, &split).permute_to(word, &perm).to_dims(word, &joined).flip_axes(word, spatial)
    }

    /// This result of a convolution with `bias: [o]` added to its channels.
    #[track_caller]
    fn biased(self, word: &str, spatial: usize, bias: Option<&Tensor>, dtype: DType) -> Tensor {
        match bias {
            None => self,
            Some(bias) => {
                let dims = [&[bias.numel()], &[1, 1, 1][..spatial.min(3)]].concat();
                self + bias.cast(dtype).to_dims(word, &dims)
            }
        }
    }
}

/// `given` by spatial axis: one number for all `n` axes or one for each, none below `least`.
pub(crate) fn per_axis(what: &str, given: &[isize], n: usize, least: isize) -> Result<Vec<usize>, String> {
    // Beyond this nothing fits a tensor, and sums of a few such numbers cannot overflow.
    let most = 1 << 30;
    if let Some(bad) = given.iter().find(|&&x| x < least || x > most) {
        let bound = if *bad < least { format!("less than {least}") } else { format!("more than {most}") };
        return Err(format!("{what} {bad} is {bound}"));
    }
    match *given {
        [one] => Ok(vec![one as usize; n]),
        _ if given.len() == n => Ok(given.iter().map(|&x| x as usize).collect()),
        _ => Err(format!("{what} {given:?} is neither one number nor one for each of {n} axes")),
    }
}

/// The dimensions after batch and channels.
pub(crate) fn spatial_dims(x: &Tensor) -> &[usize] {
    x.dims().get(2..).unwrap_or(&[])
}

/// How far a kernel of `size` goes beyond its first element.
fn reach(dilation: usize, size: usize) -> isize {
    // A quarter, so that adding paddings cannot overflow; no tensor is that long.
    dilation.saturating_mul(size.saturating_sub(1)).min(isize::MAX as usize / 4) as isize
}

fn signed(numbers: &[usize]) -> Vec<isize> {
    numbers.iter().map(|&n| n as isize).collect()
}

fn dtype_of(src: &[&Tensor]) -> DType {
    let dtype = src.iter().map(|x| x.dtype()).reduce(DType::promote).unwrap_or(DType::F32);
    if dtype.is_float() { dtype } else { DType::F32 }
}

fn ranks(spatial: usize, x: &Tensor, weight: &Tensor) -> Result<(), String> {
    if x.rank() != spatial + 2 || weight.rank() != spatial + 2 {
        return Err(format!(
            "the input and the weight take {} dimensions, got {} and {}",
            spatial + 2,
            x.shape(),
            weight.shape()
        ));
    }
    Ok(())
}

fn unpadded(options: &ConvOptions) -> Result<(), String> {
    match options.output_padding.iter().all(|&p| p == 0) {
        true => Ok(()),
        false => Err("output_padding is for transposed convolutions".into()),
    }
}

fn channels(outputs: usize, bias: Option<&Tensor>) -> Result<(), String> {
    match bias {
        Some(bias) if bias.dims() != [outputs] => Err(format!("the bias takes [{outputs}], got {}", bias.shape())),
        _ => Ok(()),
    }
}
