//! Decimal numbers to floats, rounded to nearest, ties to even.
//!
//! What `str::parse` does, without the 13 KB that its tables add to what a page downloads, gzipped.
//! Knows neither infinities nor NaN.

/// A type of floats: how many bits its mantissa has, and the exponent of its least number.
#[derive(Clone, Copy)]
pub(crate) struct Format(u32, i64);

/// What `f32` holds.
pub(crate) const F32: Format = Format(24, -149);
/// What `f64` holds.
pub(crate) const F64: Format = Format(53, -1074);

/// Digits beyond these only say whether there is more.
const DIGITS_MAX: usize = 800;
/// Numbers of more digits before the point, or as many zeros after it, are infinite or 0.
const PLACE_MAX: i64 = 2000;

/// The number nearest to what `text` says, such as `-12.5e-3`; none where it is no finite number.
pub(crate) fn parse(text: &str, Format(bits, least): Format) -> Option<f64> {
    let (sign, rest) = match text.as_bytes() {
        [b'-', rest @ ..] => (-1.0, rest),
        [b'+', rest @ ..] => (1.0, rest),
        rest => (1.0, rest),
    };
    let (digits, exponent) = match rest.iter().position(|b| b.eq_ignore_ascii_case(&b'e')) {
        Some(at) => (&rest[..at], exponent(&rest[at + 1..])?),
        None => (rest, 0),
    };
    let (whole, part) = match digits.iter().position(|&b| b == b'.') {
        Some(at) => (&digits[..at], &digits[at + 1..]),
        None => (digits, &[][..]),
    };
    if whole.len() + part.len() == 0 || !whole.iter().chain(part).all(u8::is_ascii_digit) {
        return None;
    }
    let digits: Vec<u32> =
        whole.iter().chain(part).map(|b| u32::from(b - b'0')).skip_while(|&digit| digit == 0).collect();
    let place = exponent - part.len() as i64 + digits.len() as i64;
    if digits.is_empty() || place < -PLACE_MAX {
        return Some(sign * 0.0);
    }
    if place > PLACE_MAX {
        return None;
    }
    let (digits, more) = digits.split_at(digits.len().min(DIGITS_MAX));
    let power = place - digits.len() as i64;
    if digits.len() <= 15 && power.abs() <= 22 {
        // Both are exact, so one rounding makes the number; a second one to fewer bits is harmless
        // unless the first led halfway between two of those.
        let whole = digits.iter().fold(0u64, |sum, &digit| 10 * sum + u64::from(digit)) as f64;
        let ten = (0..power.abs()).fold(1.0, |ten, _| 10.0 * ten);
        let found = if power < 0 { whole / ten } else { whole * ten };
        let below = (1u64 << (53 - bits)) - 1;
        if bits == 53 || found.to_bits() & below != below.div_ceil(2) {
            return Some(sign * if bits == 53 { found } else { f64::from(found as f32) });
        }
    }
    // The number is a big integer times a power of ten.
    let mut number = vec![0u32];
    digits.iter().for_each(|&digit| grow(&mut number, 10, digit));
    let mut inexact = more.iter().any(|&digit| digit > 0);
    // As a big integer times a power of two, with enough bits that what is cut off cannot matter.
    let shift = if power < 0 { 2 + (-power) as usize * 27 / 256 } else { 2 };
    number.splice(0..0, vec![0; shift + 1]);
    for step in (0..power.unsigned_abs()).step_by(9) {
        let ten = 10u32.pow((power.unsigned_abs() - step).min(9) as u32);
        if power < 0 {
            inexact |= shrink(&mut number, ten) > 0;
        } else {
            grow(&mut number, ten, 0);
        }
    }
    let scale = -32 * (shift as i64 + 1);
    while number.last() == Some(&0) {
        number.pop();
    }
    let length = 32 * number.len() as i64 - i64::from(number.last()?.leading_zeros());
    let cut = (length - i64::from(bits)).max(least - scale);
    let bit = |at: i64| number.get((at / 32) as usize).is_some_and(|word| word >> (at % 32) & 1 == 1);
    let kept = (cut..length).rev().fold(0u64, |kept, at| kept << 1 | u64::from(bit(at)));
    let rest = inexact || (0..cut - 1).any(bit);
    let up = bit(cut - 1) && (rest || kept & 1 == 1);
    let found = libm::scalbn((kept + u64::from(up)) as f64, (cut + scale) as i32);
    let greatest = libm::scalbn(1.0, (3 - least) as i32 - bits as i32);
    (found < greatest).then_some(sign * found)
}

