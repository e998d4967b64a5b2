"""How tools are found, and the one sentence for what is not."""

import pytest

from distributed_downloader.errors import ConfigError
from distributed_downloader.house import house
from distributed_downloader.tools import FilterRegister, ToolsBase
from distributed_downloader.tools.filters import FilterRegister as FromFilters
from distributed_downloader.tools.registry import REGISTERS, check_names, load_tool, rule_files
from distributed_downloader.tools.runners import RunnerRegister
from distributed_downloader.tools.schedulers import SchedulerRegister

TOOL = """
from distributed_downloader.tools import (
    DefaultScheduler, FilterRegister, MPIRunnerTool, PythonFilterToolBase, RunnerRegister,
    SchedulerRegister,
)
FilterRegister("{name}")(PythonFilterToolBase)
SchedulerRegister("{name}")(DefaultScheduler)
"""


@pytest.fixture(autouse=True)
def registers(monkeypatch):
    """What a test registers goes with it; what is ours is registered once, when it is imported."""
    for name in rule_files(""):
        load_tool(name, "")
    for register in REGISTERS:
        monkeypatch.setattr(register, "classes", dict(register.classes))


def write(folder, name, text):
    (folder / f"{name}.smk").touch()
    (folder / f"{name}.py").write_text(text.format(name=name))


def test_every_rule_file_of_ours_has_its_module_with_three_steps():
    for name in rule_files(""):
        tool = load_tool(name, "")
        assert (tool.filter, tool.scheduler, tool.runner) == tuple(
            register.classes[name] for register in REGISTERS
        )
        text = (house() / "rules" / "tools" / f"{name}.smk").read_text()
        assert f'ran_tool("{name}")' in text


def test_decorators_are_where_the_steps_are():
    assert (FromFilters, SchedulerRegister, RunnerRegister) == REGISTERS
    assert FromFilters is FilterRegister


def test_an_unknown_tool_is_told_with_the_nearest():
    with pytest.raises(ConfigError, match=r"^There is no tool 'resise'; .* Did you mean resize\?"):
        check_names(["size_based", "resise"], "")
    with pytest.raises(ConfigError, match="no tool 'resise'"):
        load_tool("resise", "")


def test_a_missing_step_is_told(tmp_path):
    write(tmp_path, "no_runner", TOOL)
    with pytest.raises(ConfigError, match=r"^The tool no_runner has no runner: .*no_runner\.py re"):
        load_tool("no_runner", str(tmp_path))


def test_two_classes_of_one_name_are_told():
    @FilterRegister("twice")
    class First(ToolsBase):
        pass

    with pytest.raises(ConfigError, match=r"^Two classes are the filter of twice: .*First and "):

        @FilterRegister("twice")
        class Second(ToolsBase):
            pass


def test_what_is_no_step_is_told():
    with pytest.raises(ConfigError, match="does not inherit ToolsBase"):
        FilterRegister("x")(dict)
    with pytest.raises(ConfigError, match=r"^Write @FilterRegister\(\"name of the tool\"\) over"):
        FilterRegister(ToolsBase)


def test_a_tool_of_ours_cannot_be_replaced_by_accident(tmp_path):
    write(tmp_path, "resize", TOOL)
    with pytest.raises(ConfigError, match=r"^Two tools are called resize: .* Rename yours\."):
        rule_files(str(tmp_path))
    with pytest.raises(ConfigError, match=r"^Two tools are called resize: "):
        load_tool("resize", str(tmp_path))


def test_a_module_that_cannot_be_imported_is_told(tmp_path):
    write(tmp_path, "broken_one", "import nothing_of_that_name")
    with pytest.raises(ConfigError, match=r"broken_one\.py cannot be imported: ModuleNotFoundErr"):
        load_tool("broken_one", str(tmp_path))


def test_a_rule_file_without_a_module_and_a_folder_that_is_not_there_are_told(tmp_path):
    (tmp_path / "lonely.smk").touch()
    with pytest.raises(ConfigError, match=r"lonely has a rule file, .*, but no module lonely\.py"):
        load_tool("lonely", str(tmp_path))
    with pytest.raises(ConfigError, match="which is no folder"):
        rule_files(str(tmp_path / "nowhere"))
