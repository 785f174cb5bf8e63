//! First and second derivatives of the composite words against differences, and where they must not
//! be NaN.

use wgrad::prelude::*;

use crate::arrays::{check, cpu, ints};
use crate::support::{Rng, directional_check};

/// One test for each word: the dimensions of its inputs, and a function of them.
macro_rules! smooth {
    ($($word:ident [$($dims:expr),+] $range:expr, $f:expr;)*) => {$(
        #[test]
        fn $word() {
            let mut rng = Rng::new(stringify!($word).len() as u64);
            let inputs = [$(rng.tensor(&$dims, $range)),+];
            directional_check(stringify!($word), $f, &inputs);
        }
    )*};
}

smooth! {
    expand [[2, 1]] -1.0..1.0, |x| x[0].expand([3, -1, 4]).exp();
    tril [[3, 4]] -1.0..1.0, |x| x[0].tril(1).exp();
    triu [[3, 4]] -1.0..1.0, |x| x[0].triu(1).exp();
    diag [[3]] -1.0..1.0, |x| x[0].diag(1).exp();
    diag_of_a_matrix [[3, 4]] -1.0..1.0, |x| x[0].diag(-1).exp();
    unfold [[2, 7]] -1.0..1.0, |x| x[0].unfold(1, 3, 2).exp();
    slice [[4, 5]] -1.0..1.0, |x| x[0].slice((1..3, -2)).exp();
    slice_axis [[7]] -1.0..1.0, |x| x[0].slice_axis(0, .., -2).exp();
    narrow_at [[7]] -1.0..1.0, |x| x[0].narrow_at(0, &Tensor::input(9, &cpu()), 3).exp();
    update_at [[3, 5], [3, 2]] -1.0..1.0, |x| x[0].update_at(1, &Tensor::input(2, &cpu()), &x[1]).exp();
    pad_constant [[2, 3]] -1.0..1.0, |x| x[0].pad(&[(1, 0), (2, 1)], 0.5).exp();
    pad_reflect [[4, 3]] -1.0..1.0, |x| x[0].pad(&[(3, 1), (1, 2)], PadMode::Reflect).exp();
    pad_replicate [[2, 3]] -1.0..1.0, |x| x[0].pad(&[(2, 0), (1, 2)], PadMode::Replicate).exp();
    cat [[2, 3], [2, 1]] -1.0..1.0, |x| Tensor::cat(&[&x[0], &x[1], &x[0]], 1).exp();
    stack [[2, 3], [2, 3]] -1.0..1.0, |x| Tensor::stack(x, 1).exp();
    repeat [[2, 3]] -1.0..1.0, |x| x[0].repeat(3, 1).exp();
    tile [[2, 3]] -1.0..1.0, |x| x[0].tile([2, 2, 2]).exp();
    roll [[4, 3]] -1.0..1.0, |x| x[0].roll([1, -1], ..).exp();
    sum [[2, 3, 2]] -1.0..1.0, |x| x[0].sum([0, 2]).exp();
    prod [[2, 3]] 0.5..1.5, |x| x[0].prod(1);
    mean [[2, 3]] -1.0..1.0, |x| x[0].mean(keepdim(0)).exp();
    max [[2, 5]] -1.0..1.0, |x| x[0].max(1).exp();
    var [[2, 5]] -1.0..1.0, |x| x[0].var(1).exp();
    std [[2, 5]] -1.0..1.0, |x| x[0].std(1).exp();
    norm_1 [[2, 5]] 0.1..1.0, |x| x[0].norm(1, 1.0).exp();
    norm_2 [[2, 5]] -1.0..1.0, |x| x[0].norm(1, 2.0).exp();
    norm_3 [[2, 5]] 0.1..1.0, |x| x[0].norm(.., 3.0).exp();
    norm_inf [[2, 5]] 0.1..1.0, |x| x[0].norm(0, f64::INFINITY).exp();
    logsumexp [[2, 5]] -2.0..2.0, |x| x[0].logsumexp(1).exp();
    cumsum [[2, 5]] -1.0..1.0, |x| x[0].cumsum(1).exp();
    cumprod [[2, 5]] 0.5..1.5, |x| x[0].cumprod(1);
    cummax [[2, 5]] -1.0..1.0, |x| x[0].cummax(1).0.exp();
    gather [[3, 4]] -1.0..1.0, |x| x[0].gather(1, &ints(&[3, 3, 1, 0], &[2, 2])).exp();
    scatter [[3, 4], [2, 3]] -1.0..1.0, |x| x[0].scatter(1, &ints(&[3, 1, 0, 2], &[2, 2]), &x[1]).exp();
    scatter_add [[3, 4], [2, 3]] -1.0..1.0, |x| x[0].scatter_add(1, &ints(&[3, 3, 0, 0], &[2, 2]), &x[1]).exp();
    take [[3, 4]] -1.0..1.0, |x| x[0].take(&ints(&[1, 1, 3, 0], &[2, 2]), 1).exp();
    embedding [[5, 2]] -1.0..1.0, |x| x[0].embedding(&ints(&[4, 0, 4], &[3])).exp();
    masked_fill [[2, 3], []] -1.0..1.0, |x| x[0].masked_fill(&Tensor::new([true, false, true], &cpu()), &x[1]).exp();
    sort [[2, 5]] -1.0..1.0, |x| x[0].sort(1, true).0.exp();
    topk [[2, 5]] -1.0..1.0, |x| x[0].topk(2, 1).0.exp();
    erfinv [[6]] -0.9..0.9, |x| x[0].erfinv();
}

