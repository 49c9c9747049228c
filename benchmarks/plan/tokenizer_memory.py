"""What a tokenizer takes a word, kept and while its file is read: `targets/plan/tokenizer.py`.

usage: python benchmarks/plan/tokenizer_memory.py TOKENIZER_JSON...

Each file is read in a process of its own by the runtime's own function. Prints a table: the kind
of its model, words, bytes a word that stay and that it takes at the most, without the library's.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tokenizers import Tokenizer
from tokenizers.models import BPE

from edgeward.runtimes.statistics.memory import peak_bytes, resident_bytes
from edgeward.runtimes.tasks.tokens import load_tokenizer

ONE = "--one"


def main(files: list[str]) -> None:
    """Print a line a file."""
    if files[:1] == [ONE]:
        print(line_of(Path(files[1])))
        return
    print(f"{'kind':12}{'words':>8}{'kept':>8}{'at most':>8}  bytes a word")
    for file in files:
        subprocess.run([sys.executable, __file__, ONE, file], check=True)


def line_of(path: Path) -> str:
    """Return the figures of one file; a first small one brings the library into memory."""
    with TemporaryDirectory() as folder:
        empty = Path(folder) / "tokenizer.json"
        Tokenizer(BPE()).save(str(empty))
        load_tokenizer(empty)
    before = resident_bytes()
    read = load_tokenizer(path)
    kept, most = resident_bytes() - before, peak_bytes() - before
    words = read.get_vocab_size()
    kind = json.loads(path.read_text())["model"].get("type") or "?"
    return f"{kind:12}{words:8}{kept // words:8}{most // words:8}  {path}"


if __name__ == "__main__":
    main(sys.argv[1:])
