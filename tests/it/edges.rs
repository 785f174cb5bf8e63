//! Values at the edges: numbers that a dtype does not hold, halves that overflow, NaN that must not get lost.

use wgrad::prelude::*;

use crate::devices::{devices, plain_cpu};
use crate::support::{assert_close, exact, ints, message};

#[test]
fn numbers_that_do_not_fit_are_refused() {
    let bytes = ints(&[0, 5, 255], &[3]).cast(DType::U8);
    for (x, n) in [
        (bytes.lt(256), "256 does not fit u8"),
        (bytes.clamp(-1, 10), "-1 does not fit u8"),
        (bytes.cast(DType::U32).ge(-1), "-1 does not fit u32"),
        (bytes.cast(DType::I32).lt(3_000_000_000i64), "3000000000 does not fit i32"),
        (bytes.full_like(256), "256 does not fit u8"),
        (bytes.pad(&[(1, 1)], PadMode::Constant(300.into())), "300 does not fit u8"),
    ] {
        assert!(message(&x).contains(n), "{}", message(&x));
    }
    assert_eq!(exact(&bytes.le(255)), [1.0; 3]);
    // A quotient is a float.
    assert_eq!(exact(&(bytes.cast(DType::I32) / (1i64 << 40)))[2], 255.0 / 2f64.powi(40));
}

#[test]
fn floats_saturate_in_integers() {
    let x = ints(&[1], &[1]);
    for device in devices() {
        let x = x.to_device(&device);
        let ends = x.pad(&[(1, 0)], PadMode::Constant(f64::NEG_INFINITY.into()));
        let ends = ends.pad(&[(0, 1)], PadMode::Constant(f64::INFINITY.into()));
        assert_eq!(ends.to_vec::<i32>().unwrap(), [i32::MIN, 1, i32::MAX], "{device}");
        assert_eq!(x.full_like(3e9).item::<i32>().unwrap(), i32::MAX, "{device}");
        assert_eq!(x.cast(DType::U8).full_like(-1.5).item::<u8>().unwrap(), 0, "{device}");
    }
}

#[test]
fn a_constant_keeps_what_a_half_made_of_it() {
    for device in devices() {
        let x = Tensor::full([1], 0.1, &device).cast(DType::F16).cast(DType::F32);
        assert_eq!(x.item::<f32>().unwrap(), 0.099_975_586, "{device}");
        let x = Tensor::full([1], 1e6, &device).cast(DType::F16).cast(DType::F32);
        assert_eq!(x.item::<f32>().unwrap(), f32::INFINITY, "{device}");
    }
}

/// By way of f32, wherever it happens: halfway between two of bf16, and one more.
#[test]
fn large_integers_round_alike_to_bf16() {
    let n = (1 << 24) + (1 << 16) + 1;
    for device in devices() {
        let x = Tensor::new([n, -n], &device);
        let want = [16_777_216.0, -16_777_216.0];
        assert_eq!(x.cast(DType::BF16).cast(DType::F32).to_vec::<f32>().unwrap(), want, "{device}");
        let constants = [Tensor::full([1], n, &device), Tensor::full([1], -n, &device)];
        let constants = constants.map(|x| x.cast(DType::BF16).cast(DType::F32).item::<f32>().unwrap());
        assert_eq!(constants, want, "{device}");
    }
}

#[test]
fn losses_keep_nan() {
    for device in devices() {
        let (x, t) = (Tensor::new([f32::NAN, 0.5], &device), Tensor::new([1.0, 0.0], &device));
        for y in [
            x.binary_cross_entropy(&t, Reduce::None),
            t.binary_cross_entropy(&x, Reduce::None),
            t.kl_div(&x, false, Reduce::None),
            x.kl_div(&t, false, Reduce::None),
        ] {
            let y = y.to_vec::<f32>().unwrap();
            assert!(y[0].is_nan() && y[1].is_finite(), "{device}: {y:?}");
        }
        let ends = Tensor::new([0.0, 1.0], &device);
        assert_eq!(ends.binary_cross_entropy(&t, Reduce::None).to_vec::<f32>().unwrap(), [100.0, 100.0], "{device}");
    }
}

/// The products overflow, the scores do not.
#[test]
fn attention_of_large_halves_is_finite() {
    let device = plain_cpu();
    let q = Tensor::full([1, 2, 128], 25.0, &device).cast(DType::F16);
    let v = Tensor::new([[[1.0, 2.0], [3.0, 4.0]]], &device).cast(DType::F16);
    let y = q.scaled_dot_product_attention(&q, &v, AttentionOptions::default()).cast(DType::F32);
    assert_eq!(y.to_vec::<f32>().unwrap(), [2.0, 3.0, 2.0, 3.0]);
}

