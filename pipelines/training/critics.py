"""The critics of a model's own pictures, and what is done with them, from the pack to the folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from accelerate import PartialState
from transformers import CLIPTokenizer

from pipelines.models.find import ModelFolder
from pipelines.training.architecture import load_tokenizer
from pipelines.training.captions import common_words
from pipelines.training.evaluation.dual_encoder import load_or_train_dual_encoder
from pipelines.training.evaluation.judge import TOY_NETWORK, Judge, NetworkSize, load_or_train_judge
from pipelines.training.evaluation.metrics import nearest_distances
from pipelines.training.evaluation.network import held_out, learnt_from, look
from pipelines.training.evaluation.painting import Manner, Painter
from pipelines.training.evaluation.prompts import read_prompts
from pipelines.training.pack import is_validation, prepare_pack, read_shards
from pipelines.training.pictures import PictureBank
from pipelines.training.ranking import Critics, Ranking, TooAlike, Wish, plan_wishes, rank
from pipelines.training.seeing import Seer, load_seer
from pipelines.training.stages import Run
from pipelines.training.wordnet import WordNet

_SEED = 100
"""The evaluation's judges start from seeds 0 and 1: these have nothing in common with them but the pack."""

_MOST_TOKENS = 2

_HARDLY = 0.25
"""How much less often a word is wished for whose first meaning no picture can show."""


def rank_with_critics(
    data: Path,
    output: Path,
    model: ModelFolder,
    seer: Path,
    classifier: Path,
    *,
    name: str,
    wishes: int,
    seed: int,
    manner: Manner,
    ranking: Ranking,
    toy: bool,
    judge_steps: int,
    batch_size: int,
    workers: int,
    limit: int | None,
    say: Callable[[str], None],
) -> int:
    """Train the critics, unless an earlier call has, and rank; returns how many pictures `own/name` holds.

    Raises FileNotFoundError where `data` holds no shard.
    """
    device = torch.device(PartialState().device or "cpu")
    torch.set_float32_matmul_precision("high")
    prepare_pack(data, output / "pack", workers=workers, limit=limit)
    bank = PictureBank(output / "pack", device, seed=_SEED)
    critics = gather_critics(bank, output, seer, classifier, toy=toy, judge_steps=judge_steps, say=say)
    planned, common = _plan(data, weigh_words(critics.seer), wishes, seed, limit, {})
    return rank(
        Painter(model, device, batch_size),
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


def reward_with_critics(
    data: Path,
    output: Path,
    model: Path,
    seer: Path,
    classifier: Path,
    *,
    wordnet: WordNet | None,
    size: str,
    minutes: float | None,
    max_steps: int | None,
    batch_size: int | None,
    wishes: int,
    seed: int,
    weight: float | None,
    learning_rate: float | None,
    judge_steps: int,
    resume: bool,
    workers: int,
    limit: int | None,
    say: Callable[[str], None],
) -> None:
    """Train the critics, unless an earlier call has, and tune the model's U-Net; leaves `output/model`.

    With `wordnet` some wishes are worded as no caption is, so that the U-Net learns what to make of them.
    Raises FileNotFoundError where `data` holds no shard.
    """
    run = Run.start(data, output, size=size, resume=resume, workers=workers, limit=limit)
    with run.accelerator.main_process_first():
        start = _SEED + 10 * seed
        bank = PictureBank(output / "pack", run.accelerator.device, seed=start)
        toy = size == "toy"
        critics = gather_critics(
            bank, output, seer, classifier, toy=toy, judge_steps=judge_steps, seed=start, say=say
        )
        del bank  # the run loads its own
    near = {} if wordnet is None else _near(wordnet, critics.seer.words, load_tokenizer(model / "tokenizer"))
    planned, _ = _plan(data, weigh_words(critics.seer, wordnet), wishes, seed, limit, near)
    run.reward(
        model,
        critics,
        planned,
        minutes=minutes,
        max_steps=max_steps,
        batch_size=batch_size,
        weight=weight,
        learning_rate=learning_rate,
    )


def _plan(
    data: Path,
    words: dict[str, float],
    wishes: int,
    seed: int,
    limit: int | None,
    near: dict[str, list[str]],
) -> tuple[list[Wish], frozenset[str]]:
    """Wishes, and the common words of the pack's titles."""
    facts = [entry.facts for entry in read_shards(data, limit) if not is_validation(entry.key)]
    common = common_words(one.title for one in facts)
    return plan_wishes(facts, common, words, wishes, seed, near), common


def weigh_words(seer: Seer, wordnet: WordNet | None = None) -> dict[str, float]:
    """How often each of a seer's words is wished for, beside the others.

    As the square root of how often pictures show it: the commonest more often, but not alone. Half of what
    titles say is names of people and places and what else no picture can show: those less often where
    `wordnet` can tell them.
    """
    shown = seer.probe.get_buffer("prior").sigmoid().sqrt().tolist()
    return {
        word: often if wordnet is None or wordnet.is_seen(word) else _HARDLY * often
        for word, often in zip(seer.words, shown, strict=True)
    }


def _near(net: WordNet, words: Sequence[str], tokenizer: CLIPTokenizer) -> dict[str, list[str]]:
    """Words near each of these that the tokenizer cuts in two at the most: rarer ones nobody types.

    None is one that the evaluation holds to be unseen.
    """
    taken = {*words, *(new for new, _ in read_prompts().pairs.words)}

    def fits(word: str) -> bool:
        return word not in taken and len(tokenizer.tokenize(word)) <= _MOST_TOKENS

    return {word: [one for one in net.near(word) if fits(one)] for word in words}


def _too_alike(judge: Judge, bank: PictureBank, percentile: float) -> TooAlike:
    """Copies are nearer to a training picture than this percentile of held-out pictures is."""
    width = judge.features.out_features
    known = look(judge, learnt_from(bank), bank.device)[:, :width]
    _, real = held_out(bank)
    distances = nearest_distances(look(judge, real, bank.device)[:, :width], known)
    return TooAlike(known, float(distances.quantile(percentile)))


def gather_critics(
    bank: PictureBank,
    output: Path,
    seer: Path,
    classifier: Path,
    *,
    toy: bool,
    judge_steps: int,
    seed: int = _SEED,
    say: Callable[[str], None],
) -> Critics:
    """Load the critics from `output/critics`, those trained there before or trained now on the pack.

    The dual encoder sees through the seer's classifier.
    """
    network = TOY_NETWORK if toy else NetworkSize()
    folder = output / "critics"
    torch.manual_seed(seed)
    judge = load_or_train_judge(bank, folder / "judge.safetensors", size=network, steps=judge_steps, say=say)
    torch.manual_seed(seed + 1)
    encoder, tokenizer = load_or_train_dual_encoder(
        bank, folder, size=network, steps=judge_steps, say=say, classifier=classifier
    )
    return Critics(judge, encoder, tokenizer, load_seer(seer, classifier, bank.device), bank.device)
