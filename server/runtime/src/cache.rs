//! Compiled components on disk: by the component's digest, for one engine, never trusted as they lie
//! there.
//!
//! The folder belongs to this user alone, or nothing is read from it. Each file is called
//! `<digest>.<engine>.native` and holds
//!
//! ```text
//! offset  bytes  what
//!      0      8  "MSNATIVE"
//!      8     32  SHA-256 of the digest (64 bytes of text) and of everything behind this field
//!     40      8  size of the component, bytes, little-endian
//!     48      …  the artefact, as the compiler has written it
//! ```
//!
//! A cache may lose anything at any time: what goes wrong is logged, and the component compiled again.

use std::collections::hash_map::DefaultHasher;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::OFlags;
use rustix::process::geteuid;
use sha2::{Digest as _, Sha256};
use wasmtime::Engine;

use crate::native::Artefact;

/// All compiled components together, bytes. Beyond it the oldest go.
pub const MAX_CACHE_BYTES: u64 = 1 << 30;

const MAGIC: &[u8; 8] = b"MSNATIVE";
const HEADER_BYTES: usize = MAGIC.len() + 32 + 8;

const EXTENSION: &str = "native";
const DRAFT_EXTENSION: &str = "draft";

/// What others may do with the folder or with a file in it: nothing.
const OTHERS: u32 = 0o077;

/// The folder of compiled components.
pub(crate) struct Cache {
    folder: PathBuf,
    /// What tells engines apart that cannot load each other's artefacts.
    engine: String,
    limit_bytes: u64,
}

/// What is kept of a component.
pub(crate) struct Kept {
    pub(crate) component_bytes: usize,
    pub(crate) artefact: Artefact,
}

/// A file of the cache.
struct Entry {
    path: PathBuf,
    bytes: u64,
    kept_at: SystemTime,
}

impl Cache {
    /// The cache in this folder, which is made if it is not there.
    pub(crate) fn open(folder: PathBuf, engine: &Engine) -> Self {
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let cache = Self {
            folder,
            engine: format!("{:016x}", hasher.finish()),
            limit_bytes: MAX_CACHE_BYTES,
        };
        if let Err(error) = cache.prepare() {
            let folder = cache.folder.display();
            tracing::warn!(%folder, %error, "compiled components are not kept");
        }
        cache
    }

    /// Makes the folder. In one that others could write to lies nothing that can be trusted: it is
    /// made anew.
    fn prepare(&self) -> io::Result<()> {
        match fs::symlink_metadata(&self.folder) {
            Ok(found) if trusted(&found).is_ok() => return Ok(()),
            Ok(found) if found.is_dir() && found.uid() == geteuid().as_raw() => {
                let folder = self.folder.display();
                tracing::warn!(%folder, "others could write here: its compiled components are discarded");
                fs::remove_dir_all(&self.folder)?;
            }
            Ok(_) => return Err(io::Error::other("this is not a folder of this user")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        DirBuilder::new().mode(0o700).create(&self.folder)
    }

    /// Whether the folder is this user's alone, now.
    fn check_folder(&self) -> io::Result<()> {
        let found = fs::symlink_metadata(&self.folder)?;
        if !found.is_dir() {
            return Err(io::Error::other("this is not a folder"));
        }
        trusted(&found)
    }

    fn path(&self, digest: &str) -> PathBuf {
        let name = format!("{digest}.{}.{EXTENSION}", self.engine);
        self.folder.join(name)
    }

    /// What is kept of a component, if it can be trusted.
    pub(crate) fn load(&self, digest: &str) -> Option<Kept> {
        let path = self.path(digest);
        match self.read(&path, digest) {
            Ok(kept) => Some(kept),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                let path = path.display();
                tracing::warn!(%path, %error, "a compiled component is not used");
                None
            }
        }
    }

    fn read(&self, path: &Path, digest: &str) -> io::Result<Kept> {
        self.check_folder()?;
        let mut file = OpenOptions::new()
            .read(true)
            .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32)
            .open(path)?;
        let found = file.metadata()?;
        trusted(&found)?;
        if !found.is_file() || found.len() > self.limit_bytes {
            return Err(io::Error::other("it is too large, or no file"));
        }
        let mut header = [0; HEADER_BYTES];
        file.read_exact(&mut header)?;
        let mut artefact = Vec::with_capacity(found.len() as usize);
        file.take(self.limit_bytes).read_to_end(&mut artefact)?;
        decode(digest, &header, artefact).ok_or_else(|| io::Error::other("it is damaged"))
    }

