"""A torch encoder, eager or compiled. usage: torch_encoder.py FOLDER AUTO_CLASS eager|compile"""

from __future__ import annotations

import json
import os
import sys
import time

import torch
import transformers

torch.set_num_threads(1)
folder, auto_class, mode = sys.argv[1:]
model = getattr(transformers, auto_class).from_pretrained(folder, dtype=torch.float32).eval()
if auto_class == "AutoModelForSpeechSeq2Seq":
    model = model.get_encoder()
forward = torch.compile(model.forward, dynamic=False) if mode == "compile" else model.forward
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


def answer(document: dict[str, object]) -> None:
    answers.write(json.dumps(document) + "\n")
    answers.flush()


answer({"ready": True})
for line in sys.stdin:
    asked = json.loads(line)
    if "text" in asked:
        ids = torch.arange(1000, 1000 + asked["text"])[None]
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    else:
        inputs = {asked["name"]: torch.zeros(asked["shape"])}
    with torch.inference_mode():
        began = time.perf_counter()
        forward(**inputs)
        answer({"ms": (time.perf_counter() - began) * 1e3})
