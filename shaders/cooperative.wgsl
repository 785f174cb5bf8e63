// y[o, i, j] = sum over k of lhs(o, i, k) * rhs(o, k, j), for GPUs whose subgroups multiply whole matrices.
// A workgroup takes DEPTH steps of k of its rows and columns into workgroup memory, as they lie: side by
// side along k, or along rows or columns. A subgroup then has 2 or 4 fragments of rows multiplied by 2 or
// 4 of columns from there, each SIDE by SIDE, and adds up in f32. The language has no elements of a
// fragment, so what comes out goes through workgroup memory, one fragment of each subgroup at a time.
// LANES are the invocations of the largest subgroup that the device makes: where it makes smaller ones,
// several of them compute the same. Fragments are neither passed to functions nor kept in arrays, which
// not every driver can do.
// The host replaces the parameters; the store is that of matmul.wgsl, loaders give words of PER elements.
enable f16;
enable wgpu_cooperative_matrix;

// -- parameters: the host replaces this block --
alias elem = f16;
alias row_part = coop_mat16x16<f16, A>;
alias column_part = coop_mat16x16<f16, B>;
alias sum_part = coop_mat16x16<f32, C>;
const BATCH: u32 = 1u;
const M: u32 = 64u;
const N: u32 = 64u;
const SIDE: u32 = 16u;
const LANES: u32 = 32u;
const DOWN: u32 = 2u;
const ACROSS: u32 = 2u;
const DEPTH: u32 = 32u;
const PER: u32 = 2u;
const TALL: bool = false;
const WIDE: bool = false;
const LHS_ALONG_K: bool = true;
const RHS_ALONG_K: bool = false;
fn depth() -> u32 { return 64u; }
fn first_group() -> u32 { return 0u; }
fn zero() -> u32 { return 0u; }
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read> w: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
fn lhs_word(o: u32, i: u32, k: u32) -> u32 { return x[i * 32u + k / 2u]; }
fn rhs_word(o: u32, k: u32, j: u32) -> u32 { return w[k * 32u + j / 2u]; }
fn put_row(at: u32, word: u32) {
    let two = vec2<f16>(unpack2x16float(word));
    rows_at[at] = two.x;
    rows_at[at + 1u] = two.y;
}
fn put_column(at: u32, word: u32) {
    let two = vec2<f16>(unpack2x16float(word));
    columns_at[at] = two.x;
    columns_at[at + 1u] = two.y;
}
fn store(o: u32, i: u32, j: u32, r0: f32) { y[i * 64u + j] = r0; }
// -- end of parameters --

// Rows and columns of a workgroup, and invocations.
const ROWS: u32 = DOWN * select(2u, 4u, TALL) * SIDE;
const COLUMNS: u32 = ACROSS * select(2u, 4u, WIDE) * SIDE;
const SIZE: u32 = DOWN * ACROSS * LANES;
// From one line in workgroup memory to the next, 16 bytes more than it has, so that the lines of a
// fragment lie in different banks; and from one fragment to the next.
const ROW_STEP: u32 = 4u * PER + select(ROWS, DEPTH, LHS_ALONG_K);
const COLUMN_STEP: u32 = 4u * PER + select(COLUMNS, DEPTH, RHS_ALONG_K);
const ROW_NEXT: u32 = SIDE * select(1u, ROW_STEP, LHS_ALONG_K);
const COLUMN_NEXT: u32 = SIDE * select(1u, COLUMN_STEP, RHS_ALONG_K);
var<workgroup> rows_at: array<elem, ROW_STEP * select(DEPTH, ROWS, LHS_ALONG_K)>;
var<workgroup> columns_at: array<elem, COLUMN_STEP * select(DEPTH, COLUMNS, RHS_ALONG_K)>;
var<workgroup> sums_at: array<f32, DOWN * ACROSS * SIDE * SIDE>;

// At which step and which of `n` rows or columns word `l` begins: neighbours read neighbours.
fn place(l: u32, n: u32, along_k: bool) -> vec2<u32> {
    if (along_k) {
        return vec2<u32>(l % (DEPTH / PER) * PER, l / (DEPTH / PER));
    }
    return vec2<u32>(l / (n / PER), l % (n / PER) * PER);
}

