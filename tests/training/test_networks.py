"""Every classifier: one interface, blind to what is masked, able to learn, exported as it is."""

import json

import numpy as np
import pytest
import torch

from training import export, prednet, serving_cost, train_classifier, tstr
from training.networks import registry
from training.networks.cnn_lstm import mirrored, reordered
from training.networks.inception import InceptionBody, InceptionConfig
from training.networks.masks import N_INPUTS, N_LEADS, inside, mean_and_peak, with_masks
from training.networks.s4 import DiagonalSSM
from training.networks.xresnet1d import XResNet1d, XResNet1dConfig
from training.prednet import load_model
from training.shards import save
from training.train_classifier import classification_loss
from training.tstr import Trial

pytestmark = [  # torch 2.13's exporter, of itself, of the shared batch and of what LSTMs keep
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.. is deprecated"),
    pytest.mark.filterwarnings("ignore:# The axis name. batch will not be used"),
    pytest.mark.filterwarnings("ignore:The tensor attributes .* were assigned during export"),
    pytest.mark.filterwarnings("ignore:_check_is_size will be removed"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf"),
]
NAMES = tuple(registry.NETWORKS)


def small(name, n_outputs=3):
    torch.manual_seed(0)
    return registry.build(name, n_outputs, size="small")


def segments(n=4, n_samples=320, seed=0):
    generator = torch.Generator().manual_seed(seed)
    sig = torch.randn(n, N_LEADS, n_samples, generator=generator)
    lead_mask, sample_mask = torch.ones(n, N_LEADS), torch.ones(n, n_samples)
    lead_mask[0, 3] = 0
    sample_mask[1, n_samples // 2 :] = 0
    return sig, lead_mask, sample_mask


@pytest.fixture(params=NAMES, scope="module")
def network(request):
    """Not as it begins, when normalisation does nothing and xresnet's blocks are identities."""
    model = small(request.param)
    with torch.no_grad():
        for _ in range(3):
            model(*segments(16))
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


# The interface


@pytest.mark.parametrize("n_samples", [200, 320, 1000])
def test_an_answer_an_output_whatever_the_length(network, n_samples):
    with torch.inference_mode():
        logits = network(*segments(n_samples=n_samples))
    assert logits.shape == (4, 3) and torch.isfinite(logits).all()


def test_what_is_masked_cannot_matter(network):
    sig, lead_mask, sample_mask = segments()
    other = sig.clone()
    other[0, 3] = 99.0
    other[1, :, 160:] = -99.0
    with torch.inference_mode():
        logits, same = (network(x, lead_mask, sample_mask) for x in (sig, other))
    torch.testing.assert_close(logits, same, atol=0, rtol=0)


def test_what_is_not_masked_matters(network):
    sig, lead_mask, sample_mask = segments()
    with torch.inference_mode():
        logits = network(sig, lead_mask, sample_mask)
        for rows, changed in (((2,), (slice(None), 5)), ((1,), (slice(None), slice(0, 160)))):
            other = sig.clone()
            other[rows, changed[1]] += 1.0
            assert not torch.allclose(network(other, lead_mask, sample_mask)[rows], logits[rows])


def test_a_missing_lead_is_told_from_a_flat_one(network):
    sig = segments()[0][:1]
    sig[:, 5] = 0
    there = torch.ones(1, N_LEADS)
    missing = there.clone()
    missing[0, 5] = 0
    with torch.inference_mode():
        flat, less = (network(sig, mask, torch.ones(1, 320)) for mask in (there, missing))
    assert not torch.equal(flat, less)


@pytest.mark.parametrize("name", ["cnn", "cnn-lstm", "inception", "s4"])
def test_how_much_padding_there_is_cannot_matter(name):
    """Where kernels reach past the end, what lies there is the same whatever its length."""
    sig, lead_mask, sample_mask = segments()
    model = small(name).eval()
    padded = torch.nn.functional.pad(sig, (0, 160))
    with torch.inference_mode():
        short = model(sig[1:2], lead_mask[1:2], sample_mask[1:2])
        long = model(
            padded[1:2], lead_mask[1:2], torch.nn.functional.pad(sample_mask, (0, 160))[1:2]
        )
    torch.testing.assert_close(short, long, atol=1e-5, rtol=1e-5)


def test_the_order_of_time_matters_to_both_directions():
    """Of an LSTM that reads backwards from the signal's end, not from the padding's."""
    within = torch.tensor([[[1.0, 1, 1, 0, 0]], [[1.0, 1, 1, 1, 1]]])
    x = torch.arange(10.0).reshape(2, 5, 1)
    order = mirrored(within)
    assert reordered(x, order)[:, :, 0].tolist()[0][:3] == [2, 1, 0]
    assert reordered(x, order)[1, :, 0].tolist() == [9, 8, 7, 6, 5]
    torch.testing.assert_close(reordered(reordered(x, order), order)[0, :3], x[0, :3])


def test_pooling_leaves_the_padding_out():
    x = torch.tensor([[[1.0, 5.0, 100.0]], [[-1.0, -5.0, -2.0]]])
    sample_mask = torch.tensor([[1.0, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 0]])
    within = inside(x, sample_mask, stride=2)
    assert within[:, 0].tolist() == [[1, 1, 0], [1, 1, 1]]
    pooled = mean_and_peak(x, within)
    torch.testing.assert_close(pooled, torch.tensor([[3.0, 5.0], [-8 / 3, -1.0]]))


def test_masks_are_inputs_beside_the_signal():
    sig, lead_mask, sample_mask = segments()
    x = with_masks(sig, lead_mask, sample_mask)
    assert x.shape == (4, N_INPUTS, 320)
    assert not x[0, 3].any() and not x[1, :, 160:].any()
    assert x[0, N_LEADS : 2 * N_LEADS, 0].tolist() == lead_mask[0].tolist()
    torch.testing.assert_close(x[:, -1], sample_mask)


# Learning


@pytest.mark.parametrize("name", NAMES)
def test_sixteen_segments_are_learned_by_heart_and_every_weight_has_a_part(name):
    model = small(name, 2)
    sig, lead_mask, sample_mask = segments(16)
    label = (torch.arange(16)[:, None] // torch.tensor([1, 2]) % 2).float()
    batch = {"sig": sig, "lead_mask": lead_mask, "sample_mask": sample_mask, "label": label}
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    moved = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
    for _ in range(120):
        loss = classification_loss(model, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss < 0.05:
            break
    assert loss < 0.05
    still = [n for n in moved if torch.equal(model.get_parameter(n), moved[n])]
    assert not still


# The sizes


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def test_inception_is_the_published_one():
    """420,192 for one channel without the head: Ismail-Fawaz et al. 2024, doi
    10.48550/arXiv.2409.02869."""
    assert parameters(InceptionBody(1, InceptionConfig())) == 420_192


def test_resnet50_is_the_one_for_images_with_shorter_kernels():
    """25,557,032 for images: less what a 3 x 3 kernel has over 3, the stem and the last layer."""
    widths, blocks = (64, 128, 256, 512), (3, 4, 6, 3)
    kernels = sum(n * w * w * 9 for w, n in zip(widths, blocks, strict=True))
    projections = 256 + 512 + 1024 + 2048  # MONAI's have biases
    expected = 25_557_032 - kernels * 2 // 3 - 64 * 3 * 49 + 64 * N_INPUTS * 7
    expected += projections - 2048 * 1000 - 1000 + 2048 * 3 + 3
    assert parameters(registry.build("resnet50", 3)) == expected


def test_xresnet1d101_has_the_blocks_of_its_name_and_the_same_width_everywhere():
    model = XResNet1d(71, XResNet1dConfig())
    widths = [m.out_channels for m in model.modules() if isinstance(m, torch.nn.Conv1d)]
    assert sum(width == 64 for width in widths) == 1 + 2 * (3 + 4 + 23 + 3)
    assert max(widths) == 256
    assert 1.8e6 < parameters(model) < 1.9e6


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("prednet", 8e5, 9e5),
        ("cnn", 4e5, 5e5),
        ("cnn-lstm", 4e5, 5.5e5),
        ("inception", 4.2e5, 5.1e5),
        ("s4", 2e5, 3.1e5),
    ],
)
def test_sizes(name, least, most):
    assert least < parameters(registry.build(name, 45)) < most


def test_state_spaces_are_what_their_recurrence_says():
    """The convolution against the recurrence of the same system, in both directions."""
    torch.manual_seed(0)
    ssm, x = DiagonalSSM(2, 6), torch.randn(1, 2, 50)
    with torch.no_grad():
        dt = ssm.log_dt.exp()[:, None]
        A = torch.complex(-ssm.log_a_real.exp(), ssm.a_imag)
        step, gain = (dt * A).exp(), ((dt * A).exp() - 1) / A
        C = torch.view_as_complex(ssm.C)
        expected = ssm.D[:, None] * x[0]
        state = torch.zeros_like(A)
        for t in range(50):
            state = step * state + gain * x[0, :, t, None]
            expected[:, t] += 2 * (C[0] * state).sum(dim=1).real
        state = torch.zeros_like(A)
        for t in reversed(range(49)):
            state = step * state + gain * x[0, :, t + 1, None]
            expected[:, t] += 2 * (C[1] * state).sum(dim=1).real
        torch.testing.assert_close(ssm(x)[0], expected, atol=1e-5, rtol=1e-4)


# By name


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"name": "vgg"}, "there is no network 'vgg'; there are prednet, cnn"),
        ({"name": "cnn", "size": "tiny"}, "there is no network.size 'tiny'; there are full, small"),
        ({"name": "cnn", "settings": {"depth": 3}}, "cnn's settings: .*'depth'"),
        ({"name": "cnn", "settings": {"kernel": "7"}}, "cnn's settings kernel: '7' should be"),
    ],
)
def test_what_is_not_there_is_named(given, says):
    with pytest.raises(SystemExit, match=says):
        registry.build(n_outputs=2, **given)


