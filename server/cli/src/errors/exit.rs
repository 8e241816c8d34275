//! Exit codes.

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It did what was asked.
    Success = 0,
    /// It failed, for a reason without a code of its own.
    Failure = 1,
    /// What was typed, or a file it names, makes no sense. Nothing was done.
    Usage = 2,
    /// No broker could be reached, or the connection was lost.
    Unreachable = 3,
    /// A topic, partition, group, deployment, revision, key, secret, offset or file does not exist.
    NotFound = 4,
    /// It exists already, is in use, is at a limit, or refuses what was asked for.
    Refused = 5,
    /// The certificate is refused, or the principal may not do this.
    NotAuthorized = 6,
    /// Data is damaged, storage failed, or a verification found a difference.
    Damaged = 7,
    /// A tool that a plugin is built with is not installed, or cannot be fetched.
    ToolMissing = 8,
    /// Ctrl-C.
    Interrupted = 130,
    /// SIGTERM.
    Terminated = 143,
}

/// The exit codes as `--help` shows them.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    failed, for a reason without a code of its own
  2    what was typed, or a file it names, makes no sense
  3    no broker could be reached, or the connection was lost
  4    a topic, partition, group, deployment, revision, key, secret, offset or file does not exist
  5    it exists already, is in use, is at a limit, or was refused
  6    the certificate is refused, or the principal may not do this
  7    data is damaged, storage failed, or a verification found a difference
  8    a tool that a plugin is built with is not installed, or cannot be fetched
  130  interrupted (Ctrl-C); 143 after SIGTERM";

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
