"""Pictures that the model paints itself, the best of several for each wish, to be trained on further.

The pack shows eleven lighthouses and no cat in art nouveau. A model that paints such a wish eight times gets
it right more often than once; trained on its own best, it gets it right more often still (reward-ranked
fine-tuning, Dong et al., 2023). What is best is said by a judge of style and genre, a dual encoder and a
rule for colours; no network is the evaluation's. A candidate too like a training picture is never kept.
"""

from __future__ import annotations

import math
import random
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from transformers import CLIPTokenizer

from pipelines.training.captions import Facts, compose_caption, telling_words, title_tags
from pipelines.training.evaluation.dual_encoder import DualEncoder
from pipelines.training.evaluation.judge import UNKNOWN, Judge, labels_of
from pipelines.training.evaluation.metrics import nearest_distances
from pipelines.training.evaluation.network import look
from pipelines.training.evaluation.painting import Manner, Painter
from pipelines.training.evaluation.palette import palette_words
from pipelines.training.evaluation.prompts import Wanted
from pipelines.training.evaluation.subjects import SubjectRanks
from pipelines.training.latent_bank import tokenize
from pipelines.training.pack import CAPTIONS_PER_ROW, FORMATS, RENDERED, STYLE_SHARES, Format, Row, save_rows

SHEETS = "botanical watercolour"


@dataclass(frozen=True)
class Ranking:
    """How many candidates a wish has, how much is dropped, and how much each opinion counts.

    `sure_enough` caps a log-probability, so that nothing is gained by pleasing a judge beyond reason, and
    `doubted_most` is the least that one of a title or a caption can be. `drop` is the share of each style's
    wishes whose best candidate is still too poor, `nearest` the percentile of held-out pictures' distances
    to training pictures below which a candidate is too like one.
    """

    candidates: int = 8
    wishes_at_once: int = 512
    drop: float = 0.3
    nearest: float = 0.05
    sure_enough: float = -0.3
    subject_weight: float = 1.0
    likeness_weight: float = 0.5
    doubted_most: float = -8.0
    palette_weight: float = 2.0


@dataclass(frozen=True)
class Wish:
    """A picture to be painted, and the facts that its caption was made of."""

    facts: Facts
    caption: str
    shape: Format


@dataclass(frozen=True)
class Critics:
    """Those who say how well a picture shows its wish."""

    judge: Judge
    encoder: DualEncoder
    tokenizer: CLIPTokenizer
    device: torch.device


@dataclass(frozen=True)
class TooAlike:
    """The judge's features of training pictures, and the distance to one below which a picture is a copy."""

    known: torch.Tensor
    distance: float


def plan_wishes(
    facts: Sequence[Facts],
    common: frozenset[str],
    words: Mapping[str, float],
    count: int,
    seed: int,
    word_share: float = 0.5,
    rendered_share: float = 0.25,
) -> list[Wish]:
    """Wish for a word in a style (`word_share`), for what the pack has (a fifth), or for a genre in a style.

    `facts` are those of training pictures. Of `words` each is wished for as often as it weighs, at least a
    `rendered_share` as 3D renders: these are words that some render is told by, as far as there are any.
    """
    rng = random.Random(seed)
    by_style: dict[str, list[Facts]] = defaultdict(list)
    for one in facts:
        by_style[one.style].append(one)
    shares = {style: STYLE_SHARES.get(style, 0.1) for style in by_style}
    # A style is no subject.
    words = {word: weight for word, weight in words.items() if word not in by_style}
    word_share = word_share if words else 0.0
    told = {word for one in by_style[RENDERED] for word in telling_words(one, common)}
    rendered = {word: weight for word, weight in words.items() if word in told} or words
    painted = [one for one in facts if one.genre and one.style not in (RENDERED, SHEETS)]
    manners = sorted({one.style for one in painted})
    wishes: list[Wish] = []
    for _ in range(count):
        style, kind = rng.choices(list(shares), list(shares.values()))[0], rng.random()
        if kind < word_share and RENDERED in shares and rng.random() < rendered_share:
            style = RENDERED
        elif word_share <= kind < 0.8 and painted:
            # Each style alike: what few pictures have, such as ukiyo-e, is asked for as often.
            style = rng.choice(manners)
        own = rng.choice(by_style[style])
        palette = rng.choice(facts).palette if rng.random() < 0.5 else ()
        palette = palette[: rng.randint(1, 2)]
        source = "emoji-3d" if style == RENDERED else "painting"
        if kind < word_share:
            known = rendered if style == RENDERED else words
            word = rng.choices(list(known), list(known.values()))[0]
            wished = Facts(source, style, title=word, palette=palette)
        elif kind < 0.8 and painted:
            other = rng.choice(painted)
            tags = [*title_tags(other.title, common), *other.seen]
            title = rng.choice(tags) if tags else ""
            wished = Facts(source, style, title=title, genre=other.genre, palette=palette)
        else:
            wished = own
        wishes.append(Wish(wished, compose_caption(wished, common, rng), rng.choice(FORMATS)))
    return wishes


