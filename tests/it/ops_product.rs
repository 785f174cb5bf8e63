//! Products and convolutions: values against plain loops, first and second derivatives against
//! differences, and what wrong input gives.

use wgrad::prelude::*;

use crate::devices::plain_cpu;
use crate::support::{assert_close, derivatives, exact, floats, ints, message, random};

// ---- products

/// `[b, m, k] · [b, k, n]` by three loops.
fn product(x: &[f64], z: &[f64], [b, m, k, n]: [usize; 4]) -> Vec<f64> {
    let mut y = vec![0.0; b * m * n];
    for (at, y) in y.iter_mut().enumerate() {
        let (b, i, j) = (at / (m * n), at / n % m, at % n);
        *y = (0..k).map(|l| x[(b * m + i) * k + l] * z[(b * k + l) * n + j]).sum();
    }
    y
}

#[test]
fn matmul() {
    for (lhs, rhs, want, loops) in [
        (&[3][..], &[3][..], &[][..], [1, 1, 3, 1]),
        (&[2, 3], &[3], &[2], [1, 2, 3, 1]),
        (&[3], &[3, 5], &[5], [1, 1, 3, 5]),
        (&[2, 3], &[3, 5], &[2, 5], [1, 2, 3, 5]),
        (&[4, 2, 3], &[4, 3, 5], &[4, 2, 5], [4, 2, 3, 5]),
        (&[4, 2, 3], &[3, 5], &[4, 2, 5], [1, 8, 3, 5]),
        (&[2, 1, 2, 3], &[1, 1, 3, 5], &[2, 1, 2, 5], [1, 4, 3, 5]),
        (&[0, 3], &[3, 5], &[0, 5], [1, 0, 3, 5]),
        (&[2, 0], &[0, 5], &[2, 5], [1, 2, 0, 5]),
        (&[0, 2, 3], &[3, 1], &[0, 2, 1], [1, 0, 3, 1]),
    ] {
        let (x, z) = (random(lhs), random(rhs));
        let y = x.matmul(&z);
        assert_eq!(y.dims(), want);
        assert_close(&format!("{lhs:?} @ {rhs:?}"), &exact(&y), &product(&exact(&x), &exact(&z), loops), 1e-12);
    }
    // Batches broadcast: the same as the products of expanded operands.
    let (x, z) = (random(&[2, 1, 2, 3]), random(&[4, 3, 2]));
    let (wide_x, wide_z) = (x.expand([2, 4, 2, 3]), z.expand([2, 4, 3, 2]));
    assert_close("broadcast", &exact(&x.matmul(&z)), &exact(&wide_x.matmul(&wide_z)), 0.0);
    let x = ints(&[1, 2, 3, 4], &[2, 2]);
    assert_eq!(x.matmul(&x).to_vec::<i32>().unwrap(), [7, 10, 15, 22]);
    assert_eq!(x.gt(1).matmul(&x.gt(1)).to_vec::<i32>().unwrap(), [1, 1, 1, 2]);
    assert_eq!(x.matmul(&random(&[2])).dtype(), DType::F32);
    derivatives("matmul", &[&[2, 3], &[3, 2]], |x| x[0].matmul(&x[1]));
    derivatives("matmul of vectors", &[&[3], &[3]], |x| x[0].matmul(&x[1]));
    derivatives("matmul over batches", &[&[2, 1, 2, 3], &[2, 3, 2]], |x| x[0].matmul(&x[1]));
    derivatives("matmul with a weight", &[&[2, 2, 3], &[3, 2]], |x| x[0].matmul(&x[1]));
    assert_eq!(message(&random(&[2, 3]).matmul(&random(&[4, 5]))), "matmul: inner dimensions differ: [2, 3] @ [4, 5]");
    assert_eq!(
        message(&random(&[2, 2, 3]).matmul(&random(&[3, 3, 5]))),
        "matmul: batch dimensions do not broadcast: [2, 2, 3] @ [3, 3, 5]"
    );
    assert_eq!(
        message(&random(&[]).matmul(&random(&[3]))),
        "matmul: takes tensors of at least one dimension: [] @ [3]"
    );
}

