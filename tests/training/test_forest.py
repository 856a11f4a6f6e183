"""Features say what an ECG was made with; a forest learns from them, also where some are NaN."""

import json

import numpy as np
import pytest

from ecg.leads import INDEPENDENT_LEADS
from training import forest, tstr
from training.features import tables
from training.features.measures import features, without_beats
from training.features.table import FEATURES, NAMES
from training.features.tables import features_of, kept_features
from training.shards import CODES, load, save
from training.train_classifier import TRAIN, covered_statements
from training.tstr import Trial

FS, N = 100, 1000
ALL = np.ones(8)


def wave(t, at, width, height):
    return height * np.exp(-((t - at) ** 2) / (2 * width**2))


def ecg(rr_s, p_mv=0.15, f_mv=0.0, seed=0, qrs_s=0.012, r_i=1.0, st_mv=0.0, pr=0.16, rt=0.3):
    """mV [8, 1000] with beats `rr_s` apart, each a P wave, a QRS complex and a T wave; fibrillatory
    waves of 6 Hz where `f_mv`. Lead I's QRS is `r_i` of lead II's; the R peak is `pr` after the P
    wave's and `rt` before the T wave's."""
    rng = np.random.default_rng(seed)
    t = np.arange(N) / FS
    limb, qrs = np.zeros(N), np.zeros(N)
    beat = 0.6
    for gap in rr_s:
        qrs += wave(t, beat, qrs_s, 1.0) - wave(t, beat + 2.5 * qrs_s, qrs_s, 0.2)
        limb += wave(t, beat - pr, 0.02, p_mv) + wave(t, beat + rt, 0.05, 0.3)
        limb += st_mv * ((t > beat + 0.06) & (t < beat + 0.2))
        beat += gap
    limb += f_mv * np.sin(2 * np.pi * 6 * t + np.cumsum(rng.normal(0, 0.1, N)))
    sig = np.tile(limb + qrs, (8, 1))
    sig[0] = limb + r_i * qrs
    return sig + 0.005 * rng.standard_normal(sig.shape)


def regular(rate, **given):
    return ecg([60 / rate] * int(9.2 * rate / 60), **given)


def irregular(seed, **given):
    rng = np.random.default_rng(seed)
    return ecg(rng.uniform(0.45, 1.1, 11), seed=seed, **given)


def of(sig, lead_mask=ALL):
    return dict(zip(NAMES, features(sig, lead_mask, FS), strict=True))


@pytest.mark.parametrize("rate", [50, 75, 110])
def test_a_regular_rhythms_rate_and_regularity(rate):
    found = of(regular(rate))
    assert found["heart_rate"] == pytest.approx(rate, rel=0.02)
    assert found["rr_mean"] == pytest.approx(60e3 / rate, rel=0.02)
    assert found["rr_cv"] < 0.02 and found["rr_pnn50"] == 0 == found["rr_premature"]
    assert found["beat_coherence"] > 0.95 and found["odd_beats"] == 0


def test_statistics_of_intervals_are_those_that_were_made():
    rr = np.array([0.7, 0.9] * 5)
    found = of(ecg(rr))
    assert found["rr_rmssd"] == pytest.approx(200, abs=15)
    assert found["rr_sdnn"] == pytest.approx(100, abs=15)
    assert found["rr_pnn50"] == 1.0
    assert found["rr_range"] == pytest.approx(9 / 7, rel=0.05)


def test_amplitudes_are_those_that_were_made():
    found = of(regular(70, p_mv=0.2, st_mv=0.15))
    assert found["r_V5"] == pytest.approx(1.0, abs=0.1)
    assert found["p_II"] == pytest.approx(0.2, abs=0.03)
    assert found["t_II"] == pytest.approx(0.3, abs=0.03)
    assert found["st_V2"] == pytest.approx(0.15, abs=0.03)
    assert of(regular(70))["st_V2"] == pytest.approx(0, abs=0.03)


def test_intervals_follow_the_waves():
    """Onsets and offsets of Gaussian waves are a matter of taste, their shifts are not."""
    usual = of(regular(70))
    assert usual["pr"] == pytest.approx(150, abs=50) and usual["qt"] == pytest.approx(450, abs=80)
    assert usual["qtc"] == pytest.approx(usual["qt"] / (60 / 70) ** (1 / 3), rel=0.02)
    assert of(regular(70, pr=0.21))["pr"] >= usual["pr"] + 20
    assert of(regular(70, rt=0.24))["qt"] - usual["qt"] == pytest.approx(-60, abs=20)
    assert of(regular(70, qrs_s=0.02))["qrs"] > usual["qrs"] + 20


