// Integer division, remainder and power that are defined for every operand: x / 0 and x % 0 are 0,
// and quotients round down.
fn floor_div_i32(x: i32, z: i32) -> i32 {
    if (z == 0) {
        return 0;
    }
    if (z == -1) {
        return -x;
    }
    let q = x / z;
    return select(q, q - 1, q * z != x && (x < 0) != (z < 0));
}

fn floor_rem_i32(x: i32, z: i32) -> i32 {
    if (z == 0 || z == -1) {
        return 0;
    }
    let r = x - x / z * z;
    return select(r, r + z, r != 0 && (r < 0) != (z < 0));
}

fn floor_div_u32(x: u32, z: u32) -> u32 {
    return select(x / max(z, 1u), 0u, z == 0u);
}

fn floor_rem_u32(x: u32, z: u32) -> u32 {
    return select(x - x / max(z, 1u) * z, 0u, z == 0u);
}

fn pow_u32(x: u32, z: u32) -> u32 {
    var base = x;
    var left = z;
    var y = 1u;
    while (left != 0u) {
        if ((left & 1u) != 0u) {
            y *= base;
        }
        base *= base;
        left >>= 1u;
    }
    return y;
}

fn pow_i32(x: i32, z: i32) -> i32 {
    if (z < 0) {
        return select(0, select(1, x, (z & 1) != 0), x == 1 || x == -1);
    }
    return bitcast<i32>(pow_u32(bitcast<u32>(x), bitcast<u32>(z)));
}

fn sign_u32(x: u32) -> u32 {
    return min(x, 1u);
}

fn sign_i32(x: i32) -> i32 {
    return sign(x);
}
