"""The SCP statements of PTB-XL, and the open proxy built on them."""

from collections import Counter

import pytest

from ecg.statements import ATRIAL_STATEMENTS, STATEMENTS, atrial_substrate_abnormal


def test_there_are_ptb_xls_71_statements_of_its_kinds():
    assert len(STATEMENTS) == 71
    kinds = Counter(kind for s in STATEMENTS.values() for kind in s.kinds)
    assert kinds == {"diagnostic": 44, "form": 19, "rhythm": 12}
    classes = Counter(s.superclass for s in STATEMENTS.values() if s.superclass)
    assert classes == {"NORM": 1, "MI": 14, "STTC": 13, "CD": 11, "HYP": 5}


def test_exactly_the_diagnostic_statements_have_a_superclass():
    for statement in STATEMENTS.values():
        assert (statement.superclass is not None) == ("diagnostic" in statement.kinds)


def test_a_statement_is_found_by_its_code():
    assert all(statement.code == code for code, statement in STATEMENTS.items())
    assert all(statement.description for statement in STATEMENTS.values())
    assert STATEMENTS["AFIB"].description == "atrial fibrillation"


@pytest.mark.parametrize("code", STATEMENTS)
def test_the_substrate_is_abnormal_for_four_statements_alone(code):
    expected = code in ("AFIB", "AFLT", "LAO/LAE", "RAO/RAE")
    assert atrial_substrate_abnormal([code]) is expected
    assert atrial_substrate_abnormal({"NORM": 100.0, code: 0.0}) is expected, "at any likelihood"


def test_nothing_said_is_not_abnormal():
    assert not atrial_substrate_abnormal({})
    assert set(ATRIAL_STATEMENTS) <= set(STATEMENTS)
