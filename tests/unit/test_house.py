import re
import shutil
from pathlib import Path

import pytest

import distributed_downloader
from distributed_downloader import house as module
from distributed_downloader.errors import ConfigError
from distributed_downloader.house import SCHEMA, house


def test_house_of_a_checkout_is_its_root():
    assert house() == Path(__file__).parents[2]
    assert (house() / "pyproject.toml").is_file()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package's folder, without its house."""
    folder = tmp_path / "site-packages" / "distributed_downloader"
    folder.mkdir(parents=True)
    monkeypatch.setattr(module, "__file__", str(folder / "house.py"))
    return folder


def test_house_of_a_wheel_is_inside_the_package(package):
    schema = package / "house" / SCHEMA
    schema.parent.mkdir(parents=True)
    shutil.copy(Path(__file__).parents[2] / SCHEMA, schema)
    assert house() == package / "house"


def test_incomplete_installation_says_so(package):
    with pytest.raises(ConfigError, match="install it again"):
        house()


def test_rooms_import_only_from_rooms_before_them():
    library = Path(module.__file__).parent
    rooms = re.search(r"this\nfile\): ([^.]*)\.", distributed_downloader.__doc__)[1]
    order = ["", *rooms.replace("\n", " ").split(", ")]
    assert {*order, "fleet"} == {"", *(init.parent.name for init in library.glob("*/__init__.py"))}
    backwards = [
        f"{file.relative_to(library)} imports {module}"
        for at, room in enumerate(order)
        for file in (library / room).glob("*.py")
        if file != library / "__init__.py"
        for module in re.findall(r"from distributed_downloader\.([\w.]+) import", file.read_text())
        if module.rpartition(".")[0] not in order[: at + 1]
    ]
    assert backwards == []
