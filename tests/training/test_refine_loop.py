"""From ratings to a new version: exports, rewards, versions, and the commands end to end."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ecg.card import GeneratorCard
from ecg.labels import Labels
from ecg.store import load_generator
from service.rating import export
from service.rating.report import figures
from tests.training.commands import command
from tests.training.heartbeats import ecgs
from training import shards
from training.beats import MEASURES
from training.ldm.stored import decoder_of, denoiser_of
from training.refine import critic as critics
from training.refine import reward, simulated, step, study
from training.refine.critic import Rule, fit
from training.refine.damage import DAMAGES
from training.refine.guards import Guard
from training.refine.raters import panel
from training.refine.reward import RewardConfig
from training.refine.study import Ratings
from training.refine.update import UpdateConfig
from training.refine.versions import Versions
from training.shards import CODES, Shard

RULES = (
    Rule("QRS", "qrs_ms", +1, lacking=("CLBBB",)),
    Rule("P wave", "p_wave_uv", -1, having=("SR",)),
)


@pytest.fixture(scope="module")
def real() -> Shard:
    """60 regular ECGs of as many patients; a third are said to be AFIB."""
    rng, n = np.random.default_rng(5), 60
    fold = np.where(np.arange(n) < 40, 1 + np.arange(n) % 8, np.where(np.arange(n) < 56, 9, 10))
    label = np.zeros((n, 1 + len(CODES)), np.int8)
    afib = np.arange(n) % 3 == 0
    label[:, 0], label[:, 1 + CODES.index("AFIB")] = afib, afib
    label[:, 1 + CODES.index("SR")] = ~afib
    return Shard(
        source="ptb-xl", preparation=shards.Preparation(),
        sig=ecgs(rng, n).astype(np.float16), lead_mask=np.ones((n, 8), np.uint8),
        n_valid=np.full(n, 1000, np.int32), record=np.arange(n, dtype=np.int32), label=label,
        strat_fold=fold.astype(np.int8),
        patient=np.arange(n).astype(str), age=np.full(n, 60, np.float32), sex=np.zeros(n, np.int8),
    )  # fmt: skip


@pytest.fixture(scope="module")
def stored(real: Shard, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the shard and a generator in a store, hardly trained."""
    place = tmp_path_factory.mktemp("refine")
    (place / "data").mkdir()
    shards.save(real, place / "data" / "ptb-xl.npz")
    told = ("--data", place / "data")
    first, second = place / "first-autoencoder", place / "first"
    command("train_autoencoder", *told, "--run", first)
    command("train_denoiser", *told, "--autoencoder", first, "--run", second)
    command("export_generator", "--run", second, "--version", "1.0.0", "--name", "small",
            "--store", place / "store", preset=None)  # fmt: skip
    return place


@pytest.fixture(scope="module")
def imported(stored: Path) -> Path:
    """The same, its runs made anew from the store."""
    command(
        "import_generator", "--stored", stored / "store" / "small", "--data", stored / "data",
        "--run", stored / "denoiser", "--autoencoder", stored / "autoencoder",
    )  # fmt: skip
    return stored


def test_a_stored_generators_networks_are_read_back(stored: Path) -> None:
    folder = stored / "store" / "small"
    generator = load_generator(folder, "cpu")
    denoiser, _ = denoiser_of(folder, generator.card)
    autoencoder, _, offset, scale = decoder_of(folder, generator.card)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, *generator.card.latents)).astype(np.float32)
    sigma, labels = (
        np.array([0.1, 1, 5], np.float32),
        np.eye(3, denoiser.net.embed_labels.in_features),
    )
    with torch.inference_mode():
        mine = denoiser(*(torch.from_numpy(a.astype(np.float32)) for a in (x, sigma, labels)))
        sig = autoencoder.decode(torch.from_numpy(x * scale + offset))
    assert np.allclose(mine, generator.denoise(x, sigma, labels.astype(np.float32)), atol=1e-4)
    assert np.allclose(sig, generator.decode(x), atol=1e-4)


def test_an_import_says_where_it_came_from_and_leaves_the_decoder_alone(imported: Path) -> None:
    known = json.loads((imported / "denoiser" / "run.json").read_text())
    assert (known["imported"]["name"], known["imported"]["version"]) == ("small", "1.0.0")
    card = load_generator(imported / "store" / "small", "cpu").card
    decoder, _, _, _ = decoder_of(imported / "store" / "small", card)
    kept = torch.load(imported / "autoencoder" / "best.pt", weights_only=True)
    for name, value in decoder.state_dict().items():
        if not name.startswith(("encoder.", "linear_in.")):
            assert torch.equal(kept[name], value), name


