//! How often a guest calls the host.
//!
//! Our own functions count here, and fail when there were too many calls; those of wasmtime-wasi are
//! given a table without resources, which stops the guest at the first that it names.

use wasmtime::bail;
use wasmtime::component::ResourceTable;

/// Calls of the host in one call of the guest, over all imports.
pub const MAX_HOST_CALLS: u32 = 1_000_000;

/// The calls of one worker.
pub(crate) struct Quota {
    calls: u32,
    nothing: ResourceTable,
}

impl Quota {
    pub(super) fn new() -> Self {
        let mut nothing = ResourceTable::new();
        nothing.set_max_capacity(0);
        Self { calls: 0, nothing }
    }

    /// Begins a call of the guest.
    pub(super) fn begin_call(&mut self) {
        self.calls = 0;
    }

    /// Counts a call of one of our own functions.
    pub(super) fn count(&mut self) -> wasmtime::Result<()> {
        self.calls = self.calls.saturating_add(1);
        match self.exceeded() {
            Some(problem) => bail!("{problem}"),
            None => Ok(()),
        }
    }

    /// Counts a call of a function of another's, which finds `table` or nothing.
    pub(super) fn table<'t>(&'t mut self, table: &'t mut ResourceTable) -> &'t mut ResourceTable {
        match self.count() {
            Ok(()) => table,
            Err(_) => &mut self.nothing,
        }
    }

    /// That there were too many calls, if there were.
    pub(crate) fn exceeded(&self) -> Option<String> {
        (self.calls > MAX_HOST_CALLS)
            .then(|| format!("the host was called more than {MAX_HOST_CALLS} times in one call"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn above_the_quota_our_functions_fail_and_others_find_nothing() {
        let mut quota = Quota::new();
        let mut table = ResourceTable::new();
        let resource = table.push("a resource").unwrap();
        quota.calls = MAX_HOST_CALLS - 2;
        assert!(quota.count().is_ok());
        assert!(quota.table(&mut table).get(&resource).is_ok());
        assert_eq!(quota.exceeded(), None);

        assert!(quota.table(&mut table).get(&resource).is_err());
        assert!(quota.table(&mut table).push("another").is_err());
        let error = quota.count().unwrap_err();
        assert_eq!(
            error.to_string(),
            "the host was called more than 1000000 times in one call"
        );
        quota.begin_call();
        assert!(quota.count().is_ok());
    }
}
