"""Borders to other systems: mirrors, head-end systems, Kafka."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from tieline_cloud.settings.section import Name, Section, is_loopback
from tieline_core.ids import EdgeId


class MirrorSettings(Section):
    """A time-series database that is kept equal to the ledger: InfluxDB 2 or 3, VictoriaMetrics."""

    name: Name
    url: str = Field(max_length=500, examples=["http://127.0.0.1:8428"])
    org: str = Field(default="tieline", max_length=200)
    bucket: str = Field(default="tieline", min_length=1, max_length=200)
    token_file: Path | None = Field(default=None, description="file with the token, mode 0600; VictoriaMetrics needs none")
    ca_file: Path | None = Field(default=None, description="certificate authority of an https target")
    insecure: bool = Field(default=False, description="plain http to another machine although the token travels readable")
    measurement: str = Field(default="tieline", pattern=r"^[A-Za-z][A-Za-z0-9_]{0,47}$")
    batch_lines: int = Field(default=10_000, ge=1, le=100_000, description="lines of one request")
    replay_rows: int = Field(default=100_000, ge=1, le=1_000_000, description="readings taken from the ledger at once")
    overlap_minutes: float = Field(
        default=10.0, ge=1, le=1440, description="replayed again after a restart: what a target answered may not be on its disk"
    )
    poll_s: float = Field(default=1.0, ge=0.05, le=3600, description="pause when there is nothing new")
    timeout_s: float = Field(
        default=10.0, gt=0, le=600, description="of one request; also the longest the hub's stop waits for it"
    )
    gzip: bool = False

    @field_validator("url")
    @classmethod
    def _http(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise ValueError(f"{url!r} is no address like 'http://127.0.0.1:8428'; secrets go into token_file")
        return url.rstrip("/")

    @model_validator(mode="after")
    def _tls_or_loopback(self) -> MirrorSettings:
        parts = urlsplit(self.url)
        if parts.scheme == "http" and not is_loopback(parts.hostname or "") and not self.insecure:
            raise ValueError(f"{self.url} is plain http to another machine; use https, or say insecure: true if you mean it")
        return self


class SourceSettings(Section):
    """A head-end system that delivers readings over ``POST /v1/ingest/{source}``; its points begin with its name."""

    token_file: Path = Field(description="file with the token the source sends as bearer, 32 characters or more, mode 0600")


class KafkaConsumerSettings(Section):
    """Readings taken from topics."""

    topics: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,249}$")], ...] = Field(min_length=1, max_length=100)
    group: str = Field(default="tieline", pattern=r"^[A-Za-z0-9._-]{1,200}$")
    sources: tuple[EdgeId, ...] = Field(min_length=1, description="names the points on these topics may begin with")
    format: Literal["json", "frame"] = "json"
    start: Literal["earliest", "latest"] = Field(default="earliest", description="where a group without offsets begins")


class KafkaProducerSettings(Section):
    """Committed readings given to other systems."""

    topic: str = Field(pattern=r"^[A-Za-z0-9._-]{1,249}$")
    name: Name = Field(default="kafka", description="under which the position is kept; a new one begins at the start")
    format: Literal["json", "frame"] = "json"
    message_rows: int = Field(default=1000, ge=1, le=10_000, description="readings of one message; one edge each")
    replay_rows: int = Field(default=50_000, ge=1, le=1_000_000)
    poll_s: float = Field(default=1.0, ge=0.05, le=3600)


class KafkaSettings(Section):
    """A Kafka cluster; needs the extra ``tieline-cloud[kafka]``."""

    bootstrap: str = Field(pattern=r"^[A-Za-z0-9_.:,\[\]-]{1,1000}$", examples=["127.0.0.1:9092"])
    security: Literal["plaintext", "ssl", "sasl_ssl"] = "ssl"
    insecure: bool = Field(default=False, description="plaintext to another machine")
    ca_file: Path | None = None
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    username: str | None = None
    password_file: Path | None = None
    properties: dict[str, str | int | float | bool] = Field(
        default_factory=dict, description="more properties of librdkafka; ours win", max_length=50
    )
    consumer: KafkaConsumerSettings | None = None
    producer: KafkaProducerSettings | None = None

    @model_validator(mode="after")
    def _guarded(self) -> KafkaSettings:
        hosts = [entry.rsplit(":", 1)[0].strip("[]") for entry in self.bootstrap.split(",")]
        if self.security == "plaintext" and not self.insecure and not all(map(is_loopback, hosts)):
            raise ValueError("security: plaintext is for loopback; use ssl or sasl_ssl, or say insecure: true if you mean it")
        if (self.security == "sasl_ssl") != (self.username is not None and self.password_file is not None):
            raise ValueError("username and password_file belong to security: sasl_ssl, and only to it")
        if self.consumer is None and self.producer is None:
            raise ValueError("names neither a consumer nor a producer")
        return self
