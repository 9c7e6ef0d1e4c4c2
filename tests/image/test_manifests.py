"""The manifests, by Kubernetes' own schemas and by those of the operators.

No engine is needed: `make check-kubernetes`.  Not in every run of the tests, since the schemas are
a hundred megabytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.unit.docker.files import manifests

MANIFESTS = manifests()
VERSIONS = ("1.30", "1.37")
CUSTOM = {"podmonitor", "prometheusrule", "scaledobject"}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", sorted(set(MANIFESTS) - CUSTOM))
def test_an_object_is_valid(name: str, version: str) -> None:
    """By the schema of the oldest and the newest version meant; unknown fields are errors."""
    kubernetes_validate.validate(MANIFESTS[name], version, strict=True)


def test_the_validation_can_fail() -> None:
    """A misspelt field is found."""
    wrong = {**MANIFESTS["service"], "spec": {"ports": [{"prot": 80}]}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)


# -- objects of the operators ----------------------------------------------


def model(name: str) -> Any:
    """The model that was made from the operator's own schema."""
    if name == "scaledobject":
        from cloudcoil.models.keda import v1alpha1

        return v1alpha1.ScaledObject
    from cloudcoil.models.prometheus_operator import v1

    return {"podmonitor": v1.PodMonitor, "prometheusrule": v1.PrometheusRule}[name]


def lost(given: Any, kept: Any, place: str = "") -> Iterator[str]:
    """Where the model has dropped something, since it ignores what it does not know."""
    if isinstance(given, dict):
        for key, value in given.items():
            if not isinstance(kept, dict) or key not in kept:
                yield f"{place}.{key}"
            else:
                yield from lost(value, kept[key], f"{place}.{key}")
    elif isinstance(given, list):
        for index, value in enumerate(given):
            yield from lost(value, kept[index], f"{place}[{index}]")


def through(name: str, content: Any) -> list[str]:
    """The fields that the operator's schema does not have; an invalid value raises."""
    read = model(name).model_validate(content)
    return list(lost(content, read.model_dump(mode="json", by_alias=True, exclude_unset=True)))


@pytest.mark.parametrize("name", sorted(CUSTOM))
def test_an_operators_object_is_valid(name: str) -> None:
    """Every value has its type, and every field is known."""
    assert through(name, MANIFESTS[name]) == []


def test_the_operators_validation_can_fail() -> None:
    """A misspelt field is found."""
    wrong = yaml.safe_load(yaml.safe_dump(MANIFESTS["podmonitor"]))
    wrong["spec"]["podMetricsEndpoints"][0]["intervall"] = "15s"
    assert through("podmonitor", wrong) == [".spec.podMetricsEndpoints[0].intervall"]
