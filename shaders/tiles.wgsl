// y[o, i, j] = sum over k of lhs(o, i, k) * rhs(o, k, j), for GPUs whose workgroup memory is fast.
// A workgroup takes DEPTH steps of k of its rows and columns into workgroup memory at once, each
// element only one time; an invocation then multiplies 4 or 8 rows by 4 or 8 columns from there. What
// the next steps need is loaded before the present ones are computed, so that the wait is covered.
// Fours of rows stand where their number and that of the step, exclusive-or, say: neither the writes,
// which may go along k, nor the reads meet in one memory bank.
// The host replaces the parameters; loaders and stores are those of matmul.wgsl.

// -- parameters: the host replaces this block --
alias elem = f32;
const BATCH: u32 = 1u;
const M: u32 = 8u;
const N: u32 = 8u;
const WIDTH: u32 = 8u;
const HEIGHT: u32 = 8u;
const DEPTH: u32 = 8u;
const TALL: bool = true;
const WIDE: bool = true;
const LHS_ALONG_K: bool = true;
const RHS_ALONG_K: bool = false;
fn depth() -> u32 { return 8u; }
fn first_group() -> u32 { return 0u; }
fn zero() -> u32 { return 0u; }
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> w: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;
fn lhs_four(o: u32, i: u32, k: u32) -> vec4<f32> {
    if (i >= 2u) { return vec4<f32>(); }
    let p = i * 32u + k;
    return vec4<f32>(x[p], x[p + 8u], x[p + 16u], x[p + 24u]);
}
fn rhs_four(o: u32, k: u32, j: u32) -> vec4<f32> {
    if (j >= 2u) { return vec4<f32>(); }
    return w[k * 2u + j];
}
fn store_four(o: u32, i: u32, j: u32, value: vec4<f32>) {
    if (i >= 8u || j >= 2u) { return; }
    y[i * 2u + j] = value;
}
const SUM_ROWS: bool = false;
const SUM_COLUMNS: bool = false;
fn store_rows(i: u32, sums: vec4<f32>) {}
fn store_columns(j: u32, sums: vec4<f32>) {}
// -- end of parameters --

// Fours of rows and of columns of a workgroup, and invocations.
const ROWS: u32 = select(1u, 2u, TALL) * HEIGHT;
const COLUMNS: u32 = select(1u, 2u, WIDE) * WIDTH;
const SIZE: u32 = WIDTH * HEIGHT;
var<workgroup> rows_at: array<vec4<elem>, DEPTH * ROWS>;
var<workgroup> columns_at: array<vec4<elem>, DEPTH * COLUMNS>;

// Which step and which four of `n` an invocation loads as its `l`th: neighbours read neighbours.
fn place(l: u32, n: u32, along_k: bool) -> vec2<u32> {
    if (along_k) {
        return vec2<u32>(l % DEPTH, l / DEPTH);
    }
    return vec2<u32>(l / n, l % n);
}

fn load_rows(o: u32, i: u32, start: u32, l: u32) -> vec4<elem> {
    let at = place(l, ROWS, LHS_ALONG_K);
    if (start + at.x >= depth()) {
        return vec4<elem>();
    }
    return lhs_four(o, i + at.y, start + at.x);
}

fn load_columns(o: u32, j: u32, start: u32, l: u32) -> vec4<elem> {
    let at = place(l, COLUMNS, RHS_ALONG_K);
    if (start + at.x >= depth()) {
        return vec4<elem>();
    }
    return rhs_four(o, start + at.x, j + at.y);
}

fn keep_rows(l: u32, value: vec4<elem>) {
    let at = place(l, ROWS, LHS_ALONG_K);
    rows_at[at.x * ROWS + (at.y ^ (at.x & 7u))] = value;
}

fn keep_columns(l: u32, value: vec4<elem>) {
    let at = place(l, COLUMNS, RHS_ALONG_K);
    columns_at[at.x * COLUMNS + (at.y ^ (at.x & 7u))] = value;
}

