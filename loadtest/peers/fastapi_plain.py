"""FastAPI with a plain handler: `def`, so it runs in FastAPI's thread pool; a process a core."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Body, FastAPI

from loadtest.peers.answering import answer, batch, load, prepared

app = FastAPI()
classifier = load()


@app.post("/classify")
def classify(body: Annotated[bytes, Body(media_type="application/x-npz")]) -> Any:
    pieces = prepared(classifier, body)
    return answer(classifier, classifier.logits(*batch(pieces)))


@app.get("/readyz")
def ready() -> None:
    """Answers once the module, and so the model, is loaded."""
