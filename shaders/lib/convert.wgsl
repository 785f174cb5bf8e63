// Float to integer: truncates, saturates, and takes NaN to 0.
fn to_i32(x: f32) -> i32 {
    if ((bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u) {
        return 0;
    }
    if (x >= 2147483648.0) {
        return 2147483647;
    }
    if (x <= -2147483648.0) {
        return -2147483647 - 1;
    }
    return i32(x);
}

fn to_u32(x: f32) -> u32 {
    if (x >= 4294967296.0) {
        return 4294967295u;
    }
    if (x >= 1.0) {
        return u32(x);
    }
    return 0u;
}