def test_a_run_from_before_there_was_a_choice_is_a_prednets(tmp_path):
    config = {"model": {"widths": [8, 8, 16], "stem_stride": 4}}
    known = {"config": config, "statements": ["AFIB"], "preparation": {}}
    (tmp_path / "run.json").write_text(json.dumps(known))
    model = registry.of_config(config, 2)
    assert isinstance(model, prednet.PredNet) and model.stride == 16
    torch.save(model.state_dict(), tmp_path / "best.pt")
    torch.testing.assert_close(load_model(tmp_path).state_dict(), model.state_dict())


@pytest.fixture
def shards(a_shard, tmp_path):
    """Shards in which what is to be learned shows as an amplitude."""
    shard = a_shard(200)
    shard.label[:, 0] = np.arange(200) // 10 % 2
    shard.label[:, 1] = shard.label[:, 0]
    shard.sig[shard.label[:, 0] == 1] *= np.float16(3)
    folder = tmp_path / "data"
    folder.mkdir()
    save(shard, folder / "a.npz")
    return folder


SLOW = (pytest.mark.slow, pytest.mark.timeout(1200))
SLOWLY_EXPORTED = ("cnn-lstm", "resnet50")  # a loop, and 53 convolutions


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=SLOW if name in SLOWLY_EXPORTED else ())
        for name in NAMES
        if name != "prednet"
    ],
)
def test_any_network_is_trained_resumed_read_and_exported(name, shards, run_command, tmp_path):
    run = tmp_path / "run"
    given = ("--preset", "smoke", "--data", shards, "--set", f"network.name={name}")
    for minutes in (0, 60):
        run_command(train_classifier, *given, "--run", run, "--minutes", minutes)
    assert json.loads((run / "run.json").read_text())["config"]["network"]["name"] == name
    model = load_model(run)
    assert type(model).__name__ == registry.NETWORKS[name].class_name
    weights = export.export_onnx(model, 1000, tmp_path / "model.onnx")
    assert export.parity(model, weights, 1000) < export.MAX_DIFFERENCE
    said = export.architecture(model, json.loads((run / "run.json").read_text())["config"])
    assert said == registry.NETWORKS[name].said
    with pytest.raises(SystemExit, match=f"trains {name}, not prednet: give another --run"):
        run_command(train_classifier, "--preset", "smoke", "--data", shards, "--run", run)


