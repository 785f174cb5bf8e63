// y[o, i, j] = sum over k of lhs(o, i, k) * rhs(o, k, j), one output an invocation.
// For products too narrow to fill tiles of 8 by 8. Sums in pieces of 64, so that long rows keep
// their digits.

// -- parameters: the host replaces this block --
alias elem = f32;
const BATCH: u32 = 1u;
const M: u32 = 1u;
const N: u32 = 8u;
const WIDTH: u32 = 64u;
fn depth() -> u32 { return 8u; }
fn first_group() -> u32 { return 0u; }
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> w: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
fn lhs(o: u32, i: u32, k: u32) -> f32 { return x[i * 8u + k]; }
fn rhs(o: u32, k: u32, j: u32) -> f32 { return w[k * 8u + j]; }
fn store(o: u32, i: u32, j: u32, value: f32) { y[i * 8u + j] = value; }
// -- end of parameters --

@compute @workgroup_size(WIDTH, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let at = (first_group() + group.x + group.y * 32768u) * WIDTH + local;
    if (at >= BATCH * M * N) {
        return;
    }
    let o = at / (M * N);
    let i = at / N % M;
    let j = at % N;
    var sum = elem();
    let n = depth();
    for (var start = 0u; start < n; start += 64u) {
        var piece = elem();
        let end = min(start + 64u, n);
        for (var k = start; k < end; k++) {
            piece += lhs(o, i, k) * rhs(o, k, j);
        }
        sum += piece;
    }
    store(o, i, j, sum);
}
