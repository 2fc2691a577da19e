// What clients of Node.js do at a server where they have to authenticate, one conversation at a time: see node_talk.js.
"use strict";

const assert = require("node:assert/strict");
const { installed, options } = require("./node_talk.js");
const { createClient } = installed("redis");
const Redis = installed("ioredis");

const conversation = process.argv[5];
const app = { username: "app", password: "of the application" };
const wrong = { username: "app", password: "wrong" };

const conversations = {
  async redis() {
    const client = createClient({ ...options, ...app });
    client.on("error", () => {});
    await client.connect();
    assert.equal(await client.set("app:node", "1"), "OK");
    assert.equal(await client.get("app:node"), "1");
    await assert.rejects(client.get("other"), /NOPERM/);
    await client.close();
    const refused = createClient({ ...options, ...wrong });
    refused.on("error", () => {});
    await assert.rejects(refused.connect(), /WRONGPASS/);
  },

  async ioredis() {
    const { host, port } = options.socket;
    const client = new Redis({ host, port, ...app });
    assert.equal(await client.set("app:node", "1"), "OK");
    await assert.rejects(client.get("other"), /NOPERM/);
    assert.equal(await client.del("app:node"), 1);
    client.disconnect();
    const refused = new Redis({ host, port, ...wrong, retryStrategy: null, lazyConnect: true });
    refused.on("error", () => {});
    await assert.rejects(refused.connect());
    refused.disconnect();
  },
};

conversations[conversation]().then(
  () => console.log(conversation),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