def test_what_serving_costs_is_said_beside_prednet(run_command, capsys):
    run_command(serving_cost, "--networks", "cnn", "--size", "small", "--rounds", 3, "--outputs", 2)
    head, line, first, other = capsys.readouterr().out.strip().splitlines()[-4:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in (first, other)]
    assert head.count("|") == line.count("|") == first.count("|") == other.count("|")
    assert [row[0] for row in cells] == ["prednet", "cnn"]
    assert cells[0][5] == cells[0][7] == "1.00"
    assert int(cells[1][1].replace(",", "")) == parameters(small("cnn", 2))
    assert all(float(row[3]) < export.MAX_DIFFERENCE for row in cells)


def test_a_trial_of_another_network_is_another_trial(shards, tmp_path):
    path = str(shards / "a.npz")
    given = {"training": (path,), "real": path, "seed": 0, "steps": 10, "preset": "smoke"}
    first, other = (Trial(name, network=name, **given) for name in ("prednet", "cnn"))
    assert json.loads(first.described()).keys() == {"name", *given}, "as it was kept before"
    assert json.loads(other.described())["network"] == "cnn"
    outcome = tstr.run(other, tmp_path / "cnn")
    weights = torch.load(tmp_path / "cnn" / "best.pt", weights_only=True)
    assert weights.keys() == small("cnn", 1 + len(outcome.statements)).state_dict().keys()
