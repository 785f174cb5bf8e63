// The remainder with the sign of the divisor, and the quotient that goes with it: by long division
// of the digits. WGSL allows a division to be off by two units and a half, so that 41 / 41 may be
// less than 1, and an fma to round twice.
fn truncated_rem(x: f32, z: f32) -> f32 {
    let a = bitcast<u32>(x) & 0x7fffffffu;
    let b = bitcast<u32>(z) & 0x7fffffffu;
    if (a >= 0x7f800000u || b == 0u || b > 0x7f800000u) {
        return bitcast<f32>(a | 0x7fc00000u);
    }
    if (a < b) {
        return x;
    }
    let lowest = max(b >> 23u, 1u);
    let divisor = digits(b);
    var left = max(a >> 23u, 1u) - lowest;
    var r = digits(a) % divisor;
    while (left > 0u) {
        let step = min(left, 8u);
        r = (r << step) % divisor;
        left -= step;
    }
    // As many digits up as there are free, but not below the least exponent.
    let up = min(countLeadingZeros(r) - 8u, lowest - 1u);
    let shifted = r << up;
    let exponent = select(0u, lowest - up, shifted >= 0x800000u);
    let bits = select(exponent << 23u | (shifted & 0x7fffffu), 0u, r == 0u);
    return bitcast<f32>(bits | (bitcast<u32>(x) & 0x80000000u));
}

fn digits(a: u32) -> u32 {
    return (a & 0x7fffffu) | select(0u, 0x800000u, a >= 0x800000u);
}

fn floor_rem(x: f32, z: f32) -> f32 {
    let r = truncated_rem(x, z);
    return select(r, r + z, r != 0.0 && (r < 0.0) != (z < 0.0));
}

fn floor_div(x: f32, z: f32) -> f32 {
    let r = truncated_rem(x, z);
    let q = round((x - r) / z);
    return select(select(q, q - 1.0, r != 0.0 && (r < 0.0) != (z < 0.0)), x / z, z == 0.0);
}
