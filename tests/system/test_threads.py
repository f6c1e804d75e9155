from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from n2n.system.threads import Closed, Prefetch, WriteBehind

# Seconds after which a test gives up on a thread.
LONG = 20


def test_items_come_in_order_and_are_made_ahead() -> None:
    second = threading.Event()

    def items() -> Iterator[int]:
        yield 0
        second.set()
        yield 1

    with Prefetch(items()) as ahead:
        given = iter(ahead)
        assert next(given) == 0
        # Nobody has asked for it yet.
        assert second.wait(LONG)
        assert list(given) == [1]


@pytest.mark.parametrize("most", [1, 3])
def test_few_items_wait(most: int) -> None:
    made, full = [], threading.Event()

    def items() -> Iterator[int]:
        for i in range(100):
            made.append(i)
            if i == most:
                full.set()
            yield i

    with Prefetch(items(), most) as ahead:
        assert full.wait(LONG)
        for asked, item in enumerate(ahead, 1):
            assert item == asked - 1
            # Those given, those that wait, and the one for which there is no room yet.
            assert len(made) <= asked + most + 1
    assert len(made) == 100


def test_errors_come_after_the_items_before_them() -> None:
    def items() -> Iterator[int]:
        yield 0
        raise ValueError("broken")

    with Prefetch(items(), 5) as ahead:
        given = iter(ahead)
        assert next(given) == 0
        with pytest.raises(ValueError, match="broken"):
            next(given)


def test_leaving_early_stops_the_thread_and_closes_the_generator() -> None:
    closed_in: list[threading.Thread] = []
    before = threading.active_count()

    def items() -> Iterator[int]:
        try:
            while True:
                yield 0
        finally:
            closed_in.append(threading.current_thread())

    def interrupted() -> None:
        with Prefetch(items()) as ahead:
            next(iter(ahead))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert threading.active_count() == before
    assert closed_in[0] is not threading.current_thread()


def test_what_is_given_is_worked_on_behind_and_waited_for() -> None:
    done: list[int] = []
    go = threading.Event()

    def consume(items: Iterator[int]) -> None:
        assert go.wait(LONG)
        done.extend(items)

    with WriteBehind(consume, 2) as behind:
        behind.put(0)
        behind.put(1)
        assert done == []  # and yet both were taken
        go.set()
        behind.put(2)
    assert done == [0, 1, 2]


def test_errors_behind_reach_who_gives() -> None:
    def consume(items: Iterator[int]) -> None:
        next(items)
        raise ValueError("full")

    def give(consume: Callable[[Iterator[int]], None], count: int) -> None:
        with WriteBehind(consume) as behind:
            for i in range(count):
                behind.put(i)

    def idle(items: Iterator[int]) -> None:
        pass

    with pytest.raises(ValueError, match="full"):
        give(consume, 100)
    with pytest.raises(ValueError, match="full"):
        give(consume, 1)  # there is nothing more to give when the error comes
    with pytest.raises(Closed):
        give(idle, 100)


def test_an_interrupt_drops_what_waits_behind() -> None:
    seen: list[object] = []
    started = threading.Event()
    before = threading.active_count()

    def consume(items: Iterator[int]) -> None:
        try:
            for item in items:
                seen.append(item)
                started.set()
        except Exception:  # what handles errors does not see the end
            seen.append("error")
        finally:
            seen.append("cleaned")

    def interrupted() -> None:
        with WriteBehind(consume) as behind:
            behind.put(0)
            assert started.wait(LONG)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert seen == [0, "cleaned"]
    assert threading.active_count() == before
