"""The SDK, by a plugin that does what its records say."""

import unittest

from millstream_plugin import Abort, Reject, Retry, http, log, metrics, secrets, state, tables, testing, timers
from millstream_plugin.records import records
from millstream_plugin.testing import Emitted, NewRecord, Rejected, Retried
from millstream_plugin.timers import Clock

SAME = NewRecord(b"same", b"key", (("trace", b"7"), ("none", None)), 1_700_000_000_000)


class Plugin:
    def __init__(self, context):
        self.out = context.output("out")
        self.other = context.output("other")

    def handle(self, record, out):
        getattr(self, record.text().split(" ")[0])(record, out)

    def drop(self, record, out):
        pass

    def same(self, record, out):
        out.emit(self.out, record)

    def changed(self, record, out):
        out.emit(self.other, record, value="grün", key=None, headers=[("a", "b")], timestamp_ms=-1)

    def fresh(self, record, out):
        out.emit(self.out, value=b"new")
        out.emit(self.other, key="k")

    def reject(self, record, out):
        out.emit(self.out, record)
        raise Reject("as told")

    def retry(self, record, out):
        raise Retry(1500, "later")

    def abort(self, record, out):
        raise Abort("as told")

    def fail(self, record, out):
        return {}["no such key"]

    def long(self, record, out):
        raise Reject("é" * 4000)

    def large(self, record, out):
        out.emit(self.out, value=bytes((4 << 20) + 1))

    def count(self, record, out):
        seen = int(state.get("seen") or b"0") + 1
        state.put("seen", str(seen))
        metrics.counter_add("seen")
        log.info(f"seen {seen}")

    def scan(self, record, out):
        for number in range(1500):
            state.put(f"k{number:04}", b"")
        assert len(list(state.scan("k"))) == 1500
        assert [key for key, _ in state.scan("k0042")] == [b"k0042"]

    def oversized(self, record, out):
        state.put(bytes(1025), b"")

    def set(self, record, out):
        """`set wall-time key 7`"""
        _, clock, key, at_ms = record.text().split(" ")
        timers.set(clock, key, int(at_ms))

    def cancel(self, record, out):
        _, clock, key = record.text().split(" ")
        timers.cancel(clock, key)

    def many(self, record, out):
        for number in range(10_000):
            timers.set(Clock.WALL_TIME, str(number), 1)
        # The same again is no further one.
        timers.set(Clock.WALL_TIME, "0", 2)
        timers.cancel(Clock.WALL_TIME, "one more")

    def look_up(self, record, out):
        """`look_up table key`"""
        _, table, key = record.text().split(" ")
        out.emit(self.out, value=tables.Table(table).get(key))

    def tell(self, record, out):
        """`tell name`"""
        out.emit(self.out, value=secrets.get(record.text().split(" ")[1]))

    def ask(self, record, out):
        """`ask method url`"""
        _, method, url = record.text().split(" ")
        asked = {"body": b"?", "headers": {"a": "b"}, "timeout_ms": 7} if method == "POST" else {}
        response = http.request(method, url, **asked).successful()
        out.emit(self.out, value=response.body, key=response.header("ETag"))

    def on_timer(self, timer, out):
        """Does what the timer's key says."""
        state.put("fired", timer.key)
        out.emit(self.out, key=timer.key, value=f"{timer.clock.value} {timer.at_ms}")
        if timer.key == b"reject":
            raise Reject("as told")
        if timer.key == b"retry":
            raise Retry(1500, "later")
        if timer.key == b"abort":
            raise Abort("as told")
        if timer.key == b"again":
            timers.set(timer.clock, timer.key, timer.at_ms + 10)


def worker():
    return testing.Worker(Plugin, outputs=["out", "other"])


