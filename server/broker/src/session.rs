//! One client's connection as the handlers see it.

use std::sync::OnceLock;

use millstream_transport::Connection;

/// A connection, who is behind it, and whether the version handshake is done.
pub(crate) struct Session {
    connection: Connection,
    client_name: OnceLock<String>,
}

impl Session {
    pub(crate) fn new(connection: Connection) -> Self {
        Self {
            connection,
            client_name: OnceLock::new(),
        }
    }

    /// The version handshake has succeeded. The name given first stays.
    pub(crate) fn open(&self, client_name: String) {
        let _ = self.client_name.set(client_name);
    }

    /// Whether the version handshake is done.
    pub(crate) fn is_open(&self) -> bool {
        self.client_name.get().is_some()
    }

    /// The name that the client's certificate proves.
    pub(crate) fn principal(&self) -> &str {
        &self.connection.peer().name
    }

    /// Who this is, for the broker's log.
    pub(crate) fn peer(&self) -> String {
        let name = self.client_name.get().map_or("", String::as_str);
        format!(
            "{} ({name}) at {}",
            self.principal(),
            self.connection.remote_address()
        )
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }
}
