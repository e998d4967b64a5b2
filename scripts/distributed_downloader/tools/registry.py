"""A tool is three classes of one name: registered by decorators, found by that name.

A tool's module is `<tool>.py` in the user's folder (`tools_parameters.folder`), or one of ours in
`distributed_downloader.toolbox`. It is imported when the tool is asked for, and no other is.
"""

import difflib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import ClassVar, TypeVar

from distributed_downloader.errors import ConfigError
from distributed_downloader.house import house
from distributed_downloader.tools.base import ToolsBase

TOOLBOX = "distributed_downloader.toolbox"
LOOKS = ("plan", "status", "restore")  # targets that are no tool

Step = TypeVar("Step", bound=type[ToolsBase])


class Register:
    """The base of the three decorators: `@FilterRegister("x")` over a class."""

    step: ClassVar[str]
    classes: ClassVar[dict[str, type[ToolsBase]]]

    def __init__(self, tool_name: str) -> None:
        if not isinstance(tool_name, str):
            raise ConfigError(f'Write @{type(self).__name__}("name of the tool") over {tool_name}.')
        self.tool_name = tool_name

    def __call__(self, cls: Step) -> Step:
        """Register the class. Raises ConfigError if it is no step, or the name is taken."""
        if not (isinstance(cls, type) and issubclass(cls, ToolsBase)):
            raise ConfigError(
                f"{cls!r} is registered as the {self.step} of {self.tool_name}, but does not "
                "inherit ToolsBase."
            )
        other = self.classes.get(self.tool_name)
        if other is not None and _origin(other) != _origin(cls):
            raise ConfigError(
                f"Two classes are the {self.step} of {self.tool_name}: {_origin(other)} and "
                f"{_origin(cls)}. Give one tool another name."
            )
        self.classes[self.tool_name] = cls
        return cls


def _origin(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


class FilterRegister(Register):
    """Names the class that picks a tool's images."""

    step = "filter"
    classes: ClassVar[dict[str, type[ToolsBase]]] = {}


class SchedulerRegister(Register):
    """Names the class that spreads a tool's partitions over ranks."""

    step = "scheduler"
    classes: ClassVar[dict[str, type[ToolsBase]]] = {}


class RunnerRegister(Register):
    """Names the class that does a tool's work over MPI."""

    step = "runner"
    classes: ClassVar[dict[str, type[ToolsBase]]] = {}


REGISTERS = (FilterRegister, SchedulerRegister, RunnerRegister)


@dataclass(frozen=True, slots=True)
class Tool:
    """The three classes of one name."""

    name: str
    filter: type[ToolsBase]
    scheduler: type[ToolsBase]
    runner: type[ToolsBase]


def rule_files(folder: str) -> dict[str, Path]:
    """Every tool's rule file by the tool's name: ours, and those of the user's folder ("": none).

    Raises ConfigError if one name has two, or the folder is not there.
    """
    found: dict[str, Path] = {}
    for place in [house() / "rules" / "tools", *_user_folder(folder)]:
        for file in sorted(place.glob("*.smk")):
            if file.stem in found:
                raise ConfigError(
                    f"Two tools are called {file.stem}: {found[file.stem]} and {file}. Rename "
                    "yours."
                )
            found[file.stem] = file
    return found


def _user_folder(folder: str) -> list[Path]:
    if not folder:
        return []
    if not Path(folder).is_dir():
        raise ConfigError(
            f"tools_parameters.folder is {folder}, which is no folder: make it, or mend the path."
        )
    return [Path(folder)]


def check_names(names: list[str] | tuple[str, ...], folder: str) -> None:
    """Raise ConfigError for the first name that no tool has."""
    known = rule_files(folder)
    for name in names:
        if name not in known:
            raise _unknown(name, list(known))


def no_such_target(name: str, tools: Collection[str]) -> str:
    """What to say of a target that no rule makes."""
    return (
        f"Nothing is called {name!r}: say no target for everything, or {', '.join(LOOKS)}, "
        f"or a tool ({', '.join(sorted(tools))}).{_did_you_mean(name, [*tools, *LOOKS])}"
    )


def _unknown(name: str, known: list[str]) -> ConfigError:
    return ConfigError(
        f"There is no tool {name!r}; there are {', '.join(sorted(known))}."
        f"{_did_you_mean(name, known)} A tool of your own needs <tool>.smk and <tool>.py in "
        "tools_parameters.folder."
    )


def _did_you_mean(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean {near[0]}?" if near else ""


def load_tool(name: str, folder: str) -> Tool:
    """The tool of that name. Raises ConfigError if it cannot be had, in one sentence."""
    module = _import(name, folder)
    steps = []
    for register in REGISTERS:
        if name not in register.classes:
            raise ConfigError(
                f"The tool {name} has no {register.step}: {module.__file__} registers no class "
                f'with @{register.__name__}("{name}").'
            )
        steps.append(register.classes[name])
    return Tool(name, *steps)


def _import(name: str, folder: str) -> ModuleType:
    own = [file for place in _user_folder(folder) if (file := place / f"{name}.py").is_file()]
    ours = importlib.util.find_spec(f"{TOOLBOX}.{name}") if name.isidentifier() else None
    if own and ours:
        raise ConfigError(f"Two tools are called {name}: {own[0]} and {ours.origin}. Rename yours.")
    if not own and not ours:
        if name in (known := rule_files(folder)):
            raise ConfigError(
                f"The tool {name} has a rule file, {known[name]}, but no module {name}.py: write "
                "it into tools_parameters.folder."
            )
        raise _unknown(name, list(known))
    if ours:
        return importlib.import_module(f"{TOOLBOX}.{name}")
    return _guarded(own[0], lambda: _import_file(name, own[0]))


def _import_file(name: str, file: Path) -> ModuleType:
    if (known := sys.modules.get(name)) and known.__file__ == str(file):
        return known
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))  # for modules that lie beside it
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _guarded(file: Path, load: Callable[[], ModuleType]) -> ModuleType:
    try:
        return load()
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"{file} cannot be imported: {type(error).__name__}: {error}") from error
