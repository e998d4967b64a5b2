"""The whole from Python, in a folder of one's own: run it, read it, be told what is wrong."""

import logging
import re

import pytest
import yaml

from distributed_downloader import Dataset, download_images
from distributed_downloader.errors import DownloaderError
from distributed_downloader.fleet.plan import HostPlan

LOG = logging.getLogger("my.run")


def test_download_and_read_back_from_another_working_directory(
    start_fleet, new_workflow, monkeypatch, caplog
):
    fleet = start_fleet(
        HostPlan(name="a.museum.test", address="127.0.12.5", images=6, photos="tiny")
    )
    workflow = new_workflow(fleet, fleet.urls(), downloader_parameters={"image_size": 32})
    workflow.config |= {"path_to_input": "urls.txt", "path_to_output": "dataset"}
    (workflow.folder / "my.yaml").write_text(yaml.safe_dump(workflow.config))
    monkeypatch.chdir(workflow.folder)
    caplog.set_level(logging.INFO, LOG.name)

    download_images("my.yaml", logger=LOG)
    assert "6  of 6 rows" in caplog.text
    with Dataset("dataset") as dataset:
        assert len(dataset) == 6
        first = dataset[0]
        assert dataset[first.uuid].row["identifier"] in fleet.urls()
        assert max(dataset.image(0).size) <= 32
        assert [record.uuid for record in dataset] == dataset.table().collect()["uuid"].to_list()


def test_failures_are_raised_with_their_sentence(tmp_path, monkeypatch):
    (tmp_path / "urls.csv").write_text("gbifID,type\n1,StillImage\n")
    config = {
        "path_to_input": "urls.csv",
        "path_to_output": "out",
        "politeness": {"allow_private_addresses": True},
    }
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.chdir(tmp_path)
    of_a_job = f"{tmp_path}/urls.csv has no column identifier; its columns are gbifID, type: "
    with pytest.raises(DownloaderError, match=f"^{re.escape(of_a_job)}"):
        download_images("my.yaml", LOG)
    of_the_config = 'downloader_parameters.image_size is "large": allowed is a whole number'
    with pytest.raises(DownloaderError, match=f"^{re.escape(of_the_config)}"):
        download_images(
            "my.yaml", LOG, overrides={"downloader_parameters": {"image_size": "large"}}
        )
    with pytest.raises(DownloaderError, match=r"^There is no config file .*/none\.yaml"):
        download_images("none.yaml")
