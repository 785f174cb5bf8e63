// x to the power z, also for negative x and integer z, where WGSL's own is undefined.
fn pow_(x: f32, z: f32) -> f32 {
    if (z == 0.0 || x == 1.0) {
        return 1.0;
    }
    let a = abs(x);
    if (a == 0.0) {
        return select(0.0, 1.0 / a, z < 0.0);
    }
    // Drivers round `exp2` of next to nothing below 1, and a root of that would be 0.
    let t = z * log2_(a);
    let y = select(exp2(t), 1.0, abs(t) < 2.0e-8);
    if (x < 0.0) {
        if (floor(z) != z) {
            return sqrt(x);
        }
        return select(y, -y, floor(z * 0.5) * 2.0 != z);
    }
    return y;
}
