"""The critics of a model's own pictures, and what is done with them, from the pack to the folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from accelerate import PartialState
from transformers import CLIPTokenizer

from pipelines.models.find import ModelFolder
from pipelines.training.architecture import load_tokenizer
from pipelines.training.captions import Facts, common_words
from pipelines.training.evaluation.dual_encoder import Finetuning, load_or_train_dual_encoder
from pipelines.training.evaluation.judge import TOY_NETWORK, Judge, NetworkSize, load_or_train_judge
from pipelines.training.evaluation.metrics import nearest_distances
from pipelines.training.evaluation.network import held_out, learnt_from, look
from pipelines.training.evaluation.painting import Manner, Painter
from pipelines.training.laying import bank_with_things
from pipelines.training.pack import is_validation, prepare_pack, read_shards
from pipelines.training.pictures import PictureBank
from pipelines.training.ranking import Critics, Ranking, TooAlike, plan_wishes, rank
from pipelines.training.rereading import known_words
from pipelines.training.seeing import load_classifier
from pipelines.training.stages import Run
from pipelines.training.transplants import Transplanting, cut_out_things, in_strokes, over, transplant
from pipelines.training.verdicts import AIMS
from pipelines.training.wordnet import WordNet

_SEED = 100
"""The evaluation's judges start from seeds 0 and 1: these have nothing in common with them but the pack."""

_LEAST_WISHED = 2
"""Told of fewer pictures a word is hardly known to the critics."""

_KINDS = {"05": "animals", "13": "plants", "20": "plants", "18": "persons", "06": "things"}
"""Kinds of subjects by WordNet's lexicographers' files; food is with the plants, what is made are things."""

_KIND_SHARES = {"animals": 0.2, "plants": 0.15, "persons": 0.15, "things": 0.3, "others": 0.2}

_RENDERED_SHARE = 0.4
"""Of the single words that a U-Net is tuned by: of 3D renders the most is wanting."""


@dataclass(frozen=True)
class Schooling:
    """How long critics learn, and whether they are toys, for tests."""

    toy: bool
    judge_steps: int
    finetuning_steps: int = 0

    @property
    def network(self) -> NetworkSize:
        """The size of each."""
        return TOY_NETWORK if self.toy else NetworkSize()


def rank_with_critics(
    data: Path,
    output: Path,
    model: ModelFolder,
    classifier: Path,
    *,
    wordnet: WordNet | None,
    name: str,
    wishes: int,
    seed: int,
    manner: Manner,
    ranking: Ranking,
    schooling: Schooling,
    batch_size: int,
    workers: int,
    limit: int | None,
    say: Callable[[str], None],
) -> int:
    """Train the critics, unless an earlier call has, and rank; returns how many pictures `own/name` holds.

    Single words are wished for where `wordnet` knows them for things; without it none are, but genres in
    styles and what the pack has.
    Raises FileNotFoundError where `data` holds no shard.
    """
    bank = _lay_out(data, output, workers, limit)
    critics = gather_critics(bank, data, output, classifier, schooling, limit=limit, say=say)
    facts = _facts(data, limit)
    common = common_words(one.title for one in facts)
    words = {} if wordnet is None else _subjects(facts, wordnet, load_tokenizer(model.path / "tokenizer"))
    planned = plan_wishes(facts, common, words, wishes, seed)
    return rank(
        Painter(model, bank.device, batch_size),
        manner,
        critics,
        _too_alike(critics.judge, bank, ranking.nearest),
        planned,
        output / "own" / name,
        common=common,
        ranking=ranking,
        seed=seed,
        say=say,
    )


def transplant_things(
    data: Path,
    output: Path,
    model: ModelFolder | None,
    *,
    wordnet: WordNet,
    name: str,
    count: int,
    seed: int,
    steps: int,
    guidance_scale: float | None,
    schooling: Schooling,
    batch_size: int,
    workers: int,
    limit: int | None,
    say: Callable[[str], None],
) -> int:
    """Transplant things of the pack into its paintings; returns what `own/name` holds.

    Painted over by a `model`, they are seen by the critics' judge, who is trained unless an earlier call has;
    without one they are painted in by strokes. `guidance_scale` is the model's own where it is None.
    Raises FileNotFoundError where `data` holds no shard, ValueError where it has nothing to transplant.
    """
    bank = _lay_out(data, output, workers, limit)
    entries, transplanting = read_shards(data, limit), Transplanting()
    if model is None:
        paint, judge = in_strokes(transplanting.laying), None
    else:
        pace = model.defaults
        guidance = pace.guidance_scale if guidance_scale is None else guidance_scale
        painter = Painter(model, bank.device, batch_size)
        paint = over(painter, Manner(pace.sampler, steps, guidance), transplanting)
        judge = _gather_judge(bank, output, schooling, seed=_SEED, say=say)
    return transplant(
        paint,
        judge,
        cut_out_things(entries, wordnet),
        bank,
        count,
        output / "own" / name,
        common=common_words(entry.facts.title for entry in entries if not is_validation(entry.key)),
        transplanting=transplanting,
        seed=seed,
        say=say,
    )