/// As a layer's weights lie: the CPU turns them where there are many rows and terms, many in pieces.
#[test]
fn matmul_with_a_right_operand_along_the_terms() {
    let cpu = plain_cpu();
    for [b, m, k, n] in [[1, 255, 256, 5], [1, 256, 256, 64], [1, 257, 300, 129], [3, 256, 321, 7], [1, 700, 256, 1]] {
        let (x, z) = (random(&[b, m, k]), random(&[b, n + 2, k + 3]));
        let at = |device: &Device| {
            let (x, z) = (x.to_device(device), z.to_device(device));
            x.matmul(&z.narrow(1, 1, n).narrow(2, 2, k).transpose(1, 2)) + 1.0
        };
        let got: Vec<f64> = at(&cpu).to_vec::<f32>().unwrap().into_iter().map(f64::from).collect();
        assert_close(&format!("{b} {m} {k} {n}"), &got, &exact(&at(x.device())), 1e-4);
    }
    let small = |n: usize, by: usize| -> Vec<f32> { (0..n).map(|i| (i * by % 11) as f32 - 5.0).collect() };
    let x = Tensor::from_vec(small(256 * 2100, 7), [256, 2100], &cpu);
    let z = Tensor::from_vec(small(600 * 2100, 5), [600, 2100], &cpu);
    let turned = z.t() * 1.0;
    turned.realize().unwrap();
    assert_eq!(x.matmul(&z.t()).to_vec::<f32>().unwrap(), x.matmul(&turned).to_vec::<f32>().unwrap());
}

#[test]
fn outer() {
    let (x, z) = (random(&[3]), random(&[2]));
    assert_close("outer", &exact(&x.outer(&z)), &product(&exact(&x), &exact(&z), [1, 3, 1, 2]), 0.0);
    derivatives("outer", &[&[3], &[2]], |x| x[0].outer(&x[1]));
    assert_eq!(message(&x.outer(&random(&[2, 1]))), "outer: takes two vectors, got [3] and [2, 1]");
}

#[test]
fn einsum() {
    let (x, z) = (random(&[2, 3, 4]), random(&[4, 3]));
    let same = |equation: &str, operands: &[&Tensor], want: &Tensor| {
        let y = Tensor::einsum(equation, operands);
        assert!(y.is_valid(), "{equation}: {:?}", y.error());
        assert_eq!(y.dims(), want.dims(), "{equation}");
        assert_close(equation, &exact(&y), &exact(want), 1e-12);
    };
    same("bij, jk -> bik", &[&x, &z], &x.matmul(&z));
    same("ij,ji", &[&z, &z.t()], &(&z * &z).sum(..));
    same("...j->...", &[&x], &x.sum(-1));
    same("i...->...i", &[&x], &x.permute([1, 2, 0]));
    same("ba", &[&z], &z.t());
    same("bij,ji->b", &[&x, &z], &(&x * z.t()).sum([1, 2]));
    same("ij,kl->ikjl", &[&z, &z], &(z.reshape([4, 1, 3, 1]) * z.reshape([1, 4, 1, 3])));
    same(",i->i", &[&z.sum(..), &x.sum([0, 1])], &(z.sum(..) * x.sum([0, 1])));
    same("bij,bjk,kj->bj", &[&x, &x.transpose(1, 2), &x.sum(0)], &{
        let first = x.sum(1).unsqueeze(-1) * x.transpose(1, 2);
        (first * x.sum(0).t()).sum(2)
    });
    // Dimensions of 1 broadcast, in letters and in ellipses.
    same("ij,ij->i", &[&z, &random(&[4, 1])], &(&z * random(&[4, 1])).sum(1));
    same("...i,...i->...", &[&x, &random(&[1, 4])], &(&x * random(&[1, 4])).sum(-1));
    // Diagonals.
    let cube = random(&[3, 3, 3]);
    same("iii->i", &[&cube], &cube.reshape([27]).index_select(0, &ints(&[0, 13, 26], &[3])));
    same("iij->j", &[&cube], &(cube.reshape([9, 3]).index_select(0, &ints(&[0, 4, 8], &[3])).sum(0)));
    // The products of an inner product are no halves: 90,000 is none, and 257 is none of bf16.
    for dtype in [DType::F16, DType::BF16] {
        let (x, z) =
            (floats(&[300.0, 300.0, 257.0], &[3]).cast(dtype), floats(&[300.0, -300.0, 1.0], &[3]).cast(dtype));
        let y = Tensor::einsum("i,i->", &[&x, &z]);
        assert_eq!((y.dtype(), exact(&y)), (dtype, exact(&x.matmul(&z))));
        assert!((250.0..260.0).contains(&y.cast(DType::F32).item::<f32>().unwrap()));
    }
    derivatives("einsum", &[&[2, 3], &[3, 2, 2], &[2]], |x| Tensor::einsum("ij,jka,k->ai", &[&x[0], &x[1], &x[2]]));
    derivatives("einsum of a diagonal", &[&[2, 2, 3]], |x| Tensor::einsum("iij->ij", &[&x[0]]));

    let wrong = |equation: &str, operands: &[&Tensor]| message(&Tensor::einsum(equation, operands));
    assert_eq!(wrong("ij,jk", &[&z]), "einsum: \"ij,jk\" names 2 operands, got 1");
    assert_eq!(wrong("ijk", &[&z]), "einsum: \"ijk\" of \"ijk\" does not fit [4, 3]");
    assert_eq!(wrong("i", &[&z]), "einsum: \"i\" of \"i\" does not fit [4, 3]");
    assert_eq!(wrong("ij,jk->ik", &[&z, &z]), "einsum: j of \"ij,jk->ik\" is 3 and 4");
    assert_eq!(wrong("ii->i", &[&random(&[1, 3])]), "einsum: i of \"ii->i\" is 1 and 3");
    assert_eq!(wrong("j,jj", &[&random(&[3]), &random(&[3, 1])]), "einsum: j of \"j,jj\" is 3 and 1");
    assert_eq!(wrong("ij->ik", &[&z]), "einsum: k of the result of \"ij->ik\" is in no operand");
    assert_eq!(wrong("ij->ii", &[&z]), "einsum: i is twice in the result of \"ij->ii\"");
    assert_eq!(wrong("i1", &[&z]), "einsum: '1' in \"i1\" is neither a letter nor part of one ellipsis a term");
    assert_eq!(Tensor::einsum("", &[]).error().unwrap().op(), "einsum");
}