    /// Keeps a compiled component. Blocks on the disk; need not last.
    pub(crate) fn keep(&self, digest: &str, component_bytes: usize, artefact: &Artefact) {
        if let Err(error) = self.write(digest, component_bytes, artefact) {
            tracing::warn!(digest, %error, "a compiled component is not kept");
        }
    }

    fn write(&self, digest: &str, component_bytes: usize, artefact: &Artefact) -> io::Result<()> {
        self.check_folder()?;
        let header = encode_header(digest, component_bytes, artefact.bytes());
        self.make_room((HEADER_BYTES + artefact.bytes().len()) as u64)?;
        let path = self.path(digest);
        let draft = path.with_extension(DRAFT_EXTENSION);
        remove_if_there(&draft)?;
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft)?;
        file.write_all(&header)?;
        file.write_all(artefact.bytes())?;
        fs::rename(&draft, &path)
    }

    /// Removes the oldest until there is room for so many bytes.
    fn make_room(&self, bytes: u64) -> io::Result<()> {
        if bytes > self.limit_bytes {
            return Err(io::Error::other("it is larger than the whole cache"));
        }
        let mut entries = self.entries()?;
        entries.sort_by_key(|entry| entry.kept_at);
        let mut sum = entries.iter().map(|entry| entry.bytes).sum::<u64>() + bytes;
        for entry in entries {
            if sum <= self.limit_bytes {
                break;
            }
            remove_if_there(&entry.path)?;
            sum -= entry.bytes;
        }
        Ok(())
    }

    /// Removes what is for another engine, what was not finished, and every component that is not
    /// used.
    pub(crate) fn forget_unless(&self, used: impl Fn(&str) -> bool) {
        let stays = |path: &Path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.and_then(|name| name.split_once('.'))
                .is_some_and(|(digest, _)| used(digest) && path == self.path(digest))
        };
        let forget = || -> io::Result<()> {
            self.check_folder()?;
            for entry in self.entries()? {
                if !stays(&entry.path) {
                    remove_if_there(&entry.path)?;
                }
            }
            Ok(())
        };
        if let Err(error) = forget() {
            tracing::warn!(%error, "unused compiled components remain on disk");
        }
    }

    fn entries(&self) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let found = entry.metadata()?;
            entries.push(Entry {
                path: entry.path(),
                bytes: found.len(),
                kept_at: found.modified()?,
            });
        }
        Ok(entries)
    }
}

/// Whether a folder or file is this user's alone.
fn trusted(found: &Metadata) -> io::Result<()> {
    if found.uid() != geteuid().as_raw() || found.mode() & OTHERS != 0 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "others may use it as well: it should be the broker's alone (mode 0700, a file 0600)",
        ));
    }
    Ok(())
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn checksum(digest: &str, component_bytes: [u8; 8], artefact: &[u8]) -> [u8; 32] {
    Sha256::new()
        .chain_update(digest)
        .chain_update(component_bytes)
        .chain_update(artefact)
        .finalize()
        .into()
}

fn encode_header(digest: &str, component_bytes: usize, artefact: &[u8]) -> Vec<u8> {
    let component_bytes = (component_bytes as u64).to_le_bytes();
    let checksum = checksum(digest, component_bytes, artefact);
    [&MAGIC[..], &checksum, &component_bytes].concat()
}

