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

#: Names that an upload leaves out at any depth, as `parallax deploy` does: what is
#: made anew, and what belongs to tools. `vendor` is source and stays.
EXCLUDED = frozenset(
    {
        ".DS_Store",
        ".git",
        ".hg",
        ".idea",
        ".mypy_cache",
        ".parallax",
        ".pytest_cache",
        ".ruff_cache",
        ".svn",
        ".venv",
        ".vscode",
        "__pycache__",
        "node_modules",
    }
)
#: `.env` files hold secrets; these are templates of such files.
TEMPLATES = frozenset({".env.example", ".env.sample", ".env.template"})
#: What `parallax deploy` reads in place of the above.
IGNORE_FILE = ".parallaxignore"


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
    if (path / IGNORE_FILE).exists():
        # It may keep secrets out, and a guess at its patterns could let them in.
        raise ConfigError(
            f"{path} has a {IGNORE_FILE}, which only `parallax deploy` reads: use that, or pass "
            "a tar.gz of your own"
        )
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
            elif info.isdir() or (info.issym() and _stays_inside(info)):
                tar.addfile(info)
            elif info.issym():
                raise ConfigError(
                    f"{path} leads out of the folder, to {info.linkname}: an upload holds only "
                    "its own files"
                )
            else:
                raise ConfigError(f"{path} is no file, folder or link: it cannot be uploaded")


def _stays_inside(link: tarfile.TarInfo) -> bool:
    target = os.path.normpath(os.path.join(os.path.dirname(link.name), link.linkname))
    return not os.path.isabs(link.linkname) and target.split(os.sep)[0] != os.pardir


def _entries(folder: Path, top: bool = True) -> Iterator[Path]:
    """Depth first and in the order of names."""
    for path in sorted(folder.iterdir()):
        if _excluded(path.name, top):
            continue
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from _entries(path, top=False)


def _excluded(name: str, top: bool) -> bool:
    secret = (name == ".env" or name.startswith(".env.")) and name not in TEMPLATES
    # `target` is a build's output only where the source begins.
    built = name.endswith(".pyc") or (name == "target" and top)
    return name in EXCLUDED or secret or built