@pytest.mark.parametrize(("r_i", "axis"), [(1.0, 30.0), (0.0, 90.0), (2.0, 0.0), (-1.0, 120.0)])
def test_the_axis_is_that_of_the_leads(r_i, axis):
    """With I as large as II, III is flat: halfway between them. -1: III is twice II."""
    turned = of(regular(70, r_i=r_i))["qrs_axis"]
    assert turned == pytest.approx(axis, abs=12)


def test_fibrillation_shows_in_the_intervals_the_p_waves_and_what_the_beats_leave():
    af, sr = of(irregular(3, p_mv=0.0, f_mv=0.1)), of(regular(80))
    assert af["rr_cv"] > 5 * sr["rr_cv"]
    assert af["p_share"] < 0.8 < sr["p_share"] and af["p_coherence"] < sr["p_coherence"] - 0.2
    assert af["f_energy"] > 3 * sr["f_energy"] and af["f_energy_V1"] > 3 * sr["f_energy_V1"]
    assert af["f_energy"] == pytest.approx(1e3 * 0.1 / 2**0.5, rel=0.5)
    assert af["f_share"] > 0.4 > 4 * sr["f_share"]


def test_without_its_beats_a_regular_rhythm_is_nearly_flat():
    sig = regular(60)[1]
    peaks = np.arange(60, 960, 100)
    assert without_beats(sig, peaks, FS).std() < 0.05 * sig.std()


def test_a_missing_lead_has_no_amplitudes_and_changes_no_others():
    sig, mask = regular(70), ALL.copy()
    mask[6] = 0
    whole, less = of(sig), of(sig, mask)
    lost = {name for name in NAMES if np.isnan(less[name]) and not np.isnan(whole[name])}
    assert {f"r_{INDEPENDENT_LEADS[6]}", "st_V5", "sokolow_lyon"} <= lost
    assert all("V5" in name or name == "sokolow_lyon" for name in lost)
    assert less["pr"] == whole["pr"] and less["r_V1"] == whole["r_V1"]
    sig[6] = 99.0
    assert of(sig, mask) == pytest.approx(less, nan_ok=True)


def test_a_lone_lead_gives_a_rhythm():
    mask = np.zeros(8)
    mask[0] = 1
    found = of(regular(90), mask)
    assert found["heart_rate"] == pytest.approx(90, rel=0.02)
    assert np.isnan(found["qrs_axis"]) and np.isnan(found["r_II"])


@pytest.mark.parametrize(
    "sig",
    [np.zeros((8, N)), np.zeros((8, 60)), regular(70)[:, :150]],
    ids=["flat", "flat and short", "two beats"],
)
def test_what_cannot_be_measured_is_nan(sig):
    found = of(sig)
    assert np.isnan([found[name] for name in ("heart_rate", "pr", "qrs", "r_V1", "f_energy")]).all()


def test_noise_ends_in_numbers_or_nan():
    rng = np.random.default_rng(0)
    found = np.stack([features(rng.standard_normal((8, N)), ALL, FS) for _ in range(3)])
    assert found.shape == (3, len(FEATURES)) and not np.isinf(found).any()


def test_every_feature_has_a_unit_and_a_meaning():
    assert all(unit and said for unit, said in FEATURES.values())
    assert len(set(NAMES)) == len(NAMES)


# The forest


@pytest.fixture(scope="module")
def planted():
    """100 ECGs: every other has AF, the statement AFIB and an abnormal substrate."""
    sig = [
        irregular(i, p_mv=0.0, f_mv=0.08) if i % 2 else regular(60 + i % 40, seed=i)
        for i in range(100)
    ]
    return np.stack(sig).astype(np.float16)


@pytest.fixture(scope="module")
def once():
    """Features, each ECG's measured once for all tests."""
    known = {}

    def measured(sig, lead_mask, fs):
        key = sig.tobytes(), lead_mask.tobytes()
        if key not in known:
            known[key] = features(sig, lead_mask, fs)
        return known[key]

    return measured


