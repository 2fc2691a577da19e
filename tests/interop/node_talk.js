// What the scripts of conversations share: node SCRIPT DIRECTORY PORT VERSION CONVERSATION...
// DIRECTORY is where the packages were installed. Each conversation begins without a key. Names those in which everything
// was as it is asserted; ends with exit code 0 if that is all of them.
"use strict";

const path = require("node:path");
const { createRequire } = require("node:module");

const [directory, port, version, ...names] = process.argv.slice(2);
const installed = createRequire(path.join(directory, "node_modules", "x"));
const { createClient } = installed("redis");

const options = { RESP: Number(version), socket: { host: "127.0.0.1", port: Number(port), reconnectStrategy: false } };
const open = [];

async function connect(client = createClient(options)) {
  client.on("error", () => {}); // those of a connection that is ended are looked for where they are expected
  open.push(client);
  await client.connect();
  return client;
}

async function talk(conversations) {
  for (const name of names) {
    const client = await connect();
    await client.flushAll();
    await conversations[name](client);
    for (const each of open.splice(0)) if (each.isOpen) await each.close();
    console.log(name);
  }
}

function main(conversations) {
  talk(conversations).catch((error) => {
    console.error(error);
    process.exit(1);
  });
}

module.exports = { connect, installed, main, options };
