// The remainder with the sign of the divisor.
fn floor_rem(x: f32, z: f32) -> f32 {
    let r = x % z;
    return select(r, r + z, r != 0.0 && (r < 0.0) != (z < 0.0));
}
