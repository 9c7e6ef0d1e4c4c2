# The project's commands.  `make serve` and `make test` need only Python 3.10+ and make;
# each sets up .venv the first time, and again when pyproject.toml has changed.

PYTHON ?= python3
FUZZ_PYTHON ?= python3.11
JOBS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN); [ "$$n" -gt 2 ] && echo "$$n" || echo 2)
VENV := .venv
BIN := $(VENV)/bin
SERVE_STAMP := $(VENV)/.serve-ready
TEST_STAMP := $(VENV)/.test-ready
COVERAGE_MINIMUM := 90

# Programs that system tests start, and Debian's packages that carry them.
PROGRAMS := apache2 chromium curl haproxy logrotate nginx openssl prometheus promtool supervisord \
    systemd-analyze systemd-socket-activate wrk
APT_PACKAGES := apache2 ca-certificates chromium curl fonts-dejavu-core haproxy libnginx-mod-stream \
    logrotate nginx-light openssl prometheus supervisor systemd wrk
UV := $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.10 --generate-hashes \
    --no-annotate --custom-compile-command 'make lock'
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)

.PHONY: help serve test lint test-deps test-pythons test-systemd fuzz fuzz-guided chaos restarts \
    slow-clients bench bench-scaling bench-own bench-deps soak situations reference check-grafana screenshots \
    image test-image test-image-deps check-kubernetes simulate-pods lock clean

help:
	@echo 'make serve         serve the demo on http://127.0.0.1:8000, metrics on port 9180'
	@echo 'make test          check style, types and imports, run every test, measure coverage'
	@echo 'make test-deps     install the programs that system tests use (apt)'
	@echo 'make test-pythons  run the tests on every CPython 3.10 to 3.13 of this machine'
	@echo 'make test-systemd  the example units under a real systemd (as root, with podman and debootstrap)'
	@echo 'make lint          check style, types, imports and generated documentation only'
	@echo 'make reference     write the tables of settings in README.md and GUNICORN.md anew'
	@echo 'make fuzz          compare the two HTTP parsers on a million inputs, some ten minutes'
	@echo 'make fuzz-guided   the same, led by coverage (needs Python 3.11; FUZZ=--minutes N)'
	@echo 'make bench         compare with other servers, some 25 minutes (BENCH=--quick: three)'
	@echo 'make bench-scaling how cost grows with threads, connections, workers, size'
	@echo 'make bench-own     what the server costs: fairness, hand-over, idle, boot, metrics'
	@echo 'make bench-deps    install what make bench needs (apt)'
	@echo 'make chaos         every fault under load, a hundred reloads, held to the second; some three minutes'
	@echo 'make soak          everything at once for ten minutes (SOAK="--minutes N")'
	@echo 'make restarts      ten thousand restarts of workers, some twenty minutes'
	@echo 'make slow-clients  what five thousand slow clients cost the others, some three minutes'
	@echo 'make situations    which alert fires, and what dashboards show, in which staged situation; a quarter of an hour'
	@echo 'make check-grafana hold the dashboards to Grafana'"'"'s own types (needs npm)'
	@echo 'make screenshots   draw the dashboards and the live page from live servers (needs npm and Chromium)'
	@echo 'make image         build the container image (needs docker)'
	@echo 'make test-image    run the image and the compose stack under an engine of its own (root)'
	@echo 'make test-image-deps   install that engine (apt)'
	@echo 'make check-kubernetes  hold the manifests to the schemas of Kubernetes and the operators'
	@echo 'make simulate-pods     a fleet of pods and its autoscaler, to 1,000 pods, two or three minutes'
	@echo 'make lock          resolve the dependencies of the image anew'
	@echo 'make clean         remove what these commands made'

serve: $(SERVE_STAMP)
	$(BIN)/gthreadsrv --bind 127.0.0.1:8000 --metrics-bind 127.0.0.1:9180 gthreadsrv.demo:app

# Tests marked `alone` measure time, so they run after the others, one by one.
test: lint
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n $(JOBS) --dist loadscope -m 'not alone'
	$(BIN)/coverage run -m pytest -m alone
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --fail-under=$(COVERAGE_MINIMUM)

