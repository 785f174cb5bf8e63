// y[i] = 8 * x[i], the long way: eight sums an invocation that begin at x[i] = 1, and turn after
// turn are halved and have a half added, which is exact. Nothing but fused multiply-adds in
// registers, none of which waits for the one before; measures how many a device does.

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> turns: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x >= arrayLength(&x) || id.x >= arrayLength(&y)) {
        return;
    }
    var p = vec4(x[id.x]);
    var q = p;
    // Loaded, so that no compiler knows them; equal for all invocations.
    let n = turns[0];
    let half = vec4(0.5 * x[0]);
    for (var turn = 0u; turn < n; turn++) {
        p = fma(p, half, half);
        q = fma(q, half, half);
        p = fma(p, half, half);
        q = fma(q, half, half);
        p = fma(p, half, half);
        q = fma(q, half, half);
        p = fma(p, half, half);
        q = fma(q, half, half);
    }
    y[id.x] = dot(p + q, vec4(1.0));
}
