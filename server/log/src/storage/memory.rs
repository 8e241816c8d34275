//! Files in memory that behave as badly as a disk may.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::{Storage, StorageFile, scarce_bytes};

/// What a disk keeps or loses as one.
const SECTOR_BYTES: usize = 512;

/// What [`StorageFile::sync_data`] does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyncBehaviour {
    /// What it promises.
    #[default]
    Honest,
    /// Returns without an error and makes nothing durable, like a drive with a volatile cache.
    Lying,
    /// Fails, and counts what was to be written as written, as Linux does: reads go on showing it
    /// until it is dropped from memory, and the next sync succeeds without writing it.
    Failing,
    /// The same, once; then it keeps its promises again.
    FailingOnce,
}

/// Files in memory that behave as badly as a disk may, and always the same way for the same seed.
///
/// It keeps what was written apart from what is durable. [`crash`](Self::crash) gives what a power
/// cut could leave: of the writes that were not synced any part, by sectors of 512 bytes; of the
/// names that were not synced any, each on its own. Faults are set beforehand: a crash at the nth
/// operation, a sync that fails or lies, a disk that is full, flipped bits.
///
/// A clone is another handle to the same files. It starts with the directory `/`.
#[derive(Clone, Debug, Default)]
pub struct MemoryStorage {
    disk: Arc<Mutex<Disk>>,
}

#[derive(Debug)]
struct Disk {
    live: Names,
    durable: Names,
    /// Changes of names since their directory was last synced, oldest first.
    unsynced: Vec<(PathBuf, Change)>,
    /// Operations that changed something, so far.
    operations: u64,
    crash_at: Option<u64>,
    crashed: bool,
    sync: SyncBehaviour,
    dir_sync: SyncBehaviour,
    capacity_bytes: Option<u64>,
}

#[derive(Clone, Debug)]
struct Names {
    files: BTreeMap<PathBuf, Arc<Mutex<Inode>>>,
    dirs: BTreeSet<PathBuf>,
}

#[derive(Clone, Debug)]
enum Change {
    Link(PathBuf, Arc<Mutex<Inode>>),
    Rename(PathBuf, PathBuf, Arc<Mutex<Inode>>),
    Unlink(PathBuf),
    MakeDir(PathBuf),
    RemoveDir(PathBuf),
}

#[derive(Clone, Debug, Default)]
struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors that a sync has still to write.
    dirty: BTreeSet<usize>,
    length_dirty: bool,
    /// The content before the first cut since the last sync: the disk may have got so far.
    uncut: Option<Vec<u8>>,
}

impl Default for Disk {
    fn default() -> Self {
        let names = Names {
            files: BTreeMap::new(),
            dirs: BTreeSet::from([PathBuf::from("/")]),
        };
        Self {
            live: names.clone(),
            durable: names,
            unsynced: Vec::new(),
            operations: 0,
            crash_at: None,
            crashed: false,
            sync: SyncBehaviour::Honest,
            dir_sync: SyncBehaviour::Honest,
            capacity_bytes: None,
        }
    }
}

impl MemoryStorage {
    /// An empty storage.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many operations have changed something so far: creations, writes, cuts, syncs,
    /// renames, removals.
    pub fn operations(&self) -> u64 {
        self.disk.lock().operations
    }

    /// From operation number `operation` (counted from 0) on, everything fails. A write or a
    /// change of names at that point may still reach the disk in part.
    pub fn crash_at(&self, operation: u64) {
        self.disk.lock().crash_at = Some(operation);
    }

    /// How files are synced from now on.
    pub fn set_sync(&self, behaviour: SyncBehaviour) {
        self.disk.lock().sync = behaviour;
    }

    /// How directories are synced from now on.
    pub fn set_dir_sync(&self, behaviour: SyncBehaviour) {
        self.disk.lock().dir_sync = behaviour;
    }

