"""Claims: which morphology an explanation says raises or lowers the score, read by plain rules.

The grammar, on top of the roles that `grammar` gives to words (vocabulary in `vocabulary`):

- Text is cut into sentences, list items and, at commas, conjunctions and parentheses, into clauses. Headings
  and HTML comments say nothing. A list item without a direction of its own is read with its lead-in (``What
  raises the score:``).
- Morphologies named before a direction are its subjects (``X and Y raise the score``; ``X raises and Y lowers
  it``). When the direction comes first, those after it are (``the score falls with X and Y``; ``raises the
  score: X, Y``).
- A morphology after the direction of a clause that already has its subject is a place, not a claim
  (``X raises the score in Y``); so is one after another behind a preposition of place (``X in Y raise the
  score``).
- A negative quantity turns its morphology's claim round: ``few X lower the score`` says that X raises it. So
  do ``absence of X``, ``no X``, ``low X``, ``where X is sparse``, ``as X decreases``.
- A negated direction (``does not raise``) makes no claim, nor does an excluded morphology (``not X``,
  ``rather than X``, ``regardless of X``), nor a clause that says both at once (``X raises and lowers the
  score``).
- Limits: no sense of chance (``reduces the chance of a low score``), irony, or a pronoun other than ``it``. A
  sentence outside the grammar yields no claim; what was understood is shown to the user with the scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from slidestudy.explanations.grammar import (
    Clause,
    Kind,
    Role,
    Sentence,
    Token,
    read_sentences,
    strip_comments,
    term_after,
    term_before,
)
from slidestudy.explanations.vocabulary import DIRECTIONS, LOCATIVES, Morphology

__all__ = ["Claim", "Morphology", "parse_claims", "strip_comments"]

_NEGATION_REACH = 6
_EXCLUSION_REACH = 3
_PASSED_ON_BY_AND = frozenset(
    f"{noun} of" for noun in ("absence", "lack", "loss", "paucity", "scarcity", "devoid", "depleted", "free")
) | {"free from"}
_PASSED_ON_BY_OR = frozenset(["no", "without"])


@dataclass(frozen=True)
class Claim:
    """One claim of an explanation: more of the morphology raises (+1) or lowers (-1) the score."""

    morphology: Morphology
    direction: int
    sentence: str


@dataclass
class _Subject:
    morphology: Morphology
    quantity: int
    claimed: int | None = None


@dataclass
class _Direction:
    sign: int  # 0 where negated


_Event = _Subject | _Direction


def parse_claims(explanation_text: str) -> list[Claim]:
    """Read the claims of an explanation.

    Args:
        explanation_text: free text or markdown.

    Returns:
        Claims in text order. A claim made twice counts once (its first sentence is kept); contradictory
        claims of different clauses are both kept, and cancel when an answer is computed.
    """
    claims: dict[tuple[Morphology, int], Claim] = {}
    for sentence in read_sentences(explanation_text):
        for subject in _attach(sentence):
            direction = (subject.claimed or 0) * subject.quantity
            if direction:
                claim = Claim(subject.morphology, direction, sentence.text)
                claims.setdefault((claim.morphology, claim.direction), claim)
    return list(claims.values())


@dataclass
class _State:
    """What the clauses so far have left open in a sentence."""

    waiting: list[_Subject] = field(default_factory=list)
    """Morphologies that still wait for a direction."""
    leading: _Direction | None = None
    """A direction that came before its morphologies and still takes more of them."""
    denied: list[_Subject] = field(default_factory=list)
    """Subjects of a negated direction, for ``does not raise but lowers``."""
    taken: list[_Subject] = field(default_factory=list)
    """Subjects that the last direction was said of."""
    subjects: list[_Subject] = field(default_factory=list)


def _attach(sentence: Sentence) -> list[_Subject]:
    """Give every morphology of a sentence the direction that is said of it, if one is."""
    state = _State()
    passed_on = 1
    events: list[list[_Event]] = []
    for clause in sentence.clauses:
        clause_events, passed_on = _events(clause, passed_on)
        events.append(clause_events)
    for index, clause in enumerate(sentence.clauses):
        if clause.strong or (clause.comma_and and _belongs_ahead(events, sentence.clauses, index)):
            state.leading = None
        if _likewise(clause) and state.taken and not any(isinstance(event, _Direction) for event in events[index]):
            state.leading = _Direction(state.taken[0].claimed or 0)
        if _contradicts(events, sentence.clauses, index, state):
            for subject in state.taken:
                subject.claimed = None
        else:
            _attach_clause(events[index], state)
    return state.subjects


def _likewise(clause: Clause) -> bool:
    """Whether a clause repeats the direction of the one before: ``and so does X``, ``as do X and Y``."""
    words = [token.word for token in clause.tokens[:2]]
    return len(words) == 2 and words[0] in ("so", "as") and words[1] in ("do", "does")


def _contradicts(events: Sequence[Sequence[_Event]], clauses: Sequence[Clause], index: int, state: _State) -> bool:
    """Whether a clause only says the opposite of the last subjects: ``X raises and lowers the score``."""
    if not events[index] or not state.taken or state.waiting or state.leading or state.denied:
        return False
    if clauses[index].joined_by not in ("and", "or", "but", "yet", ","):
        return False
    ahead = events[index + 1] if index + 1 < len(events) else []
    if any(isinstance(event, _Subject) for event in events[index]):
        return False
    if ahead and not any(isinstance(event, _Direction) for event in ahead):
        return False
    signs = {event.sign for event in events[index] if isinstance(event, _Direction)} - {0}
    return bool(signs) and signs != {state.taken[0].claimed}


def _belongs_ahead(events: Sequence[Sequence[_Event]], clauses: Sequence[Clause], index: int) -> bool:
    """Whether the list starting at a clause after ``, and`` is the subject of a direction still to come."""
    for ahead in range(index, len(clauses)):
        if ahead > index and clauses[ahead].strong:
            return False
        if any(isinstance(event, _Direction) for event in events[ahead]):
            return isinstance(events[ahead][0], _Subject)
    return False


def _attach_clause(events: Sequence[_Event], state: _State) -> None:
    taken: list[_Subject] = []
    signs: set[int] = set()
    for event in events:
        if isinstance(event, _Subject):
            state.subjects.append(event)
            if state.leading is not None:
                event.claimed = state.leading.sign
            else:
                state.waiting.append(event)
            continue
        subjects = state.waiting or (state.denied if not taken and event.sign else [])
        if subjects:
            for subject in subjects:
                subject.claimed = event.sign
            taken, signs = list(subjects), {event.sign} - {0}
            state.taken = taken
            state.denied = taken if event.sign == 0 else []
            state.waiting, state.leading = [], None
        else:
            state.leading, state.denied = event, []
            signs |= {event.sign} - {0}
    if taken:
        _settle(events, taken, signs, state)


def _settle(events: Sequence[_Event], taken: Sequence[_Subject], signs: set[int], state: _State) -> None:
    """End a clause whose direction found its subjects: the rest are places, opposite signs cancel."""
    state.waiting = []
    if isinstance(events[-1], _Direction) or state.leading is None:
        state.leading = None
        if len(signs) > 1:
            for subject in taken:
                subject.claimed = None


def _events(clause: Clause, passed_on: int) -> tuple[list[_Event], int]:
    """Return a clause's morphologies and directions in order, and the quantity it passes on to a list."""
    tokens = clause.tokens
    quantities, last = _quantities(clause, passed_on)
    silent, negated = _negations(tokens, quantities)
    events: list[_Event] = []
    for index, token in enumerate(tokens):
        if index in silent:
            continue
        if token.kind is Kind.TERM and token.morphology and not _modifies(tokens, index):
            if not _is_place(tokens, index):
                events.append(_Subject(token.morphology, quantities.get(index, 1)))
        elif token.role is Role.DIRECTION:
            events.append(_Direction(0 if index in negated else DIRECTIONS[token.word].sign))
    return events, last


