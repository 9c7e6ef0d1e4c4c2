"""Where things are, and the files as tests look at them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]
DOCKER = ROOT / "docker"
KUBERNETES = DOCKER / "kubernetes"


def load(path: Path) -> Any:
    """One YAML file with one document."""
    return yaml.safe_load(path.read_text())


def manifests() -> dict[str, dict[str, Any]]:
    """Every object for Kubernetes, by the name of its file."""
    found = {}
    for path in sorted(KUBERNETES.rglob("*.yaml")):
        content = load(path)
        if path.name != "kustomization.yaml" and "kind" in content:
            assert path.stem not in found
            found[path.stem] = content
    return found