/// What a file holds, if it is as it was written, for this digest.
fn decode(digest: &str, header: &[u8; HEADER_BYTES], artefact: Vec<u8>) -> Option<Kept> {
    let rest = header.strip_prefix(MAGIC)?;
    let (expected, size) = rest.split_first_chunk::<32>()?;
    let size = *size.first_chunk::<8>()?;
    if checksum(digest, size, &artefact) != *expected {
        return None;
    }
    Some(Kept {
        component_bytes: usize::try_from(u64::from_le_bytes(size)).ok()?,
        artefact: Artefact::trusted(artefact),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const DIGEST: &str = "d1";

    struct Place {
        _folder: tempfile::TempDir,
        cache: Cache,
    }

    fn place() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path().join("compiled"), &Engine::default());
        Place {
            _folder: folder,
            cache,
        }
    }

    fn keep(cache: &Cache, digest: &str, bytes: &[u8]) {
        cache.keep(digest, 7, &Artefact::trusted(bytes.to_vec()));
    }

    fn loaded(cache: &Cache, digest: &str) -> Option<Vec<u8>> {
        let kept = cache.load(digest)?;
        assert_eq!(kept.component_bytes, 7);
        Some(kept.artefact.bytes().to_vec())
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_is_kept_comes_back() {
        let Place { cache, _folder } = place();
        assert!(cache.load(DIGEST).is_none());
        keep(&cache, DIGEST, b"code");
        keep(&cache, DIGEST, b"code");
        assert_eq!(loaded(&cache, DIGEST).unwrap(), b"code");
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(
            (mode(&cache.folder), mode(&cache.path(DIGEST))),
            (0o700, 0o600)
        );
    }

    #[test]
    fn what_was_changed_or_renamed_is_not_used() {
        let Place { cache, _folder } = place();
        keep(&cache, DIGEST, b"some code");
        let path = cache.path(DIGEST);
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            fs::write(&path, changed).unwrap();
            assert!(cache.load(DIGEST).is_none(), "byte {at} is not looked at");
            fs::write(&path, &whole[..at]).unwrap();
            assert!(cache.load(DIGEST).is_none(), "cut at {at}");
        }
        fs::write(&path, &whole).unwrap();
        assert!(cache.load(DIGEST).is_some());
        fs::rename(&path, cache.path("d2")).unwrap();
        assert!(cache.load("d2").is_none());
    }

    #[test]
    fn a_folder_or_file_that_others_can_write_is_not_trusted() {
        let Place { cache, _folder } = place();
        keep(&cache, DIGEST, b"code");
        for path in [cache.folder.clone(), cache.path(DIGEST)] {
            let mode = fs::metadata(&path).unwrap().mode();
            for others in [0o002, 0o020, 0o777] {
                set_mode(&path, mode | others);
                assert!(
                    cache.load(DIGEST).is_none(),
                    "{} {others:o}",
                    path.display()
                );
            }
            set_mode(&path, mode);
            assert!(cache.load(DIGEST).is_some());
        }
        let elsewhere = cache.folder.with_file_name("elsewhere");
        fs::rename(cache.path(DIGEST), &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, cache.path(DIGEST)).unwrap();
        assert!(cache.load(DIGEST).is_none(), "a link leads anywhere");
    }

    #[test]
    fn a_folder_that_was_open_to_others_is_made_anew() {
        let Place { cache, _folder } = place();
        keep(&cache, DIGEST, b"code");
        set_mode(&cache.folder, 0o777);
        let again = Cache::open(cache.folder.clone(), &Engine::default());
        assert!(again.load(DIGEST).is_none());
        keep(&again, DIGEST, b"code");
        assert!(again.load(DIGEST).is_some());
    }

    #[test]
    fn another_engine_finds_nothing() {
        let Place { cache, _folder } = place();
        keep(&cache, DIGEST, b"code");
        let mut config = wasmtime::Config::new();
        config.epoch_interruption(true);
        let other = Cache::open(cache.folder.clone(), &Engine::new(&config).unwrap());
        assert!(other.load(DIGEST).is_none());
        other.forget_unless(|_| true);
        assert!(
            cache.load(DIGEST).is_none(),
            "an old engine's are forgotten"
        );
    }

    #[test]
    fn the_oldest_make_room_and_the_unused_go() {
        let Place { mut cache, _folder } = place();
        cache.limit_bytes = 2 * (HEADER_BYTES as u64 + 4);
        for (age, digest) in [(3, "d1"), (2, "d2"), (1, "d3")] {
            keep(&cache, digest, b"code");
            let file = File::open(cache.path(digest)).unwrap();
            file.set_modified(SystemTime::now() - std::time::Duration::from_secs(age))
                .unwrap();
        }
        let there = |digest| cache.load(digest).is_some();
        assert_eq!((there("d1"), there("d2"), there("d3")), (false, true, true));
        keep(&cache, "d4", &[0; 200]);
        assert!(!there("d4"), "it is larger than the whole cache");
        cache.forget_unless(|digest| digest == "d3");
        assert!(!there("d2"));
        assert_eq!(fs::read_dir(&cache.folder).unwrap().count(), 1);
    }
}
