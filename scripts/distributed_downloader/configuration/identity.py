"""We say who we are: the User-Agent names a contact, or nobody but private servers is asked."""

import re
from collections.abc import Iterable, Mapping

from distributed_downloader.errors import ConfigError
from distributed_downloader.settings import Settings
from distributed_downloader.urls.addresses import is_public

MAIL = re.compile(r"[\w.+-]+@[\w-]+(\.[\w-]+)+")
URL = re.compile(r"https?://[\w.-]+\.[\w-]+", re.IGNORECASE)


def names_a_contact(settings: Settings) -> bool:
    """Whether the User-Agent has a mail address or a URL in it."""
    agent = settings.header.get("User-Agent", "")
    return bool(MAIL.search(agent) or URL.search(agent))


def check_identity(settings: Settings) -> None:
    """Raise ConfigError unless a server's owner can reach us, or only our own may be asked."""
    if not settings.politeness.allow_private_addresses and not names_a_contact(settings):
        raise _anonymous(settings, "the owners of the servers")


def check_targets(settings: Settings, addresses: Mapping[str, Iterable[str]]) -> None:
    """The same, once hosts and their addresses are known: no public one is asked anonymously.

    (Where private addresses are allowed, an anonymous run may start; the transport refuses what
    redirects lead to.)
    """
    if names_a_contact(settings):
        return
    for host, found in addresses.items():
        public = next((address for address in found if is_public(address)), None)
        if public is not None:
            raise _anonymous(settings, f"the owner of {host} (at {public}, no private address)")


def _anonymous(settings: Settings, who: str) -> ConfigError:
    return ConfigError(
        f'The User-Agent "{settings.header.get("User-Agent", "")}" names no contact, so {who} '
        'could not reach you: write `downloader_parameters: {header: "User-Agent: my-project '
        '(mailto:me@my-university.edu)"}` with your own mail address or URL.'
    )
