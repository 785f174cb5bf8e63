// Logarithms: x = 2^e (1 + f) with 1 + f between sqrt(1/2) and sqrt(2), and a polynomial in f.
// Drivers' own are good to an absolute error near 1 only, and in some to 13 bits.
// No float literal may be infinite or NaN, so those are made from bits.
struct Logarithm { e: f32, f: f32, rest: f32, odd: bool, value: f32 }

fn logarithm(x: f32) -> Logarithm {
    let given = bitcast<u32>(x);
    // 0 and denormals, which many devices take as 0.
    if ((given & 0x7f800000u) == 0u) {
        let scaled = f32(given & 0x7fffffu);
        if (scaled == 0.0) {
            return Logarithm(0.0, 0.0, 0.0, true, bitcast<f32>((given & 0x80000000u) | 0xff800000u));
        }
        if (given < 0x80000000u) {
            let normal = logarithm_of(bitcast<u32>(scaled));
            return Logarithm(normal.e - 149.0, normal.f, normal.rest, false, 0.0);
        }
    }
    if (given >= 0x7f800000u) {
        // Infinity and NaN stay; what is negative has no logarithm.
        return Logarithm(0.0, 0.0, 0.0, true, bitcast<f32>(select(given, given | 0x7fc00000u, given > 0x7f800000u)));
    }
    return logarithm_of(given);
}

fn logarithm_of(normal: u32) -> Logarithm {
    let bits = normal - 0x3f3504f3u;
    let e = f32(bitcast<i32>(bits) >> 23u);
    let f = bitcast<f32>((bits & 0x007fffffu) + 0x3f3504f3u) - 1.0;
    let z = f * f;
    let p = ((((((-0.078595464 * f + 0.12881622) * f - 0.13128768) * f + 0.14181197) * f - 0.16624553) * f
        + 0.20002286) * f - 0.2500081) * f + 0.33333316;
    return Logarithm(e, f, f * z * p - 0.5 * z, false, 0.0);
}

fn ln_(x: f32) -> f32 {
    let l = logarithm(x);
    return select(l.e * -2.1219444e-4 + l.rest + l.f + l.e * 0.6933594, l.value, l.odd);
}

fn log2_(x: f32) -> f32 {
    let l = logarithm(x);
    // 1 / ln 2 is 1 + 0.442695: the part that is exact is added last.
    return select(((l.rest + l.f) * 0.44269504 + l.rest) + l.f + l.e, l.value, l.odd);
}
