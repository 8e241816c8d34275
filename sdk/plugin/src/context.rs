//! What a worker is told when it starts.

#[cfg(target_arch = "wasm32")]
use std::cell::RefCell;
#[cfg(target_arch = "wasm32")]
use std::collections::BTreeMap;
use std::fmt;

#[cfg(target_arch = "wasm32")]
use crate::bindings::wasi::config::store;

/// What a worker is told about itself: given to `init`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    deployment: String,
    topic: String,
    partition: u32,
    outputs: Vec<String>,
    config: Config,
}

/// Where the configuration is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Config {
    /// Here.
    Given(Vec<(String, String)>),
    /// With the host, who sees what is asked for, and can tell what is not. Answers are kept.
    #[cfg(target_arch = "wasm32")]
    Host(RefCell<BTreeMap<String, Option<&'static str>>>),
}

impl Default for Config {
    fn default() -> Self {
        Self::Given(Vec::new())
    }
}

impl Context {
    /// A context as a test needs one. In a guest, the host makes it.
    pub fn new(deployment: impl Into<String>, topic: impl Into<String>, partition: u32) -> Self {
        Self {
            deployment: deployment.into(),
            topic: topic.into(),
            partition,
            ..Self::default()
        }
    }

    /// Declares one more output.
    #[must_use]
    pub fn with_output(mut self, name: impl Into<String>) -> Self {
        self.outputs.push(name.into());
        self
    }

    /// Sets one more configuration value.
    #[must_use]
    pub fn with_config(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        match &mut self.config {
            Config::Given(values) => values.push((key.into(), value.into())),
            #[cfg(target_arch = "wasm32")]
            Config::Host(_) => {}
        }
        self
    }

    /// Has its configuration from the host.
    #[cfg(target_arch = "wasm32")]
    pub(crate) fn with_config_of_host(mut self) -> Self {
        self.config = Config::Host(RefCell::default());
        self
    }

    /// The deployment's name.
    pub fn deployment(&self) -> &str {
        &self.deployment
    }

    /// The topic whose records this worker handles.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The partition of that topic.
    pub fn partition(&self) -> u32 {
        self.partition
    }

    /// The names of the outputs that the deployment declares.
    pub fn outputs(&self) -> &[String] {
        &self.outputs
    }

    /// The output of this name.
    ///
    /// # Errors
    ///
    /// The deployment declares none. Returned from `init`, this keeps the worker from starting and
    /// tells the operator why.
    pub fn output(&self, name: &str) -> Result<Output, UnknownOutput> {
        match self.outputs.iter().position(|declared| declared == name) {
            Some(index) => Ok(Output(index as u32)),
            None => Err(UnknownOutput {
                name: name.to_owned(),
                declared: self.outputs.clone(),
            }),
        }
    }

    /// The configuration value of this key, if the deployment sets it.
    pub fn config(&self, key: &str) -> Option<&str> {
        match &self.config {
            Config::Given(values) => {
                let value = values.iter().find(|(name, _)| name == key);
                value.map(|(_, value)| value.as_str())
            }
            #[cfg(target_arch = "wasm32")]
            Config::Host(asked) => {
                let mut asked = asked.borrow_mut();
                *asked.entry(key.to_owned()).or_insert_with(|| {
                    // The host's answer cannot fail; a value stays for as long as the instance.
                    let value = store::get(key).unwrap_or_default();
                    value.map(|value| &*value.leak())
                })
            }
        }
    }
}

/// An output that the deployment declares. Valid in the worker that it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Output(pub(crate) u32);

/// The deployment declares no output of this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownOutput {
    /// The name.
    pub name: String,
    /// The names there are.
    pub declared: Vec<String>,
}

impl fmt::Display for UnknownOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the deployment declares no output `{}`", self.name)?;
        match self.declared.as_slice() {
            [] => f.write_str(" (it declares none)"),
            declared => write!(f, " (it declares `{}`)", declared.join("`, `")),
        }
    }
}

impl std::error::Error for UnknownOutput {}
