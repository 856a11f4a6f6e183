"""The manifests: valid for several Kubernetes versions, and right about the service itself."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from prometheus_client.metrics import MetricWrapperBase

from service import metrics
from service.edge import FRAMEWORK_PATHS
from service.settings import Settings
from service.wire.draining import READY
from tests.conftest import ROOT
from tests.deploy.manifests import (
    KUBERNETES,
    OVERLAYS,
    Manifest,
    ScaledObject,
    ServiceMonitor,
    builder,
    only,
    overlay,
    with_components,
)

pytestmark = pytest.mark.skipif(builder() is None, reason="neither kubectl nor kustomize is here")
VERSIONS = ("1.28", "1.30", "1.32", "1.34", "1.37")
MARGIN_S = 30  # of the grace period
MIB = 2**20


@pytest.fixture(params=OVERLAYS)
def manifests(request: pytest.FixtureRequest) -> tuple[Manifest, ...]:
    return overlay(request.param)


def pod(manifests: tuple[Manifest, ...] | list[Manifest]) -> Manifest:
    return only(manifests, "Deployment")["spec"]["template"]


def container(manifests: tuple[Manifest, ...]) -> Manifest:
    (one,) = pod(manifests)["spec"]["containers"]
    return one


def settings_of(manifests: tuple[Manifest, ...], folder: Path) -> Settings:
    """As the service reads its ConfigMap."""
    file = folder / "settings.toml"
    file.write_text(only(manifests, "ConfigMap")["data"]["settings.toml"])
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("ECG_")]:
            patch.delenv(name)
        patch.setenv("ECG_SETTINGS", str(file))
        return Settings()


def n_bytes(quantity: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(Mi|Gi)", quantity).groups()  # type: ignore[union-attr]
    return int(number) * {"Mi": MIB, "Gi": 1024 * MIB}[unit]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_manifest_is_valid(manifests: tuple[Manifest, ...], version: str) -> None:
    for manifest in manifests:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_a_wrong_manifest_is_noticed(manifests: tuple[Manifest, ...]) -> None:
    wrong = {**only(manifests, "PodDisruptionBudget"), "spec": {"maxUnavailabel": 1}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


def test_all_is_there_and_in_one_namespace(manifests: tuple[Manifest, ...]) -> None:
    kinds = sorted(m["kind"] for m in manifests)
    assert kinds == [
        *("ConfigMap", "Deployment", "HorizontalPodAutoscaler", "Namespace"),
        *("NetworkPolicy", "NetworkPolicy", "PodDisruptionBudget", "Service", "ServiceAccount"),
    ]
    name = only(manifests, "Namespace")["metadata"]["name"]
    assert {m["metadata"].get("namespace") for m in manifests} == {name, None}
    assert sum("namespace" not in m["metadata"] for m in manifests) == 1, "the namespace itself"


def test_selectors_meet_the_pods(manifests: tuple[Manifest, ...]) -> None:
    labels = pod(manifests)["metadata"]["labels"].items()
    spread = pod(manifests)["spec"]["topologySpreadConstraints"]
    for selector in (
        only(manifests, "Deployment")["spec"]["selector"]["matchLabels"],
        only(manifests, "Service")["spec"]["selector"],
        only(manifests, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        only(manifests, "NetworkPolicy", "ecg-direnet")["spec"]["podSelector"]["matchLabels"],
        *(constraint["labelSelector"]["matchLabels"] for constraint in spread),
    ):
        assert selector and selector.items() <= labels


def test_the_names_that_manifests_use_are_given(manifests: tuple[Manifest, ...]) -> None:
    spec = pod(manifests)["spec"]
    ports = {port["name"] for port in container(manifests)["ports"]}
    targets = {port["targetPort"] for port in only(manifests, "Service")["spec"]["ports"]}
    probed = {probe["httpGet"]["port"] for probe in probes(manifests).values()}
    rules = only(manifests, "NetworkPolicy", "ecg-direnet")["spec"]["ingress"]
    let_in = {port["port"] for rule in rules for port in rule["ports"]}
    assert targets == let_in == ports and probed <= ports
    mounted = {mount["name"] for mount in container(manifests)["volumeMounts"]}
    assert mounted == {volume["name"] for volume in spec["volumes"]}
    (configured,) = (v["configMap"]["name"] for v in spec["volumes"] if "configMap" in v)
    assert configured == only(manifests, "ConfigMap")["metadata"]["name"]
    assert spec["serviceAccountName"] == only(manifests, "ServiceAccount")["metadata"]["name"]
    target = only(manifests, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    deployment = only(manifests, "Deployment")
    assert target == {
        "apiVersion": deployment["apiVersion"],
        "kind": "Deployment",
        "name": deployment["metadata"]["name"],
    }


def probes(manifests: tuple[Manifest, ...]) -> dict[str, Manifest]:
    names = ("startupProbe", "readinessProbe", "livenessProbe")
    return {name: container(manifests)[name] for name in names}


def test_probes_ask_what_the_service_answers(manifests: tuple[Manifest, ...]) -> None:
    paths = {name: probe["httpGet"]["path"] for name, probe in probes(manifests).items()}
    assert paths["startupProbe"] == paths["readinessProbe"] == READY
    assert paths["livenessProbe"] == "/livez", "it answers 200 in the drain too"
    assert set(paths.values()) <= set(FRAMEWORK_PATHS)


def test_the_settings_are_the_services(manifests: tuple[Manifest, ...], tmp_path: Path) -> None:
    found = settings_of(manifests, tmp_path)
    assert (found.access, found.audit) == ("on", "on"), "never left to where it listens"
    cores = int(container(manifests)["resources"]["requests"]["cpu"])
    assert found.workers <= cores
    said = tomllib.loads(only(manifests, "ConfigMap")["data"]["settings.toml"])
    follow_the_node = {"workers", "engine_threads", "reader_threads"}
    assert follow_the_node <= set(said), "else they follow the node's cores, not the pod's"


def test_each_overlay_computes_where_it_says(tmp_path: Path) -> None:
    for name, device in (("cpu", "cpu"), ("gpu", "cuda")):
        limits = container(overlay(name))["resources"]["limits"]
        assert settings_of(overlay(name), tmp_path).device == device
        assert container(overlay(name))["image"] == f"ecg-direnet:{name}"
        assert ("nvidia.com/gpu" in limits) == (device == "cuda")


def test_the_environment_holds_settings_and_no_secret(manifests: tuple[Manifest, ...]) -> None:
    said = {entry["name"]: entry for entry in container(manifests)["env"]}
    known = {f"ECG_{name.upper()}" for name in Settings.model_fields} | {"ECG_SETTINGS"}
    assert set(said) <= known
    for name in ("ECG_DATABASE_URL", "ECG_SESSION_SECRET"):
        assert set(said[name]) == {"name", "valueFrom"}
        assert set(said[name]["valueFrom"]) == {"secretKeyRef"}
    ports = {port["name"]: port["containerPort"] for port in container(manifests)["ports"]}
    assert said["ECG_OPERATOR_PORT"]["value"] == str(ports["metrics"])
    mounts = {mount["name"]: mount["mountPath"] for mount in container(manifests)["volumeMounts"]}
    assert Path(said["ECG_SETTINGS"]["value"]) == Path(mounts["settings"], "settings.toml")
    (secret,) = (v["secret"] for v in pod(manifests)["spec"]["volumes"] if "secret" in v)
    (item,) = secret["items"]
    assert Path(said["ECG_AUDIT_KEY_FILE"]["value"]) == Path(mounts["audit-key"], item["path"])
    assert Path(said["ECG_AUDIT_SPOOL"]["value"]).is_relative_to(mounts["state"])
    assert not [m for m in manifests if m["kind"] == "Secret"]


def test_pods_keep_to_the_restricted_standard(manifests: tuple[Manifest, ...]) -> None:
    """And to more: a fixed user, nothing writable but two small places, no token."""
    spec, one = pod(manifests)["spec"], container(manifests)
    labels = only(manifests, "Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == spec["securityContext"]["fsGroup"] == 10001
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert one["securityContext"]["allowPrivilegeEscalation"] is False
    assert one["securityContext"]["readOnlyRootFilesystem"] is True
    assert one["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert spec["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    writable = [v["emptyDir"] for v in spec["volumes"] if "emptyDir" in v]
    assert len(writable) == 2 and all("sizeLimit" in place for place in writable)
    assert all({"configMap", "secret", "emptyDir"} & set(v) for v in spec["volumes"])
    read_only = {m["name"] for m in one["volumeMounts"] if m.get("readOnly")}
    assert read_only == {"settings", "audit-key"}


def test_the_image_has_the_user_the_port_and_the_places() -> None:
    file = ROOT / "deploy" / "images" / "Dockerfile"
    if not file.exists():
        pytest.skip("this checkout has no container file")
    text = file.read_text()
    context = pod(overlay("cpu"))["spec"]["securityContext"]
    ports = {port["name"]: port["containerPort"] for port in container(overlay("cpu"))["ports"]}
    user = re.search(r"^USER (\d+)(?::(\d+))?$", text, re.MULTILINE)
    assert user and {int(part) for part in user.groups() if part} == {context["runAsUser"]}
    assert f"EXPOSE {ports['http']}" in text
    assert '"--timeout-keep-alive", "75"' in text, "longer than the ingress keeps idle connections"


def test_memory_holds_what_is_measured_and_what_may_be_read_at_once(tmp_path: Path) -> None:
    """1,254 MiB: the most that loadtest/README.md has for two workers."""
    settings = settings_of(overlay("cpu"), tmp_path)
    assert "| 1,254 |" in (ROOT / "loadtest" / "README.md").read_text()
    a_body = (settings.max_body_mib + settings.max_unpacked_mib) * MIB
    bodies = settings.workers * settings.reader_threads * a_body
    resources = container(overlay("cpu"))["resources"]
    volumes = pod(overlay("cpu"))["spec"]["volumes"]
    (tmp,) = (v["emptyDir"]["sizeLimit"] for v in volumes if v["name"] == "tmp")
    needed = 1254 * MIB + bodies + n_bytes(tmp)
    assert n_bytes(resources["limits"]["memory"]) > needed
    assert n_bytes(resources["requests"]["memory"]) > 1254 * MIB


def test_the_grace_is_longer_than_drain_and_longest_request(
    manifests: tuple[Manifest, ...], tmp_path: Path
) -> None:
    settings = settings_of(manifests, tmp_path)
    longest_s = (
        settings.timeout_s
        + settings.max_body_mib * settings.timeout_per_mib_s
        + settings.max_records * settings.max_duration_s / 3600 * settings.timeout_per_hour_s
    )
    assert "preStop" not in container(manifests).get("lifecycle", {})
    grace_s = pod(manifests)["spec"]["terminationGracePeriodSeconds"]
    assert grace_s >= settings.drain_s + longest_s + MARGIN_S / 2


def test_the_drain_outlasts_those_who_ask_whether_it_is_ready(
    manifests: tuple[Manifest, ...], tmp_path: Path
) -> None:
    ready = probes(manifests)["readinessProbe"]
    noticed_s = ready["failureThreshold"] * (ready["periodSeconds"] + ready["timeoutSeconds"])
    assert settings_of(manifests, tmp_path).drain_s > noticed_s


def test_an_update_and_an_eviction_always_leave_pods(manifests: tuple[Manifest, ...]) -> None:
    rolling = only(manifests, "Deployment")["spec"]["strategy"]["rollingUpdate"]
    assert rolling == {"maxUnavailable": 0, "maxSurge": 1}
    assert "replicas" not in only(manifests, "Deployment")["spec"], "the autoscaler's to choose"
    least = only(manifests, "HorizontalPodAutoscaler")["spec"]["minReplicas"]
    away = only(manifests, "PodDisruptionBudget")["spec"]["maxUnavailable"]
    assert 1 <= away < least


def test_everything_is_closed_but_for_what_is_named(manifests: tuple[Manifest, ...]) -> None:
    deny = only(manifests, "NetworkPolicy", "default-deny")["spec"]
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    spec = only(manifests, "NetworkPolicy", "ecg-direnet")["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    inward = {port["port"]: set(namespaces(rule["from"])) for rule in spec["ingress"]
              for port in rule["ports"]}  # fmt: skip
    assert inward == {"http": {"ingress"}, "metrics": {"monitoring"}}
    outward = {(port["protocol"], port["port"]): set(namespaces(rule["to"]))
               for rule in spec["egress"] for port in rule["ports"]}  # fmt: skip
    assert outward == {
        ("UDP", 53): {"kube-system"},
        ("TCP", 53): {"kube-system"},
        ("TCP", 5432): {"postgresql"},
        ("TCP", 443): {"identity"},
    }


def namespaces(peers: list[dict[str, Any]]) -> Iterator[str]:
    for peer in peers:
        yield peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]


def test_the_service_monitor_finds_the_metrics(
    manifests: tuple[Manifest, ...], tmp_path: Path
) -> None:
    built = with_components("cpu", ["servicemonitor"], tmp_path)
    monitor = ServiceMonitor.model_validate(only(built, "ServiceMonitor"))
    service_ = only(manifests, "Service")
    assert monitor.spec.selector.matchLabels.items() <= service_["metadata"]["labels"].items()
    assert monitor.spec.jobLabel in service_["metadata"]["labels"]
    (endpoint,) = monitor.spec.endpoints
    assert endpoint.port in {port["name"] for port in service_["spec"]["ports"]}
    assert endpoint.path in FRAMEWORK_PATHS
    assert monitor.metadata.namespace == service_["metadata"]["namespace"]


@pytest.mark.parametrize("name", OVERLAYS)
def test_keda_takes_the_autoscalers_place(name: str, tmp_path: Path) -> None:
    built = with_components(name, ["servicemonitor", "keda"], tmp_path)
    assert not [m for m in built if m["kind"] == "HorizontalPodAutoscaler"], "one of the two"
    scaled = ScaledObject.model_validate(only(built, "ScaledObject"))
    plain = only(overlay("cpu"), "HorizontalPodAutoscaler")["spec"]
    assert scaled.spec.scaleTargetRef.model_dump() == plain["scaleTargetRef"]
    assert scaled.spec.minReplicaCount == scaled.spec.fallback.replicas == plain["minReplicas"]
    config = scaled.spec.advanced.horizontalPodAutoscalerConfig
    assert config.behavior.model_dump() == plain["behavior"]
    queries = [t.metadata.query for t in scaled.spec.triggers if t.type == "prometheus"]
    assert len(queries) == 2
    for query in queries:
        (metric, selected) = re.search(r"(ecg_\w+)\{([^}]*)\}", query).groups()  # type: ignore[union-attr]
        assert set(re.findall(r"(\w+)=", selected)) <= {"namespace", *labels_of()[metric]}
        assert f'namespace="{scaled.metadata.namespace}"' in selected


def labels_of() -> dict[str, tuple[str, ...]]:
    """Of every metric of ours, by the name that Prometheus sees."""
    found = {}
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            (described,) = metric.describe()
            ending = "_total" if described.type == "counter" else ""
            found[described.name + ending] = tuple(metric._labelnames)
    return found


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_page_names_every_secret_and_the_figures(name: str) -> None:
    page = (KUBERNETES / "README.md").read_text()
    entries = container(overlay(name))["env"]
    secrets = {e["valueFrom"]["secretKeyRef"]["name"] for e in entries if "valueFrom" in e}
    secrets |= {v["secret"]["secretName"] for v in pod(overlay(name))["spec"]["volumes"]
                if "secret" in v}  # fmt: skip
    assert all(f"create secret generic {secret}" in page for secret in secrets)
    grace_s = pod(overlay(name))["spec"]["terminationGracePeriodSeconds"]
    assert f"{grace_s} s" in page
