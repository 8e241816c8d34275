"""Tells how many people felt the earthquakes of a region's day.

In: one JSON object a record, as in `tests/fixtures/earthquakes.ndjson`. Out, on `digests`: each time that
an event was felt, what is known of that region's day so far, keyed by both. In a compacted topic the
last one of each remains.
"""

import json
from datetime import datetime, timezone

from millstream_plugin import Reject, metrics, state, timers
from millstream_plugin.timers import Clock

DEFAULT_MIN_REPORTS = "1"
DEFAULT_KEEP_DAYS = "7"
DAY_MS = 86_400_000

# How the source abbreviates regions.
REGIONS = {"CA": "California", "MX": "Mexico"}


class Plugin:
    """One worker. What is known of each day is in the state, below `day/region`, until a timer with the
    day's name fires: each event of the day moves it."""

    def __init__(self, context):
        self.min_reports = whole_number(context, "min-reports", DEFAULT_MIN_REPORTS)
        self.keep_days = whole_number(context, "keep-days", DEFAULT_KEEP_DAYS)
        self.digests = context.output("digests")

    def handle(self, record, out):
        event = read(record)
        reports = event["felt"]
        if not reports:
            return
        day = day_of(event["time"])
        region = region_of(event["place"])
        key = f"{day}/{region}"
        digest = json.loads(state.get(key) or "null") or {"events": 0, "reports": 0, "strongest": None}
        digest["events"] += 1
        digest["reports"] += reports
        strongest = digest["strongest"]
        if strongest is None or event["mag"] > strongest["mag"]:
            digest["strongest"] = {name: event[name] for name in ("id", "mag", "place")}
        state.put(key, json.dumps(digest))
        metrics.counter_add("reports", reports)
        timers.set(Clock.RECORD_TIME, day, record.timestamp_ms + self.keep_days * DAY_MS)
        if digest["reports"] >= self.min_reports:
            told = {"region": region, "day": day, **digest, "text": sentence(region, digest)}
            value = json.dumps(told, separators=(",", ":"), ensure_ascii=False)
            out.emit(self.digests, record, key=f"{region}/{day}", value=value)

    def on_timer(self, timer, out):
        """Forgets a day."""
        for key, _ in state.scan(timer.key + b"/"):
            state.delete(key)
        metrics.counter_add("days_forgotten")


def whole_number(context, name, usual):
    text = context.config.get(name, usual)
    if not text.isdecimal():
        raise Reject(f"{name} must be a whole number, not `{text}`")
    return int(text)


def read(record):
    """The event, with what is needed of it."""
    event = record.json()
    if not isinstance(event, dict):
        raise Reject("the record is no JSON object")
    for name, kinds in FIELDS.items():
        if not isinstance(event.get(name), kinds):
            raise Reject(f"`{name}` is missing, or is not what it should be")
    return event


FIELDS = {
    "id": str,
    "time": int,
    "place": str,
    "felt": (int, type(None)),
    "mag": (int, float),
}


def day_of(time_ms):
    return datetime.fromtimestamp(time_ms / 1000, timezone.utc).date().isoformat()


def region_of(place):
    """`50km NNW of Sangiang, Indonesia` is in Indonesia, `Gulf of Alaska` in itself."""
    region = place.rsplit(",", 1)[-1].strip()
    return REGIONS.get(region, region)


def sentence(region, digest):
    strongest = digest["strongest"]
    reports, events = counted(digest["reports"], "report"), counted(digest["events"], "event")
    return f"{region}: {reports} of {events}, the strongest M {strongest['mag']:.1f}, {strongest['place']}"


def counted(number, thing):
    return f"{number:,} {thing}" + ("" if number == 1 else "s")
