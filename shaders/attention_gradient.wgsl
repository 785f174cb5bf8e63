// What flows back through attention: to the queries, or, with BY_KEYS, to keys and values.
// Weights are computed again from scores and `norms`, which is cheaper than to keep them; with
// d = dy vᵀ and `deltas`, the sum of dy y over each row, what flows to the scores is p (d - delta), and from
// there to queries and keys. Each workgroup owns 64 rows, of queries or of keys, and walks along the others, 32
// at a time, so nothing is added up by several and no atomics are needed; that the scores are computed in both
// passes is the price. Tiles, registers and PIECES are as in `attention.wgsl`.
// The host replaces the parameters. Rows of queries are q and dy side by side, rows of keys k and v; E and F,
// the columns of the two, count in fours. `by_e` has what flows to the own rows' first part and `by_f`, only
// with BY_KEYS, to their second.

// -- parameters: the host replaces this block --
const BY_KEYS: bool = true;
const OUTER: u32 = 1u;
const GROUP: u32 = 2u;
const QUERIES: u32 = 70u;
const KEYS: u32 = 40u;
const E: u32 = 2u;
const F: u32 = 9u;
const PIECES: u32 = 1u;
const SCALE: f32 = 0.25f;
const CAUSAL: bool = true;
const MASKED: bool = true;
const HEADS: u32 = 2u;
const MASK_BATCH: u32 = 0u;
const MASK_HEAD: u32 = 0u;
const MASK_QUERY: u32 = 40u;
const MASK_KEY: u32 = 1u;
fn first_group() -> u32 { return 0u; }
fn zero() -> u32 { return 0u; }
// -- end of parameters --

const ROWS: u32 = select(QUERIES, KEYS, BY_KEYS);
const OTHERS: u32 = select(KEYS, QUERIES, BY_KEYS);

@group(0) @binding(1) var<storage, read> own: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> other: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> mask: array<u32>;
@group(0) @binding(4) var<storage, read> norms: array<f32>;
@group(0) @binding(5) var<storage, read> deltas: array<f32>;
@group(0) @binding(6) var<storage, read_write> by_e: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> by_f: array<vec4<f32>>;

// Own rows, then weights: 64 rows. Other rows: 32.
var<workgroup> a: array<vec4<f32>, 576>;
var<workgroup> b: array<vec4<f32>, 288>;

// s + x z; explicit, because drivers multiply matrices without fusing the last addition.
fn plus(s: mat4x4<f32>, x: mat4x4<f32>, z: mat4x4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(
        s[0] + z[0].x * x[0] + z[0].y * x[1] + z[0].z * x[2] + z[0].w * x[3],
        s[1] + z[1].x * x[0] + z[1].y * x[1] + z[1].z * x[2] + z[1].w * x[3],
        s[2] + z[2].x * x[0] + z[2].y * x[1] + z[2].z * x[2] + z[2].w * x[3],
        s[3] + z[3].x * x[0] + z[3].y * x[1] + z[3].z * x[2] + z[3].w * x[3],
    );
}

// Four of `a` below each other, and four of `b` that lie 8 rows apart.
fn left(row: u32, column: u32) -> mat4x4<f32> {
    let p = row * 9u + column;
    return mat4x4<f32>(a[p], a[p + 9u], a[p + 18u], a[p + 27u]);
}

fn right(row: u32, column: u32) -> mat4x4<f32> {
    let p = row * 9u + column;
    return mat4x4<f32>(b[p], b[p + 72u], b[p + 144u], b[p + 216u]);
}

// Which head's rows are computed, which head's rows are walked along, and whose scores they make.
struct Place { own: u32, other: u32, head: u32, i: u32, j: u32, across: u32, below: u32, lane: u32 }

// Columns `c` up to `c + width` of the other rows into `b`, zeros past an edge.
fn fetch(at: Place, c: u32, width: u32) {
    for (var t = at.lane; t < 256u + zero(); t += 128u) {
        let row = at.j + t / 8u;
        let column = t % 8u;
        var four = vec4<f32>();
        if (row < OTHERS && column < width) { four = other[(at.other * OTHERS + row) * (E + F) + c + column]; }
        b[t / 8u * 9u + column] = four;
    }
}

