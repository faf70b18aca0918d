from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime

import pytest

from anomaly import errors
from anomaly.models.runs import CHUNK_SIZE, BatchId, Chunk, batch_id_of


def test_a_chunk_survives_xcom_in_a_few_bytes() -> None:
    chunk = Chunk(batch_id=BatchId(uuid.uuid4()), number=999, began_at=datetime.now(UTC))
    text = json.dumps(chunk.to_xcom())
    assert Chunk.from_xcom(json.loads(text)) == chunk
    assert len(text) < 130


def test_a_chunk_that_an_older_version_claimed_is_worked_all_the_same() -> None:
    value = Chunk(batch_id=BatchId(uuid.uuid4()), number=1, began_at=datetime.now(UTC), size=7).to_xcom()
    del value["size"]
    assert Chunk.from_xcom(value).size == CHUNK_SIZE


@pytest.mark.parametrize(
    "value",
    [None, 3, "x", [], {}, *({"batch": batch, "chunk": 1, "began_at": "2026-01-01T00:00:00+00:00"} for batch in ("no uuid", 5, None))],
)
def test_a_chunk_description_that_is_not_ours_is_refused(value: object) -> None:
    with pytest.raises(errors.Misconfigured, match="not a chunk description"):
        Chunk.from_xcom(value)


def test_a_run_has_the_same_batch_whoever_asks() -> None:
    assert batch_id_of("dag", "run") == batch_id_of("dag", "run")
    assert len({batch_id_of("dag", "run"), batch_id_of("dag", "run2"), batch_id_of("dagr", "un")}) == 3


def test_every_error_has_a_code_of_its_own() -> None:
    def below(kind: type[errors.AnomalyError]) -> list[type[errors.AnomalyError]]:
        return [kind, *(each for child in kind.__subclasses__() for each in below(child))]

    kinds = below(errors.AnomalyError)
    assert len({kind.code for kind in kinds}) == len(kinds)
    assert errors.__doc__ is not None
    missing = [kind.__name__ for kind in kinds if kind.__name__ not in errors.__doc__]
    assert missing == []
