"""Earliest and latest cycles of events that wait for one another."""

import numpy as np
import pytest

from karui.hw.plan.event_graph import EventGraph


def ring(delay: int, tokens: int) -> tuple[EventGraph, int, int]:
    """Two events a frame of each of two kinds: the second waits for the first, the first for room behind it."""
    graph = EventGraph()
    first, second = graph.events(2), graph.events(2)
    graph.wait(second, first, delay)
    graph.wait(first, second, 1, lag=tokens)
    return graph, first, second


def test_a_frame_alone_waits_for_no_frame_before() -> None:
    graph, first, second = ring(5, 1)
    cycles = graph.earliest(graph.every(0), rounds=10)
    assert cycles is not None
    assert cycles[first].tolist() == [0, 6]
    assert cycles[second].tolist() == [5, 11]


@pytest.mark.parametrize(("tokens", "period"), [(1, 12), (2, 6), (3, 4), (4, 3), (7, 2)])
def test_frames_follow_one_another_no_faster_than_the_slowest_circle(tokens: int, period: int) -> None:
    # A circle takes 5 + 1 cycles for so many of two events a frame; and events of a kind come one a cycle.
    graph, first, second = ring(5, tokens)
    cycles = graph.earliest(graph.every(0), period=period, rounds=100)
    assert cycles is not None
    assert (cycles[second] >= cycles[first] + 5).all()
    if period > 2:
        assert graph.earliest(graph.every(0), period=period - 1, rounds=100) is None
    else:
        assert graph.earliest(graph.every(0), period=1, rounds=100) is None


def test_waits_beside_those_of_the_graph_make_events_later() -> None:
    graph, first, second = ring(5, 4)
    assert graph.earliest(graph.every(0), period=3, rounds=100) is not None
    waits = graph.lagged(first, second, 1, 2)
    assert graph.earliest(graph.every(0), period=3, also=waits, rounds=100) is None
    assert graph.earliest(graph.every(0), period=6, also=waits, rounds=100) is not None


def test_places_before_a_frame_are_of_those_before() -> None:
    graph = EventGraph()
    beats, results = graph.events(6), graph.events(3)
    graph.wait_at(results, np.arange(3), beats, np.arange(3) * 2 - 5, 100)
    cycles = graph.earliest(graph.every(0), period=40, rounds=10)
    assert cycles is not None
    # The first two wait for beats 1 and 3 of the frame before, the last for beat 5 of that.
    assert cycles[results].tolist() == [1 + 100 - 40, 3 + 100 - 40, 5 + 100 - 40]


def test_latest_cycles_keep_to_all_waits_and_to_what_is_fixed() -> None:
    graph = EventGraph()
    source, long_way, short_way, sink = (graph.events(4, gap) for gap in (1, 3, 1, 1))
    graph.wait(long_way, source, 10)
    graph.wait(short_way, source, 2)
    graph.wait(source, short_way, 1, lag=8)
    for way in (long_way, short_way):
        graph.wait(sink, way, 1)
    start = graph.earliest(graph.every(0), period=20, rounds=100)
    assert start is not None
    latest = graph.latest(start, [sink], period=20)
    assert latest[sink].tolist() == start[sink].tolist() == [11, 14, 17, 20]
    assert latest[long_way].tolist() == [10, 13, 16, 19]
    assert latest[short_way].tolist() == [10, 13, 16, 19]
    assert latest[source].tolist() == [0, 3, 6, 9]
    again = graph.earliest(latest, period=20, rounds=1)
    assert again is not None
    for one, other in zip(again, latest, strict=True):
        assert one.tolist() == other.tolist()
