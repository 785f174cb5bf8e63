// The greater and the lesser of two; a NaN wins. NaN is told by its bits, because compilers may
// assume that it does not occur.
fn is_nan(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}

fn max_(x: f32, z: f32) -> f32 {
    return select(z, x, is_nan(x) || (x > z && !is_nan(z)));
}

fn min_(x: f32, z: f32) -> f32 {
    return select(z, x, is_nan(x) || (x < z && !is_nan(z)));
}
