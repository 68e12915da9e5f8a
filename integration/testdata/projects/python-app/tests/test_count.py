import unittest

from counter import count


class TestCount(unittest.TestCase):
    def test_order(self):
        self.assertEqual(count(["b b a", "c"]), [("b", 2), ("a", 1), ("c", 1)])
