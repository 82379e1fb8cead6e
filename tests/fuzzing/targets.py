"""All targets by name."""

from __future__ import annotations

from fuzzing.objects import OBJECTS
from fuzzing.readers import READERS
from fuzzing.target import Target

TARGETS: dict[str, Target] = {target.name: target for target in (*READERS, *OBJECTS)}
