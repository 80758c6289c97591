#!/usr/bin/env bash
# wordllama 0.4.0.post1: the embedder that ships with its weights and its tokenizer cannot be loaded without the network.
#
# Expected: `WordLlama.load(disable_download=True)` loads the model whose files are in the package. Seen: it finds the
# weights, looks for the tokenizer in a folder `tokenizer`, and the package has it in `tokenizers`; so it raises
# FileNotFoundError, and without that argument it downloads a file that lies beside it. With the package's own folder as
# `cache_dir` both are found.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install --quiet wordllama==0.4.0.post1
HOME=$folder venv/bin/python - <<'PY'
import sys
from importlib.metadata import version
from pathlib import Path

import wordllama
from wordllama import WordLlama

package = Path(wordllama.__file__).parent


def load(**options):
    try:
        model = WordLlama.load(disable_download=True, **options)
    except FileNotFoundError as error:
        return f"FileNotFoundError: {error}"
    return f"loaded, vectors of {model.embed(['a text']).shape[1]} numbers"


print("wordllama", version("wordllama"))
shipped = [str(path.relative_to(package)) for path in sorted(package.rglob("l2_supercat*"))]
print("in the package:", *shipped)
seen = [load(), load(cache_dir=package)]
for what, came in zip(("as it is", "with its own folder as cache_dir"), seen):
    print(f"{what}: {came}")
sys.exit(not (seen[0].startswith("FileNotFoundError: Tokenizer file") and seen[1] == "loaded, vectors of 256 numbers"))
PY
