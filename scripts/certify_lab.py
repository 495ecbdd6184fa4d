"""Certifies the loopback IoT Hub with the azure-iot-device client. Run by certify-lab.sh.

Each check prints PASS or FAIL; the last line counts them; the exit code is 0 if none failed.
"""

import base64
import hashlib
import hmac
import json
import logging
import queue
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
from unittest import mock

from azure.iot.device import IoTHubModuleClient, Message, MethodResponse
from azure.iot.device.exceptions import ClientError, CredentialError

PATIENCE = 20


class Lab:
    """`twinward lab` as a process: JSON lines out, commands in."""

    def __init__(self, binary):
        self.process = subprocess.Popen(
            [binary, "lab"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )
        self.lines = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.serial = 0
        self.kept = []
        self.ready = self.wait(lambda event: event["event"] == "ready")

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(json.loads(line))

    def wait(self, wanted):
        """The first event, since the last one that was waited for, that is wanted."""
        for i, event in enumerate(self.kept):
            if wanted(event):
                del self.kept[: i + 1]
                return event
        end = time.monotonic() + PATIENCE
        while True:
            try:
                event = self.lines.get(timeout=max(0, end - time.monotonic()))
            except queue.Empty:
                raise AssertionError("the hub did not report what was expected") from None
            if wanted(event):
                self.kept.clear()
                return event
            self.kept.append(event)

    def event(self, name, **fields):
        return self.wait(lambda e: e["event"] == name and all(e.get(k) == v for k, v in fields.items()))

    def tell(self, cmd, **fields):
        self.serial += 1
        self.process.stdin.write(json.dumps({"cmd": cmd, "id": self.serial, **fields}) + "\n")
        self.process.stdin.flush()
        return self.serial

    def ask(self, cmd, **fields):
        answer = self.event("answer", id=self.tell(cmd, **fields))
        assert answer["ok"], answer
        return answer

    def end(self):
        self.process.stdin.close()
        try:
            self.process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()


def lead_to(lab):
    """The client dials HOST:8883; lead it to the lab's port. TLS still asks for HOST and checks its name."""
    real = socket.create_connection

    def create_connection(address, *args, **kwargs):
        if address[0] == lab.ready["host"]:
            address = (lab.ready["address"], lab.ready["port"])
        return real(address, *args, **kwargs)

    socket.create_connection = create_connection


def fields_of(connection_string):
    return dict(field.split("=", 1) for field in connection_string.split(";"))


def token(connection_string, expires):
    fields = fields_of(connection_string)
    resource = f"{fields['HostName']}/devices/{fields['DeviceId']}/modules/{fields['ModuleId']}"
    resource = urllib.parse.quote(resource, safe="")
    key = base64.b64decode(fields["SharedAccessKey"])
    signature = hmac.new(key, f"{resource}\n{expires}".encode(), hashlib.sha256).digest()
    signature = urllib.parse.quote(base64.b64encode(signature), safe="")
    return f"SharedAccessSignature sr={resource}&sig={signature}&se={expires}"


class Certification:
    def __init__(self, lab):
        self.lab = lab
        self.string = lab.ready["connection_string"]
        self.options = {"server_verification_cert": lab.ready["ca_pem"], "connection_retry": False}
        self.client = None

    def sign_in(self):
        options = {**self.options, "connection_retry": True, "connection_retry_interval": 1}
        self.client = IoTHubModuleClient.create_from_connection_string(self.string, **options)
        self.client.connect()
        event = self.lab.event("connected")
        assert "DeviceClientType" in event["user_name"], event
        assert event["session_present"] is False, event

    def twin_get(self):
        twin = self.client.get_twin()
        kept = self.lab.ask("twin")
        assert twin["desired"] == kept["desired"] and twin["reported"] == kept["reported"], twin
        assert twin["desired"]["$version"] == 1, twin

    def desired_notice(self):
        notices = queue.Queue()
        self.client.on_twin_desired_properties_patch_received = notices.put
        self.lab.event("subscribed", filter="$iothub/twin/PATCH/properties/desired/#")
        version = self.lab.ask("patch_desired", patch={"colour": {"value": "red"}, "gone": None})["version"]
        notice = notices.get(timeout=PATIENCE)
        assert notice == {"colour": {"value": "red"}, "gone": None, "$version": version}, notice

    def reported_patch(self):
        self.client.patch_twin_reported_properties({"a": {"b": 1, "c": "x"}})
        self.lab.event("reported", patch={"a": {"b": 1, "c": "x"}})
        self.client.patch_twin_reported_properties({"a": {"b": None}})
        reported = self.client.get_twin()["reported"]
        assert reported == {"a": {"c": "x"}, "$version": 3}, reported

    def refused_report(self):
        try:
            self.client.patch_twin_reported_properties({"not allowed": 1})
        except ClientError:
            self.lab.event("report_refused", status=400)
            return
        raise AssertionError("a name with a blank was taken")

    def method(self):
        def answer(request):
            reply = {"got": request.payload, "name": request.name}
            self.client.send_method_response(MethodResponse.create_from_method_request(request, 207, reply))

        self.client.on_method_request_received = answer
        self.lab.event("subscribed", filter="$iothub/methods/POST/#")
        reply = self.lab.ask("method", name="collect", payload={"deep": [1, 2]}, timeout_ms=PATIENCE * 1000)
        assert reply["status"] == 207, reply
        assert reply["payload"] == {"got": {"deep": [1, 2]}, "name": "collect"}, reply

    def telemetry(self):
        message = Message('{"temperature":21}', message_id="id:1", content_encoding="utf-8")
        message.content_type = "application/json;charset=utf-8"
        message.correlation_id = "c/1"
        message.set_as_security_message()
        message.custom_properties["schema"] = "1.0"
        message.custom_properties["odd key"] = "a=b&c/d#e+f%"
        self.client.send_message(message)
        event = self.lab.event("telemetry")
        expected = {
            "$.mid": "id:1",
            "$.cid": "c/1",
            "$.ce": "utf-8",
            "$.ct": "application/json;charset=utf-8",
            "$.ifid": "urn:azureiot:Security:SecurityAgent:1",
            "schema": "1.0",
            "odd key": "a=b&c/d#e+f%",
        }
        got = event["properties"]
        assert {key: got.get(key) for key in expected} == expected, got
        assert event["body"] == {"temperature": 21} and event["packet_id"], event

    def reconnect(self):
        self.lab.ask("kick")
        self.lab.event("disconnected", why="kicked")
        self.lab.event("connected", session_present=True)
        self.client.send_message("after the kick")
        self.lab.event("telemetry", body="after the kick")

    def sign_out(self):
        self.client.disconnect()
        self.lab.event("disconnected", why="client_left")

    def _refused(self, client):
        try:
            client.connect()
        except CredentialError:
            return self.lab.event("refused", code=5)["reason"]
        finally:
            client.shutdown()
        raise AssertionError("it was let in")

    def wrong_key(self):
        fields = fields_of(self.string)
        fields["SharedAccessKey"] = base64.b64encode(bytes(32)).decode()
        wrong = ";".join(f"{key}={value}" for key, value in fields.items())
        reason = self._refused(IoTHubModuleClient.create_from_connection_string(wrong, **self.options))
        assert "signed" in reason, reason

    def expired_token(self):
        # The client does not take an expired token, so it is made to believe it is an hour ago while it looks.
        expired, past = token(self.string, int(time.time()) - 600), time.time() - 3600
        with mock.patch("time.time", return_value=past):
            client = IoTHubModuleClient.create_from_sastoken(expired, **self.options)
        reason = self._refused(client)
        assert "expired" in reason, reason

    def unknown_module(self):
        unknown = self.string.replace("ModuleId=azureiotsecurity", "ModuleId=nobody")
        reason = self._refused(IoTHubModuleClient.create_from_connection_string(unknown, **self.options))
        assert "no such module" in reason, reason

    def unknown_authority(self):
        self.lab.ask("faults", certificate="other_authority")
        client = IoTHubModuleClient.create_from_connection_string(self.string, **self.options)
        try:
            client.connect()
        except ClientError:
            self.lab.event("refused", code=None)
            return
        finally:
            client.shutdown()
            self.lab.ask("faults", clear=True)
        raise AssertionError("the client believed a foreign certificate")

    def close(self):
        if self.client is not None:
            self.client.shutdown()


CHECKS = [
    ("signs in as a module with SAS", Certification.sign_in),
    ("reads its twin", Certification.twin_get),
    ("is told of a desired change", Certification.desired_notice),
    ("reports properties, which merge", Certification.reported_patch),
    ("is refused a report that breaks a rule", Certification.refused_report),
    ("answers a direct method", Certification.method),
    ("sends telemetry with system and application properties", Certification.telemetry),
    ("comes back after a kick, to its stored session", Certification.reconnect),
    ("signs out", Certification.sign_out),
    ("is refused with a wrong key", Certification.wrong_key),
    ("is refused with an expired token", Certification.expired_token),
    ("is refused as an unknown module", Certification.unknown_module),
    ("refuses a hub by an unknown authority", Certification.unknown_authority),
]


def main():
    logging.disable(logging.CRITICAL)
    lab = Lab(sys.argv[1])
    passed = failed = 0
    try:
        lead_to(lab)
        certification = Certification(lab)
        for name, check in CHECKS:
            try:
                check(certification)
                passed += 1
                print(f"PASS  azure-iot-device {name}", flush=True)
            except Exception as error:  # whatever goes wrong in a check is its failure
                failed += 1
                print(f"FAIL  azure-iot-device {name}: {type(error).__name__}: {error}", flush=True)
        certification.close()
    finally:
        lab.end()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
