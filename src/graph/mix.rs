//! [`Mix`]: a quick hash, and maps and sets of nodes by their number.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

/// A map by keys that nobody chooses to collide.
pub type Map<K, V> = HashMap<K, V, BuildHasherDefault<Mix>>;
/// Something for each node, by its number.
pub type ById<V> = Map<u64, V>;
/// Nodes, by their number.
pub type Ids = HashSet<u64, BuildHasherDefault<Mix>>;

/// A fast hash for keys that nobody chooses to collide: multiply and rotate. Equal hashes are
/// always followed by a comparison.
#[derive(Default)]
pub struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }
    fn write_u8(&mut self, n: u8) {
        self.write_u64(u64::from(n));
    }
    fn write_u32(&mut self, n: u32) {
        self.write_u64(u64::from(n));
    }
    fn write_u64(&mut self, n: u64) {
        self.0 = (self.0.rotate_left(26) ^ n).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
    fn write_usize(&mut self, n: usize) {
        self.write_u64(n as u64);
    }
    fn write_isize(&mut self, n: isize) {
        self.write_u64(n as u64);
    }
}
