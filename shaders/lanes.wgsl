// y[o, i, j] = sum over k of lhs(o, i, k) * rhs(o, k, j).
// Where a processor stands in for a GPU, a subgroup is a vector of its, and a load inside a loop is
// done lane by lane, also where all lanes load the same element. So each lane of a subgroup loads the
// rows of another step of the contraction, and the subgroup passes them around: of what 64
// multiplications need, an invocation loads 6 elements and not 16 as in matmul.wgsl. On Mesa's
// lavapipe 25.0.7 that takes 0.6 of the time (2026-11).
// A workgroup is one subgroup, WIDTH invocations; each keeps 16 rows and 4 columns in registers.
// The host replaces the parameters, which are those of matmul.wgsl; what lies past an edge is asked
// for here, because all lanes are needed to the end.

// -- parameters: the host replaces this block --
alias elem = f32;
const BATCH: u32 = 1u;
const M: u32 = 16u;
const N: u32 = 32u;
const WIDTH: u32 = 8u;
fn depth() -> u32 { return 8u; }
fn first_group() -> u32 { return 0u; }
fn zero() -> u32 { return 0u; }
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> w: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;
fn lhs_four(o: u32, i: u32, k: u32) -> vec4<f32> { let p = i * 32u + k; return vec4<f32>(x[p], x[p + 8u], x[p + 16u], x[p + 24u]); }
fn rhs_four(o: u32, k: u32, j: u32) -> vec4<f32> { return w[k * 8u + j]; }
fn store_four(o: u32, i: u32, j: u32, value: vec4<f32>) { y[i * 8u + j] = value; }
const SUM_ROWS: bool = false;
const SUM_COLUMNS: bool = false;
fn store_rows(i: u32, sums: vec4<f32>) {}
fn store_columns(j: u32, sums: vec4<f32>) {}
// -- end of parameters --

// The sum over all lanes.
fn gathered(each: vec4<elem>) -> vec4<elem> {
    var sum = vec4<elem>();
    for (var lane = 0u; lane < WIDTH + zero(); lane++) {
        sum += subgroupShuffle(each, lane);
    }
    return sum;
}

@compute @workgroup_size(WIDTH, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let across = (N + WIDTH * 4u - 1u) / (WIDTH * 4u);
    let down = (M + 15u) / 16u;
    let tile = first_group() + group.x + group.y * 32768u;
    if (tile >= across * down * BATCH) {
        return;
    }
    let o = tile / (across * down);
    let i = tile / across % down * 4u;
    let j = tile % across * WIDTH + local.x;
    var s0 = vec4<elem>(); var s1 = vec4<elem>(); var s2 = vec4<elem>(); var s3 = vec4<elem>();
    var s4 = vec4<elem>(); var s5 = vec4<elem>(); var s6 = vec4<elem>(); var s7 = vec4<elem>();
    var s8 = vec4<elem>(); var s9 = vec4<elem>(); var s10 = vec4<elem>(); var s11 = vec4<elem>();
    var s12 = vec4<elem>(); var s13 = vec4<elem>(); var s14 = vec4<elem>(); var s15 = vec4<elem>();
    var rows_a = vec4<elem>(); var rows_b = vec4<elem>(); var rows_c = vec4<elem>(); var rows_d = vec4<elem>();
    var columns = vec4<elem>();
    // A bound that is only known at run time keeps drivers from unrolling.
    let n = depth();
    for (var first = 0u; first < n; first += WIDTH) {
        // Past the end a lane loads what nobody asks it for.
        let mine = min(first + local.x, n - 1u);
        // In a loop, because the text of a load is long, and drivers inline every copy of it.
        var a = vec4<elem>(); var b = vec4<elem>(); var c = vec4<elem>(); var d = vec4<elem>();
        for (var r = 0u; r < 4u + zero(); r++) {
            a = b; b = c; c = d;
            d = lhs_four(o, i + r, mine);
        }
        if (SUM_ROWS && first + local.x < n) {
            rows_a += a; rows_b += b; rows_c += c; rows_d += d;
        }
        let end = min(first + WIDTH, n);
        for (var k = first; k < end; k++) {
            let right = rhs_four(o, k, j);
            let step = k - first;
            let p = subgroupShuffle(a, step);
            s0 += p.x * right; s1 += p.y * right; s2 += p.z * right; s3 += p.w * right;
            let q = subgroupShuffle(b, step);
            s4 += q.x * right; s5 += q.y * right; s6 += q.z * right; s7 += q.w * right;
            let r = subgroupShuffle(c, step);
            s8 += r.x * right; s9 += r.y * right; s10 += r.z * right; s11 += r.w * right;
            let t = subgroupShuffle(d, step);
            s12 += t.x * right; s13 += t.y * right; s14 += t.z * right; s15 += t.w * right;
            if (SUM_COLUMNS) {
                columns += right;
            }
        }
    }
    if (SUM_ROWS && tile % across == 0u) {
        for (var r = 0u; r < 4u + zero(); r++) {
            let all = gathered(rows_a);
            rows_a = rows_b; rows_b = rows_c; rows_c = rows_d;
            if (local.x == 0u) { store_rows(i + r, all); }
        }
    }
    if (SUM_COLUMNS && i == 0u) {
        store_columns(j, columns);
    }
    // One place that stores, and a switch, for the reasons of matmul.wgsl.
    for (var r = 0u; r < 16u + zero(); r++) {
        var sums = s0;
        switch r {
            case 1u: { sums = s1; }
            case 2u: { sums = s2; }
            case 3u: { sums = s3; }
            case 4u: { sums = s4; }
            case 5u: { sums = s5; }
            case 6u: { sums = s6; }
            case 7u: { sums = s7; }
            case 8u: { sums = s8; }
            case 9u: { sums = s9; }
            case 10u: { sums = s10; }
            case 11u: { sums = s11; }
            case 12u: { sums = s12; }
            case 13u: { sums = s13; }
            case 14u: { sums = s14; }
            case 15u: { sums = s15; }
            default: {}
        }
        store_four(o, i * 4u + r, j, sums);
    }
}
