// y[o, i, j] = sum over k of lhs(o, i, k) * rhs(o, k, j).
// An invocation keeps a tile of 8 rows and 8 columns in registers and walks along k: 16 loads feed
// 64 multiplications, and no workgroup memory or barrier is needed. On Mesa's lavapipe 25.0.7 this
// is 20 times the textbook shared-memory tile (2026-11); on GPUs whose cache serves the neighbours it
// serves, too.
// The host replaces the parameters: sizes, loaders of four rows and of four columns that give 0 past
// an edge, and stores that ignore what is past one: of four columns of the product and, where wanted,
// of the sums over k of four rows of the left operand or four columns of the right one. `i` and `j` of
// the loaders, the stores' `j` and the sums' `i` count in fours.

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
@group(0) @binding(2) var<storage, read> w: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;
fn lhs_four(o: u32, i: u32, k: u32) -> vec4<f32> { let p = i * 32u + k; return vec4<f32>(x[p], x[p + 8u], x[p + 16u], x[p + 24u]); }
fn rhs_four(o: u32, k: u32, j: u32) -> vec4<f32> { return w[k * 2u + j]; }
fn store_four(o: u32, i: u32, j: u32, value: vec4<f32>) { y[i * 2u + j] = value; }
const SUM_ROWS: bool = false;
const SUM_COLUMNS: bool = false;
fn store_rows(i: u32, sums: vec4<f32>) {}
fn store_columns(j: u32, sums: vec4<f32>) {}
// -- end of parameters --

@compute @workgroup_size(WIDTH, HEIGHT, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let across = (N + WIDTH * 8u - 1u) / (WIDTH * 8u);
    let down = (M + HEIGHT * 8u - 1u) / (HEIGHT * 8u);
    let tile = first_group() + group.x + group.y * 32768u;
    if (tile >= across * down * BATCH) {
        return;
    }
    let o = tile / (across * down);
    let i = (tile / across % down * HEIGHT + local.y) * 2u;
    let j = (tile % across * WIDTH + local.x) * 2u;
    // A workgroup may be wider than what is left; a tile of 8 is guarded by the loaders and the store.
    if (i * 4u >= M || j * 4u >= N) {
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
    var rows_a = vec4<elem>(); var rows_b = vec4<elem>();
    var columns_a = vec4<elem>(); var columns_b = vec4<elem>();
    // A bound that is only known at run time keeps drivers from unrolling (4 s of compiling on lavapipe).
    let n = depth();
    for (var k = 0u; k < n; k++) {
        let left = rhs_four(o, k, j);
        let right = rhs_four(o, k, j + 1u);
        let upper = lhs_four(o, i, k);
        a0 += upper.x * left; b0 += upper.x * right;
        a1 += upper.y * left; b1 += upper.y * right;
        a2 += upper.z * left; b2 += upper.z * right;
        a3 += upper.w * left; b3 += upper.w * right;
        let lower = lhs_four(o, i + 1u, k);
        a4 += lower.x * left; b4 += lower.x * right;
        a5 += lower.y * left; b5 += lower.y * right;
        a6 += lower.z * left; b6 += lower.z * right;
        a7 += lower.w * left; b7 += lower.w * right;
        if (SUM_ROWS) {
            rows_a += upper; rows_b += lower;
        }
        if (SUM_COLUMNS) {
            columns_a += left; columns_b += right;
        }
    }
    if (SUM_ROWS && j == 0u) {
        store_rows(i, rows_a); store_rows(i + 1u, rows_b);
    }
    if (SUM_COLUMNS && i == 0u) {
        store_columns(j, columns_a); store_columns(j + 1u, columns_b);
    }
    // One place that stores, because what is stored may be a long expression, and drivers inline every
    // copy of it; and a switch, because they are slow at compiling arrays (lavapipe 25.0.7: 0.45 s
    // against 0.19 s for the whole kernel, and 1.2 s where a bias is added).
    for (var r = 0u; r < 16u + zero(); r++) {
        var sums = a0;
        switch r {
            case 1u: { sums = b0; }
            case 2u: { sums = a1; }
            case 3u: { sums = b1; }
            case 4u: { sums = a2; }
            case 5u: { sums = b2; }
            case 6u: { sums = a3; }
            case 7u: { sums = b3; }
            case 8u: { sums = a4; }
            case 9u: { sums = b4; }
            case 10u: { sums = a5; }
            case 11u: { sums = b5; }
            case 12u: { sums = a6; }
            case 13u: { sums = b6; }
            case 14u: { sums = a7; }
            case 15u: { sums = b7; }
            default: {}
        }
        store_four(o, i * 4u + r / 2u, j + r % 2u, sums);
    }
}
