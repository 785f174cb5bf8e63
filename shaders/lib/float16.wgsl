// 16-bit floats as bits: exact widening, and rounding to nearest even, with infinities, NaN and
// denormals, whatever the driver does with them.
fn f16_load(h: u32) -> f32 {
    let a = h & 0x7fffu;
    let wide = (a << 13u) + select(0x38000000u, 0x70000000u, a >= 0x7c00u);
    let small = bitcast<u32>(f32(a) * 5.9604645e-8);
    return bitcast<f32>(((h & 0x8000u) << 16u) | select(wide, small, a < 0x400u));
}

fn f16_store(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    let sign = (bits >> 16u) & 0x8000u;
    let a = bits & 0x7fffffffu;
    if (a > 0x7f800000u) {
        return sign | 0x7e00u;
    }
    if (a >= 0x47800000u) {
        return sign | 0x7c00u;
    }
    if (a >= 0x38800000u) {
        let r = a - 0x38000000u;
        return sign | ((r + 0xfffu + ((r >> 13u) & 1u)) >> 13u);
    }
    return sign | u32(round(bitcast<f32>(a) * 16777216.0));
}

fn bf16_load(h: u32) -> f32 {
    return bitcast<f32>(h << 16u);
}

fn bf16_store(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    let rounded = (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
    return select(rounded, (bits >> 16u) | 0x40u, (bits & 0x7fffffffu) > 0x7f800000u);
}
