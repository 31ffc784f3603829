"""The project's images, built by its own script on a base of Debian's packages, and how podman runs them here."""

import os
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from pipeline.nextflow_run import PROJECT

BASE = "localhost/lambda-hat-test-base:bookworm"
SECRET = "certificates-of-the-building-host"
# What podman needs where the usual way is not allowed, as inside another sandbox.
ENGINE_OPTIONS = ((), ("--runtime", "runc"), ("--runtime", "crun"))
RUN_OPTIONS = ((), ("--network=host",), ("--network=host", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"))
BUILD_OPTIONS = ("--isolation=chroot", "--network=host", "--layers")


@dataclass(frozen=True)
class Podman:
    """Options with which podman runs a container on this machine: of the engine, and of its run command."""

    engine: tuple[str, ...]
    run: tuple[str, ...]

    def output(self, image: str, *command: str, user: str | None = None) -> str:
        """What a command prints in a container."""
        whole = ["podman", *self.engine, "run", "--rm", *self.run, *(["--user", user] if user else []), image, *command]
        return subprocess.run(whole, capture_output=True, text=True, check=True).stdout

    def settings(self, folder: Path) -> tuple[str, ...]:
        """Arguments of the pipeline that make its podman tasks run with these options."""
        config = folder / "podman.config"
        config.write_text(f"podman.engineOptions = '{' '.join(self.engine)}'\n", encoding="utf-8")
        return ("-c", str(config), f"--container_options={' '.join(self.run)}")


def make_base() -> str:
    """An image of Debian's smallest system, from the package archive: no registry of images is needed."""
    given = os.environ.get("LAMBDA_HAT_BASE_IMAGE")
    if given:
        return given
    known = subprocess.run(["podman", "image", "exists", BASE], check=False)
    if known.returncode != 0:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "root"
            subprocess.run(["debootstrap", "--variant=minbase", "bookworm", root], capture_output=True, check=True)
            for left_over in (
                "var/cache/apt",
                "var/lib/apt/lists",
                "usr/share/doc",
                "usr/share/man",
                "usr/share/locale",
            ):
                subprocess.run(["find", root / left_over, "-mindepth", "1", "-delete"], check=True)
            with subprocess.Popen(["tar", "-C", root, "-c", "."], stdout=subprocess.PIPE) as packed:
                subprocess.run(["podman", "import", "-", BASE], stdin=packed.stdout, capture_output=True, check=True)
    return BASE


def working_podman(image: str) -> Podman:
    """The first of the known ways that runs a command in a container of `image`.

    Raises:
        RuntimeError: when none does, with what podman said last.
    """
    for engine, run in product(ENGINE_OPTIONS, RUN_OPTIONS):
        command = ["podman", *engine, "run", "--rm", *run, image, "true"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return Podman(engine, run)
    raise RuntimeError(f"podman runs no container here: {done.stderr}")


def marked_certificates() -> dict[str, str]:
    """CA_BUNDLE: the certificates that this machine trusts, with a line in them that must be found in no image."""
    known = [os.environ.get(name, "") for name in ("CA_BUNDLE", "PIP_CERT", "SSL_CERT_FILE")]
    source = next((Path(name) for name in [*known, "/etc/ssl/certs/ca-certificates.crt"] if name), None)
    if source is None or not source.is_file():
        return {}
    marked = Path(tempfile.gettempdir()) / f"{SECRET}.pem"
    marked.write_text(f"# {SECRET}\n{source.read_text(encoding='utf-8')}", encoding="utf-8")
    return {"CA_BUNDLE": str(marked)}


def make_images(
    podman: Podman, base: str, engine: str = "podman", environment: Mapping[str, str] | None = None
) -> list[str]:
    """The names of the images that scripts/images makes; what it made before is taken from podman's cache of layers."""
    settings = {
        **marked_certificates(),
        "BUILD_OPTIONS": " ".join([*podman.engine, *BUILD_OPTIONS]),
        "PODMAN_OPTIONS": " ".join(podman.engine),
        **(environment or {}),
    }
    done = subprocess.run(
        [PROJECT / "scripts" / "images", engine, base],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()
