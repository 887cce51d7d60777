from pathlib import Path

import pytest

from features.errors import ConfigError
from jobs.night_config import NightConfig, changed, night_config
from recsys.settings import Settings


def of(tmp_path: Path, text: str) -> NightConfig:
    path = tmp_path / "night.toml"
    path.write_text(text)
    return night_config(Settings(data_dir=tmp_path, night_config_path=path, encoder="base"))


def test_a_file_changes_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    found = of(
        tmp_path,
        """
        keep_releases = 9
        [recipe]
        max_queries = 1_000
        [recipe.encoder]
        strategy = "lora"
        max_tokens = 64
        [recipe.policy]
        exploration = 0.1
        [recipe.ranker]
        hidden = [16, 8]
        [gate]
        margin = 0
        """,
    )
    before = NightConfig()
    assert (found.keep_releases, found.recipe.max_queries) == (9, 1_000)
    assert (found.recipe.encoder.strategy, found.recipe.encoder.max_tokens) == ("lora", 64)
    assert found.recipe.encoder.base == "base"
    assert found.recipe.policy.exploration == 0.1
    assert found.recipe.policy.diversity == before.recipe.policy.diversity
    assert found.recipe.ranker.hidden == (16, 8)
    assert found.gate.margin == 0.0
    assert found.recipe.sequence == before.recipe.sequence


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[recipe.encode]\nmax_tokens = 1", "found encode, expected some of encoder"),
        ("[recipe.encoder]\nmax_token = 1", "found max_token, expected some of base"),
        ("[recipe.encoder]\nmax_tokens = 'many'", "recipe, encoder, max_tokens: found 'many'"),
        ("[recipe.encoder]\nmax_tokens = -1", "max_tokens"),
        ("[recipe.policy]\nexploration = 2", "policy, exploration: found 2"),
        ("recipe = 3", "recipe: found 3, expected a table"),
        ("[recipe", "expected TOML"),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        of(tmp_path, text)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml unusable"):
        night_config(Settings(data_dir=tmp_path, night_config_path=tmp_path / "nowhere.toml"))


def test_no_values_change_nothing() -> None:
    assert changed(NightConfig(), {}, "nowhere") == NightConfig()
