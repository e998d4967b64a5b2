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
        ("straße.de\n", {"xn--strae-oqa.de"}),
        ("[2001:db8:0:0::1]\n", {"2001:db8::1"}),
        ("Server_Name, why\nexample.org,asked\n", {"example.org"}),
        ("example.org # said stop, please\nother.org # too\n", {"example.org", "other.org"}),
        ("server_name # hosts, not URLs\nexample.org,\n", {"example.org"}),
        ('why,server_name\n"asked, twice",example.org\n', {"example.org"}),
        ("  # a note\nexample.org\nserver_name\n", {"example.org"}),
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
    ("text", "said"),
    [
        (
            "server_name\n\nhttp://[example.org\n",
            r"line 3, has 'http://\[example\.org', which is no",
        ),
        ("example.org\n*.example.org:8080\n", r"line 2, has '\*\.example\.org:8080', which is no"),
        ("server_name;why\nexample.org;asked\n", r"has ';' between its columns: put commas there"),
        ("example.org;asked\n", r"line 1, has 'example\.org;asked', which is no host"),
        ('"example.org\nother.org\n', r'line 1, has a " that does not end where its cell does'),
        ('server_name,why\na.org,"said\nb.org,stop"\n', r'line 2, has a " that does not end'),
    ],
)
def test_line_that_would_stop_nobody_is_one_sentence(tmp_path, text, said):
    with pytest.raises(ConfigError, match=said) as raised:
        table(tmp_path, text)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("line", "stopped", "free"),
    [
        ("example.org:443", "example.org", "a.example.org"),
        ("https://example.org:443/", "example.org", "example.org:8080"),
        ("http://example.org:80/x", "example.org", "a.example.org"),
        ("example.org:443", "example.org:443", "example.org:80"),
        ("https://example.org/", "a.example.org:8080", "org"),
        ("straße.de", "www.xn--strae-oqa.de", "strasse.de"),
        ("[2001:db8:0:0::1]", "[2001:db8::1]:8080", "[2001:db8::2]"),
        ("[2001:db8:0:0::1]:443", "[2001:db8::1]", "[2001:db8::1]:8080"),
    ],
)
def test_line_stops_whom_it_names_and_nobody_else(tmp_path, line, stopped, free):
    ignored = table(tmp_path, line)
    assert is_ignored(stopped, ignored)
    assert not is_ignored(free, ignored)


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
