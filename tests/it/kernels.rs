//! How many kernels the words of a training step take: counts worth defending.

use wgrad::prelude::*;

use crate::devices::{devices, is_cpu};

fn data(dims: &[usize]) -> Tensor {
    let n: usize = dims.iter().product();
    let x = Tensor::arange(0.0, n as f64, 1.0, &Device::cpu()).reshape(dims).sin();
    x.realize().unwrap();
    x
}

#[track_caller]
fn kernels(roots: &[&Tensor], at_most: usize) {
    let explanation = wgrad::explain(roots.iter().copied()).unwrap();
    assert!(explanation.kernels() <= at_most, "{} kernels, not {at_most}:\n{explanation}", explanation.kernels());
}

#[test]
fn a_chain_of_maps_is_one_kernel() {
    let x = data(&[8, 16]);
    let y = ((((x.sin() + 1.0) * 2.0).exp() - 3.0).abs().sqrt() * 0.5 + 1.0).ln().tanh();
    kernels(&[&y], 1);
}

#[test]
fn a_softmax_is_one_kernel() {
    let x = data(&[8, 16]);
    kernels(&[&x.softmax(-1)], 1);
    kernels(&[&x.log_softmax(-1)], 1);
    kernels(&[&x.softmax(0)], 1);
    kernels(&[&data(&[2, 3, 4, 5]).softmax(1)], 1);
}

/// A real GPU takes two more for few long lines: `lines.rs`.
#[test]
fn a_scan_is_one_kernel() {
    kernels(&[&data(&[8, 16]).exp().cumsum(1)], 1);
    kernels(&[&data(&[5000]).exp().cumsum(0)], 1);
}

#[test]
fn norms_are_one_kernel() {
    let x = data(&[8, 16]);
    let (w, b) = (data(&[16]), data(&[16]));
    kernels(&[&x.layer_norm(1, Some(&w), Some(&b), 1e-5)], 1);
    kernels(&[&x.rms_norm(1, Some(&w), 1e-5)], 1);
    kernels(&[&data(&[2, 4, 3, 3]).group_norm(2, None, None, 1e-5)], 1);
}

#[test]
fn a_layer_norm_with_its_input_gradient_is_one_kernel() {
    let x = data(&[8, 16]).tracked();
    let y = x.layer_norm(1, Some(&data(&[16])), Some(&data(&[16])), 1e-5);
    let dx = &y.vjp(&data(&[8, 16]), &[&x])[0];
    kernels(&[&y, dx], 1);
}

#[test]
fn cross_entropy_with_its_gradient_is_two_kernels() {
    let x = data(&[8, 10]).tracked();
    let ids = Tensor::new([1, 2, 3, 0, 9, 8, 7, 7], &Device::cpu());
    let loss = x.cross_entropy(&ids);
    let dx = &loss.grad(&[&x])[0];
    kernels(&[&loss, dx], 2);
    let probabilities = data(&[8, 10]).softmax(-1);
    probabilities.realize().unwrap();
    let loss = x.cross_entropy(&probabilities);
    let dx = &loss.grad(&[&x])[0];
    kernels(&[&loss, dx], 2);
}

#[test]
fn bias_and_activation_run_inside_the_product() {
    let (x, w, b) = (data(&[8, 16]), data(&[16, 12]), data(&[12]));
    kernels(&[&(x.matmul(&w) + &b).gelu()], 1);
    kernels(&[&x.matmul(&data(&[12, 16]).t())], 1);
    let image = data(&[2, 3, 6, 6]);
    kernels(&[&image.conv2d(&data(&[4, 3, 3, 3]), Some(&data(&[4])), ConvOptions::default()).relu()], 1);
}

#[test]
fn the_transpose_of_a_product_is_a_product() {
    let (x, w) = (data(&[8, 16]), data(&[16, 12]));
    let (y, turned) = (x.matmul(&w), x.matmul(&w).transpose(0, 1));
    kernels(&[&turned], 1);
    y.realize().unwrap();
    // The same sums in the same order.
    assert_eq!(turned.to_vec::<f32>().unwrap(), y.transpose(0, 1).to_vec::<f32>().unwrap());
    // Where both are wanted, the product is computed once.
    let y = x.matmul(&w);
    kernels(&[&y, &y.transpose(0, 1)], 2);
}

/// On a GPU the sums come with the product, whichever operand they are of and whatever its edges.
#[test]
fn sums_of_operands_come_with_their_product() {
    for device in devices() {
        for [m, n, k] in [[8, 8, 8], [9, 7, 10], [12, 6, 130], [6, 13, 5], [33, 20, 16], [64, 72, 300]] {
            let [lhs, rhs] = [[m, k], [k, n]].map(|dims| data(&dims).to_device(&device));
            let roots = [lhs.matmul(&rhs), lhs.sum(1), rhs.sum(0)];
            let kernels = wgrad::explain(&roots).unwrap().kernels();
            // Longer sums are added up in two steps.
            assert!(is_cpu(&device) || k > 256 || kernels == 1, "{kernels} kernels on {device}");
            wgrad::realize(&roots).unwrap();
            let [y, rows, columns] = roots.map(|x| x.to_vec::<f32>().unwrap());
            let [lhs, rhs] = [lhs, rhs].map(|x| x.to_vec::<f32>().unwrap());
            let (l, r) =
                (|i: usize, p: usize| f64::from(lhs[i * k + p]), |p: usize, j: usize| f64::from(rhs[p * n + j]));
            let close = |got: f32, want: f64, what: &str| {
                assert!((f64::from(got) - want).abs() < 1e-4, "{what} of {m} {n} {k} on {device}: {got}, not {want}");
            };
            (0..m).for_each(|i| close(rows[i], (0..k).map(|p| l(i, p)).sum(), "rows"));
            (0..n).for_each(|j| close(columns[j], (0..k).map(|p| r(p, j)).sum(), "columns"));
            let sum = |at: usize| (0..k).map(|p| l(at / n, p) * r(p, at % n)).sum();
            (0..m * n).for_each(|at| close(y[at], sum(at), "product"));
        }
    }
}