/// The number after an `e`; far out where it is huge.
fn exponent(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] | digits => (false, digits),
    };
    let size = |size: i64, b: &u8| b.is_ascii_digit().then(|| (10 * size + i64::from(b - b'0')).min(1 << 40));
    let size = digits.iter().try_fold(0, size).filter(|_| !digits.is_empty())?;
    Some(if negative { -size } else { size })
}

/// `number * factor + more`.
fn grow(number: &mut Vec<u32>, factor: u32, more: u32) {
    let mut carry = u64::from(more);
    for word in number.iter_mut() {
        carry += u64::from(*word) * u64::from(factor);
        *word = carry as u32;
        carry >>= 32;
    }
    if carry > 0 {
        number.push(carry as u32);
    }
}

/// `number / divisor`; gives the remainder.
fn shrink(number: &mut [u32], divisor: u32) -> u32 {
    let mut rest = 0u64;
    for word in number.iter_mut().rev() {
        rest = rest << 32 | u64::from(*word);
        *word = (rest / u64::from(divisor)) as u32;
        rest %= u64::from(divisor);
    }
    rest as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str) {
        let want = text.parse::<f64>().ok().filter(|x| x.is_finite());
        assert_eq!(parse(text, F64).map(f64::to_bits), want.map(f64::to_bits), "{text}");
        let want = text.parse::<f32>().ok().filter(|x| x.is_finite());
        assert_eq!(parse(text, F32).map(|x| (x as f32).to_bits()), want.map(f32::to_bits), "{text}");
    }

    #[test]
    fn edges_are_as_the_standard_library_has_them() {
        let cases = "0 -0 1 16 -1.5 +2. .5 . e5 1e 1e+ 1e5 1E-5 1.5e+3 - + 1x 1.2.3 1e1e1 0x10 1e400 -1e400 1e-400
            1e99999999999999999999 1e-99999999999999999999 0e99999999999999999999 1e-x 1e5. 1e!2 00000000000000000000001 16777217
            16777219 9007199254740993 9007199254740992.5 4.9e-324 2.4703282292062327e-324 2.4703282292062328e-324
            2.2250738585072011e-308 1.7976931348623157e308 1.7976931348623159e308 3.4028235e38 3.4028236e38
            1.4e-45 7e-46 7.1e-46 1.00000005960464477539 1.00000005960464477540 123456789012345678901234567890e-30";
        cases.split_whitespace().for_each(check);
        check(&format!("0.{}1e3000", "0".repeat(2999)));
        check(&format!("{}e-3000", "7".repeat(3000)));
        check(&format!("1.00000005960464477539062500{}1", "0".repeat(900)));
    }

    #[test]
    fn every_number_is_the_nearest() {
        let mut state = 42u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state >> 11
        };
        for _ in 0..20_000 {
            check(&format!("{:?}", f64::from_bits(next() << 11 | next() & 2047)));
            check(&format!("{:?}", f32::from_bits(next() as u32)));
            check(&format!("{}.{}e{}", next() % 1000, next() >> (next() % 53), next() as i64 % 90 - 45));
            // Halfway between two numbers.
            let x = f32::from_bits(next() as u32 & 0x7f7f_ffff);
            check(&format!("{:.160}", (f64::from(x) + f64::from(f32::from_bits(x.to_bits() + 1))) / 2.0));
        }
    }
}
