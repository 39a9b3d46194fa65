"""The page in Streamlit: a thin client of the API, run by `streamlit run`; the model is elsewhere.

It reads MINIGPT_API_URL and MINIGPT_API_KEY. Streamlit runs it again, from the top, at every click.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import streamlit as st

from minigpt_tf.config.bots import API_URL
from minigpt_tf.serving.clients.client import ApiError, ApiModel
from minigpt_tf.serving.clients.plain_client import read_answer, read_models

URL = os.environ.get("MINIGPT_API_URL", API_URL)
KEY = os.environ.get("MINIGPT_API_KEY")
LOGO = str(Path(__file__).parent / "page" / "logo.svg")  # an icon by name is a foreign server's

models = st.cache_data(ttl=30, show_spinner=False)(read_models)


def _answers(model: ApiModel, messages: list[Any], chosen: dict[str, Any]) -> Iterator[str]:
    """An answer as it is generated; what the server wants a person to know stands above it."""
    return read_answer(URL, KEY, model, messages, chosen, lambda text: st.caption(_plain(text)))


def _plain(text: str) -> str:
    """Markdown without images, which a browser would load from foreign servers, and formulas."""
    return text.replace("![", "!\\[").replace("$", "\\$")


def _write(message: dict[str, Any], texts: Iterator[str]) -> None:
    """Shows an answer while it grows. It is kept in the message: a stop leaves what there is."""
    place = st.empty()
    st.button("Stop", key="stop", icon=":material/stop_circle:")  # a click runs the script anew
    try:
        for text in texts:
            message["content"] += text
            place.markdown(_plain(message["content"]))
    except ApiError as error:
        st.session_state.error = str(error)
    st.rerun()  # without the button


def _settings(model: ApiModel) -> dict[str, Any]:
    """What the sidebar says."""
    default = (model.defaults or {}).get("temperature", 0.8)
    with st.sidebar:
        chosen = {
            "temperature": st.slider("Temperature", 0.0, 2.0, float(default), 0.05),
            "max_tokens": st.number_input("Longest answer, in tokens", 1, 8192, 256),
            "seed": st.number_input("Seed", 0, value=None, placeholder="random"),
        }
        if st.button("New chat", width="stretch"):
            st.session_state.update(messages=[], text="", error="")
    return chosen


def _chat(model: ApiModel, system: str, chosen: dict[str, Any]) -> None:
    """Questions and answers."""
    messages = st.session_state.messages
    if asked := st.chat_input(f"Ask {model.name}"):
        messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": ""}]
    for message in messages[:-1] if asked else messages:
        st.chat_message(message["role"]).markdown(_plain(message["content"]))
    if asked:
        before = [{"role": "system", "content": system}] if system else []
        history = [message for message in messages[:-1] if message["content"]]
        with st.chat_message("assistant"):
            _write(messages[-1], _answers(model, before + history, chosen))


def _paper(model: ApiModel, chosen: dict[str, Any]) -> None:
    """A text that the model continues."""
    text = st.text_area("Text", key="text", height=260, placeholder="Begin a text here.")
    if st.button("Continue", type="primary", disabled=not text.strip()):
        message = {"role": "user", "content": text}
        grown = {"content": ""}
        try:
            _write(grown, _answers(model, [message], chosen))
        finally:
            st.session_state.grown = text + grown["content"]


def main() -> None:
    """The page."""
    st.set_page_config("minigpt", LOGO)
    state = st.session_state
    state.setdefault("messages", [])
    state.setdefault("error", "")
    state.text = state.pop("grown", state.get("text", ""))
    try:
        found = models(URL, KEY)
    except ApiError as error:
        st.error(str(error))
        st.button("Try again")
        return
    model = st.sidebar.selectbox("Model", found, format_func=lambda model: model.name)
    if model is None:
        st.error("The server has no model that writes text.")
        return
    system = st.sidebar.text_area("System text", height=100) if model.kind == "chat" else ""
    chosen = _settings(model)
    if model.kind == "chat":
        _chat(model, system, chosen)
    else:
        _paper(model, chosen)
    if state.error:
        st.error(state.error)
        state.error = ""


if __name__ == "__main__":
    main()
