"""Platt scaling and thresholds, fitted on fold 9."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize

from ecg.decision import Calibration, atrial_at_least, sigmoid

PRIOR_WEIGHT = 1.0  # of a unit Gaussian around slope 1, offset 0: keeps rare statements sane
MIN_POSITIVES = 10  # for a threshold of a statement's own


def fit(
    lead_set: str, min_leads: int, logits: np.ndarray, label: np.ndarray, implying: Sequence[int]
) -> Calibration:
    """Calibration of logits [record, output] against labels [record, output], -1 unknown.

    implying: the outputs whose thresholds must not be below the atrial substrate's.
    """
    pairs = [_platt(logits[:, j], label[:, j]) for j in range(logits.shape[1])]
    slope, offset = np.array(pairs).T
    probability = atrial_at_least(sigmoid(slope * logits + offset), implying)
    threshold = _thresholds(probability, label)
    for j in implying:
        threshold[j] = max(threshold[j], threshold[0])
    return Calibration(
        lead_set,
        min_leads,
        tuple(np.round(slope, 5).tolist()),
        tuple(np.round(offset, 5).tolist()),
        tuple(np.round(threshold, 4).tolist()),
    )


def _platt(logit: np.ndarray, label: np.ndarray) -> tuple[float, float]:
    """Slope and offset of the most probable sigmoid (Platt 1999), with the prior above."""
    known = label >= 0
    x, y = logit[known].astype(float), label[known].astype(float)

    def cost(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        slope, offset = parameters
        z = slope * x + offset
        error = sigmoid(z) - y
        prior = np.array([slope - 1, offset]) * PRIOR_WEIGHT
        nll = np.sum(np.logaddexp(0, z) - y * z) + 0.5 * np.sum(prior**2) / PRIOR_WEIGHT
        return float(nll), np.array([error @ x, error.sum()]) + prior

    best = minimize(cost, np.array([1.0, 0.0]), jac=True, bounds=[(0.1, 10), (-10, 10)])
    return float(best.x[0]), float(best.x[1])


def _thresholds(probability: np.ndarray, label: np.ndarray) -> np.ndarray:
    """[output]: the best F1 of each; those with few positives share the best F1 of all of them."""
    positives = (label == 1).sum(axis=0)
    rare = np.flatnonzero(positives < MIN_POSITIVES)
    thresholds = np.full(label.shape[1], 0.5)
    if len(rare) and positives[rare].sum() > 0:
        thresholds[rare] = best_f1_threshold(probability[:, rare].ravel(), label[:, rare].ravel())
    for j in np.flatnonzero(positives >= MIN_POSITIVES):
        thresholds[j] = best_f1_threshold(probability[:, j], label[:, j])
    return thresholds


def best_f1_threshold(probability: np.ndarray, label: np.ndarray) -> float:
    """Midway between the two scores around the cut with the highest F1."""
    known = label >= 0
    order = np.argsort(-probability[known], kind="stable")
    score, truth = probability[known][order], label[known][order]
    hits = np.cumsum(truth)
    f1 = 2 * hits / (np.arange(1, len(truth) + 1) + truth.sum())
    f1[:-1][score[:-1] == score[1:]] = 0  # no threshold lies between equal scores
    cut = int(np.argmax(f1))
    below = score[cut + 1] if cut + 1 < len(score) else 0.0
    return float((score[cut] + below) / 2)