    /// The bytes that all files may have together; `None` without bound.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.disk.lock().capacity_bytes = bytes;
    }

    /// The bytes that all files have together.
    pub fn used_bytes(&self) -> u64 {
        self.disk.lock().used_bytes()
    }

    /// The content of a file as a reader would see it.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let inode = self.disk.lock().live.files.get(path).cloned()?;
        let content = inode.lock().live.clone();
        Some(content)
    }

    /// Flips one bit of a file, on the disk and in memory. `false` if there is no such bit.
    pub fn flip_bit(&self, path: &Path, byte: u64, bit: u8) -> bool {
        let Some(inode) = self.disk.lock().live.files.get(path).cloned() else {
            return false;
        };
        let mut inode = inode.lock();
        let Inode { live, durable, .. } = &mut *inode;
        let mut flipped = false;
        for content in [live, durable] {
            if let Some(byte) = content.get_mut(byte as usize) {
                *byte ^= 1 << (bit % 8);
                flipped = true;
            }
        }
        flipped
    }

    /// What a power cut leaves, one of many possibilities, chosen by `seed`. Without faults.
    pub fn crash(&self, seed: u64) -> Self {
        let disk = self.disk.lock();
        let mut dice = Dice(seed);
        let mut names = disk.durable.clone();
        for (_, change) in &disk.unsynced {
            if dice.even() {
                names.apply(change);
            }
        }
        names.drop_orphans();
        // A file with two names (a rename not yet durable) is one file.
        let mut survivors: BTreeMap<*const Mutex<Inode>, Arc<Mutex<Inode>>> = BTreeMap::new();
        for inode in names.files.values_mut() {
            let survivor = survivors
                .entry(Arc::as_ptr(inode))
                .or_insert_with(|| Arc::new(Mutex::new(inode.lock().crash(&mut dice))));
            *inode = Arc::clone(survivor);
        }
        Self::with_names(names)
    }

    /// What the end of the process leaves: all that was written, durable or not. Without faults.
    pub fn kill(&self) -> Self {
        let disk = self.disk.lock();
        let mut copies: BTreeMap<*const Mutex<Inode>, Arc<Mutex<Inode>>> = BTreeMap::new();
        let mut copy = |inode: &Arc<Mutex<Inode>>| {
            let copied = copies
                .entry(Arc::as_ptr(inode))
                .or_insert_with(|| Arc::new(Mutex::new(inode.lock().clone())));
            Arc::clone(copied)
        };
        let mut copy_names = |names: &Names| Names {
            files: names
                .files
                .iter()
                .map(|(path, inode)| (path.clone(), copy(inode)))
                .collect(),
            dirs: names.dirs.clone(),
        };
        let (live, durable) = (copy_names(&disk.live), copy_names(&disk.durable));
        let unsynced = disk
            .unsynced
            .iter()
            .map(|(dir, change)| (dir.clone(), change.with_inode(&mut copy)))
            .collect();
        let disk = Disk {
            live,
            durable,
            unsynced,
            ..Disk::default()
        };
        Self {
            disk: Arc::new(Mutex::new(disk)),
        }
    }

    fn with_names(names: Names) -> Self {
        let disk = Disk {
            live: names.clone(),
            durable: names,
            ..Disk::default()
        };
        Self {
            disk: Arc::new(Mutex::new(disk)),
        }
    }
}

impl Disk {
    /// Counts an operation; `Err` when the power is gone. The caller performs a write or a change
    /// of names first, so that it may survive in part.
    fn count(&mut self) -> io::Result<()> {
        self.alive()?;
        let operation = self.operations;
        self.operations += 1;
        if self.crash_at.is_some_and(|at| operation >= at) {
            self.crashed = true;
        }
        self.alive()
    }

    fn alive(&self) -> io::Result<()> {
        if self.crashed {
            return Err(io::Error::other("the power is gone"));
        }
        Ok(())
    }

    fn used_bytes(&self) -> u64 {
        self.live
            .files
            .values()
            .map(|inode| inode.lock().live.len() as u64)
            .sum()
    }

    fn change(&mut self, dir: &Path, change: Change) -> io::Result<()> {
        self.alive()?;
        self.live.apply(&change);
        self.unsynced.push((dir.to_owned(), change));
        self.count()
    }

    fn file(&self, path: &Path) -> io::Result<Arc<Mutex<Inode>>> {
        let inode = self.live.files.get(path);
        inode.cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn has_dir(&self, dir: &Path) -> io::Result<()> {
        if self.live.dirs.contains(dir) {
            return Ok(());
        }
        Err(io::ErrorKind::NotFound.into())
    }
}

impl Names {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::Link(path, inode) => {
                self.files.insert(path.clone(), Arc::clone(inode));
            }
            Change::Rename(from, to, inode) => {
                self.files.remove(from);
                self.files.insert(to.clone(), Arc::clone(inode));
            }
            Change::Unlink(path) => {
                self.files.remove(path);
            }
            Change::MakeDir(path) => {
                self.dirs.insert(path.clone());
            }
            Change::RemoveDir(path) => {
                self.dirs.remove(path);
            }
        }
    }

    /// Files go with the directory that they were in.
    fn drop_orphans(&mut self) {
        let Self { files, dirs } = self;
        files.retain(|path, _| dirs.contains(parent(path)));
    }

    fn in_dir<'a>(&'a self, dir: &'a Path) -> impl Iterator<Item = &'a Path> {
        let files = self.files.keys().map(PathBuf::as_path);
        let dirs = self.dirs.iter().map(PathBuf::as_path);
        files
            .chain(dirs)
            .filter(move |path| path.parent() == Some(dir))
    }
}