@pytest.fixture
def made(real: Shard, monkeypatch: pytest.MonkeyPatch) -> tuple[critics.Critic, Shard]:
    measure, names, _ = critics.KINDS["beats"]
    monkeypatch.setattr(critics, "KINDS", {"beats": (measure, names, RULES)})
    critic = fit("beats", real)
    wide = DAMAGES["wide_qrs"][0](real, np.random.default_rng(0))
    half = np.arange(len(real.sig)) % 2 == 0
    sig = np.where(half[:, None, None], wide.sig, real.sig)
    return critic, replace(real, source="generated", sig=sig)


def card_of(stored: Path) -> GeneratorCard:
    return load_generator(stored / "store" / "small", "cpu").card


def rated(stored: Path, made: tuple[critics.Critic, Shard], n: int, error: float) -> Path:
    critic, part = made
    labels = [Labels("normal", ("SR",), 60.0, "male", 70.0) for _ in part.sig]
    arrays = simulated.rate(part, labels, card_of(stored), critic, panel(3, error, 0), n, 0)
    return simulated.write(arrays, stored / f"export-{n}-{error:g}")


def test_simulated_ratings_are_an_export_like_any_other(
    stored: Path, made: tuple[critics.Critic, Shard]
) -> None:
    path = rated(stored, made, 60, 0.0)
    report = figures(export.read(path))
    assert "no person" in report["who"]
    assert report["n"] == {"ecgs": 54, "answers": 60, "first": 54}
    ratings = study.read(path)
    assert (len(ratings.of), len(ratings.sig)) == (60, 54)
    assert ratings.who() == "3 simulated raters, no person"
    assert ratings.labels[0] == Labels("normal", ("SR",), 60.0, "male", 70.0)
    bad = made[0].broken(made[1])[:, 0]
    number = {sig.tobytes(): i for i, sig in enumerate(made[1].sig)}
    seen = np.array([bad[number[ratings.sig[i].tobytes()]] for i in ratings.of])
    assert ratings.good[~seen].mean() > ratings.good[seen].mean() + 0.5


def test_more_ratings_than_ecgs_are_refused(
    stored: Path, made: tuple[critics.Critic, Shard]
) -> None:
    with pytest.raises(SystemExit, match="90 ratings want 81 ECGs, and there are 60"):
        rated(stored, made, 90, 0.0)


ANSWER = {"source": "real", "label": "unsure", "plausibility": 3, "defects": []}


def test_how_good_an_answer_says_an_ecg_is() -> None:
    assert study.how_good(ANSWER) == (0.75,)
    assert study.how_good({**ANSWER, "defects": [{"kind": "qrs"}]}) == (0.5,)
    assert study.how_good({"better": "second"}) == (0.0, 1.0)
    assert study.how_good({"better": "neither"}) == (0.5, 0.5)


def test_only_the_answer_that_stands_counts(
    stored: Path, made: tuple[critics.Critic, Shard], tmp_path: Path
) -> None:
    with np.load(rated(stored, made, 60, 0.0) / study.NPZ) as f:
        arrays = {name: f[name] for name in f.files}
    assert len(study.standing_answers(arrays)) == 60
    late = {"id": "late", "presentation": "shown0", "revision": 2, "based_on": 0, "undone": False,
            "given": json.dumps(ANSWER), "created": ""}  # fmt: skip
    undoing = {**late, "id": "undoing", "presentation": "shown1", "based_on": 1, "undone": True}
    for row in (late, undoing):
        for name, value in row.items():
            column = arrays[f"answers.{name}"]
            arrays[f"answers.{name}"] = np.append(column, np.array([value]))
    found = study.standing_answers(arrays)
    assert found["shown0"] != ANSWER and "shown1" not in found and len(found) == 59


def test_real_ecgs_of_a_study_teach_nothing(
    stored: Path, made: tuple[critics.Critic, Shard], tmp_path: Path
) -> None:
    with np.load(rated(stored, made, 60, 0.0) / study.NPZ) as f:
        arrays = {name: f[name] for name in f.files}
    arrays["ecgs.source"] = np.where(np.arange(54) < 20, "real", arrays["ecgs.source"])
    np.savez(tmp_path / study.NPZ, **arrays)
    assert len(study.read(tmp_path).sig) == 34
    arrays["ecgs.source"][:] = "real"
    np.savez(tmp_path / study.NPZ, **arrays)
    with pytest.raises(SystemExit, match="nobody has said anything of a generated ECG"):
        study.read(tmp_path)


