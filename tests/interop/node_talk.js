// What the scripts of conversations share: node SCRIPT DIRECTORY PORT VERSION CONVERSATION.
// DIRECTORY is where the packages were installed. Ends with exit code 0 if everything was as it is asserted.
"use strict";

const path = require("node:path");
const { createRequire } = require("node:module");

const [directory, port, version, conversation] = process.argv.slice(2);
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
  await conversations[conversation](await connect());
  for (const client of open) if (client.isOpen) await client.close();
}

function main(conversations) {
  talk(conversations).then(
    () => console.log("done"),
    (error) => {
      console.error(error);
      process.exit(1);
    },
  );
}

module.exports = { connect, installed, main, options };
