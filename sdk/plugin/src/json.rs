//! Fields of a JSON object, without building anything for the rest.
//!
//! A plugin that filters looks at one or two fields of most records. [`fields`] checks the whole text
//! and gives those alone, several times faster than a parser that makes values of all.
//!
//! ```
//! use millstream_plugin::json;
//!
//! let [mag, net] = json::fields(br#"{"id": 7, "mag": 4.5, "place": "Tonga"}"#, ["mag", "net"])?;
//! assert_eq!(mag, Some("4.5"));
//! assert_eq!(net, None);
//!
//! let error = json::fields(br#"{"mag": 4.5"#, ["mag"]).unwrap_err();
//! assert_eq!(error.to_string(), "invalid JSON at byte 11: expected `,` or `}`");
//! # Ok::<(), json::InvalidJson>(())
//! ```

use std::fmt;

/// Arrays and objects within each other, counted from the outermost.
const MAX_DEPTH: u32 = 128;

/// The text is not one JSON object ([RFC 8259](https://www.rfc-editor.org/rfc/rfc8259)), or is nested
/// deeper than 128.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidJson {
    /// Where.
    pub at: usize,
    /// What is wrong there.
    pub what: &'static str,
}

impl fmt::Display for InvalidJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid JSON at byte {}: {}", self.at, self.what)
    }
}

impl std::error::Error for InvalidJson {}

/// The values of the fields of these names, as they are written in the text: a number as its
/// digits, a string with its quotes, `null` as `null`. `None`: there is no such field.
///
/// A name is compared as it is written, so one that is written with escapes (`"m\u0061g"`) is not
/// found. Of fields with the same name, the last counts.
///
/// # Errors
///
/// The whole text is checked, and must be one object.
pub fn fields<'a, const N: usize>(
    json: &'a [u8],
    names: [&str; N],
) -> Result<[Option<&'a str>; N], InvalidJson> {
    if !is_ascii(json) {
        str::from_utf8(json).map_err(|error| InvalidJson {
            at: error.valid_up_to(),
            what: "not UTF-8",
        })?;
    }
    let mut scanner = Scanner { bytes: json, at: 0 };
    let mut found = [None; N];
    scanner.space();
    scanner.expect(b'{', "expected an object")?;
    scanner.members(0, |name, value| {
        if let Some(index) = names.iter().position(|wanted| wanted.as_bytes() == name) {
            // A value begins and ends with ASCII: it is text, as the whole is.
            found[index] = str::from_utf8(&json[value.0..value.1]).ok();
        }
    })?;
    scanner.space();
    match scanner.at == json.len() {
        true => Ok(found),
        false => Err(scanner.invalid("expected the end")),
    }
}

