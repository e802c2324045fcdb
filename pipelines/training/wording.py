"""The words that captions choose among, for each fact the data pack tells."""


def _words(text: str) -> list[str]:
    return text.split()


STYLE_WORDS: dict[str, tuple[str, ...]] = {
    "3d render": ("3d render", "3d render", "3d", "glossy 3d render", "3d icon"),
    "botanical watercolour": (
        "botanical watercolour",
        "botanical watercolour",
        "watercolour",
        "watercolor",
        "botanical illustration",
    ),
    "ukiyo-e": ("ukiyo-e", "ukiyo-e", "ukiyo-e", "japanese woodblock print", "ukiyo-e print"),
}
"""Other ways to say a style; a style without an entry is said by its own name."""

STYLE_ADJECTIVES: dict[str, tuple[str, ...]] = {
    "3d render": ("3d", "3d rendered", "glossy 3d"),
    "impressionism": ("impressionist", "impressionism"),
    "post-impressionism": ("post-impressionist", "post-impressionism"),
    "romanticism": ("romantic", "romanticism"),
    "symbolism": ("symbolist", "symbolism"),
    "botanical watercolour": ("botanical watercolour", "watercolour"),
}

GENRE_WORDS: dict[str, tuple[str, ...]] = {
    "landscape": ("landscape", "landscape", "scenery"),
    "portrait": ("portrait",),
    "genre painting": ("genre painting", "everyday scene", "genre scene"),
    "religious painting": ("religious painting", "religious scene"),
    "cityscape": ("cityscape", "cityscape", "city", "town"),
    "sketch": ("sketch", "drawing", "sketch and study"),
    "illustration": ("illustration", "illustration", "engraving"),
    "still life": ("still life",),
    "icon": ("icon", "emoji"),
    "botanical illustration": ("botanical illustration", "fruit"),
    "abstract painting": ("abstract painting",),
}

BRIGHTNESS_WORDS: dict[str, tuple[str, ...]] = {
    "dark": ("dark", "dark", "dark tones", "gloomy", "dim light"),
    "bright": ("bright", "bright", "light", "luminous", "bright light"),
}

SATURATION_WORDS: dict[str, tuple[str, ...]] = {
    "vivid": ("vivid", "vivid colours", "colourful", "vivid colors"),
    "muted": ("muted", "muted colours", "subdued colours", "muted colors"),
    "monochrome": ("monochrome", "black and white", "greyscale"),
}

HINTS: dict[str, str] = {
    **dict.fromkeys(
        _words(
            "sea ship ships shipwreck boat boats coast beach harbor harbour shore tide waves wave "
            "cliffs sailing fleet brig frigate ocean seas bosphorus"
        ),
        "seascape",
    ),
    **dict.fromkeys(_words("moon moonlight moonlit moonrise"), "moonlight"),
    **dict.fromkeys(_words("storm stormy tempest thunderstorm"), "storm"),
    **dict.fromkeys(
        _words("roses rose lilies tulips peonies sunflowers irises chrysanthemums bouquet"), "flowers"
    ),
    **dict.fromkeys(_words("snow snowy frost ice"), "winter"),
    **dict.fromkeys(
        _words("lion tiger horse horses dog dogs cow cows cattle sheep stag deer bull cat cats"), "animal"
    ),
    **dict.fromkeys(_words("eagle swan peacock owl parrot rooster hen ducks geese birds"), "bird"),
    **dict.fromkeys(
        _words("apple apples pears grapes peaches lemons oranges plums strawberries cherries"), "fruit"
    ),
    **dict.fromkeys(_words("oaks oak pines poplars willows willow birch trees"), "trees"),
    **dict.fromkeys(_words("mountains alps peak summit hills"), "mountain"),
    **dict.fromkeys(_words("river seine loing canal stream brook thames"), "river"),
    **dict.fromkeys(_words("lighthouse pharos"), "lighthouse"),
}
"""A word of a title, and the plainer word that its picture also deserves."""

