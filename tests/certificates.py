"""Certificates for tests: an authority, and files signed by it."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Files:
    """A certificate and its key, as PEM files."""

    certfile: str
    keyfile: str


class Authority:
    """Signs certificates for localhost and 127.0.0.1, and for clients."""

    def __init__(self, folder: Path) -> None:
        """Files are written there; each authority is trusted by those who ask it alone."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._ca = trustme.CA()
        self.ca_certs = str(folder / "ca.pem")
        self._ca.cert_pem.write_to_path(self.ca_certs)

    def issue(self, name: str, *identities: str) -> Files:
        """A new certificate in files of that name."""
        leaf = self._ca.issue_cert(*identities or ("localhost", "127.0.0.1"), common_name=name)
        files = Files(str(self.folder / f"{name}.pem"), str(self.folder / f"{name}.key"))
        for number, blob in enumerate(leaf.cert_chain_pems):
            blob.write_to_path(files.certfile, append=number > 0)
        leaf.private_key_pem.write_to_path(files.keyfile)
        return files

    def client(
        self, version: ssl.TLSVersion | None = None, files: Files | None = None
    ) -> ssl.SSLContext:
        """A client that trusts this authority, with a certificate of its own if it has one."""
        context = ssl.create_default_context(cafile=self.ca_certs)
        if version is not None:
            context.minimum_version = context.maximum_version = version
        if files is not None:
            context.load_cert_chain(files.certfile, files.keyfile)
        return context

    def server(self, **options: int) -> ssl.SSLContext:
        """A server's context with a certificate for localhost."""
        files = self.issue("server")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files.certfile, files.keyfile)
        for name, value in options.items():
            setattr(context, name, value)
        return context
