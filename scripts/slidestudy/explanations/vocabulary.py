"""The words that explanations are read with: morphologies, directions, quantities, negations.

Plain tables, in one place, so that what the claim parser understands can be seen and extended. Every word of
direction names the word that replaces it when an explanation is inverted; the replacement has the opposite
sign and the same grammatical class, which is what makes an inverted explanation parse to exactly the opposite
claims.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, StrEnum, auto

__all__ = ["COPULAS", "DETERMINERS", "DIRECTIONS", "LOCATIVES", "MASTER", "MOVERS", "NEGATIVE_QUANTITIES"]
__all__ += ["PREPOSITIONS", "SUBORDINATORS", "Direction", "Morphology", "WordClass"]


class Morphology(StrEnum):
    """What an explanation can make a claim about, and the morphometry reader can measure."""

    LYMPHOCYTES = "lymphocytes"
    TUMOUR = "tumour"
    CELLULARITY = "cellularity"
    NUCLEAR_SIZE = "nuclear_size"
    PLEOMORPHISM = "pleomorphism"
    STROMA = "stroma"
    FAT = "fat"
    MUCIN = "mucin"
    BACKGROUND = "background"
    HAEMATOXYLIN = "haematoxylin"
    EOSIN = "eosin"


class WordClass(Enum):
    """Grammatical class of a word of direction; a word and its opposite share one."""

    VERB = auto()
    """Finite and bare forms that can stand with their object elided: raises, lower, increases."""
    PARTICIPLE = auto()
    """raised, lowering: a verb, or an adjective before a noun."""
    INTRANSITIVE = auto()
    """rises, falls: say something of the score only when the score is their subject."""
    ADJECTIVE = auto()
    """high, lower: say something of the score only when bound to it."""
    PARTICLE = auto()
    """up, down: after a verb of movement."""
    SIGNED = auto()
    """positive, negatively: wherever the clause names the score."""


@dataclass(frozen=True)
class Direction:
    """A word of direction: its sign (+1 raises the score), class, and the word that inverts it."""

    sign: int
    word_class: WordClass
    opposite: str


def _pairs(word_class: WordClass, pairs: str) -> Iterator[tuple[str, Direction]]:
    for pair in pairs.split():
        up, down = pair.split("/")
        yield up, Direction(1, word_class, down)
        yield down, Direction(-1, word_class, up)


def _synonyms(word_class: WordClass, sign: int, synonyms: str) -> Iterator[tuple[str, Direction]]:
    for synonym in synonyms.split():
        word, opposite = synonym.split("/")
        yield word, Direction(sign, word_class, opposite)


# `lower` is both the comparative of low and a verb: grammar.opposite_of decides between `raise` and `higher`.
DIRECTIONS: dict[str, Direction] = {
    **dict(_pairs(WordClass.ADJECTIVE, "high/low highest/lowest higher/lower")),
    **dict(_pairs(WordClass.VERB, "raises/lowers increase/decrease increases/decreases rewards/penalises")),
    **dict(_pairs(WordClass.VERB, "raise/lower reward/penalise favours/disfavours favour/disfavour")),
    **dict(_pairs(WordClass.VERB, "favors/disfavors favor/disfavor")),
    **dict(_pairs(WordClass.PARTICIPLE, "raised/lowered raising/lowering rewarded/penalised")),
    **dict(_pairs(WordClass.PARTICIPLE, "increased/decreased increasing/decreasing")),
    **dict(_pairs(WordClass.PARTICIPLE, "favouring/disfavouring favoring/disfavoring")),
    **dict(_pairs(WordClass.INTRANSITIVE, "rise/fall rises/falls rose/fell rising/falling risen/fallen")),
    **dict(_pairs(WordClass.INTRANSITIVE, "climb/drop climbs/drops climbed/dropped")),
    **dict(_pairs(WordClass.PARTICLE, "up/down upwards/downwards upward/downward")),
    **dict(_pairs(WordClass.SIGNED, "positive/negative positively/negatively")),
    **dict(_synonyms(WordClass.VERB, 1, "boost/reduce boosts/reduces elevate/lower elevates/lowers")),
    **dict(_synonyms(WordClass.VERB, 1, "lift/lower lifts/lowers enhance/reduce enhances/reduces")),
    **dict(_synonyms(WordClass.PARTICIPLE, 1, "boosted/reduced elevated/lowered lifted/lowered")),
    **dict(_synonyms(WordClass.PARTICIPLE, 1, "enhanced/reduced boosting/reducing elevating/lowering")),
    **dict(_synonyms(WordClass.VERB, -1, "reduce/increase reduces/increases diminish/increase")),
    **dict(_synonyms(WordClass.VERB, -1, "diminishes/increases depress/raise depresses/raises")),
    **dict(_synonyms(WordClass.VERB, -1, "dampen/raise dampens/raises penalize/reward penalizes/rewards")),
    **dict(_synonyms(WordClass.VERB, -1, "reduction/increase reductions/increases")),
    **dict(_synonyms(WordClass.PARTICIPLE, -1, "reduced/increased reducing/increasing depressed/raised")),
    **dict(_synonyms(WordClass.PARTICIPLE, -1, "diminished/increased diminishing/increasing")),
}

_CELLS = r"(?:[ -](?:cells?|nuclei|nucleus|nests?|tissue|areas?|regions?|infiltrat\w+|aggregates?|clusters?))?"

# Order matters: the first pattern that matches at a place wins, so longer terms stand before shorter ones.
_TERMS: tuple[tuple[Morphology | None, str], ...] = (
    (None, r"eosinophils?\b"),
    (Morphology.LYMPHOCYTES, r"tumou?r[ -]infiltrating[ -](?:lymphocytes?|immune cells?)"),
    (
        Morphology.LYMPHOCYTES,
        r"small,?(?: and| or)?(?:[ -](?:round|rounded|dark),?(?: and)?)+ (?:nuclei|cells?)",
    ),
    (Morphology.LYMPHOCYTES, r"(?:tils?\b|lymphocyt\w*|lymphoid|plasma cells?|mononuclear|immune)" + _CELLS),
    (Morphology.LYMPHOCYTES, r"inflamm\w+" + _CELLS),
    (Morphology.LYMPHOCYTES, r"infiltrates?\b"),
    (Morphology.TUMOUR, r"(?:large|larger|big|bigger|enlarged),?(?: pale,?| vesicular,?)? nuclei"),
    (Morphology.TUMOUR, r"(?:tumou?r(?:s|al|ous)?\b|cancer\w*|carcinoma\w*|neoplas\w+)" + _CELLS),
    (Morphology.TUMOUR, r"(?:epitheli\w+|malignan\w+)" + _CELLS),
    (
        Morphology.PLEOMORPHISM,
        r"(?:pleomorph\w+|anisonucleosis|nuclear atypia|atypi\w+|irregular)(?: nuclei)?",
    ),
    (
        Morphology.PLEOMORPHISM,
        r"(?:variation|variability|differences?) (?:of|in) (?:the )?(?:nuclear )?(?:size|area)s?",
    ),
    (Morphology.PLEOMORPHISM, r"nuclear(?: size)? (?:variation|variability)"),
    (Morphology.PLEOMORPHISM, r"nuclei (?:that )?(?:vary|varying|differ|differing) in (?:size|area|shape)"),
    (Morphology.PLEOMORPHISM, r"nuclei of (?:varying|variable|different|unequal) sizes?"),
    (Morphology.NUCLEAR_SIZE, r"nuclear (?:size|area)s?|size of (?:the )?nuclei"),
    (
        Morphology.HAEMATOXYLIN,
        r"ha?ematoxylin\w*|hyperchroma\w+(?: nuclei)?|(?:dark|blue|purple)(?:ly|er)?[ -]stain\w*",
    ),
    (Morphology.HAEMATOXYLIN, r"dark(?:er)? nuclei"),
    (
        Morphology.CELLULARITY,
        r"nuclear densit(?:y|ies)|densit(?:y|ies) of (?:the )?(?:nuclei|cells)|(?:hyper)?cellularity",
    ),
    (Morphology.CELLULARITY, r"(?:crowd(?:ed|ing)|densely packed)(?:[ -]nuclei|[ -]cells)?|nuclear crowding"),
    (Morphology.CELLULARITY, r"number of (?:nuclei|cells)|nuclei\b"),
    (
        Morphology.STROMA,
        r"strom\w+|collagen\w*|fibro\w+(?: tissue| strands?| bands?)?|desmoplas\w+|connective tissue",
    ),
    (Morphology.FAT, r"(?:fat\b|fatty|adipo\w+)" + r"(?:[ -](?:cells?|tissue|vacuoles?|droplets?))?"),
    (Morphology.MUCIN, r"muc(?:in\w*|us|oid|ous)\b(?:[ -](?:pools?|lakes?))?"),
    (
        Morphology.BACKGROUND,
        r"(?:empty|white|blank)[ -](?:background|space|glass|area)s?|background|emptiness|whitespace",
    ),
    (Morphology.EOSIN, r"eosin\w*|pink(?:ness)?\b(?:[ -](?:staining|areas?|material|tissue))?"),
)

_SCORE = (
    r"(?:(?:tils?|tumou?r)[ -])?(?:scor(?:e|es|ed|ing)|predictions?|outputs?|logits?"
    r"|predicted (?:values?|risks?|tils?))\b"
    r"|(?:risks?|probabilit(?:y|ies)|it)\b"
)
_NOT_DIRECTION = (
    r"favou?r(?:s|ing)?(?= (?:an? |the )?(?:high|low))|not only|tils? (?:model|network)s?|a few\b"
    r"|(?:high|low|intermediate)[ -](?:grade|power|magnification|resolution)"
)
_EXCLUDING = (
    r"(?:rather|other) than|instead of|regardless of|irrespective of|independent(?:ly)? of|except(?: for)?\b"
    r"|apart from|than\b|unlike\b"
)
_NEGATION = (
    r"(?:not(?! many| much)|never|neither|hardly(?! any)|scarcely|cannot|fails? to"
    r"|no (?:longer|effect|influence|impact|bearing|way)"
    r"|disfavou?r(?:s|ing)?(?= (?:an? |the )?(?:high|low)))\b|[a-z]+n['’]t\b"
)
NEGATIVE_QUANTITIES = (
    r"(?:absence|lack|loss|paucity|scarcity|devoid|depleted) of|free (?:of|from)|poor in|hardly any"
    r"|not (?:many|much)|(?:without|no|few|fewer|fewest|little|less|least|sparse|scarce|scant|scanty|rare"
    r"|absent|missing|lacking|minimal|poor|free)\b"
)
_STRONG_BREAK = r";|—|–|\b(?:but|while|whilst|whereas|although|though|however|yet)\b"
_WEAK_BREAK = r",|:|\(|\)|/|\||&|\b(?:and|or|nor|plus|as well as)\b"


def _master() -> re.Pattern[str]:
    groups = [("IGNORED", _NOT_DIRECTION), ("SCORE", _SCORE)]
    groups += [(f"TERM{number}", pattern) for number, (_, pattern) in enumerate(_TERMS)]
    groups += [("EXCLUDING", _EXCLUDING), ("NEGATION", _NEGATION), ("QUANTITY", NEGATIVE_QUANTITIES)]
    groups += [("STRONG", _STRONG_BREAK), ("WEAK", _WEAK_BREAK), ("WORD", r"[^\W_]+(?:['’][a-z]+)?")]
    return re.compile("|".join(f"(?P<{name}>{_bounded(name, body)})" for name, body in groups), re.IGNORECASE)


def _bounded(name: str, body: str) -> str:
    return body if name in ("STRONG", "WEAK", "WORD") else rf"(?<![^\W_])(?:{body})"


MASTER = _master()


def morphology_of(group: str) -> Morphology | None:
    """Return the morphology of a TERM group of `MASTER`; None for a term that only looks like one."""
    return _TERMS[int(group.removeprefix("TERM"))][0]


def _words(words: str) -> frozenset[str]:
    return frozenset(words.split())


COPULAS = _words("is are was were be been being remain remains become becomes gets get tends tend")
DETERMINERS = _words("the a an its their this that these those it them any every")
SUBORDINATORS = _words("where wherever when whenever if once as because since which who that")
PREPOSITIONS = _words("in with within for at near on by among of around inside from through under over")
LOCATIVES = _words("in within inside near around between among at beside along beneath surrounding into")
MOVERS = _words(
    "push pushes pushed pushing pull pulls pulled pulling drive drives drove driven driving bring brings "
    "brought move moves moved moving send sends sent go goes went going take takes took tip tips tipped "
    "shift shifts shifted nudge nudges drag drags dragged dragging"
)
