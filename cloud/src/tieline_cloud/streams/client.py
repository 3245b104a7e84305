"""What both directions share: the library, if its extra is installed, and its configuration."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from tieline_cloud.settings import KafkaSettings
from tieline_cloud.token_file import read_secret
from tieline_core.errors import PermanentError

if TYPE_CHECKING:
    import confluent_kafka


class MissingExtraError(PermanentError):
    """Kafka is configured and its client is not installed."""


def library() -> type[Any] | Any:
    """The client library.

    Raises:
        MissingExtraError: Naming the extra.
    """
    try:
        import confluent_kafka
    except ImportError as error:
        raise MissingExtraError(
            "the configuration has a block kafka:, which needs the client; install it with: pip install 'tieline-cloud[kafka]'"
        ) from error
    return confluent_kafka


def client_config(settings: KafkaSettings) -> dict[str, Any]:
    """Configuration of librdkafka that both directions need.

    Raises:
        BadInputError: When the password file cannot be used.
    """
    config: dict[str, Any] = {
        **settings.properties,
        "bootstrap.servers": settings.bootstrap,
        "security.protocol": settings.security,
        "client.id": "tieline-hub",
    }
    if settings.ca_file is not None:
        config["ssl.ca.location"] = str(settings.ca_file)
    if settings.username is not None and settings.password_file is not None:
        config |= {
            "sasl.mechanism": settings.sasl_mechanism,
            "sasl.username": settings.username,
            "sasl.password": read_secret(settings.password_file, "kafka.password_file", 8),
        }
    return config


@dataclass(slots=True)
class StreamCounters:
    """Since the start."""

    messages: int = 0
    readings: int = 0
    repeated: int = 0
    poison: int = 0
    failures: int = 0

    def as_dict(self) -> dict[str, int]:
        """By name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def error_text(error: confluent_kafka.KafkaError | BaseException) -> str:
    """An error of the library as one line."""
    return " ".join(str(error).split())[:300]
