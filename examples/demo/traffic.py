"""Asks a device's model for embeddings, as an app beside it would."""

from __future__ import annotations

import json
from http.client import HTTPConnection

SENTENCES = (
    "Where is gate B12?",
    "The train to the airport leaves every fifteen minutes from platform three.",
    "My luggage did not arrive with the flight from Madrid.",
    "Is there a pharmacy nearby that is open on a Sunday?",
    "The lift is out of order; please use the stairs at the end of the corridor.",
)


def ask(port: int, text: str) -> list[float]:
    """Return one embedding from the endpoint on this port."""
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {"Content-Type": "application/json"}
    connection.request("POST", "/v1/embeddings", json.dumps({"input": text}), headers)
    vector: list[float] = json.load(connection.getresponse())["data"][0]["embedding"]
    connection.close()
    return vector


def send_traffic(port: int, requests: int) -> None:
    """Send this many requests one after another."""
    for number in range(requests):
        ask(port, SENTENCES[number % len(SENTENCES)])