lint: $(TEST_STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m gthreadsrv.settings.reference --check README.md GUNICORN.md
	PYTHONPATH=metrics $(BIN)/python -m grafana.source --check
	$(BIN)/mypy docker/load.py docker/kubernetes/prometheusrule.py
	$(BIN)/python docker/kubernetes/prometheusrule.py --check

reference: $(TEST_STAMP)
	$(BIN)/python -m gthreadsrv.settings.reference --write README.md GUNICORN.md
	PYTHONPATH=metrics $(BIN)/python -m grafana.source --write
	$(BIN)/python docker/kubernetes/prometheusrule.py --write

fuzz: $(TEST_STAMP)
	$(BIN)/python -m tests.fuzz.differential $(FUZZ)

# atheris has wheels for a few Pythons only, and instruments what it runs: an environment of its own.
fuzz-guided:
	[ -x .venv-fuzz/bin/python ] || $(FUZZ_PYTHON) -m venv .venv-fuzz
	.venv-fuzz/bin/python -m pip install --quiet --disable-pip-version-check -e '.[fast]' 'atheris>=3' 'pytest>=8.3'
	.venv-fuzz/bin/python -m tests.fuzz.guided $(FUZZ)

# These need no .venv: they make .venv-bench, with an optimised interpreter where there is one.
bench:
	$(PYTHON) -m tests.bench.peers $(BENCH)

bench-scaling:
	$(PYTHON) -m tests.bench.peers.scaling $(BENCH)

# wrk makes the load; pyuwsgi and bjoern may be compiled.
bench-deps:
	$(SUDO) apt-get update -qq
	$(SUDO) env DEBIAN_FRONTEND=noninteractive \
	    apt-get install -y -qq --no-install-recommends gcc libev-dev python3-dev python3-venv wrk

bench-own: $(TEST_STAMP)
	for name in fairness handover idle boot metrics_cost exporter; do \
	    $(BIN)/python -m tests.bench.$$name || exit 1; \
	done

check-grafana: $(TEST_STAMP)
	PYTHONPATH=metrics $(BIN)/python -m grafana.typecheck

screenshots: $(TEST_STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[fast,test,screenshots]'
	PYTHONPATH=metrics $(BIN)/python -m grafana.pictures
	$(BIN)/python -m tests.bench.live_picture

image:
	docker build --file docker/Dockerfile --tag gthreadsrv .

# dockerd is started for this run alone, in a network of its own, and is gone afterwards.
test-image: $(TEST_STAMP)
	$(SUDO) env GTHREADSRV_TEST_IMAGE=1 $(BIN)/python -m pytest -p no:cacheprovider -s \
	    tests/image/test_image.py tests/image/test_stack.py

test-image-deps:
	$(SUDO) apt-get update -qq
	$(SUDO) env DEBIAN_FRONTEND=noninteractive \
	    apt-get install -y -qq --no-install-recommends debootstrap docker.io docker-compose iproute2 iptables

# An environment of its own: cloudcoil brings a plugin for pytest that every run would load.
check-kubernetes:
	$(PYTHON) -m venv .venv-manifests
	.venv-manifests/bin/python -m pip install --quiet --disable-pip-version-check -e '.[fast,test,manifests]'
	GTHREADSRV_TEST_IMAGE=1 .venv-manifests/bin/python -m pytest -p no:cloudcoil tests/image/test_manifests.py \
	    tests/unit/docker/test_docker_kubernetes.py

simulate-pods: $(TEST_STAMP)
	$(BIN)/python -m tests.simulation.pods $(SIMULATE)

# Every hash of every file of every version, for all Pythons and machines.
lock: $(TEST_STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(UV) --extra fast pyproject.toml -o docker/requirements.lock
	printf '%s\n' 'hatchling>=1.24' | $(UV) - -o docker/build.lock

# Here each fault must be over within a second, and every reload of a hundred lose nothing.
chaos: $(TEST_STAMP)
	CHAOS=full CHAOS_RELOADS=100 $(BIN)/python -m pytest -rP tests/system/chaos

soak: $(TEST_STAMP)
	$(BIN)/python -m tests.bench.soak $(SOAK)

restarts: $(TEST_STAMP)
	$(BIN)/python -m tests.bench.restarts

slow-clients: $(TEST_STAMP)
	$(BIN)/python -m tests.bench.slow_clients $(SLOW)

situations: $(TEST_STAMP)
	$(BIN)/python -m tests.bench.situations

test-pythons:
	tests/pythons.sh

test-systemd: $(TEST_STAMP)
	PYTHONPATH=metrics $(BIN)/python -m tests.system.real_systemd

test-deps:
	@missing=; for program in $(PROGRAMS); do \
	    PATH="$$PATH:/usr/sbin:/sbin" command -v $$program >/dev/null || missing="$$missing $$program"; \
	done; \
	if [ -z "$$missing" ]; then \
	    echo "all there: $(PROGRAMS)"; \
	elif command -v apt-get >/dev/null; then \
	    set -ex; \
	    $(SUDO) apt-get update -qq; \
	    $(SUDO) env DEBIAN_FRONTEND=noninteractive \
	        apt-get install -y -qq --no-install-recommends $(APT_PACKAGES); \
	else \
	    echo "apt-get is not here; install these by hand:$$missing" >&2; exit 1; \
	fi

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed (make PYTHON=...)")'
	$(PYTHON) -m venv $(VENV)

$(SERVE_STAMP): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[fast]'
	@touch $@

$(TEST_STAMP): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[fast,test]'
	@touch $@ $(SERVE_STAMP)

clean:
	[ ! -d build/image ] || $(SUDO) rm -rf build/image
	rm -rf $(VENV) .venv-3.* .venv-bench .venv-fuzz .venv-manifests .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache \
	    .import_linter_cache .hypothesis build dist
	find gthreadsrv metrics tests -name __pycache__ -type d -prune -exec rm -rf {} +
