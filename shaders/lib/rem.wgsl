// The remainder with the sign of the divisor, and the quotient that goes with it: by long division,
// for WGSL allows a division to be off by two units and a half, so that 41 / 41 may be less than 1.
fn truncated_rem(x: f32, z: f32) -> f32 {
    let d = abs(z);
    var r = abs(x);
    // The divisor with the exponent of what is left, or half of that, is taken away without rounding.
    for (var turn = 0u; turn < 256u && r >= d; turn++) {
        let t = bitcast<f32>((bitcast<u32>(r) & 0x7f800000u) | (bitcast<u32>(d) & 0x7fffffu));
        r -= select(t, 0.5 * t, t > r);
    }
    return select(select(r, -r, x < 0.0), x / z * z, r >= d);
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
