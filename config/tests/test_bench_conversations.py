"""`manage.py bench conversations`: what is imported, and the table of what came of it."""

import io
from itertools import pairwise

import pytest

from config.bench import conversations, report
from config.embedded.process import StartProblemError


@pytest.mark.django_db
def test_what_is_made_up_comes_in_and_goes_out():
    file = io.BytesIO()
    conversations.write(file, 300)
    again = io.BytesIO()
    conversations.write(again, 300)
    assert file.getvalue() == again.getvalue()
    file.seek(0)

    found = conversations.measure(file, lambda _text: None)

    assert found["messages"] == 300
    assert found["conversations"] == len(file.getvalue().splitlines())
    result = {"machine": {"cores": 2, "processor": "some"}, "versions": {}, "promised": conversations.PROMISED}
    lines = [line.split() for line in report.conversations(result | found).splitlines()]
    assert any(line[:4] == ["import,", "messages", "a", "second"] and line[4] == "8,000" for line in lines)


@pytest.mark.django_db
def test_a_file_that_is_none_is_one_sentence(tmp_path):
    with pytest.raises(StartProblemError, match="cannot be imported: Line 1"):
        conversations.measure(io.BytesIO(b"{}"), lambda _text: None)


def test_frequent_words_are_few():
    texts = " ".join(message["content"] for talk in conversations.made_up(500) for message in talk["messages"]).split()
    counts = sorted((texts.count(word) for word in set(texts)), reverse=True)
    assert counts[0] > 10 * counts[len(counts) // 2]
    assert all(one >= other for one, other in pairwise(counts))