@compute @workgroup_size(SIZE, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let across = (N + COLUMNS * 4u - 1u) / (COLUMNS * 4u);
    let down = (M + ROWS * 4u - 1u) / (ROWS * 4u);
    let tile = first_group() + group.x + group.y * 32768u;
    if (tile >= across * down * BATCH) {
        return;
    }
    let o = tile / (across * down);
    let i = tile / across % down * ROWS;
    let j = tile % across * COLUMNS;
    let row = local / WIDTH;
    let column = local % WIDTH;
    const MORE_ROWS: bool = DEPTH * ROWS > SIZE;
    const MORE_COLUMNS: bool = DEPTH * COLUMNS > SIZE;
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
    var next_rows_a = load_rows(o, i, 0u, local); var next_rows_b = vec4<elem>();
    var next_columns_a = load_columns(o, j, 0u, local); var next_columns_b = vec4<elem>();
    if (MORE_ROWS) { next_rows_b = load_rows(o, i, 0u, local + SIZE); }
    if (MORE_COLUMNS) { next_columns_b = load_columns(o, j, 0u, local + SIZE); }
    let n = depth();
    for (var start = 0u; start < n; start += DEPTH) {
        workgroupBarrier();
        keep_rows(local, next_rows_a);
        keep_columns(local, next_columns_a);
        if (MORE_ROWS) { keep_rows(local + SIZE, next_rows_b); }
        if (MORE_COLUMNS) { keep_columns(local + SIZE, next_columns_b); }
        workgroupBarrier();
        next_rows_a = load_rows(o, i, start + DEPTH, local);
        next_columns_a = load_columns(o, j, start + DEPTH, local);
        if (MORE_ROWS) { next_rows_b = load_rows(o, i, start + DEPTH, local + SIZE); }
        if (MORE_COLUMNS) { next_columns_b = load_columns(o, j, start + DEPTH, local + SIZE); }
        for (var k = 0u; k < DEPTH; k++) {
            let left = columns_at[k * COLUMNS + (column ^ (k & 7u))];
            let upper = rows_at[k * ROWS + (row ^ (k & 7u))];
            a0 += upper.x * left;
            a1 += upper.y * left;
            a2 += upper.z * left;
            a3 += upper.w * left;
            var right = vec4<elem>();
            var lower = vec4<elem>();
            if (WIDE) {
                right = columns_at[k * COLUMNS + ((column + WIDTH) ^ (k & 7u))];
                b0 += upper.x * right;
                b1 += upper.y * right;
                b2 += upper.z * right;
                b3 += upper.w * right;
            }
            if (TALL) {
                lower = rows_at[k * ROWS + ((row + HEIGHT) ^ (k & 7u))];
                a4 += lower.x * left;
                a5 += lower.y * left;
                a6 += lower.z * left;
                a7 += lower.w * left;
            }
            if (TALL && WIDE) {
                b4 += lower.x * right;
                b5 += lower.y * right;
                b6 += lower.z * right;
                b7 += lower.w * right;
            }
            if (SUM_ROWS) {
                rows_a += upper; rows_b += lower;
            }
            if (SUM_COLUMNS) {
                columns_a += left; columns_b += right;
            }
        }
    }
    if (SUM_ROWS && j + column == 0u) {
        store_rows(i + row, rows_a);
        if (TALL) { store_rows(i + row + HEIGHT, rows_b); }
    }
    if (SUM_COLUMNS && i + row == 0u) {
        store_columns(j + column, columns_a);
        if (WIDE) { store_columns(j + column + WIDTH, columns_b); }
    }
    // One place that stores, because what is stored may be a long expression, and drivers inline every
    // copy of it.
    for (var r = 0u; r < 16u + zero(); r++) {
        if ((!TALL && r >= 8u) || (!WIDE && r % 2u == 1u)) {
            continue;
        }
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
        let four = i + row + r / 8u * HEIGHT;
        store_four(o, 4u * four + r / 2u % 4u, j + column + r % 2u * WIDTH, sums);
    }
}