def rank(
    painter: Painter,
    manner: Manner,
    critics: Critics,
    too_alike: TooAlike,
    wishes: Sequence[Wish],
    folder: Path,
    *,
    common: frozenset[str],
    ranking: Ranking,
    seed: int,
    say: Callable[[str], None],
) -> int:
    """Paint candidates, keep the best of each wish and write them as rows of pictures; return how many.

    `folder` is laid out as a prepared pack is. `seed` tells several calls' noise apart.
    """
    kept: list[tuple[Wish, torch.Tensor, float]] = []
    rng = random.Random(seed)
    for start in range(0, len(wishes), ranking.wishes_at_once):
        part = wishes[start : start + ranking.wishes_at_once]
        wanted = [
            Wanted(wish.caption, rng.getrandbits(31), wish.shape)
            for wish in part
            for _ in range(ranking.candidates)
        ]
        images = painter.paint(wanted, manner, lambda _: None)
        scores = score(critics, too_alike, part, images, ranking).unflatten(
            0, (len(part), ranking.candidates)
        )
        best = scores.max(1)
        for index, (wish, trial, value) in enumerate(
            zip(part, best.indices.tolist(), best.values.tolist(), strict=True)
        ):
            kept.append((wish, images[index * ranking.candidates + trial], value))
        say(f"  {len(kept)} of {len(wishes)} wishes painted")
    chosen = without_poorest(kept, ranking.drop)
    write_own([(wish, image) for wish, image, _ in chosen], folder, common, seed)
    return len(chosen)


