//! Moves through a JSON text.

use std::ops::Range;

/// A place in a JSON text that has been checked: nothing is checked again, and nothing fails. In a text
/// that is not JSON it finds nonsense, but comes to the end.
pub(crate) struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    /// Where it is.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// Part of the text.
    pub(crate) fn slice(&self, range: Range<usize>) -> &'a [u8] {
        self.text.get(range).unwrap_or_default()
    }

    /// The byte that it is at; 0 at the end.
    pub(crate) fn peek(&self) -> u8 {
        self.text.get(self.at).copied().unwrap_or(0)
    }

    /// Moves behind one byte.
    pub(crate) fn step(&mut self) {
        self.at = self.text.len().min(self.at + 1);
    }

    /// Moves behind white space.
    pub(crate) fn space(&mut self) {
        while matches!(self.peek(), b' ' | b'\t' | b'\n' | b'\r') {
            self.step();
        }
    }

    /// Moves behind `byte` and the white space on both sides. `false`: another one is there.
    pub(crate) fn separator(&mut self, byte: u8) -> bool {
        self.space();
        let found = self.peek() == byte;
        if found {
            self.step();
            self.space();
        }
        found
    }

    /// Moves behind a value.
    pub(crate) fn value(&mut self) {
        match self.peek() {
            b'"' => self.string(),
            b'{' | b'[' => self.nested(),
            _ => {
                self.until(|byte| matches!(byte, b',' | b']' | b'}') || byte.is_ascii_whitespace())
            }
        }
    }

    /// Moves behind a string.
    pub(crate) fn string(&mut self) {
        self.step();
        loop {
            self.until(|byte| matches!(byte, b'"' | b'\\'));
            let escaped = self.peek() == b'\\';
            self.step();
            if !escaped {
                return;
            }
            self.step();
        }
    }

    /// Moves behind an object or an array.
    fn nested(&mut self) {
        let mut depth = 0_usize;
        loop {
            match self.peek() {
                b'"' => {
                    self.string();
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            self.step();
            if depth == 0 || self.at == self.text.len() {
                return;
            }
        }
    }

    /// Moves to the next byte that `ends`.
    fn until(&mut self, ends: impl Fn(u8) -> bool) {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let found = rest.iter().position(|&byte| ends(byte));
        self.at += found.unwrap_or(rest.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_ends_where_it_ends() {
        for value in [
            "1",
            "-1.5e+7",
            "true",
            "null",
            r#""""#,
            r#""a\"b\\""#,
            r#""\\""#,
            "{}",
            r#"{"}":["]",{"a":"\"]"}]}"#,
            "[[],[ ]]",
        ] {
            for behind in ["", ",", "}", "]", " ", "\n}"] {
                let text = format!("{value}{behind}");
                let mut cursor = Cursor::new(text.as_bytes());
                cursor.value();
                assert_eq!(cursor.at(), value.len(), "{text}");
            }
        }
    }

    #[test]
    fn what_does_not_end_ends_with_the_text() {
        for text in ["", "\"a", "\"a\\", "[", "{\"a\":\"", "[[]", "tru"] {
            let mut cursor = Cursor::new(text.as_bytes());
            cursor.value();
            assert_eq!(cursor.at(), text.len(), "{text}");
        }
    }
}
