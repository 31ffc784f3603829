"""Local learning coefficients with intervals and verdicts: the pipeline's stages, and `estimate_llc` for notebooks."""

import importlib
from typing import Any

_FROM_API = ("LLCEstimate", "estimate_llc")


def __getattr__(name: str) -> Any:
    """What needs JAX is imported on first use, by a name that is text: the stages without JAX are not to depend on it.

    Raises:
        ImportError: when its packages are not installed, with how to get them.
    """
    if name not in _FROM_API:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        api = importlib.import_module(f"{__name__}.api")
    except ModuleNotFoundError as missing:
        package = (missing.name or "").partition(".")[0]
        if package == __name__:
            raise
        raise ImportError(
            f"{name} needs the package {package}, which is not installed here: install lambda-hat-cli[sample], or "
            "lambda-hat-cli[sample,analyze] for its pictures too"
        ) from missing
    return getattr(api, name)


def __dir__() -> list[str]:
    return [*globals(), *_FROM_API]