class Outcomes(unittest.TestCase):
    def check(self, given, *expect):
        self.assertEqual(worker().call(given), list(expect))

    def test_a_record_passes_as_it_is(self):
        same = Emitted("out", SAME.value, SAME.key, SAME.headers, SAME.timestamp_ms)
        self.check(SAME, same)

    def test_what_is_named_is_changed(self):
        given = SAME._replace(value=b"changed")
        self.check(given, Emitted("other", "grün".encode(), None, (("a", b"b"),), -1))

    def test_what_is_not_named_is_not_there(self):
        given = NewRecord(b"fresh", timestamp_ms=7)
        expect = Emitted("out", b"new", timestamp_ms=7), Emitted("other", key=b"k", timestamp_ms=7)
        self.check(given, *expect)

    def test_a_failure_withdraws_what_was_emitted(self):
        self.check(b"reject", Rejected("as told"))
        self.check(b"retry", Retried(1500, "later"))
        self.check(b"large", Rejected("an output has 4194305 bytes, more than 4194304"))

    def test_an_exception_says_what_it_is_and_where(self):
        [rejected] = worker().call(b"fail")
        self.assertRegex(rejected.reason, r"^KeyError: 'no such key' \(test_plugin.py:\d+\)$")

    def test_a_reason_is_cut_between_characters(self):
        self.check(b"long", Rejected("é" * 2048))

    def test_entries_know_their_records(self):
        outcomes = worker().call(b"drop", b"fresh", b"reject", b"drop", b"same")
        self.assertEqual([outcome.input for outcome in outcomes], [1, 1, 2, 4])

    def test_an_abort_fails_the_call_and_leaves_no_trace(self):
        plugin = worker()
        plugin.call(b"count")
        with self.assertRaisesRegex(Abort, "as told"):
            plugin.call(b"count", b"abort")
        self.assertEqual(plugin.state, {b"seen": b"1"})

    def test_an_output_that_is_not_declared_is_named(self):
        with self.assertRaisesRegex(Abort, r"declares no output `other` \(it declares `out`\)"):
            testing.Worker(Plugin, outputs=["out"])


class Host(unittest.TestCase):
    def test_state_metrics_and_log_are_kept(self):
        plugin = worker()
        plugin.call(b"count", b"count")
        self.assertEqual(plugin.state, {b"seen": b"2"})
        self.assertEqual(plugin.metrics, {"seen": 2})
        self.assertEqual(plugin.lines, [("info", "seen 1"), ("info", "seen 2")])

    def test_a_scan_goes_through_all_pages(self):
        self.assertEqual(worker().call(b"scan"), [])

    def test_a_key_that_is_too_large_rejects_the_record(self):
        [rejected] = worker().call(b"oversized")
        self.assertIn("StateError: a key of 1025 bytes, more than 1024", rejected.reason)


