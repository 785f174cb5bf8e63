//! SHA-256 and MD5: what a file's content is called.
//!
//! SHA-256 names contents in records; MD5 only compares with what DVC wrote and protects nothing.
//! Both constants are computed from what the standards derive them from.

/// The SHA-256 of `bytes`.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    // Fractions of the cube and square roots of the first primes, 32 bits of them.
    let primes: Vec<u32> = (2..312).filter(|n| (2..*n).take_while(|d| d * d <= *n).all(|d| n % d != 0)).collect();
    let mut keys = [0u32; 64];
    keys.iter_mut().zip(&primes).for_each(|(key, &p)| *key = root(p, 3));
    let mut state = [0u32; 8];
    state.iter_mut().zip(&primes).for_each(|(word, &p)| *word = root(p, 2));

    blocks(bytes, u64::to_be_bytes, |block| {
        let mut words = [0u32; 64];
        words.iter_mut().zip(block.as_chunks::<4>().0).for_each(|(word, bytes)| *word = u32::from_be_bytes(*bytes));
        for t in 16..64 {
            let (x, z) = (words[t - 15], words[t - 2]);
            let low = x.rotate_right(7) ^ x.rotate_right(18) ^ (x >> 3);
            let high = z.rotate_right(17) ^ z.rotate_right(19) ^ (z >> 10);
            words[t] = words[t - 16].wrapping_add(low).wrapping_add(words[t - 7]).wrapping_add(high);
        }
        let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = state;
        for (key, word) in keys.iter().zip(&words) {
            let mix = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
            let choice = (e & f) ^ (!e & g);
            let first = h.wrapping_add(mix).wrapping_add(choice).wrapping_add(*key).wrapping_add(*word);
            let mix = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
            let second = mix.wrapping_add((a & b) ^ (a & c) ^ (b & c));
            (h, g, f, e) = (g, f, e, d.wrapping_add(first));
            (d, c, b, a) = (c, b, a, first.wrapping_add(second));
        }
        state.iter_mut().zip([a, b, c, d, e, f, g, h]).for_each(|(word, x)| *word = word.wrapping_add(x));
    });
    let mut out = [0; 32];
    out.as_chunks_mut::<4>().0.iter_mut().zip(state).for_each(|(bytes, word)| *bytes = word.to_be_bytes());
    out
}

/// The first 32 bits of the fraction of the root of `n`, bit by bit in whole numbers.
fn root(n: u32, degree: u32) -> u32 {
    let scaled = u128::from(n) << (32 * degree);
    let found = (0..37).rev().fold(0u128, |root, bit| {
        let next = root | 1 << bit;
        if next.pow(degree) <= scaled { next } else { root }
    });
    found as u32
}

/// The MD5 of `bytes`.
pub(crate) fn md5(bytes: &[u8]) -> [u8; 16] {
    const SHIFTS: [[u32; 4]; 4] = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];
    let mut keys = [0u32; 64];
    keys.iter_mut().enumerate().for_each(|(t, key)| *key = (libm::sin((t + 1) as f64).abs() * 4_294_967_296.0) as u32);
    let mut state = [0x6745_2301u32, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
    blocks(bytes, u64::to_le_bytes, |block| {
        let mut words = [0u32; 16];
        words.iter_mut().zip(block.as_chunks::<4>().0).for_each(|(word, bytes)| *word = u32::from_le_bytes(*bytes));
        let [mut a, mut b, mut c, mut d] = state;
        for (t, key) in keys.iter().enumerate() {
            let (mix, k) = match t / 16 {
                0 => ((b & c) | (!b & d), t),
                1 => ((d & b) | (!d & c), 5 * t + 1),
                2 => (b ^ c ^ d, 3 * t + 5),
                _ => (c ^ (b | !d), 7 * t),
            };
            let sum = a.wrapping_add(mix).wrapping_add(*key).wrapping_add(words[k % 16]);
            (a, d, c, b) = (d, c, b, b.wrapping_add(sum.rotate_left(SHIFTS[t / 16][t % 4])));
        }
        state.iter_mut().zip([a, b, c, d]).for_each(|(word, x)| *word = word.wrapping_add(x));
    });
    let mut out = [0; 16];
    out.as_chunks_mut::<4>().0.iter_mut().zip(state).for_each(|(bytes, word)| *bytes = word.to_le_bytes());
    out
}

/// Calls `f` with each block of 64 bytes: the message, a one bit, zeros, and the length in bits.
fn blocks(bytes: &[u8], length: fn(u64) -> [u8; 8], mut f: impl FnMut(&[u8; 64])) {
    let (whole, rest) = bytes.as_chunks::<64>();
    whole.iter().for_each(&mut f);
    let mut tail = rest.to_vec();
    tail.push(0x80);
    tail.resize((tail.len() + 8).next_multiple_of(64) - 8, 0);
    tail.extend(length((bytes.len() as u64).wrapping_mul(8)));
    tail.as_chunks::<64>().0.iter().for_each(f);
}

/// `bytes` in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers() {
        let cases = [
            (
                "",
                "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                "d41d8cd98f00b204e9800998ecf8427e",
            ),
            (
                "abc",
                "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
                "900150983cd24fb0d6963f7d28e17f72",
            ),
            (
                "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
                "8215ef0796a20bcaaae116d3876c664a",
            ),
        ];
        for (text, sha, md) in cases {
            assert_eq!((hex(&sha256(text.as_bytes())), hex(&md5(text.as_bytes()))), (sha.into(), md.into()), "{text}");
        }
    }
}