fn load_row(o: u32, i: u32, start: u32, l: u32) -> u32 {
    let at = place(l, ROWS, LHS_ALONG_K);
    if (start + at.x >= depth()) {
        return 0u;
    }
    return lhs_word(o, i + at.y, start + at.x);
}

fn load_column(o: u32, j: u32, start: u32, l: u32) -> u32 {
    let at = place(l, COLUMNS, RHS_ALONG_K);
    if (start + at.x >= depth()) {
        return 0u;
    }
    return rhs_word(o, start + at.x, j + at.y);
}

fn keep_row(l: u32, word: u32) {
    let at = place(l, ROWS, LHS_ALONG_K);
    put_row(select(at.x * ROW_STEP + at.y, at.y * ROW_STEP + at.x, LHS_ALONG_K), word);
}

fn keep_column(l: u32, word: u32) {
    let at = place(l, COLUMNS, RHS_ALONG_K);
    put_column(select(at.x * COLUMN_STEP + at.y, at.y * COLUMN_STEP + at.x, RHS_ALONG_K), word);
}

@compute @workgroup_size(SIZE, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let across = (N + COLUMNS - 1u) / COLUMNS;
    let down = (M + ROWS - 1u) / ROWS;
    let tile = first_group() + group.x + group.y * 32768u;
    if (tile >= across * down * BATCH) {
        return;
    }
    let o = tile / (across * down);
    let i = tile / across % down * ROWS;
    let j = tile % across * COLUMNS;
    let part = local / LANES;
    let lane = local % LANES;
    let row = part / ACROSS * (ROWS / DOWN);
    let column = part % ACROSS * (COLUMNS / ACROSS);
    let own = part * SIDE * SIDE;
    for (var e = lane; e < SIDE * SIDE; e += LANES) {
        sums_at[own + e] = 0.0;
    }
    workgroupBarrier();
    let nothing = coopLoadT<sum_part>(&sums_at[own], SIDE);
    var c00 = nothing; var c01 = nothing; var c02 = nothing; var c03 = nothing;
    var c10 = nothing; var c11 = nothing; var c12 = nothing; var c13 = nothing;
    var c20 = nothing; var c21 = nothing; var c22 = nothing; var c23 = nothing;
    var c30 = nothing; var c31 = nothing; var c32 = nothing; var c33 = nothing;
    let n = depth();
    for (var start = 0u; start < n; start += DEPTH) {
        workgroupBarrier();
        // Each invocation loads 8 words of each operand, 4 at once.
        for (var l = local; l < 8u * SIZE; l += 4u * SIZE) {
            let row_a = load_row(o, i, start, l);
            let row_b = load_row(o, i, start, l + SIZE);
            let row_c = load_row(o, i, start, l + 2u * SIZE);
            let row_d = load_row(o, i, start, l + 3u * SIZE);
            let column_a = load_column(o, j, start, l);
            let column_b = load_column(o, j, start, l + SIZE);
            let column_c = load_column(o, j, start, l + 2u * SIZE);
            let column_d = load_column(o, j, start, l + 3u * SIZE);
            keep_row(l, row_a);
            keep_row(l + SIZE, row_b);
            keep_row(l + 2u * SIZE, row_c);
            keep_row(l + 3u * SIZE, row_d);
            keep_column(l, column_a);
            keep_column(l + SIZE, column_b);
            keep_column(l + 2u * SIZE, column_c);
            keep_column(l + 3u * SIZE, column_d);
        }
        workgroupBarrier();
        for (var k = 0u; k < DEPTH; k += SIDE) {
            let row_at = select(k * ROW_STEP + row, row * ROW_STEP + k, LHS_ALONG_K);
            let column_at = select(k * COLUMN_STEP + column, column * COLUMN_STEP + k, RHS_ALONG_K);
            var a0: row_part; var b0: column_part;
            var a1: row_part; var b1: column_part;
            var a2: row_part; var b2: column_part;
            var a3: row_part; var b3: column_part;
            if (LHS_ALONG_K) {
                a0 = coopLoadT<row_part>(&rows_at[row_at], ROW_STEP);
                a1 = coopLoadT<row_part>(&rows_at[row_at + ROW_NEXT], ROW_STEP);
                if (TALL) {
                    a2 = coopLoadT<row_part>(&rows_at[row_at + 2u * ROW_NEXT], ROW_STEP);
                    a3 = coopLoadT<row_part>(&rows_at[row_at + 3u * ROW_NEXT], ROW_STEP);
                }
            } else {
                a0 = coopLoad<row_part>(&rows_at[row_at], ROW_STEP);
                a1 = coopLoad<row_part>(&rows_at[row_at + ROW_NEXT], ROW_STEP);
                if (TALL) {
                    a2 = coopLoad<row_part>(&rows_at[row_at + 2u * ROW_NEXT], ROW_STEP);
                    a3 = coopLoad<row_part>(&rows_at[row_at + 3u * ROW_NEXT], ROW_STEP);
                }
            }
            if (RHS_ALONG_K) {
                b0 = coopLoad<column_part>(&columns_at[column_at], COLUMN_STEP);
                b1 = coopLoad<column_part>(&columns_at[column_at + COLUMN_NEXT], COLUMN_STEP);
                if (WIDE) {
                    b2 = coopLoad<column_part>(&columns_at[column_at + 2u * COLUMN_NEXT], COLUMN_STEP);
                    b3 = coopLoad<column_part>(&columns_at[column_at + 3u * COLUMN_NEXT], COLUMN_STEP);
                }
            } else {
                b0 = coopLoadT<column_part>(&columns_at[column_at], COLUMN_STEP);
                b1 = coopLoadT<column_part>(&columns_at[column_at + COLUMN_NEXT], COLUMN_STEP);
                if (WIDE) {
                    b2 = coopLoadT<column_part>(&columns_at[column_at + 2u * COLUMN_NEXT], COLUMN_STEP);
                    b3 = coopLoadT<column_part>(&columns_at[column_at + 3u * COLUMN_NEXT], COLUMN_STEP);
                }
            }
            c00 = coopMultiplyAdd(a0, b0, c00);
            c01 = coopMultiplyAdd(a0, b1, c01);
            c10 = coopMultiplyAdd(a1, b0, c10);
            c11 = coopMultiplyAdd(a1, b1, c11);
            if (WIDE) {
                c02 = coopMultiplyAdd(a0, b2, c02);
                c03 = coopMultiplyAdd(a0, b3, c03);
                c12 = coopMultiplyAdd(a1, b2, c12);
                c13 = coopMultiplyAdd(a1, b3, c13);
            }
            if (TALL) {
                c20 = coopMultiplyAdd(a2, b0, c20);
                c21 = coopMultiplyAdd(a2, b1, c21);
                c30 = coopMultiplyAdd(a3, b0, c30);
                c31 = coopMultiplyAdd(a3, b1, c31);
                if (WIDE) {
                    c22 = coopMultiplyAdd(a2, b2, c22);
                    c23 = coopMultiplyAdd(a2, b3, c23);
                    c32 = coopMultiplyAdd(a3, b2, c32);
                    c33 = coopMultiplyAdd(a3, b3, c33);
                }
            }
        }
    }
    // One place that stores, because what is stored may be a long expression, and drivers inline every
    // copy of it.
    for (var r = 0u; r < 16u + zero(); r++) {
        if ((!TALL && r >= 8u) || (!WIDE && r % 4u >= 2u)) {
            continue;
        }
        var sums = c00;
        switch r {
            case 1u: { sums = c01; }
            case 2u: { sums = c02; }
            case 3u: { sums = c03; }
            case 4u: { sums = c10; }
            case 5u: { sums = c11; }
            case 6u: { sums = c12; }
            case 7u: { sums = c13; }
            case 8u: { sums = c20; }
            case 9u: { sums = c21; }
            case 10u: { sums = c22; }
            case 11u: { sums = c23; }
            case 12u: { sums = c30; }
            case 13u: { sums = c31; }
            case 14u: { sums = c32; }
            case 15u: { sums = c33; }
            default: {}
        }
        workgroupBarrier();
        coopStoreT(sums, &sums_at[own], SIDE);
        workgroupBarrier();
        let top = i + row + r / 4u * SIDE;
        let left = j + column + r % 4u * SIDE;
        for (var e = lane; e < SIDE * SIDE + zero(); e += LANES) {
            store(o, top + e / SIDE, left + e % SIDE, sums_at[own + e]);
        }
    }
}
