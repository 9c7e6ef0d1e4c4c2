"""The manifests: consistent, and true to the server.  tests/image holds them to the schemas."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from gthreadsrv.settings.table import TABLE
from gthreadsrv_metrics.catalogue import CATALOGUE
from tests.conftest import SEARCH_PATH
from tests.unit.docker.files import DOCKER, KUBERNETES, load, manifests
from tests.unit.metrics.rule_files import ALERTS, RECORDING, selectors

MANIFESTS = manifests()
NAME = {"app.kubernetes.io/name": "gthreadsrv"}
CUSTOM = {"podmonitor", "prometheusrule", "scaledobject"}
OVERLAYS = {"hpa": "horizontalpodautoscaler", "keda": "scaledobject"}
METRIC = "gthreadsrv_thread_utilization_ratio"

DEPLOYMENT = MANIFESTS["deployment"]["spec"]
POD = DEPLOYMENT["template"]["spec"]
[APP] = POD["containers"]
ENV = {one["name"]: one["value"] for one in APP["env"]}


def test_every_object_is_there() -> None:
    """And no other."""
    assert set(MANIFESTS) == CUSTOM | {
        "deployment", "horizontalpodautoscaler", "networkpolicy", "poddisruptionbudget",
        "service", "serviceaccount",
    }  # fmt: skip


# -- the rules -------------------------------------------------------------


def test_the_rules_are_those_of_the_repository() -> None:
    """The PrometheusRule holds the groups of both files; else: make reference."""
    groups = [*load(RECORDING)["groups"], *load(ALERTS)["groups"]]
    assert MANIFESTS["prometheusrule"]["spec"]["groups"] == groups


def test_the_tool_says_whether_the_rules_are_current(tmp_path: Path) -> None:
    """0 and 1; and copies have links to one's own runbook."""
    tool = [sys.executable, str(KUBERNETES / "prometheusrule.py")]
    copy = tmp_path / "copy.yaml"

    def code(*arguments: str) -> int:
        done = subprocess.run([*tool, *arguments], capture_output=True, timeout=60, check=False)
        return done.returncode

    assert code("--check") == 0
    assert code("--check", "--into", str(copy)) == 1
    assert code("--write", "--into", str(copy), "--runbook", "https://wiki.example/R") == 0
    links = [
        rule["annotations"]["runbook_url"]
        for group in load(copy)["spec"]["groups"]
        for rule in group["rules"]
        if "alert" in rule
    ]
    assert links
    assert all(link.startswith("https://wiki.example/R#gthreadsrv") for link in links)


# -- kustomize -------------------------------------------------------------


