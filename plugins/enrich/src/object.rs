//! Adding a field to a JSON object, which stays as it is written.

use millstream_plugin::Failure;

/// A text as a JSON string.
pub(crate) fn quoted(text: &str) -> serde_json::Value {
    text.into()
}

/// Writes a field's name, and what is between it and the one before.
pub(crate) fn begin_field(
    name: &str,
    is_first: bool,
    json: &mut Vec<u8>,
) -> Result<(), serde_json::Error> {
    if !is_first {
        json.push(b',');
    }
    serde_json::to_writer(&mut *json, name)?;
    json.push(b':');
    Ok(())
}

/// Writes an object that is known to be one, with a further field at its end.
pub(crate) fn with_field(
    object: &[u8],
    name: &str,
    json: &mut Vec<u8>,
    value: impl FnOnce(&mut Vec<u8>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let open = object.trim_ascii();
    let open = open.strip_suffix(b"}").unwrap_or(open).trim_ascii_end();
    json.extend_from_slice(open);
    begin_field(name, open.ends_with(b"{"), json)?;
    value(json)?;
    json.push(b'}');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_comes_last_and_the_rest_stays_as_it_is_written() {
        let check = |object: &str, expect: &str| {
            let mut json = Vec::new();
            let value = |json: &mut Vec<u8>| {
                json.push(b'1');
                Ok(())
            };
            with_field(object.as_bytes(), "a\"b", &mut json, value).unwrap();
            assert_eq!(String::from_utf8(json).unwrap(), expect);
        };
        check("{}", r#"{"a\"b":1}"#);
        check(" { } \n", r#"{"a\"b":1}"#);
        check(r#" {"x": "}"} "#, r#"{"x": "}","a\"b":1}"#);
        check(r#"{"x":{"y":{}}}"#, r#"{"x":{"y":{}},"a\"b":1}"#);
    }
}
