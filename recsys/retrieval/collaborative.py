"""What similar shoppers took, on the request path: factors as plain arrays."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import orjson

from features.arrays import Float32Array, Int32Array
from features.errors import ReleaseError
from recsys.retrieval.index import VectorIndex

USERS_FILE, ITEMS_FILE, TAGS_FILE = "users.npy", "items.npy", "tags.npy"
FROM_HISTORY_FILE = "from_history.npy"
USER_IDS_FILE, TAG_NAMES_FILE = "user_ids.json", "tag_names.json"


class FactorModel:
    """Users and items in one space where the dot product is the score.

    The last dimension carries the item's bias; every user has 1 there.
    """

    def __init__(
        self,
        user_ids: Sequence[str],
        users: Float32Array,
        index: VectorIndex,
        tag_names: Sequence[str],
        tags: Float32Array,
        from_history: Float32Array,
    ) -> None:
        self.index = index
        self._row_of = {user_id: row for row, user_id in enumerate(user_ids)}
        self._users = users  # (n_users, d)
        self._tag_row_of = {name: row for row, name in enumerate(tag_names)}
        self._tags = tags  # (n_tags, d)
        self._from_history = from_history  # (d, d)

    @property
    def n_users(self) -> int:
        return len(self._users)

    def user_row(self, user_id: str) -> int:
        """-1 for a shopper without any positive event before the training."""
        return self._row_of.get(user_id, -1)

    def shoppers(self) -> list[str]:
        """The names the model knows, of users and sessions."""
        return list(self._row_of)

    def forget(self, shoppers: Iterable[str]) -> None:
        """They are strangers from now on; the release's files stay as they are."""
        for name in shoppers:
            self._row_of.pop(name, None)

    def user_vectors(self, user_rows: Int32Array) -> Float32Array:
        """(b,) → (b, d); zeros where the row is -1."""
        vectors = np.zeros((len(user_rows), self._users.shape[1]), np.float32)
        known = user_rows >= 0
        vectors[known] = self._users[user_rows[known]]
        return vectors

    def vectors_from_history(self, means: Float32Array) -> Float32Array:
        """(b, d) mean item vectors of histories → (b, d) where such shoppers are in the space.

        A zero row, nothing known, stays zero.
        """
        known = np.any(means != 0, axis=1, keepdims=True)
        inputs = history_inputs(means) * known
        # einsum: the same sum for one query as for many
        return np.asarray(np.einsum("bd,de->be", inputs, self._from_history), np.float32)

    def item_vectors_from_tags(self, tags: Sequence[Sequence[str] | None]) -> Float32Array:
        """(m, d): what its tags alone say of a new item; zeros where none of them is known."""
        vectors = np.zeros((len(tags), self._tags.shape[1]), np.float32)
        for item, names in enumerate(tags):
            rows = [self._tag_row_of[name] for name in names or () if name in self._tag_row_of]
            # + 1: in training the item's identity is one more feature of the average.
            vectors[item] = self._tags[rows].sum(axis=0) / (1 + len(rows))
        return vectors

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / USER_IDS_FILE).write_bytes(orjson.dumps(list(self._row_of)))
        (folder / TAG_NAMES_FILE).write_bytes(orjson.dumps(list(self._tag_row_of)))
        np.save(folder / USERS_FILE, self._users, allow_pickle=False)
        np.save(folder / TAGS_FILE, self._tags, allow_pickle=False)
        np.save(folder / FROM_HISTORY_FILE, self._from_history, allow_pickle=False)
        self.index.save(folder / ITEMS_FILE)

    @classmethod
    def load(cls, folder: Path) -> "FactorModel":
        """Raises ReleaseError where a file is missing, damaged or does not fit the others."""
        index = VectorIndex.load(folder / ITEMS_FILE)
        try:
            user_ids = orjson.loads((folder / USER_IDS_FILE).read_bytes())
            tag_names = orjson.loads((folder / TAG_NAMES_FILE).read_bytes())
            users = np.load(folder / USERS_FILE, mmap_mode="r", allow_pickle=False)
            tags = np.load(folder / TAGS_FILE, allow_pickle=False)
            from_history = np.load(folder / FROM_HISTORY_FILE, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise ReleaseError(
                f"{folder}: expected collaborative factors, found {error!r}. "
                "Run the night again or activate an older release."
            ) from error
        d = index.dim
        expected = ((len(user_ids), d), (len(tag_names), d), (d, d))
        found = (users.shape, tags.shape, from_history.shape)
        if found != expected:
            raise ReleaseError(
                f"{folder}: expected users, tags and the map from histories of shapes {expected}, "
                f"found {found}. Run the night again or activate an older release."
            )
        return cls(user_ids, users, index, tag_names, tags, from_history)


def history_inputs(means: Float32Array) -> Float32Array:
    """(b, d) mean item vectors as the map takes them: 1 in place of the mean bias."""
    return np.column_stack([means[:, :-1], np.ones(len(means), np.float32)])