class Timers(unittest.TestCase):
    def test_those_that_are_due_fire_in_their_order(self):
        plugin = worker()
        given = [b"set record-time late 9", b"set record-time soon 3", b"set wall-time wall 1"]
        self.assertEqual(plugin.call(*given, b"set record-time moved 3", b"set record-time moved 5"), [])
        self.assertEqual(plugin.fire(Clock.RECORD_TIME, 2), [])
        soon = Emitted("out", b"record-time 3", b"soon", timestamp_ms=3, input=0)
        moved = Emitted("out", b"record-time 5", b"moved", timestamp_ms=5, input=1)
        self.assertEqual(plugin.fire(Clock.RECORD_TIME, 5), [soon, moved])
        self.assertEqual(plugin.timers, {(Clock.RECORD_TIME, b"late"): 9, (Clock.WALL_TIME, b"wall"): 1})
        [wall] = plugin.fire(Clock.WALL_TIME, 1)
        self.assertEqual(wall, Emitted("out", b"wall-time 1", b"wall", timestamp_ms=1))

    def test_a_timer_can_set_itself_again(self):
        plugin = worker()
        plugin.call(b"set record-time again 7")
        self.assertEqual(len(plugin.fire(Clock.RECORD_TIME, 100)), 1)
        self.assertEqual(plugin.timers, {(Clock.RECORD_TIME, b"again"): 17})

    def test_a_cancelled_timer_does_not_fire(self):
        plugin = worker()
        plugin.call(b"set record-time a 1", b"set wall-time a 1", b"cancel record-time a")
        plugin.call(b"cancel record-time none")
        self.assertEqual(plugin.timers, {(Clock.WALL_TIME, b"a"): 1})

    def test_a_failure_withdraws_what_was_emitted(self):
        plugin = worker()
        plugin.call(b"set wall-time reject 1", b"set wall-time retry 2")
        expect = [Rejected("as told"), Retried(1500, "later", 1)]
        self.assertEqual(plugin.fire(Clock.WALL_TIME, 2), expect)

    def test_a_call_that_fails_leaves_no_trace(self):
        plugin = worker()
        with self.assertRaisesRegex(Abort, "as told"):
            plugin.call(b"set wall-time a 1", b"abort")
        self.assertEqual(plugin.timers, {})
        plugin.call(b"set wall-time a 1", b"set wall-time abort 2")
        with self.assertRaisesRegex(Abort, "as told"):
            plugin.fire(Clock.WALL_TIME, 2)
        self.assertEqual(len(plugin.timers), 2)
        self.assertEqual(plugin.state, {})

    def test_limits_are_told(self):
        [rejected] = worker().call(b"set wall-time " + bytes(1025) + b" 1")
        self.assertEqual(
            rejected, Rejected("too large for a timer: a key of 1025 bytes, more than 1024")
        )
        plugin = worker()
        more = "too many timers: the call would set and cancel more than 10000 timers"
        with self.assertRaisesRegex(timers.TimerQuotaExceeded, more):
            plugin.call(b"many")
        self.assertEqual(plugin.timers, {})
        plugin.call(b"set wall-time a 1")
        [rejected] = worker().call(b"set wall-time a " + str(1 << 63).encode())
        self.assertIn("ValueError: a timer's time has at most 64 bits", rejected.reason)
        [rejected] = worker().call(b"set no-clock a 1")
        self.assertIn("'no-clock' is not a valid Clock", rejected.reason)

    def test_none_is_set_before_the_first_record(self):
        class Hasty(Plugin):
            def __init__(self, context):
                timers.set(Clock.WALL_TIME, "a", 1)

        with self.assertRaisesRegex(timers.TimerReadOnly, "before the first record"):
            testing.Worker(Hasty)

    def test_none_is_set_where_nothing_is_called(self):
        class Deaf:
            def __init__(self, context):
                pass

            def handle(self, record, out):
                timers.set(Clock.WALL_TIME, "a", 1)

        with self.assertRaisesRegex(timers.NoTimerHandler, "need a method `on_timer`"):
            testing.Worker(Deaf).call(b"")


class Tables(unittest.TestCase):
    def setUp(self):
        given = {"places": {"pdx": "Portland", b"nul": b""}, "empty": {}}
        self.plugin = testing.Worker(Plugin, outputs=["out", "other"], tables=given)

    def look_up(self, what):
        [outcome] = self.plugin.call(b"look_up " + what)
        return outcome

    def test_the_value_of_a_key_is_found_as_it_is_now(self):
        self.assertEqual(self.look_up(b"places pdx"), Emitted("out", b"Portland"))
        self.assertEqual(self.look_up(b"places nul"), Emitted("out", b""))
        self.assertEqual(self.look_up(b"places xxx"), Emitted("out", None))
        self.assertEqual(self.look_up(b"empty pdx"), Emitted("out", None))
        self.plugin.tables["places"][b"pdx"] = b"Portland, Oregon"
        self.assertEqual(self.look_up(b"places pdx"), Emitted("out", b"Portland, Oregon"))

    def test_a_table_that_is_not_there_is_named_with_those_that_are(self):
        for given, there in ({"a": {}, "b": {}}, "`a`, `b`"), ({}, "none"):
            why = rf"^the deployment has no table `places` \(it has {there}\)$"
            with self.assertRaisesRegex(tables.UnknownTable, why):
                testing.Worker(Plugin, outputs=["out", "other"], tables=given).call(b"look_up places pdx")

    def test_a_key_that_is_too_large_rejects_the_record(self):
        self.assertEqual(self.look_up(b"places " + b"k" * 1024), Emitted("out", None))
        too_large = Rejected("too large for a table: a key of 1025 bytes, more than 1024")
        self.assertEqual(self.look_up(b"places " + b"k" * 1025), too_large)


