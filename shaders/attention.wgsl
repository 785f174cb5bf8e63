// y = softmax(SCALE q kᵀ + mask) v, and norms: of each query its greatest score, and ln of the sum that its
// weights were divided by; without ever storing the scores. A workgroup has 64 queries of one head and walks along the keys, 32 at a
// time: the greatest score so far and the sum of weights are kept, and what was gathered is scaled when a
// greater score comes. The second pass over the keys that a stored softmax needs would cost more than that.
// Each of 8 by 16 invocations has 4 queries and 4 keys, 8 apart, of the scores, and 4 columns of each 32 of
// the result, in registers; operands go through workgroup memory in pieces of 32 columns, in rows of 9 fours,
// so that neighbours read from different banks. Everything fits into the 16 KiB that WebGPU promises. Of a result
// with more than 128 columns each of PIECES workgroups has 128, and computes the scores anew.
// The host replaces the parameters. E and F, the columns of keys and of values, count in fours; `kv` has both
// side by side; the mask's numbers come as bits, because drivers may assume that there are no infinities.

// -- parameters: the host replaces this block --
const OUTER: u32 = 2u;
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

const LEAST: f32 = -3.4028234e38f;

@group(0) @binding(1) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> kv: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> mask: array<u32>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> norms: array<f32>;

// Queries, then weights: 64 rows. Keys, then values: 32 rows.
var<workgroup> a: array<vec4<f32>, 576>;
var<workgroup> b: array<vec4<f32>, 288>;
var<workgroup> parts: array<vec4<f32>, 128>;

// s + x z; explicit, because drivers multiply matrices without fusing the last addition.
fn plus(s: mat4x4<f32>, x: mat4x4<f32>, z: mat4x4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(
        s[0] + z[0].x * x[0] + z[0].y * x[1] + z[0].z * x[2] + z[0].w * x[3],
        s[1] + z[1].x * x[0] + z[1].y * x[1] + z[1].z * x[2] + z[1].w * x[3],
        s[2] + z[2].x * x[0] + z[2].y * x[1] + z[2].z * x[2] + z[2].w * x[3],
        s[3] + z[3].x * x[0] + z[3].y * x[1] + z[3].z * x[2] + z[3].w * x[3],
    );
}

