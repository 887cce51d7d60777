import shutil
from pathlib import Path

import pytest

from features.errors import DataError
from jobs.embedding_speed import embedding_speed
from recsys.training.encoder.base import BaseEncoder
from recsys.training.encoder.export import export_encoder
from tests.recsys.encoder_fixtures import shop_texts, tiny_encoder


def test_engines_are_timed_side_by_side_and_agree(tmp_path: Path) -> None:
    base = BaseEncoder.load(tiny_encoder(tmp_path / "base"), max_tokens=16)
    export_encoder(base, tmp_path / "out", [])
    onnx, torch = embedding_speed(tmp_path / "out", shop_texts(), rounds=1)
    assert (onnx.engine, onnx.ratio) == ("ONNX Runtime", 1.0)
    assert torch.engine.startswith("torch")
    assert min(onnx.smallest_cosine, torch.smallest_cosine) > 0.999
    assert min(onnx.texts_per_second, torch.texts_per_core_second) > 0
    assert onnx.query_p50_ms is not None
    assert torch.query_p50_ms is None
    shutil.rmtree(tmp_path / "out" / "torch")
    [alone] = embedding_speed(tmp_path / "out", ["red hat"], rounds=1)
    assert alone.engine == "ONNX Runtime"


def test_no_texts_cannot_be_timed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found no texts"):
        embedding_speed(tmp_path, [])
