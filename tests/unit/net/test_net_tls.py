"""The TLS context: what settings make of it, and one line for each thing that can be wrong."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gthreadsrv.errors import ConfigError
from gthreadsrv.net.tls import make_context
from gthreadsrv.settings import Settings
from tests.certificates import Authority, Files


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def files(authority: Authority) -> Files:
    return authority.issue("server")


def settings(files: Files, **values: Any) -> Settings:
    return Settings(**{"certfile": files.certfile, "keyfile": files.keyfile, **values})


def test_the_default_is_a_modern_server_that_asks_no_client(files: Files) -> None:
    """TLS 1.2 and newer, no renegotiation, HTTP/1.1 by ALPN."""
    context = make_context(settings(files))
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert context.verify_mode == ssl.CERT_NONE


def test_settings_reach_the_context(files: Files, authority: Authority) -> None:
    """Minimum version, ciphers, whom clients' certificates must be from."""
    context = make_context(
        settings(
            files,
            tls_minimum="1.3",
            ciphers="ECDHE-RSA-AES128-GCM-SHA256",
            ca_certs=authority.ca_certs,
            cert_reqs=1,
        )
    )
    assert context.minimum_version == ssl.TLSVersion.TLSv1_3
    older = {one["name"] for one in context.get_ciphers() if one["protocol"] != "TLSv1.3"}
    assert older == {"ECDHE-RSA-AES128-GCM-SHA256"}
    assert context.verify_mode == ssl.CERT_OPTIONAL
    assert len(context.get_ca_certs()) == 1


def test_key_and_certificate_may_be_one_file(files: Files, tmp_path: Path) -> None:
    """As many tools write them."""
    both = tmp_path / "both.pem"
    both.write_bytes(Path(files.keyfile).read_bytes() + Path(files.certfile).read_bytes())
    make_context(Settings(certfile=str(both)))


def refusal(**values: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        make_context(Settings(**values))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_files_that_cannot_be_read_are_named(files: Files, tmp_path: Path) -> None:
    """OpenSSL does not say which it was."""
    missing = str(tmp_path / "missing.pem")
    assert (
        refusal(certfile=missing) == f"certfile: cannot read {missing}: No such file or directory"
    )
    assert refusal(certfile=files.certfile, keyfile=missing).startswith("keyfile: cannot read")
    assert refusal(
        certfile=files.certfile, keyfile=files.keyfile, ca_certs=str(tmp_path)
    ).startswith(f"ca_certs: cannot read {tmp_path}: Is a directory")


def test_files_that_hold_something_else_are_named(files: Files, tmp_path: Path) -> None:
    """The two swapped, one of them alone, text, and a certificate that is cut off."""
    text, cut = tmp_path / "text.pem", tmp_path / "cut.pem"
    text.write_text("hello")
    cut.write_bytes(Path(files.certfile).read_bytes()[:200])
    assert "holds no certificate; it must be a PEM file" in refusal(certfile=str(text))
    assert "holds no certificate" in refusal(certfile=files.keyfile, keyfile=files.certfile)
    assert "holds no private key in PEM form; name its file with --keyfile" in refusal(
        certfile=files.certfile
    )
    assert "holds no private key" in refusal(certfile=files.certfile, keyfile=str(text))
    assert "cannot be used: " in refusal(certfile=str(cut), keyfile=files.keyfile)
    assert "holds no certificates that can be used" in refusal(
        certfile=files.certfile, keyfile=files.keyfile, ca_certs=str(text)
    )


def test_a_key_of_another_certificate(files: Files, authority: Authority) -> None:
    """The usual mistake when certificates are renewed."""
    other = authority.issue("other")
    assert refusal(certfile=files.certfile, keyfile=other.keyfile) == (
        f"keyfile: the key in {other.keyfile} does not belong to the certificate in "
        f"{files.certfile}"
    )


@pytest.mark.program("openssl")
def test_nobody_is_asked_for_a_passphrase(files: Files, tmp_path: Path) -> None:
    """A server that waits for one on the terminal would never start, or reload, unattended."""
    locked = tmp_path / "locked.key"
    subprocess.run(
        ["openssl", "pkey", "-in", files.keyfile, "-aes256", "-passout", "pass:x", "-out", locked],
        check=True,
        stdin=subprocess.DEVNULL,
    )
    assert f"keyfile: the key in {locked} is encrypted" in refusal(
        certfile=files.certfile, keyfile=str(locked)
    )


def test_ciphers_and_authorities_that_make_no_sense(files: Files) -> None:
    """A list of nothing, and a demand that nobody can meet."""
    both = {"certfile": files.certfile, "keyfile": files.keyfile}
    assert "OpenSSL knows none of 'NONSENSE'" in refusal(**both, ciphers="NONSENSE")
    assert "name the signers with --ca-certs" in refusal(**both, cert_reqs=2)


def test_the_hook_gets_settings_and_factory_and_has_the_last_word(files: Files) -> None:
    """As gunicorn calls it, but once, not for each connection."""
    seen: list[Settings] = []

    def ssl_context(conf: Settings, default_factory: Callable[[], Any]) -> Any:
        seen.append(conf)
        context = default_factory()
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        return context

    given = settings(files, ssl_context=ssl_context)
    assert make_context(given).minimum_version == ssl.TLSVersion.TLSv1_3
    assert seen == [given]


def test_the_hook_alone_may_bring_the_certificate(files: Files) -> None:
    """From a vault, say."""

    def ssl_context(_conf: Settings, default_factory: Callable[[], Any]) -> Any:
        context = default_factory()
        context.load_cert_chain(files.certfile, files.keyfile)
        return context

    assert isinstance(make_context(Settings(ssl_context=ssl_context)), ssl.SSLContext)


def test_a_hook_that_fails_is_one_line(files: Files) -> None:
    """What it raises, what it returns, and how it was written."""

    def fails(_conf: Settings, _factory: object) -> Any:
        raise RuntimeError("no\nvault")

    def returns_nothing(_conf: Settings, _factory: object) -> Any:
        return None

    def takes_one(_conf: Settings) -> Any:
        return None

    def passes_on(_conf: Settings, factory: Callable[[], Any]) -> Any:
        return factory()

    assert refusal(ssl_context=fails) == (
        "ssl_context: RuntimeError: no vault; correct the configuration file"
    )
    assert "it returned None; it must return an ssl.SSLContext" in refusal(
        ssl_context=returns_nothing
    )
    assert "ssl_context: TypeError: " in refusal(ssl_context=takes_one)
    assert refusal(certfile="/not/there", ssl_context=passes_on).startswith("certfile: cannot read")
