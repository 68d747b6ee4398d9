"""Encoders of every kind, made once in a test session."""

from __future__ import annotations

import pytest
from encoders import KINDS, LOSSES, PLAIN_KINDS, Encoders, MakeTokenizer

from finetuning_exam.data.encoding.encoder import make_encoder


@pytest.fixture(scope="session")
def encoders(make_tokenizer: MakeTokenizer) -> Encoders:
    """An encoder for every kind of tokenizer and every choice of what is supervised."""
    return {
        (name, loss_on): make_encoder(make_tokenizer(**kwargs), template, loss_on=loss_on)
        for name, (template, kwargs) in KINDS.items()
        for loss_on in LOSSES
    }


@pytest.fixture(params=KINDS, scope="session")
def kind(request: pytest.FixtureRequest) -> str:
    """Every kind of tokenizer and template."""
    return str(request.param)


@pytest.fixture(params=PLAIN_KINDS, scope="session")
def plain_kind(request: pytest.FixtureRequest) -> str:
    """Every kind of tokenizer with the plain template."""
    return str(request.param)
