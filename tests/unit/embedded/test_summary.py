"""The summary of a run, and its accuracy against the labels."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from embedded.summary import LabelledRecord, Outcome, auroc, summary_lines

SCORED = st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=60)


@given(SCORED.filter(lambda scored: len({label for _, label in scored}) == 2))
def test_auroc_equals_that_of_scikit_learn_also_with_ties(scored: list[tuple[int, bool]]) -> None:
    scores, labels = zip(*scored, strict=True)
    assert auroc(scores, labels) == pytest.approx(roc_auc_score(labels, scores))


def test_without_both_labels_there_is_no_auroc() -> None:
    assert auroc([1.0, 2.0], [True, True]) is None
    assert auroc([], []) is None


def outcome(*labelled: tuple[float, bool, bool]) -> Outcome:
    found = [LabelledRecord(*record) for record in labelled]
    return Outcome(states={"done": 4, "pending": 1}, committed=4, anomalies=2, took_s=2.0, labelled=found)


def test_the_summary_counts_states_rate_anomalies_and_errors_of_the_detector() -> None:
    found = outcome((9, True, True), (8, False, True), (2, True, False), (1, False, False))
    printed = list(summary_lines(found, page="http://here/dags/x"))
    assert printed[:3] == ["records: 4 done, 1 pending", "this run: 4 records in 2.0 s, 2.0 records/s", "anomalies: 2 of 4 records"]
    assert [line.split() for line in printed[4:6]] == [["defective", "1", "1"], ["normal", "1", "1"]]
    assert printed[6:] == ["AUROC: 1.000", "page: http://here/dags/x"]


def test_records_without_labels_are_counted_but_not_compared() -> None:
    printed = "\n".join(summary_lines(outcome(), page=""))
    assert "anomalies: 2 of 4 records" in printed
    assert "AUROC" not in printed


def test_a_run_that_committed_nothing_has_a_rate_of_zero() -> None:
    assert Outcome(states={}, committed=0, anomalies=0, took_s=0.0, labelled=[]).rate == 0
