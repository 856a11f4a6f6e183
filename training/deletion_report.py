"""The deletion curves of explanations, as one plot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

LINES = {
    "named": ("as the explanation names them", "#0b4f6c", "-"),
    "steepest": ("the steepest first", "#c77800", "--"),
    "random": ("at random", "#7a8b99", ":"),
}
TITLES = {
    "line": "straight lines (as in explaining)",
    "blur": "a low-pass",
    "elsewhere": "the lead at another time",
}


def write_report(folder: Path, found: dict[str, Any]) -> None:
    """deletion.png in `folder`; `found` is report.json's content."""
    shares = [0.0, *(100 * s for s in found["shares"])]
    figures = [f for f in found["reported"] if f["group"] == "abnormal"]
    fig, axes = plt.subplots(1, len(figures), figsize=(10, 3.3), sharey=True, squeeze=False)
    for ax, f in zip(axes[0], figures, strict=True):
        for name, (label, colour, style) in LINES.items():
            curve = [f["probability"], *f["curves"][name]]
            ax.plot(shares, curve, style, color=colour, label=label, linewidth=1.8)
        ax.set_title(f"in their place: {TITLES[f['in_place']]}", fontsize=9)
        ax.set_xlabel("windows taken out, %")
        ax.set_ylim(0, 1)
        ax.grid(color="#e1e6ea", linewidth=0.6)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_ylabel("mean atrial probability")
    axes[0][0].legend(frameon=False, fontsize=8, loc="lower left")
    fig.tight_layout()
    fig.savefig(folder / "deletion.png", dpi=100)
    plt.close(fig)
