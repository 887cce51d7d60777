"""What a night is told: the defaults, the environment, and a file that changes single values."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, cast, get_type_hints

from pydantic import BaseModel, TypeAdapter, ValidationError

from features.errors import ConfigError
from jobs.gate import GateConfig, TextGateConfig
from recsys.settings import Settings
from recsys.training.encoder.config import EncoderConfig
from recsys.training.encoder.schedule import EncoderSchedule
from recsys.training.recipe import RecipeConfig

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class NightConfig:
    """What a night does; each part's defaults are measured where the part is."""

    recipe: RecipeConfig = field(default_factory=RecipeConfig)
    encoder_schedule: EncoderSchedule = field(default_factory=EncoderSchedule)
    gate: GateConfig = field(default_factory=GateConfig)
    text_gate: TextGateConfig = field(default_factory=TextGateConfig)
    keep_releases: int = 5
    use_wandb: bool = False  # besides TensorBoard's files


def night_config(settings: Settings, *, use_wandb: bool = False) -> NightConfig:
    """Raises ConfigError for a file that is missing or names what does not exist."""
    recipe = RecipeConfig(encoder=EncoderConfig(base=settings.encoder))
    config = NightConfig(recipe=recipe, keep_releases=settings.keep_releases, use_wandb=use_wandb)
    path = settings.night_config_path
    return config if path is None else changed(config, read_toml(path), str(path))


def read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"found {path} unusable ({error}); expected TOML with tables such as"
            " [recipe.encoder]; correct it or unset RECSYS_NIGHT_CONFIG_PATH"
        ) from error


def changed(config: T, values: Mapping[str, Any], where: str) -> T:
    """A copy of the dataclass with these values, tables for its parts; ConfigError says where."""
    known = [known.name for known in fields(config)]  # type: ignore[arg-type]
    unknown = sorted(values.keys() - set(known))
    if unknown:
        raise ConfigError(
            f"{where}: found {', '.join(unknown)}, expected some of {', '.join(known)};"
            " correct or remove the name"
        )
    types = get_type_hints(type(config))
    parts = {
        name: _changed_value(getattr(config, name), types[name], value, f"{where}, {name}")
        for name, value in values.items()
    }
    return replace(config, **parts)  # type: ignore[type-var]


def _changed_value(current: object, kind: object, value: object, where: str) -> object:
    if is_dataclass(current) or isinstance(current, BaseModel):
        if not isinstance(value, dict):
            raise ConfigError(f"{where}: found {value!r}, expected a table; write [{where}]")
        if not isinstance(current, BaseModel):
            return changed(current, value, where)
        kind, value = type(current), {**current.model_dump(), **value}
    try:
        return TypeAdapter(cast(type[object], kind)).validate_python(value)
    except ValidationError as error:
        fault = error.errors()[0]
        name = "".join(f", {part}" for part in fault["loc"])
        raise ConfigError(
            f"{where}{name}: found {fault['input']!r}, {fault['msg']}; correct the value"
        ) from error
