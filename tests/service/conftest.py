"""A browser, a database server, and a running service with a generator that takes no time."""

import contextlib
import shutil

import pytest

from service.settings import Settings
from tests.conftest import running_service
from tests.ecg import fake_generator
from tests.service.browser import chromium
from tests.service.postgres import Postgres


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def postgres():
    server = Postgres()
    yield server
    with contextlib.suppress(OSError):
        server.freeze(False)
    server.remove()


@pytest.fixture(scope="session")
def fake_generator_url(tmp_path_factory):
    """The base URL of a real service: the shipped classifier, and a generator of kilobytes."""
    folder = tmp_path_factory.mktemp("fake-generator")
    store = folder / "store"
    shutil.copytree(Settings().models_store, store, ignore=shutil.ignore_patterns("ldm"))
    fake_generator.store(store / "ldm")
    with running_service(folder, ECG_MODELS_STORE=str(store)) as service:
        yield service.url
