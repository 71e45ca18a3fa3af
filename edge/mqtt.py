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

from edge.errors import UserError
from edge.live import Figures, Step
from edge.terminal import without_secrets
from edge.view.shown import Shown

_NUMBERS_S, _PICTURES_S = 1.0, 5.0  # between two of each
_ANSWER_S = 1.0  # that the end of a run waits at most for the broker, twice
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
        label = without_secrets(address)
        try:
            port = parts.port
        except ValueError:
            port = 0
        if parts.scheme not in _PORTS or not parts.hostname or port == 0:
            raise UserError(f"--mqtt {label} is not mqtt://HOST[:PORT][/TOPIC].")
        self._figures, self._shown = figures, Shown()
        self._topic = urllib.parse.unquote(parts.path.strip("/")) or _TOPIC
        self._told = self._pictured = 0.0
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        if parts.username:
            user, secret = urllib.parse.unquote(parts.username), urllib.parse.unquote(parts.password or "")
            self._client.username_pw_set(user, secret)
        if parts.scheme == "mqtts":
            self._client.tls_set()
        self._client.will_set(f"{self._topic}/availability", "offline", qos=1, retain=True)
        self._client.on_connect = self._connected
        self._announced = threading.Event()
        try:
            self._client.connect(parts.hostname, port or _PORTS[parts.scheme], keepalive=15)
        except OSError as error:
            raise UserError(f"--mqtt {label} cannot be reached: {(error.strerror or 'no answer').lower()}.") from error
        self._client.loop_start()  # which connects again by itself

    def seen(self, step: Step) -> None:
        now = time.monotonic()
        if now - self._told >= _NUMBERS_S:
            self._told = now
            self._client.publish(f"{self._topic}/state", json.dumps(self._figures.report()))
        if now - self._pictured >= _PICTURES_S:
            self._pictured = now
            self._shown.seen(step)
            self._client.publish(f"{self._topic}/picture", self._shown.jpeg("both")[1])

    def close(self) -> None:
        self._announced.wait(_ANSWER_S)  # a run may end before the broker has answered, and "offline" comes last
        self._client.publish(f"{self._topic}/state", json.dumps(self._figures.report()))
        goodbye = self._client.publish(f"{self._topic}/availability", "offline", qos=1, retain=True)
        with contextlib.suppress(RuntimeError):  # of a broker that is gone, which then says "offline" by itself
            goodbye.wait_for_publish(_ANSWER_S)
        self._client.disconnect()
        self._client.loop_stop()

    def _connected(self, client: paho.Client, *_: object) -> None:
        """Says what there is, after every connection: the broker may have been restarted."""
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
        self._announced.set()
