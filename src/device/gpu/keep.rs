//! What outlives a program: which templates were tested, compiled pipelines and chosen tiles, as files
//! in a folder that the application names.
//!
//! A file that cannot be read, written or understood costs the work again, and nothing else. Files
//! appear whole or not at all, so that programs may share a folder.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::device::gpu::Gpu;
use crate::error::ErrorKind;
use crate::graph::tensor::fresh_id;

/// How a file begins; the number changes with the form.
const MAGIC: &[u8] = b"wgrad kept 1\n";
/// A larger file is forgotten: old pipelines are never thrown out one by one.
const BYTES_MAX: usize = 64 << 20;

/// A folder and what its files must be for.
pub struct Folder {
    path: PathBuf,
    /// Adapter, driver and version of the crate.
    key: String,
    /// Names the files of one adapter, so that a new driver's replace the old one's.
    adapter: u64,
}

fn hash(of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// What stands for a long text.
fn line(text: &str) -> String {
    format!("{:016x}", hash(text))
}

impl Folder {
    /// The folder `path` for the adapter `info`.
    pub fn new(path: &Path, info: &wgpu::AdapterInfo) -> Folder {
        let adapter = format!("{:?} {:x} {:x} {}", info.backend, info.vendor, info.device, info.name);
        let key = format!("{adapter}\n{} {}\n{}\n", info.driver, info.driver_info, env!("CARGO_PKG_VERSION"));
        Folder { path: path.into(), key, adapter: hash(adapter) }
    }

    fn file(&self, kind: &str) -> PathBuf {
        self.path.join(format!("wgrad-{:016x}.{kind}", self.adapter))
    }

    /// What precedes `data` in a file.
    fn header(&self, kind: &str, data: &[u8]) -> Vec<u8> {
        [MAGIC, self.key.as_bytes(), kind.as_bytes(), b"\n", &hash(data).to_le_bytes()].concat()
    }

    /// What was kept as `kind`.
    pub fn load(&self, kind: &str) -> Option<Vec<u8>> {
        let path = self.file(kind);
        if std::fs::metadata(&path).ok()?.len() > BYTES_MAX as u64 {
            return None;
        }
        let file = std::fs::read(path).ok()?;
        let data = file.get(self.header(kind, &[]).len()..)?;
        file.starts_with(&self.header(kind, data)).then(|| data.to_vec())
    }

    /// Keeps `data` as `kind`.
    pub fn save(&self, kind: &str, data: &[u8]) {
        let new = self.path.join(format!("wgrad-{}-{}.new", std::process::id(), fresh_id()));
        let file = [&self.header(kind, data), data].concat();
        let done = std::fs::create_dir_all(&self.path)
            .and_then(|()| std::fs::write(&new, file))
            .and_then(|()| std::fs::rename(&new, self.file(kind)));
        if done.is_err() {
            // Nothing is lost but time, whatever happens here.
            let _ = std::fs::remove_file(&new);
        }
    }
}

/// A device's folder, and the driver's cache of pipelines where it has one.
pub struct Kept {
    folder: Folder,
    pipelines: Option<wgpu::PipelineCache>,
    /// Pipelines that were made, and how many of them are in the file.
    made: AtomicUsize,
    saved: AtomicUsize,
}

impl Kept {
    /// The driver's cache.
    pub fn pipelines(&self) -> Option<&wgpu::PipelineCache> {
        self.pipelines.as_ref()
    }

    /// The text that was kept as `kind`.
    pub fn text(&self, kind: &str) -> Option<String> {
        String::from_utf8(self.folder.load(kind)?).ok()
    }

    /// The file of what is kept as `kind`.
    pub fn file(&self, kind: &str) -> PathBuf {
        self.folder.file(kind)
    }

    /// Whether `text` is what was kept as `kind`.
    pub fn holds(&self, kind: &str, text: &str) -> bool {
        self.text(kind).is_some_and(|kept| kept == text)
    }

    /// Whether a line of what was kept as `kind` stands for `text`.
    pub fn lists(&self, kind: &str, text: &str) -> bool {
        self.text(kind).is_some_and(|kept| kept.lines().any(|known| known == line(text)))
    }

    /// Adds a line that stands for `text` to what is kept as `kind`.
    pub fn list(&self, kind: &str, text: &str) {
        let kept = self.text(kind).unwrap_or_default();
        self.put(kind, &format!("{kept}{}\n", line(text)));
    }

    /// Keeps `text` as `kind`.
    pub fn put(&self, kind: &str, text: &str) {
        self.folder.save(kind, text.as_bytes());
    }

    /// Notes new pipelines, and saves when an eighth of them is new: writing stays in proportion.
    pub fn note(&self, new: usize) {
        let made = self.made.fetch_add(new, Ordering::Relaxed) + new;
        if made.saturating_sub(self.saved.load(Ordering::Relaxed)).saturating_mul(8) >= made {
            self.save();
        }
    }

    /// Saves the pipelines that are in no file.
    pub fn save(&self) {
        let made = self.made.load(Ordering::Relaxed);
        if self.saved.swap(made, Ordering::Relaxed) < made
            && let Some(data) = self.pipelines.as_ref().and_then(wgpu::PipelineCache::get_data)
        {
            self.folder.save("pipelines", &data);
        }
    }
}

impl Gpu {
    /// Keeps what outlives the program in the folder `path` from now on.
    pub(super) fn keep(&self, path: &Path) -> Kept {
        let folder = Folder::new(path, &self.info);
        // A host's device is the host's: what is compiled there is its own business.
        let has = self.ours && self.device.features().contains(wgpu::Features::PIPELINE_CACHE);
        let make = |data: Option<&[u8]>| {
            let descriptor = wgpu::PipelineCacheDescriptor { label: None, data, fallback: true };
            // SAFETY: the data is what `PipelineCache::get_data` gave for this adapter, driver and
            // version of this crate: the file's header says so and its checksum is right. That
            // nobody else writes such files is what the application promises by naming the folder.
            self.scoped(ErrorKind::Device, "set_cache_dir", || unsafe {
                self.device.create_pipeline_cache(&descriptor)
            })
        };
        let load = || make(folder.load("pipelines").as_deref()).or_else(|_| make(None)).ok();
        let pipelines = has.then(load).flatten();
        Kept { folder, pipelines, made: AtomicUsize::new(0), saved: AtomicUsize::new(0) }
    }
}
