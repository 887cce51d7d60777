"""The ranker as it is served: small networks in plain NumPy, one head for each action."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from features.arrays import Float32Array
from features.errors import ReleaseError
from features.views import FEATURE_NAMES, views_hash

CLIP = 5.0  # standard deviations; rarer values say nothing more


@dataclass(frozen=True, slots=True)
class Ranker:
    """P(action) of each candidate: standardise → ReLU layers → one logit an action → sigmoid.

    Networks are stacked along the first axis of every layer, and their logits averaged. The
    logits order the candidates (they were trained listwise); `calibration` (2, n_actions)
    turns them into probabilities: sigmoid(slope · logit + intercept), Platt 1999.
    """

    actions: tuple[str, ...]
    mean: Float32Array  # (n_features,)
    scale: Float32Array  # (n_features,)
    weights: tuple[Float32Array, ...]  # (networks, in, out): input→hidden, …, hidden→actions
    biases: tuple[Float32Array, ...]  # (networks, out)
    calibration: Float32Array

    def standardise(self, features: Float32Array) -> Float32Array:
        """Missing values become the mean."""
        scaled: Float32Array = np.clip((features - self.mean) * self.scale, -CLIP, CLIP)
        scaled[np.isnan(scaled)] = 0.0
        return scaled

    def logits(self, standardised: Float32Array) -> Float32Array:
        """(n, n_actions) of standardised rows."""
        hidden = self._hidden(standardised)[-1]
        each = hidden @ self.weights[-1] + self.biases[-1][:, None]
        return np.asarray(each.mean(axis=0), np.float32)

    def _hidden(self, standardised: Float32Array) -> list[Float32Array]:
        """(networks, n, width) of each layer before the last, the input first."""
        layers = [standardised[None]]
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            hidden = layers[-1] @ weight
            hidden += bias[:, None]
            layers.append(np.maximum(hidden, 0, out=hidden))
        return layers

    def probabilities(self, features: Float32Array) -> Float32Array:
        """(n, n_actions) calibrated P(action)."""
        return self.calibrate(self.logits(self.standardise(features)))

    def calibrate(self, logits: Float32Array) -> Float32Array:
        slope, intercept = self.calibration
        return np.asarray(1.0 / (1.0 + np.exp(-(slope * logits + intercept))), np.float32)

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {"mean": self.mean, "scale": self.scale, "calibration": self.calibration}
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            arrays[f"weight_{layer}"] = weight
            arrays[f"bias_{layer}"] = bias
        # safetensors writes the buffer as it lies: a transposed view would come back scrambled
        contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        save_file(contiguous, folder / "ranker.safetensors")
        facts = {
            "actions": self.actions,
            "features": FEATURE_NAMES,
            "views_hash": views_hash(),
            "layers": len(self.weights),
        }
        (folder / "ranker.json").write_bytes(orjson.dumps(facts, option=orjson.OPT_INDENT_2))

    @classmethod
    def load(cls, folder: Path) -> "Ranker":
        facts = orjson.loads((folder / "ranker.json").read_bytes())
        if facts["views_hash"] != views_hash():
            raise ReleaseError(
                f"{folder} holds a ranker trained on feature list {facts['views_hash']}, but this "
                f"code computes list {views_hash()}: run a night with this code, or roll back"
            )
        try:
            arrays = load_file(folder / "ranker.safetensors")
        except SafetensorError as error:
            raise ReleaseError(
                f"{folder / 'ranker.safetensors'}: found {error}, expected a safetensors file. "
                "Run the night again or activate an older release."
            ) from error
        layers = range(facts["layers"])
        return cls(
            actions=tuple(facts["actions"]),
            mean=arrays["mean"],
            scale=arrays["scale"],
            weights=tuple(arrays[f"weight_{layer}"] for layer in layers),
            biases=tuple(arrays[f"bias_{layer}"] for layer in layers),
            calibration=arrays["calibration"],
        )