// ---- convolutions

/// A plain convolution over two spatial axes.
fn conv_by_loops(
    x: &Tensor,
    w: &Tensor,
    stride: [usize; 2],
    lo: [usize; 2],
    out: [usize; 2],
    groups: usize,
) -> Vec<f64> {
    let (&[n, c, h, wide], &[o, per, kh, kw]) = (x.dims(), w.dims()) else { panic!("ranks") };
    let (xs, ws) = (exact(x), exact(w));
    let mut y = Vec::new();
    for (n, o_) in (0..n).flat_map(|n| (0..o).map(move |o| (n, o))) {
        for (i, j) in (0..out[0]).flat_map(|i| (0..out[1]).map(move |j| (i, j))) {
            let mut sum = 0.0;
            for (p, (a, b)) in (0..per).flat_map(|p| (0..kh).flat_map(move |a| (0..kw).map(move |b| (p, (a, b))))) {
                let (row, column) = (i * stride[0] + a, j * stride[1] + b);
                let inside = (lo[0]..lo[0] + h).contains(&row) && (lo[1]..lo[1] + wide).contains(&column);
                if inside {
                    let channel = o_ / (o / groups) * per + p;
                    let at = ((n * c + channel) * h + row - lo[0]) * wide + column - lo[1];
                    sum += xs[at] * ws[((o_ * per + p) * kh + a) * kw + b];
                }
            }
            y.push(sum);
        }
    }
    y
}

