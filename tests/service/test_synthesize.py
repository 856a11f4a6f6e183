"""`POST /synthesize` of a real service, as API.md says, with a generator trained for seconds:
what is tested is the serving, not the ECGs."""

from __future__ import annotations

import asyncio
import io
import shutil
import zipfile
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pydicom
import pytest

from ecg.formats import File, Hints, read
from ecg.leads import LEADS, LIMB_FROM_I_II
from ecg.prepare import Preparation
from ecg.record import Record
from service.settings import Settings
from tests.conftest import running_service
from tests.service.test_errors import problem
from tests.training.commands import command
from training import shards
from training.sources.labelled import ABSENT, PRESENT, Labelled


@pytest.fixture(scope="module")
def generator_url(
    tmp_path_factory: pytest.TempPathFactory, records: dict[str, Record]
) -> Iterator[str]:
    """A service whose store has the shipped classifier and a generator fresh from the commands."""
    folder = tmp_path_factory.mktemp("generator")
    data, first, second = (folder / name for name in ("data", "autoencoder", "denoiser"))
    data.mkdir()
    labelled = [
        Labelled(record, name, name, fold, PRESENT, {"AFIB": PRESENT, "SR": ABSENT})
        for fold, (name, record) in zip((1, 2, 9, 9), records.items(), strict=True)
    ]
    shards.save(shards.build("ptb-xl", labelled, Preparation()), data / "ptb-xl.npz")
    store = folder / "store"
    shutil.copytree(Settings().models_store, store)
    command("train_autoencoder", "--data", data, "--run", first)
    command("train_denoiser", "--data", data, "--autoencoder", first, "--run", second)
    made = ("--run", second, "--store", store, "--version", "0.0.1")
    command("export_generator", *made, preset=None)
    with running_service(folder, ECG_MODELS_STORE=str(store)) as service:
        yield service.url


@pytest.fixture(scope="module")
def client(generator_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=generator_url, timeout=60) as client:
        yield client


def ask(client: httpx.Client, accept: str = "application/json", **request: Any) -> httpx.Response:
    answer = client.post("/synthesize", json=request, headers={"Accept": accept})
    assert answer.status_code == 200, answer.text
    return answer


def test_an_answer_has_the_contracts_fields_and_obeys_the_limb_lead_laws(
    client: httpx.Client,
) -> None:
    answer = ask(client, n=2, statements=["AFIB"], age=63, sex="female", heart_rate=80, seed=7)
    body = answer.json()
    assert body["research_use_only"] is True
    assert body["synthetic"] is True
    assert set(body["model"]) == {"name", "version", "sha256"}
    assert (body["seed"], body["fs"], body["units"]) == (7, 100, "mV")
    assert body["leads"] == list(LEADS)
    assert body["labels"] == {
        "atrial_substrate": "abnormal",
        "statements": ["AFIB"],
        "age": 63,
        "sex": "female",
        "heart_rate": 80,
        "complete": False,
    }
    sig = np.array(body["sig"])
    assert sig.shape == (2, 12, 1000)
    assert np.abs(sig[:, :6] - LIMB_FROM_I_II @ sig[:, :2]).max() < 1e-5
    assert np.abs(sig[0] - sig[1]).max() > 1e-3


def test_nothing_asked_for_is_one_ecg_with_a_seed_that_repeats_it(client: httpx.Client) -> None:
    first = client.post("/synthesize").json()
    again = ask(client, seed=first["seed"]).json()
    other = ask(client, seed=first["seed"] + 1).json()
    assert np.abs(np.array(first["sig"]) - again["sig"]).max() < 1e-4
    assert np.abs(np.array(first["sig"]) - other["sig"]).max() > 1e-3


def test_that_there_are_no_other_statements_can_be_said(client: httpx.Client) -> None:
    asked = {"statements": ["AFIB"], "seed": 3}
    some, all_ = (ask(client, **asked, complete=complete).json() for complete in (False, True))
    assert [some["labels"]["complete"], all_["labels"]["complete"]] == [False, True]
    assert some["sig"] != all_["sig"]
    archive = ask(client, "application/zip", **asked, complete=True).content
    with zipfile.ZipFile(io.BytesIO(archive)) as z:
        header = next(name for name in z.namelist() if name.endswith(".hea"))
        assert "asked for: substrate abnormal, AFIB, no other statement" in z.read(header).decode()


