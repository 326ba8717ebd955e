"""Conversations: the messages of a record as one text."""

from __future__ import annotations

from typing import Any

COLUMNS = ("messages", "conversations", "conversation")
ROLES, CONTENTS = ("role", "from", "speaker"), ("content", "value", "text")
USERS = frozenset(("user", "human", "customer", "client"))


def with_text(record: dict[str, Any]) -> dict[str, Any]:
    """A record whose messages have a role and a content each gets their `text`, if it has none: the turns of the user, a line each, or all turns.

    `{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}], "label": "x"}` gets the text "Hi".
    """
    column = next((name for name in COLUMNS if isinstance(record.get(name), list) and record[name]), None)
    if column is None or "text" in record:
        return record
    turns = [_turn(message) for message in record[column]]
    if not all(turns):
        return record
    said = [text for role, text in filter(None, turns) if role.lower() in USERS] or [text for _, text in filter(None, turns)]
    return record | {"text": "\n".join(text for text in said if text)}


def _turn(message: Any) -> tuple[str, str] | None:
    """Role and content; the latter may be a list of parts, whose texts count."""
    if not isinstance(message, dict):
        return None
    role = next((message[name] for name in ROLES if isinstance(message.get(name), str)), None)
    content = next((message[name] for name in CONTENTS if message.get(name) is not None), None)
    if isinstance(content, list):
        content = "\n".join(part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str))
    return (role, content) if role is not None and isinstance(content, str) else None
