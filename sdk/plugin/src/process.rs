//! Runs a handler over the records of a call.

use crate::context::Context;
use crate::failure::Failure;
use crate::outputs::Outputs;
use crate::record::{Record, Records};
#[cfg(not(target_arch = "wasm32"))]
use crate::state;
#[cfg(not(target_arch = "wasm32"))]
use crate::timers;
use crate::timers::Timer;

/// Runs `handler` over the records of `batches` and appends its outcomes to `out`, in the format of
/// `wit/batch-handler.wit`: what the guest does in each call, here for native code.
///
/// # Errors
///
/// The batches are malformed, or the handler returned [`Failure::abort`]: the call as a whole fails
/// with this reason, and what `out` and the [`state`](crate::state) have been given counts for
/// nothing.
///
/// # Example
///
/// ```
/// use millstream_plugin::{Context, NewRecord, process, testing};
///
/// let batch = testing::batch(&[NewRecord::new(b"1"), NewRecord::new(b"2")]);
/// let mut count = 0;
/// let mut out = Vec::new();
/// process(&Context::new("count", "numbers", 0), &batch, &mut out, |_record, _out| {
///     count += 1;
///     Ok(())
/// })?;
/// assert_eq!((count, out.len()), (2, 0));
/// # Ok::<(), String>(())
/// ```
pub fn process<H>(
    context: &Context,
    batches: &[u8],
    out: &mut Vec<u8>,
    handler: H,
) -> Result<(), String>
where
    H: FnMut(Record<'_>, &mut Outputs<'_>) -> Result<(), Failure>,
{
    transaction(|| handle_all(context, batches, out, handler))
}

/// As [`process`], for timers: runs `handler` over them, in their order.
///
/// # Errors
///
/// The handler returned [`Failure::abort`].
pub fn fire<'a, H>(
    context: &Context,
    timers: impl IntoIterator<Item = Timer<'a>>,
    out: &mut Vec<u8>,
    mut handler: H,
) -> Result<(), String>
where
    H: FnMut(Timer<'a>, &mut Outputs<'_>) -> Result<(), Failure>,
{
    transaction(|| {
        let mut outputs = Outputs::new(context, out);
        for timer in timers {
            outputs.begin(timer.at_ms());
            if let Err(failure) = handler(timer, &mut outputs) {
                outputs.fail(failure)?;
            }
            outputs.end();
        }
        Ok(())
    })
}

/// A call: what it has written counts if it succeeds. In a guest, that is the host's part.
fn transaction(call: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    #[cfg(not(target_arch = "wasm32"))]
    let (state, timers) = (state::memory::Call::begin(), timers::memory::Call::begin());
    call()?;
    #[cfg(not(target_arch = "wasm32"))]
    {
        state.commit();
        timers.commit();
    }
    Ok(())
}

fn handle_all<H>(
    context: &Context,
    batches: &[u8],
    out: &mut Vec<u8>,
    mut handler: H,
) -> Result<(), String>
where
    H: FnMut(Record<'_>, &mut Outputs<'_>) -> Result<(), Failure>,
{
    let mut outputs = Outputs::new(context, out);
    for record in Records::new(batches) {
        let record = record.map_err(|error| error.to_string())?;
        outputs.begin(record.timestamp_ms());
        if let Err(failure) = handler(record, &mut outputs) {
            outputs.fail(failure)?;
        }
        outputs.end();
    }
    Ok(())
}

/// A plugin as [`handler`](crate::handler) makes it.
pub trait Plugin: Sized + 'static {
    /// Makes one when the worker starts.
    fn init(context: &Context) -> Result<Self, String>;

    /// Handles one record.
    fn handle(&mut self, record: Record<'_>, out: &mut Outputs<'_>) -> Result<(), Failure>;

    /// Handles a timer.
    fn on_timer(&mut self, _timer: Timer<'_>, _out: &mut Outputs<'_>) -> Result<(), Failure> {
        Err(Failure::abort("the plugin has no function for timers"))
    }

    /// Takes over the state of another version, from `cursor` on.
    fn migrate(
        _context: &Context,
        _previous: &str,
        _cursor: Option<&[u8]>,
    ) -> Result<Option<Vec<u8>>, String> {
        Err("the plugin has no function for the state of other versions".to_owned())
    }
}
