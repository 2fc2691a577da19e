// What test_node.py has programs of Node.js do, which keep sessions and caches: see node_talk.js.
"use strict";

const assert = require("node:assert/strict");
const http = require("node:http");
const { once } = require("node:events");
const { setTimeout: sleep } = require("node:timers/promises");
const { installed, main, options } = require("./node_talk.js");

const LONG_MS = 1_000_000; // that no test outlives
const SHORT_MS = 50;

async function until(what) {
  while (!(await what())) await sleep(5); // whoever runs this ends it when it takes too long
}

function isLong(leftMs) {
  return leftMs > LONG_MS - 120_000 && leftMs <= LONG_MS;
}

async function leftMs(client) {
  const keys = await client.keys("*");
  assert.equal(keys.length, 1);
  return client.pTTL(keys[0]);
}

async function isEmpty(client) {
  return (await client.dbSize()) === 0;
}

const conversations = {
  async sessions(client) {
    const session = installed("express-session");
    const { RedisStore } = installed("connect-redis");
    const store = new RedisStore({ client });
    const remember = session({ store, secret: "x", resave: false, saveUninitialized: false, cookie: { maxAge: LONG_MS } });
    const site = http.createServer((request, response) =>
      remember(request, response, () => {
        const { pathname, searchParams } = new URL(request.url, "http://site");
        if (pathname === "/visit") request.session.visits = (request.session.visits ?? 0) + 1;
        if (searchParams.has("lifetime")) request.session.cookie.maxAge = Number(searchParams.get("lifetime"));
        const said = String(request.session.visits);
        if (pathname === "/leave") request.session.destroy(() => response.end(said));
        else response.end(said);
      }),
    );
    site.listen(0, "127.0.0.1");
    await once(site, "listening");
    const get = async (path, cookie) => {
      const url = `http://127.0.0.1:${site.address().port}${path}`;
      const response = await fetch(url, { headers: cookie ? { cookie, connection: "close" } : { connection: "close" } });
      return [await response.text(), response.headers.get("set-cookie")?.split(";")[0]];
    };

    const [first, cookie] = await get("/visit");
    assert.equal(first, "1");
    assert(isLong(await leftMs(client)));
    assert.equal((await get("/visit", cookie))[0], "2");
    const [key] = await client.keys("*");
    await client.pExpire(key, LONG_MS / 2);
    assert.equal((await get("/look", cookie))[0], "2");
    assert(isLong(await leftMs(client))); // to look at a session prolongs it
    assert.equal(await store.length(), 1);
    assert.deepEqual(await store.ids(), [key.slice("sess:".length)]);
    assert.equal((await store.all())[0].visits, 2);

    assert.equal((await get(`/visit?lifetime=${SHORT_MS}`, cookie))[0], "3");
    await until(() => isEmpty(client));
    const [again, other] = await get("/visit", cookie);
    assert.equal(again, "1");
    assert(other && other !== cookie);
    assert.equal((await get("/leave", other))[0], "1");
    assert(await isEmpty(client));
    await get("/visit");
    await store.clear();
    assert(await isEmpty(client));
    site.close();
  },

  async values(client) {
    const { Keyv } = installed("keyv");
    const { default: KeyvRedis } = installed("@keyv/redis");
    const keyv = new Keyv({ store: new KeyvRedis(options), namespace: "of keyv", throwOnErrors: true });
    const other = new Keyv({ store: new KeyvRedis(options), namespace: "other", throwOnErrors: true });
    await other.set("a", "untouched");
    assert.equal(await keyv.set("a", { x: [1, "ü", null] }), true);
    assert.deepEqual(await keyv.get("a"), { x: [1, "ü", null] });
    assert.equal(await keyv.get("nope"), undefined);
    assert.equal(await keyv.has("a"), true);
    assert.equal(await keyv.delete("a"), true);
    assert.equal(await keyv.delete("a"), false);
    await keyv.setMany([
      { key: "b", value: 1 },
      { key: "c", value: 2, ttl: LONG_MS },
    ]);
    assert.deepEqual(await keyv.getMany(["b", "nope", "c"]), [1, undefined, 2]);
    assert.deepEqual(await keyv.hasMany(["b", "nope"]), [true, false]);
    const found = [];
    for await (const [key, value] of keyv.iterator()) found.push([key, value]);
    assert.deepEqual(found.sort(), [["b", 1], ["c", 2]]);
    assert.equal(await keyv.deleteMany(["b"]), true);
    await keyv.clear();
    assert.equal(await keyv.has("c"), false);
    assert.equal(await other.get("a"), "untouched");
    await other.clear();

    await keyv.set("a", 1, LONG_MS);
    assert(isLong(await leftMs(client)));
    assert.equal(await keyv.get("a"), 1);
    await keyv.set("a", 2, SHORT_MS);
    await keyv.setMany([{ key: "b", value: 3, ttl: SHORT_MS }]);
    await until(() => isEmpty(client)); // keyv looks at deadlines itself, but only the server forgets
    assert.deepEqual(await keyv.getMany(["a", "b"]), [undefined, undefined]);
    await keyv.set("a", 4);
    assert.equal(await client.pTTL((await client.keys("*"))[0]), -1);
    await Promise.all([keyv.disconnect(), other.disconnect()]);
  },

  async results(client) {
    const { createKeyv } = installed("@keyv/redis");
    const { createCache } = installed("cache-manager");
    const cache = createCache({ stores: [createKeyv(options)], ttl: LONG_MS });
    let made = 0;
    const make = async () => ({ made: ++made });
    for (let time = 0; time < 3; time++) assert.deepEqual(await cache.wrap("a", make), { made: 1 });
    assert(isLong(await leftMs(client)));
    assert(isLong((await cache.ttl("a")) - Date.now()));
    assert.equal(await cache.del("a"), true);
    assert.deepEqual(await cache.wrap("a", make, SHORT_MS), { made: 2 });
    await until(() => isEmpty(client));
    assert.deepEqual(await cache.wrap("a", make), { made: 3 });

    await cache.mset([
      { key: "b", value: 1 },
      { key: "c", value: 2, ttl: SHORT_MS },
    ]);
    await until(async () => (await client.dbSize()) === 2);
    assert.deepEqual(await cache.mget(["a", "b", "c"]), [{ made: 3 }, 1, undefined]);
    await cache.mdel(["a", "b"]);
    assert(await isEmpty(client));
    await cache.set("a", 1);
    await cache.clear();
    assert(await isEmpty(client));
    await cache.disconnect();
  },

  async limits(client) {
    const isAllowed = async (name, limit, windowMs) => {
      const [, number] = await client.multi().set(name, "0", { NX: true, PX: windowMs }).incr(name).exec();
      return number <= limit;
    };
    const allowed = await Promise.all(Array.from({ length: 100 }, () => isAllowed("one", 30, LONG_MS)));
    assert.equal(allowed.filter(Boolean).length, 30);
    assert(isLong(await leftMs(client)));
    await until(async () => !(await isAllowed("soon", 3, SHORT_MS)));
    await until(() => isAllowed("soon", 3, SHORT_MS));
  },
};

main(conversations);
