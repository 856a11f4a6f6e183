"""When a worker lets a connection go."""

from contextlib import ExitStack

import pytest

from service.wire.balance import MOST, SHARE, Balance


def closed(balance: Balance, at_once: int, n: int = 20_000) -> float:
    """The share of n answers that close their connection, among so many requests at once."""
    with ExitStack() as stack:
        for _ in range(at_once):
            stack.enter_context(balance)
        answers = [balance.headers() for _ in range(n)]
    assert all(answer in ({}, {"Connection": "close"}) for answer in answers)
    return sum(map(bool, answers)) / n


def test_the_busier_a_worker_the_more_often_it_lets_go():
    balance = Balance(workers=2)
    assert closed(balance, 8) == pytest.approx(SHARE, rel=0.6)
    assert closed(balance, 16) == pytest.approx(4 * SHARE, rel=0.4)
    assert closed(balance, 1000) == pytest.approx(MOST, rel=0.3)


def test_one_client_in_a_row_keeps_its_connection():
    assert closed(Balance(workers=2), 1) == 0


def test_a_lone_worker_keeps_all():
    assert closed(Balance(workers=1), 1000) == 0


def test_requests_that_ended_no_longer_count():
    balance = Balance(workers=2)
    with balance, balance:
        pass
    with pytest.raises(ValueError), balance:
        raise ValueError
    assert closed(balance, 1) == 0
