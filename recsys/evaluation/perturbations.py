"""Titles as people write them: with typos, shouted, cut short, in another order, in other units.

Each function returns the title unchanged where there is nothing to change.
"""

import re
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

Perturbation: TypeAlias = Callable[[str, np.random.Generator], str]

EDITS = 2  # what a hurried hand leaves in a title of ten words


def with_typos(title: str, rng: np.random.Generator) -> str:
    """EDITS letters changed for their neighbour, dropped, or with another one before them."""
    letters = list(title)
    for _ in range(EDITS):
        places = [place for place, letter in enumerate(letters) if letter.isalpha()]
        if not places:
            break
        place = int(rng.choice(places))
        other = str(rng.choice(list(string.ascii_lowercase)))
        slips: tuple[list[str], ...] = (
            letters[place : place + 2][::-1],
            [],
            [other, letters[place]],
            [other],
        )
        slip = int(rng.integers(len(slips)))
        letters[place : place + (2 if slip == 0 else 1)] = slips[slip]
    return "".join(letters)


def in_upper_case(title: str, rng: np.random.Generator) -> str:
    del rng
    return title.upper()


def in_lower_case(title: str, rng: np.random.Generator) -> str:
    del rng
    return title.lower()


def in_another_order(title: str, rng: np.random.Generator) -> str:
    words = title.split()
    return " ".join(words[place] for place in rng.permutation(len(words)))


