"""The same comparison, led by coverage: python -m tests.fuzz.guided [--minutes N].

atheris (libFuzzer) changes inputs at will and keeps those that reach new code, in the parsers'
Python and in the layer above them.  It starts from the corpus of the unit tests and from streams
of the grammar, and has its words as a dictionary.  A disagreement, and any exception but a
refusal, ends the run with the input in a file, `--replay FILE` reads it again; exit status 1.

Needs atheris, which is no part of the test extra: `make fuzz-guided` has a `.venv-fuzz` for it.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from random import Random

GENERATED = 500
MEMORY_MB = 1024
# The two bytes in front of the stream: which limits, and where it is cut.
_PREFIX = 2


def read_input(data: bytes) -> tuple[bool, bytes, list[bytes]]:
    """The limits, the stream and its pieces that an input stands for."""
    head, stream = data[:_PREFIX].ljust(_PREFIX, b"\0"), data[_PREFIX:]
    step = head[1]
    size = max(1, step)
    pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
    return bool(head[0] & 1), stream, pieces


def fuzz(arguments: list[str]) -> None:
    """Run libFuzzer in this process; it does not come back."""
    import atheris

    with atheris.instrument_imports(include=["gthreadsrv.http", "h11"]):
        from tests.fuzz.differential import Readers
    readers = Readers()

    def test_one(data: bytes) -> None:
        fault, _ = readers.judge(*read_input(data))
        if fault is not None:
            raise AssertionError(f"the parsers disagree\n{fault}")

    atheris.Setup([sys.argv[0], *arguments], test_one)
    atheris.Fuzz()


def seed_corpus(folder: Path) -> None:
    """What there is of inputs: the unit tests' and some of the grammar's."""
    from tests.fuzz.streams import make_stream
    from tests.unit.http.test_corpus import CASES, load

    for path in CASES:
        (folder / path.stem).write_bytes(b"\0\0" + load(path)[-1])
    for number in range(GENERATED):
        rng = Random(f"guided:{number}")
        prefix = bytes([rng.randrange(2), rng.choice((0, 1, 7, 255))])
        (folder / f"generated-{number}").write_bytes(prefix + make_stream(rng))


def dictionary() -> str:
    """The grammar's words, as libFuzzer reads them."""
    from tests.fuzz import streams

    words: set[bytes] = set()
    for name, value in vars(streams).items():
        if name.isupper() and isinstance(value, list):
            for item in value:
                words.update(item if isinstance(item, tuple) else (item,))
    return "".join(
        '"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n'
        for word in sorted(words)
        if 0 < len(word) <= 64
    )


def replay(path: Path) -> int:
    """Read one input again, without coverage."""
    from tests.fuzz.differential import Readers

    fault, outcome = Readers().judge(*read_input(path.read_bytes()))
    print(fault or outcome)
    return 1 if fault else 0


def run(minutes: float, artifacts: Path) -> int:
    """Fuzz in a process of its own, so that what it has done can be told."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = folder / "corpus"
        corpus.mkdir()
        seed_corpus(corpus)
        (folder / "words").write_text(dictionary())
        done = subprocess.run(
            [
                sys.executable, "-m", "tests.fuzz.guided", "--inside", str(corpus),
                f"-max_total_time={max(1, round(minutes * 60))}", f"-dict={folder / 'words'}",
                f"-rss_limit_mb={MEMORY_MB}", "-max_len=4096", "-timeout=10",
                f"-artifact_prefix={artifacts}{os.sep}", "-print_final_stats=1", "-verbosity=1",
            ],
            stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
        stats = dict(re.findall(r"stat::(\w+):\s+(\d+)", done.stderr))
        last = [line for line in done.stderr.splitlines() if re.match(r"#\d+", line)]
        print(last[-1] if last else done.stderr[-4000:])
        print(
            f"{stats.get('number_of_executed_units', '?')} inputs,"
            f" {stats.get('average_exec_per_sec', '?')} a second,"
            f" {stats.get('new_units_added', '?')} reached new code,"
            f" peak memory {stats.get('peak_rss_mb', '?')} MiB of {MEMORY_MB}; "
            + ("nothing found" if not done.returncode else "FOUND SOMETHING")
        )
        if done.returncode:
            print(done.stderr[-8000:])
        return 1 if done.returncode else 0


def main() -> int:
    """Run the command line."""
    if sys.argv[1:2] == ["--inside"]:
        fuzz(sys.argv[2:])
        return 0
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--artifacts", type=Path, default=Path("."), metavar="DIR")
    parser.add_argument("--replay", type=Path, metavar="FILE")
    options = parser.parse_args()
    if options.replay is not None:
        return replay(options.replay)
    return run(options.minutes, options.artifacts)


if __name__ == "__main__":
    sys.exit(main())
