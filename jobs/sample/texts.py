"""Turns an item's drawn traits into the words a shopper reads."""

from collections.abc import Iterator

import polars as pl

from features.arrays import Int64Array
from jobs.sample.taxonomy import (
    BRANDS,
    CATEGORIES,
    COLOURS,
    DEPARTMENTS,
    DESCRIPTION_TEMPLATES,
    MODELS,
    PRICE_BANDS,
    STYLES,
    TITLE_TEMPLATES,
)
from jobs.sample.world import Catalogue


def item_frame(catalogue: Catalogue, item_rows: Int64Array) -> pl.DataFrame:
    """Items as a storefront would send them: ITEM_SCHEMA columns, attributes as JSON text."""
    return pl.DataFrame(
        list(_items(catalogue, item_rows)),
        schema={
            "item_id": pl.String,
            "title": pl.String,
            "description": pl.String,
            "tags": pl.List(pl.String),
            "attributes": pl.String,
            "available": pl.Boolean,
            "published_at_us": pl.Int64,
        },
        orient="row",
    )


def _items(catalogue: Catalogue, item_rows: Int64Array) -> Iterator[tuple[object, ...]]:
    for row in item_rows.tolist():
        category = CATEGORIES[catalogue.category[row]]
        style, style_line = STYLES[catalogue.style[row]]
        price_line, price_tag, _ = PRICE_BANDS[catalogue.price_band[row]]
        materials = DEPARTMENTS[category.department].materials
        pick = int(catalogue.wording[row])  # one draw decides every free choice of words
        words = {
            "brand": BRANDS[catalogue.brand[row]],
            "style": style,
            "style_line": style_line,
            "material": materials[catalogue.material[row] % len(materials)],
            "colour": COLOURS[catalogue.colour[row]],
            "noun": category.noun,
            "model": f"{MODELS[pick % len(MODELS)]} {100 + pick // 7 % 900}",
            "use": category.uses[pick % len(category.uses)],
            "price_line": price_line,
        }
        title = TITLE_TEMPLATES[pick // 31 % len(TITLE_TEMPLATES)].format_map(words)
        text = DESCRIPTION_TEMPLATES[pick // 127 % len(DESCRIPTION_TEMPLATES)].format_map(words)
        brand, material = words["brand"], words["material"]
        tags = [category.department, category.name, style, brand, material, price_tag]
        attributes = (
            f'{{"brand":"{brand}","colour":"{words["colour"]}","price":{catalogue.price[row]:.2f}}}'
        )
        yield (
            catalogue.item_id(row),
            title[0].upper() + title[1:],
            text,
            tags,
            attributes,
            True,
            int(catalogue.arrival_us[row]),
        )
