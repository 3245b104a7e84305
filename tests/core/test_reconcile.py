"""Both sides of the lane come to one digest, whatever the order in which they hold their frames."""

from __future__ import annotations

import hashlib
import random

from hypothesis import given
from hypothesis import strategies as st

from tieline_core.reconcile import HOUR_US, by_hour, differing, digest_of

CONTENTS = st.lists(
    st.tuples(st.integers(0, 5 * HOUR_US), st.binary(max_size=8).map(lambda b: hashlib.sha256(b).hexdigest()), st.just(10)),
    max_size=30,
)


@given(contents=CONTENTS, seed=st.integers())
def test_the_digest_knows_no_order_and_no_repetition(contents: list[tuple[int, str, int]], seed: int) -> None:
    shuffled = contents + contents[: len(contents) // 2]
    random.Random(seed).shuffle(shuffled)
    assert by_hour(shuffled) == by_hour(contents)
    assert differing(by_hour(contents), by_hour(shuffled)) == []


@given(contents=CONTENTS.filter(bool))
def test_a_missing_frame_shows_in_its_hour_and_in_no_other(contents: list[tuple[int, str, int]]) -> None:
    first_us, sha256, _ = contents[0]
    hour = first_us - first_us % HOUR_US
    rest = [row for row in contents if (row[0] - row[0] % HOUR_US, row[1]) != (hour, sha256)]
    assert differing(by_hour(contents), by_hour(rest)) == [hour]


def test_a_digest_is_the_sum_of_the_first_sixteen_bytes() -> None:
    assert digest_of(["f" * 64, "0" * 31 + "2" + "a" * 32]) == "0" * 31 + "1"
    assert digest_of([]) == "0" * 32