SYNONYMS: dict[str, tuple[str, ...]] = {
    "cat": ("kitten", "kitty", "feline"),
    "dog": ("puppy", "hound"),
    "horse": ("stallion", "pony", "steed"),
    "horses": ("stallions", "ponies"),
    "bird": ("songbird",),
    "sea": ("ocean", "waters"),
    "seascape": ("ocean view", "marine painting", "sea view"),
    "ship": ("vessel", "sailing ship", "galleon"),
    "ships": ("vessels", "fleet"),
    "boat": ("rowing boat", "sailboat", "barge"),
    "boats": ("sailboats", "barges"),
    "beach": ("seashore", "strand"),
    "coast": ("shoreline", "seaside"),
    "harbor": ("harbour", "port"),
    "storm": ("tempest", "gale", "bad weather"),
    "flower": ("bloom", "blossom"),
    "flowers": ("blooms", "blossoms", "bouquet"),
    "forest": ("woods", "woodland"),
    "tree": ("oak",),
    "mountain": ("peak", "hill"),
    "mountains": ("peaks", "alps"),
    "river": ("stream", "waterway"),
    "lake": ("pond",),
    "field": ("meadow", "pasture"),
    "fields": ("meadows", "farmland"),
    "road": ("path", "lane"),
    "street": ("avenue", "road"),
    "house": ("cottage", "home", "dwelling"),
    "houses": ("cottages", "homes"),
    "church": ("chapel", "cathedral"),
    "castle": ("fortress", "fort"),
    "village": ("hamlet", "small town"),
    "city": ("town", "metropolis"),
    "bridge": ("viaduct",),
    "garden": ("park", "flower garden"),
    "woman": ("lady", "female"),
    "lady": ("woman",),
    "man": ("gentleman", "male"),
    "girl": ("young woman", "maiden"),
    "boy": ("lad", "young man"),
    "child": ("kid", "infant"),
    "children": ("kids",),
    "king": ("monarch", "ruler"),
    "queen": ("empress",),
    "saint": ("holy man",),
    "angel": ("cherub", "winged figure"),
    "soldier": ("warrior",),
    "battle": ("war", "fight", "combat"),
    "night": ("nighttime", "midnight"),
    "moonlight": ("moonlit", "moon"),
    "sunset": ("dusk", "sundown"),
    "sunrise": ("dawn", "daybreak"),
    "evening": ("twilight", "dusk"),
    "morning": ("dawn",),
    "winter": ("snow", "snowy"),
    "autumn": ("fall",),
    "rain": ("rainy weather", "downpour"),
    "sun": ("sunshine",),
    "death": ("dying",),
    "dancer": ("ballerina",),
    "dancers": ("ballerinas",),
    "fruit": ("fruits",),
    "portrait": ("likeness", "face"),
    "house's": ("cottage's",),
    "car": ("automobile",),
    "train": ("locomotive",),
    "airplane": ("aeroplane", "plane"),
    "rabbit": ("bunny", "hare"),
    "pig": ("hog", "piglet"),
    "chicken": ("hen",),
    "snake": ("serpent",),
    "heart": ("love heart",),
    "smiling": ("happy", "grinning"),
    "sad": ("unhappy", "sorrowful"),
}

LITTLE_WORDS: frozenset[str] = frozenset(
    _words(
        "the of a in with and at on s from to de for an his her near two as la by i three not or "
        "after under over looking seen into le l d before is no me my one o p m k t v n e ch du di "
        "des der van von don also known aka first second last das les und san santa santo st saint's "
        "left right between among towards toward during who that their its him he she it out up down "
        "off other some seated detected may new old little small great large grand study detail self "
        "mrs mr sir madame miss mme monsieur ii iii iv vi vii viii effect scene view figure figures "
        "plate volume cover head bust part four five six john peter mary paul joseph jacob charles "
        "francis maria marie anna louis george thomas william david alexander isaac abraham philip "
        "elizabeth catherine anthony marco isabella sebastian unknown picture painter artist"
    )
)
"""Words that say nothing when they stand alone, and Christian names."""