def kustomization(folder: Path) -> Iterator[Path]:
    """The files that a kustomization is made of, by its own list."""
    content = load(folder / "kustomization.yaml")
    for entry in [*content.get("resources", ()), *content.get("components", ())]:
        path = (folder / entry).resolve()
        assert path.exists(), f"{folder.name} names {entry}"
        if path.is_dir():
            yield from kustomization(path)
        else:
            yield path


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_has_all_but_the_other_autoscaler(overlay: str) -> None:
    """Two autoscalers on one deployment fight."""
    names = [path.stem for path in kustomization(KUBERNETES / "overlays" / overlay)]
    other = set(OVERLAYS.values()) - {OVERLAYS[overlay]}

    assert len(names) == len(set(names))
    assert set(names) == set(MANIFESTS) - other


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kustomize_renders_it(overlay: str) -> None:
    """The same objects come out, changed in their namespace only."""
    if not shutil.which("kubectl", path=SEARCH_PATH):
        pytest.skip("kubectl is no package of Debian's")
    done = subprocess.run(
        ["kubectl", "kustomize", str(KUBERNETES / "overlays" / overlay)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rendered = {one["kind"].lower(): one for one in yaml.safe_load_all(done.stdout)}
    for kind, one in rendered.items():
        assert one["metadata"].pop("namespace") == "default"
        assert one == MANIFESTS[kind]


# -- what they say about the server ----------------------------------------


def test_selectors_find_the_pods() -> None:
    """Nothing selects everything, and everything selects these pods."""
    assert DEPLOYMENT["template"]["metadata"]["labels"] == NAME
    assert DEPLOYMENT["selector"]["matchLabels"] == NAME
    assert MANIFESTS["service"]["spec"]["selector"] == NAME
    assert MANIFESTS["networkpolicy"]["spec"]["podSelector"]["matchLabels"] == NAME
    for name in ("podmonitor", "poddisruptionbudget"):
        assert MANIFESTS[name]["spec"]["selector"]["matchLabels"] == NAME
    for one in POD["topologySpreadConstraints"]:
        assert one["labelSelector"]["matchLabels"] == NAME


def test_ports_have_one_name_everywhere() -> None:
    """Service, probes, policy and monitor name the container's ports, which are the image's."""
    ports = {port["name"]: port["containerPort"] for port in APP["ports"]}
    image = (DOCKER / "Dockerfile").read_text()

    assert ports == {"http": 8000, "metrics": 9180}
    assert f"PORT={ports['http']} " in image
    assert f"GTHREADSRV_METRICS_BIND=0.0.0.0:{ports['metrics']} " in image
    assert [one["targetPort"] for one in MANIFESTS["service"]["spec"]["ports"]] == ["http"]
    assert [one["port"] for one in MANIFESTS["podmonitor"]["spec"]["podMetricsEndpoints"]] == [
        "metrics"
    ]
    for kind, path in (("startup", "/startupz"), ("readiness", "/readyz"), ("liveness", "/livez")):
        assert APP[f"{kind}Probe"]["httpGet"] == {"path": path, "port": "metrics"}


def test_only_prometheus_reads_the_metrics_port() -> None:
    """Everybody may call the application; the metrics port has a list of who may."""
    rules = {
        rule["ports"][0]["port"]: rule for rule in MANIFESTS["networkpolicy"]["spec"]["ingress"]
    }
    assert set(rules) == {"http", "metrics"}
    assert "from" not in rules["http"]
    assert rules["metrics"]["from"]


def test_a_pod_has_the_time_it_needs_to_leave() -> None:
    """Kubernetes kills after the grace period: delay, requests and the processes' end fit into it."""
    delay_s = int(ENV["GTHREADSRV_DRAIN_DELAY"])
    graceful_s = int(ENV["GTHREADSRV_GRACEFUL_TIMEOUT"])
    readiness = APP["readinessProbe"]

    assert POD["terminationGracePeriodSeconds"] == delay_s + graceful_s + 5
    assert int(ENV["GTHREADSRV_TIMEOUT"]) < graceful_s
    # Where only the probe tells a balancer, it has been told twice before the way in is shut.
    assert delay_s >= readiness["periodSeconds"] * readiness["failureThreshold"]
    assert "lifecycle" not in APP


def test_its_variables_are_settings() -> None:
    """Each variable is one that the server reads."""
    assert set(ENV) <= {f"GTHREADSRV_{setting.name.upper()}" for setting in TABLE}


def test_a_pod_is_confined() -> None:
    """The restricted pod security standard, and a root that nobody writes to."""
    assert POD["automountServiceAccountToken"] is False
    assert POD["securityContext"]["runAsNonRoot"] is True
    assert POD["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert APP["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert APP["resources"]["requests"] == APP["resources"]["limits"]


def test_the_autoscalers_agree() -> None:
    """Same metric, same target, same bounds, same pace."""
    hpa = MANIFESTS["horizontalpodautoscaler"]["spec"]
    keda = MANIFESTS["scaledobject"]["spec"]
    [metric] = hpa["metrics"]
    [trigger] = keda["triggers"]

    assert metric["pods"]["metric"]["name"] == METRIC
    target = metric["pods"]["target"]
    assert target["type"] == trigger["metricType"] == "AverageValue"
    assert int(target["averageValue"].removesuffix("m")) / 1000 == float(
        trigger["metadata"]["threshold"]
    )
    assert hpa["minReplicas"] == keda["minReplicaCount"]
    assert hpa["maxReplicas"] == keda["maxReplicaCount"]
    assert hpa["behavior"] == keda["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    for one in (hpa, keda):
        assert one["scaleTargetRef"]["name"] == MANIFESTS["deployment"]["metadata"]["name"]
    assert "replicas" not in DEPLOYMENT


def test_the_metrics_they_ask_for_exist() -> None:
    """In the catalogue, and as gauges: a counter would need a rate."""
    kinds = {metric.full_name: metric.type for metric in CATALOGUE}
    [rule] = load(KUBERNETES / "components" / "hpa" / "prometheus-adapter.yaml")["rules"]["custom"]
    query = rule["metricsQuery"]
    for hole, filling in (
        ("<<.GroupBy>>", "pod"),
        ("<<.Series>>", METRIC),
        ("<<.LabelMatchers>>", ""),
    ):
        assert hole in query
        query = query.replace(hole, filling)
    trigger = MANIFESTS["scaledobject"]["spec"]["triggers"][0]["metadata"]["query"]
    for text in (rule["seriesQuery"], query, trigger):
        assert [one.name for one in selectors(text)] == [METRIC]
    assert kinds[METRIC] == "gauge"
    assert rule["name"]["as"] == METRIC


def test_the_query_selects_what_the_monitor_scrapes() -> None:
    """`job` is the label that the PodMonitor takes it from, `namespace` the overlay's."""
    label = MANIFESTS["podmonitor"]["spec"]["jobLabel"]
    job = DEPLOYMENT["template"]["metadata"]["labels"][label]
    namespace = load(KUBERNETES / "overlays" / "keda" / "kustomization.yaml")["namespace"]
    [selector] = selectors(MANIFESTS["scaledobject"]["spec"]["triggers"][0]["metadata"]["query"])

    assert {name: value for name, _, value in selector.matchers} == {
        "job": job,
        "namespace": namespace,
    }
