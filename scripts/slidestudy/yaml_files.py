"""Reading YAML: safe, no key given twice, and mistakes told with their line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from slidestudy.errors import StudyError


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Makes a dictionary; where a key stands twice the last would win in silence."""
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                what = f"the key '{key.value}' stands twice in its section"
                raise yaml.constructor.ConstructorError(None, None, what, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def load_yaml(path: str | os.PathLike[str]) -> Any:
    """Reads a YAML file.

    Raises:
        StudyError: The file is missing or not YAML; with the line.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise StudyError("the configuration does not exist", str(path), "correct the path") from None
    except IsADirectoryError:
        raise StudyError("is a folder, not a configuration", str(path), "name the .yaml file in it") from None
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"cannot be read ({error})", str(path), "save it as UTF-8 text") from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, where: str, first_line: int = 1) -> Any:
    """Reads YAML text.

    Args:
        text: The text.
        where: Its file, for the messages.
        first_line: The line of that file on which the text begins.

    Raises:
        StudyError: It is not YAML; with the line.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f"{where}, line {mark.line + first_line}" if mark else where
        what = f"not valid YAML: {getattr(error, 'problem', None) or error}"
        raise StudyError(what, at, "check indentation, colons and quotes near that line") from None


def dump_yaml(value: Any, keep_order: bool = False) -> str:
    """YAML text of a settings file; keys sorted unless their order means something."""
    return yaml.safe_dump(value, sort_keys=not keep_order, allow_unicode=True, width=1000)
