//! Where a broker is to be reached, and what it shares its fate with.

use millstream_metadata::limits::{MAX_ADDRESS_BYTES, MAX_RACK_BYTES};
use millstream_transport::address::Address;

/// Reads where clients and other brokers reach a broker: `host:port`.
pub(crate) fn parse_advertised(text: &str) -> Result<Address, String> {
    let address: Address = text
        .parse()
        .map_err(|error: millstream_transport::address::AddressError| error.to_string())?;
    let written = address.to_string();
    let is_plain = !written.chars().any(char::is_control);
    match address.port {
        0 => Err("port 0 is none where a broker can be reached".to_owned()),
        _ if written.len() <= MAX_ADDRESS_BYTES && is_plain => Ok(address),
        _ => Err(format!(
            "expected host:port of no more than {MAX_ADDRESS_BYTES} bytes, without control characters"
        )),
    }
}

/// Reads the name of a rack.
pub(crate) fn parse_rack(text: &str) -> Result<String, String> {
    let is_line = !text.is_empty() && !text.chars().any(char::is_control);
    if is_line && text.len() <= MAX_RACK_BYTES {
        return Ok(text.to_owned());
    }
    Err(format!(
        "expected a name of 1 to {MAX_RACK_BYTES} bytes, without control characters"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_racks() {
        assert_eq!(
            parse_advertised("broker.example:77").map(|it| it.to_string()),
            Ok("broker.example:77".to_owned())
        );
        let long = format!("{}:1", "x".repeat(MAX_ADDRESS_BYTES));
        for text in ["", "host:0", "a b:1", "quic://h:1", "h\u{7}:1", &long] {
            assert!(parse_advertised(text).is_err(), "{text:?}");
        }
        assert_eq!(parse_rack("a"), Ok("a".to_owned()));
        for text in ["", "a\nb", &"x".repeat(MAX_RACK_BYTES + 1)] {
            assert!(parse_rack(text).is_err(), "{text:?}");
        }
    }
}
