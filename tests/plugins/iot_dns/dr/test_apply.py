"""``dr apply``: records first, then clients, and nothing where nothing is to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from switchgear_iot_dns.dr.operations import Wishes
from switchgear_iot_dns.dr.testing.bench import EAST, ONE, TWO, WEST

if TYPE_CHECKING:
    from switchgear_iot_dns.dr.testing import Bench


def test_a_mode_is_brought_about(bench: Bench) -> None:
    """After apply a record leads elsewhere, or a client of it is not in the target region."""
    ended = bench.operations().apply("west", Wishes())
    assert ended.code == 0, ended.text
    assert bench.regions() == {ONE: WEST, TWO: WEST}
    assert bench.connected(EAST) == []
    assert bench.connected(WEST) == ["lathe-1", "press-1", "press-2"]