impl Change {
    fn with_inode(&self, copy: &mut impl FnMut(&Arc<Mutex<Inode>>) -> Arc<Mutex<Inode>>) -> Self {
        match self {
            Self::Link(path, inode) => Self::Link(path.clone(), copy(inode)),
            Self::Rename(from, to, inode) => Self::Rename(from.clone(), to.clone(), copy(inode)),
            other => other.clone(),
        }
    }
}

impl Inode {
    fn write(&mut self, bytes: &[u8], position: usize) {
        if bytes.is_empty() {
            return;
        }
        let end = position + bytes.len();
        if end > self.live.len() {
            self.live.resize(end, 0);
            self.length_dirty = true;
        }
        self.live[position..end].copy_from_slice(bytes);
        self.dirty
            .extend(position / SECTOR_BYTES..=(end - 1) / SECTOR_BYTES);
    }

    fn sync(&mut self) {
        self.durable.resize(self.live.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            let start = (sector * SECTOR_BYTES).min(self.live.len());
            let end = (start + SECTOR_BYTES).min(self.live.len());
            self.durable[start..end].copy_from_slice(&self.live[start..end]);
        }
        self.length_dirty = false;
        self.uncut = None;
    }

    fn set_length(&mut self, bytes: usize) {
        if bytes < self.live.len() && self.uncut.is_none() {
            self.uncut = Some(self.live.clone());
        }
        self.live.resize(bytes, 0);
        self.length_dirty = true;
        // What is cut off and grows again reads as zeros, which a sync has to write.
        let sectors = self.durable.len().div_ceil(SECTOR_BYTES);
        self.dirty.extend(bytes / SECTOR_BYTES..sectors);
    }

    /// Reads show the disk again wherever nothing waits to be written.
    fn forget_from(&mut self, position: usize) {
        let first = position.div_ceil(SECTOR_BYTES);
        for sector in first..self.live.len().div_ceil(SECTOR_BYTES) {
            if !self.dirty.contains(&sector) {
                let start = sector * SECTOR_BYTES;
                let end = (start + SECTOR_BYTES).min(self.live.len());
                copy_padded(&mut self.live[start..end], &self.durable, start);
            }
        }
    }

    fn crash(&self, dice: &mut Dice) -> Self {
        let live = match &self.uncut {
            Some(uncut) if dice.even() => uncut,
            _ => &self.live,
        };
        let (written, durable) = (live.len(), self.durable.len());
        let length = match (self.length_dirty, dice.below(3)) {
            (false, _) | (true, 0) => durable,
            (true, 1) => written,
            (true, _) => {
                written.min(durable) + dice.below(written.abs_diff(durable) as u64 + 1) as usize
            }
        };
        let mut content = vec![0; length];
        copy_padded(&mut content, &self.durable, 0);
        for &sector in &self.dirty {
            let start = sector * SECTOR_BYTES;
            if start < length && dice.even() {
                let end = (start + SECTOR_BYTES).min(length);
                copy_padded(&mut content[start..end], live, start);
            }
        }
        Self {
            live: content.clone(),
            durable: content,
            ..Self::default()
        }
    }
}

