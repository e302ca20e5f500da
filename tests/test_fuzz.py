"""Damaged files of every kind, made anew each time, through a real daemon.

The long version is `mineru-daemon bench fuzz`.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from random import Random

import pytest

from mineru_daemon.bench import fuzz, mutations
from mineru_daemon.bench.originals import originals
from mineru_daemon.bench.process import Served
from mineru_daemon.documents import Limits, check_complete, sniff
from mineru_daemon.documents.reader import Reader
from mineru_daemon.errors import IncompleteError


@pytest.mark.slow
def test_every_damaged_file_is_answered_by_a_result_or_a_sentence(tmp_path):
    findings = fuzz.storm(tmp_path, count=150, seed=3)
    assert findings.wrong == []
    assert (findings.lost, findings.doubled, findings.process_ends) == (0, 0, 0)
    assert findings.files.total() == 150
    assert findings.over_time == 0
    assert sum(one["read"] for one in findings.outcomes.values()) >= 10
    assert sum(one["refused"] for one in findings.outcomes.values()) >= 10

    # What it would not let pass: an answer that is missing, one that is two, no sentence.
    served = Served(tmp_path)
    names = {path.name.removesuffix(".json"): "" for path in fuzz._answers(served)}
    lost, doubled, mumbled = sorted(served.failed.glob("*.json"))[:3]
    (served.outbox / doubled.name).write_bytes(doubled.read_bytes())
    lost.unlink()
    said = json.loads(mumbled.read_bytes())
    said["error"]["message"] = "Traceback (most recent call last):\n  File"
    mumbled.write_text(json.dumps(said))
    again = fuzz.Findings()
    fuzz.check(served, dict.fromkeys(names, ""), again)
    assert (again.lost, again.doubled) == (1, 1)
    assert any("Traceback" in one for one in again.wrong)


def test_the_originals_are_sound(tmp_path):
    with Reader() as reader:
        for kind, content in originals().items():
            path = tmp_path / kind
            path.write_bytes(content)
            with reader.open(path, Limits()) as document:
                for index in range(document.page_count):
                    assert document.page(index).render().pixels.min() < 128, "text is seen"


def test_a_seed_makes_the_same_files_and_no_two_alike():
    first = list(mutations.stream(originals(), 700, seed=5))
    assert first == list(mutations.stream(originals(), 700, seed=5))
    assert first[-1] != list(mutations.stream(originals(), 700, seed=6))[-1]
    assert len({content for _, content in first}) == 700
    made = {content for _, content in first}
    for cut in (5, 50, 95):
        for content in originals().values():
            assert content[: max(1, len(content) * cut // 100)] in made


@pytest.mark.parametrize("form", sorted({**mutations.WHOLE, **mutations.BREAKING}))
def test_mutations_of_the_structure_leave_the_kind(form):
    contents = [content for kind, content in originals().items() if kind.startswith(form)]
    choice = Random(1)
    for mutation in (*mutations.WHOLE.get(form, ()), *mutations.BREAKING.get(form, ())):
        made = [mutation(content, choice) for content in contents for _ in range(20)]
        assert len(set(made)) > 5
        assert all(sniff(one) for one in made)


def test_most_mutated_files_count_as_arrived_and_reach_the_decoders(tmp_path):
    path, choice = tmp_path / "one", Random(1)
    sound = originals()
    arrived = Counter[str]()
    for kind, content in sound.items():
        for _ in range(20):
            path.write_bytes(mutations.mutated(kind, content, choice))
            with contextlib.suppress(IncompleteError):
                check_complete(path, Limits())
                arrived[kind] += 1
    assert min(arrived[kind] for kind in sound) >= 10
    assert 0.75 * 20 * len(sound) < arrived.total() < 0.98 * 20 * len(sound)
