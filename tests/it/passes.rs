//! What the compiler's passes make of small graphs, as text. `UPDATE_EXPECT=1` writes what is.

use expect_test::{Expect, expect};
use wgrad::compile::graph::Graph;
use wgrad::compile::plan::{Limits, Plan, Target};
use wgrad::compile::tiles::Tiles;
use wgrad::compile::{compile, schedule::bindings, simplify::simplify};
use wgrad::prelude::*;

fn limits() -> Limits {
    Limits {
        target: Target::Gpu,
        buffers_max: 7,
        binding_bytes_max: 128 << 20,
        buffer_bytes_max: 256 << 20,
        invocations_max: 256,
        workgroup_bytes_max: 16 << 10,
        groups_max: 65_535,
        tiles: Tiles::PORTABLE,
        cooperative: None,
        sort_block: 256,
        template_flops_min: u64::MAX,
        memory_bytes_max: u64::MAX,
    }
}

fn data(dims: &[usize]) -> Tensor {
    let x = Tensor::zeros(dims, &Device::cpu());
    x.realize().unwrap();
    x
}

fn simplified(x: &Tensor, expected: Expect) {
    let (graph, _) = Graph::flatten(std::slice::from_ref(x));
    expected.assert_eq(&simplify(&graph, &limits()).to_string());
}

fn plan(x: &Tensor) -> Plan {
    compile(&Graph::flatten(std::slice::from_ref(x)).0, &limits())
}

fn kernels(x: &Tensor, expected: Expect) {
    let text: String = plan(x).steps.iter().map(|step| step.kernel.to_string()).collect();
    expected.assert_eq(&text);
}