/// An infinity at a corner is in some sums of a depthwise weight's gradient, and not beside the others.
#[test]
fn depthwise_gradients_keep_infinities_where_they_are() {
    for device in devices() {
        let mut x = vec![1f32; 2 * 3 * 25];
        x[0] = f32::INFINITY;
        let x = Tensor::from_vec(x, [2, 3, 5, 5], &device);
        let w = Tensor::ones([3, 1, 3, 3], &device).tracked();
        let dy = Tensor::from_vec(vec![1f32; 2 * 3 * 25], [2, 3, 5, 5], &device);
        let y = x.conv2d(&w, None, ConvOptions::default().padding(1).groups(3));
        let found = y.vjp(&dy, &[&w])[0].to_vec::<f32>().unwrap();
        // The corner is under the middle of a patch, and under taps before it.
        let infinite = |k: usize| [0, 1, 3, 4].contains(&k);
        assert!((0..27).all(|k| found[k].is_infinite() == infinite(k)), "{device}: {found:?}");
        assert!((0..27).all(|k| infinite(k) || [32.0, 40.0, 50.0].contains(&found[k])), "{device}: {found:?}");
    }
}

/// Each sample of an image that is there once, and each window of a signal, adds its part to a weight's gradient.
#[test]
fn gradients_of_depthwise_weights_count_images_that_share_memory() {
    for device in devices() {
        let image = Tensor::from_vec((0..16).map(|k| (k * 7 % 5) as f32).collect::<Vec<_>>(), [1, 1, 16], &device);
        let dy: Vec<f32> = (0..6 * 16).map(|k| (k * 5 % 7) as f32 - 3.0).collect();
        let kept = |x: &Tensor| Tensor::from_vec(x.to_vec::<f32>().unwrap(), x.shape(), &device);
        for x in [image.expand([2, 1, 16]), image.reshape([16]).unfold(0, 6, 2).unsqueeze(1), image.expand([3, 1, 16])]
        {
            let dw = |x: &Tensor| {
                let w = Tensor::ones([1, 1, 3], &device).tracked();
                let y = x.conv1d(&w, None, ConvOptions::default().padding(1));
                let dy = Tensor::from_vec(dy[..y.numel()].to_vec(), y.shape(), &device);
                y.vjp(&dy, &[&w])[0].to_vec::<f32>().unwrap()
            };
            assert_eq!(dw(&x), dw(&kept(&x)), "{device}: {}", x.shape());
        }
    }
}

/// A quotient that is rounded is not the greatest integer below it, and a remainder by that is none.
#[test]
fn quotients_and_remainders_of_floats_go_together() {
    let inf = f32::INFINITY;
    #[rustfmt::skip]
    let rows = [
        [1.0, 0.1, 9.0, 0.099_999_99], [41.0, 41.0, 1.0, 0.0], [-41.0, 41.0, -1.0, 0.0], [165.0, 15.0, 11.0, 0.0],
        [1e9, 3.0, 333_333_333.0, 1.0], [-7.5, 2.0, -4.0, 0.5], [7.5, -2.0, -4.0, -0.5], [1.0, -inf, -1.0, -inf],
        [-1.0, inf, -1.0, inf], [5.0, inf, 0.0, 5.0], [5.0, 0.0, inf, f32::NAN], [inf, 2.0, f32::NAN, f32::NAN],
        [0.0, 3.0, 0.0, 0.0],
    ];
    for device in devices() {
        let [x, z] = [0, 1].map(|k| Tensor::new(rows.map(|row| row[k]), &device));
        let found = [x.floor_divide(&z), x.rem(&z)].map(|y| y.to_vec::<f32>().unwrap());
        for (k, row) in rows.iter().enumerate() {
            for (found, want) in [(found[0][k], row[2]), (found[1][k], row[3])] {
                assert!(found == want || found.is_nan() && want.is_nan(), "{device}: {row:?}, not {found}");
            }
        }
    }
}

/// Positions and times are large angles.
#[test]
fn sines_of_large_angles_keep_their_digits() {
    let angles: Vec<f32> = (0..4000).map(|k| ((k as f32) - 2000.0) * 333.77).collect();
    for device in devices() {
        let x = Tensor::new(angles.clone(), &device);
        let found = [x.sin(), x.cos()].map(|y| y.to_vec::<f32>().unwrap());
        for (k, &x) in angles.iter().enumerate() {
            let (sin, cos) = f64::from(x).sin_cos();
            let off = (f64::from(found[0][k]) - sin).abs().max((f64::from(found[1][k]) - cos).abs());
            assert!(off < 5e-7, "{device}: {x} is off by {off}");
        }
    }
}

