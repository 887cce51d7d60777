"""The words of the sample storefront: departments, what they sell, and how it is described."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Category:
    """A leaf of the taxonomy; `base_price` is what an ordinary item of it costs."""

    department: str
    name: str
    noun: str
    base_price: float
    uses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Department:
    """What a department sells and what its goods are made of."""

    materials: tuple[str, ...]
    categories: tuple[tuple[str, str, float, tuple[str, ...]], ...]  # name, noun, price, uses


DEPARTMENTS: dict[str, Department] = {
    "Kitchen": Department(
        ("stainless steel", "cast iron", "stoneware", "bamboo", "borosilicate glass", "copper"),
        (
            ("Frying Pans", "frying pan", 38.0, ("searing steaks", "weekend pancakes")),
            ("Saucepans", "saucepan", 42.0, ("simmering sauces", "boiling eggs")),
            ("Chef's Knives", "chef's knife", 55.0, ("chopping herbs", "slicing vegetables")),
            ("Cutting Boards", "cutting board", 27.0, ("carving roasts", "serving cheese")),
            ("Coffee Makers", "coffee maker", 64.0, ("slow mornings", "brewing for guests")),
            ("Teapots", "teapot", 33.0, ("loose-leaf tea", "a quiet afternoon")),
            ("Baking Trays", "baking tray", 22.0, ("sheet-pan dinners", "crisp cookies")),
        ),
    ),
    "Home": Department(
        ("linen", "cotton", "wool", "oak", "rattan", "ceramic"),
        (
            ("Table Lamps", "table lamp", 48.0, ("reading in bed", "a dim corner")),
            ("Cushions", "cushion", 24.0, ("long film nights", "a bare sofa")),
            ("Throws", "throw blanket", 39.0, ("cold evenings", "the foot of the bed")),
            ("Vases", "vase", 29.0, ("fresh tulips", "dried grasses")),
            ("Rugs", "rug", 120.0, ("bare floors", "a quiet hallway")),
            ("Storage Baskets", "storage basket", 31.0, ("laundry", "toys and magazines")),
            ("Wall Clocks", "wall clock", 36.0, ("the kitchen wall", "a home office")),
        ),
    ),
    "Clothing": Department(
        ("merino wool", "organic cotton", "linen", "denim", "recycled polyester", "corduroy"),
        (
            ("T-Shirts", "t-shirt", 22.0, ("warm days", "layering under a jacket")),
            ("Shirts", "shirt", 45.0, ("the office", "a summer wedding")),
            ("Jumpers", "jumper", 62.0, ("autumn walks", "draughty rooms")),
            ("Jeans", "jeans", 70.0, ("every day", "cycling to work")),
            ("Dresses", "dress", 68.0, ("garden parties", "city evenings")),
            ("Rain Jackets", "rain jacket", 95.0, ("wet commutes", "mountain weather")),
            ("Socks", "socks", 12.0, ("hiking boots", "cold floors")),
            ("Scarves", "scarf", 28.0, ("windy platforms", "winter markets")),
        ),
    ),
    "Outdoors": Department(
        ("ripstop nylon", "aluminium", "canvas", "titanium", "recycled polyester", "carbon fibre"),
        (
            ("Tents", "tent", 180.0, ("weekend camping", "stormy nights")),
            ("Sleeping Bags", "sleeping bag", 110.0, ("frosty mornings", "mountain huts")),
            ("Backpacks", "backpack", 85.0, ("day hikes", "carry-on travel")),
            ("Water Bottles", "water bottle", 24.0, ("long trails", "the gym")),
            ("Camping Stoves", "camping stove", 58.0, ("boiling snow", "lakeside breakfasts")),
            ("Headlamps", "headlamp", 35.0, ("night runs", "setting up camp late")),
            ("Trekking Poles", "trekking poles", 66.0, ("steep descents", "river crossings")),
        ),
    ),
    "Beauty": Department(
        ("shea butter", "aloe vera", "argan oil", "green tea", "oat", "hyaluronic acid"),
        (
            ("Face Creams", "face cream", 26.0, ("dry skin", "a morning routine")),
            ("Cleansers", "cleanser", 18.0, ("removing make-up", "sensitive skin")),
            ("Shampoos", "shampoo", 14.0, ("fine hair", "everyday washing")),
            ("Hand Soaps", "hand soap", 9.0, ("the bathroom sink", "gardeners' hands")),
            ("Lip Balms", "lip balm", 7.0, ("ski trips", "dry winters")),
            ("Perfumes", "perfume", 74.0, ("evenings out", "a memorable gift")),
        ),
    ),
    "Desk": Department(
        ("walnut", "recycled paper", "brushed aluminium", "leather", "felt", "brass"),
        (
            ("Notebooks", "notebook", 16.0, ("meeting notes", "travel sketches")),
            ("Fountain Pens", "fountain pen", 52.0, ("signing letters", "daily journaling")),
            ("Desk Lamps", "desk lamp", 59.0, ("late-night study", "drawing")),
            ("Headphones", "headphones", 130.0, ("open-plan offices", "long flights")),
            ("Keyboards", "keyboard", 98.0, ("fast typing", "coding all day")),
            ("Desk Organisers", "desk organiser", 25.0, ("loose cables", "pens and clips")),
        ),
    ),
}

CATEGORIES: tuple[Category, ...] = tuple(
    Category(department, name, noun, price, uses)
    for department, held in DEPARTMENTS.items()
    for name, noun, price, uses in held.categories
)
DEPARTMENT_NAMES = tuple(DEPARTMENTS)

# A style is a word in the title and a sentence in the description.
STYLES: tuple[tuple[str, str], ...] = (
    ("Minimalist", "Clean lines and nothing you would not miss."),
    ("Vintage", "Modelled on a find from a 1960s flea market."),
    ("Rustic", "Left a little rough, the way a farmhouse would have it."),
    ("Scandinavian", "Pale, light and practical in the Nordic manner."),
    ("Industrial", "Exposed seams and honest hardware, as in a workshop."),
    ("Bohemian", "Patterns and textures that refuse to match."),
    ("Coastal", "Sun-bleached tones that remember the sea."),
    ("Art Deco", "Geometric lines with a touch of the 1920s."),
    ("Japanese", "Calm proportions, inspired by Kyoto craft."),
    ("Sporty", "Made light and quick for people on the move."),
    ("Playful", "Bright, round and not entirely serious."),
    ("Heritage", "Built to an old pattern and meant to be handed down."),
)

BRANDS: tuple[str, ...] = (
    "Alderwick",
    "Brightmoor",
    "Calloway",
    "Dunmore",
    "Elmstead",
    "Fernhill",
    "Gladwyn",
    "Harrowgate",
    "Inverlea",
    "Juniper&Co",
    "Kestrel",
    "Larkfield",
    "Marlowe",
    "Northbeck",
    "Oakhurst",
    "Pennington",
    "Quillon",
    "Ravenscar",
    "Silverbeck",
    "Thornbury",
    "Umberline",
    "Valebrook",
    "Westerly",
    "Yarrow",
    "Zephyrine",
    "Amberlund",
    "Birchway",
    "Coppergate",
    "Driftmark",
    "Eastling",
    "Foxglove",
    "Grayling",
    "Hollin",
    "Ironbridge",
    "Jasperfield",
    "Kindling",
    "Lumen",
    "Millrace",
    "Nightjar",
    "Orchard&Sons",
)

COLOURS: tuple[str, ...] = (
    "black",
    "ivory",
    "navy",
    "forest green",
    "terracotta",
    "mustard",
    "slate grey",
    "burgundy",
    "sky blue",
    "blush pink",
    "sand",
    "charcoal",
    "teal",
    "lavender",
)

# (word in the description, tag, factor on the category's base price)
PRICE_BANDS: tuple[tuple[str, str, float], ...] = (
    ("an easy choice on a small budget", "budget", 0.55),
    ("fairly priced for what it does", "mid-range", 1.0),
    ("a considered purchase that lasts", "premium", 1.9),
)

MODELS: tuple[str, ...] = (
    "Arden",
    "Beacon",
    "Cinder",
    "Dale",
    "Ember",
    "Fable",
    "Grove",
    "Haven",
    "Isla",
    "Jetty",
    "Kepler",
    "Lark",
    "Moss",
    "Noble",
    "Onyx",
    "Pilot",
    "Quay",
    "Ridge",
    "Sable",
    "Tarn",
    "Union",
    "Verse",
    "Willow",
    "Yonder",
    "Zinnia",
    "Alto",
    "Bramble",
    "Cove",
    "Delta",
    "Echo",
)

TITLE_TEMPLATES: tuple[str, ...] = (
    "{brand} {style} {material} {noun} in {colour}",
    "{brand} {model} {noun}, {style}, {colour}",
    "{style} {noun} by {brand} – {colour} {material}",
    "{brand} {model}: {colour} {style} {noun}",
)

DESCRIPTION_TEMPLATES: tuple[str, ...] = (
    "The {model} {noun}, made of {material}, for {use}. {style_line} In {colour}, and "
    "{price_line}.",
    "{style_line} From {brand}, in {colour} {material}: {noun} for {use}, {price_line}.",
    "Good for {use}: {noun} in {colour} with a {style} character. {brand} works in {material} and "
    "it shows. It is {price_line}. {style_line}",
    "{brand} designed the {model} around {use}. {style_line} The {material} keeps its looks for "
    "years, and the {colour} finish goes with most things. It is {price_line}.",
)
