//! Hostile files: mutants of good ones, and a count of what reading them allocates.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::{Path, PathBuf};

use wgrad::{Error, ErrorKind};

use crate::support::Rng;

/// The system's allocator, which counts what each thread holds.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    // A thread that is ending has no counter any more.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held.get())));
    });
}

// SAFETY: every call goes to the system's allocator as it came; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(at, layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(at, layout, size) }
    }
}

/// The result of `f`, and the most bytes it held on this thread beyond what was held before.
pub fn peak_of<T>(f: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.with(Cell::get);
    PEAK.with(|peak| peak.set(before));
    let found = f();
    (found, (PEAK.with(Cell::get) - before) as usize)
}

/// Numbers that readers stumble over.
const NASTY: [u64; 12] =
    [0, 1, 7, 0x7f, 0xff, 0xffff, 0x7fff_ffff, 0xffff_ffff, 1 << 40, i64::MAX as u64, u64::MAX - 7, u64::MAX];

/// `good` with something wrong.
fn mutant(good: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = good.to_vec();
    // Headers stand at the start or, in zip, at the end, and most mistakes are to be made there.
    for _ in 0..1 + rng.below(3) {
        if bytes.is_empty() {
            return bytes;
        }
        let n = bytes.len();
        let at = match rng.below(3) {
            0 => rng.below(n),
            1 => rng.below(n.min(200)),
            _ => n - 1 - rng.below(n.min(100)),
        };
        let nasty = NASTY[rng.below(NASTY.len())];
        match rng.below(9) {
            0 => bytes.truncate(at),
            1 => bytes[at] ^= 1 << rng.below(8),
            2 => bytes[at] = rng.bits() as u8,
            3 => drop(bytes.drain(at..n.min(at + 1 + rng.below(16)))),
            4 => bytes.extend(vec![nasty as u8; 1 + rng.below(16)]),
            // A number in place of another, in either byte order.
            5 | 6 => {
                let width = [2, 4, 8][rng.below(3)];
                let swap = rng.below(2) == 0;
                for k in 0..width.min(n - at) {
                    let shift = if swap { width - 1 - k } else { k };
                    bytes[at + k] = (nasty >> (8 * shift)) as u8;
                }
            }
            // A number in digits in place of another.
            7 => {
                let Some(start) = (at..n).find(|&k| bytes[k].is_ascii_digit()) else { continue };
                let end = (start..n).find(|&k| !bytes[k].is_ascii_digit()).unwrap_or(n);
                let text = if rng.below(4) == 0 { format!("-{nasty}") } else { nasty.to_string() };
                drop(bytes.splice(start..end, text.into_bytes()));
            }
            _ => {
                let piece = bytes[at..n.min(at + 1 + rng.below(40))].to_vec();
                let to = rng.below(n);
                drop(bytes.splice(to..to, piece));
            }
        }
    }
    bytes
}

/// Throws mutants of `good` at `read`: each must be read, or refused with an error about the file
/// `name`, and reading may hold `factor` times its bytes and a little more.
#[track_caller]
pub fn withstands<T>(name: &str, good: &[&[u8]], factor: usize, read: impl Fn(Vec<u8>) -> Result<T, Error>) {
    let mut rng = Rng::new(name.len() as u64);
    let (mut read_fine, mut refused) = (0, 0);
    for round in 0..MUTANTS {
        let bytes = mutant(good[round % good.len()], &mut rng);
        let (n, copy) = (bytes.len(), bytes.clone());
        let (found, peak) = peak_of(|| read(bytes).map(drop));
        assert!(
            peak <= n * factor + (64 << 10),
            "mutant {round} of {name} has {n} bytes, but reading it held {peak}\n{}",
            String::from_utf8_lossy(&copy)
        );
        match found {
            Ok(()) => read_fine += 1,
            Err(error) => {
                refused += 1;
                let text = error.to_string();
                assert!(
                    error.kind() == ErrorKind::File && text.contains(name),
                    "mutant {round}: the error does not name the file {name}: {text}"
                );
            }
        }
    }
    println!("{name}: {read_fine} mutants were read, {refused} refused");
    assert!(refused > MUTANTS / 5, "only {refused} mutants of {name} were refused");
}

/// How many mutants a reader withstands.
const MUTANTS: usize = 20_000;

/// A new folder of its own, which goes when this is dropped.
pub struct Folder(PathBuf);

impl Folder {
    /// A folder for the test `name`.
    pub fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("wgrad-test-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The names of the files in it.
    pub fn names(&self) -> Vec<String> {
        let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        let mut names: Vec<String> = std::fs::read_dir(&self.0).unwrap().map(name).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Puts a new file with `bytes` in the place of the one at `path`: quicker than writing into it,
/// which some file systems take for a reason to wait for the disk.
pub fn replace(path: &Path, bytes: &[u8]) {
    let _ = std::fs::remove_file(path);
    std::fs::write(path, bytes).unwrap();
}

/// Whether `found` is an error whose text has all of `parts`.
#[track_caller]
pub fn refuses<T>(found: Result<T, Error>, parts: &[&str]) {
    match found {
        Ok(_) => panic!("an error with {parts:?} was expected"),
        Err(error) => {
            let text = error.to_string();
            parts.iter().for_each(|part| assert!(text.contains(part), "{part:?} is not in: {text}"));
        }
    }
}
