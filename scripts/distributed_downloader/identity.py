"""We say who we are: the User-Agent names a contact, or nobody but private servers is asked."""

import re

from distributed_downloader.errors import ConfigError
from distributed_downloader.settings import Settings

MAIL = re.compile(r"[\w.+-]+@[\w-]+(\.[\w-]+)+")
URL = re.compile(r"https?://[\w.-]+\.[\w-]+", re.IGNORECASE)


def check_identity(settings: Settings) -> None:
    """Raise ConfigError unless a server's owner can reach us, or only our own are asked."""
    agent = settings.header.get("User-Agent", "")
    if settings.politeness.allow_private_addresses or MAIL.search(agent) or URL.search(agent):
        return
    raise ConfigError(
        f'The User-Agent "{agent}" names no contact, so the owners of the servers could not reach '
        'you: write `downloader_parameters: {header: "User-Agent: my-project '
        '(mailto:me@my-university.edu)"}` with your own mail address or URL.'
    )
