"""Plans and trains a model again, in the process that ``arena-ckpt verify`` starts.

``python -m arena_ckpt.cli.verify_worker MODEL [LOSS] FOLDER`` builds the model from its
source again, and answers there; see `arena_ckpt.verification.other_process`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from arena_ckpt.cli.models import load_model
from arena_ckpt.verification.other_process import answer

if __name__ == "__main__":
    spec, *loss, folder = sys.argv[1:]
    answer(load_model(spec, *loss).model, Path(folder))
