//! Finds values in a JSON text, and writes the text anew with others in their place.

use std::ops::Range;

use millstream_plugin::{Failure, json};

use crate::content::{UnpairedSurrogate, content};
use crate::cursor::Cursor;
use crate::fields::{Field, Fields};
use crate::method::{Method, Replacement};

/// Appends `text`, a JSON object, to `out`, redacted: only the values of the fields are written anew,
/// or left out with their names. Returns how many there were.
///
/// # Errors
///
/// The text is no JSON object, or a value cannot be read. The reason says where and what, and cites
/// nothing of the text.
pub(crate) fn redact(
    text: &[u8],
    fields: &Fields,
    method: &Method,
    out: &mut Vec<u8>,
) -> Result<u64, Failure> {
    // Checks all of the text, and bounds its depth. It cannot find the fields: of those with the same
    // name it gives one, and none whose name is written with escapes. Here each of them counts.
    json::fields(text, [])?;
    let mut redaction = Redaction {
        cursor: Cursor::new(text),
        method,
        out,
        copied: 0,
        redacted: 0,
    };
    redaction.cursor.space();
    redaction.object(fields)?;
    redaction.copy(text.len());
    Ok(redaction.redacted)
}

/// A text on its way from the cursor to `out`.
struct Redaction<'a> {
    cursor: Cursor<'a>,
    method: &'a Method,
    out: &'a mut Vec<u8>,
    /// Of the text, what is before this byte has been written or left out.
    copied: usize,
    /// Values so far.
    redacted: u64,
}

impl Redaction<'_> {
    /// Redacts the fields of an object, and moves behind it.
    fn object(&mut self, fields: &Fields) -> Result<(), UnpairedSurrogate> {
        // The end of the member before, once there is one that is not dropped.
        let mut kept_to = None;
        self.cursor.step();
        self.cursor.space();
        while self.cursor.peek() == b'"' {
            let begin = self.cursor.at();
            let dropped = self.member(fields)?;
            let end = self.cursor.at();
            // To the next member's name, or the end of the object.
            self.cursor.separator(b',');
            match kept_to {
                // With the comma in front.
                Some(kept_to) if dropped => self.leave_out(kept_to..end),
                // With the comma behind, if there is one.
                None if dropped => self.leave_out(begin..self.cursor.at()),
                _ => {}
            }
            if kept_to.is_some() || !dropped {
                kept_to = Some(end);
            }
        }
        self.cursor.step();
        Ok(())
    }

    /// Redacts a name and its value, and moves behind them. Whether they are to be dropped.
    fn member(&mut self, fields: &Fields) -> Result<bool, UnpairedSurrogate> {
        let begin = self.cursor.at();
        self.cursor.string();
        let name = self.cursor.slice(begin..self.cursor.at());
        self.cursor.separator(b':');
        // What is no text is no field's name.
        match content(name).ok().and_then(|name| fields.get(&name)) {
            None => self.cursor.value(),
            Some(Field::Within(fields)) => self.within(fields)?,
            Some(Field::Redact) => match self.method {
                Method::Drop => {
                    self.cursor.value();
                    return Ok(true);
                }
                Method::Replace(replacement) => self.replace(replacement)?,
            },
        }
        Ok(false)
    }

    /// Redacts the fields of an object, or of the objects of an array and of arrays in it, and moves
    /// behind it. Any other value has no fields.
    fn within(&mut self, fields: &Fields) -> Result<(), UnpairedSurrogate> {
        match self.cursor.peek() {
            b'{' => self.object(fields)?,
            b'[' => {
                self.cursor.step();
                self.cursor.space();
                while !matches!(self.cursor.peek(), b']' | 0) {
                    self.within(fields)?;
                    self.cursor.separator(b',');
                }
                self.cursor.step();
            }
            _ => self.cursor.value(),
        }
        Ok(())
    }

    fn replace(&mut self, replacement: &Replacement) -> Result<(), UnpairedSurrogate> {
        let begin = self.cursor.at();
        self.cursor.value();
        let value = begin..self.cursor.at();
        self.copy(value.start);
        replacement.write(self.cursor.slice(value.clone()), self.out)?;
        self.copied = value.end;
        self.redacted += 1;
        Ok(())
    }

    fn leave_out(&mut self, member: Range<usize>) {
        self.copy(member.start);
        self.copied = member.end;
        self.redacted += 1;
    }

    /// Writes what there is before `to`.
    fn copy(&mut self, to: usize) {
        self.out
            .extend_from_slice(self.cursor.slice(self.copied..to));
        self.copied = to;
    }
}
