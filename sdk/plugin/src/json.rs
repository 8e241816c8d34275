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
    let mut found = [None; N];
    find(json, &names, &mut found).map_err(|error| InvalidJson {
        at: json.len() - error.left,
        what: error.what,
    })?;
    Ok(found)
}

/// The number that a value of [`fields`] is, to the nearest `f64`. `None`: it is something else, or larger
/// than any `f64`.
pub fn number(value: &str) -> Option<f64> {
    short_number(value.as_bytes()).or_else(|| {
        // What else this takes for a number is no JSON, or not finite.
        value.parse().ok().filter(|number: &f64| number.is_finite())
    })
}

/// A number of few digits, without an exponent: an `f64` holds the digits and the power of ten that they are
/// divided by as they are, so that the quotient is the nearest there is.
fn short_number(value: &[u8]) -> Option<f64> {
    let digits = value.strip_prefix(b"-").unwrap_or(value);
    if digits.is_empty() || digits.len() > EXACT_DIGITS {
        return None;
    }
    let (mut number, mut point) = (0u64, None);
    for (index, byte) in digits.iter().enumerate() {
        match byte {
            b'0'..=b'9' => number = number * 10 + u64::from(byte - b'0'),
            b'.' if point.is_none() => point = Some(index),
            _ => return None,
        }
    }
    let decimals = point.map_or(0, |point| digits.len() - point - 1);
    let number = number as f64 / POWERS_OF_TEN.get(decimals)?;
    Some(match digits.len() < value.len() {
        true => -number,
        false => number,
    })
}

/// So many decimal digits always fit into the 53 bits that an `f64` has for them.
const EXACT_DIGITS: usize = 15;

const POWERS_OF_TEN: [f64; EXACT_DIGITS] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14,
];

/// What is wrong, with so many bytes left.
struct Wrong {
    left: usize,
    what: &'static str,
}

#[cold]
fn wrong(rest: &[u8], what: &'static str) -> Wrong {
    Wrong {
        left: rest.len(),
        what,
    }
}

/// What is left of the text behind what was skipped.
type Rest<'a> = Result<&'a [u8], Wrong>;

/// What [`fields`] does, once for all numbers of names: a guest's compiler makes the better code the less of it
/// there is.
#[inline(never)]
fn find<'a>(json: &'a [u8], names: &[&str], found: &mut [Option<&'a str>]) -> Result<(), Wrong> {
    let rest = skip_space(json);
    let Some((b'{', rest)) = rest.split_first() else {
        return Err(wrong(rest, "expected an object"));
    };
    let rest = skip_members(rest, 0, |name, value| {
        // Most names differ in length or at the first letter already.
        let is_it = |wanted: &&str| {
            let wanted = wanted.as_bytes();
            wanted.len() == name.len() && wanted.first() == name.first() && wanted == name
        };
        if let Some(index) = names.iter().position(is_it) {
            // What is not ASCII has been looked at.
            found[index] = checked(value);
        }
    })?;
    let rest = skip_space(rest);
    match rest.is_empty() {
        true => Ok(()),
        false => Err(wrong(rest, "expected the end")),
    }
}

/// What has been checked, as text. Most values are so short that a look at each of their bytes is quicker
/// than what is made for long ones.
fn checked(value: &[u8]) -> Option<&str> {
    match value.len() {
        ..16 => value.utf8_chunks().next().map(|chunk| chunk.valid()),
        _ => str::from_utf8(value).ok(),
    }
}

#[inline(always)]
fn skip_space(rest: &[u8]) -> &[u8] {
    match rest.first() {
        Some(0..=b' ') => skip_blanks(rest),
        // As in what programs write for programs.
        _ => rest,
    }
}

#[inline(never)]
fn skip_blanks(mut rest: &[u8]) -> &[u8] {
    while let Some((b' ' | b'\t' | b'\n' | b'\r', behind)) = rest.split_first() {
        rest = behind;
    }
    rest
}

