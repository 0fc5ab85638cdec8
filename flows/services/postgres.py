"""PostgreSQL instead of SQLite: one address, a database for each of the two servers.

Passwords are passed to the servers in environment variables only, never on a command line or in a file.
"""

import asyncio
from urllib.parse import quote, urlsplit, urlunsplit

from oel_core.config.urls import without_secrets
from oel_core.errors import ConfigError, ServiceError

DATABASES = {"prefect": "oel_prefect", "mlflow": "oel_mlflow"}


def check_url(url: str) -> None:
    """Raises ConfigError for an invalid PostgreSQL URL."""
    parts = urlsplit(url)
    if parts.scheme not in ("postgresql", "postgres") or not (parts.hostname or "host=" in parts.query):
        raise ConfigError(
            f"--postgres {without_secrets(url)}: write it as postgresql://user:password@host:5432/database"
        )


def database_url(url: str, server: str) -> str:
    """The URL of one server's database, with that server's driver."""
    parts = urlsplit(url)
    scheme = "postgresql+asyncpg" if server == "prefect" else "postgresql+psycopg2"
    return urlunsplit((scheme, parts.netloc, f"/{quote(DATABASES[server])}", parts.query, ""))


def ensure_databases(url: str) -> None:
    """Creates the two databases if missing.

    Raises:
        ConfigError: a driver is missing.
        ServiceError: the server does not respond, rejects the connection, or this user may not create databases.
    """
    try:
        import psycopg2 as psycopg2
    except ImportError as error:
        raise ConfigError("PostgreSQL needs one more package: pip install 'oel[postgres]'") from error
    asyncio.run(_ensure(url))


async def _ensure(url: str) -> None:
    import asyncpg

    parts = urlsplit(url)
    try:
        connection = await asyncpg.connect(urlunsplit(("postgresql", *parts[1:])), timeout=20)
        try:
            have = {row["datname"] for row in await connection.fetch("select datname from pg_database")}
            for name in DATABASES.values():
                if name not in have:
                    await connection.execute(f'create database "{name}"')
        finally:
            await connection.close()
    except (OSError, TimeoutError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise ServiceError(
            f"PostgreSQL at {without_secrets(url)}: {error}. It must be reachable, and either this user may create "
            f"databases or {' and '.join(DATABASES.values())} exist"
        ) from error