def test_what_is_no_export_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", sig=np.zeros(3))
    for path in (tmp_path / "set.npz", tmp_path / "nothing"):
        with pytest.raises(SystemExit, match="no export of a study"):
            study.read(path)


def ratings_of(good: np.ndarray, n_raters: int = 3) -> Ratings:
    n = len(good)
    return Ratings(
        np.zeros((n, 8, 10), np.float16), [Labels()] * n, np.full(n, "ldm"), np.arange(n),
        np.array([f"r{i % n_raters}" for i in range(n)]), good, np.ones(n, bool),
    )  # fmt: skip


def test_a_reward_is_learned_from_200_ratings_and_ranks_what_it_has_not_seen() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1200, 30))
    good = (x[:, 0] + rng.standard_normal(1200) > 0).astype(float)
    learned = reward.learn(x[:200], ratings_of(good[:200]), RewardConfig(), 0)
    assert learned.quality["by_ecg"]["interval"][0] > 0.5
    assert learned.quality["by_rater"]["value"] > 0.6
    scores = learned.of(x[200:])
    assert np.corrcoef(scores, x[200:, 0])[0, 1] > 0.5
    strange = learned.of(x[200:] * 8)
    assert strange.max() < 1 and strange.std() > 0


def test_a_reward_no_better_than_chance_is_refused() -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((300, 30))
    with pytest.raises(SystemExit, match=r"refused: on ECGs .* no better than chance"):
        reward.learn(x, ratings_of(rng.integers(0, 2, 300).astype(float)), RewardConfig(), 0)
    with pytest.raises(SystemExit, match="at least 100"):
        reward.learn(x[:50], ratings_of(np.ones(50)), RewardConfig(), 0)
    with pytest.raises(SystemExit, match="all ratings say the same"):
        reward.learn(x, ratings_of(np.ones(300)), RewardConfig(), 0)


def test_where_raters_contradict_each_other_the_reward_is_refused() -> None:
    rng = np.random.default_rng(2)
    x = rng.standard_normal((600, 10))
    ratings = ratings_of(np.zeros(600), n_raters=2)
    sign = np.where(ratings.rater == "r0", 1, -1)
    ratings = replace(ratings, good=(sign * x[:, 0] > 0).astype(float))
    with pytest.raises(SystemExit, match="refused"):
        reward.learn(x, ratings, RewardConfig(), 0)


def test_a_severe_rater_and_a_mild_one_are_of_one_mind() -> None:
    good = np.array([0.2, 0.6, 0.4, 0.8])
    ratings = replace(ratings_of(good), rater=np.array(["a", "b", "a", "b"]))
    assert np.allclose(reward.of_one_mind(ratings), [0.4, 0.4, 0.6, 0.6])


def test_each_damage_changes_what_it_is_to_change(real: Shard) -> None:
    rng = np.random.default_rng(0)
    afib = real.label[:, 1 + CODES.index("AFIB")] == 1
    p = DAMAGES["p_waves_in_afib"][0](real, rng)
    assert (p.sig[~afib] == real.sig[~afib]).all()
    sinus = {one.tobytes() for one in real.sig[~afib]}
    assert all(one.tobytes() in sinus for one in p.sig[afib])
    apart = DAMAGES["decoupled_leads"][0](real, rng)
    assert (apart.sig[:, :2] == real.sig[:, :2]).all()
    assert (apart.sig[:, 2:] != real.sig[:, 2:]).any(axis=(1, 2)).mean() > 0.9
    wide = DAMAGES["wide_qrs"][0](real, rng)
    qrs = {k: critics.KINDS["beats"][0](v)[:, MEASURES.index("qrs_ms")]
           for k, v in (("real", real), ("wide", wide))}  # fmt: skip
    assert np.nanmedian(qrs["wide"]) > np.nanmedian(qrs["real"]) + 15


def test_a_guard_holds_until_its_bound() -> None:
    assert Guard("coverage", 0.9, 0.86, -0.04, (-0.1, 0.0), 0.05).holds
    assert not Guard("coverage", 0.9, 0.84, -0.06, (-0.1, 0.0), 0.05).holds


def test_no_update_may_have_less_than_half_real_ecgs() -> None:
    with pytest.raises(SystemExit, match="real_share"):
        UpdateConfig(real_share=0.4)