/// The members of an object, and its end. Tells each name, and its value as it is written.
#[inline(always)]
fn skip_members<'a>(
    rest: &'a [u8],
    depth: u32,
    mut tell: impl FnMut(&'a [u8], &'a [u8]),
) -> Rest<'a> {
    let mut rest = skip_space(rest);
    if let Some((b'}', rest)) = rest.split_first() {
        return Ok(rest);
    }
    loop {
        let Some((b'"', name)) = rest.split_first() else {
            return Err(wrong(rest, "expected a string"));
        };
        rest = skip_string(name)?;
        let name = &name[..name.len() - rest.len() - 1];
        rest = skip_space(rest);
        let Some((b':', value)) = rest.split_first() else {
            return Err(wrong(rest, "expected `:`"));
        };
        let value = skip_space(value);
        rest = skip_value(value, depth)?;
        tell(name, &value[..value.len() - rest.len()]);
        rest = skip_space(rest);
        match rest.split_first() {
            Some((b',', behind)) => rest = skip_space(behind),
            Some((b'}', behind)) => return Ok(behind),
            _ => return Err(wrong(rest, "expected `,` or `}`")),
        }
    }
}

/// The elements of an array, and its end.
fn skip_elements(rest: &[u8], depth: u32) -> Rest<'_> {
    let mut rest = skip_space(rest);
    if let Some((b']', rest)) = rest.split_first() {
        return Ok(rest);
    }
    loop {
        rest = skip_value(rest, depth)?;
        rest = skip_space(rest);
        match rest.split_first() {
            Some((b',', behind)) => rest = skip_space(behind),
            Some((b']', behind)) => return Ok(behind),
            _ => return Err(wrong(rest, "expected `,` or `]`")),
        }
    }
}

#[inline(always)]
fn skip_value(rest: &[u8], depth: u32) -> Rest<'_> {
    if let Some((b'"', string)) = rest.split_first() {
        skip_string(string)
    } else if let Some(b'-'..=b'9') = rest.first() {
        // No number begins with the `.` and `/` among them, and none is found.
        skip_number(rest)
    } else {
        skip_rarer(rest, depth)
    }
}

/// A value that is no string and no number.
#[inline(never)]
fn skip_rarer(rest: &[u8], depth: u32) -> Rest<'_> {
    match rest.split_first() {
        Some((b'{' | b'[', _)) if depth + 1 >= MAX_DEPTH => Err(wrong(rest, "nested too deep")),
        Some((b'{', rest)) => skip_members(rest, depth + 1, |_, _| ()),
        Some((b'[', rest)) => skip_elements(rest, depth + 1),
        _ => {
            let literals: [&[u8]; 3] = [b"true", b"false", b"null"];
            let behind = literals.iter().find_map(|it| rest.strip_prefix(*it));
            behind.ok_or_else(|| wrong(rest, "expected a value"))
        }
    }
}

/// A string behind its first quote, and its last one.
#[inline(always)]
fn skip_string(rest: &[u8]) -> Rest<'_> {
    // Most strings end within two words. A loop would cost as much again: whoever runs a guest
    // interrupts it there, if it has to.
    if let Some(words) = rest.first_chunk() {
        let words = u128::from_le_bytes(*words);
        match StringWord::of(words as u64) {
            StringWord::Ends(at) => return Ok(&rest[at + 1..]),
            StringWord::Special(_) => {}
            StringWord::Plain => {
                if let StringWord::Ends(at) = StringWord::of((words >> 64) as u64) {
                    return Ok(&rest[at + 9..]);
                }
            }
        }
    }
    skip_any_string(rest)
}

#[inline(never)]
fn skip_any_string(mut rest: &[u8]) -> Rest<'_> {
    while let Some((word, behind)) = rest.split_first_chunk() {
        match StringWord::of(u64::from_le_bytes(*word)) {
            StringWord::Ends(at) => return Ok(&rest[at + 1..]),
            StringWord::Special(at) => rest = skip_special(&rest[at..])?,
            StringWord::Plain => rest = behind,
        }
    }
    loop {
        match rest.split_first() {
            Some((b'"', rest)) => return Ok(rest),
            Some((b' '..=b'[' | b']'..=0x7f, behind)) => rest = behind,
            _ => rest = skip_special(rest)?,
        }
    }
}

/// What eight bytes are in a string.
enum StringWord {
    /// Plain ASCII up to here, and a quote.
    Ends(usize),
    /// Plain ASCII up to here, and something else.
    Special(usize),
    /// Plain ASCII.
    Plain,
}

