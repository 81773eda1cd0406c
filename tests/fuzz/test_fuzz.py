# SPDX-License-Identifier: Apache-2.0
"""Every kept input gets an answer, a short campaign finds nothing, and the harness itself finds what there is."""

from __future__ import annotations

import pytest

from tests.fuzz import campaign as harness
from tests.fuzz.campaign import CORPUS, TooSlow, campaign, corpus, try_one
from tests.fuzz.targets import TARGETS, Target


@pytest.mark.parametrize("name", TARGETS)
def test_every_kept_input_gets_an_answer(name: str) -> None:
    for raw in corpus(name):
        try_one(TARGETS[name], raw)


@pytest.mark.parametrize("name", TARGETS)
def test_a_short_campaign_finds_nothing(name: str) -> None:
    report = campaign(name, seconds=10, seed=1, inputs_max=300)
    assert report.found is None, report.found


def test_every_folder_of_the_corpus_is_of_a_target() -> None:
    assert {path.name for path in CORPUS.iterdir()} <= TARGETS.keys()


def _fragile(raw: bytes) -> None:
    if b"{" in raw:
        raise KeyError("a bug")
    if raw:
        raise ValueError("an answer")


def test_a_campaign_finds_an_exception_that_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TARGETS, "fragile", Target(_fragile, (ValueError,), (b"{",)))
    found = campaign("fragile", seconds=10, seed=1, inputs_max=10_000).found
    assert found is not None and b"{" in found.raw and "KeyError" in found.how


def _endless(raw: bytes) -> None:
    while True:
        pass


def test_a_campaign_finds_what_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "SECONDS_EACH", 0.05)
    with pytest.raises(TooSlow):
        try_one(Target(_endless, (ValueError,), ()), b"")
