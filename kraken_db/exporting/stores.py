"""Object stores: S3 and what speaks like it, Google Cloud Storage, Azure, and a folder, for Delta tables.

The library is obstore: of those that were compared (pyarrow.fs, fsspec with s3fs, gcsfs and adlfs) it alone
has conditional writes, for all stores in one wheel of 6 MB, and takes credentials from the usual environment.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from kraken_db.errors import ConfigurationError
from kraken_db.exporting.places import PlaceFailedError, is_url
from kraken_db.extras import require

SCHEMES = {"s3": "AWS", "s3a": "AWS", "gs": "GOOGLE", "az": "AZURE", "azure": "AZURE", "abfs": "AZURE"}
# A large object on a slow line takes minutes; an address where nobody answers should not.
_CLIENT: dict[str, Any] = {"connect_timeout": timedelta(seconds=10), "read_timeout": timedelta(seconds=60)}
_RETRIES: dict[str, Any] = {"max_retries": 4, "retry_timeout": timedelta(minutes=2)}
# What a signature was made of, and keys, are in the bodies of some answers: of these only the code is told.
_CODE = re.compile(r"<Code>(\w+)</Code>|\"(?:reason|code)\":\s*\"(\w+)\"")
_STATUS = re.compile(r"status code: (\d{3})")
_CREDENTIALS = {
    "AWS": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION",
    "GOOGLE": "GOOGLE_APPLICATION_CREDENTIALS",
    "AZURE": "AZURE_STORAGE_ACCOUNT_NAME, AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN",
}
_NOT_ACCEPTED = {
    "ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken",
    "TokenRefreshRequired", "AuthenticationFailed",
}  # fmt: skip


class ObjectChangedError(Exception):
    """A conditional write or read that met another version of the object than it named."""


@dataclass(frozen=True, slots=True)
class Held:
    """A version of an object."""

    tag: str
    """Its ETag."""
    version: str | None
    """What Google's stores compare instead."""
    size: int
    modified: datetime | None = None


