"""``src/NAME.c`` and ``src/NAME.h``: the steps of a plan, and the functions to call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from arena_ckpt.c_export.class_names import class_names_text
from arena_ckpt.c_export.device_state import HEADER
from arena_ckpt.c_export.exported_model import ExportedModel
from arena_ckpt.c_export.literals import double_literal, float_literal
from arena_ckpt.c_export.loss_text import LossText
from arena_ckpt.c_export.memory_map import MemoryMap
from arena_ckpt.c_export.schedule_code import (
    hyperparameter_lines,
    learning_rate_lines,
)
from arena_ckpt.c_export.standardize_code import HELP as STANDARDIZE_HELP
from arena_ckpt.c_export.standardize_code import standardize_code
from arena_ckpt.c_export.step_code import StepFunctions, StepSequence, require_kernels
from arena_ckpt.c_export.templates_of import filled
from arena_ckpt.c_export.weights_text import InitialWeights
from arena_ckpt.common.names import CONTROL, output_role, tensor_name
from arena_ckpt.graph.id_ranges import id_ranges
from arena_ckpt.graph.masks import mask_tensors
from arena_ckpt.layers.spec import n_elems
from arena_ckpt.lowering.kernel_call import KernelCall
from arena_ckpt.lowering.tensor_regions import TensorRegions
from arena_ckpt.operations.regions import Region
from arena_ckpt.planning.tensors import Control


@dataclass(frozen=True, slots=True)
class Ids:
    """An input whose values are ids: its number, and which ids are allowed."""

    place: int
    valid: range


class ProgramText:
    """Makes the program of a model; nothing is written.

    Parameters
    ----------
    model : ExportedModel
    name : str
        With which functions begin, in small letters.

    Raises
    ------
    CExportError
        The model needs what is not there in C.
    """

    def __init__(self, model: ExportedModel, name: str) -> None:
        self.model = model
        self.name = name
        self.plan = plan = model.plan
        self.trains = not plan.is_inference
        passes = model.passes() if self.trains else []
        predicts = model.prediction()
        self.calls: list[KernelCall] = [c for _, some in passes for c in some]
        self.calls += predicts
        require_kernels(plan, self.calls)
        self.places = MemoryMap(plan, name)
        self.regions = TensorRegions(plan)
        self.state = model.state()
        self.weights = InitialWeights(model, name)
        nodes = [node for node in model.graph.nodes if node.is_data]
        self.inputs = [tensor_name(node.name, output_role(0)) for node in nodes]
        self.input_elements = [n_elems(node.spec.output_shapes[0]) for node in nodes]
        self.losses = LossText(model.graph, plan, name, self.pointer)
        self._ids = ids_of_inputs(model)
        self._functions = StepFunctions(self.places)
        self._sequences: list[StepSequence] = []
        self._of_pass = self._add_passes(passes)
        self._run_prediction = self._add_sequence(
            "predict_steps",
            "The steps of a prediction.",
            self._functions.add(predicts, 0, plan.n_forward, "predict"),
        )
        self._passes = passes
        if self.trains:
            self.losses.require_countable_terms(len(passes))

    # -- steps -----------------------------------------------------------------

    def _add_sequence(self, name: str, comment: str, functions: tuple[str, ...]) -> str:
        """Return the function that runs some steps, made where there is none."""
        for known in self._sequences:
            if known.functions == functions and functions:
                return known.name
        self._sequences.append(StepSequence(name, comment, functions))
        return name

    def _add_passes(
        self, passes: Sequence[tuple[int, tuple[KernelCall, ...]]]
    ) -> list[tuple[str, str]]:
        """Add the steps of each pass; return what runs it forward, and backward."""
        plan = self.plan
        found: list[tuple[str, str]] = []
        for number, (_, calls) in enumerate(passes):
            tail = f"_of_pass_{number}" if number else ""
            stem = f"pass_{number}_step" if number else "step"
            forward = self._functions.add(calls, 0, plan.n_forward, stem)
            backward = self._functions.add(calls, plan.n_forward, plan.n_pass, stem)
            found.append(
                (
                    self._add_sequence(
                        f"forward_steps{tail}", "The steps up to the loss.", forward
                    ),
                    self._add_sequence(
                        f"backward_steps{tail}",
                        "Recomputes, gradients, derivatives, and updates.",
                        backward,
                    ),
                )
            )
        if passes:
            last = self._functions.add(
                passes[-1][1], plan.n_pass, len(plan.steps), "step"
            )
            self._sequences.append(
                StepSequence("update_steps", "The steps after all passes.", last)
            )
        return found

    # -- facts -----------------------------------------------------------------

    def pointer(self, region: Region, step: int = 0) -> str:
        """Return a pointer to a region that is alive at a step."""
        return self.places.pointer(region, step)

    # -- text ------------------------------------------------------------------

    def source(self) -> str:
        """Return ``src/NAME.c``."""
        name = self.name
        control = self.regions.named(CONTROL)
        rows = range(len(self.inputs))
        init = "\n".join(self._init_lines())
        predict, train = self._predict(), self._train() if self.trains else ""
        return filled(
            "program.c",
            name=name,
            does=self.does,
            map="\n".join(f" * {line}".rstrip() for line in self.places.map_lines()),
            preamble=filled("preamble.h"),
            arrays="\n".join(self.places.array_lines()),
            control=self.pointer(control),
            control_places=",\n".join(
                f"    {place.name} = {int(place)}"
                for place in Control
                if place is not Control.LENGTH
            ),
            control_length=control.size,
            steps="\n".join(self._functions.lines()),
            sequences="\n".join(
                line for sequence in self._sequences for line in sequence.lines()
            ),
            common=self._checks(),
            input_cases="\n".join(
                f"    case {row}: return {self.pointer(self._input(row))};"
                for row in rows
            ),
            moving="\n".join(
                filled(f"{word}.c")
                for word in ("copy", "fill")
                if f"    {word}(" in init + predict + train
            ),
            init=init,
            predict=predict,
            train=train,
        )

    @property
    def does(self) -> str:
        """What the model does, in a word."""
        return "trains" if self.trains else "predicts"

    def _input(self, row: int) -> Region:
        return self.regions.named(self.inputs[row])

    def _checks(self) -> str:
        """Return the functions that look at samples and labels."""
        graph = self.model.graph
        masks = mask_tensors(graph)
        upper = self.name.upper()
        lines = []
        for row, (tensor, n) in enumerate(
            zip(self.inputs, self.input_elements, strict=True)
        ):
            at, is_mask = self.pointer(self._input(row)), int(tensor in masks)
            lines += _unless(
                f"are_finite({at}, n * {n}, {is_mask})", f"{upper}_NONFINITE_INPUT"
            )
            for ids in self._ids:
                if ids.place == row:
                    least = float_literal(ids.valid.start)
                    limits = f"{least}, {float_literal(ids.valid.stop)}"
                    lines += _unless(
                        f"are_numbers({at}, n * {n}, {limits}, {least})",
                        f"{upper}_BAD_ID",
                    )
        text = [filled("common.c", name=self.name)]
        label_lines, uses_numbers, uses_shares = (
            self.losses.label_checks() if self.trains else ([], False, False)
        )
        if self._ids or uses_numbers:
            text.append(filled("ids.c"))
        if uses_shares:
            text.append(filled("probabilities.c"))
        text.append("\n/* What is wrong with the samples that are to be read. */\n")
        text += _function("check_inputs", lines, f"{upper}_OK")
        if self.trains:
            text.append("\n/* What is wrong with their labels. */\n")
            text += _function("check_labels", label_lines, f"{upper}_OK")
        if self.model.standardization is not None:
            nodes = [node for node in graph.nodes if node.is_data]
            inputs = {
                node.name: (self.pointer(self._input(row)), node.spec.output_shapes[0])
                for row, node in enumerate(nodes)
            }
            text.append(standardize_code(self.model.standardization, inputs))
        return "".join(text)

    def _standardize(self, n_samples: object) -> str:
        if self.model.standardization is None:
            return ""
        return f"    standardize_inputs({n_samples});"

    def _init_lines(self) -> Iterator[str]:
        for weight in self.weights.in_ram:
            at = self.pointer(weight.region)
            if weight.fill is not None:
                value = float_literal(weight.fill)
                yield f"    fill({value}, {at}, {weight.region.size});"
            else:
                yield f"    copy({weight.array}, {at}, {weight.region.size});"
        for name, region in self.state.tensors.items():
            if name not in self.model.weights:
                yield f"    fill(0.0f, {self.pointer(region)}, {region.size});"

    def _predict(self) -> str:
        last = self.plan.n_forward - 1
        return filled(
            "predict.c",
            name=self.name,
            clear="\n".join(self.losses.clear_lines()),
            clear_labels="\n".join(self.losses.clear_label_lines()),
            standardize=self._standardize(f"{self.name.upper()}_PASS_SAMPLES"),
            copy="\n".join(self._copy_lines(last)),
            run=self._run_prediction,
        )

    def _copy_lines(self, step: int) -> Iterator[str]:
        """Yield the lines that copy predictions, one after another."""
        upper, at = self.name.upper(), "i"
        for name in self.model.graph.predictions:
            region = self.regions.named(name)
            n = region.size // region.shape[0]
            count = f"{upper}_OUTPUT_ELEMENTS" if not self.losses.are_several else n
            yield f"    for (i = 0; i < {upper}_PASS_SAMPLES * {count}; i++) {{"
            yield f"        out[{at}] = {self.pointer(region, step)}[i];"
            yield "    }"
            if self.losses.are_several:
                yield f"    out += {upper}_PASS_SAMPLES * {n};"

    def _train(self) -> str:
        name, model = self.name, self.model
        is_whole = len(self._passes) == 1
        kept = self.weights.statistics if not is_whole else ()
        forward = [forward for forward, _ in self._of_pass]
        backward = [backward for _, backward in self._of_pass]
        samples = [n for n, _ in self._passes]
        fractions = [n / self.plan.batch_size for n in samples]
        text = [
            f"{self.losses.functions()}\n",
            "\n".join(learning_rate_lines(model.optimizer, model.schedule)) + "\n",
            self._keeping(kept),
            filled(
                "train.c",
                name=name,
                hyperparameters="\n".join(hyperparameter_lines(model.optimizer)),
                n_samples=_by_pass(map(str, samples)),
                standardize=self._standardize("n"),
                count_terms="\n".join(self.losses.count_lines()),
                fraction=_by_pass(map(double_literal, fractions)),
                forward=_run_by_pass(forward),
                backward=_run_by_pass(backward),
                begin="\n".join(self.losses.begin_lines()),
                loss=self.losses.trained_loss,
                remember="    remember();" if kept else "",
                put_back="            put_back();" if kept else "",
            ),
            filled("step.c", name=name) if is_whole else "",
            self._state_text(),
        ]
        return "".join(text)

    def _keeping(self, kept: Sequence[Region]) -> str:
        """Return functions that keep statistics, which earlier micro-batches change."""
        if not kept:
            return ""
        total = sum(region.size for region in kept)
        lines = [
            "",
            "/* Statistics from before a step whose later micro-batch fails. */",
            f"static float kept[{total}];",
            "",
        ]
        for name in ("remember", "put_back"):
            lines += [f"static void {name}(void)", "{"]
            start = 0
            for region in kept:
                pair = [self.pointer(region), f"kept + {start}"]
                first, second = pair if name == "remember" else reversed(pair)
                lines.append(f"    copy({first}, {second}, {region.size});")
                start += region.size
            lines += ["}", ""]
        return "\n".join(lines)

    def _state_text(self) -> str:
        header = self.state.header(0)[: HEADER.size - 8]
        return filled(
            "state.c",
            name=self.name,
            header_bytes=HEADER.size,
            header="\n".join(
                "    " + " ".join(f"0x{byte:02x}," for byte in header[i : i + 12])
                for i in range(0, len(header), 12)
            ),
            lasting="\n".join(
                f"    {{{self.places.ram_number(region)}, "
                f"{self.places.offset_text(region, 0)}, {region.nbytes}}},"
                for region in self.state.tensors.values()
            ),
            n_rams=len(self.places.rams),
            starts="\n".join(
                f"    starts[{number}] = {ram.array};"
                for number, ram in enumerate(self.places.rams)
            ),
        )

    def header(self) -> str:
        """Return ``src/NAME.h``."""
        plan, name = self.plan, self.name
        train_codes = train_api = ""
        if self.trains:
            train_codes = filled(
                "train_codes.h",
                name=name,
                batch=plan.batch_size,
                passes=len(self._passes),
                label_macro=self.losses.element_macro(),
                state_bytes=self.state.n_bytes,
            )
            is_whole = len(self._passes) == 1
            train_api = filled(
                "train_api.h",
                name=name,
                label=self.losses.declaration(),
                label_words=self.losses.label_words(),
                step_api=filled("step_api.h", name=name) if is_whole else "",
            )
        return filled(
            "header.h",
            name=name,
            does=self.does,
            train_codes=train_codes,
            train_api=train_api,
            arena_bytes=plan.arena_bytes,
            constant_bytes=plan.constant_bytes,
            pass_samples=plan.pass_samples,
            n_inputs=len(self.inputs),
            input_elements=", ".join(map(str, self.input_elements)),
            output_elements=self.losses.output_elements,
            output_help=self.losses.output_help(),
            class_names=class_names_text(name, self.model.classes),
            raw="" if self.model.standardization is None else STANDARDIZE_HELP,
            offsets="\n".join(self.places.offset_lines()),
            weights="\n".join(self.weights.declarations()),
        )


def ids_of_inputs(model: ExportedModel) -> tuple[Ids, ...]:
    """Return which inputs bring ids, and those that all layers know."""
    inputs = [node.name for node in model.graph.nodes if node.is_data]
    valid = id_ranges(model.graph)
    return tuple(Ids(inputs.index(name), ids) for name, ids in valid.items())


def _unless(check: str, status: str) -> list[str]:
    return [f"    if (!{check}) {{", f"        return {status};", "    }"]


def _function(name: str, lines: list[str], result: str) -> Iterator[str]:
    yield f"static int {name}(int32_t n)\n{{\n"
    body = lines or ["    (void)n;"]
    yield "\n".join([*body, f"    return {result};", "}", ""])


def _by_pass(values: Iterable[str]) -> str:
    """Return an expression of the pass; the last two values of it are told apart."""
    first, *others = values
    text = first
    kept = first
    for number, value in enumerate(others, start=1):
        if value != kept:
            text = f"pass < {number} ? {text} : {value}"
            kept = value
    return text


def _run_by_pass(functions: Sequence[str]) -> str:
    """Return the statements that run the function of a pass."""
    if len(set(functions)) == 1:
        return f"{functions[0]}();"
    lines = ["switch (pass) {"]
    for number, function in enumerate(functions[:-1]):
        lines += [f"    case {number}:"]
        if function != functions[number + 1] or number == len(functions) - 2:
            lines += [f"        {function}();", "        break;"]
    lines += ["    default:", f"        {functions[-1]}();", "    }"]
    return "\n".join(lines)