fn scaled(s: mat4x4<f32>, by: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(s[0] * by.x, s[1] * by.y, s[2] * by.z, s[3] * by.w);
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

// Columns `c` up to `c + width` of keys and values from row `j` on into `b`, zeros past an edge.
fn fetch(n: u32, j: u32, c: u32, width: u32, lane: u32) {
    for (var t = lane; t < 256u + zero(); t += 128u) {
        let row = j + t / 8u;
        let column = t % 8u;
        var four = vec4<f32>();
        if (row < KEYS && column < width) { four = kv[(n * KEYS + row) * (E + F) + c + column]; }
        b[t / 8u * 9u + column] = four;
    }
}

fn scores(o: u32, i: u32, n: u32, j: u32, local: vec3<u32>, lane: u32) -> mat4x4<f32> {
    var s = mat4x4<f32>();
    for (var c = 0u; c < E + zero(); c += 8u) {
        let width = min(8u, E - c);
        workgroupBarrier();
        for (var t = lane; t < 512u + zero(); t += 128u) {
            let row = i + t / 8u;
            let column = t % 8u;
            var four = vec4<f32>();
            if (row < QUERIES && column < width) { four = q[(o * QUERIES + row) * E + c + column]; }
            a[t / 8u * 9u + column] = four;
        }
        fetch(n, j, c, width, lane);
        workgroupBarrier();
        for (var x = 0u; x < width + zero(); x++) {
            s = plus(s, transpose(right(local.x, x)), left(local.y * 4u, x));
        }
    }
    return s;
}

// The weights in `a` times 32 columns of the values, from `c` on.
fn gathered(s: mat4x4<f32>, n: u32, j: u32, c: u32, local: vec3<u32>, lane: u32) -> mat4x4<f32> {
    workgroupBarrier();
    fetch(n, j, E + c, min(8u, F - c), lane);
    workgroupBarrier();
    var sum = s;
    for (var x = 0u; x < 8u + zero(); x++) {
        sum = plus(sum, right(x, local.x), left(local.y * 4u, x));
    }
    return sum;
}

// The mask's bits for four queries below each other, one a row, and four keys that lie 8 apart. Past an edge they
// are those of the edge. In a loop that hands its rows on: what loads has most of what a driver compiles.
struct Bits { a: vec4<u32>, b: vec4<u32>, c: vec4<u32>, d: vec4<u32> }

fn masks(o: u32, i: u32, j: u32) -> Bits {
    var bits = Bits();
    if (MASKED) {
        let keys = min(vec4<u32>(j, j + 8u, j + 16u, j + 24u), vec4<u32>(KEYS - 1u)) * MASK_KEY;
        for (var r = i; r < i + 4u + zero(); r++) {
            let p = keys + o / HEADS * MASK_BATCH + o % HEADS * MASK_HEAD + min(r, QUERIES - 1u) * MASK_QUERY;
            bits = Bits(bits.b, bits.c, bits.d, vec4<u32>(mask[p.x], mask[p.y], mask[p.z], mask[p.w]));
        }
    }
    return bits;
}

// Scores of a query with four keys, which of them it sees, and the greatest that it does.
struct Row { score: vec4<f32>, sees: vec4<bool>, most: f32 }

// Without a branch: SwiftShader's compiler takes minutes for a few of those in here.
fn row_of(s: vec4<f32>, bits: vec4<u32>, i: u32, j: u32) -> Row {
    let end = select(0u, select(KEYS, min(KEYS, i + 1u), CAUSAL), i < QUERIES);
    let keys = vec4<u32>(j, j + 8u, j + 16u, j + 24u);
    let sees = (keys < vec4<u32>(end)) & (bits != vec4<u32>(0xff800000u));
    let score = s * SCALE + bitcast<vec4<f32>>(select(vec4<u32>(), bits, sees));
    let known = select(vec4<f32>(LEAST), score, sees);
    return Row(score, sees, max(max(known.x, known.y), max(known.z, known.w)));
}

// Stores the weights of a query in row `at` and gives their sum.
fn weighed(row: Row, greatest: f32, at: u32) -> f32 {
    let weights = select(vec4<f32>(), exp(row.score - greatest), row.sees);
    a[at] = weights;
    return weights.x + weights.y + weights.z + weights.w;
}

fn store(s: mat4x4<f32>, o: u32, i: u32, column: u32) {
    if (column >= F) { return; }
    let p = (o * QUERIES + i) * F + column;
    if (i < QUERIES) { y[p] = s[0]; }
    if (i + 1u < QUERIES) { y[p + F] = s[1]; }
    if (i + 2u < QUERIES) { y[p + 2u * F] = s[2]; }
    if (i + 3u < QUERIES) { y[p + 3u * F] = s[3]; }
}

@compute @workgroup_size(8, 16, 1)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let down = (QUERIES + 63u) / 64u;
    let tile = first_group() + group.x + group.y * 32768u;
    if (tile >= OUTER * down * PIECES) { return; }
    let c = tile % PIECES * 32u;
    let o = tile / PIECES / down;
    let n = o / GROUP;
    // Under a causal mask the last queries have the most to do, so they go first.
    let first = (down - 1u - tile / PIECES % down) * 64u;
    let i = first + local.y * 4u;
    var end = KEYS;
    if (CAUSAL) { end = min(KEYS, first + 64u); }
    var greatest = vec4<f32>(LEAST);
    var sum = vec4<f32>();
    var y0 = mat4x4<f32>();
    var y1 = mat4x4<f32>();
    var y2 = mat4x4<f32>();
    var y3 = mat4x4<f32>();
    for (var j = 0u; j < end + zero(); j += 32u) {
        let s = scores(o, first, n, j, local, lane);
        let bits = masks(o, i, j + local.x);
        let r0 = row_of(s[0], bits.a, i, j + local.x);
        let r1 = row_of(s[1], bits.b, i + 1u, j + local.x);
        let r2 = row_of(s[2], bits.c, i + 2u, j + local.x);
        let r3 = row_of(s[3], bits.d, i + 3u, j + local.x);
        var most = max(greatest, vec4<f32>(r0.most, r1.most, r2.most, r3.most));
        parts[lane] = most;
        workgroupBarrier();
        for (var x = 0u; x < 8u + zero(); x++) { most = max(most, parts[local.y * 8u + x]); }
        // No further down than where the exponential is 0 anyway: the difference may overflow.
        let shrink = exp(max(greatest - most, vec4<f32>(-200.0)));
        greatest = most;
        let at = local.y * 36u + local.x;
        sum = sum * shrink + vec4<f32>(
            weighed(r0, most.x, at),
            weighed(r1, most.y, at + 9u),
            weighed(r2, most.z, at + 18u),
            weighed(r3, most.w, at + 27u),
        );
        y0 = gathered(scaled(y0, shrink), n, j, c, local, lane);
        if (F > c + 8u) { y1 = gathered(scaled(y1, shrink), n, j, c + 8u, local, lane); }
        if (F > c + 16u) { y2 = gathered(scaled(y2, shrink), n, j, c + 16u, local, lane); }
        if (F > c + 24u) { y3 = gathered(scaled(y3, shrink), n, j, c + 24u, local, lane); }
    }
    parts[lane] = sum;
    workgroupBarrier();
    sum = vec4<f32>();
    for (var x = 0u; x < 8u + zero(); x++) { sum += parts[local.y * 8u + x]; }
    // A query that sees no key gives zeros.
    let none = sum <= vec4<f32>();
    let whole = select(sum, vec4<f32>(1.0), none);
    store(scaled(y0, 1.0 / whole), o, i, c + local.x);
    if (F > 8u) { store(scaled(y1, 1.0 / whole), o, i, c + 8u + local.x); }
    if (F > 16u) { store(scaled(y2, 1.0 / whole), o, i, c + 16u + local.x); }
    if (F > 24u) { store(scaled(y3, 1.0 / whole), o, i, c + 24u + local.x); }
    let most = select(greatest, vec4<f32>(), none);
    let sums = log(whole);
    if (c + local.x > 0u) { return; }
    let p = 2u * (o * QUERIES + i);
    if (i < QUERIES) { norms[p] = most.x; norms[p + 1u] = sums.x; }
    if (i + 1u < QUERIES) { norms[p + 2u] = most.y; norms[p + 3u] = sums.y; }
    if (i + 2u < QUERIES) { norms[p + 4u] = most.z; norms[p + 5u] = sums.z; }
    if (i + 3u < QUERIES) { norms[p + 6u] = most.w; norms[p + 7u] = sums.w; }
}