/// Where a formula taken as it stands gives NaN or nothing.
#[test]
fn slopes_at_edges_are_pytorchs() {
    const INF: f32 = f32::INFINITY;
    const NAN: f32 = f32::NAN;
    type Word = fn(&Tensor) -> Tensor;
    fn other(x: &Tensor) -> Tensor {
        Tensor::new([1.0, NAN, NAN, 2.0, 2.0], x.device())
    }
    let middle = 1.0 / std::f32::consts::FRAC_2_SQRT_PI;
    let cases: [(&str, Word, &[f32], &[f32]); 13] = [
        ("hardswish", |x| x.hardswish(), &[-INF, -3.0, 0.0, 3.0, INF], &[0.0, 0.0, 0.5, 1.0, 1.0]),
        (
            "huber",
            |x| x.huber_loss(&x.zeros_like(), 2.0, Reduce::None),
            &[-INF, -2.0, 1.0, INF],
            &[-2.0, -2.0, 1.0, 2.0],
        ),
        ("smooth", |x| x.smooth_l1_loss(&x.zeros_like(), 2.0, Reduce::Sum), &[-INF, 1.0, INF], &[-1.0, 0.5, 1.0]),
        ("erfinv", |x| x.erfinv(), &[-1.0, 0.0, 1.0], &[INF, middle, INF]),
        ("norm", |x| x.norm(0, -1.0), &[0.0, -3.0, 2.0], &[0.0; 3]),
        ("norm", |x| x.norm(0, -0.5), &[0.0, -3.0, 2.0], &[0.0; 3]),
        ("norm", |x| x.norm(0, 0.5), &[0.0, 3.0], &[0.0, 1.0]),
        ("maximum", |x| x.maximum(other(x)), &[NAN, 1.0, NAN, 1.0, 2.0], &[1.0, 1.0, 1.0, 0.0, 0.5]),
        ("maximum", |x| other(x).maximum(x), &[NAN, 1.0, NAN, 3.0, 2.0], &[1.0, 1.0, 1.0, 1.0, 0.5]),
        ("minimum", |x| x.minimum(other(x)), &[NAN, 1.0, NAN, 1.0, 2.0], &[1.0, 1.0, 1.0, 1.0, 0.5]),
        ("minimum", |x| other(x).minimum(x), &[NAN, 1.0, NAN, 3.0, 2.0], &[1.0, 1.0, 1.0, 0.0, 0.5]),
        ("atan2", |x| x.atan2(x.zeros_like()), &[0.0, -0.0, 4.0], &[0.0; 3]),
        ("atan2", |x| x.zeros_like().atan2(x), &[0.0, -0.0, 4.0], &[0.0, 0.0, 0.0]),
    ];
    for device in devices() {
        let wrong = cases.iter().filter_map(|(word, f, x, want)| {
            let x = Tensor::from_slice(x, [x.len()], &device).tracked();
            let found = f(&x).sum(..).grad(&[&x])[0].to_vec::<f32>().unwrap();
            let close = found.iter().zip(*want).all(|(a, b)| a == b || (a - b).abs() < 1e-6);
            (!close).then(|| format!("{word}: {found:?}, not {want:?}"))
        });
        let wrong: Vec<String> = wrong.collect();
        assert!(wrong.is_empty(), "{device}: {wrong:#?}");
    }
    // Squares that are no number of 32 bits, and the derivative of the derivative.
    let x = Tensor::new([1e-30, 0.0], &plain_cpu()).tracked();
    let slope = &x.atan2(&x).sum(..).grad(&[&x])[0];
    assert_eq!(slope.to_vec::<f32>().unwrap(), [0.0, 0.0]);
    assert_eq!(slope.sum(..).grad(&[&x])[0].to_vec::<f32>().unwrap(), [0.0, 0.0]);
    let ends = Tensor::new([-INF, INF], &plain_cpu());
    assert_eq!(ends.hardswish().to_vec::<f32>().unwrap(), [0.0, INF]);
    assert_eq!(ends.norm(0, -1.0).item::<f32>().unwrap(), INF);
}

/// An easy negative counts what it counts, not what is left of it beside its logit.
#[test]
fn easy_examples_keep_their_digits() {
    for device in devices() {
        let (x, t) =
            (Tensor::new([-20.0, 20.0, -30.0, 0.0], &device).tracked(), Tensor::new([0.0, 1.0, 0.0, 1.0], &device));
        let weight = Tensor::new(3.0, &device);
        let y = x.binary_cross_entropy_with_logits(&t, Some(&weight), Reduce::None);
        let dx = &y.sum(..).grad(&[&x])[0];
        for (y, want) in [
            (&y, [2.061_153_6e-9, 6.183_461e-9, 9.357_623e-14, 2.079_441_5]),
            (dx, [2.061_153_6e-9, -6.183_461e-9, 9.357_623e-14, -1.5]),
        ] {
            let y = y.to_vec::<f32>().unwrap();
            let close = y.iter().zip(want).all(|(y, want)| (y - want).abs() <= 1e-5 * want.abs());
            assert!(close, "{device}: {y:?}, not {want:?}");
        }
    }
}

/// `x - -0` is `x + 0`, and a sum begins with 0; some drivers take either for nothing.
#[test]
fn constants_of_minus_zero_are_no_zeros() {
    let device = plain_cpu();
    let x = Tensor::new([-0.0, 0.0, 1.0], &device);
    let bits = |x: &Tensor| x.to_vec::<f32>().unwrap().iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    for (y, want) in [(&x - (-0.0), [0.0, 0.0, 1.0]), (&x - 0.0, [-0.0, 0.0, 1.0])] {
        assert_eq!(bits(&y), want.map(f32::to_bits));
        assert_close("the oracle", &exact(&y), &want.map(f64::from), 0.0);
    }
    let sum = Tensor::full([3, 4], -0.0, &device).sum(1);
    assert_eq!(bits(&sum), [0; 3]);
    assert_close("the oracle", &exact(&sum), &[0.0; 3], 0.0);
}
