"""Rows that share their prompts, such as the options of a question: each prompt is computed once.

A batch has three levels: a beginning that all of its rows share, the rest of each question's
prompt, and the options. A token attends to what is before it in its own row. The last token of a
row predicts nothing, so it is not computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from finetuning_exam.data.encoding.encoder import Encoded
from finetuning_exam.data.encoding.labels import IGNORED

MAX_OPTIONS = 8
"""Rows of one prompt whose attention is computed together; more are separate questions."""
_UNSEEN = -1


@dataclass(frozen=True, slots=True)
class Question:
    """The positions of one question in a batch.

    tokens: (own,) the packed token at each position; keys: (keys,) the tokens that these may attend
    to; distance: (own, keys) how far before a token a key is in its row, -1 if it is unseen.
    """

    tokens: Tensor
    keys: Tensor
    distance: Tensor


@dataclass(frozen=True, slots=True)
class Questions:
    """Questions padded to one size, whose attention is computed together.

    tokens: (questions, own); keys: (questions, keys); distance: (questions, own, keys); `is_real`:
    (questions, own), false at padding.
    """

    tokens: Tensor
    keys: Tensor
    distance: Tensor
    is_real: Tensor


@dataclass(frozen=True, slots=True)
class SharedRows:
    """Rows of a batch without what they repeat; the fields are those of `PackedRows`."""

    ids: Tensor
    positions: Tensor
    groups: tuple[Questions, ...]
    predicting: Tensor
    targets: Tensor
    row_of_target: Tensor
    n_rows: int


def by_question(rows: Sequence[Encoded]) -> list[list[int]]:
    """Return the indices of rows with the same prompt, at most `MAX_OPTIONS` together.

    Questions with like prompts are next to each other.
    """
    found: dict[tuple[int, ...], list[int]] = {}
    for index, row in enumerate(rows):
        found.setdefault(row.ids[: row.prompt_length], []).append(index)
    return [
        indices[start : start + MAX_OPTIONS]
        for _, indices in sorted(found.items(), key=lambda item: (len(item[0]), item[0]))
        for start in range(0, len(indices), MAX_OPTIONS)
    ]


def share_prompts(rows: Sequence[Encoded], device: torch.device) -> SharedRows:
    """Pack rows so that what they have in common is there once.

    Every supervised token must come after its row's prompt.
    """
    questions = by_question(rows)
    prompts = [rows[indices[0]].ids[: rows[indices[0]].prompt_length] for indices in questions]
    n_common = _n_common(prompts)
    ids = list(prompts[0][:n_common])
    positions = list(range(n_common))
    groups = [_question(range(0), [range(n_common)])] if n_common else []
    predicting: list[int] = []
    targets: list[int] = []
    row_of_target: list[int] = []
    for prompt, indices in zip(prompts, questions, strict=True):
        stem = range(len(ids), len(ids) + len(prompt) - n_common)
        ids += prompt[n_common:]
        positions += range(n_common, len(prompt))
        options: list[range] = []
        for index in indices:
            row = rows[index]
            answer = row.ids[len(prompt) : -1]
            option = range(len(ids), len(ids) + len(answer))
            path = [*range(n_common), *stem, *option]
            found = [at for at, label in enumerate(row.labels) if label != IGNORED]
            predicting += [path[at - 1] for at in found]
            targets += [row.ids[at] for at in found]
            row_of_target += [index] * len(found)
            ids += answer
            positions += range(len(prompt), len(prompt) + len(answer))
            options.append(option)
        groups.append(_question(range(n_common), [stem, *options]))
    common, *rest = ([groups[0]], groups[1:]) if n_common else ([], groups)
    batches = [_padded(it) for it in (common, *rest) if it]
    return SharedRows(
        ids=torch.tensor(ids, dtype=torch.int64, device=device),
        positions=torch.tensor(positions, dtype=torch.int64, device=device),
        groups=tuple(batches),
        predicting=torch.tensor(predicting, dtype=torch.int64, device=device),
        targets=torch.tensor(targets, dtype=torch.int64, device=device),
        row_of_target=torch.tensor(row_of_target, dtype=torch.int64, device=device),
        n_rows=len(rows),
    )


def n_shared_tokens(rows: Sequence[Encoded]) -> int:
    """Return how many tokens are computed for rows of one batch."""
    prompts = [rows[it[0]].ids[: rows[it[0]].prompt_length] for it in by_question(rows)]
    n_common = _n_common(prompts)
    options = sum(len(row.ids) - row.prompt_length - 1 for row in rows)
    return n_common + sum(len(it) - n_common for it in prompts) + options


def _n_common(prompts: Sequence[tuple[int, ...]]) -> int:
    """Return the length of the beginning that all prompts share."""
    first, last = min(prompts), max(prompts)
    for at, pair in enumerate(zip(first, last, strict=False)):
        if pair[0] != pair[1]:
            return at
    return min(len(first), len(last))


def _question(common: range, parts: Sequence[range]) -> Question:
    """Return a question: its prompt's own part and its options, after what the batch shares.

    `parts` are tokens; the first part is seen by all, any other one only by itself.
    """
    stem, *options = parts
    own = torch.tensor([token for part in parts for token in part], dtype=torch.int64)
    part_of = torch.tensor([number for number, part in enumerate(parts) for _ in part])
    places = [*range(len(stem)), *(len(stem) + n for it in options for n in range(len(it)))]
    at = torch.tensor(places, dtype=torch.int64)
    n_common = len(common)
    distance = at[:, None] - at[None, :]
    is_other = (part_of[None, :] != 0) & (part_of[None, :] != part_of[:, None])
    distance = distance.clamp(min=_UNSEEN).masked_fill(is_other, _UNSEEN)
    to_common = n_common + at[:, None] - torch.arange(n_common)[None, :]
    keys = torch.cat((torch.tensor(list(common), dtype=torch.int64), own))
    return Question(own, keys, torch.cat((to_common, distance), dim=1))


def _padded(questions: Sequence[Question]) -> Questions:
    """Pad questions to the longest; padding attends to one key, so that it stays finite."""
    n_own = max(len(it.tokens) for it in questions)
    n_keys = max(len(it.keys) for it in questions)
    tokens = torch.zeros((len(questions), n_own), dtype=torch.int64)
    keys = torch.zeros((len(questions), n_keys), dtype=torch.int64)
    distance = torch.full((len(questions), n_own, n_keys), _UNSEEN, dtype=torch.int32)
    is_real = torch.zeros((len(questions), n_own), dtype=torch.bool)
    distance[:, :, 0] = 0
    for index, it in enumerate(questions):
        own, seen = len(it.tokens), len(it.keys)
        tokens[index, :own] = it.tokens
        keys[index, :seen] = it.keys
        distance[index, :own, :seen] = it.distance
        is_real[index, :own] = True
    return Questions(tokens, keys, distance, is_real)


def attend_to_prompts(
    q: Tensor, k: Tensor, v: Tensor, groups: Sequence[Questions], window: int | None = None
) -> Tensor:
    """Run PyTorch's attention on shared rows; arguments as in `causal_attention`."""
    heads, _, per_key, width = q.shape
    out = torch.zeros_like(q)
    for group in groups:
        n_questions, n_own = group.tokens.shape
        is_seen = group.distance >= 0
        if window is not None:
            is_seen &= group.distance < window
        # (questions, heads of queries, own or keys, width)
        q_part = q[:, group.tokens].permute(1, 0, 3, 2, 4).flatten(1, 2)
        k_part, v_part = (
            x[:, group.keys, 0].transpose(0, 1).repeat_interleave(per_key, dim=1) for x in (k, v)
        )
        answer = scaled_dot_product_attention(
            q_part, k_part, v_part, attn_mask=is_seen[:, None].to(q.device), scale=1.0
        )
        answer = answer.view(n_questions, heads, per_key, n_own, width).permute(1, 0, 3, 2, 4)
        out[:, group.tokens[group.is_real]] = answer[:, group.is_real]
    return out
