"""Grammar of explanations: text to clauses, and the role that each word of direction plays in its clause.

Rules, not a language model: the same text always gives the same result, and each rule can be read here. A
word such as ``low`` may speak of the score (``a low score``) or of a quantity (``low cellularity``). It
speaks of the score when

1. the score follows within four words: ``raises the score``, ``a lower predicted score``, ``a rise in the
  score``;
2. the score precedes it within four words: ``the score falls``, ``the score in fat is low``, ``patches score
  high``;
3. its clause starts with it, goes on with a preposition, and continues a clause of rule 2:
   ``the score is high in X and low in Y``;
4. it is ``up`` or ``down`` after a verb of movement, or ``positive``/``negative``, in a clause that names the
  score;
5. it is a verb with its object elided in a sentence that names the score: ``X raises and Y lowers the
  score``.

Before rules 3 to 5 come the quantities: a word within three words before a morphology (``low cellularity``,
``few lymphocytes``) or after one (``where stroma is low``, ``as lymphocytes increase``) tells how much of it
there is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from slidestudy.explanations import vocabulary as vocab
from slidestudy.explanations.vocabulary import DIRECTIONS, MASTER, Morphology, WordClass

__all__ = ["Clause", "Kind", "Role", "Sentence", "Token", "opposite_of", "read_sentences", "strip_comments"]
__all__ += ["term_after", "term_before"]

_REACH = 4
_QUANTITY_REACH = 3


class Kind(Enum):
    """What a token is, before its clause is looked at."""

    SCORE = auto()
    TERM = auto()
    NEGATION = auto()
    EXCLUDING = auto()
    QUANTITY = auto()
    STRONG = auto()
    WEAK = auto()
    WORD = auto()


class Role(Enum):
    """What a word says in its clause."""

    NONE = auto()
    DIRECTION = auto()
    """Of the score: raises, lowers."""
    QUANTITY = auto()
    """Of a morphology: how much of it there is."""


@dataclass
class Token:
    """One word or term, with its place in the original text and, once its clause is read, its role."""

    kind: Kind
    word: str
    start: int
    end: int
    morphology: Morphology | None = None
    role: Role = Role.NONE
    bound: bool = False
    """A direction that stands beside the score it speaks of (rules 1 to 3)."""


@dataclass
class Clause:
    """The tokens between two breaks, and how the break before them was written."""

    tokens: list[Token]
    strong: bool = False
    comma_and: bool = False
    joined_by: str = ""


@dataclass
class Sentence:
    """A sentence (or list item with its lead-in) as clauses whose words have their roles."""

    text: str
    clauses: list[Clause] = field(default_factory=list)


_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_ITEM = re.compile(r"\s*(?:[-*+•]|\d+[.)])\s+")
_HEADING = re.compile(r"\s{0,3}#{1,6}(?:\s|$)")
_SENTENCE_END = re.compile(r"(?<!\be\.g)(?<!\bi\.e)(?<!\bvs)[.!?]+(?=[\s\"')*_]|$)")
_MARKDOWN = re.compile(r"[*_`~]")


def strip_comments(text: str) -> str:
    """Remove HTML comments, which are notes to whoever edits an explanation."""
    return _COMMENT.sub("", text)


def _blank(match: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", match[0])


def _blocks(text: str, headings: bool) -> Iterator[tuple[int, int, bool]]:
    """Yield (start, end, is list item) of every paragraph and list item; headings only if asked for."""
    start: int | None = None
    item = False
    position = 0
    for line in text.splitlines(keepends=True):
        heading = _HEADING.match(line) is not None
        bullet = _ITEM.match(line)
        if start is not None and (heading or bullet or not line.strip()):
            yield start, position, item
            start = None
        if heading and headings:
            yield position, position + len(line), False
        elif line.strip() and not heading and start is None:
            start, item = position + (bullet.end() if bullet else 0), bullet is not None
        position += len(line)
    if start is not None:
        yield start, position, item


def read_sentences(text: str, *, headings: bool = False) -> list[Sentence]:
    """Split an explanation into sentences of clauses, every word of direction given its role.

    Args:
        text: free text or markdown. HTML comments are skipped; so are headings, unless asked for.
        headings: read headings as sentences too.

    Returns:
        Sentences in text order; token places refer to `text`. A list item that says nothing of the score by
        itself is read together with its lead-in, the sentence ending in a colon before the list.
    """
    masked = _MARKDOWN.sub(" ", _COMMENT.sub(_blank, text))
    sentences: list[Sentence] = []
    lead: tuple[int, int] | None = None
    for start, end, item in _blocks(_COMMENT.sub(_blank, text), headings):
        spans = _sentence_spans(masked, start, end)
        for span in spans:
            own = _read(masked, [span])
            if item and lead and not _speaks(own):
                own = _read(masked, [lead, span])
            sentences.append(own)
        if not item or masked[start:end].rstrip().endswith(":"):
            lead = spans[-1] if spans and masked[start:end].rstrip().endswith(":") else None
    return sentences


def _sentence_spans(masked: str, start: int, end: int) -> list[tuple[int, int]]:
    spans = []
    for match in _SENTENCE_END.finditer(masked, start, end):
        spans.append((start, match.end()))
        start = match.end()
    spans.append((start, end))
    return [span for span in spans if masked[slice(*span)].strip()]


def _speaks(sentence: Sentence) -> bool:
    return any(token.role is Role.DIRECTION for clause in sentence.clauses for token in clause.tokens)


def _read(masked: str, spans: Sequence[tuple[int, int]]) -> Sentence:
    sentence = Sentence(" ".join(" ".join(masked[start:end].split()) for start, end in spans))
    tokens = [token for start, end in spans for token in _tokens(masked, start, end)]
    sentence.clauses = _clauses(tokens)
    names_score = any(token.kind is Kind.SCORE for token in tokens)
    continues = False
    for clause in sentence.clauses:
        for index in range(len(clause.tokens)):
            _assign_role(clause.tokens, index, names_score, continues)
        continues = continues or any(token.bound for token in clause.tokens)
    return sentence


def _tokens(masked: str, start: int, end: int) -> Iterator[Token]:
    for match in MASTER.finditer(masked, start, end):
        group = match.lastgroup or "WORD"
        morphology = vocab.morphology_of(group) if group.startswith("TERM") else None
        if group.startswith("TERM"):
            kind = Kind.TERM if morphology else Kind.WORD
        else:
            kind = Kind.WORD if group == "IGNORED" else Kind[group]
        word = "" if group == "IGNORED" else " ".join(match[0].lower().split())
        yield Token(kind, word, match.start(), match.end(), morphology)


def _clauses(tokens: Sequence[Token]) -> list[Clause]:
    clauses = [Clause([])]
    comma = False
    for token in tokens:
        if token.kind not in (Kind.STRONG, Kind.WEAK):
            clauses[-1].tokens.append(token)
            comma = False
            continue
        if clauses[-1].tokens:
            clauses.append(Clause([]))
        clause = clauses[-1]
        clause.strong = clause.strong or token.kind is Kind.STRONG
        clause.comma_and = clause.comma_and or (comma and token.word in ("and", "or"))
        clause.joined_by = token.word
        comma = token.word == ","
        if token.word == "nor":
            clause.tokens.append(Token(Kind.NEGATION, "nor", token.start, token.end))
    return [clause for clause in clauses if clause.tokens]


def _assign_role(tokens: Sequence[Token], index: int, names_score: bool, continues: bool) -> None:
    token = tokens[index]
    if token.kind is Kind.QUANTITY:
        token.role = Role.QUANTITY
    direction = DIRECTIONS.get(token.word) if token.kind is Kind.WORD else None
    if direction is None:
        return
    in_clause = any(other.kind is Kind.SCORE for other in tokens)
    if direction.word_class is WordClass.SIGNED:
        token.role = Role.DIRECTION if in_clause else Role.NONE
    elif direction.word_class is WordClass.PARTICLE:
        moved = any(other.word in vocab.MOVERS for other in tokens[max(0, index - _REACH - 1) : index])
        token.role = Role.DIRECTION if in_clause and moved else Role.NONE
    elif _score_follows(tokens, index) or _score_precedes(tokens, index) or _continues(tokens, index, continues):
        token.role, token.bound = Role.DIRECTION, True
    elif _is_quantity(tokens, index, direction.word_class):
        token.role = Role.QUANTITY
    elif direction.word_class in (WordClass.VERB, WordClass.PARTICIPLE) and names_score:
        token.role = Role.DIRECTION


def _score_follows(tokens: Sequence[Token], index: int) -> bool:
    for token in tokens[index + 1 : index + 2 + _REACH]:
        if token.kind is Kind.SCORE:
            return True
        if token.kind is not Kind.WORD or token.word in vocab.SUBORDINATORS or token.word in vocab.COPULAS:
            return False
    return False


def _score_precedes(tokens: Sequence[Token], index: int) -> bool:
    near = tokens[max(0, index - 2) : index]
    predicate = any(token.word in vocab.COPULAS for token in near) or _is_finite(tokens[index])
    for place in range(index - 1, -1, -1):
        token = tokens[place]
        if token.kind is Kind.SCORE:
            between = tokens[place + 1 : index]
            if any(other.word in vocab.SUBORDINATORS for other in between):
                return False
            if not between or between[0].word not in vocab.PREPOSITIONS:
                plain = all(other.kind in (Kind.WORD, Kind.NEGATION) for other in between)
                loose = any(other.word in vocab.PREPOSITIONS for other in between)
                return plain and not loose and len(between) <= _REACH
            return predicate
    return False


def _is_finite(token: Token) -> bool:
    direction = DIRECTIONS[token.word]
    if direction.word_class is WordClass.INTRANSITIVE:
        return True
    return direction.word_class is WordClass.VERB and token.word not in ("raise", "lower")


def _continues(tokens: Sequence[Token], index: int, continues: bool) -> bool:
    following = tokens[index + 1].word if index + 1 < len(tokens) else ""
    return continues and index == 0 and (following in vocab.PREPOSITIONS or following in vocab.SUBORDINATORS)


def _is_quantity(tokens: Sequence[Token], index: int, word_class: WordClass) -> bool:
    if term_after(tokens, index) is not None:
        return True
    before = tokens[index - 1] if index else None
    if before is None or term_before(tokens, index) is None:
        return False
    if before.word in vocab.COPULAS or word_class is WordClass.INTRANSITIVE:
        return True
    return tokens[0].word in vocab.SUBORDINATORS and word_class is not WordClass.ADJECTIVE


def term_after(tokens: Sequence[Token], index: int) -> int | None:
    """Return the index of the morphology within three words after a quantity; None if there is none."""
    for place in range(index + 1, min(len(tokens), index + 2 + _QUANTITY_REACH)):
        if tokens[place].kind is Kind.TERM:
            return place
        if tokens[place].kind is not Kind.WORD or tokens[place].word in vocab.SUBORDINATORS:
            return None
    return None


def term_before(tokens: Sequence[Token], index: int) -> int | None:
    """Return the index of the morphology within three words before a quantity; None if there is none."""
    for place in range(index - 1, max(-1, index - 2 - _QUANTITY_REACH), -1):
        if tokens[place].kind is Kind.TERM:
            return place
        if tokens[place].kind is not Kind.WORD:
            return None
    return None


def opposite_of(tokens: Sequence[Token], index: int) -> str:
    """Return the lower-case word that inverts the direction at an index of a clause."""
    token = tokens[index]
    if token.word != "lower":
        return DIRECTIONS[token.word].opposite
    following = tokens[index + 1].word if index + 1 < len(tokens) else ""
    previous = tokens[index - 1].word if index else ""
    verb = following in vocab.DETERMINERS and previous not in vocab.DETERMINERS
    return "raise" if verb or not token.bound else "higher"
