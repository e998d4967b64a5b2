import pytest

from distributed_downloader.courtesy.ignored import is_ignored, read_ignored
from distributed_downloader.errors import ConfigError


def table(tmp_path, text):
    path = tmp_path / "ignored.csv"
    path.write_text(text, encoding="utf-8")
    return read_ignored(path)


def test_no_table_ignores_nobody(tmp_path):
    assert read_ignored(tmp_path / "ignored.csv") == frozenset()
    assert not is_ignored("example.org", frozenset())


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("server_name\nexample.org\n", {"example.org"}),
        ("server_name,why\nexample.org,the owner wrote\n", {"example.org"}),
        ("why,server_name\nasked us,Example.ORG\n", {"example.org"}),
        ("\ufeffserver_name\n\n# a note\n*.example.org\n", {"example.org"}),
        ("example.org\n", {"example.org"}),
        ("server_name\nhttps://a.example.org/images?x=1\n", {"a.example.org"}),
        ("server_name\nexample.org:8080\n", {"example.org:8080"}),
        ("server_name\n[::1]\n[::1]:80\n", {"::1", "[::1]:80"}),
        ("server_name\nmüller.example\n", {"xn--mller-kva.example"}),
        ("server_name\n", set()),
        ("", set()),
        ("why,server_name\nonly a reason\n", set()),
    ],
)
def test_table_is_read_as_people_write_it(tmp_path, text, entries):
    assert table(tmp_path, text) == entries


def test_columns_without_server_name_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"has the columns host, why: name the one .*server_name"):
        table(tmp_path, "host,why\nexample.org,x\n")


@pytest.mark.parametrize(
    ("server", "ignored", "answer"),
    [
        ("example.org", {"example.org"}, True),
        ("a.b.example.org:8080", {"example.org"}, True),
        ("EXAMPLE.org", {"example.org"}, True),
        ("notexample.org", {"example.org"}, False),
        ("example.org.evil.net", {"example.org"}, False),
        ("example.org:81", {"example.org:80"}, False),
        ("example.org:80", {"example.org:80"}, True),
        ("[::1]:80", {"::1"}, True),
        ("127.0.0.3:8000", {"127.0.0.3"}, True),
    ],
)
def test_entry_stops_host_and_everything_below(server, ignored, answer):
    assert is_ignored(server, frozenset(ignored)) is answer