fn slope(x: Tensor, f: impl Fn(&Tensor) -> Tensor) -> Tensor {
    let x = x.tracked();
    f(&x).sum(..).grad(&[&x]).remove(0)
}

#[test]
fn slopes_are_finite_where_a_formula_is_not() {
    check(&slope(Tensor::zeros([3], &cpu()), |x| x.norm(0, 2.0)), &[3], |_| 0.0);
    check(&slope(Tensor::new([3.0, 4.0], &cpu()), |x| x.norm(0, 2.0)), &[2], |i| [0.6, 0.8][i[0]]);
    check(&slope(Tensor::zeros([3], &cpu()), |x| x.norm(0, 3.0)), &[3], |_| 0.0);
    check(&slope(Tensor::new([0.0, 4.0], &cpu()), |x| x.norm(0, 0.5)), &[2], |i| [0.0, 1.0][i[0]]);
    let alike = Tensor::full([4], 3.0, &cpu());
    check(&alike.std(0), &[], |_| 0.0);
    check(&slope(alike.clone(), |x| x.std(0)), &[4], |_| 0.0);
    check(&slope(alike, |x| x.std_with(0, 0.0)), &[4], |_| 0.0);
    let (x, side) = (Tensor::new([[2.0, 2.0], [1.0, 3.0]], &cpu()), std::f64::consts::FRAC_1_SQRT_2);
    check(&slope(x, |x| x.std(1)), &[2, 2], |i| [[0.0, 0.0], [-side, side]][i[0]][i[1]]);
    let low = f64::NEG_INFINITY;
    let x = Tensor::new([[low, low], [low, 1.0], [900.0, 900.0]], &cpu());
    check(&slope(x, |x| x.logsumexp(1).maximum(-9.0)), &[3, 2], |i| [[0.0, 0.0], [0.0, 1.0], [0.5, 0.5]][i[0]][i[1]]);
    let x = Tensor::new([[low, low], [low, 1.0]], &cpu());
    check(&slope(x, |x| x.logsumexp(1)), &[2, 2], |i| [[0.0, 0.0], [0.0, 1.0]][i[0]][i[1]]);
    check(&slope(Tensor::zeros([1], &cpu()), |x| x.erfinv()), &[1], |_| std::f64::consts::PI.sqrt() / 2.0);
}

#[test]
fn equal_extremes_share_the_gradient() {
    let x = || Tensor::new([[2.0, 5.0, 5.0], [1.0, 1.0, 1.0]], &cpu());
    check(&slope(x(), |x| x.max(1)), &[2, 3], |i| [[0.0, 0.5, 0.5], [1.0 / 3.0; 3]][i[0]][i[1]]);
    check(&slope(x(), |x| x.min(..)), &[2, 3], |i| [[0.0; 3], [1.0 / 3.0; 3]][i[0]][i[1]]);
}
