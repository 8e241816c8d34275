//! Comparison of what is written with a file that says what should be.

use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::errors::{Exit, Problem};

/// The longest line of the file, bytes: the largest record, all of it escaped.
const MAX_LINE_BYTES: u64 = 32 << 20;

/// Characters of a line that are shown where two lines differ.
const SHOWN_CHARS: usize = 160;

/// Characters of them that stand before the difference.
const SHOWN_BEFORE: usize = 40;

const _: () = assert!(SHOWN_BEFORE < SHOWN_CHARS);

/// The lines that should be written.
pub(super) struct Expectation {
    path: PathBuf,
    lines: BufReader<Box<dyn Read + Send>>,
    /// Lines compared so far.
    compared: u64,
    difference: Option<Difference>,
}

/// The first line that is not as it should be.
#[derive(Debug, PartialEq, Eq)]
struct Difference {
    /// Counted from 1.
    line: u64,
    expected: Option<String>,
    found: Option<String>,
}

impl Expectation {
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self::of(path, file))
    }

    fn of(path: &Path, lines: impl Read + Send + 'static) -> Self {
        Self {
            path: path.to_owned(),
            lines: BufReader::new(Box::new(lines)),
            compared: 0,
            difference: None,
        }
    }

    /// Compares the next line that was written.
    pub(super) fn compare(&mut self, found: &str) -> anyhow::Result<()> {
        if self.difference.is_none() {
            let expected = self.next()?;
            if expected.as_deref() != Some(found) {
                self.differs(expected, Some(found.to_owned()));
            }
            self.compared += 1;
        }
        Ok(())
    }

    /// Nothing more was written: says what was different, if anything was.
    pub(super) fn finish(mut self) -> anyhow::Result<Option<Problem>> {
        if self.difference.is_none() {
            let expected = self.next()?;
            if expected.is_some() {
                self.differs(expected, None);
            }
        }
        let Some(difference) = &self.difference else {
            return Ok(None);
        };
        let message = format!(
            "the output is not as {} says: {difference}",
            self.path.display()
        );
        Ok(Some(Problem::new(Exit::Damaged, message).advise(
            "correct the plugin; or, if this is what it is to write, redirect the output into the file",
        )))
    }

    fn differs(&mut self, expected: Option<String>, found: Option<String>) {
        self.difference = Some(Difference {
            line: self.compared + 1,
            expected,
            found,
        });
    }

    /// The next line of the file, without its end.
    fn next(&mut self) -> anyhow::Result<Option<String>> {
        let mut line = Vec::new();
        let read = (&mut self.lines)
            .take(MAX_LINE_BYTES)
            .read_until(b'\n', &mut line)
            .with_context(|| format!("cannot read {}", self.path.display()))?;
        if read == 0 {
            return Ok(None);
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        } else if line.len() as u64 == MAX_LINE_BYTES {
            let message = format!(
                "line {} of {} is longer than any output",
                self.compared + 1,
                self.path.display()
            );
            return Err(Problem::usage(message)
                .advise("name a file that an earlier run has written")
                .into());
        }
        Ok(Some(String::from_utf8_lossy(&line).into_owned()))
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (expected, found) = (self.expected.as_deref(), self.found.as_deref());
        let at = match (expected, found) {
            (Some(expected), Some(found)) => common_chars(expected, found),
            _ => 0,
        };
        let show = |line: Option<&str>| line.map_or("nothing".to_owned(), |line| window(line, at));
        write!(
            f,
            "line {}\nexpected: {}\nfound:    {}",
            self.line,
            show(expected),
            show(found)
        )
    }
}

/// Characters with which both begin.
fn common_chars(one: &str, other: &str) -> usize {
    one.chars()
        .zip(other.chars())
        .take_while(|(a, b)| a == b)
        .count()
}

/// The part of a line around a character.
fn window(line: &str, at: usize) -> String {
    let chars = line.chars().count();
    if chars <= SHOWN_CHARS {
        return line.to_owned();
    }
    let skipped = at.saturating_sub(SHOWN_BEFORE).min(chars - SHOWN_CHARS);
    let shown: String = line.chars().skip(skipped).take(SHOWN_CHARS).collect();
    let before = if skipped > 0 { "…" } else { "" };
    let after = if skipped + SHOWN_CHARS < chars {
        "…"
    } else {
        ""
    };
    format!("{before}{shown}{after}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(expected: &'static str, found: &[&str]) -> Option<String> {
        let mut expectation = Expectation::of(Path::new("expected"), expected.as_bytes());
        for line in found {
            expectation.compare(line).unwrap();
        }
        expectation
            .finish()
            .unwrap()
            .map(|problem| problem.to_string())
    }

    #[test]
    fn what_is_the_same_says_nothing() {
        assert_eq!(check("", &[]), None);
        assert_eq!(check("a\nb\n", &["a", "b"]), None);
        assert_eq!(check("a\nb", &["a", "b"]), None);
    }

    #[test]
    fn the_first_difference_is_shown() {
        insta::assert_snapshot!(check("a\nb\nc\n", &["a", "x", "y"]).unwrap(), @r"
        the output is not as expected says: line 2
        expected: b
        found:    x
        ");
        insta::assert_snapshot!(check("a\nb\n", &["a"]).unwrap(), @r"
        the output is not as expected says: line 2
        expected: b
        found:    nothing
        ");
        insta::assert_snapshot!(check("a\n", &["a", "b", "c"]).unwrap(), @r"
        the output is not as expected says: line 2
        expected: nothing
        found:    b
        ");
    }

    #[test]
    fn long_lines_are_shown_around_the_difference() {
        let line = |at: usize| format!("{}X{}", "a".repeat(at), "b".repeat(400));
        assert_eq!(window(&line(300), 300).chars().count(), SHOWN_CHARS + 2);
        assert!(window(&line(300), 300).starts_with(&format!("…{}X", "a".repeat(SHOWN_BEFORE))));
        assert!(window(&line(3), 3).starts_with("aaaX"));
        assert_eq!(window("short", 2), "short");
    }
}
