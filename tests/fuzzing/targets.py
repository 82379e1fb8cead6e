"""All targets by name."""

from __future__ import annotations

from fuzzing.command_line import COMMANDS
from fuzzing.models import MODELS
from fuzzing.objects import OBJECTS
from fuzzing.onnx_files import ONNX
from fuzzing.readers import READERS
from fuzzing.states import STATES
from fuzzing.tables import TABLES
from fuzzing.target import Target

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (*READERS, *ONNX, *TABLES, *STATES, *OBJECTS, *COMMANDS, *MODELS)
}
