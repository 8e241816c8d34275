//! A small disk for one broker, which outlives the broker's process.

use std::ffi::OsString;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::process::Process;

/// Programs in front of which a process has mounts of its own, and with which another one joins them: by a user
/// of its own, or as root.
const NAMESPACES: [(&[&str], &[&str]); 2] = [
    (
        &["unshare", "--user", "--map-root-user", "--mount"],
        &[
            "nsenter",
            "--preserve-credentials",
            "--user",
            "--mount",
            "--target",
        ],
    ),
    (&["unshare", "--mount"], &["nsenter", "--mount", "--target"]),
];

/// A file system in memory that is mounted on a directory, for those that are started within.
#[derive(Debug)]
pub struct SmallDisk {
    /// Holds the mount.
    holder: Process,
    join: &'static [&'static str],
    directory: PathBuf,
}

impl SmallDisk {
    /// One of this size on a directory, if this machine lets a process mount one for itself.
    pub fn mount(directory: &Path, bytes: u64) -> Option<Self> {
        fs::create_dir_all(directory).expect("a folder");
        NAMESPACES.into_iter().find_map(|(begin, join)| {
            let mount =
                format!("mount -t tmpfs -o size={bytes} tmpfs \"$0\" && echo there && exec cat");
            let mut holder = Command::new(begin[0]);
            holder
                .args(&begin[1..])
                .args(["sh", "-c", &mount])
                .arg(directory)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null());
            let mut holder = Process::spawn(&mut holder);
            let mut said = [0; 5];
            let out = holder.child().stdout.as_mut().expect("a pipe");
            std::io::Read::read_exact(out, &mut said).ok()?;
            let disk = Self {
                holder,
                join,
                directory: directory.to_owned(),
            };
            let joined = disk.within().into_iter().chain(["true".into()]);
            let joined: Vec<OsString> = joined.collect();
            let joined = Command::new(&joined[0]).args(&joined[1..]).output();
            joined.is_ok_and(|it| it.status.success()).then_some(disk)
        })
    }

    /// The command line that runs what follows where the disk is mounted.
    pub fn within(&self) -> Vec<OsString> {
        let mut words: Vec<OsString> = self.join.iter().map(OsString::from).collect();
        words.push(self.holder.id().to_string().into());
        words.push("--".into());
        words
    }

    /// The directory as it is seen from outside.
    pub fn path(&self) -> PathBuf {
        let seen = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        let inside = self.directory.strip_prefix("/").expect("an absolute path");
        seen.join(inside)
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }

    /// Takes all the room that there is.
    pub fn fill(&self) {
        let mut ballast = fs::File::options()
            .create(true)
            .append(true)
            .open(self.ballast())
            .expect("a file on the small disk");
        for bytes in [1 << 20, 4 << 10] {
            let zeros = vec![0; bytes];
            loop {
                match ballast.write(&zeros) {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => panic!("the small disk cannot be filled: {error}"),
                }
            }
        }
    }

    /// Gives it back.
    pub fn free(&self) {
        fs::remove_file(self.ballast()).expect("the ballast");
    }
}
