"""Compiled programs that processes share on disk, so that each is compiled once and not by every task."""

import hashlib
import os
import platform
import shutil
import tempfile
import uuid
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache

from lambda_hat_cli.targets.threads import hold_compiler_threads

SUFFIX = "-cache"
# What tells processors apart, as Linux says it on x86 and on ARM.
PROCESSOR = ("model", "cpu family", "stepping", "flags", "CPU ", "Features")
# What JAX's own key leaves out or tells only after the entries were looked through.
SETTINGS = ("NPROC", "JAX_NUM_CPU_DEVICES", "JAX_ENABLE_X64", "JAX_PLATFORMS")


@contextmanager
def shared_programs(folder: Path | None, beside: Path, tell: Callable[[str], None]) -> Iterator[Callable[[], None]]:
    """Within, JAX takes compiled programs from `folder`; what is yielded puts there those compiled since.

    JAX writes an entry in place, where others would read it. So every process has a folder of its own, in `beside`,
    with the entries that were there when it started, and each whole new entry is copied under another name and renamed:
    no reader and no killed writer leaves half of one. Programs for other processors, numbers of threads and devices,
    precisions and versions are apart.

    The compiler is held to the task's CPUs first, by compiling: JAX would take that from the folder too.

    What fails with files is told once, in a line, and compiling goes on; without a folder nothing is shared.
    """
    hold_compiler_threads()
    if folder is None:
        yield lambda: None
        return
    told = False

    def trouble(error: OSError) -> None:
        nonlocal told
        if not told:
            tell(
                f"{folder}: compiled programs cannot be shared ({error.strerror}), so they are compiled again; make "
                "the folder writable, or do without it (--compile_cache false, no --compiled)"
            )
        told = True

    try:
        shared = folder.resolve() / _machine()
        shared.mkdir(parents=True, exist_ok=True)
        beside.mkdir(parents=True, exist_ok=True)
        place = tempfile.TemporaryDirectory(prefix=".compiled-", dir=beside, ignore_cleanup_errors=True)
    except OSError as error:
        trouble(error)
        yield lambda: None
        return
    with place:
        own = Path(place.name)
        known = _taken(shared, own, trouble)
        jax.config.update("jax_compilation_cache_dir", place.name)
        # Otherwise programs that take less than a second stay out, which are most of them.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
        jax.config.update("jax_persistent_cache_enable_xla_caches", "none")
        compilation_cache.reset_cache()

        def share() -> None:
            try:
                for name in _entries(own) - known:
                    known.add(name)
                    if not (shared / name).exists() and _is_whole(own / name):
                        _put(own / name, shared)
            except OSError as error:
                trouble(error)

        try:
            yield share
        finally:
            jax.config.update("jax_compilation_cache_dir", None)
            compilation_cache.reset_cache()


def _entries(folder: Path) -> set[str]:
    """The names of the programs in a folder."""
    with os.scandir(folder) as files:
        return {file.name for file in files if file.name.endswith(SUFFIX) and not file.name.startswith(".")}


def _taken(shared: Path, own: Path, trouble: Callable[[OSError], None]) -> set[str]:
    """The names of the shared entries, which are put in `own`: as the same files where the file system can do that."""
    known: set[str] = set()
    try:
        for name in _entries(shared):
            try:
                os.link(shared / name, own / name)
            except OSError:
                shutil.copyfile(shared / name, own / name)
            known.add(name)
    except OSError as error:
        trouble(error)
    return known


def _is_whole(entry: Path) -> bool:
    """Whether JAX could write an entry to its end, as it cannot on a full disk."""
    try:
        zlib.decompress(entry.read_bytes())
    except zlib.error:
        return False
    return True


def _put(entry: Path, shared: Path) -> None:
    """Copy a file into `shared`, where it appears whole or not at all."""
    draft = shared / f".{entry.name}.{uuid.uuid4().hex}"
    try:
        shutil.copyfile(entry, draft)
        draft.rename(shared / entry.name)
    finally:
        draft.unlink(missing_ok=True)


def _machine() -> str:
    """A name for processes that can run each other's programs and would compile the same."""
    about = [platform.machine(), version("jaxlib"), *(os.environ.get(name, "") for name in SETTINGS)]
    if hasattr(os, "sched_getaffinity"):
        about.append(str(len(os.sched_getaffinity(0))))
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        about.append(platform.processor())
    else:
        about += sorted({line for line in lines if line.startswith(PROCESSOR)})
    return hashlib.sha256("\n".join(about).encode()).hexdigest()[:12]