def _quantities(clause: Clause, passed_on: int) -> tuple[dict[int, int], int]:
    tokens = clause.tokens
    signs: dict[int, int] = {}
    last = 1
    if passed_on < 0 and tokens[0].kind is Kind.TERM and clause.joined_by in ("and", "or", ","):
        signs[0] = last = passed_on
    for index, token in enumerate(tokens):
        if token.role is not Role.QUANTITY:
            continue
        sign = -1 if token.kind is Kind.QUANTITY else DIRECTIONS[token.word].sign
        suffix = token.word in ("poor", "free") and index > 0 and tokens[index - 1].kind is Kind.TERM
        target = None if suffix else term_after(tokens, index)
        prefix_only = token.word in _PASSED_ON_BY_OR or token.word in _PASSED_ON_BY_AND
        if target is None and not prefix_only:
            target = term_before(tokens, index)
        if target is not None:
            target = _head(tokens, target)
            signs[target] = signs.get(target, 1) * sign
            if token.word in _PASSED_ON_BY_AND or token.word in _PASSED_ON_BY_OR:
                last = sign
    return signs, last


def _head(tokens: Sequence[Token], index: int) -> int:
    while _modifies(tokens, index):
        index += 1
    return index


def _modifies(tokens: Sequence[Token], index: int) -> bool:
    """Whether a morphology stands right before another and only qualifies it: ``stromal lymphocytes``."""
    if index + 1 >= len(tokens) or tokens[index].kind is not Kind.TERM:
        return False
    return tokens[index + 1].kind is Kind.TERM and tokens[index + 1].start - tokens[index].end <= 1


def _is_place(tokens: Sequence[Token], index: int) -> bool:
    """Whether a morphology is where another one is: ``lymphocytes in the stroma``."""
    for place in range(index - 1, max(-1, index - 4), -1):
        token = tokens[place]
        if token.kind is not Kind.WORD:
            return False
        if token.word in LOCATIVES:
            before = tokens[:place]
            rich = bool(before) and (before[-1].role is Role.QUANTITY or before[-1].word == "rich")
            named = any(other.kind is Kind.TERM for other in before)
            return named and not rich and all(other.role is not Role.DIRECTION for other in before)
    return False


def _negations(tokens: Sequence[Token], quantities: dict[int, int]) -> tuple[set[int], set[int]]:
    """Return the indices that negations and exclusions silence, and those of negated directions."""
    silent: set[int] = set()
    negated: set[int] = set()
    for index, token in enumerate(tokens):
        bare = token.kind is Kind.QUANTITY and token.word in _PASSED_ON_BY_OR and term_after(tokens, index) is None
        if token.kind not in (Kind.NEGATION, Kind.EXCLUDING) and not bare:
            continue
        for place in range(index + 1, min(len(tokens), index + 1 + _NEGATION_REACH)):
            other = tokens[place]
            if other.role is Role.QUANTITY and token.kind is Kind.NEGATION:
                target = term_after(tokens, place)
                target = term_before(tokens, place) if target is None else target
                if target is not None:
                    quantities[target] = quantities.get(target, 1) * -1
                break
            if other.role is Role.DIRECTION:
                earlier = any(before.role is Role.DIRECTION for before in tokens[:index])
                (silent if earlier or token.kind is Kind.EXCLUDING else negated).add(place)
                break
            if other.kind is Kind.TERM and place - index <= _EXCLUSION_REACH:
                silent.add(_head(tokens, place))
                break
    return silent, negated
