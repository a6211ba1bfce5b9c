"""A raw client that reports made-up values for the widgets of a page, and for widgets that do not exist."""

from __future__ import annotations

import asyncio

import numpy as np
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState
from websockets.asyncio.client import ClientConnection

PAGES = ("", "compare", "sweep", "learn", "museum", "anatomy", "quiz", "glossary")
TEXTS = ("", "x", "-1", "nan", "9" * 400, "None", "\x00", "Gallery", "[1]", "{}")
NUMBERS = ([], [float("nan")], [1e308], [-5.0], [1.0, 2.0], [0.0], [float("inf")], [-float("inf")], [3.7], [99.0])
COUNTS = ([], [-1], [999], [0, 0, 0], [1], [2**31])
JSON = (
    '{"commands": {"board": "b", "session": "s", "commands": [1]}}', "[]", "5", "null", '{"transport": "component"}',
    '{"transport": [1]}', '{"commands": NaN}', '"x"', "no JSON",
)  # fmt: skip
MADE_UP = (
    "anatomy_f_0", "sweep_form_seeds", "prediction_x", "session", "quiz_drawn", "lesson", "level", "",
    "$$ID-0-anatomy_x",
)  # fmt: skip
KINDS = {
    "slider": ("numbers",), "number_input": ("number", "text"), "selectbox": ("text",), "text_input": ("text", "flag"),
    "button_group": ("texts", "counts"), "multiselect": ("texts",), "checkbox": ("flag",), "button": ("press",),
    "bidi_component": ("json",), "file_uploader": ("file",),
}  # fmt: skip
"""What Streamlit takes from each widget, by the name of its element, whatever the value."""
ALL_KINDS = ("numbers", "number", "text", "texts", "counts", "flag", "press", "json", "file", "bytes")


def forged(widget: str, kind: str, random: np.random.Generator) -> WidgetState:
    """A report of a widget."""
    state = WidgetState(id=widget)
    match kind:
        case "numbers":
            state.double_array_value.data.extend(NUMBERS[random.integers(len(NUMBERS))])
        case "number":
            state.double_value = (NUMBERS[random.integers(len(NUMBERS))] or [0.5])[0]
        case "text":
            state.string_value = TEXTS[random.integers(len(TEXTS))]
        case "texts":
            state.string_array_value.data.extend(TEXTS[: random.integers(3)])
        case "counts":
            state.int_array_value.data.extend(COUNTS[random.integers(len(COUNTS))])
        case "flag":
            state.bool_value = bool(random.integers(2))
        case "press":
            state.trigger_value = True
        case "json":
            state.json_value = JSON[random.integers(len(JSON))]
        case "file":
            state.file_uploader_state_value.uploaded_file_info.add(file_id="nothing", name="x.csv", size=1)
        case _:
            state.bytes_value = b"\xff\x00"
    return state


class Forger:
    """A session that reports forged values.

    Args:
        socket: its websocket.
        seed: equal seeds forge equally.
    """

    def __init__(self, socket: ClientConnection, seed: int) -> None:
        self._socket, self._random = socket, np.random.default_rng(seed)
        self._elements: dict[str, str] = {}
        """The name of the element of each widget by the widget's id."""

    async def open(self, page: str) -> None:
        """Opens a page as a browser does."""
        self._elements = {}
        await self._rerun(page, [])

    async def forge_each(self, page: str) -> None:
        """Reports a forged value of each widget of the page, one after another, of a type that the widget takes; then
        of widgets that do not exist."""
        for widget, element in sorted(self._elements.items()):
            for kind in KINDS.get(element, ()):
                await self._rerun(page, [forged(widget, kind, self._random)])
        for name in MADE_UP:
            await self._rerun(page, [forged(name, "text", self._random)])

    async def forge_some(self, page: str) -> None:
        """Reports forged values of any type for some widgets of the page."""
        random, widgets = self._random, sorted(self._elements)
        chosen = random.choice(widgets, size=min(len(widgets), int(random.choice([1, 2, 3, 20]))), replace=False)
        await self._rerun(
            page, [forged(str(widget), ALL_KINDS[random.integers(len(ALL_KINDS))], random) for widget in chosen]
        )

    async def _rerun(self, page: str, states: list[WidgetState]) -> None:
        message, kind = BackMsg(), None
        message.rerun_script.page_name = page
        message.rerun_script.widget_states.widgets.extend(states)
        await self._socket.send(message.SerializeToString())
        while kind != "script_finished":
            raw = await asyncio.wait_for(self._socket.recv(), 60)
            assert isinstance(raw, bytes)
            answer = ForwardMsg()
            answer.ParseFromString(raw)
            kind = answer.WhichOneof("type")
            name = answer.delta.new_element.WhichOneof("type") if kind == "delta" else None
            widget = getattr(getattr(answer.delta.new_element, name), "id", "") if name else ""
            if name and isinstance(widget, str) and widget:
                self._elements[widget] = name
