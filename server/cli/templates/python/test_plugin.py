"""Tests of the handler, without a host."""

import unittest

from millstream_plugin.testing import Rejected, Worker

from plugin import Plugin


def worker(**config):
    return Worker(Plugin, outputs=["hot"], config=config)


class Readings(unittest.TestCase):
    def test_what_is_hot_is_told_and_counted(self):
        outcomes = worker().call(
            b'{"sensor":"attic","celsius":31.5}',
            b'{"sensor":"attic","celsius":30}',
            b'{"sensor":"attic","celsius":33}',
        )
        values = [outcome.value for outcome in outcomes]
        first = b'{"sensor":"attic","celsius":31.5,"times":1}'
        second = b'{"sensor":"attic","celsius":33,"times":2}'
        self.assertEqual(values, [first, second])

    def test_the_limit_is_configured(self):
        reading = b'{"sensor":"attic","celsius":25}'
        self.assertEqual(len(worker().call(reading)), 0)
        self.assertEqual(len(worker(limit="20").call(reading)), 1)
        with self.assertRaises(ValueError):
            worker(limit="warm")

    def test_what_is_no_reading_is_rejected(self):
        for value in [b"", b"[]", b'{"sensor":"attic"}', b'{"sensor":1,"celsius":"hot"}']:
            [outcome] = worker().call(value)
            self.assertIsInstance(outcome, Rejected, value)