class Secrets(unittest.TestCase):
    def test_the_value_of_a_name_is_found_as_it_is_now(self):
        plugin = testing.Worker(Plugin, outputs=["out", "other"], secrets={"api-key": "hunter2"})
        self.assertEqual(plugin.call(b"tell api-key"), [Emitted("out", b"hunter2")])
        plugin.secrets["api-key"] = "another"
        self.assertEqual(plugin.call(b"tell api-key"), [Emitted("out", b"another")])
        self.assertEqual(plugin.call(b"tell other"), [Emitted("out", None)])


class Http(unittest.TestCase):
    def ask(self, what, answer):
        plugin = testing.Worker(Plugin, outputs=["out", "other"], answer_http=answer)
        [outcome] = plugin.call(b"ask " + what)
        return outcome

    def test_a_request_is_answered(self):
        asked = []

        def answer(request):
            asked.append(request)
            return http.Response(201, "grün", {"etag": b"7"})

        found = self.ask(b"POST https://a.test/b?c", answer)
        self.assertEqual(found, Emitted("out", "grün".encode(), b"7"))
        self.ask(b"GET http://a.test", answer)
        expect = [
            http.Request("POST", "https://a.test/b?c", (("a", b"b"),), b"?", 7),
            http.Request("GET", "http://a.test"),
        ]
        self.assertEqual(asked, expect)

    def test_what_may_be_better_later_is_retried(self):
        for status in 408, 425, 429, 500, 503, 100:
            retried = Retried(100, f"the response has the status {status}")
            self.assertEqual(self.ask(b"GET http://a.test", lambda _: http.Response(status)), retried)
        for status in 301, 400, 404, 499:
            rejected = Rejected(f"the response has the status {status}")
            self.assertEqual(self.ask(b"GET http://a.test", lambda _: http.Response(status)), rejected)
        self.assertIsInstance(self.ask(b"GET http://a.test", None), Retried)

    def test_an_address_is_taken_apart(self):
        for url, expect in {
            "https://a.test": ("https", "a.test", "/"),
            "http://a.test:81/b/c?d=e/f#g": ("http", "a.test:81", "/b/c?d=e/f"),
            "https://a.test?b/c": ("https", "a.test", "/?b/c"),
        }.items():
            self.assertEqual(http._address(url), expect)
        for url in "a.test", "ftp://a.test", "https://", "https:///path", "":
            with self.assertRaisesRegex(http.FinalHttpError, f'^no request: the address "{url}"$'):
                http.get(url)
        with self.assertRaisesRegex(ValueError, "a timeout is 0 to 86400000 milliseconds, not -1"):
            http.get("http://a.test", timeout_ms=-1)


class Batches(unittest.TestCase):
    def test_records_of_batches_are_read_in_their_order(self):
        long = NewRecord(b"v" * 300, b"k" * 70, (("h" * 100, b"x" * 200),), 1 << 40)
        absent = NewRecord()
        batches = testing.batch([long, absent], 1 << 40) + testing.batch([], 5) + testing.batch([SAME], 9)
        read = list(records(batches))
        self.assertEqual([record.offset for record in read], [1 << 40, (1 << 40) + 1, 9])
        for record, expect in zip(read, [long, absent, SAME]):
            found = NewRecord(record.value, record.key, tuple(record.headers), record.timestamp_ms)
            self.assertEqual(found, expect)
        self.assertEqual(read[2].header("trace"), b"7")
        self.assertIsNone(read[2].header("none"))

    def test_a_batch_with_append_time_has_that_of_the_broker(self):
        batch = bytearray(testing.batch([NewRecord(b"a", timestamp_ms=5), NewRecord(b"b", timestamp_ms=9)]))
        batch[22] |= 0x08
        self.assertEqual([record.timestamp_ms for record in records(bytes(batch))], [9, 9])


if __name__ == "__main__":
    unittest.main()