impl StringWord {
    #[inline(always)]
    fn of(word: u64) -> Self {
        // A byte becomes negative if it is a quote, a backslash, a control character or not ASCII;
        // perhaps one behind such a byte, too.
        let quotes = (word ^ (ONES * u64::from(b'"'))).wrapping_sub(ONES);
        let backslashes = (word ^ (ONES * u64::from(b'\\'))).wrapping_sub(ONES);
        let controls = word.wrapping_sub(ONES * 0x20);
        match first_negative(quotes | backslashes | controls | word) {
            None => Self::Plain,
            Some(at) if (word >> (at * 8)) as u8 == b'"' => Self::Ends(at),
            Some(at) => Self::Special(at),
        }
    }
}

/// What is not plain ASCII in a string.
#[cold]
fn skip_special(rest: &[u8]) -> Rest<'_> {
    match rest.split_first() {
        None => Err(wrong(rest, "expected the end of a string")),
        Some((b'\\', escape)) => skip_escape(escape),
        Some((0x80.., _)) => skip_beyond_ascii(rest),
        Some(_) => Err(wrong(rest, "a control character in a string")),
    }
}

/// Characters that are not ASCII, up to one that is.
fn skip_beyond_ascii(rest: &[u8]) -> Rest<'_> {
    let end = rest.iter().position(u8::is_ascii).unwrap_or(rest.len());
    let (characters, behind) = rest.split_at(end);
    match str::from_utf8(characters) {
        Ok(_) => Ok(behind),
        Err(error) => Err(wrong(&rest[error.valid_up_to()..], "not UTF-8")),
    }
}

/// An escape behind its backslash.
fn skip_escape(rest: &[u8]) -> Rest<'_> {
    match rest.split_first() {
        Some((b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', behind)) => Ok(behind),
        Some((b'u', mut digits)) => {
            for _ in 0..4 {
                let Some((b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F', behind)) = digits.split_first()
                else {
                    return Err(wrong(digits, "expected a hexadecimal digit"));
                };
                digits = behind;
            }
            Ok(digits)
        }
        _ => Err(wrong(rest, "unknown escape")),
    }
}

#[inline(always)]
fn skip_number(rest: &[u8]) -> Rest<'_> {
    let number = rest.strip_prefix(b"-").unwrap_or(rest);
    let mut rest = match number.split_first() {
        Some((b'0', rest)) => rest,
        _ => skip_digits(number)?,
    };
    if let Some((b'.', fraction)) = rest.split_first() {
        rest = skip_digits(fraction)?;
    }
    if let Some((b'e' | b'E', exponent)) = rest.split_first() {
        rest = skip_exponent(exponent)?;
    }
    Ok(rest)
}

#[cold]
fn skip_exponent(rest: &[u8]) -> Rest<'_> {
    match rest.split_first() {
        Some((b'+' | b'-', digits)) => skip_digits(digits),
        _ => skip_digits(rest),
    }
}

/// At least one digit.
#[inline(always)]
fn skip_digits(digits: &[u8]) -> Rest<'_> {
    // Most numbers end within two words: as with strings.
    let rest = if let Some((word, behind)) = digits.split_first_chunk() {
        if let Some(end) = first_no_digit(*word) {
            &digits[end..]
        } else if let Some(word) = behind.first_chunk()
            && let Some(end) = first_no_digit(*word)
        {
            &behind[end..]
        } else {
            skip_any_digits(digits)
        }
    } else {
        skip_any_digits(digits)
    };
    match rest.len() < digits.len() {
        true => Ok(rest),
        false => Err(wrong(rest, "expected a digit")),
    }
}

#[inline(never)]
fn skip_any_digits(mut rest: &[u8]) -> &[u8] {
    while let Some((b'0'..=b'9', behind)) = rest.split_first() {
        rest = behind;
    }
    rest
}

/// Which of eight bytes is the first that is no digit.
#[inline(always)]
fn first_no_digit(bytes: [u8; 8]) -> Option<usize> {
    // A digit becomes 0 to 9, and is not negative yet with this added.
    let digits = u64::from_le_bytes(bytes) ^ (ONES * u64::from(b'0'));
    first_negative(digits.wrapping_add(ONES * (0x80 - 10)) | digits)
}

const ONES: u64 = u64::MAX / 0xff;

/// Which of eight bytes is the first that has its high bit set.
#[inline(always)]
fn first_negative(word: u64) -> Option<usize> {
    let negative = word & (ONES * 0x80);
    (negative != 0).then(|| negative.trailing_zeros() as usize / 8)
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
