// ioredis finds the leader through sentinels, and the next one by itself.
// Arguments: directory of the packages, ports of the sentinels separated by commas.
// It prints the port of the leader; once a line has come in, it asks again, and prints the port of the next one.

"use strict";

const assert = require("node:assert");
const { once } = require("node:events");
const { createRequire } = require("node:module");
const path = require("node:path");

const [directory, ports] = process.argv.slice(2);
const Redis = createRequire(path.join(directory, "x.js"))("ioredis");

async function main() {
  const redis = new Redis({
    sentinels: ports.split(",").map((port) => ({ host: "127.0.0.1", port: Number(port) })),
    name: "data",
    maxRetriesPerRequest: null,
  });
  redis.on("error", () => {}); // the connection that the leader has closed
  await redis.set("key", "value");
  console.log(redis.stream.remotePort);
  await once(process.stdin, "data");
  assert.strictEqual(await redis.get("key"), "value");
  console.log(redis.stream.remotePort);
  redis.disconnect();
  process.exit(0);
}

main();
