"""A refinement as one page: each version, what was learned, what the guards said."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from training.refine.versions import Versions

PAGE, ROUNDS, PLOT = "README.md", "rounds.json", "rounds.png"


def write_page(versions: Versions) -> None:
    """README.md beside the versions, with a plot where simulated rounds were gone through."""
    history, path = versions.history, versions.folder / ROUNDS
    lines = [
        "# A generator refined by ratings",
        "",
        f"The current version is {history['current']}.",
    ]
    if path.exists():
        lines += ["", *rounds(json.loads(path.read_text()))]
        plot(json.loads(path.read_text()), versions)
    for one in history["versions"]:
        lines += ["", *version(one)]
    (versions.folder / PAGE).write_text("\n".join(lines) + "\n")


def version(one: Mapping[str, Any]) -> Iterator[str]:
    number = one["version"]
    if "run" in one:
        yield f"## Version {number}: what all began with"
        return
    yield f"## Version {number}: {'accepted' if one['accepted'] else 'refused'}"
    yield ""
    learned, mean = one["reward"], one.get("mean_reward")
    yield (
        f"From version {one['parent']}, by {learned['ratings']:,} ratings of {learned['ecgs']:,} "
        f"ECGs ({learned['who']}). The reward's AUROC on ECGs that it had not seen is "
        f"{figure(learned['by_ecg'])}"
        + (f", on raters {figure(learned['by_rater'])}" if "by_rater" in learned else "")
        + f"; its calibration error is {learned['ece']:.3f}."
    )
    if mean is None:
        yield "It was not looked at to the end."
        return
    yield (
        f"The mean reward of what it makes went from {mean['before']:.3f} to {mean['after']:.3f}."
        + ("" if one["guarded"] else " **The guards were off: they refused nothing.**")
    )
    if "refused" in one["second_reward"]:
        yield "The second reward was no better than chance, and guarded nothing."
    for reason in one["reasons"]:
        yield f"- {'Refused' if one['guarded'] else 'The guards would have refused'}: {reason}."
    yield ""
    yield "| guard | before | after | change | may fall by |"
    yield "|---|---|---|---|---|"
    for guard in one["guards"]:
        low, high = guard["interval"]
        yield (
            f"| {guard['name']} | {guard['before']:.3f} | {guard['after']:.3f} | "
            f"{guard['change']:+.3f} [{low:.3f}, {high:.3f}] | {guard['bound']:g} |"
        )


def rounds(found: Mapping[str, Any]) -> Iterator[str]:
    yield "## Simulated rounds"
    yield ""
    yield (
        f"Nobody rated anything here: {found['raters']}, who see what the critic "
        f"`{found['critic']}` measures; {found['ratings']:,} ratings"
        + (" in all rounds together." if found["rerated"] else ", all in the first round.")
        + ("" if found["guarded"] else " The guards were off.")
    )
    yield (
        "The other critic had no part in it. Shares of ECGs with the labels of fold 9, which no "
        "update saw:"
    )
    yield ""
    names = [k for k in found["real"]]
    columns = [(name, k) for name in names for k in found["real"][name]]
    yield "| | " + " | ".join(f"{name}: {worded(k, found)}" for name, k in columns) + " |"
    yield "|---" * (1 + len(columns)) + "|"
    real = " | ".join(figure(found["real"][name][k]) for name, k in columns)
    yield f"| real ECGs | {real} |"
    for one in found["versions"]:
        shares = " | ".join(f"{one[name][k]:.3f}" for name, k in columns)
        yield f"| version {one['version']} | {shares} |"
    change = " | ".join(figure(found["from_first"][name][k], "+") for name, k in columns)
    yield f"| version {found['current']}, the current one, less version 0 | {change} |"
    yield ""
    yield f"![Shares by version]({PLOT})"


def plot(found: Mapping[str, Any], versions: Versions) -> None:
    figure_, axis = plt.subplots(figsize=(8.4, 3.6))
    numbers = [one["version"] for one in found["versions"]]
    history = {one["version"]: one for one in versions.history["versions"]}
    for i, name in enumerate(found["real"]):
        colour = ("#b5285a", "#1f6f8b")[i % 2]
        for k, style in (("passes", "-"), ("defect", ":")):
            if k not in found["real"][name]:
                continue
            values = [one[name][k] for one in found["versions"]]
            axis.plot(numbers, values, style, color=colour, label=f"{name}: {worded(k, found)}")
            axis.axhline(found["real"][name][k]["value"], color=colour, lw=0.6, ls=(0, (6, 4)))
            for x, y in zip(numbers, values, strict=True):
                accepted = history[x]["accepted"]
                axis.plot(x, y, "o" if accepted else "x", color=colour, ms=5)
    axis.set(
        xlabel="version (x: refused); thin dashed: real ECGs", ylabel="share of ECGs", ylim=(0, 1)
    )
    axis.set_xticks(numbers)
    axis.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))
    axis.spines[["top", "right"]].set_visible(False)
    figure_.tight_layout()
    figure_.savefig(versions.folder / PLOT, dpi=120)
    plt.close(figure_)


def worded(k: str, found: Mapping[str, Any]) -> str:
    return "pass" if k == "passes" else f"defect of {found['defect']}"


def figure(of: Mapping[str, Any], sign: str = "") -> str:
    low, high = of["interval"]
    return f"{of['value']:{sign}.3f} [{low:.3f}, {high:.3f}]"