def test_every_format_holds_the_same_ecgs(client: httpx.Client) -> None:
    request = {"n": 3, "statements": ["AFIB"], "seed": 11, "num_steps": 4}
    expected = np.array(ask(client, **request).json()["sig"])

    with np.load(io.BytesIO(ask(client, "application/x-npz", **request).content)) as arrays:
        assert arrays["data"].dtype == np.float32
        assert np.abs(arrays["data"].transpose(0, 2, 1) - expected).max() < 1e-4
        assert arrays["label"].tolist() == [1, 1, 1]
        assert arrays["synthetic"]
        assert arrays["statements"].tolist() == ["AFIB"]
        assert (arrays["fs"], arrays["units"], arrays["seed"]) == (100, "mV", 11)

    rows = ask(client, "text/csv", **request).text.splitlines()
    table = np.array([[float(x) for x in row.split(",")] for row in rows])
    assert table[:, -1].tolist() == [1, 1, 1]
    flat = expected.transpose(0, 2, 1).reshape(3, -1)
    assert np.abs(table[:, :-1] - flat).max() < 1e-4

    archive = ask(client, "application/zip", **request).content
    records = read([File(archive)], Hints())
    for record, sig in zip(records, expected, strict=True):
        assert record.leads == LEADS
        assert np.abs(record.sig - sig).max() < 6e-4  # half of a unit of 1 uV, and rounding
    with zipfile.ZipFile(io.BytesIO(archive)) as z:
        header = next(name for name in z.namelist() if name.endswith(".hea"))
        assert "synthetic" in z.read(header).decode()

    png = ask(client, "image/png", **{**request, "n": 1}).content
    assert png.startswith(b"\x89PNG")
    svg = ask(client, "image/svg+xml", **{**request, "n": 1}).text
    assert svg.startswith("<svg")
    assert "Synthetic ECG, not a patient's" in svg


def test_a_dicom_object_is_a_valid_twelve_lead_ecg_that_says_it_is_synthetic(
    client: httpx.Client,
) -> None:
    request = {"statements": ["AFIB"], "seed": 11, "num_steps": 4}
    expected = np.array(ask(client, **request).json()["sig"])[0]
    content = ask(client, "application/dicom", **request).content
    found = pydicom.dcmread(io.BytesIO(content))
    assert found.SOPClassUID == pydicom.uid.TwelveLeadECGWaveformStorage
    assert found.SyntheticData == "YES"
    # The class begins at 200 Hz: every second sample is the ECG's, as in the other formats.
    assert found.WaveformSequence[0].SamplingFrequency == 200
    millivolts = found.waveform_array(0).T / 1000
    assert np.abs(millivolts[:, ::2] - expected).max() < 6e-4
    between = (expected[:, :-1] + expected[:, 1:]) / 2
    assert np.abs(millivolts[:, 1:-1:2] - between).max() < np.abs(np.diff(expected)).max()
    (record,) = read([File(content)], Hints())
    assert (record.leads, record.fs, record.duration_s) == (LEADS, 200, 10)
    assert record.meta.synthetic
    assert client.post("/classify", content=content).status_code == 200


def test_company_does_not_change_an_answer(generator_url: str) -> None:
    requests = [
        {"seed": i, "n": 1 + i % 3, "num_steps": 3 + i % 4, "guidance_scale": 1 + (i % 2) * 0.7}
        for i in range(12)
    ]

    async def together() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=generator_url, timeout=60) as client:
            posts = (client.post("/synthesize", json=r) for r in requests)
            return await asyncio.gather(*posts)

    crowd = asyncio.run(together())
    with httpx.Client(base_url=generator_url, timeout=60) as client:
        for request, answer in zip(requests, crowd, strict=True):
            alone = np.array(ask(client, **request).json()["sig"])
            assert np.abs(alone - answer.json()["sig"]).max() < 1e-4


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ({"n": 0}, "n: "),
        ({"n": 65}, "n: "),
        ({"age": 130}, "age: "),
        ({"heart_rate": 10}, "heart_rate: "),
        ({"num_steps": 65}, "num_steps: "),
        ({"guidance_scale": 0.5}, "guidance_scale: "),
        ({"sex": "x"}, "sex: "),
        ({"statements": ["NOPE"]}, "statements[0]: is not covered"),
        ({"statements": ["AFIB"], "atrial_substrate": "normal"}, "atrial_substrate: "),
        ({"wanted": 1}, "holds a field other than n, atrial_substrate, "),
        ({"seed": -1}, "seed: "),
        ({"complete": True}, "complete: says that there are no other statements"),
    ],
)
def test_what_cannot_be_asked_is_422_and_says_why(
    client: httpx.Client, request_: dict, says: str
) -> None:
    assert says in problem(client.post("/synthesize", json=request_), 422)


def test_a_store_without_a_generator_says_so(url_without_generator: str) -> None:
    assert "no generator" in problem(httpx.post(f"{url_without_generator}/synthesize"), 503)


def test_other_refusals(client: httpx.Client) -> None:
    problem(client.post("/synthesize", content=b"{"), 400)
    problem(client.post("/synthesize", json={}, headers={"Accept": "text/html"}), 406)
    for media_type in ("image/png", "image/svg+xml", "application/dicom"):
        one = {"Accept": media_type}
        assert "n: " in problem(client.post("/synthesize", json={"n": 2}, headers=one), 422)
    problem(client.get("/synthesize"), 405)
