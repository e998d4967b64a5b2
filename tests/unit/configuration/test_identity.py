import pytest
import yaml

from distributed_downloader.configuration.config import check_identity, settings_of
from distributed_downloader.configuration.identity import check_targets
from distributed_downloader.errors import ConfigError
from tests.unit.configuration.minimal_config import down, resolved
from tests.unit.conftest import make_settings

AGENTS = [
    ("my-project (mailto:me@university.edu)", True),
    ("my-project (+https://project.university.edu/bot)", True),
    ("me@university.edu", True),
    ("polite-image-downloader", False),
    ("Mozilla/5.0 (X11; Linux x86_64)", False),
    ("project@", False),
    ("http://localhost", False),
    ("", False),
]


@pytest.mark.parametrize(("agent", "is_enough"), AGENTS)
def test_user_agent_must_name_a_contact(tmp_path, agent, is_enough):
    header = {"User-Agent": agent}
    public = make_settings(
        tmp_path, **down(header=header), politeness={"allow_private_addresses": False}
    )
    if is_enough:
        check_identity(public)
    else:
        with pytest.raises(ConfigError, match="names no contact"):
            check_identity(public)


def test_what_the_refusal_tells_to_write_is_accepted(tmp_path):
    public = make_settings(tmp_path, politeness={"allow_private_addresses": False})
    with pytest.raises(ConfigError) as error:
        check_identity(public)
    advice = yaml.safe_load(str(error.value).split("`")[1])
    check_identity(settings_of(resolved(**advice)))


def test_own_servers_need_no_contact(settings):
    check_identity(settings)
    check_targets(settings, {"img.home.arpa": ["192.168.1.2", "fd00::1"], "gone.home.arpa": []})


def test_a_public_server_among_own_ones_needs_a_contact(tmp_path, settings):
    addresses = {"img.home.arpa": ["192.168.1.2"], "museum.example": ["192.88.100.1"]}
    with pytest.raises(ConfigError, match=r"the owner of museum\.example \(at 192\.88\.100\.1, no"):
        check_targets(settings, addresses)
    named = make_settings(tmp_path, **down(header={"User-Agent": "us (me@example.org)"}))
    check_targets(named, addresses)
