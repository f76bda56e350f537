"""Packs an agent's folder for an upload."""

from __future__ import annotations

import gzip
import os
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import ConfigError

#: What tools write and builds make anew. `vendor` is source and stays.
EXCLUDED = frozenset(
    {
        ".git",
        ".hg",
        ".mypy_cache",
        ".pytest_cache",
        ".ruff_cache",
        ".venv",
        "__pycache__",
        "node_modules",
    }
)


@contextmanager
def source_archive(source: str | os.PathLike[str]) -> Iterator[Path]:
    """A tar.gz of a folder, in a temporary file; or `source` itself when it is one.

    The same content gives the same bytes, so that the server can tell that
    there is nothing to build.
    """
    path = Path(source)
    if path.is_file():
        yield path
        return
    if not path.is_dir():
        raise ConfigError(f"{path} is neither a folder nor an archive")
    with tempfile.TemporaryDirectory(prefix="parallax-") as scratch:
        archive = Path(scratch) / "source.tar.gz"
        _pack(path, archive)
        yield archive


def _pack(folder: Path, archive: Path) -> None:
    with (
        archive.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path in _entries(folder):
            info = tar.gettarinfo(path, arcname=path.relative_to(folder).as_posix())
            info.mtime = 0
            info.uid = info.gid = 0
            info.uname = info.gname = ""
            info.mode = 0o755 if info.isdir() or info.mode & 0o100 else 0o644
            if info.isreg():
                with path.open("rb") as content:
                    tar.addfile(info, content)
            elif info.isdir() or info.issym():
                tar.addfile(info)
            else:
                raise ConfigError(f"{path} is no file, folder or link: it cannot be uploaded")


def _entries(folder: Path) -> Iterator[Path]:
    """Depth first and in the order of names."""
    for path in sorted(folder.iterdir()):
        if path.name in EXCLUDED:
            continue
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from _entries(path)
