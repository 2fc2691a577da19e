"""ioredis in TLS, with a certificate of its own."""

import subprocess
from pathlib import Path
from typing import Final

from tests.interop.conftest import program
from tests.support.harness import TIMEOUT_S, Server
from tests.support.secured import certificates, server_files, server_flags

SCRIPT: Final = """
const [directory, port, ca, cert, key] = process.argv.slice(1);
const { readFileSync } = require("node:fs");
const { createRequire } = require("node:module");
const Redis = createRequire(`${directory}/node_modules/x`)("ioredis");
const tls = { ca: readFileSync(ca), cert: readFileSync(cert), key: readFileSync(key) };
const client = new Redis({ host: "127.0.0.1", port: Number(port), tls, retryStrategy: null });
(async () => {
  const large = "x".repeat(1 << 20);
  await Promise.all(Array.from({ length: 20 }, (_, number) => client.set(`k${number}`, large)));
  const values = await client.mget(...Array.from({ length: 20 }, (_, number) => `k${number}`));
  if (!values.every((value) => value === large)) throw new Error("another value");
  await client.quit();
  console.log("done");
})();
"""


def test_ioredis(node_packages: Path) -> None:
    """Large values go both ways."""
    files, cert = server_files(), certificates().client_cert
    flags = ("--tls-ca-file", files.ca_file, "--tls-client-certs", "required", "--tls-required", "true")
    with Server(*server_flags(), *flags) as server:
        arguments = [str(node_packages), str(server.port), files.ca_file, str(cert), str(certificates().key_of(cert))]
        command = [program("node"), "-e", SCRIPT, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        assert (done.stdout, done.stderr) == ("done\n", "")