class Bucket:
    """Objects below one address. All methods block. Raises PlaceFailedError where the store refuses."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._obstore = require("obstore", "object stores", extra="lake")
        self._kind: str | None = None
        with self._told():
            self._store = self._open()

    def _open(self) -> Any:
        from obstore.store import LocalStore, from_url

        if not is_url(self.url):
            return LocalStore(Path(self.url).absolute(), mkdir=True)
        scheme = self.url.partition("://")[0]
        self._kind = SCHEMES.get(scheme)
        if self._kind is None:
            raise ConfigurationError(
                f"{scheme}:// is not known", hint=f"known: a folder, {', '.join(f'{s}://' for s in SCHEMES)}"
            )
        host = self.url.partition("://")[2].partition("/")[0]
        if "?" in self.url or ("@" in host and self._kind != "AZURE"):
            # It is not repeated: what is more than an address may be a password.
            raise ConfigurationError(
                f"an address is {scheme}://bucket/path, without more",
                hint=f"credentials belong into the environment: {_CREDENTIALS[self._kind]}",
            )
        if not host:
            raise ConfigurationError(f"{self.url} names no bucket", hint=f"{scheme}://bucket/path")
        options: dict[str, Any] = {
            "client_options": {**_CLIENT, "allow_http": allows_http()},
            "retry_config": _RETRIES,
        }
        return from_url(self.url, **options)

    def where(self, path: str) -> str:
        return f"{self.url}/{path}"

    def below(self, prefix: str) -> dict[str, Held]:
        """What lies below a prefix, by its path."""
        with self._told():
            chunks = self._obstore.list(self._store, prefix=prefix)
            return {found["path"]: self._held(found) for chunk in chunks for found in chunk}

    def folders(self, prefix: str | None = None) -> list[str]:
        """The names of the folders right below a prefix."""
        with self._told():
            found = self._obstore.list_with_delimiter(self._store, prefix)["common_prefixes"]
            return [str(name) for name in found]

    def get(self, path: str, tag: str | None = None) -> tuple[bytes, Held] | None:
        """An object whole; None where there is none.

        Raises ObjectChangedError where it is another version than ``tag``.
        """
        with self._told():
            try:
                found = self._obstore.get(self._store, path, options={"if_match": tag} if tag else None)
                return bytes(found.bytes()), self._held(found.meta)
            except FileNotFoundError as error:
                if _code(error) == "NoSuchBucket":
                    raise
                return None
            except self._obstore.exceptions.PreconditionError:
                raise ObjectChangedError(path) from None

    def put(self, path: str, content: bytes, over: Held | None) -> Held:
        """Write an object whole by one request, over the version that is there, or where there is none.

        Raises ObjectChangedError where something else is there.
        """
        mode: Any = "create" if over is None else {"e_tag": over.tag}
        if over is not None and self._kind is None:
            # A folder has no such condition: there the lock of the run is enough.
            mode = "overwrite"
        elif over is not None and over.version is not None:
            mode["version"] = over.version
        errors = self._obstore.exceptions
        with self._told():
            try:
                made = self._obstore.put(self._store, path, content, mode=mode, use_multipart=False)
            except (errors.AlreadyExistsError, errors.PreconditionError):
                # The first answer may have been lost: then what is there is what we have written.
                found = self.get(path)
                if found is None or found[0] != content:
                    raise ObjectChangedError(path) from None
                return found[1]
        return Held(self._tag(made), made["version"], len(content))

    def copy(self, path: str, to: str) -> None:
        with self._told():
            self._obstore.copy(self._store, path, to)

    def remove(self, paths: list[str]) -> None:
        with self._told():
            for path in paths:
                try:
                    self._obstore.delete(self._store, path)
                except FileNotFoundError:
                    continue

    def _held(self, meta: Mapping[str, Any]) -> Held:
        return Held(self._tag(meta), meta.get("version"), meta["size"], meta["last_modified"])

    def _tag(self, meta: Mapping[str, Any]) -> str:
        """Azure's lists have ETags without the quotes that its other answers have, and that it asks for."""
        tag = meta["e_tag"] or ""
        return f'"{tag}"' if self._kind == "AZURE" and tag and not tag.startswith('"') else tag

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What the store says against a request, as an error of this package, without a secret."""
        try:
            yield
        except ConfigurationError:
            raise
        except (self._obstore.exceptions.BaseError, OSError, ValueError) as error:
            raise self._failure(error) from None

    def _failure(self, error: Exception) -> PlaceFailedError:
        code, status = _code(error), _STATUS.search(str(error))
        named = _CREDENTIALS.get(self._kind or "", "")
        if code in ("NoSuchBucket", "ContainerNotFound"):
            return PlaceFailedError(f"{self.url}: there is no such bucket", hint="make it first")
        if code in _NOT_ACCEPTED or isinstance(error, self._obstore.exceptions.UnauthenticatedError):
            return PlaceFailedError(
                f"{self.url}: the credentials are not accepted ({code or 'unknown, or expired'})",
                hint=f"renew them in the environment: {named}",
            )
        if isinstance(error, self._obstore.exceptions.PermissionDeniedError):
            return PlaceFailedError(
                f"{self.url}: access is denied ({code or '403'})",
                hint="the credentials need the rights to list, read, write and delete below this address",
            )
        if code is None and status is not None and status[1] in ("401", "403"):
            return PlaceFailedError(
                f"{self.url}: no credentials are accepted ({status[1]})",
                hint=f"set them in the environment: {named}",
            )
        if code == "NotImplemented":
            return PlaceFailedError(
                f"{self.url}: the store does not know conditional writes (If-Match, If-None-Match)",
                hint="update it: without them two exports could mix; or export into a folder, and copy that",
            )
        if code is not None or status is not None:
            said = " ".join(filter(None, [status and status[1], code]))
            return PlaceFailedError(f"{self.url}: the store refuses: {said}", hint="run it again later")
        if isinstance(error, OSError) and error.strerror:
            return PlaceFailedError(f"{self.url}: {error.strerror}")
        return PlaceFailedError(
            f"{self.url}: {_cause(error)}",
            hint=f"look at the address, and at the environment: {named}, {self._kind}_ENDPOINT_URL"
            if self._kind
            else None,
        )


def allows_http() -> bool:
    """Whether the environment names an endpoint without TLS, such as one on this machine."""
    endpoints = [value for name, value in os.environ.items() if "ENDPOINT" in name.upper()]
    return any(value.startswith("http://") for value in endpoints)


def _code(error: Exception) -> str | None:
    found = _CODE.search(str(error))
    return found and (found[1] or found[2])


def _cause(error: Exception) -> str:
    """Why nobody has answered. The text names the request, and may go on with what was sent."""
    text = str(error)
    for said, told in (
        ("dns error", "its host is not known"),
        ("onnection refused", "nobody answers there"),
        ("timed out", "it does not answer in time"),
        ("TimedOut", "it does not answer in time"),
        ("scheme is not allowed", "an address without TLS is taken from a variable of an endpoint alone"),
        ("onfig", "the address or the environment is not as it should be"),
        ("redential", "there are no credentials"),
    ):
        if said in text:
            return told
    return "the request failed"