#[test]
fn conv2d() {
    let (x, w) = (random(&[2, 4, 5, 3]), random(&[6, 2, 2, 3]));
    let options = ConvOptions::default().stride([2, 1]).padding([1, 2]).groups(2);
    let y = x.conv2d(&w, None, options);
    assert_eq!(y.dims(), [2, 6, 3, 5]);
    assert_close("conv2d", &exact(&y), &conv_by_loops(&x, &w, [2, 1], [1, 2], [3, 5], 2), 1e-12);
    // "same" puts the odd zero at the end.
    let y = x.conv2d(&random(&[4, 4, 2, 3]), None, ConvOptions::default().padding_same());
    assert_close("same", &exact(&y), &conv_by_loops(&x, &random(&[4, 4, 2, 3]), [1, 1], [0, 1], [5, 3], 1), 1e-12);
    assert_eq!(random(&[0, 4, 5, 3]).conv2d(&w, None, ConvOptions::default().groups(2)).dims(), [0, 6, 4, 1]);
    derivatives("conv2d", &[&[1, 2, 4, 3], &[2, 1, 2, 2], &[2]], |x| {
        x[0].conv2d(&x[1], Some(&x[2]), ConvOptions::default().stride([2, 1]).padding(1).dilation([1, 2]).groups(2))
    });
    let plain = ConvOptions::default;
    let wrong = |options: ConvOptions| message(&x.conv2d(&random(&[6, 4, 2, 3]), None, options));
    assert_eq!(wrong(plain().stride(0)), "conv2d: stride 0 is less than 1");
    assert_eq!(wrong(plain().padding(-1)), "conv2d: padding -1 is less than 0");
    assert_eq!(
        wrong(plain().dilation([1, 2, 3])),
        "conv2d: dilation [1, 2, 3] is neither one number nor one for each of 2 axes"
    );
    assert_eq!(
        wrong(plain().groups(3)),
        "conv2d: channels do not fit: input [2, 4, 5, 3] and weight [6, 4, 2, 3] in 3 groups"
    );
    assert_eq!(
        wrong(plain().padding_same().stride(2)),
        "conv2d: padding that keeps the length takes stride 1, got [2, 2]"
    );
    assert_eq!(wrong(plain().output_padding(1)), "conv2d: output_padding is for transposed convolutions");
    assert_eq!(wrong(plain().dilation(9)), "conv2d: a window of 2 with dilation 9 does not fit into 5 elements");
    assert_eq!(
        message(&x.conv2d(&random(&[6, 4, 2]), None, plain())),
        "conv2d: the input and the weight take 4 dimensions, got [2, 4, 5, 3] and [6, 4, 2]"
    );
    assert_eq!(
        message(&x.conv2d(&random(&[6, 4, 1, 1]), Some(&random(&[4])), plain())),
        "conv2d: the bias takes [6], got [4]"
    );
}

#[test]
fn conv1d() {
    // One spatial axis is two of which one has a single element.
    let (x, w) = (random(&[2, 3, 7]), random(&[2, 3, 3]));
    let y = x.conv1d(&w, None, ConvOptions::default().stride(2).padding(1));
    let (x2, w2) = (x.unsqueeze(2), w.unsqueeze(2));
    assert_close("conv1d", &exact(&y), &conv_by_loops(&x2, &w2, [1, 2], [0, 1], [1, 4], 1), 1e-12);
    derivatives("conv1d", &[&[2, 2, 5], &[1, 2, 3]], |x| {
        x[0].conv1d(&x[1], None, ConvOptions::default().stride(2).padding(2))
    });
    assert_eq!(
        message(&x.conv1d(&random(&[2, 4, 3]), None, ConvOptions::default())),
        "conv1d: channels do not fit: input [2, 3, 7] and weight [2, 4, 3] in 1 groups"
    );
}

#[test]
fn conv3d() {
    // The third axis alone.
    let (x, w) = (random(&[1, 2, 3, 4, 1]), random(&[2, 2, 2, 2, 1]));
    let y = x.conv3d(&w, None, ConvOptions::default());
    let (x2, w2) = (x.squeeze(-1), w.squeeze(-1));
    assert_close("conv3d", &exact(&y), &conv_by_loops(&x2, &w2, [1, 1], [0, 0], [2, 3], 1), 1e-12);
    derivatives("conv3d", &[&[1, 1, 2, 3, 2], &[2, 1, 1, 2, 2], &[2]], |x| {
        x[0].conv3d(&x[1], Some(&x[2]), ConvOptions::default().padding([0, 1, 0]))
    });
    let y = x.conv3d(&random(&[2, 2, 2, 2]), None, ConvOptions::default());
    assert_eq!(message(&y), "conv3d: the input and the weight take 5 dimensions, got [1, 2, 3, 4, 1] and [2, 2, 2, 2]");
}