// Products of 4 own rows and 4 others over the columns `start` up to `end`.
fn products(at: Place, start: u32, end: u32) -> mat4x4<f32> {
    var s = mat4x4<f32>();
    for (var c = start; c < end + zero(); c += 8u) {
        let width = min(8u, end - c);
        workgroupBarrier();
        for (var t = at.lane; t < 512u + zero(); t += 128u) {
            let row = at.i + t / 8u;
            let column = t % 8u;
            var four = vec4<f32>();
            if (row < ROWS && column < width) { four = own[(at.own * ROWS + row) * (E + F) + c + column]; }
            a[t / 8u * 9u + column] = four;
        }
        fetch(at, c, width);
        workgroupBarrier();
        for (var x = 0u; x < width + zero(); x++) {
            s = plus(s, transpose(right(at.across, x)), left(at.below * 4u, x));
        }
    }
    return s;
}

// s and what is in `a` times 32 columns of the other rows, `c` on and before `end`.
fn gathered(s: mat4x4<f32>, at: Place, c: u32, end: u32) -> mat4x4<f32> {
    workgroupBarrier();
    fetch(at, c, min(8u, end - c));
    workgroupBarrier();
    var sum = s;
    for (var x = 0u; x < 8u + zero(); x++) {
        sum = plus(sum, right(x, at.across), left(at.below * 4u, x));
    }
    return sum;
}

// The mask's bits for four own rows below each other, one a row, and four others that lie 8 apart, as in
// `attention.wgsl`.
struct Bits { a: vec4<u32>, b: vec4<u32>, c: vec4<u32>, d: vec4<u32> }

fn masks(at: Place, i: u32, j: u32) -> Bits {
    var bits = Bits();
    if (MASKED) {
        let first = at.head / HEADS * MASK_BATCH + at.head % HEADS * MASK_HEAD;
        let others = min(vec4<u32>(j, j + 8u, j + 16u, j + 24u), vec4<u32>(OTHERS - 1u));
        for (var r = i; r < i + 4u + zero(); r++) {
            let row = min(r, ROWS - 1u);
            let p = first + others * select(MASK_KEY, MASK_QUERY, BY_KEYS) + row * select(MASK_QUERY, MASK_KEY, BY_KEYS);
            bits = Bits(bits.b, bits.c, bits.d, vec4<u32>(mask[p.x], mask[p.y], mask[p.z], mask[p.w]));
        }
    }
    return bits;
}

// What is known of the four queries among four own rows and four others.
struct Norms { most: vec4<f32>, sum: vec4<f32>, delta: vec4<f32> }

fn norms_of(at: Place, i: u32, j: u32) -> Norms {
    var n = Norms();
    for (var r = 0u; r < 4u + zero(); r++) {
        let p = at.head * QUERIES + min(select(i + r, j + 8u * r, BY_KEYS), QUERIES - 1u);
        n = Norms(
            vec4<f32>(n.most.yzw, norms[2u * p]),
            vec4<f32>(n.sum.yzw, norms[2u * p + 1u]),
            vec4<f32>(n.delta.yzw, deltas[p]),
        );
    }
    return n;
}

// The norms as own row `r` needs them: each of the four others is a query, or this row is.
fn norms_at(n: Norms, r: u32) -> Norms {
    if (BY_KEYS) { return n; }
    return Norms(vec4<f32>(n.most[r]), vec4<f32>(n.sum[r]), vec4<f32>(n.delta[r]));
}

// The weights that the scores `s` of own row `i` and four others came to, and what flows to the scores when `d`
// flows to the weights: two columns. Without a branch, as in `attention.wgsl`.
fn weighed(s: vec4<f32>, d: vec4<f32>, bits: vec4<u32>, n: Norms, i: u32, j: u32) -> mat2x4<f32> {
    let others = vec4<u32>(j, j + 8u, j + 16u, j + 24u);
    var sees = (others < vec4<u32>(select(0u, OTHERS, i < ROWS))) & (bits != vec4<u32>(0xff800000u));
    if (CAUSAL) { sees = sees & select(others <= vec4<u32>(i), others >= vec4<u32>(i), BY_KEYS); }
    let score = s * SCALE + bitcast<vec4<f32>>(select(vec4<u32>(), bits, sees));
    let weights = exp(score - n.most - n.sum);
    let flow = weights * (d - n.delta) * SCALE;
    return mat2x4<f32>(select(vec4<f32>(), weights, sees), select(vec4<f32>(), flow, sees));
}

fn share(at: Place, w0: vec4<f32>, w1: vec4<f32>, w2: vec4<f32>, w3: vec4<f32>) {
    workgroupBarrier();
    let p = at.below * 36u + at.across;
    a[p] = w0;
    a[p + 9u] = w1;
    a[p + 18u] = w2;
    a[p + 27u] = w3;
}

