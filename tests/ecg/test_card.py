"""The card refuses what would make its model answer wrongly."""

import json

import pytest
from pydantic import ValidationError

from ecg.card import ClassifierCard, Metric, TrainingData, read_card
from ecg.decision import Calibration, RecordRule
from ecg.errors import StoreError
from ecg.prepare import Denoising, Preparation
from tests.ecg.fake_model import card

THREE = (0.5, 0.5, 0.5)


def calibration(slope=THREE, offset=THREE, threshold=THREE):
    return (Calibration("any", 1, slope, offset, threshold),)


def test_a_card_survives_json():
    full = card(
        preparation=Preparation(denoising=Denoising("sym4", 4, 0.5), scale_mv=0.25),
        record_rule=RecordRule(top_k=2, min_signal_s=4.0),
        metrics=(
            Metric(
                name="AUROC",
                value=0.9,
                interval=(0.8, 0.95),
                n=10,
                n_positive=3,
                data="d",
                leads="II",
            ),
        ),
        training_data=(TrainingData(name="d", records=5, licence="CC0", citation="c"),),
    )
    assert ClassifierCard.model_validate_json(full.model_dump_json(indent=1)) == full


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"statements": ("NORM", "FEVER")}, "FEVER"),
        ({"implying_statements": ("AFLT",)}, "implying_statements"),
        ({"calibration": ()}, "calibration"),
        ({"calibration": calibration(slope=(1.0, 1.0))}, "must have 3 entries"),
        ({"calibration": calibration(offset=(1.0,) * 4)}, "must have 3 entries"),
        ({"calibration": calibration(threshold=())}, "must have 3 entries"),
        ({"calibration": calibration(threshold=(0.5, 0.5, 0.4))}, "contradicts the substrate"),
        ({"fs": 500.0}, "fs and n_samples must be the preparation's"),
        ({"n_samples": 999}, "fs and n_samples must be the preparation's"),
        ({"sha256": "0" * 63}, "sha256"),
        ({"units": "uV"}, "units"),
        ({"format": 2}, "format"),
        ({"price": 5}, "price"),
    ],
)
def test_a_card_that_contradicts_itself_is_refused(changes, says):
    with pytest.raises(ValidationError, match=says):
        card(**changes)


@pytest.mark.parametrize("part", ["preparation", "record_rule"])
def test_an_entry_that_this_code_does_not_know_is_refused_in_any_part(part, tmp_path):
    values = json.loads(card().model_dump_json())
    values[part]["unheard_of"] = 1
    (tmp_path / "card.json").write_text(json.dumps(values))
    with pytest.raises(StoreError, match="unheard_of"):
        read_card(tmp_path / "card.json", ClassifierCard)


def test_the_outputs_that_imply_the_substrate_are_counted_behind_it():
    assert card(statements=("NORM", "AFIB"), implying_statements=("AFIB",)).implying == [2]


def test_a_missing_entry_is_named(tmp_path):
    values = json.loads(card().model_dump_json())
    del values["not_for"]
    (tmp_path / "card.json").write_text(json.dumps(values))
    with pytest.raises(StoreError, match="not_for"):
        read_card(tmp_path / "card.json", ClassifierCard)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe"])
def test_what_is_no_card_is_refused(content, tmp_path):
    (tmp_path / "card.json").write_bytes(content)
    with pytest.raises(StoreError, match="not a valid card"):
        read_card(tmp_path / "card.json", ClassifierCard)


def test_a_missing_card_is_said_to_be_missing(tmp_path):
    with pytest.raises(StoreError, match="no card at"):
        read_card(tmp_path / "card.json", ClassifierCard)
