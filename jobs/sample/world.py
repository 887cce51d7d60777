"""Who shops and what is on the shelves: every trait of the shop, drawn from one seed."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from features.arrays import Float32Array, Float64Array, Int64Array
from features.errors import ConfigError
from features.events import US_PER_DAY
from jobs.sample.taxonomy import BRANDS, CATEGORIES, COLOURS, DEPARTMENT_NAMES, PRICE_BANDS, STYLES

LATENT_DIM = 24  # enough for ~100 trait directions to be nearly orthogonal
SLATE_LENGTH = 8  # one row of a shop's carousel
N_SCENES = 20  # hidden groups that no text names: what only collaborative signals can find
PRESENT_AT_START = 0.7  # share of the catalogue on the shelves on day 0; the rest arrive later
EXTRA_DAYS = 30  # how long new items keep arriving after the last written day

# How much each trait moves an item in taste space: category first, the hidden scene as much.
TRAIT_WEIGHTS = {
    "department": 0.5,
    "category": 1.0,
    "style": 0.8,
    "brand": 0.6,
    "colour": 0.3,
    "material": 0.3,
    "scene": 0.9,
    "own": 0.4,
}


@dataclass(frozen=True, slots=True)
class Size:
    """How large a storefront is; shoppers and items grow more slowly than events."""

    n_events: int
    n_users: int
    n_items: int
    n_days: int

    @classmethod
    def for_events(cls, n_events: int, *, n_days: int = 30) -> "Size":
        """About 1,500 shoppers and 800 items at 50,000 events."""
        if n_events < 1 or n_days < 1:
            raise ConfigError(
                f"found {n_events} events over {n_days} days; expected at least 1 of each; "
                "choose larger numbers"
            )
        scale = n_events / 50_000
        return cls(
            n_events=n_events,
            n_users=max(20, round(1_500 * scale**0.75)),
            n_items=max(6 * SLATE_LENGTH, round(800 * scale**0.6)),
            n_days=n_days,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """Items in order of arrival; each array has one entry an item. Later rows arrive later."""

    latent: Float32Array  # (n, LATENT_DIM) unit rows
    quality: Float32Array
    category: Int64Array
    style: Int64Array
    brand: Int64Array
    colour: Int64Array
    material: Int64Array
    price_band: Int64Array
    wording: Int64Array
    price: Float64Array
    price_level: Float32Array  # -1 budget, 0 mid-range, 1 premium
    arrival_us: Int64Array
    category_latent: Float32Array  # (n_categories, LATENT_DIM)

    def __len__(self) -> int:
        return len(self.quality)

    @staticmethod
    def item_id(row: int) -> str:
        return f"sku-{row:06d}"

    def n_arrived(self, at_us: int) -> int:
        """Rows below this number are on the shelves."""
        return int(np.searchsorted(self.arrival_us, at_us, side="right"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shoppers:
    """Tastes swing between two poles; `activity_cdf` is the heavy-tailed share of visits."""

    pole_a: Float32Array  # (n, LATENT_DIM)
    pole_b: Float32Array  # (n, LATENT_DIM)
    period_days: Float32Array
    phase: Float32Array
    price_sensitivity: Float32Array
    activity_cdf: Float64Array

    def __len__(self) -> int:
        return len(self.phase)

    @staticmethod
    def user_id(row: int) -> str:
        return f"shopper-{row:06d}"


@dataclass(frozen=True, slots=True)
class Traits:
    """The directions of taste space that items and shoppers share."""

    department: Float32Array
    category: Float32Array
    style: Float32Array
    brand: Float32Array
    colour: Float32Array
    material: Float32Array
    scene: Float32Array

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Traits":
        sizes = (len(DEPARTMENT_NAMES), len(CATEGORIES), len(STYLES), len(BRANDS), len(COLOURS))
        return cls(*(_directions(rng, n) for n in (*sizes, 6, N_SCENES)))


def draw_catalogue(
    rng: np.random.Generator, traits: Traits, size: Size, first_day: int
) -> Catalogue:
    arrivals_a_day = size.n_items * (1 - PRESENT_AT_START) / size.n_days
    n = size.n_items + round(arrivals_a_day * EXTRA_DAYS)
    category = rng.choice(len(CATEGORIES), n, p=_zipf(len(CATEGORIES), 0.5))
    style, brand = rng.integers(len(STYLES), size=n), rng.integers(len(BRANDS), size=n)
    colour, material = rng.integers(len(COLOURS), size=n), rng.integers(6, size=n)
    scene, band = rng.integers(N_SCENES, size=n), rng.choice(3, n, p=(0.3, 0.5, 0.2))
    departments = np.array([DEPARTMENT_NAMES.index(c.department) for c in CATEGORIES])
    w = TRAIT_WEIGHTS
    latent = (
        w["department"] * traits.department[departments[category]]
        + w["category"] * traits.category[category]
        + w["style"] * traits.style[style]
        + w["brand"] * traits.brand[brand]
        + w["colour"] * traits.colour[colour]
        + w["material"] * traits.material[material]
        + w["scene"] * traits.scene[scene]
        + w["own"] * _directions(rng, n)
    )
    factor = np.array([band_factor for _, _, band_factor in PRICE_BANDS])[band]
    base = np.array([c.base_price for c in CATEGORIES])[category]
    return Catalogue(
        latent=unit_rows(latent),
        quality=rng.standard_normal(n).astype(np.float32),
        category=category,
        style=style,
        brand=brand,
        colour=colour,
        material=material,
        price_band=band,
        wording=rng.integers(1 << 30, size=n),
        price=np.round(base * factor * rng.uniform(0.8, 1.25, n), 2),
        price_level=(band - 1).astype(np.float32),
        arrival_us=_arrivals(rng, size, n, first_day),
        category_latent=traits.category + 0.5 * traits.department[departments],
    )


def draw_shoppers(rng: np.random.Generator, traits: Traits, size: Size) -> Shoppers:
    n = size.n_users
    activity = rng.lognormal(0.0, 1.1, n)  # heavy tail: the busiest 10 % make about half the visits
    return Shoppers(
        pole_a=_tastes(rng, traits, n),
        pole_b=_tastes(rng, traits, n),
        period_days=rng.uniform(60, 180, n).astype(np.float32),
        phase=rng.uniform(0, 2 * np.pi, n).astype(np.float32),
        price_sensitivity=np.abs(rng.normal(0, 0.5, n)).astype(np.float32),
        activity_cdf=np.cumsum(activity) / activity.sum(),
    )


def unit_rows(matrix: npt.NDArray[np.floating]) -> Float32Array:
    norms = np.sqrt(np.einsum("...d,...d->...", matrix, matrix))
    unit: Float32Array = (matrix / np.maximum(norms, 1e-12)[..., None]).astype(np.float32)
    return unit


def _tastes(rng: np.random.Generator, traits: Traits, n: int) -> Float32Array:
    """Each shopper likes a few of everything: three categories, two styles, brands and scenes."""
    liked_categories = rng.choice(len(CATEGORIES), (n, 3), p=_zipf(len(CATEGORIES), 0.5))
    taste = traits.category[liked_categories].sum(axis=1) * TRAIT_WEIGHTS["category"]
    for name, table in (("style", traits.style), ("brand", traits.brand), ("scene", traits.scene)):
        taste += TRAIT_WEIGHTS[name] * table[rng.integers(len(table), size=(n, 2))].sum(axis=1)
    return unit_rows(taste)


def _arrivals(rng: np.random.Generator, size: Size, n: int, first_day: int) -> Int64Array:
    n_early = round(size.n_items * PRESENT_AT_START)
    n_late = size.n_items - n_early
    days = np.concatenate(
        [
            np.sort(rng.uniform(-200, 0, n_early)),
            np.sort(rng.uniform(0, size.n_days, n_late)),
            np.sort(rng.uniform(size.n_days, size.n_days + EXTRA_DAYS, n - size.n_items)),
        ]
    )
    return ((first_day + days) * US_PER_DAY).astype(np.int64)


def _directions(rng: np.random.Generator, n: int) -> Float32Array:
    drawn = rng.standard_normal((n, LATENT_DIM), dtype=np.float32)
    return drawn / np.float32(np.sqrt(LATENT_DIM))


def _zipf(n: int, exponent: float) -> Float64Array:
    weights = np.arange(1.0, n + 1) ** -exponent
    shares: Float64Array = weights / weights.sum()
    return shares