@pytest.fixture
def shard(a_shard, planted, once, tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "features", once)

    def make(name="a", unknown=0):
        af = np.arange(100) % 2
        label = np.zeros((100, 1 + len(CODES)), dtype=np.int8)
        label[:, 0] = label[:, 1 + CODES.index("AFIB")] = af
        label[:, 1 + CODES.index("SR")] = 1 - af
        label[:unknown, 0] = -1
        fold = (1 + np.arange(100) // 2 % 10).astype(np.int8)
        made = a_shard(100, source=name, sig=planted, label=label, strat_fold=fold)
        path = tmp_path / f"{name}.npz"
        save(made, path)
        return path

    return make


def test_features_are_made_once_and_again_for_other_signals(shard, tmp_path, monkeypatch):
    part = load(shard()).folds((9,))
    kept = tmp_path / "features.npz"
    first = kept_features(part, kept)
    assert first.shape == (len(part.sig), len(NAMES))
    np.testing.assert_array_equal(first[3:5], features_of(part, 1)[3:5])
    calls = []
    monkeypatch.setattr(tables, "features_of", lambda *given: calls.append(given) or first)
    np.testing.assert_array_equal(kept_features(part, kept), first)
    assert not calls
    part.sig[0] *= np.float16(2)
    kept_features(part, kept)
    assert len(calls) == 1


def test_a_forest_finds_the_planted_fibrillation_and_says_by_what(
    shard, run_command, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(forest, "MAX_FEATURES", ("sqrt",))
    monkeypatch.setattr(forest, "MIN_LEAF", (2, 5))
    monkeypatch.setattr(forest, "N_SHUFFLES", 1)
    path = shard("ptb-xl", unknown=11)
    given = ("--data", path.parent, "--run", tmp_path / "run", "--trees", 20, "--workers", 1)
    run_command(forest, *given)
    assert "fold 9: atrial 1.000, macro 1.000" in capsys.readouterr().out
    logits = np.load(tmp_path / "run" / "logits-10.npy")
    part = load(path)
    statements = covered_statements([part.folds(TRAIN)])
    assert set(statements) == {"AFIB", "SR"}
    label = tstr.segment_labels(part.folds((10,)), statements)
    assert logits.shape == label.shape and np.isfinite(logits).all()
    assert ((logits > 0) == label).all()
    found = json.loads((tmp_path / "run" / "forest.json").read_text())
    assert len(found["tried"]) == 2 and found["chosen"] in found["tried"]
    assert {f["feature"] for f in found["importance"]} == set(NAMES)
    monkeypatch.setattr(forest, "choose", lambda *_: pytest.fail("fitted again"))
    run_command(forest, *given)


def test_what_is_missing_is_the_median_of_the_training_rows():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 4))
    y = (x[:, :1] > 0).astype(int)
    x[:, 3] = np.nan
    x[::7, 1] = np.nan
    model = forest.forest(20, 2, "sqrt", 0, 1).fit(x, y[:, 0])
    np.testing.assert_allclose(model[0].statistics_[1], np.nanmedian(x[:, 1]))
    blind = x.copy()
    blind[:, 1:] = np.nan
    logits = forest.logits_of(model, blind)
    assert logits.shape == (200, 1)
    assert ((logits > 0) == y).mean() > 0.9


def test_unknown_labels_are_no_class():
    x = np.linspace(-1, 1, 300)[:, None]
    y = (x > 0).astype(int).repeat(2, axis=1)
    y[::2, 1] = -1
    model = forest.forest(20, 2, "sqrt", 0, 1).fit(x, y)
    logits = forest.logits_of(model, x)
    assert np.corrcoef(logits[:, 0], logits[:, 1])[0, 1] > 0.95
    assert (np.abs(logits[:, 1]) > 1).mean() > 0.9


def test_fold_10_changes_nothing_that_is_learned_or_chosen(shard, tmp_path, monkeypatch):
    monkeypatch.setattr(forest, "MIN_LEAF", (2,))
    monkeypatch.setattr(forest, "MAX_FEATURES", ("sqrt",))
    monkeypatch.setattr(forest, "N_SHUFFLES", 1)
    path = shard()
    turned = load(path)
    turned.label[turned.strat_fold == 10] = 1 - turned.label[turned.strat_fold == 10]
    turned.sig[turned.strat_fold == 10] *= np.float16(0)
    other = tmp_path / "other.npz"
    save(turned, other)
    outcomes = [
        forest.run(Trial("f", (str(p),), str(p), 0, 10, network="forest"), tmp_path / p.stem)
        for p in (path, other)
    ]
    np.testing.assert_array_equal(outcomes[0].logits[9], outcomes[1].logits[9])
    kept = [json.loads((tmp_path / p.stem / "forest.json").read_text()) for p in (path, other)]
    assert kept[0] == kept[1]


@pytest.mark.parametrize(
    ("given", "says"),
    [((), "no shard .*ptb-xl.npz: run python -m"), (("--training", "x"), "no shard .*x.npz")],
)
def test_a_shard_that_is_not_there_is_named(given, says, shard, run_command, tmp_path):
    shard("ptb-xl" if given else "a")
    with pytest.raises(SystemExit, match=says):
        run_command(forest, "--data", tmp_path, *given)
