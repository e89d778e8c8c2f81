"""Ansible's way into the image: every command and every file goes through the sandbox."""

DOCUMENTATION = r"""
name: bakehouse
short_description: Run tasks in the image that is being baked
description:
  - Runs commands in the image's sandbox and moves files in and out of it, by C(bakehouse-inside).
author: Bakehouse
extends_documentation_fragment:
  - connection_pipelining
options: {}
"""

import os
import subprocess

from ansible.errors import AnsibleError, AnsibleFileNotFound
from ansible.plugins.connection import ConnectionBase
from ansible.utils.display import Display

display = Display()


def _bytes(text):
    return text if isinstance(text, bytes) else os.fsencode(text)


class Connection(ConnectionBase):
    """The sandbox of one step."""

    transport = "bakehouse"
    has_pipelining = True
    default_user = "root"

    def _connect(self):
        # `become: true` without another user is what it is already.
        self._play_context.remote_user = self.default_user
        self._connected = True
        return self

    def exec_command(self, cmd, in_data=None, sudoable=True):
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        display.vvv("EXEC %s" % (cmd,), host=self._play_context.remote_addr)
        done = self._inside(["/bin/sh", "-c", cmd], input=in_data or b"")
        return done.returncode, done.stdout, done.stderr

    def put_file(self, in_path, out_path):
        super().put_file(in_path, out_path)
        display.vvv("PUT %s TO %s" % (in_path, out_path), host=self._play_context.remote_addr)
        try:
            source = open(_bytes(in_path), "rb")
        except OSError as error:
            raise AnsibleFileNotFound("%s cannot be read: %s" % (in_path, error)) from error
        with source:
            self._moved(self._inside(["--put", self._absolute(out_path)], stdin=source), in_path)

    def fetch_file(self, in_path, out_path):
        super().fetch_file(in_path, out_path)
        display.vvv("FETCH %s TO %s" % (in_path, out_path), host=self._play_context.remote_addr)
        with open(_bytes(out_path), "wb") as target:
            self._moved(self._inside(["--fetch", self._absolute(in_path)], stdout=target), in_path)

    def close(self):
        self._connected = False

    @staticmethod
    def _absolute(path):
        return os.path.join("/", path)

    @staticmethod
    def _inside(words, **streams):
        streams.setdefault("stdout", subprocess.PIPE)
        return subprocess.run(["bakehouse-inside", *words], stderr=subprocess.PIPE, check=False, **streams)

    @staticmethod
    def _moved(done, path):
        if done.returncode != 0:
            why = done.stderr.decode("utf-8", "replace").strip()
            raise AnsibleError("failed to transfer %s: %s" % (path, why))
