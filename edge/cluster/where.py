"""What --cluster names: a scheduler and its certificates, or how many workers this machine is to start itself."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.errors import UserError
from firmware_bridge.server import ListenError, is_loopback, parse_address
from simulator.files import reason

EXPECTED = "HOST:PORT of a scheduler, local:N for N workers on this machine, or a FILE.yaml"
WAIT_S = 600.0


@dataclass(frozen=True)
class Certificates:
    """Files: of the authority that signed the others, of this end, and its key."""

    ca: Path
    cert: Path
    key: Path

    def security(self) -> Any:
        """As Dask wants them. Raises UserError where they are no certificates, or do not belong together."""
        import ssl

        from distributed import Security

        try:
            ssl.create_default_context(cafile=str(self.ca)).load_cert_chain(self.cert, self.key)
        except OSError as error:  # ssl.SSLError is one
            raise UserError(
                f"{self.ca}, {self.cert} and {self.key} are not an authority, a certificate and its key: "
                f"{reason(error)}."
            ) from error
        ours = {f"tls_{role}_{part}": str(path) for role in ("client", "scheduler", "worker")
                for part, path in (("cert", self.cert), ("key", self.key))}  # fmt: skip
        return Security(tls_ca_file=str(self.ca), require_encryption=True, **ours)


@dataclass(frozen=True)
class Where:
    """scheduler: HOST:PORT; "" for `local` workers of our own. wait_s: for a scheduler that is not there, or for
    workers. dashboard: HOST:PORT at which a scheduler of our own shows it, None for loopback, "" for none."""

    scheduler: str = ""
    local: int = 0
    certificates: Certificates | None = None
    wait_s: float = WAIT_S
    dashboard: str | None = None

    @property
    def address(self) -> str:
        """The scheduler, as Dask wants it."""
        return f"{'tls' if self.certificates else 'tcp'}://{self.scheduler}"

    @property
    def exposed(self) -> bool:
        """Whether others than this machine's could reach it, with nothing to keep them out."""
        try:
            return not self.local and self.certificates is None and not is_loopback(parse_address(self.scheduler)[0])
        except ListenError:
            return True  # no address that is known here


def quieten() -> None:
    """Dask says nothing; what matters is said in sentences. To be called when the parts of it in use are imported."""
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] in ("distributed", "tornado", "asyncio"):
            logging.getLogger(name).disabled = True


def spare() -> None:
    """Dask looks at itself less often: at its stacks, its load and its clock up to 100 times a second otherwise. To be
    called before a scheduler, a worker or a client is made."""
    import dask

    dask.config.set(
        {
            "distributed.worker.profile.enabled": False,
            "distributed.admin.tick.interval": "500 ms",
            "distributed.admin.system-monitor.interval": "5 s",
            "distributed.admin.system-monitor.disk": False,
            "distributed.admin.system-monitor.gil.enabled": False,
            "distributed.scheduler.active-memory-manager.start": False,
            "distributed.client.scheduler-info-interval": "30 s",
        }
    )


def parse_where(text: str) -> Where:
    """Raises UserError for what names no cluster."""
    if text.startswith("local:"):
        number = text.removeprefix("local:")
        if not (number.isascii() and number.isdigit() and 0 < int(number) <= 1024):
            raise UserError(f"--cluster {text}: local:N wants a whole number of workers from 1 to 1024.")
        return Where(local=int(number))
    if text.lower().endswith((".yaml", ".yml")):
        return _read(Path(text).expanduser())
    return Where(address(text, f"--cluster {text} is none of these: {EXPECTED}."))


def refuse_exposed(where: Where) -> None:
    """Raises UserError where others could reach a scheduler with nothing to keep them out."""
    if where.exposed:
        raise UserError(
            f"{where.scheduler} can be reached by other machines, and without certificates whoever reaches it can run "
            "any program there and on its workers: give a FILE.yaml with tls, or --insecure in a network where nobody "
            "else is."
        )


def address(text: str, wrong: str) -> str:
    """HOST:PORT of `text`. Raises UserError, which says `wrong`, where it is none."""
    try:
        host, port = parse_address(text.removeprefix("tcp://").removeprefix("tls://"))
    except ListenError as error:
        raise UserError(wrong) from error
    if not host or not port:
        raise UserError(wrong)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _read(path: Path) -> Where:
    import yaml

    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise UserError(f"--cluster {path} cannot be read: {reason(error)}.") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"--cluster {path} is no YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(content, dict):
        raise UserError(f"--cluster {path} holds no names with values, such as `scheduler: HOST:PORT`.")
    known = {"scheduler", "local", "tls", "wait_s", "dashboard"}
    if unknown := [str(name) for name in content if name not in known]:
        raise UserError(f"--cluster {path}: {unknown[0]} is none of {', '.join(sorted(known))}.")
    if ("scheduler" in content) == ("local" in content):
        raise UserError(f"--cluster {path} wants either scheduler: HOST:PORT or local: N.")
    wait_s = content.get("wait_s", WAIT_S)
    if isinstance(wait_s, bool) or not isinstance(wait_s, int | float) or not wait_s > 0:
        raise UserError(f"--cluster {path}: wait_s is no number of seconds above 0.")
    dashboard = content.get("dashboard")
    if dashboard is not None and dashboard is not False:
        dashboard = address(str(dashboard), f"--cluster {path}: dashboard is neither HOST:PORT nor false.")
    certificates = None if content.get("tls") is None else _certificates(path, content["tls"])
    if "local" in content:
        if certificates is not None:
            raise UserError(f"--cluster {path}: local workers have a certificate of the run; leave tls out.")
        where = parse_where(f"local:{content['local']}")
        return Where(local=where.local, wait_s=float(wait_s), dashboard="" if dashboard is False else dashboard)
    if dashboard is not None:
        raise UserError(f"--cluster {path}: where the dashboard is, its scheduler says; leave it out.")
    scheduler = address(str(content["scheduler"]), f"--cluster {path}: scheduler is no HOST:PORT.")
    return Where(scheduler, certificates=certificates, wait_s=float(wait_s))


def _certificates(path: Path, given: object) -> Certificates:
    names = ("ca", "cert", "key")
    if not isinstance(given, dict) or set(given) != set(names) or not all(isinstance(v, str) for v in given.values()):
        raise UserError(f"--cluster {path}: tls wants the names of three files, ca, cert and key.")
    found = [path.parent / Path(given[name]).expanduser() for name in names]
    for each in found:
        if not each.is_file():
            raise UserError(f"--cluster {path}: {each} is not there.")
    return Certificates(*found)
