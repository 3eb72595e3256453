"""A stand-in for a model server, for tests and measurements: the OpenAI protocol, and every way in which it goes wrong.

The model's name in the payload says what happens; any name that is not here behaves as `instant`.

    instant             the whole answer, or all chunks, at once
    slow-N              the same N milliseconds later
    paced-N             N milliseconds before the whole answer, or before each chunk
    echo                the answer's text is the JSON of the payload
    tools               calls a tool
    no-usage            leaves `usage` out
    hang                never answers                     hang-midstream     … after 3 chunks
    die                 closes the connection             die-midstream      … after 3 chunks
    garbage             200 with a body that is no JSON   garbage-midstream  an event that is no JSON, after 3 chunks
    garbage-stream      an event that is no JSON, first of all
    early-end           ends the stream in good order after 3 chunks, without `finish_reason` and `[DONE]`
    error-N             status N; its message holds SECRET, which no caller may ever see
    refuse-N            status N; an error that is the caller's to mend, in OpenAI's shape
    float-only…         embeddings as numbers, whatever `encoding_format` asks for

In tests: `with StubServer() as stub:` and a provider at `stub.base_url`. As a process: `python -m inference.stub`.
"""

from inference.stub.answers import (
    CHUNKS_BEFORE_TROUBLE,
    INPUT_TOKENS,
    OUTPUT_TOKENS,
    SECRET,
    TEXT,
    TOOL,
    WORDS,
    Received,
    vector_of,
)
from inference.stub.server import ClosedEarly, StubServer

__all__ = [
    "CHUNKS_BEFORE_TROUBLE",
    "INPUT_TOKENS",
    "OUTPUT_TOKENS",
    "SECRET",
    "TEXT",
    "TOOL",
    "WORDS",
    "ClosedEarly",
    "Received",
    "StubServer",
    "vector_of",
]
