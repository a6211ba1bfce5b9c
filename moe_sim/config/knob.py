"""One knob: a field of a model, its data, and the sentence about an invalid value."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import NoneType
from typing import Any, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from moe_sim.config.suggestions import unknown_knob


def knob(default: Any, label: str, help: str, *, group: str, live: bool, **extra: Any) -> Any:
    """A pydantic field with the data of `Knob`; `ge`, `le` and `pattern` are its bounds."""
    bounds = {key: extra.pop(key) for key in ("ge", "le", "pattern") if key in extra}
    return Field(
        default,
        **bounds,
        description=help,
        json_schema_extra=dict(label=label, group=group, live=live, **extra),
    )


@dataclass(frozen=True)
class Knob:
    """One field of a model: its label, help, bounds and choices."""

    name: str
    label: str
    help: str
    group: str
    live: bool
    default: Any
    kind: type
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    stops: tuple[Any, ...] = ()
    step: float | None = None
    tasks: tuple[str, ...] = ()
    """The tasks that use the knob; empty if every task does."""
    optional: bool = False
    words: str = ""
    """What a text must be, worded to follow “must be”."""
    has_widget: bool = True
    """Whether the pages set it by a widget of its kind."""

    def matters_to(self, task: str) -> bool:
        """Whether a task uses the knob."""
        return not self.tasks or task in self.tasks

    def is_offered(self, task: str) -> bool:
        """Whether the pages offer it for a task."""
        return self.has_widget and self.matters_to(task)

    @property
    def allowed(self) -> str:
        """The allowed values, worded to follow “must be”."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.kind is bool:
            return "on or off"
        if self.kind is str:
            return f"{self.words}, or off"
        number = "a whole number" if self.kind is int else "a number"
        return f"{number} from {self.minimum:g} to {self.maximum:.10g}" + (", or off" if self.optional else "")


class KnobModel(BaseModel):
    """A model whose fields are knobs. Its ValidationError holds a sentence for each invalid one."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Only what differs from the defaults."""
        for name, field in type(self).model_fields.items():
            if getattr(self, name) != field.default:
                yield name, getattr(self, name)

    def __str__(self) -> str:
        return repr(self)

    @model_validator(mode="wrap")
    @classmethod
    def _report_in_sentences(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(data)
        except ValidationError as error:
            knobs, details = read_knobs(cls), list[InitErrorDetails]()
            for item in error.errors(include_url=False):
                name = str(item["loc"][0])
                sentence = _sentence(knobs, name, item["input"])
                # The sentence last: pydantic would fill in braces that it holds.
                custom = PydanticCustomError("knobs", "{sentence}", {"knob": name, "sentence": sentence})
                details.append(InitErrorDetails(type=custom, loc=(name,), input=item["input"]))
            raise ValidationError.from_exception_data(cls.__name__, details) from None


def read_knobs(model: type[BaseModel]) -> dict[str, Knob]:
    """The fields of a model as data."""
    knobs = {}
    for name, field in model.model_fields.items():
        types = get_args(field.annotation) or (field.annotation,)
        limits = {key: getattr(item, key) for item in field.metadata for key in ("ge", "le") if hasattr(item, key)}
        literal = all(isinstance(item, str) for item in types)
        extra: Any = field.json_schema_extra
        knobs[name] = Knob(
            name=name, help=field.description or "", default=field.default,
            kind=str if literal else types[0], choices=types if literal else (),
            minimum=limits.get("ge"), maximum=limits.get("le"), optional=NoneType in types, **extra,
        )  # fmt: skip
    return knobs


def _sentence(knobs: dict[str, Knob], name: str, value: Any) -> str:
    knob = knobs.get(name)
    if knob is None:
        return unknown_knob(name, knobs)
    return f"{knob.label} ({name}) must be {knob.allowed}, not {str(value)[:40]!r}."
