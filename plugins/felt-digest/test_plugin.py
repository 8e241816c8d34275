"""The handler, without a host."""

import json
import unittest

from millstream_plugin import Reject
from millstream_plugin.testing import NewRecord, Rejected, Worker
from millstream_plugin.timers import Clock

from plugin import Plugin, region_of

DAY_MS = 86_400_000


def worker(**config):
    config = {name.replace("_", "-"): value for name, value in config.items()}
    return Worker(Plugin, outputs=["digests"], config=config)


def event(id, day=0, felt=1, mag=3.0, place="8km N of Here, CA"):
    value = {"id": id, "time": day * DAY_MS, "mag": mag, "place": place, "felt": felt}
    return NewRecord(json.dumps(value).encode(), timestamp_ms=day * DAY_MS)


class Digests(unittest.TestCase):
    def test_a_days_reports_add_up(self):
        outcomes = worker().call(event("a", felt=2), event("b", felt=1, mag=4.1), event("c", felt=4, mag=2))
        self.assertEqual([outcome.key for outcome in outcomes], [b"California/1970-01-01"] * 3)
        last = json.loads(outcomes[-1].value)
        self.assertEqual((last["events"], last["reports"], last["strongest"]["id"]), (3, 7, "b"))
        expect = "California: 7 reports of 3 events, the strongest M 4.1, 8km N of Here, CA"
        self.assertEqual(last["text"], expect)

    def test_each_region_and_day_is_one_of_its_own(self):
        given = [event("a"), event("b", day=1), event("c", place="Gulf of Alaska")]
        outcomes = worker().call(*given)
        self.assertEqual([json.loads(outcome.value)["events"] for outcome in outcomes], [1, 1, 1])

    def test_what_nobody_felt_is_dropped(self):
        self.assertEqual(worker().call(event("a", felt=None), event("b", felt=0)), [])

    def test_few_reports_are_not_told_and_count(self):
        outcomes = worker(min_reports="3").call(event("a", felt=2), event("b", felt=1))
        self.assertEqual([outcome.input for outcome in outcomes], [1])

    def test_a_digest_goes_on_after_a_restart(self):
        first = worker()
        first.call(event("a", felt=2))
        second = worker()
        second.state.update(first.state)
        [outcome] = second.call(event("b", felt=3))
        self.assertEqual(json.loads(outcome.value)["reports"], 5)

    def test_a_day_is_forgotten_some_days_after_its_last_event(self):
        plugin = worker(keep_days="2")
        other = event("b", place="Gulf of Alaska")
        plugin.call(event("a"), other, event("c", day=1))
        # One that comes late is of its day.
        plugin.call(event("d")._replace(timestamp_ms=3600_000))
        plugin.fire(Clock.RECORD_TIME, 2 * DAY_MS)
        self.assertEqual(len(plugin.state), 3)
        plugin.fire(Clock.RECORD_TIME, 2 * DAY_MS + 3600_000)
        self.assertEqual(list(plugin.state), [b"1970-01-02/California"])
        self.assertEqual(plugin.timers, {(Clock.RECORD_TIME, b"1970-01-02"): 3 * DAY_MS})
        self.assertEqual(plugin.metrics["days_forgotten"], 1)

    def test_what_is_no_event_is_rejected(self):
        for value in [b"", b"[]", b"{}", b'{"id":1,"time":0,"mag":1,"place":"","felt":1}', b"\xff"]:
            [outcome] = worker().call(value)
            self.assertIsInstance(outcome, Rejected, value)

    def test_a_number_that_is_none_keeps_the_worker_from_starting(self):
        with self.assertRaisesRegex(Reject, "min-reports must be a whole number, not `many`"):
            worker(min_reports="many")

    def test_regions(self):
        self.assertEqual(region_of("3km W of Cobb, CA"), "California")
        self.assertEqual(region_of("Gulf of Alaska"), "Gulf of Alaska")
