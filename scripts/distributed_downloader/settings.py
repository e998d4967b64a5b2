"""The settings of one run, as frozen values; `config.load_settings` makes them.

Defaults are not here: they live in `config/config.schema.yaml` alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distributed_downloader.paths import OutputPaths


@dataclass(frozen=True, slots=True)
class Politeness:
    """What servers may be asked for, beyond `default_rate_limit`."""

    group_by: str  # domain | host | address | table
    group_table: Path | None  # CSV host,group; only with group_by: table
    address_book: Path  # host -> address, as whereabouts found them; for group_by: address
    burst: int
    default_connections: int
    allow_private_addresses: bool
    robots: str  # obey | crawl_delay_only | ignore
    opt_out_headers: tuple[str, ...]  # directives that count: noai, noimageai, ..., tdm-reservation
    wait_s: float  # how long a run waits when only blocked groups are left
    min_rate: float  # requests per second: the floor of learned rates
    first_s: float  # backoff: first block
    factor: float
    max_s: float
    forgive_after_s: float
    jitter: float  # share of a block added at random
    breaker_failures: int  # consecutive dead-host failures or 403s that open the breaker
    servers: Mapping[str, Mapping[str, Any]]  # overrides by host, domain or wildcard


@dataclass(frozen=True, slots=True)
class Images:
    """What is stored of an image."""

    image_size: int  # pixels of the longest side; 0 = the bytes as received
    mode: str  # longest_side | shortest_side | center_crop | pad
    format: str  # jpeg | png | webp
    quality: int
    keep_original: bool
    max_bytes: int
    max_pixels: int
    max_decoder_bytes: int


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Limits on one request, hops and body included."""

    connect_s: float
    total_s: float
    min_bytes_per_s: float


@dataclass(frozen=True, slots=True)
class Flush:
    """When a rank commits what it holds."""

    seconds: float
    max_bytes: int


@dataclass(frozen=True, slots=True)
class Filters:
    """Which rows are fetched; empty = all."""

    licenses: tuple[str, ...]  # classes, with wildcards
    servers: tuple[str, ...]  # hosts and domains
    servers_excluded: tuple[str, ...]
    where: str  # SQL


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a stage may ask; `raw` is the checked config with defaults, as JSON types."""

    path_to_input: str  # a path, or an address that fsspec knows
    input_options: Mapping[str, Any]  # fsspec's own, for an address
    paths: OutputPaths
    account: str
    initializer_type: str
    included_sources: tuple[str, ...]  # values of data_source, for some sources
    excluded_servers_path: Path | None  # CSV with server_name
    filters: Filters
    header: Mapping[str, str]  # HTTP headers of every request, User-Agent among them
    columns: Mapping[str, str]  # our name -> the input's name
    batch_size: int
    num_downloads: int  # most waves in one run, 0 = until done
    max_nodes: int
    workers_per_node: int
    cpu_per_worker: int
    idle_nodes_s: float  # for how long half of a wave's nodes may have nothing to do
    logger_level: str
    default_rate_limit: float  # requests per second
    rate_multiplier: float  # share of every limit that is used, at most 1
    previous_output: Path | None  # the folder of an earlier run, whose images are copied
    gone_rows: str  # keep | remove: images whose rows the list has no more
    revalidate_days: float | None  # age at which images are asked for again; None: never
    retry_failed: tuple[str, ...]  # error classes whose final failures are asked for again
    suppress_unchanged_error: bool
    verify: str  # changed | full
    profile_samples: int  # sample URLs per server, 0 = none
    retries_per_row: int  # counted tries of a row in one wave
    retries_waves: int  # waves after which a retryable row is final
    hosts: Mapping[str, str]  # name -> address, asked before DNS
    proxy: str  # host:port or URL; "" = as the environment says, "none" = no proxy
    tools: tuple[str, ...]
    politeness: Politeness
    images: Images
    timeouts: Timeouts
    flush: Flush
    raw: Mapping[str, Any]

    @property
    def ranks(self) -> int:
        """Most MPI ranks of a wave."""
        return self.max_nodes * self.workers_per_node