def test_versions_are_kept_refused_and_rolled_back(imported: Path, tmp_path: Path) -> None:
    versions = Versions(tmp_path / "refined")
    with pytest.raises(SystemExit, match="no refinement was begun"):
        versions.roll_back()
    versions.begin(imported / "denoiser")
    versions.begin(imported / "denoiser")
    known = json.loads((imported / "denoiser" / "run.json").read_text())
    weights = torch.load(imported / "denoiser" / "best.pt", weights_only=True)
    one = versions.add(known, weights, {"parent": 0, "accepted": True})
    two = versions.add(known, weights, {"parent": 1, "accepted": False})
    assert (one, two, versions.current) == (1, 2, 1)
    assert all((versions.run(i) / "best.pt").exists() for i in range(3))
    with pytest.raises(SystemExit, match="version 2 is none that was accepted"):
        versions.roll_back(2)
    assert versions.roll_back() == 0 == versions.current
    with pytest.raises(SystemExit, match="none before it"):
        versions.roll_back()
    assert versions.roll_back(1) == 1
    weights = {k: v + 1 for k, v in weights.items()}
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "run.json").write_text(json.dumps(known))
    torch.save(weights, tmp_path / "other" / "best.pt")
    with pytest.raises(SystemExit, match="began with other weights"):
        versions.begin(tmp_path / "other")


@pytest.fixture
def places(imported: Path, tmp_path: Path) -> list[object]:
    return ["--run", tmp_path / "damaged", "--data", imported / "data" / "ptb-xl.npz",
            "--out", tmp_path / "refined"]  # fmt: skip


def test_from_a_damaged_generator_to_refined_versions(
    imported: Path, places: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Damage, rounds of simulated ratings, the same exports once more by hand, and back."""
    for name, (measure, names, _) in list(critics.KINDS.items()):
        rule = {"beats": "qrs_ms", "neurokit": "noise"}[name]
        monkeypatch.setitem(critics.KINDS, name, (measure, names, (Rule("QRS", rule, +1),)))
    monkeypatch.setattr(step, "LAYERS", ("middle", "up.3"))
    monkeypatch.setattr(reward, "_refuse_chance", lambda quality: None)
    command("damage_generator", "wide_qrs", "--run", imported / "denoiser", *places[2:4],
            "--out", tmp_path / "damaged")  # fmt: skip
    assert json.loads((tmp_path / "damaged" / "run.json").read_text())["damage"] == "wide_qrs"
    bounds = [x for name in ("tstr", "fidelity", "recall", "coverage", "second_reward")
              for x in ("--set", f"bounds.{name}=1.0")]  # fmt: skip
    bounds += ["--set", "reward.fewest=10"]
    out = command("simulated_rounds", *places, "--rounds", 2, "--ratings", 40, "--defect", "QRS",
                  "--error", 0.4, "--without-guards", *bounds)  # fmt: skip
    assert "round 2: version 2 accepted" in out
    refined = tmp_path / "refined"
    found = json.loads((refined / "rounds.json").read_text())
    assert [one["version"] for one in found["versions"]] == [0, 1, 2]
    assert "no person" in found["raters"]
    page = (refined / "README.md").read_text()
    assert "Nobody rated anything here" in page and "The guards were off" in page
    card = load_generator(refined / "2" / "store" / "ldm", "cpu").card
    assert card.version == "1.0.0+refined.2"
    assert "Damaged on purpose (wide_qrs)" in card.limitations[-1]
    assert "Refined by 20 ratings by 3 simulated raters, no person" in card.limitations[-1]
    for name in ("1", "2"):
        assert not same(refined / "0", refined / name), "each version has learned something"

    command("refine.__main__", "--rollback", *places)
    assert Versions(refined).current == 1
    with pytest.raises(AssertionError, match="refused: .*; version 1 stays the current one"):
        command("refine.__main__", refined / "simulated-ratings-1", *places,
                "--set", "reward.fewest=10", "--set", "bounds.recall=-2.0")  # fmt: skip
    assert Versions(refined).current == 1
    assert (refined / "3" / "best.pt").exists(), "what is refused is kept"
    assert "## Version 3: refused" in (refined / "README.md").read_text()


def same(a: Path, b: Path) -> bool:
    weights = [torch.load(x / "best.pt", weights_only=True) for x in (a, b)]
    return all(torch.equal(v, weights[1][k]) for k, v in weights[0].items())


def test_where_there_is_nothing_to_refine_it_is_said(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="which study"):
        command("refine.__main__")
    with pytest.raises(AssertionError, match="no export of a study"):
        command("refine.__main__", tmp_path)