/// `<conv(x, w), y> = <x, conv_transpose(y, w)>`, which is what the word means.
#[track_caller]
fn adjoint(x: &Tensor, w: &Tensor, forth: impl Fn(&Tensor) -> Tensor, back: impl Fn(&Tensor) -> Tensor) {
    let there = forth(x);
    let y = random(there.dims());
    let again = back(&y);
    assert_eq!(again.dims(), x.dims(), "{} of {}", w.shape(), x.shape());
    assert_close("adjoint", &exact(&(there * y).sum(..)), &exact(&(again * x).sum(..)), 1e-11);
}

#[test]
fn conv_transpose1d() {
    let (x, w) = (random(&[2, 4, 10]), random(&[6, 2, 3]));
    let options = || ConvOptions::default().stride(3).padding(2).dilation(2).groups(2);
    adjoint(&x, &w, |x| x.conv1d(&w, None, options()), |y| y.conv_transpose1d(&w, None, options().output_padding(0)));
    derivatives("conv_transpose1d", &[&[1, 2, 3], &[2, 2, 2], &[2]], |x| {
        x[0].conv_transpose1d(&x[1], Some(&x[2]), ConvOptions::default().stride(2).output_padding(1))
    });
    // A single element may be spread as far as anybody likes.
    let one = Tensor::new([2.0], x.device()).reshape([1, 1, 1]);
    let two = Tensor::new([3.0, 4.0], x.device()).reshape([1, 1, 2]);
    for stride in [2, 1 << 16, (1 << 16) + 1, 1 << 30] {
        let y = one.conv_transpose1d(&two, None, ConvOptions::default().stride(stride));
        assert_eq!(y.to_vec::<f32>().unwrap(), [6.0, 8.0], "{stride}");
    }
    let wrong = |options: ConvOptions| message(&x.conv_transpose1d(&random(&[4, 2, 3]), None, options));
    assert_eq!(
        wrong(ConvOptions::default().output_padding(1)),
        "conv_transpose1d: output_padding 1 must be less than stride 1 or dilation 1"
    );
    assert_eq!(
        wrong(ConvOptions::default().groups(3)),
        "conv_transpose1d: channels do not fit: input [2, 4, 10] and weight [4, 2, 3] in 3 groups"
    );
    assert_eq!(
        wrong(ConvOptions::default().padding_same()),
        "conv_transpose1d: padding that keeps the length is for convolutions that are not transposed"
    );
}

#[test]
fn conv_transpose2d() {
    let (x, w) = (random(&[1, 3, 6, 5]), random(&[2, 3, 3, 2]));
    let options = || ConvOptions::default().stride([2, 1]).padding([1, 0]);
    let back = options().output_padding([1, 0]);
    adjoint(&x, &w, |x| x.conv2d(&w, None, options()), |y| y.conv_transpose2d(&w, None, back.clone()));
    derivatives("conv_transpose2d", &[&[1, 2, 2, 2], &[2, 1, 2, 3], &[2]], |x| {
        x[0].conv_transpose2d(&x[1], Some(&x[2]), ConvOptions::default().stride(2).padding([1, 0]).groups(2))
    });
    let y = random(&[1, 2, 2, 2]).conv_transpose2d(&random(&[2, 1, 1, 1]), None, ConvOptions::default().padding(1));
    assert_eq!(y.error().unwrap().op(), "conv_transpose2d");
}

#[test]
fn conv_transpose3d() {
    let (x, w) = (random(&[1, 2, 3, 4, 5]), random(&[2, 1, 2, 1, 3]));
    let options = || ConvOptions::default().stride([1, 3, 2]).groups(2);
    adjoint(&x, &w, |x| x.conv3d(&w, None, options()), |y| y.conv_transpose3d(&w, None, options()));
    derivatives("conv_transpose3d", &[&[1, 1, 2, 1, 2], &[1, 2, 1, 2, 2]], |x| {
        x[0].conv_transpose3d(&x[1], None, ConvOptions::default().stride([1, 2, 1]))
    });
    let y = x.conv_transpose3d(&w, Some(&random(&[1])), options());
    assert_eq!(message(&y), "conv_transpose3d: the bias takes [2], got [1]");
}
