"""The TLS context of the application's listeners: made from settings; no sockets.

Runs in the master before it forks, and anew at each reload. The keys that session tickets are
encrypted with belong to a context, so with one from before the fork a client may resume at any
worker; and files that only root may read are read before --user takes effect.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Final

from gthreadsrv.errors import ConfigError, GthreadsrvError

if TYPE_CHECKING:
    from gthreadsrv.settings import Settings

__all__ = ["make_context"]

_MINIMUM: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def make_context(settings: Settings) -> ssl.SSLContext:
    """The context these settings ask for; ConfigError when there can be none."""

    def default_ssl_context_factory() -> ssl.SSLContext:
        return _default_context(settings)

    hook = settings.ssl_context
    if hook is None:
        return default_ssl_context_factory()
    try:
        context = hook(settings, default_ssl_context_factory)
    except GthreadsrvError:
        raise
    # It is somebody's program; all of it means: not these settings.
    except Exception as error:  # noqa: BLE001  becomes the one line for the user
        words = " ".join(str(error).split())
        raise ConfigError(
            f"ssl_context: {type(error).__name__}: {words}; correct the configuration file"
        ) from None
    if not isinstance(context, ssl.SSLContext):
        raise ConfigError(
            f"ssl_context: it returned {context!r}; it must return an ssl.SSLContext, such as "
            "the one that default_ssl_context_factory() makes"
        )
    return context


def _default_context(settings: Settings) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _MINIMUM[settings.tls_minimum]
    # A client could have us compute for as long as it likes (OpenSSL 3 refuses by itself).
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    if settings.ciphers is not None:
        try:
            context.set_ciphers(settings.ciphers)
        except ssl.SSLError:
            raise ConfigError(
                f"ciphers: OpenSSL knows none of {settings.ciphers!r}; "
                "`openssl ciphers -v` lists them"
            ) from None
    if settings.certfile is not None:
        _load_certificate(context, settings.certfile, settings.keyfile)
    _load_authorities(context, settings)
    return context


def _load_certificate(context: ssl.SSLContext, certfile: str, keyfile: str | None) -> None:
    if b"CERTIFICATE-----" not in _read("certfile", certfile):
        raise ConfigError(f"certfile: {certfile} holds no certificate; it must be a PEM file")
    name, path = ("certfile", certfile) if keyfile is None else ("keyfile", keyfile)
    if b"PRIVATE KEY-----" not in _read(name, path):
        advice = "; name its file with --keyfile" if keyfile is None else ""
        raise ConfigError(f"{name}: {path} holds no private key in PEM form{advice}")

    def refuse() -> str:
        # Without this OpenSSL would ask on the terminal, at a reload too.
        raise ConfigError(f"{name}: the key in {path} is encrypted; decrypt it (openssl pkey)")

    try:
        context.load_cert_chain(certfile, keyfile, refuse)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(
                f"{name}: the key in {path} does not belong to the certificate in {certfile}"
            ) from None
        raise ConfigError(
            f"certfile: {certfile} and the key in {path} cannot be used: {_words(error)}"
        ) from None


def _load_authorities(context: ssl.SSLContext, settings: Settings) -> None:
    ca_certs = settings.ca_certs
    if ca_certs is not None:
        _read("ca_certs", ca_certs)
        try:
            context.load_verify_locations(ca_certs)
        except ssl.SSLError as error:
            raise ConfigError(
                f"ca_certs: {ca_certs} holds no certificates that can be used: {_words(error)}"
            ) from None
    elif settings.cert_reqs:
        raise ConfigError(
            f"cert_reqs: {settings.cert_reqs} asks clients for certificates, but nobody may have "
            "signed them; name the signers with --ca-certs"
        )
    context.verify_mode = ssl.VerifyMode(settings.cert_reqs)


def _read(name: str, path: str) -> bytes:
    """A file's bytes: OpenSSL does not say which of them it could not read."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ConfigError(f"{name}: cannot read {path}: {error.strerror}") from None


def _words(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).replace("_", " ").lower()
