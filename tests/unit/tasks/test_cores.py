"""Keeping the threads of a task on one core."""

from __future__ import annotations

import os
import threading

import pytest

from anomaly.tasks.cores import on_one_core

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system does not say which cores a thread may use")


def cores_of_a_new_thread() -> set[int]:
    found: list[set[int]] = []
    thread = threading.Thread(target=lambda: found.append(os.sched_getaffinity(0)))
    thread.start()
    thread.join()
    return found[0]


def test_threads_that_are_started_inside_share_one_core_and_later_ones_have_all() -> None:
    allowed = os.sched_getaffinity(0)
    with on_one_core(7):
        assert len(cores_of_a_new_thread()) == 1
        assert cores_of_a_new_thread() <= allowed

    assert cores_of_a_new_thread() == allowed


def test_neighbouring_numbers_take_turns_over_all_allowed_cores() -> None:
    allowed = os.sched_getaffinity(0)
    taken = set()
    for number in range(len(allowed)):
        with on_one_core(number):
            taken |= os.sched_getaffinity(0)

    assert taken == allowed


def test_the_cores_are_given_back_after_an_error() -> None:
    allowed = os.sched_getaffinity(0)
    with pytest.raises(KeyError), on_one_core(0):
        raise KeyError

    assert os.sched_getaffinity(0) == allowed
