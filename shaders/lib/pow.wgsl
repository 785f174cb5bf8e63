// x to the power z, also for negative x and integer z, where WGSL's own is undefined. No comparison
// counts on what `!=` says of a NaN, which differs between drivers.
fn pow_(x: f32, z: f32) -> f32 {
    let a = abs(x);
    // Drivers round `exp2` of next to nothing below 1, and a root of that would be 0.
    let t = z * log2_(a);
    var y = select(exp2(t), 1.0, z == 0.0 || a == 1.0 || abs(t) < 2.0e-8);
    if (a == 0.0 && z > 0.0) {
        y = 0.0;
    }
    let bits = bitcast<u32>(x);
    if (bits < 0x80000000u) {
        return y;
    }
    if (floor(z) == z) {
        return select(-y, y, floor(z * 0.5) * 2.0 == z);
    }
    return select(y, sqrt(x), x < 0.0 && bits != 0xff800000u);
}
