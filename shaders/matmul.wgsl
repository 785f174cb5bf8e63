// y[o, i, j] = sum over k of lhs(o, i, k) * rhs(o, k, j).
// An invocation keeps a tile of 8 rows and 8 columns in registers and walks along k: 16 loads feed
// 64 multiplications, and no workgroup memory or barrier is needed. On Mesa's lavapipe 25.0.7 this
// is 20 times the textbook shared-memory tile (2026-11); on GPUs the cache serves the neighbours.
// The host replaces the parameters: sizes, loaders that give 0 past an edge, and a store that
// ignores what is past one.

// -- parameters: the host replaces this block --
alias elem = f32;
const BATCH: u32 = 1u;
const M: u32 = 8u;
const N: u32 = 8u;
const WIDTH: u32 = 8u;
const HEIGHT: u32 = 1u;
fn depth() -> u32 { return 8u; }
fn first_group() -> u32 { return 0u; }
fn zero() -> u32 { return 0u; }
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> w: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
fn lhs(o: u32, i: u32, k: u32) -> f32 { return x[i * 8u + k]; }
fn rhs4(o: u32, k: u32, j: u32) -> vec4<f32> { let p = k * 8u + j; return vec4<f32>(w[p], w[p + 1u], w[p + 2u], w[p + 3u]); }
fn store(o: u32, i: u32, j: u32, value: f32) { y[i * 8u + j] = value; }
// -- end of parameters --

@compute @workgroup_size(WIDTH, HEIGHT, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let across = (N + WIDTH * 8u - 1u) / (WIDTH * 8u);
    let down = (M + HEIGHT * 8u - 1u) / (HEIGHT * 8u);
    let tile = first_group() + group.x + group.y * 65535u;
    if (tile >= across * down * BATCH) {
        return;
    }
    let o = tile / (across * down);
    let i = (tile / across % down * HEIGHT + local.y) * 8u;
    let j = (tile % across * WIDTH + local.x) * 8u;
    // A workgroup may be wider than what is left; a tile of 8 is guarded by the store.
    if (i >= M || j >= N) {
        return;
    }
    var a0 = vec4<elem>(); var b0 = vec4<elem>();
    var a1 = vec4<elem>(); var b1 = vec4<elem>();
    var a2 = vec4<elem>(); var b2 = vec4<elem>();
    var a3 = vec4<elem>(); var b3 = vec4<elem>();
    var a4 = vec4<elem>(); var b4 = vec4<elem>();
    var a5 = vec4<elem>(); var b5 = vec4<elem>();
    var a6 = vec4<elem>(); var b6 = vec4<elem>();
    var a7 = vec4<elem>(); var b7 = vec4<elem>();
    // A bound that is only known at run time keeps drivers from unrolling (4 s of compiling on lavapipe).
    let n = depth();
    for (var k = 0u; k < n; k++) {
        let left = rhs4(o, k, j);
        let right = rhs4(o, k, j + 4u);
        let x0 = lhs(o, i, k);
        a0 += x0 * left; b0 += x0 * right;
        let x1 = lhs(o, i + 1u, k);
        a1 += x1 * left; b1 += x1 * right;
        let x2 = lhs(o, i + 2u, k);
        a2 += x2 * left; b2 += x2 * right;
        let x3 = lhs(o, i + 3u, k);
        a3 += x3 * left; b3 += x3 * right;
        let x4 = lhs(o, i + 4u, k);
        a4 += x4 * left; b4 += x4 * right;
        let x5 = lhs(o, i + 5u, k);
        a5 += x5 * left; b5 += x5 * right;
        let x6 = lhs(o, i + 6u, k);
        a6 += x6 * left; b6 += x6 * right;
        let x7 = lhs(o, i + 7u, k);
        a7 += x7 * left; b7 += x7 * right;
    }
    // In a loop, because what is stored may be a long expression, and drivers inline every copy of it.
    var sums = array<vec4<elem>, 16>(a0, b0, a1, b1, a2, b2, a3, b3, a4, b4, a5, b5, a6, b6, a7, b7);
    for (var r = 0u; r < 64u + zero(); r++) {
        store(o, i + r / 8u, j + r % 8u, sums[r / 4u][r % 4u]);
    }
}
