"""Batches are a function of the seed and the step; leads are dropped whole and never all."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ecg.leads import INDEPENDENT_LEADS
from training.batches import LEAD_SETS, BatchConfig, TrainingBatches, lead_set_mask

PLAIN = BatchConfig(
    lead_set_share={},
    random_leads=0.0,
    shorter=0.0,
    gain=0.0,
    noise_mv=0.0,
    mixed=0.0,
    spread=0.0,
)


def batches_of(parts, config=PLAIN, size=32, seed=0, outputs=(0, 5)):
    return TrainingBatches(parts, outputs, size, seed, config)


def alike(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def test_a_batch_depends_on_seed_step_and_process_alone(a_shard):
    parts = [a_shard(40), a_shard(30, source="b")]
    first, again = (batches_of(parts, BatchConfig(), seed=3) for _ in range(2))
    for step in range(5):
        first(step, 0, 1)  # what was drawn before does not matter
    assert alike(first(7, 0, 1), again(7, 0, 1))
    assert not alike(first(7, 0, 1), again(8, 0, 1))
    assert not alike(first(7, 0, 2), again(7, 1, 2))
    assert not alike(first(7, 0, 1), batches_of(parts, BatchConfig(), seed=4)(7, 0, 1))


def test_processes_share_a_batch(a_shard):
    assert len(batches_of([a_shard()], size=32)(0, 0, 4)["sig"]) == 8


def test_undisturbed_segments_come_with_their_own_labels(a_shard):
    shard = a_shard(20)
    batch = batches_of([shard], outputs=(0, 7))(0, 0, 1)
    for sig, label in zip(batch["sig"], batch["label"], strict=True):
        (row,) = [i for i in range(20) if np.array_equal(shard.sig[i], sig.numpy())]
        assert label.tolist() == shard.label[row, [0, 7]].tolist()
    assert batch["sample_mask"].all() and batch["lead_mask"].all()
    assert {x.dtype for x in batch.values()} == {torch.float32}


def test_drawing_changes_no_shard(a_shard):
    shard = a_shard(10)
    before = {
        name: value.copy()
        for name, value in vars(shard).items()
        if name not in ("source", "preparation")
    }
    for step in range(5):
        batches_of([shard], BatchConfig(shorter=1.0))(step, 0, 1)
    for name, value in before.items():
        np.testing.assert_array_equal(getattr(shard, name), value)


@pytest.mark.parametrize("mixed", [0.0, 1.0])
def test_some_lead_is_always_left(mixed, a_shard):
    """Whatever is dropped from whatever a record has, even where a set would leave none."""
    mask = np.zeros((40, 8), dtype=np.uint8)
    mask[np.arange(40), np.arange(40) % 8] = 1
    config = replace(
        PLAIN, lead_set_share={"lead II": 0.4, "lead I": 0.3}, random_leads=0.3, mixed=mixed
    )
    for step in range(20):
        batch = batches_of([a_shard(40, lead_mask=mask)], config)(step, 0, 1)
        assert (batch["lead_mask"].sum(dim=1) >= 1).all()


@pytest.mark.parametrize("name", LEAD_SETS)
def test_a_lead_set_leaves_its_leads_and_zeroes_the_others(name, a_shard):
    config = replace(PLAIN, lead_set_share={name: 1.0}, noise_mv=0.03)
    batch = batches_of([a_shard()], config)(0, 0, 1)
    expected = torch.tensor([lead in LEAD_SETS[name] for lead in INDEPENDENT_LEADS])
    assert (batch["lead_mask"] == expected).all()
    assert batch["sig"][:, expected].abs().sum(dim=2).all()
    assert not batch["sig"][:, ~expected].any(), "noise neither"
    np.testing.assert_array_equal(lead_set_mask(name), expected.numpy())


def test_a_share_of_segments_is_left_with_each_lead_set(a_shard):
    config = replace(PLAIN, lead_set_share={"limb leads": 0.25, "lead I": 0.25})
    n_leads = batches_of([a_shard()], config, size=4000)(0, 0, 1)["lead_mask"].sum(dim=1)
    share = np.bincount(n_leads.int().numpy(), minlength=9) / 4000
    np.testing.assert_allclose(share[[1, 2, 8]], [0.25, 0.25, 0.5], atol=0.03)


def test_sources_are_drawn_by_their_share(a_shard):
    parts = [
        replace(a_shard(40, source="a"), label=np.zeros((40, 72), np.int8)),
        replace(a_shard(40, source="b"), label=np.ones((40, 72), np.int8)),
    ]
    share = {"a": 0.2, "b": 0.8, "elsewhere": 0.5}
    from_b = batches_of(parts, replace(PLAIN, source_share=share), size=4000)(0, 0, 1)["label"]
    assert from_b.mean().item() == pytest.approx(0.8, abs=0.03)
    evenly = batches_of([parts[0], parts[1].folds([1])], size=4000)(0, 0, 1)["label"]
    assert evenly.mean().item() == pytest.approx(4 / 44, abs=0.02), "by segment without a share"


def test_a_source_without_a_named_share_is_drawn_as_often_as_the_largest(a_shard):
    parts = [
        replace(a_shard(40, source="ptb-xl"), label=np.zeros((40, 72), np.int8)),
        replace(a_shard(40, source="own"), label=np.ones((40, 72), np.int8)),
    ]
    config = replace(PLAIN, source_share={"ptb-xl": 0.6, "cinc2017": 0.4})
    from_own = batches_of(parts, config, size=4000)(0, 0, 1)["label"]
    assert from_own.mean().item() == pytest.approx(0.5, abs=0.03)


def test_a_shortened_segment_is_a_stretch_of_at_least_five_seconds(a_shard):
    shard = a_shard(10)
    batch = batches_of([shard], replace(PLAIN, shorter=1.0))(0, 0, 1)
    for sig, mask in zip(batch["sig"], batch["sample_mask"], strict=True):
        n = int(mask.sum())
        assert 500 <= n <= 1000 and mask[:n].all() and not sig[:, n:].any()
        stretches = np.lib.stride_tricks.sliding_window_view(shard.sig[:, 0], n, axis=1)
        assert (stretches == sig[0, :n].numpy()).all(axis=2).any()


def test_the_gain_of_a_segment_is_log_normal(a_shard):
    sig = np.ones((40, 8, 1000), dtype=np.float16)
    config = replace(PLAIN, gain=0.1)
    batch = batches_of([a_shard(40, sig=sig)], config, size=2000)(0, 0, 1)["sig"][:, :, :2]
    assert (batch == batch[:, :1, :1]).all(), "one for all leads and samples"
    assert batch[:, 0, 0].log().std().item() == pytest.approx(0.1, abs=0.01)


def test_noise_is_white_and_mostly_weaker_than_its_limit(a_shard):
    sig = np.zeros((40, 8, 1000), dtype=np.float16)
    config = replace(PLAIN, noise_mv=0.03)
    noise = batches_of([a_shard(40, sig=sig)], config, size=500)(0, 0, 1)["sig"]
    level = noise.std(dim=(1, 2))
    assert level.max() < 0.0305
    assert level.median().item() == pytest.approx(0.03 * 0.5**2, rel=0.2)
    assert (noise[:, 0, 1:] * noise[:, 0, :-1]).mean().abs() < 1e-5


def test_padding_stays_zero_and_masked(a_shard):
    n_valid = np.full(40, 600, dtype=np.int32)
    batch = batches_of([a_shard(40, n_valid=n_valid)], BatchConfig())(0, 0, 1)
    assert not batch["sig"][:, :, 600:].any()
    assert not batch["sample_mask"][:, 600:].any()


def test_a_blend_knows_only_what_both_segments_know(a_shard):
    """Two segments whose labels and leads differ: a blend is between them, or is one of them."""
    sig = np.stack([np.full((8, 1000), 1.0), np.full((8, 1000), 3.0)]).astype(np.float16)
    mask = np.ones((2, 8), dtype=np.uint8)
    mask[1, 4:] = 0
    label = np.zeros((2, 72), dtype=np.int8)
    label[1, 0], label[1, 5] = 1, -1
    shard = a_shard(2, sig=sig * mask[:, :, None], lead_mask=mask, label=label)
    batch = batches_of([shard], replace(PLAIN, mixed=1.0), size=200)(0, 0, 1)
    level = batch["sig"][:, 0, 0]
    share = (level - 1) / 2  # of the second segment
    torch.testing.assert_close(batch["label"][:, 0], share, atol=1e-3, rtol=0)
    with_second = share > 1e-4
    blended = with_second & (share < 1 - 1e-4)
    assert blended.sum() > 20
    assert (batch["lead_mask"][blended, 4:] == 0).all()
    assert not batch["sig"][blended, 4:].any()
    assert (batch["label"][blended, 1] == -1).all()


def test_a_single_lead_is_spread_over_all_at_gains_of_their_own(a_shard):
    shard = a_shard(2)
    mask = np.ones((2, 8), dtype=np.uint8)
    mask[0] = np.arange(8) == 3
    sig = shard.sig * mask[:, :, None]
    shard = a_shard(2, sig=sig, lead_mask=mask)
    batch = batches_of([shard], replace(PLAIN, spread=1.0), size=20)(0, 0, 1)
    assert batch["lead_mask"].all()
    for one in batch["sig"].numpy():
        if np.array_equal(one, sig[1]):
            continue  # a record of several leads stays as it is
        gains = one @ sig[0, 3].astype(np.float32) / (sig[0, 3].astype(float) ** 2).sum()
        np.testing.assert_allclose(one, gains[:, None] * sig[0, 3], atol=1e-3)
        assert len(set(gains.round(3))) == 8
