"""The design of an experiment as a file that people write."""

import json
import tomllib
from pathlib import Path

from pydantic import ValidationError

from features.errors import ConfigError
from recsys.experiments.experiment import Design


def read_design(path: Path) -> Design:
    """From JSON or, by its ending, TOML; ConfigError for a file that is none."""
    try:
        text = path.read_text("utf-8")
        values = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
        return Design.model_validate(values)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'design'}: {fault['msg']}"
            for fault in error.errors()
        )
        raise ConfigError(
            f"{path}: {faults}. Expected the fields of PUT /v1/experiments/{{name}}, and `name`; "
            "correct them"
        ) from error
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"found {path} unusable ({error}); expected the design of an experiment as TOML or JSON"
        ) from error