#[test]
fn mean_and_variance_of_the_same_rows_are_one_kernel() {
    let x = data(&[8, 16]);
    kernels(&[&x.mean(-1), &x.var(-1)], 1);
}

#[test]
fn an_optimizer_over_a_slab_is_one_kernel() {
    let (p, g, m, v) = (data(&[1000]), data(&[1000]), data(&[1000]), data(&[1000]));
    let rate = Tensor::input(1e-3, &Device::cpu());
    let m1 = &m * 0.9 + &g * 0.1;
    let v1 = &v * 0.999 + &g * &g * 0.001;
    let p1 = &p * (1.0 - &rate * 0.01) - &rate * &m1 / (v1.sqrt() + 1e-8);
    kernels(&[&p1, &m1, &v1], 1);
}

/// One training step of an MLP 784-512-256-10 with AdamW on separate weights: forward, backward
/// and update.
#[test]
fn an_mlp_step_takes_few_kernels() {
    let x = data(&[32, 784]);
    let ids = Tensor::arange(0, 32, 1, &Device::cpu()) % 10;
    ids.realize().unwrap();
    let sizes = [784, 512, 256, 10];
    let weights: Vec<Tensor> =
        sizes.windows(2).flat_map(|s| [data(&[s[0], s[1]]).tracked(), data(&[s[1]]).tracked()]).collect();
    let h = (x.matmul(&weights[0]) + &weights[1]).relu();
    let h = (h.matmul(&weights[2]) + &weights[3]).relu();
    let loss = (h.matmul(&weights[4]) + &weights[5]).cross_entropy(&ids);
    let grads = loss.grad(&weights.iter().collect::<Vec<_>>());
    let roots: Vec<&Tensor> = std::iter::once(&loss).chain(&grads).collect();
    // 3 products forward, 5 backward, 3 bias gradients, cross entropy and its mean.
    kernels(&roots, 13);
}

/// The same step over slabs: weights are slices of one tensor, gradients are put together in another.
#[test]
fn a_concat_of_what_is_stored_anyway_costs_nothing() {
    let x = data(&[32, 784]);
    let ids = Tensor::arange(0, 32, 1, &Device::cpu()) % 10;
    ids.realize().unwrap();
    let shapes: [&[usize]; 6] = [&[784, 512], &[512], &[512, 256], &[256], &[256, 10], &[10]];
    let total = shapes.iter().map(|dims| dims.iter().product::<usize>()).sum();
    let [slab, m, v] = [0; 3].map(|_| data(&[total]).tracked());
    let mut start = 0;
    let weights = shapes.map(|dims| {
        let n: usize = dims.iter().product();
        start += n;
        slab.slice_axis(0, start - n..start, 1).reshape(dims)
    });
    let h = (x.matmul(&weights[0]) + &weights[1]).relu();
    let h = (h.matmul(&weights[2]) + &weights[3]).relu();
    let loss = (h.matmul(&weights[4]) + &weights[5]).cross_entropy(&ids);
    let grads = loss.grad(&weights.iter().collect::<Vec<_>>());
    let flat: Vec<Tensor> = grads.iter().map(|g| g.reshape(-1)).collect();
    let g = Tensor::cat(&flat.iter().collect::<Vec<_>>(), 0);
    let g = &g * (&g * &g).sum(..).rsqrt().minimum(1.0);
    let rate = Tensor::input(1e-3, &Device::cpu());
    let m = m * 0.9 + &g * 0.1;
    let v = v * 0.999 + &g * &g * 0.001;
    let slab = &slab * (1.0 - &rate * 0.01) - &rate * &m / (v.sqrt() + 1e-8);
    // As above, two for the norm, one for the update.
    kernels(&[&loss, &slab, &m, &v], 16);
}

#[test]
fn a_gpt_block_takes_few_kernels() {
    let (b, t, c, heads) = (2, 8, 16, 4);
    let x = data(&[b, t, c]).tracked();
    let [g1, b1, g2, b2] = [0; 4].map(|_| data(&[c]).tracked());
    let [qkv, out] = [data(&[c, 3 * c]).tracked(), data(&[c, c]).tracked()];
    let [up, down] = [data(&[c, 4 * c]).tracked(), data(&[4 * c, c]).tracked()];
    let block = |x: &Tensor| {
        let h = x.layer_norm(-1, Some(&g1), Some(&b1), 1e-5).matmul(&qkv);
        let parts = h.split([c, c, c], -1);
        let [q, k, v] = parts.map(|p| p.reshape([b, t, heads, c / heads]).transpose(1, 2));
        let a = q.scaled_dot_product_attention(&k, &v, AttentionOptions::default().causal());
        let x = x + a.transpose(1, 2).reshape([b, t, c]).matmul(&out);
        let h = x.layer_norm(-1, Some(&g2), Some(&b2), 1e-5).matmul(&up).gelu();
        &x + h.matmul(&down)
    };
    let y = block(&x);
    // Two norms, six products, one softmax.
    kernels(&[&y], 9);
    let weights = [&g1, &b1, &g2, &b2, &qkv, &out, &up, &down, &x];
    let grads = y.vjp(&data(&[b, t, c]), &weights);
    let roots: Vec<&Tensor> = std::iter::once(&y).chain(&grads).collect();
    kernels(&roots, 9 + 22);
}