/// Whether all bytes are ASCII, eight at a time: the standard library looks at as many as a pointer has, which
/// are four in a guest.
fn is_ascii(bytes: &[u8]) -> bool {
    const HIGH_BITS: u64 = 0x8080_8080_8080_8080;
    let (words, rest) = bytes.as_chunks::<8>();
    let (blocks, words) = words.as_chunks::<4>();
    let word = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
    let all = |words: &[[u8; 8]]| words.iter().fold(0, |all, it| all | word(it));
    blocks.iter().all(|block| all(block) & HIGH_BITS == 0)
        && all(words) & HIGH_BITS == 0
        && rest.is_ascii()
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    fn invalid(&self, what: &'static str) -> InvalidJson {
        InvalidJson { at: self.at, what }
    }

    /// The next byte; 0, which begins nothing, at the end.
    #[inline]
    fn peek(&self) -> u8 {
        self.bytes.get(self.at).copied().unwrap_or(0)
    }

    #[inline]
    fn space(&mut self) {
        while matches!(self.peek(), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
    }

    #[inline]
    fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), InvalidJson> {
        if self.peek() != byte {
            return Err(self.invalid(what));
        }
        self.at += 1;
        Ok(())
    }

    /// The members of an object, and its end. Tells each name, and where its value begins and ends.
    #[inline]
    fn members(
        &mut self,
        depth: u32,
        mut tell: impl FnMut(&'a [u8], (usize, usize)),
    ) -> Result<(), InvalidJson> {
        self.space();
        if self.peek() == b'}' {
            self.at += 1;
            return Ok(());
        }
        loop {
            let name = self.string()?;
            self.space();
            self.expect(b':', "expected `:`")?;
            self.space();
            let begin = self.at;
            self.value(depth)?;
            tell(name, (begin, self.at));
            self.space();
            match self.peek() {
                b',' => self.at += 1,
                b'}' => break,
                _ => return Err(self.invalid("expected `,` or `}`")),
            }
            self.space();
        }
        self.at += 1;
        Ok(())
    }

    /// The elements of an array, and its end.
    fn elements(&mut self, depth: u32) -> Result<(), InvalidJson> {
        self.space();
        if self.peek() == b']' {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.value(depth)?;
            self.space();
            match self.peek() {
                b',' => self.at += 1,
                b']' => break,
                _ => return Err(self.invalid("expected `,` or `]`")),
            }
            self.space();
        }
        self.at += 1;
        Ok(())
    }

    #[inline]
    fn value(&mut self, depth: u32) -> Result<(), InvalidJson> {
        match self.peek() {
            b'"' => self.string().map(|_| ()),
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.literal(b"true"),
            b'f' => self.literal(b"false"),
            b'n' => self.literal(b"null"),
            b'{' | b'[' => self.nested(depth + 1),
            _ => Err(self.invalid("expected a value")),
        }
    }

    fn nested(&mut self, depth: u32) -> Result<(), InvalidJson> {
        if depth >= MAX_DEPTH {
            return Err(self.invalid("nested too deep"));
        }
        let opening = self.peek();
        self.at += 1;
        if opening == b'{' {
            self.members(depth, |_, _| ())
        } else {
            self.elements(depth)
        }
    }

    #[inline]
    fn literal(&mut self, literal: &[u8]) -> Result<(), InvalidJson> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        if !rest.starts_with(literal) {
            return Err(self.invalid("expected a value"));
        }
        self.at += literal.len();
        Ok(())
    }

    /// A string with its quotes. Returns what is between them, as it is written.
    #[inline]
    fn string(&mut self) -> Result<&'a [u8], InvalidJson> {
        self.expect(b'"', "expected a string")?;
        let begin = self.at;
        loop {
            self.skip_plain();
            match self.bytes.get(self.at) {
                Some(b'"') => break,
                Some(b'\\') => self.escape()?,
                Some(0..0x20) => return Err(self.invalid("a control character in a string")),
                Some(_) => self.at += 1,
                None => return Err(self.invalid("expected the end of a string")),
            }
        }
        let string = &self.bytes[begin..self.at];
        self.at += 1;
        Ok(string)
    }

    /// Skips what is nothing special in a string, eight bytes at a time.
    #[inline]
    fn skip_plain(&mut self) {
        const ONES: u64 = u64::MAX / 0xff;
        /// The high bit of each byte that is 0; perhaps of bytes behind it.
        fn zeroes(word: u64) -> u64 {
            word.wrapping_sub(ONES) & !word
        }
        while let Some(chunk) = self
            .bytes
            .get(self.at..)
            .and_then(|rest| rest.first_chunk::<8>())
        {
            let word = u64::from_le_bytes(*chunk);
            let quotes = zeroes(word ^ (ONES * u64::from(b'"')));
            let backslashes = zeroes(word ^ (ONES * u64::from(b'\\')));
            let controls = word.wrapping_sub(ONES * 0x20) & !word;
            let special = (quotes | backslashes | controls) & (ONES * 0x80);
            if special != 0 {
                self.at += special.trailing_zeros() as usize / 8;
                return;
            }
            self.at += 8;
        }
    }

    #[cold]
    fn escape(&mut self) -> Result<(), InvalidJson> {
        self.at += 1;
        match self.peek() {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.at += 1,
            b'u' => {
                self.at += 1;
                for _ in 0..4 {
                    if !self.peek().is_ascii_hexdigit() {
                        return Err(self.invalid("expected a hexadecimal digit"));
                    }
                    self.at += 1;
                }
            }
            _ => return Err(self.invalid("unknown escape")),
        }
        Ok(())
    }

    #[inline]
    fn number(&mut self) -> Result<(), InvalidJson> {
        if self.peek() == b'-' {
            self.at += 1;
        }
        match self.peek() {
            b'0' => self.at += 1,
            _ => self.digits()?,
        }
        if self.peek() == b'.' {
            self.at += 1;
            self.digits()?;
        }
        if let b'e' | b'E' = self.peek() {
            self.at += 1;
            if let b'+' | b'-' = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    /// At least one digit.
    #[inline]
    fn digits(&mut self) -> Result<(), InvalidJson> {
        let begin = self.at;
        while self.peek().is_ascii_digit() {
            self.at += 1;
        }
        if begin == self.at {
            Err(self.invalid("expected a digit"))
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