#[test]
fn what_changes_nothing_goes() {
    let x = data(&[2, 3]);
    simplified(
        &(x.detach() * 1.0 - 0.0).reshape([6]).reshape([2, 3]),
        expect![[r#"
        %0 = data 0 : f32 [2, 3]
        return %0
    "#]],
    );
    simplified(
        &x.neg().neg().pow(2.0),
        expect![[r#"
        %0 = data 0 : f32 [2, 3]
        %1 = mul %0 %0 : f32 [2, 3]
        return %1
    "#]],
    );
    simplified(
        &((x.exp() + x.exp()) * (Tensor::full((), 2.0, &Device::cpu()) * 3.0)),
        expect![[r#"
        %0 = data 0 : f32 [2, 3]
        %1 = exp %0 : f32 [2, 3]
        %2 = add %1 %1 : f32 [2, 3]
        %3 = const 6.0 : f32 [2, 3]
        %4 = mul %2 %3 : f32 [2, 3]
        return %4
    "#]],
    );
    simplified(
        &x.ones_like().sum(0),
        expect![[r#"
        %0 = const 2.0 : f32 [3]
        return %0
    "#]],
    );
}

#[test]
fn a_long_sum_is_cut_in_pieces() {
    simplified(
        &data(&[3, 10_001]).sum(1),
        expect![[r#"
        %0 = data 0 : f32 [3, 10001]
        %1 = pad lo=[0, 0] hi=[0, 15] interior=[0, 0] fill=0 %0 : f32 [3, 10016]
        %2 = reshape %1 : f32 [3, 16, 626]
        %3 = sum over [2] %2 : f32 [3, 16]
        %4 = sum over [1] %3 : f32 [3]
        return %4
    "#]],
    );
}

#[test]
fn views_become_index_arithmetic() {
    let x = data(&[2, 3, 4]);
    kernels(
        &(x.transpose(0, 2).reshape([4, 6]).flip(0) + 1.0),
        expect![[r#"
        add: map 24
          b0 reads s0: f32 [24]
          b1 writes s1: f32 [24]
          e0 = b0[-(o)/6 + 12*(o)%2 + 4*((o)/2)%3 + 3] : f32
          e1 = bits 0x3f800000 : f32
          e2 = add e0 e1 : f32
          b1[o] = e2
    "#]],
    );
    kernels(
        &x.pad(&[(1, 0), (0, 2)], 0.0).exp(),
        expect![[r#"
            exp: map 48
              b0 reads s0: f32 [24]
              b1 writes s1: f32 [48]
              e0 = 0 <= ((o)/6)%4 - 1 < 3 : bool
              e1 = 0 <= (o)%6 < 4 : bool
              e2 = bitand e0 e1 : bool
              e3 = b0[12*(o)/24 + (o)%6 + 4*((o)/6)%4 - 4] if e2 : f32
              e4 = exp e3 : f32
              b1[o] = e4
        "#]],
    );
}

#[test]
fn a_softmax_is_two_reductions_and_a_map_over_rows() {
    kernels(
        &data(&[4, 6]).softmax(-1),
        expect![[r#"
        max+exp+sum+div: rows 4 x 6
          b0 reads s0: f32 [24]
          b1 writes s1: f32 [24]
          e0 = b0[6*o + i] : f32
          e1 = r0 : f32
          e2 = sub e0 e1 : f32
          e3 = exp e2 : f32
          e4 = r1 : f32
          e5 = div e3 e4 : f32
          r0 = max e0 in stage 0
          r1 = sum e3 in stage 1
          b1[6*o + i] = e5 each
    "#]],
    );
}

#[test]
fn a_product_takes_views_and_an_epilogue() {
    kernels(
        &(data(&[8, 9]).matmul(&data(&[7, 9]).t()) + data(&[7])).relu(),
        expect![[r#"
            dot+where_: product 1 x [8, 9] x [9, 7]
              b0 writes s2: f32 [56]
              b1 reads s1: f32 [72]
              b2 reads s0: f32 [63]
              e0 = r0 : f32
              e1 = bits 0x0 : f32
              e2 = add e0 e1 : f32
              e3 = le e2 e1 : bool
              e4 = where_ e3 e1 e2 : f32
              e5 = b1[9*i + k] : f32
              e6 = b2[9*j + k] : f32
              r0 = sum over k of e5 * e6
              b0[7*i + j] = e4
        "#]],
    );
}

#[test]
fn memory_is_used_again_when_nothing_reads_it_any_more() {
    let mut x = data(&[16, 16]);
    let w = data(&[16, 16]);
    for _ in 0..4 {
        x = x.matmul(&w);
    }
    expect![[r#"
        s0: f32 [256], 1024 bytes, leaf 0
        s1: f32 [256], 1024 bytes, leaf 1
        s2: f32 [256], 1024 bytes, allocation 0
        s3: f32 [256], 1024 bytes, allocation 1
        s4: f32 [256], 1024 bytes, allocation 0
        s5: f32 [256], 1024 bytes, output
        step 0: dot, 3072 bytes, 8192 flops
        step 1: dot, 3072 bytes, 8192 flops
        step 2: dot, 3072 bytes, 8192 flops
        step 3: dot+reshape, 3072 bytes, 8192 flops
        4 steps, 12288 bytes, 32768 flops, 3072 bytes at the peak
    "#]]
    .assert_eq(&plan(&x).to_string());
}

/// A kernel that writes a piece of a concat binds all of it, in as many windows as that takes.
#[test]
fn the_pieces_of_a_large_concat_leave_room_for_what_they_read() {
    let limits = Limits { binding_bytes_max: 4096, ..limits() };
    let piece = |n: usize| {
        let read: Vec<Tensor> = (0..5).map(|_| data(&[4, 256])).collect();
        read.iter().fold(Tensor::full([4, 256], n as f64, &Device::cpu()), |sum, x| sum + x).sum(0)
    };
    for n in [4, 8, 12] {
        let pieces: Vec<Tensor> = (0..n).map(piece).collect();
        let whole = Tensor::cat(&pieces.iter().collect::<Vec<_>>(), 0);
        for step in compile(&Graph::flatten(&[whole]).0, &limits).steps {
            let bound = bindings(&step.kernel, &limits);
            assert!(bound <= limits.buffers_max, "{bound} bindings of {n} pieces: {}", step.kernel);
        }
    }
}
