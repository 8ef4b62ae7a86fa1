"""From the files of an artifact to a loaded model. Every mistake in an artifact is one sentence."""

from collections.abc import Callable
from pathlib import Path

from model_server.predictor import Predictor

PICKLED = (".joblib", ".pkl")
FORMATS = {
    "sklearn": PICKLED,
    "xgboost": (".ubj", ".json", *PICKLED),
    "lightgbm": (".txt", *PICKLED),
    "onnx": (".onnx",),
}
"""Format -> suffixes of its model files, the one that people should write first."""
LIBRARIES = {"sklearn": "scikit-learn", "xgboost": "XGBoost", "lightgbm": "LightGBM", "onnx": "ONNX"}


class ArtifactError(Exception):
    """The artifact does not hold exactly one model of the format; the message is for a person."""


def load(directory: Path, format_: str | None = None) -> Predictor:
    """The model of a directory, of the format named, or of any that its file's name tells."""
    path = model_file(directory, format_)
    try:
        return _loader(path.suffix)(path)
    except ArtifactError:
        raise
    except Exception as error:  # libraries and unpickled code raise what they like
        first = (str(error).strip().splitlines() or [""])[0][:200]
        kind = f"{LIBRARIES[format_]} model" if format_ else "model"
        raise ArtifactError(
            f"{path.name} is no {kind} that can be loaded ({type(error).__name__}: {first}): publish the file that the "
            "library itself saved, made with the versions that this image has."
        ) from error


def model_file(directory: Path, format_: str | None) -> Path:
    """The one file to load: the one called model.*, else the only one with a fitting suffix."""
    suffixes = FORMATS[format_] if format_ else tuple({s: None for known in FORMATS.values() for s in known})
    found = sorted(p for p in directory.rglob("*") if p.suffix in suffixes and p.is_file())
    preferred = [p for p in found if p.stem == "model"]
    if len(preferred) == 1:
        return preferred[0]
    if len(found) == 1:
        return found[0]
    what = ", ".join(str(p.relative_to(directory)) for p in found[:5]) or "no file with such a name"
    library, wanted = LIBRARIES.get(format_ or "", "known"), " or ".join(f"model{s}" for s in suffixes)
    raise ArtifactError(
        f"The artifact must hold one {library} model named {wanted}; found {what}. "
        f"Write it to /perennial/output/model{suffixes[0]} in the training container."
    )


def _loader(suffix: str) -> Callable[[Path], Predictor]:
    """Libraries are imported only when they are needed: each costs memory and time to start."""
    if suffix in PICKLED:
        from model_server.estimators import load_pickled

        return load_pickled
    if suffix == ".onnx":
        from model_server.onnx_model import OnnxModel

        return OnnxModel
    from model_server import boosters

    return boosters.load_lightgbm if suffix == ".txt" else boosters.load_xgboost
