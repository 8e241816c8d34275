//! The folder below `target` in which a plugin is built.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::kit::Source;
use super::language::{Folder, Language};

/// Marks a toolchain that is whole. It holds what the toolchain was made from.
const COMPLETE: &str = "complete";

/// Where a plugin that cargo does not build is built. One build of its language at a time is at work
/// in it.
#[derive(Debug)]
pub(super) struct Workshop {
    root: PathBuf,
    name: String,
    language: Language,
    /// Locked until it is dropped.
    _lock: File,
}

impl Workshop {
    /// Below `target_dir`, or below `target` in the plugin's folder. Waits for another
    /// build of the language there.
    pub(super) fn open(folder: &Folder, target_dir: Option<&Path>) -> anyhow::Result<Self> {
        let root = match target_dir {
            Some(given) => std::path::absolute(given)?,
            None => folder.path.join("target"),
        };
        let cannot_use = || format!("cannot build in {}", root.display());
        fs::create_dir_all(&root).with_context(cannot_use)?;
        // A language's builds share its tools, and nothing with another's.
        let lock = format!(".{}.lock", folder.language.name());
        let lock = File::create(root.join(lock)).with_context(cannot_use)?;
        lock.lock().with_context(cannot_use)?;
        Ok(Self {
            root,
            name: folder.name.clone(),
            language: folder.language,
            _lock: lock,
        })
    }

    /// The component's file.
    pub(super) fn component(&self) -> PathBuf {
        self.of_language().join(format!("{}.wasm", self.name))
    }

    /// A folder of this plugin's for a part of the build.
    pub(super) fn part(&self, part: &str) -> PathBuf {
        self.of_language().join(&self.name).join(part)
    }

    fn of_language(&self) -> PathBuf {
        self.root.join(self.language.name())
    }

    /// A part with these files and no other.
    pub(super) fn laid_out(&self, part: &str, sources: &[Source]) -> anyhow::Result<PathBuf> {
        let folder = self.part(part);
        lay_out(&folder, sources)?;
        Ok(folder)
    }

    /// The folder of a toolchain that is made from `recipe`: `make` fills it when it is not there, or
    /// was made from another.
    pub(super) async fn toolchain(
        &self,
        recipe: &str,
        make: impl AsyncFnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<PathBuf> {
        let folder = self.root.join("toolchains").join(self.language.name());
        let complete = folder.join(COMPLETE);
        if fs::read_to_string(&complete).is_ok_and(|made_from| made_from == recipe) {
            return Ok(folder);
        }
        let cannot_write = || format!("cannot write {}", folder.display());
        emptied(&folder).with_context(cannot_write)?;
        make(&folder).await?;
        fs::write(&complete, recipe).with_context(cannot_write)?;
        Ok(folder)
    }
}

/// Makes a folder of these files and no other.
pub(super) fn lay_out(folder: &Path, sources: &[Source]) -> anyhow::Result<()> {
    let write = || {
        emptied(folder)?;
        for source in sources {
            let path = folder.join(source.path);
            fs::create_dir_all(path.parent().unwrap_or(folder))?;
            fs::write(path, source.text)?;
        }
        Ok::<_, std::io::Error>(())
    };
    write().with_context(|| format!("cannot write {}", folder.display()))
}

/// An empty folder. A link in its place is removed, and not what it leads to.
fn emptied(folder: &Path) -> std::io::Result<()> {
    match fs::symlink_metadata(folder) {
        Ok(there) if there.is_dir() => fs::remove_dir_all(folder)?,
        Ok(_) => fs::remove_file(folder)?,
        Err(_) => {}
    }
    fs::create_dir_all(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workshop(root: &Path) -> Workshop {
        let folder = Folder {
            path: root.to_owned(),
            name: "my-plugin".to_owned(),
            language: Language::Python,
        };
        Workshop::open(&folder, None).unwrap()
    }

    #[test]
    fn everything_is_below_target() {
        let root = tempfile::tempdir().unwrap();
        let workshop = workshop(root.path());
        let target = root.path().join("target");
        assert_eq!(workshop.component(), target.join("python/my-plugin.wasm"));
        assert_eq!(workshop.part("wit"), target.join("python/my-plugin/wit"));
    }

    #[test]
    fn a_part_has_the_files_of_this_build_alone() {
        let root = tempfile::tempdir().unwrap();
        let source = |path| Source { path, text: "x" };
        let workshop = workshop(root.path());
        let folder = workshop.laid_out("sdk", &[source("a/b.py")]).unwrap();
        assert!(folder.join("a/b.py").is_file());
        workshop.laid_out("sdk", &[source("c.py")]).unwrap();
        assert!(folder.join("c.py").is_file() && !folder.join("a").exists());
    }

    #[test]
    fn a_link_is_replaced_and_what_it_leads_to_stays() {
        let root = tempfile::tempdir().unwrap();
        let (there, link) = (root.path().join("there"), root.path().join("link"));
        fs::create_dir(&there).unwrap();
        fs::write(there.join("file"), "").unwrap();
        std::os::unix::fs::symlink(&there, &link).unwrap();
        lay_out(
            &link,
            &[Source {
                path: "x",
                text: "",
            }],
        )
        .unwrap();
        assert!(there.join("file").exists() && !there.join("x").exists());
        assert!(link.join("x").exists());
    }

    #[tokio::test]
    async fn a_toolchain_is_made_once_and_again_when_it_is_another() {
        let root = tempfile::tempdir().unwrap();
        let workshop = workshop(root.path());
        let made = async |recipe: &str, outcome: anyhow::Result<()>| {
            let mut made = false;
            let toolchain = workshop.toolchain(recipe, async |_: &Path| {
                made = true;
                outcome
            });
            let _ = toolchain.await;
            made
        };
        assert!(made("tool 1", Err(anyhow::anyhow!("no network"))).await);
        assert!(made("tool 1", Ok(())).await);
        assert!(!made("tool 1", Ok(())).await);
        assert!(made("tool 2", Ok(())).await);
    }
}
