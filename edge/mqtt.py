"""MQTT: the run's numbers and pictures to a broker, in the way that Home Assistant finds by itself."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
import urllib.parse

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from edge import terminal
from edge.errors import UserError
from edge.live import Figures, Step
from edge.terminal import without_secrets
from edge.view.shown import Shown

_NUMBERS_S, _PICTURES_S = 1.0, 5.0  # between two of each
_BEGINS_S = 5.0  # that a broker is given to answer at the start
_ENDS_S = 1.0  # that the end of a run waits for it
_PORTS = {"mqtt": 1883, "mqtts": 8883}
_TOPIC = "edge-restore"
# What Home Assistant shows as sensors: name in `Figures.report`, name for people, unit.
_SENSORS = (
    ("fps", "Pictures a second", "fps"),
    ("delay_ms", "Delay", "ms"),
    ("latency_ms", "Network", "ms"),
    ("spike_rate", "Spike rate", None),
    ("estimated_uj", "Energy (estimated)", "µJ"),
    ("dropped", "Dropped pictures", None),
    ("status", "Source", None),
)


class Mqtt:
    """Publishes below TOPIC: `availability` (online, offline, also when the run dies), `state` (JSON) and `picture`
    (JPEG, as it came | restored)."""

    def __init__(self, address: str, figures: Figures) -> None:
        """address: mqtt://[USER:PASSWORD@]HOST[:PORT][/TOPIC], or mqtts. Raises UserError."""
        parts = urllib.parse.urlsplit(address)
        self._label = label = without_secrets(address)
        try:
            port = parts.port
        except ValueError:
            port = 0
        if parts.scheme not in _PORTS or not parts.hostname or port == 0:
            raise UserError(f"--mqtt {label} is not mqtt://HOST[:PORT][/TOPIC].")
        self._topic = urllib.parse.unquote(parts.path.strip("/")) or _TOPIC
        if any(letter in address for letter in "#?") or any(letter in self._topic for letter in "+#\0"):
            raise UserError(f"--mqtt {label} names a topic with +, # or ? in it, which nothing can be published to.")
        self._figures, self._shown = figures, Shown()
        self._pictured = 0  # the number of the picture that was published last
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        if parts.username:
            user, secret = urllib.parse.unquote(parts.username), urllib.parse.unquote(parts.password or "")
            self._client.username_pw_set(user, secret)
        if parts.scheme == "mqtts":
            self._client.tls_set()
        self._client.will_set(f"{self._topic}/availability", "offline", qos=1, retain=True)
        self._client.on_connect = self._connected
        self._client.on_disconnect = self._lost
        self._answered, self._ending = threading.Event(), threading.Event()
        self._trouble = ""  # why the broker does not take what is published; said once
        try:
            self._client.connect(parts.hostname, port or _PORTS[parts.scheme], keepalive=15)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or "no answer"
            raise UserError(f"--mqtt {label} cannot be reached: {why.lower()}.") from error
        self._client.loop_start()  # which connects again by itself
        trouble = self._trouble if self._answered.wait(_BEGINS_S) else "does not answer"
        if trouble:
            self._ending.set()
            self._client.disconnect()  # of which `_lost` hears
            raise UserError(f"--mqtt {label} {trouble}.")
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)
        self._thread.start()

    def seen(self, step: Step) -> None:
        self._shown.seen(step)

    def close(self) -> None:
        """Says the last numbers, and that this was the end; a broker that does not answer is not waited for."""
        until = time.monotonic() + _ENDS_S
        self._ending.set()
        self._thread.join(_ENDS_S)
        self._publish(time.monotonic())
        goodbye = self._client.publish(f"{self._topic}/availability", "offline", qos=1, retain=True)
        with contextlib.suppress(RuntimeError):  # of a broker that is gone, which then says "offline" by itself
            goodbye.wait_for_publish(max(until - time.monotonic(), 0))
        self._client.disconnect()
        ending = threading.Thread(target=self._client.loop_stop, daemon=True)
        ending.start()
        ending.join(max(until - time.monotonic(), 0))

    def _run(self) -> None:
        """A thread: numbers come of a source that has stalled, too, and pictures are encoded beside the network."""
        next_picture = self._publish(0.0)
        while not self._ending.wait(_NUMBERS_S):
            next_picture = self._publish(next_picture)

    def _publish(self, next_picture: float) -> float:
        """The numbers, and a new picture if it is time for one; returns when it is time for the next."""
        self._client.publish(f"{self._topic}/state", json.dumps(self._figures.report()))
        now = time.monotonic()
        if now < next_picture or self._shown.number == self._pictured:
            return next_picture
        self._pictured, picture = self._shown.jpeg("both")
        self._client.publish(f"{self._topic}/picture", picture)
        return now + _PICTURES_S

    def _lost(self, client: paho.Client, data: object, flags: object, code: ReasonCode, *_: object) -> None:
        if not self._answered.is_set():
            self._trouble = "hangs up, as no broker does"
            self._answered.set()
        elif not self._ending.is_set() and not self._trouble:
            self._trouble = f"is lost ({str(code).lower()})"
            terminal.say(f"--mqtt {self._label} {self._trouble}; connecting again.")

    def _connected(self, client: paho.Client, data: object, flags: object, code: ReasonCode, *_: object) -> None:
        """Says what there is, after every connection: the broker may have been restarted."""
        if code.is_failure:
            known = self._trouble
            self._trouble = f"refuses: {str(code).lower()}; USER:PASSWORD@ stands before HOST"
            if self._answered.is_set() and self._trouble != known:
                terminal.say(f"--mqtt {self._label} {self._trouble}.")
            self._answered.set()
            return
        self._trouble = ""
        name = re.sub(r"[^A-Za-z0-9_-]", "_", self._topic)
        common = {
            "availability_topic": f"{self._topic}/availability",
            "device": {"identifiers": [name], "name": self._topic, "manufacturer": "SpikerIR-edge"},
        }
        camera = {**common, "name": "Picture", "unique_id": f"{name}_picture", "topic": f"{self._topic}/picture"}
        client.publish(f"homeassistant/camera/{name}/config", json.dumps(camera), qos=1, retain=True)
        for key, title, unit in _SENSORS:
            sensor = {
                **common,
                "name": title,
                "unique_id": f"{name}_{key}",
                "state_topic": f"{self._topic}/state",
                "value_template": f"{{{{ value_json.{key} }}}}",
                **({"unit_of_measurement": unit} if unit else {}),
            }
            client.publish(f"homeassistant/sensor/{name}/{key}/config", json.dumps(sensor), qos=1, retain=True)
        client.publish(f"{self._topic}/availability", "online", qos=1, retain=True)
        self._answered.set()
