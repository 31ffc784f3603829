"""Compiled programs that processes share on disk, so that each is compiled once and not by every task."""

import hashlib
import os
import platform
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import jax

from lambda_hat_cli.targets.threads import hold_compiler_threads

ENTRIES = "*-cache"
# What decides which instructions XLA may use, as Linux tells it on x86 and on ARM.
PROCESSOR = ("model name", "flags", "CPU implementer", "CPU part", "Features")


@contextmanager
def shared_programs(folder: Path | None, tell: Callable[[str], None]) -> Iterator[Callable[[], None]]:
    """Within, JAX takes compiled programs from `folder`; what is yielded puts there those compiled since.

    JAX writes an entry where it is read. So every process has a folder of its own, with links to the entries that were
    there when it started, and each new entry is copied under another name and renamed: readers see whole entries,
    whoever writes at the same time or is killed. Programs for other processors or other numbers of threads are apart.

    The compiler is held to the task's CPUs first, by compiling: JAX would take that from the folder too.

    What fails with files is told once, in a line, and compiling goes on; without a folder nothing is shared.
    """
    hold_compiler_threads()
    if folder is None:
        yield lambda: None
        return
    shared = folder / _machine()
    told = False

    def trouble(error: OSError) -> None:
        nonlocal told
        if not told:
            tell(f"{folder}: compiled programs cannot be shared ({error.strerror}); they are compiled again")
        told = True

    with tempfile.TemporaryDirectory(prefix="compiled-") as place:
        own = Path(place)
        try:
            shared.mkdir(parents=True, exist_ok=True)
            for entry in shared.glob(ENTRIES):
                (own / entry.name).symlink_to(entry.resolve())
        except OSError as error:
            trouble(error)
        jax.config.update("jax_compilation_cache_dir", place)
        # Otherwise programs that take less than a second stay out, which are most of them.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
        jax.config.update("jax_persistent_cache_enable_xla_caches", "none")

        def share() -> None:
            try:
                for entry in own.glob(ENTRIES):
                    if not entry.is_symlink() and not (shared / entry.name).exists():
                        _put(entry, shared)
            except OSError as error:
                trouble(error)

        try:
            yield share
        finally:
            jax.config.update("jax_compilation_cache_dir", None)


def _put(entry: Path, shared: Path) -> None:
    """Copy a file into `shared`, where it appears whole or not at all."""
    draft = shared / f".{entry.name}.{uuid.uuid4().hex}"
    try:
        shutil.copyfile(entry, draft)
        draft.rename(shared / entry.name)
    finally:
        draft.unlink(missing_ok=True)


def _machine() -> str:
    """A name for machines and settings that can run each other's programs and get the same digits."""
    about = [platform.machine(), os.environ.get("NPROC", "")]
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        about.append(platform.processor())
    else:
        about += sorted({line for line in lines if line.startswith(PROCESSOR)})
    return hashlib.sha256("\n".join(about).encode()).hexdigest()[:12]
