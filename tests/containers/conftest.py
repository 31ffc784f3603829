"""Images that the tests of this folder share."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from containers.images import Podman, make_base, make_images, working_podman


@dataclass(frozen=True)
class Images:
    """The images of the stages by stage, and how podman runs them."""

    podman: Podman
    base: str
    names: dict[str, str]


@pytest.fixture(scope="session")
def images() -> Images:
    base = make_base()
    podman = working_podman(base)
    names = make_images(podman, base)
    return Images(podman, base, {name.rsplit(":", 1)[1].split("-")[0]: name for name in names})


@pytest.fixture(scope="session")
def unpacked(images: Images) -> Iterator[str]:
    """The path by which the charliecloud profile finds the same images as folders."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "lambda-hat")
        make_images(images.podman, images.base, "charliecloud", {"IMAGE_NAME": path})
        yield path