def reward_with_critics(
    data: Path,
    output: Path,
    model: Path,
    classifier: Path,
    *,
    wordnet: WordNet,
    size: str,
    minutes: float | None,
    max_steps: int | None,
    batch_size: int | None,
    aim: str,
    wishes: int,
    seed: int,
    weight: float | None,
    learning_rate: float | None,
    rendered_share: float | None,
    own: Path | None,
    schooling: Schooling,
    resume: bool,
    workers: int,
    limit: int | None,
    say: Callable[[str], None],
) -> None:
    """Train the critics, unless an earlier call has, and tune the model's U-Net; leaves `output/model`.

    `aim` is one of `AIMS`. Single words are wished for where `wordnet` knows them for things. The pictures in
    folders of `own` are learnt from beside the pack's.
    Raises FileNotFoundError where `data` holds no shard.
    """
    run = Run.start(data, output, size=size, resume=resume, workers=workers, limit=limit, own=own)
    with run.accelerator.main_process_first():
        start = _SEED + 10 * seed
        bank = PictureBank(output / "pack", run.accelerator.device, seed=start)
        critics = gather_critics(bank, data, output, classifier, schooling, limit=limit, seed=start, say=say)
        del bank  # the run loads its own
    facts = _facts(data, limit)
    words = _subjects(facts, wordnet, load_tokenizer(model / "tokenizer"))
    common = common_words(one.title for one in facts)
    run.reward(
        model,
        critics,
        load_classifier(classifier, run.accelerator.device),
        list(words),
        plan_wishes(facts, common, words, wishes, seed, AIMS[aim].word_share, _RENDERED_SHARE),
        weights=AIMS[aim].weights,
        minutes=minutes,
        max_steps=max_steps,
        batch_size=batch_size,
        weight=weight,
        learning_rate=learning_rate,
        rendered_share=rendered_share,
    )


def _subjects(facts: Sequence[Facts], net: WordNet, tokenizer: CLIPTokenizer) -> dict[str, float]:
    """The words that can be wished for as subjects, and how often each is."""
    return weigh_subjects(known_words(facts, net, tokenizer, _LEAST_WISHED), net)


def weigh_subjects(told: Mapping[str, int], net: WordNet) -> dict[str, float]:
    """How often each word is wished for, by how many pictures it is told of: the commonest more often.

    But not alone, and of each kind of subject as many as `_KIND_SHARES` says: one word of the pack's in 25 is
    an animal, and an artist asks for more.
    """
    kinds = {word: _KINDS.get(net.files[net.named_things(word)[0]], "others") for word in told}
    roots = {word: count**0.5 for word, count in told.items()}
    totals = dict.fromkeys(_KIND_SHARES, 0.0)
    for word, root in roots.items():
        totals[kinds[word]] += root
    return {word: _KIND_SHARES[kinds[word]] * root / totals[kinds[word]] for word, root in roots.items()}


def _lay_out(data: Path, output: Path, workers: int, limit: int | None) -> PictureBank:
    """The pack, laid out in `output/pack` and loaded onto the process's device."""
    torch.set_float32_matmul_precision("high")
    prepare_pack(data, output / "pack", workers=workers, limit=limit)
    return PictureBank(output / "pack", torch.device(PartialState().device or "cpu"), seed=_SEED)


def _facts(data: Path, limit: int | None) -> list[Facts]:
    """What the pack tells of its training pictures."""
    return [entry.facts for entry in read_shards(data, limit) if not is_validation(entry.key)]


def _too_alike(judge: Judge, bank: PictureBank, percentile: float) -> TooAlike:
    """Copies are nearer to a training picture than this percentile of held-out pictures is."""
    width = judge.features.out_features
    known = look(judge, learnt_from(bank), bank.device)[:, :width]
    _, real = held_out(bank)
    distances = nearest_distances(look(judge, real, bank.device)[:, :width], known)
    return TooAlike(known, float(distances.quantile(percentile)))


def gather_critics(
    bank: PictureBank,
    data: Path,
    output: Path,
    classifier: Path,
    schooling: Schooling,
    *,
    limit: int | None,
    seed: int = _SEED,
    say: Callable[[str], None],
) -> Critics:
    """Load the critics from `output/critics`, those trained there before or trained now on the pack.

    The dual encoder sees through the classifier, and teaches it.
    """
    steps = schooling.finetuning_steps
    judge = _gather_judge(bank, output, schooling, seed=seed, say=say)
    torch.manual_seed(seed + 1)
    things = partial(bank_with_things, bank, data, output, seed=seed + 1, limit=limit)
    encoder, tokenizer = load_or_train_dual_encoder(
        bank,
        output / "critics",
        size=schooling.network,
        steps=schooling.judge_steps,
        say=say,
        classifier=classifier,
        finetuning=Finetuning(steps, things) if steps else None,
    )
    return Critics(judge, encoder, tokenizer, bank.device)


def _gather_judge(
    bank: PictureBank, output: Path, schooling: Schooling, *, seed: int, say: Callable[[str], None]
) -> Judge:
    torch.manual_seed(seed)
    path = output / "critics" / "judge.safetensors"
    return load_or_train_judge(bank, path, size=schooling.network, steps=schooling.judge_steps, say=say)
