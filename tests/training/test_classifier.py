"""What is learned from what: unknown labels teach nothing, rare statements are left out."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from training import train_classifier
from training.prednet import PredNet, PredNetConfig
from training.shards import CODES
from training.train_classifier import (
    TeacherConfig,
    classification_loss,
    columns,
    covered_statements,
    distillation_loss,
    highest,
    logits_of,
    validate,
)

SMALL = PredNetConfig(widths=(8, 8, 16), dropout=0.0)


class Fixed(torch.nn.Module):
    """Answers with its own parameter, whatever it is asked."""

    def __init__(self, logits):
        super().__init__()
        self.logits = torch.nn.Parameter(torch.tensor(logits))

    def forward(self, sig, lead_mask, sample_mask):
        return self.logits


def loss_of(logits, label):
    model = Fixed(logits)
    batch = {name: torch.zeros(1) for name in ("sig", "lead_mask", "sample_mask")}
    value = classification_loss(model, {**batch, "label": torch.tensor(label)})
    value.backward()
    return value.item(), model.logits.grad


def test_the_loss_is_the_mean_cross_entropy_over_what_is_known():
    logits = [[0.5, -1.0], [2.0, 3.0]]
    value, gradient = loss_of(logits, [[1.0, -1.0], [0.0, 1.0]])
    p = 1 / (1 + np.exp(-np.array(logits)))
    expected = -(np.log(p[0, 0]) + np.log(1 - p[1, 0]) + np.log(p[1, 1])) / 3
    assert value == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(
        gradient, [[(p[0, 0] - 1) / 3, 0], [p[1, 0] / 3, (p[1, 1] - 1) / 3]], atol=1e-6
    )


def test_an_unknown_label_has_no_gradient_and_no_effect():
    known, gradient = loss_of([[0.5, 9.0]], [[1.0, -1.0]])
    assert gradient[0, 1] == 0
    assert loss_of([[0.5, -9.0]], [[1.0, -1.0]])[0] == known


def test_a_batch_of_which_nothing_is_known_teaches_nothing():
    value, gradient = loss_of([[0.5, 9.0]], [[-1.0, -1.0]])
    assert value == 0 and not gradient.any()


def test_a_pupil_agrees_with_its_teacher_also_on_what_nobody_labelled(monkeypatch):
    taught = torch.tensor([[2.0, -1.0]])
    monkeypatch.setattr(train_classifier, "run_description", lambda run: {"statements": ["AFIB"]})
    monkeypatch.setattr(train_classifier, "load_model", lambda *runs: Fixed(taught.tolist()))
    batch = {name: torch.zeros(1) for name in ("sig", "lead_mask", "sample_mask")}
    batch["label"] = torch.tensor([[0.0, -1.0]])

    def gradient_at(logits, share):
        loss = distillation_loss(TeacherConfig(("a run",), share), ("AFIB",))
        pupil = Fixed(logits)
        loss(pupil, batch).backward()
        return pupil.logits.grad

    assert gradient_at(taught.tolist(), 1.0).abs().max() < 1e-6
    apart = gradient_at([[0.0, 0.0]], 1.0)
    assert apart[0, 0] < 0 < apart[0, 1], "towards the teacher, against the label"
    assert gradient_at([[0.0, 0.0]], 0.0)[0, 0] > 0 == gradient_at([[0.0, 0.0]], 0.0)[0, 1]
    assert distillation_loss(TeacherConfig(), ("AFIB",)) is None


def with_positives(shard, code, n, absent=0):
    """Of one code n are positive, all others are unknown but for the negatives."""
    label = np.full_like(shard.label, -1)
    column = 1 + CODES.index(code)
    label[:n, column] = 1
    label[n:, column] = absent
    return replace(shard, label=label)


@pytest.mark.parametrize(
    ("n", "absent", "covered"), [(15, 0, True), (14, 0, False), (20, -1, False)]
)
def test_a_statement_is_learned_from_15_positives_and_some_negatives(n, absent, covered, a_shard):
    shard = with_positives(a_shard(40), "WPW", n, absent)
    assert covered_statements([shard]) == (("WPW",) if covered else ())


def test_positives_count_over_all_sources_and_in_the_tables_order(a_shard):
    parts = [with_positives(a_shard(40), code, 8) for code in ("SR", "NDT", "SR", "NDT", "WPW")]
    assert covered_statements(parts) == ("NDT", "SR")


def test_outputs_are_the_substrate_and_then_the_statements():
    assert columns(()) == [0]
    assert columns((CODES[3], CODES[0])) == [0, 4, 1]


def test_a_record_is_judged_by_its_highest_segment(a_shard):
    shard = a_shard(4, record=np.array([0, 0, 1, 2]))
    shard = replace(shard, label=shard.label[:3])
    logits = np.array([[1.0, -5], [0, 7], [3, 3], [-9, 0]])
    assert highest(logits, shard).tolist() == [[1, 7], [3, 3], [-9, 0]]


@pytest.fixture
def network():
    torch.manual_seed(0)
    return PredNet(3, SMALL).eval()


def test_only_the_leads_of_the_set_are_looked_at(network, a_shard):
    shard = a_shard(6)
    other = replace(
        shard, sig=np.where(np.arange(8)[:, None] == 1, shard.sig, 9).astype(np.float16)
    )
    logits, n_leads = logits_of(network, shard, "lead II")
    assert n_leads.tolist() == [1] * 6
    np.testing.assert_array_equal(logits, logits_of(network, other, "lead II")[0])
    assert not np.allclose(logits, logits_of(network, other, "12 leads")[0])


def test_the_size_of_batches_does_not_matter(network, a_shard):
    shard = a_shard(7, n_valid=np.array([1000, 500, 700, 999, 1000, 640, 501], dtype=np.int32))
    whole, _ = logits_of(network, shard, "12 leads")
    parts, _ = logits_of(network, shard, "12 leads", batch_size=3)
    np.testing.assert_allclose(whole, parts, atol=1e-5)


def test_validation_scores_every_source_and_ranks_a_perfect_network_first(a_shard):
    label = np.full((20, 72), -1, dtype=np.int8)
    label[:, 0] = np.arange(20) % 2
    single = np.zeros((20, 8), dtype=np.uint8)
    single[:, 0] = 1
    parts = [
        a_shard(20, source="ptb-xl", label=label),
        a_shard(20, source="cinc2017", label=label, lead_mask=single),
    ]

    class Oracle(torch.nn.Module):
        def __init__(self, sign):
            super().__init__()
            self.sign = torch.nn.Parameter(torch.tensor(sign))

        def forward(self, sig, lead_mask, sample_mask):
            return self.sign * torch.tensor(label[:, :1], dtype=torch.float32)

    figures = validate(Oracle(1.0), parts, ())
    assert figures == {
        "ptb-xl/12_leads/atrial": 1.0,
        "ptb-xl/lead_II/atrial": 1.0,
        "cinc2017/12_leads/atrial": 1.0,
        "score": 1.0,
    }
    assert validate(Oracle(-1.0), parts, ())["score"] == 0.0


# The network


def test_the_network_is_small_and_blind_to_what_is_masked(network):
    torch.manual_seed(1)
    sig = torch.randn(2, 8, 1000)
    lead_mask = torch.ones(2, 8)
    lead_mask[0, 3] = 0
    sample_mask = torch.ones(2, 1000)
    sample_mask[1, 600:] = 0
    noisy = sig.clone()
    noisy[0, 3] = 99.0
    noisy[1, :, 600:] = -99.0
    with torch.inference_mode():
        torch.testing.assert_close(
            network(sig, lead_mask, sample_mask), network(noisy, lead_mask, sample_mask)
        )
    assert sum(p.numel() for p in PredNet(72, PredNetConfig()).parameters()) <= 1_500_000


def test_a_missing_lead_is_told_from_a_flat_one(network):
    sig = torch.zeros(1, 8, 1000)
    everything, sample_mask = torch.ones(1, 8), torch.ones(1, 1000)
    one_less = everything.clone()
    one_less[0, 5] = 0
    with torch.inference_mode():
        flat, missing = (network(sig, mask, sample_mask) for mask in (everything, one_less))
    assert not torch.allclose(flat, missing)
