"""Tells of readings above a limit, and how many there have been of that sensor.

In: one JSON object a record, with `sensor` and `celsius`. Out, on `hot`: for each reading above `limit`,
the same and a count.
"""

import json

from millstream_plugin import Reject, log, state

DEFAULT_LIMIT = "30"


class Plugin:
    """One worker: what lasts from record to record. It is gone when the worker is started anew; what
    must last longer is kept in `state`."""

    def __init__(self, context):
        """Runs once, before the first record: reads the configuration and finds the outputs. An
        exception keeps the worker from starting."""
        self.limit = float(context.config.get("limit", DEFAULT_LIMIT))
        self.hot = context.output("hot")
        log.info(f"readings above {self.limit:g}")

    def handle(self, record, out):
        """Runs for each record. It may emit any number of records, to any output.

        An exception rejects the record: it is bad, and goes where the deployment sends such records.
        `Retry` has it handled again later."""
        reading = record.json()
        if not isinstance(reading, dict) or not {"sensor", "celsius"} <= reading.keys():
            raise Reject("expected the fields sensor and celsius")
        if reading["celsius"] <= self.limit:
            return
        hot = {
            "sensor": reading["sensor"],
            "celsius": reading["celsius"],
            "times": count(reading["sensor"]),
        }
        # The same key, time and headers, and another value.
        out.emit(self.hot, record, value=json.dumps(hot, separators=(",", ":")))


def count(sensor):
    """Counts one more of a sensor. The state outlives the worker, and counts if the call does.

    What is written for a record stays when the record is rejected later on: handed back by `plugin dlq
    retry`, it would be counted twice. So everything that may be rejected is looked at before.
    """
    times = int(state.get(sensor) or b"0") + 1
    state.put(sensor, str(times))
    return times
