"""The HTTP bodies, checked before anything runs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

MAX_TEXTS = 2048
MAX_CHARACTERS = 1_000_000

Input = Annotated[str, StringConstraints(max_length=MAX_CHARACTERS)]


class EmbeddingRequest(BaseModel):
    """POST /v1/embeddings, after OpenAI's API reference."""

    model_config = ConfigDict(extra="ignore", strict=True)

    input: Input | Annotated[list[Input], Field(min_length=1, max_length=MAX_TEXTS)]
    model: str = ""
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    prompt_name: str | None = None

    @property
    def texts(self) -> list[str]:
        """The inputs as a list."""
        return [self.input] if isinstance(self.input, str) else self.input
