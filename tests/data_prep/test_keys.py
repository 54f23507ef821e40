from __future__ import annotations

import re

from data_prep.keys import record_key


def test_keys_are_safe_distinct_and_stable() -> None:
    keys = [record_key("s", *parts) for parts in (["a_b"], ["a-b"], ["a", "b"], ["ä.b/c"], ["鳥"], ["x" * 500], [""])]
    assert len(set(keys)) == len(keys)
    assert all(re.fullmatch(r"[a-z0-9-]{1,88}", key) for key in keys)
    assert record_key("s", "a_b") == record_key("s", "a_b") == keys[0]