fn store_e(s: mat4x4<f32>, at: Place, column: u32) {
    let i = at.i + at.below * 4u;
    let p = (at.own * ROWS + i) * E + column;
    if (column >= E) { return; }
    if (i < ROWS) { by_e[p] = s[0]; }
    if (i + 1u < ROWS) { by_e[p + E] = s[1]; }
    if (i + 2u < ROWS) { by_e[p + 2u * E] = s[2]; }
    if (i + 3u < ROWS) { by_e[p + 3u * E] = s[3]; }
}

fn store_f(s: mat4x4<f32>, at: Place, column: u32) {
    let i = at.i + at.below * 4u;
    let p = (at.own * ROWS + i) * F + column;
    if (!BY_KEYS || column >= F) { return; }
    if (i < ROWS) { by_f[p] = s[0]; }
    if (i + 1u < ROWS) { by_f[p + F] = s[1]; }
    if (i + 2u < ROWS) { by_f[p + 2u * F] = s[2]; }
    if (i + 3u < ROWS) { by_f[p + 3u * F] = s[3]; }
}

@compute @workgroup_size(8, 16, 1)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let down = (ROWS + 63u) / 64u;
    let tile = first_group() + group.x + group.y * 32768u;
    if (tile >= OUTER * down * PIECES) { return; }
    let c = tile % PIECES * 32u;
    let own_head = tile / PIECES / down;
    // Under a causal mask the last queries and the first keys have the most to do, so they go first.
    let row = tile / PIECES % down;
    let first = select(down - 1u - row, row, BY_KEYS) * 64u;
    var start = 0u;
    var end = OTHERS;
    if (CAUSAL && BY_KEYS) { start = first; }
    if (CAUSAL && !BY_KEYS) { end = min(end, first + 64u); }
    var at = Place(own_head, own_head / GROUP, own_head, first, 0u, local.x, local.y, lane);
    var e0 = mat4x4<f32>(); var f0 = mat4x4<f32>();
    var e1 = mat4x4<f32>(); var f1 = mat4x4<f32>();
    var e2 = mat4x4<f32>(); var f2 = mat4x4<f32>();
    var e3 = mat4x4<f32>(); var f3 = mat4x4<f32>();
    // The queries of all heads that share a key flow back to it.
    for (var h = 0u; h < select(1u, GROUP, BY_KEYS) + zero(); h++) {
        if (BY_KEYS) {
            at.other = own_head * GROUP + h;
            at.head = at.other;
        }
        for (var j = start; j < end + zero(); j += 32u) {
            at.j = j;
            let s = products(at, 0u, E);
            let d = products(at, E, E + F);
            let i = first + local.y * 4u;
            let bits = masks(at, i, j + local.x);
            let n = norms_of(at, i, j + local.x);
            let w0 = weighed(s[0], d[0], bits.a, norms_at(n, 0u), i, j + local.x);
            let w1 = weighed(s[1], d[1], bits.b, norms_at(n, 1u), i + 1u, j + local.x);
            let w2 = weighed(s[2], d[2], bits.c, norms_at(n, 2u), i + 2u, j + local.x);
            let w3 = weighed(s[3], d[3], bits.d, norms_at(n, 3u), i + 3u, j + local.x);
            if (BY_KEYS) {
                share(at, w0[0], w1[0], w2[0], w3[0]);
                if (F > c) { f0 = gathered(f0, at, E + c, E + F); }
                if (F > c + 8u) { f1 = gathered(f1, at, E + c + 8u, E + F); }
                if (F > c + 16u) { f2 = gathered(f2, at, E + c + 16u, E + F); }
                if (F > c + 24u) { f3 = gathered(f3, at, E + c + 24u, E + F); }
            }
            share(at, w0[1], w1[1], w2[1], w3[1]);
            if (E > c) { e0 = gathered(e0, at, c, E); }
            if (E > c + 8u) { e1 = gathered(e1, at, c + 8u, E); }
            if (E > c + 16u) { e2 = gathered(e2, at, c + 16u, E); }
            if (E > c + 24u) { e3 = gathered(e3, at, c + 24u, E); }
        }
    }
    store_e(e0, at, c + local.x);
    if (E > 8u) { store_e(e1, at, c + 8u + local.x); }
    if (E > 16u) { store_e(e2, at, c + 16u + local.x); }
    if (E > 24u) { store_e(e3, at, c + 24u + local.x); }
    store_f(f0, at, c + local.x);
    if (F > 8u) { store_f(f1, at, c + 8u + local.x); }
    if (F > 16u) { store_f(f2, at, c + 16u + local.x); }
    if (F > 24u) { store_f(f3, at, c + 24u + local.x); }
}
