"""The manifests as `kubectl kustomize` builds them, and the shapes of the two kinds that are not
Kubernetes' own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from tests.conftest import ROOT

KUBERNETES = ROOT / "deploy" / "kubernetes"
OVERLAYS = ("cpu", "gpu")
Manifest = dict[str, Any]


def builder() -> list[str] | None:
    """The command that builds a kustomization, where there is one."""
    if shutil.which("kubectl"):
        return ["kubectl", "kustomize"]
    return ["kustomize", "build"] if shutil.which("kustomize") else None


def build(folder: Path) -> list[Manifest]:
    """Errors: AssertionError with what the builder says."""
    command = builder()
    assert command
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


@cache
def overlay(name: str) -> tuple[Manifest, ...]:
    return tuple(build(KUBERNETES / "overlays" / name))


def with_components(overlay_name: str, components: Sequence[str], folder: Path) -> list[Manifest]:
    """What an operator's own overlay on top of one of ours gives."""
    there = os.path.relpath(KUBERNETES, folder)
    said = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [f"{there}/overlays/{overlay_name}"],
        "components": [f"{there}/components/{name}" for name in components],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(said))
    return build(folder)


def only(manifests: Sequence[Manifest], kind: str, name: str | None = None) -> Manifest:
    (found,) = (m for m in manifests if m["kind"] == kind and name in (None, m["metadata"]["name"]))
    return found


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Metadata(_Strict):
    name: str
    namespace: str
    labels: dict[str, str] = {}


class _Selector(_Strict):
    matchLabels: dict[str, str]


Duration = Annotated[str, Field(pattern=r"^[0-9]+(ms|s|m|h)$")]


class _Endpoint(_Strict):
    port: str
    path: str
    interval: Duration
    scrapeTimeout: Duration


class _ServiceMonitorSpec(_Strict):
    jobLabel: str
    selector: _Selector
    endpoints: Annotated[list[_Endpoint], Field(min_length=1)]


class ServiceMonitor(_Strict):
    """As the Prometheus Operator documents monitoring.coreos.com/v1: what ours uses of it."""

    apiVersion: Literal["monitoring.coreos.com/v1"]
    kind: Literal["ServiceMonitor"]
    metadata: _Metadata
    spec: _ServiceMonitorSpec


class _Target(_Strict):
    apiVersion: str
    kind: str
    name: str


class _Policy(_Strict):
    type: Literal["Pods", "Percent"]
    value: Annotated[int, Field(gt=0)]
    periodSeconds: Annotated[int, Field(gt=0, le=1800)]


class _Rules(_Strict):
    stabilizationWindowSeconds: Annotated[int, Field(ge=0, le=3600)]
    policies: Annotated[list[_Policy], Field(min_length=1)]


class _Behavior(_Strict):
    scaleUp: _Rules
    scaleDown: _Rules


class _AutoscalerConfig(_Strict):
    behavior: _Behavior


class _Advanced(_Strict):
    horizontalPodAutoscalerConfig: _AutoscalerConfig


class _Fallback(_Strict):
    failureThreshold: Annotated[int, Field(gt=0)]
    replicas: Annotated[int, Field(ge=0)]
    behavior: Literal[
        "static", "currentReplicas", "currentReplicasIfHigher", "currentReplicasIfLower"
    ]


class _UtilizationMetadata(_Strict):
    value: Annotated[str, Field(pattern=r"^[0-9]+$")]


class _CpuTrigger(_Strict):
    type: Literal["cpu"]
    metricType: Literal["Utilization", "AverageValue"]
    metadata: _UtilizationMetadata


class _PrometheusMetadata(_Strict):
    serverAddress: Annotated[str, Field(pattern=r"^https?://")]
    query: str
    threshold: Annotated[str, Field(pattern=r"^[0-9.]+$")]
    activationThreshold: Annotated[str, Field(pattern=r"^[0-9.]+$")]


class _PrometheusTrigger(_Strict):
    type: Literal["prometheus"]
    name: str
    metricType: Literal["AverageValue", "Value"]
    metadata: _PrometheusMetadata


class _ScaledObjectSpec(_Strict):
    scaleTargetRef: _Target
    pollingInterval: Annotated[int, Field(gt=0)]
    minReplicaCount: Annotated[int, Field(ge=0)]
    maxReplicaCount: Annotated[int, Field(gt=0)]
    fallback: _Fallback
    advanced: _Advanced
    triggers: list[Annotated[_CpuTrigger | _PrometheusTrigger, Field(discriminator="type")]]


class ScaledObject(_Strict):
    """As KEDA documents keda.sh/v1alpha1: what ours uses of it. Metadata are all strings."""

    apiVersion: Literal["keda.sh/v1alpha1"]
    kind: Literal["ScaledObject"]
    metadata: _Metadata
    spec: _ScaledObjectSpec
