"""Rows that are gathered in one step are those that are read one by one, and an unsound one is never among them."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from switchgear.outbox.file import _insertion
from switchgear.outbox.gathering import gather
from switchgear.outbox.rows import Row, checksum, pack_rows
from switchgear.outbox.schema import migrate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from switchgear.outbox.rows import Content

ALL = "sequence > ? ORDER BY sequence LIMIT ?"


@pytest.fixture(scope="module")
def db() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection, set(), 0)
    yield connection
    connection.close()


def a_row(content: Content) -> Row:
    return Row(*content[:5], 0, content[5], checksum(*content))


rows = st.lists(
    st.tuples(
        st.integers(1, 1 << 61),
        st.text(st.characters(exclude_categories=["Cs"])).map(str.encode),
        st.binary(max_size=300),
        st.sampled_from([0, 1, 2, 4, 5, 6]),
        st.binary(max_size=40),
        st.none() | st.integers(1, 1 << 50),
    ).map(a_row),
    max_size=12,
    unique_by=lambda row: row.sequence,
)


def put(db: sqlite3.Connection, found: list[Row]) -> None:
    db.execute("DELETE FROM message")
    for row in found:
        block = pack_rows([row])
        db.execute(_insertion(1, block.columns), [0, *block.values])


@given(found=rows)
def test_what_was_written_is_what_is_read(db: sqlite3.Connection, found: list[Row]) -> None:
    """Any topics, payloads, properties and times come back as they were, in order."""
    put(db, found)
    assert gather(db, ALL, (-1, 100)) == [row.content for row in sorted(found)]


@given(
    found=rows.filter(bool),
    column=st.sampled_from(["topic", "payload", "flags", "extra", "expires_at", "checksum"]),
    value=st.none()
    | st.integers(-(1 << 63), (1 << 63) - 1)
    | st.text(max_size=20)
    | st.floats(allow_nan=False)
    | st.binary(max_size=20),
    which=st.integers(0, 11),
)
def test_an_unsound_row_is_never_read(
    db: sqlite3.Connection, found: list[Row], column: str, value: object, which: int
) -> None:
    """A column with another value, or of another kind, spoils the gathering: nothing wrong is taken for a message."""
    put(db, found)
    hurt = found[which % len(found)]
    db.execute(f"UPDATE message SET {column} = ? WHERE sequence = ?", (value, hurt.sequence))  # noqa: S608 - our names
    read = gather(db, ALL, (-1, 100))
    assert read is None or read == [row.content for row in sorted(found)]
