//! What an operator has given to this deployment alone: passwords, keys, tokens.
//!
//! Ask when the value is needed: the operator may set it anew at any time. In what the plugin logs, and in
//! its reasons and errors, the host masks what it has told.
//!
//! ```
//! use millstream_plugin::{secrets, testing};
//!
//! assert_eq!(secrets::get("api-key"), None);
//! testing::set_secret("api-key", "hunter2");
//! assert_eq!(secrets::get("api-key").as_deref(), Some("hunter2"));
//! ```
//!
//! Natively, they are what [`testing::set_secret`](crate::testing::set_secret) has set, for each thread
//! its own.

/// The value of a secret as it is now. `None`: the deployment is not granted one of this name, or the
/// operator has taken it away.
///
/// A plugin that calls this is refused by deployments without any secret.
pub fn get(name: &str) -> Option<String> {
    backend::get(name)
}

#[cfg(target_arch = "wasm32")]
use crate::bindings::secret_reader::millstream::plugin::secrets as backend;
#[cfg(not(target_arch = "wasm32"))]
use memory as backend;

/// What a handler is told when it runs natively.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) mod memory {
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    thread_local! {
        static SECRETS: RefCell<BTreeMap<String, String>> = const { RefCell::new(BTreeMap::new()) };
    }

    pub(super) fn get(name: &str) -> Option<String> {
        SECRETS.with_borrow(|secrets| secrets.get(name).cloned())
    }

    pub(crate) fn set(name: &str, value: &str) {
        SECRETS.with_borrow_mut(|secrets| secrets.insert(name.to_owned(), value.to_owned()));
    }
}
