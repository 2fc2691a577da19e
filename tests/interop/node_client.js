// What test_node.py has Node's redis do, one conversation at a time: see node_talk.js.
"use strict";

const assert = require("node:assert/strict");
const { connect, installed, main } = require("./node_talk.js");
const { ErrorReply, RESP_TYPES, WatchError } = installed("redis");

const conversations = {
  async values(client) {
    assert.equal(await client.set("a", "1"), "OK");
    assert.equal(await client.get("a"), "1");
    assert.equal(await client.get("nope"), null);
    assert.equal(await client.set("a", "2", { NX: true }), null);
    assert.equal(await client.set("a", "2", { XX: true, GET: true }), "1");
    assert.equal(await client.incr("a"), 3);
    assert.equal(await client.incrBy("a", 4), 7);
    assert.equal(Number(await client.incrByFloat("a", 0.5)), 7.5);
    assert.equal(await client.mSet({ b: "x", c: "y" }), "OK");
    assert.deepEqual(await client.mGet(["a", "b", "nope"]), ["7.5", "x", null]);
    assert.equal(await client.exists(["a", "b", "nope"]), 2);
    assert.equal(await client.type("a"), "string");
    assert.equal(await client.del(["b", "c", "nope"]), 2);
    assert.equal(await client.ping(), "PONG");
    assert.equal(await client.dbSize(), 1);
    await assert.rejects(client.incr("a"), (error) => {
      assert(error instanceof ErrorReply);
      assert.equal(error.message, "ERR value is not an integer or out of range");
      return true;
    });
    await assert.rejects(client.lPush("l", "x"), /unknown command 'LPUSH'/);
    await client.set("a", "1", { EX: 1000 });
    assert((await client.ttl("a")) > 0);
  },

  async buffers(client) {
    const bytes = Buffer.from(Array.from({ length: 256 }, (_, code) => code));
    const binary = client.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer });
    assert.equal(String(await binary.set(bytes, bytes)), "OK");
    assert.deepEqual(await binary.get(bytes), bytes);
    const long = Buffer.alloc(3 << 20, "\r\n");
    assert.equal(String(await binary.set("long", long)), "OK");
    assert((await binary.get("long")).equals(long));
    assert.equal(await client.set("ü", "ß€"), "OK");
    assert.equal(await client.get("ü"), "ß€");
  },

  async pipelines(client) {
    const numbers = Array.from({ length: 5000 }, (_, number) => number);
    const replies = await Promise.all(numbers.map((number) => client.set(`k${number}`, String(number))));
    assert(replies.every((reply) => reply === "OK"));
    assert.deepEqual(
      await Promise.all(numbers.map((number) => client.get(`k${number}`))),
      numbers.map(String),
    );
  },

  async queues(client) {
    const replies = await client.multi().set("a", "1").incr("a").get("a").mGet(["a", "nope"]).exec();
    assert.deepEqual(replies, ["OK", 2, "2", ["2", null]]);
    await client.set("text", "x");
    await assert.rejects(client.multi().set("b", "1").incr("text").exec(), (error) => {
      assert.deepEqual(error.errorIndexes, [1]);
      assert.equal(error.replies[0], "OK");
      return true;
    });
    assert.equal(await client.get("b"), "1");
    await assert.rejects(client.multi().set("b", "2").addCommand(["FOO"]).exec());
    assert.equal(await client.get("b"), "1");
  },

  async watching(client) {
    const other = await connect(client.duplicate());
    await client.set("a", "1");
    await client.watch("a");
    await other.set("a", "5");
    await assert.rejects(client.multi().set("a", "2").exec(), WatchError);
    assert.equal(await client.get("a"), "5");
    await client.watch("a");
    assert.deepEqual(await client.multi().set("a", "2").exec(), ["OK"]);
    await client.watch("a");
    await other.set("a", "5");
    await client.unwatch();
    assert.deepEqual(await client.multi().get("a").exec(), ["5"]);
  },

  async transactions(client) {
    const other = await connect(client.duplicate());
    const say = (...words) => client.sendCommand(words);
    assert.equal(await say("START"), "OK");
    assert.equal(await client.incr("a"), 1);
    assert.equal(await say("START"), "OK");
    assert.equal(await client.incr("a"), 2);
    assert.equal(await say("ROLLBACK"), "OK");
    assert.equal(await client.get("a"), "1");
    assert.equal(await other.get("a"), null);
    assert.equal(await say("COMMIT"), "OK");
    assert.equal(await other.get("a"), "1");
    await say("START");
    await client.incr("a");
    await other.set("a", "10");
    await assert.rejects(say("COMMIT"), (error) => {
      assert(error instanceof ErrorReply);
      assert.match(error.message, /^CONFLICT "a" changed since START\. Nothing was applied/);
      return true;
    });
    assert.equal(await client.get("a"), "10");
  },

  async listings(client) {
    const keys = Array.from({ length: 300 }, (_, number) => `k${number}`);
    await client.mSet(Object.fromEntries(keys.map((key) => [key, ""])));
    for (const COUNT of [1, 7, 300, 1000]) {
      const found = [];
      for await (const page of client.scanIterator({ MATCH: "k*", COUNT })) found.push(...page);
      assert.deepEqual(found.sort(), keys.sort());
    }
    assert.deepEqual((await client.keys("k29?")).sort(), Array.from({ length: 10 }, (_, one) => `k29${one}`));
  },

  async clients(client) {
    const others = await Promise.all(Array.from({ length: 10 }, () => connect(client.duplicate())));
    const numbers = await Promise.all([client, ...others].map((one) => one.clientId()));
    assert.equal(new Set(numbers).size, 11);
    await others[0].clientSetName("first");
    const listed = await client.clientList();
    assert.deepEqual(listed.map((one) => one.id).sort(), [...numbers].sort());
    assert.equal(listed.find((one) => one.id === numbers[1]).name, "first");
    const gone = new Promise((resolve) => others[0].once("error", resolve));
    assert.equal(await client.sendCommand(["CLIENT", "KILL", "ID", String(numbers[1])]), 1);
    await gone;
    assert.equal(await client.ping(), "PONG");
  },

  async racing(client) {
    const others = await Promise.all(Array.from({ length: 20 }, () => connect(client.duplicate())));
    const add = async (one) => {
      for (;;) {
        await one.watch("sum");
        const number = Number(await one.get("sum"));
        try {
          await one.multi().set("sum", String(number + 1)).exec();
          return;
        } catch (error) {
          assert(error instanceof WatchError);
        }
      }
    };
    await Promise.all(others.map(add));
    assert.equal(await client.get("sum"), "20");
  },
};

main(conversations);