/// Fills `to` with what `from` has at `start`, and zeros where it has nothing.
fn copy_padded(to: &mut [u8], from: &[u8], start: usize) {
    let from = from.get(start..).unwrap_or_default();
    let have = from.len().min(to.len());
    to[..have].copy_from_slice(&from[..have]);
    to[have..].fill(0);
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

impl Storage for MemoryStorage {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        let mut disk = self.disk.lock();
        disk.has_dir(parent(path))?;
        if disk.live.files.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = Arc::new(Mutex::new(Inode::default()));
        disk.change(
            parent(path),
            Change::Link(path.to_owned(), Arc::clone(&inode)),
        )?;
        Ok(Arc::new(MemoryFile {
            disk: Arc::clone(&self.disk),
            inode,
        }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        let disk = self.disk.lock();
        disk.alive()?;
        Ok(Arc::new(MemoryFile {
            disk: Arc::clone(&self.disk),
            inode: disk.file(path)?,
        }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let disk = self.disk.lock();
        disk.alive()?;
        disk.has_dir(dir)?;
        let names = disk.live.in_dir(dir).filter_map(Path::file_name);
        Ok(names
            .map(|name| name.to_string_lossy().into_owned())
            .collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.disk.lock();
        let inode = disk.file(from)?;
        disk.change(
            parent(to),
            Change::Rename(from.to_owned(), to.to_owned(), inode),
        )
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.file(path)?;
        disk.change(parent(path), Change::Unlink(path.to_owned()))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.has_dir(parent(path))?;
        if disk.live.dirs.contains(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        disk.change(parent(path), Change::MakeDir(path.to_owned()))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.has_dir(path)?;
        if disk.live.in_dir(path).next().is_some() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        disk.change(parent(path), Change::RemoveDir(path.to_owned()))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.count()?;
        disk.has_dir(path)?;
        match disk.dir_sync {
            SyncBehaviour::Honest => {}
            SyncBehaviour::Lying => return Ok(()),
            SyncBehaviour::Failing | SyncBehaviour::FailingOnce => {
                return Err(io::Error::other("the directory's sync failed"));
            }
        }
        let Disk {
            unsynced, durable, ..
        } = &mut *disk;
        unsynced.retain(|(dir, change)| {
            if dir == path {
                durable.apply(change);
            }
            dir != path
        });
        Ok(())
    }

    fn is_scarce(&self, _dir: &Path) -> bool {
        let capacity = self.disk.lock().capacity_bytes;
        capacity.is_some_and(|all| all.saturating_sub(self.used_bytes()) < scarce_bytes(all))
    }
}

#[derive(Debug)]
struct MemoryFile {
    disk: Arc<Mutex<Disk>>,
    inode: Arc<Mutex<Inode>>,
}

impl StorageFile for MemoryFile {
    fn length(&self) -> io::Result<u64> {
        self.disk.lock().alive()?;
        Ok(self.inode.lock().live.len() as u64)
    }

    fn read_at(&self, position: u64, bytes: usize) -> io::Result<Bytes> {
        self.disk.lock().alive()?;
        let inode = self.inode.lock();
        let rest = inode.live.get(position as usize..).unwrap_or_default();
        Ok(Bytes::copy_from_slice(&rest[..bytes.min(rest.len())]))
    }

    fn write_vectored_at(&self, slices: &mut [IoSlice<'_>], position: u64) -> io::Result<()> {
        let bytes: Vec<u8> = slices
            .iter()
            .flat_map(|slice| slice.iter().copied())
            .collect();
        let mut disk = self.disk.lock();
        disk.alive()?;
        let used = disk.used_bytes();
        let mut inode = self.inode.lock();
        let length = inode.live.len() as u64;
        let grows = (position + bytes.len() as u64).saturating_sub(length);
        let room = disk
            .capacity_bytes
            .map_or(u64::MAX, |capacity| capacity.saturating_sub(used));
        let lacking = grows.saturating_sub(room) as usize;
        inode.write(
            &bytes[..bytes.len().saturating_sub(lacking)],
            position as usize,
        );
        drop(inode);
        disk.count()?;
        if lacking > 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn set_length(&self, bytes: u64) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.alive()?;
        self.inode.lock().set_length(bytes as usize);
        disk.count()
    }

    fn trim(&self) -> io::Result<()> {
        self.disk.lock().alive()
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.count()?;
        let mut inode = self.inode.lock();
        match disk.sync {
            SyncBehaviour::Honest => inode.sync(),
            SyncBehaviour::Lying => {}
            SyncBehaviour::Failing | SyncBehaviour::FailingOnce => {
                inode.dirty.clear();
                if disk.sync == SyncBehaviour::FailingOnce {
                    disk.sync = SyncBehaviour::Honest;
                }
                return Err(io::Error::other("the sync failed"));
            }
        }
        Ok(())
    }

    fn forget_cached(&self, position: u64) -> io::Result<()> {
        self.disk.lock().alive()?;
        self.inode.lock().forget_from(position as usize);
        Ok(())
    }

    fn map(&self, _range: Range<u64>) -> io::Result<Option<Bytes>> {
        Ok(None)
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014): all that chance needs here.
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn even(&mut self) -> bool {
        self.next() & 1 == 0
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
