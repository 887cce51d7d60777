import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from features.errors import ReleaseError
from recsys.progress import Silent
from recsys.retrieval.encoder import MODEL_FILE, TOKENIZER_FILE, EncoderCard, OnnxEncoder
from recsys.training.encoder.base import BaseEncoder, embedded_folder
from recsys.training.encoder.embedding import encode_catalogue
from recsys.training.encoder.export import export_encoder
from tests.recsys.encoder_fixtures import tiny_encoder


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    export_encoder(BaseEncoder.load(tiny_encoder(folder / "base"), max_tokens=16), folder, [])
    return folder


@pytest.mark.parametrize("name", [MODEL_FILE, TOKENIZER_FILE, "encoder.json"])
def test_a_truncated_artifact_is_refused(served: Path, tmp_path: Path, name: str) -> None:
    for part in (MODEL_FILE, TOKENIZER_FILE, "encoder.json"):
        content = (served / part).read_bytes()
        (tmp_path / part).write_bytes(content[: len(content) // 2] if part == name else content)
    with pytest.raises(ReleaseError, match=name):
        OnnxEncoder.load(tmp_path)


def test_serving_loads_no_training_library(served: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from recsys.retrieval.encoder import OnnxEncoder;"
        f"print(OnnxEncoder.load(Path({str(served)!r})).encode(['red hat', '']).shape);"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "(2, 32)\n", done.stderr


def test_minilm_is_the_published_one_and_knows_what_words_mean(tmp_path: Path) -> None:
    assert embedded_folder().is_dir()
    encoder = BaseEncoder.load(None, max_tokens=48)
    assert (encoder.dim, encoder.network.pooling) == (384, "mean")
    encoder.save(tmp_path / "torch").save(tmp_path)
    scripts = ["👕", "长袖 T 恤", "قميص", "", "x" * 9999]
    texts = ["red lipstick", "crimson lip colour", "garden hose", *scripts]
    vectors = encode_catalogue(tmp_path, texts, Silent())
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-3)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2
    assert EncoderCard.load(tmp_path).max_tokens == 48
