"""Settings: the example file holds them all, and each limit reaches the readers."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields

import pytest
from pydantic import ValidationError

from ecg.limits import LIMITS, Limits
from service.settings import Settings
from tests.conftest import ROOT

EXAMPLE = ROOT / "deploy" / "settings.toml"
OF_A_MACHINE = re.compile(r"^# ([a-z_]+ = .*)$", re.MULTILINE)


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*Settings.model_fields, "settings"):
        monkeypatch.delenv(f"ECG_{name.upper()}", raising=False)


def test_the_example_names_every_setting() -> None:
    text = EXAMPLE.read_text()
    given = set(tomllib.loads(text)) | set(tomllib.loads(all_of(text)))
    missing = sorted(set(Settings.model_fields) - given)
    assert not missing, f"add to deploy/settings.toml, with their defaults: {', '.join(missing)}"
    unknown = sorted(given - set(Settings.model_fields))
    assert not unknown, f"deploy/settings.toml names what is no setting: {', '.join(unknown)}"


def test_the_example_is_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = Settings()
    given = tomllib.loads(EXAMPLE.read_text())
    other = {name: v for name, v in given.items() if getattr(defaults, name) != v}
    assert not other, f"deploy/settings.toml gives other values than the defaults: {other}"
    monkeypatch.setenv("ECG_SETTINGS", str(EXAMPLE))
    assert Settings() == defaults


def test_what_the_example_leaves_to_the_machine_can_be_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(all_of(EXAMPLE.read_text()))
    monkeypatch.setenv("ECG_SETTINGS", str(file))
    assert Settings().reader_threads == 2


@pytest.mark.parametrize("name", [field.name for field in fields(Limits)])
def test_each_limit_can_be_lowered_and_raised(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert getattr(Settings().limits, name) == getattr(LIMITS, name)
    setting = {"max_unpacked": "max_unpacked_mib"}.get(name, name)
    for by in (0.5, 2):
        default = getattr(Settings(), setting)
        value = type(default)(default * by)
        monkeypatch.setenv(f"ECG_{setting.upper()}", str(value))
        assert getattr(Settings().limits, name) == getattr(LIMITS, name) * by
        monkeypatch.delenv(f"ECG_{setting.upper()}")


@pytest.mark.parametrize(
    "settings", [{"min_fs": 500, "max_fs": 100}, {"min_duration_s": 9, "max_duration_s": 8}]
)
def test_a_least_above_its_most_is_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match="is more than"):
        Settings(**settings)


def all_of(text: str) -> str:
    return OF_A_MACHINE.sub(r"\1", text)
