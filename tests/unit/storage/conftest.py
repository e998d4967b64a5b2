"""An output folder, for every test of what becomes of parts."""

import pytest

from tests.unit.storage_folder import Folder


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)
