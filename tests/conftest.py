"""One tiny release, trained by a real night, for every test that needs something to serve."""

from pathlib import Path

import pytest
import torch

from recsys.recommender import Recommender
from tests.recsys.encoder_fixtures import tiny_encoder
from tests.tiny import TinyWorld, make_world, tiny_events, tiny_items


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Tiny matrices are slower on two threads than on one."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_text_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A one-layer encoder that knows the words of the tiny storefront."""
    return tiny_encoder(tmp_path_factory.mktemp("encoder"), layers=1)


@pytest.fixture(scope="session")
def tiny_world(tmp_path_factory: pytest.TempPathFactory, tiny_text_encoder: Path) -> TinyWorld:
    """60 items, 120 shoppers, 20 days; read only, as every test shares it."""
    folder = tmp_path_factory.mktemp("world")
    return make_world(folder, tiny_text_encoder, tiny_items(), tiny_events())


@pytest.fixture(scope="session")
def tiny_release(tiny_world: TinyWorld) -> tuple[Path, str]:
    """The root of the releases and the id of the only one."""
    report = tiny_world.night()
    assert report.published, report.reason
    assert report.release_id is not None
    return tiny_world.places.releases, report.release_id


@pytest.fixture
def tiny_recommender(tiny_release: tuple[Path, str]) -> Recommender:
    """Loaded anew for each test, which may change it."""
    root, release_id = tiny_release
    return Recommender.load(root / release_id, release_id=release_id)