def first_half(title: str, rng: np.random.Generator) -> str:
    del rng
    words = title.split()
    return " ".join(words[: (len(words) + 1) // 2])


@dataclass(frozen=True, slots=True)
class Unit:
    """How a unit is written, and another unit that says the same."""

    short: str
    long: str
    others: tuple[str, ...]
    same_as: tuple[str, float]  # unit, how many of it are one of this


UNITS: Mapping[str, Unit] = {
    "ml": Unit("ml", "milliliters", ("milliliter", "millilitre", "millilitres"), ("l", 0.001)),
    "l": Unit("l", "liters", ("liter", "litre", "litres"), ("ml", 1_000)),
    "fl oz": Unit(
        "fl oz",
        "fluid ounces",
        ("fluid ounce", "fluid oz", "fl. oz", "fl.oz", "floz"),
        ("ml", 29.5735),
    ),
    "oz": Unit("oz", "ounces", ("ounce",), ("g", 28.3495)),
    "lb": Unit("lb", "pounds", ("lbs", "pound"), ("kg", 0.453592)),
    "g": Unit("g", "grams", ("gram", "gr", "gm"), ("kg", 0.001)),
    "kg": Unit("kg", "kilograms", ("kilogram", "kilo", "kilos", "kgs"), ("g", 1_000)),
    "mm": Unit("mm", "millimeters", ("millimeter", "millimetre", "millimetres"), ("cm", 0.1)),
    "cm": Unit("cm", "centimeters", ("centimeter", "centimetre", "centimetres"), ("inch", 0.3937)),
    "inch": Unit("inch", "inches", ('"', "in."), ("cm", 2.54)),  # a bare "in" is a preposition
    "ft": Unit("ft", "feet", ("foot",), ("cm", 30.48)),
    "ct": Unit("ct", "count", (), ("pieces", 1)),
    "pieces": Unit("pcs", "pieces", ("pc", "piece"), ("ct", 1)),
}


def _spelling(text: str) -> str:
    return " ".join(text.casefold().split())


_UNIT_OF = {
    spelling: name
    for name, unit in UNITS.items()
    for spelling in (unit.short, unit.long, *unit.others)
}
_QUANTITY = re.compile(
    r"(?<![\w.,])(?P<number>\d+(?:\.\d+)?|\.\d+)(?P<gap>[\s-]*)(?P<unit>"
    + "|".join(
        re.escape(spelling).replace(r"\ ", r"[\s-]+")
        for spelling in sorted(_UNIT_OF, key=len, reverse=True)
    )
    + r")(?!\w)",
    re.IGNORECASE,
)


def respelled_units(title: str, rng: np.random.Generator) -> str:
    """12 oz → 12 ounces or 12oz."""

    def other(found: re.Match[str]) -> str:
        unit = UNITS[_unit_of(found)]
        now = _spelling(found["gap"].replace("-", " ") + found["unit"])
        ways = (f" {unit.short}", unit.short, f" {unit.long}")
        kept = [way for way in ways if _spelling(way) != now or (way[0] == " ") != _gapped(found)]
        return found["number"] + str(rng.choice(kept))

    return _QUANTITY.sub(other, title)


def converted_units(title: str, rng: np.random.Generator) -> str:
    """500 ml → 0.5 l, 12 oz → 340 g; three digits, as labels round."""
    del rng

    def other(found: re.Match[str]) -> str:
        name, factor = UNITS[_unit_of(found)].same_as
        amount = float(f"{float(found['number']) * factor:.3g}")
        return f"{amount:g} {UNITS[name].short}"

    return _QUANTITY.sub(other, title)


def _unit_of(found: re.Match[str]) -> str:
    return _UNIT_OF[_spelling(found["unit"].replace("-", " "))]


def _gapped(found: re.Match[str]) -> bool:
    return found["gap"] != ""


PERTURBATIONS: Mapping[str, Perturbation] = {
    "typos": with_typos,
    "upper case": in_upper_case,
    "lower case": in_lower_case,
    "word order": in_another_order,
    "truncation": first_half,
    "units respelled": respelled_units,
    "units converted": converted_units,
}

# Texts that no shop's item is likely to be; a shop that sells one of them has fifty others left.
ELSEWHERE = (
    "the defendant shall bear the costs of the proceedings before the court of appeal",
    "quarterly depreciation of intangible assets under the revised accounting standard",
    "the second half ended goalless after a penalty was saved in stoppage time",
    "segmentation fault: core dumped while linking the kernel module",
    "eigenvalues of a symmetric positive definite matrix are real and positive",
    "moderate westerly winds with scattered showers over the northern valleys",
    "the mitochondrial membrane potential drops before apoptosis begins",
    "parliament adjourned the debate on the pension reform until Thursday",
    "select count(*) from visits where created_at is null group by region",
    "the train to platform four is delayed by about twenty minutes",
    "basalt columns form when lava flows cool slowly and contract",
    "the tenant must give three months' written notice before moving out",
    "inflation expectations remained anchored despite the rise in energy prices",
    "a binary star loses angular momentum through gravitational waves",
    "her uncle never forgave the neighbours for cutting down the old walnut tree",
    "the patient presented with acute abdominal pain and a fever of 39 degrees",
    "turn left at the second roundabout and continue for three kilometres",
    "enzymes lower the activation energy of a reaction without being consumed",
    "the treaty was signed in 1648 and ended three decades of war",
    "migratory birds navigate by the stars and the earth's magnetic field",
    "photons emitted at the surface are redshifted by the gravitational potential",
    "the committee approved the minutes of the previous meeting without amendment",
    "tectonic plates diverge along the mid-ocean ridge at two centimetres a year",
    "undefined reference to symbol in object file compiled with another standard",
    "the goalkeeper was sent off and the coach protested to the fourth official",
    "voters in the eastern districts turned out in smaller numbers than in spring",
    "integrate by parts and apply the boundary conditions at zero and infinity",
    "the ferry service is suspended until the storm has passed",
    "wheat yields fell for the third year because of drought in the basin",
    "the appeal was dismissed as manifestly unfounded",
)


def gibberish(n: int, rng: np.random.Generator) -> list[str]:
    """`n` texts of three to eight words of random letters."""

    def word() -> str:
        letters = rng.integers(ord("a"), ord("z") + 1, size=int(rng.integers(3, 10)))
        return "".join(map(chr, letters))

    return [" ".join(word() for _ in range(int(rng.integers(3, 9)))) for _ in range(n)]