def score(
    critics: Critics,
    too_alike: TooAlike,
    wishes: Sequence[Wish],
    images: Sequence[torch.Tensor],
    ranking: Ranking,
) -> torch.Tensor:
    """How well each candidate shows its wish, (N,); those of one wish come one after the other.

    Minus infinity is the score of a candidate too like a training picture.
    """
    device = critics.device
    each = len(images) // len(wishes)
    of = torch.arange(len(wishes), device=device).repeat_interleave(each)
    judge = critics.judge
    seen = look(judge, images, device)
    features, styles, genres = seen.split(
        [judge.features.out_features, len(judge.styles), len(judge.genres)], dim=1
    )
    asked = [wish.facts for wish in wishes for _ in range(each)]
    total = _sureness(styles, labels_of(judge.styles, [one.style for one in asked]), ranking)
    total += _sureness(genres, labels_of(judge.genres, [one.genre for one in asked]), ranking)
    places = look(critics.encoder, images, device)
    total += ranking.subject_weight * _subjects(critics, asked, places, ranking)
    total += ranking.likeness_weight * _likeness(critics, wishes, places, ranking, of)
    found = [_palette_found(wishes[index // each], image) for index, image in enumerate(images)]
    total += ranking.palette_weight * torch.tensor(found, device=device)
    near = nearest_distances(features, too_alike.known) < too_alike.distance
    return total.masked_fill(near, -math.inf)


def _sureness(logits: torch.Tensor, labels: torch.Tensor, ranking: Ranking) -> torch.Tensor:
    """The log-probability of labels (N,) by logits (N, K), no surer than is enough; 0 for unknown ones."""
    labels = labels.to(logits.device)
    sure = logits.log_softmax(1).gather(1, labels.clamp_min(0)[:, None])[:, 0]
    return sure.clamp(max=ranking.sure_enough).where(labels != UNKNOWN, 0.0)


@torch.no_grad()
def _subjects(
    critics: Critics, asked: Sequence[Facts], places: torch.Tensor, ranking: Ranking
) -> torch.Tensor:
    """How surely a dual encoder tells what each title names from all titles, in its style, (N,).

    0 where there is no title. `places` (N, D) is where the encoder puts the pictures.
    """
    names = sorted({one.title for one in asked} - {""})
    if not names:
        return places.new_zeros(len(places))
    ranks = SubjectRanks(critics.encoder, critics.tokenizer, names, critics.device)
    logits = critics.encoder.log_scale.exp() * ranks.likeness(places, [one.style for one in asked])
    told = _sureness(logits, labels_of(names, [one.title for one in asked]), ranking)
    return told.clamp_min(ranking.doubted_most)


@torch.no_grad()
def _likeness(
    critics: Critics, wishes: Sequence[Wish], places: torch.Tensor, ranking: Ranking, of: torch.Tensor
) -> torch.Tensor:
    """How likely a dual encoder finds a picture's own caption among all wishes', a log-probability."""
    ids = tokenize(critics.tokenizer, [wish.caption for wish in wishes]).to(critics.device)
    words = critics.encoder.encode_words(ids)
    logits = critics.encoder.log_scale.exp() * places @ words.T
    own = logits.gather(1, of[:, None])[:, 0]
    return (own - logits.logsumexp(1)).clamp_min(ranking.doubted_most)


def _palette_found(wish: Wish, image: torch.Tensor) -> float:
    """The share of the caption's colours that the picture shows; 1 where it names none."""
    asked = [colour for colour in wish.facts.palette if re.search(rf"\b{colour}\b", wish.caption)]
    if not asked:
        return 1.0
    shown = palette_words(image)
    return sum(colour in shown for colour in asked) / len(asked)


def without_poorest(
    kept: list[tuple[Wish, torch.Tensor, float]], drop: float
) -> list[tuple[Wish, torch.Tensor, float]]:
    """Leave out the lowest scores of each style, a share of `drop`, and whatever was refused altogether."""
    by_style: dict[str, list[tuple[Wish, torch.Tensor, float]]] = defaultdict(list)
    for one in kept:
        by_style[one[0].facts.style].append(one)
    chosen: list[tuple[Wish, torch.Tensor, float]] = []
    for group in by_style.values():
        group.sort(key=lambda one: one[2], reverse=True)
        chosen += [one for one in group[: math.ceil(len(group) * (1 - drop))] if one[2] > -math.inf]
    return chosen


def write_own(
    chosen: Sequence[tuple[Wish, torch.Tensor]],
    folder: Path,
    common: frozenset[str],
    seed: int,
    compose: Callable[[Facts, frozenset[str], random.Random], str] = compose_caption,
) -> None:
    """Lay pictures out as a prepared pack does; captions name the colours that came out."""
    folder.mkdir(parents=True, exist_ok=True)
    by_shape: dict[Format, list[tuple[Wish, torch.Tensor]]] = defaultdict(list)
    for wish, image in chosen:
        by_shape[wish.shape].append((wish, image))
    for shape, ones in by_shape.items():
        rows: list[Row] = []
        for index, (wish, image) in enumerate(ones):
            rng = random.Random(f"{seed} {shape.name} {index}")
            facts = replace(wish.facts, palette=palette_words(image))
            captions = [wish.caption]
            captions += [compose(facts, common, rng) for _ in range(CAPTIONS_PER_ROW - 1)]
            rows.append(
                Row(
                    key=f"own-{seed}-{shape.name}-{index}",
                    source="own",
                    style=facts.style,
                    genre=facts.genre,
                    artist="",
                    validation=False,
                    weight=1 / len(chosen),
                    captions=captions,
                    words=telling_words(facts, common),
                )
            )
        np.save(folder / f"pixels-{shape.name}.npy", torch.stack([image for _, image in ones]).numpy())
        save_rows(folder, shape, rows)
