// Downloads against a server of our own: whole, broken, short, changed, slow, private, redirected; the cache's layout.
import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { downloadModel, FormatError, type HubOptions, hubCacheFolder, isRepoName } from "../src/io/index.ts";
import { withEnv } from "./device.ts";

const hub = suite("hub");
const COMMIT = "0123456789abcdef0123456789abcdef01234567";
const weights = Uint8Array.from({ length: 200_000 }, (_, i) => (i * 31 + (i >> 7)) & 255);
const config = new TextEncoder().encode('{"model_type": "roberta"}\n');
const sha256 = createHash("sha256").update(weights).digest("hex");
const gitName = (bytes: Uint8Array): string =>
  createHash("sha1").update(`blob ${bytes.length}\0`).update(bytes).digest("hex");
const blobId = gitName(config);

type Serve = (request: IncomingMessage, response: ServerResponse, tries: number) => void;

const send: Serve = (request, response) => {
  const from = Number(/bytes=(\d+)-/.exec(request.headers.range ?? "")?.[1] ?? 0);
  const head = { "content-length": weights.length - from };
  if (from > 0)
    response.writeHead(206, {
      ...head,
      "content-range": `bytes ${from}-${weights.length - 1}/${weights.length}`,
    });
  else response.writeHead(200, head);
  response.end(weights.subarray(from));
};

/** A hub with one model, whose weights are served by `serve`; and a cache folder of its own. */
async function withHub(
  serve: Serve,
  body: (options: HubOptions & { cacheFolder: string }, log: string[]) => Promise<void>,
  extra: Readonly<Record<string, Uint8Array>> = {},
): Promise<void> {
  const log: string[] = [];
  let tries = 0;
  const own = [
    { rfilename: "config.json", size: config.length, blobId },
    {
      rfilename: "model.safetensors",
      size: weights.length,
      blobId: "f".repeat(40),
      lfs: { sha256, size: weights.length },
    },
    { rfilename: "../../escape.json", size: 3, blobId: "e".repeat(40) },
  ];
  const files = [
    ...own.filter(({ rfilename }) => Object.keys(extra).length === 0 || rfilename !== "model.safetensors"),
    ...Object.entries(extra).map(([rfilename, bytes]) => ({
      rfilename,
      size: bytes.length,
      blobId: gitName(bytes),
    })),
  ];
  const server = createServer((request, response) => {
    log.push(`${request.url} ${request.headers.range ?? ""} ${request.headers.authorization ?? ""}`.trim());
    const path = (request.url ?? "").split("?")[0] ?? "";
    if (path.startsWith("/api/models/org/tiny/revision/"))
      response.end(JSON.stringify({ sha: COMMIT, siblings: files }));
    else if (path === `/org/tiny/resolve/${COMMIT}/config.json`) response.end(config);
    else if (path === `/org/tiny/resolve/${COMMIT}/model.safetensors`) serve(request, response, ++tries);
    else if (extra[path.slice(path.lastIndexOf("/") + 1)])
      response.end(extra[path.slice(path.lastIndexOf("/") + 1)]);
    else if (path.startsWith("/api/models/org/private")) response.writeHead(401).end();
    else response.writeHead(path.startsWith("/broken/") ? 503 : 404).end();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const cacheFolder = mkdtempSync(join(tmpdir(), "adamix-hub-"));
  const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  try {
    await body({ cacheFolder, endpoint, token: null, stallMs: 10_000, tries: 3 }, log);
  } finally {
    server.closeAllConnections();
    server.close();
    rmSync(cacheFolder, { recursive: true, force: true });
  }
}

async function refusal(work: Promise<unknown>): Promise<string> {
  try {
    await work;
  } catch (error) {
    assert.instance(error, FormatError);
    return (error as Error).message;
  }
  throw new Error("nothing was refused");
}

const blobsIn = (cache: string): string[] => readdirSync(join(cache, "models--org--tiny", "blobs")).sort();

hub("a model lands in the cache as Python's library lays it out, and is not fetched twice", async () => {
  await withHub(send, async (options, log) => {
    const seen: number[] = [];
    const folder = await downloadModel("org/tiny", {
      ...options,
      onProgress: ({ bytes }) => seen.push(bytes),
    });
    assert.is(folder, join(options.cacheFolder, "models--org--tiny", "snapshots", COMMIT));
    assert.equal(readdirSync(folder).sort(), ["config.json", "model.safetensors"]);
    assert.equal(new Uint8Array(readFileSync(join(folder, "model.safetensors"))), weights);
    assert.is(readlinkSync(join(folder, "model.safetensors")), join("..", "..", "blobs", sha256));
    assert.equal(blobsIn(options.cacheFolder), [blobId, sha256].sort());
    assert.is(readFileSync(join(options.cacheFolder, "models--org--tiny", "refs", "main"), "utf8"), COMMIT);
    assert.is(seen.at(-1), weights.length);
    const requests = log.length;
    assert.is(await downloadModel("org/tiny", options), folder);
    assert.is(log.length, requests + 1, "only the commit is asked for");
    assert.is(await downloadModel("org/tiny", { ...options, offline: true }), folder);
    assert.is(log.length, requests + 1, "offline asks nothing");
    assert.ok(!existsSync(join(options.cacheFolder, "..", "escape.json")));
  });
});

hub("a connection that breaks goes on where it stopped", async () => {
  const broken: Serve = (request, response, tries) => {
    if (tries > 1) return send(request, response, tries);
    response.writeHead(200, { "content-length": weights.length });
    response.write(weights.subarray(0, 70_000), () => setTimeout(() => response.destroy(), 20));
  };
  await withHub(broken, async (options, log) => {
    const folder = await downloadModel("org/tiny", options);
    assert.equal(new Uint8Array(readFileSync(join(folder, "model.safetensors"))), weights);
    assert.match(log.at(-1) ?? "", /model\.safetensors bytes=70000-$/);
  });
});

hub("a partial file of an earlier run is continued; a server without ranges sends it whole", async () => {
  const whole: Serve = (_request, response) => response.end(weights);
  for (const serve of [send, whole]) {
    await withHub(serve, async (options) => {
      const folder = await downloadModel("org/tiny", options);
      const blob = join(options.cacheFolder, "models--org--tiny", "blobs", sha256);
      rmSync(blob);
      writeFileSync(`${blob}.incomplete`, weights.subarray(0, 1234));
      await downloadModel("org/tiny", options);
      assert.equal(new Uint8Array(readFileSync(join(folder, "model.safetensors"))), weights);
      assert.ok(!existsSync(`${blob}.incomplete`));
    });
  }
});

hub("a short answer is tried again, and kept for the next run", async () => {
  const short: Serve = (request, response) => {
    const from = Number(/bytes=(\d+)-/.exec(request.headers.range ?? "")?.[1] ?? 0);
    response.writeHead(from > 0 ? 206 : 200, { "content-range": `bytes ${from}-` });
    response.end(weights.subarray(from, from + 1000)); // chunked, and ends in order
  };
  await withHub(short, async (options) => {
    const message = await refusal(downloadModel("org/tiny", options));
    assert.match(
      message,
      /broke off at 3000 of 200000 bytes, 3 times \(the connection ended early\); run it again to go on/,
    );
    assert.ok(blobsIn(options.cacheFolder).includes(`${sha256}.incomplete`));
    assert.not.ok(blobsIn(options.cacheFolder).includes(sha256), "never under the final name");
  });
});

hub("changed bytes are found by their hash, and removed", async () => {
  const changed: Serve = (_request, response) => {
    const bytes = Uint8Array.from(weights);
    bytes[777] = (bytes[777] ?? 0) ^ 1;
    response.end(bytes);
  };
  await withHub(changed, async (options) => {
    const message = await refusal(downloadModel("org/tiny", options));
    assert.match(
      message,
      new RegExp(`arrived changed: sha256 [0-9a-f]{64}, expected ${sha256}; it was removed`),
    );
    assert.equal(blobsIn(options.cacheFolder), [blobId]);
  });
  await withHub(
    (_request, response) => response.end(Buffer.concat([weights, weights])),
    async (options) => {
      assert.match(
        await refusal(downloadModel("org/tiny", options)),
        /longer than the 200000 bytes that were announced/,
      );
    },
  );
});

hub("what is wrong on this side is told at once, and not tried again", async () => {
  await withHub(send, async (options, log) => {
    const blob = join(options.cacheFolder ?? "", "models--org--tiny", "blobs", `${sha256}.incomplete`);
    mkdirSync(blob, { recursive: true }); // a folder where the file should grow, as a full disk would refuse it too
    assert.match(
      await refusal(downloadModel("org/tiny", options)),
      /model\.safetensors of org\/tiny takes \d+ more bytes: files: cannot write .*: it is a folder; make room, or name another cache with HF_HUB_CACHE/,
    );
    assert.equal(
      log.filter((line) => line.includes("model.safetensors")),
      [],
      "nothing was asked for that could not be kept",
    );
  });
});

hub("an index that is no JSON is named", async () => {
  const broken = { "model.safetensors.index.json": new TextEncoder().encode("{") };
  await withHub(
    send,
    async (options) =>
      assert.match(
        await refusal(downloadModel("org/tiny", options)),
        /model\.safetensors\.index\.json: Expected/,
      ),
    broken,
  );
});

hub("a server that stops sending is given up, and tried again", async () => {
  const slow: Serve = (request, response, tries) => {
    if (tries === 3) return send(request, response, tries);
    response.writeHead(200, { "content-length": weights.length });
    response.write(weights.subarray(0, 10 * tries));
  };
  await withHub(slow, async (options) => {
    const folder = await downloadModel("org/tiny", { ...options, stallMs: 500 });
    assert.equal(new Uint8Array(readFileSync(join(folder, "model.safetensors"))), weights);
  });
  await withHub(
    (_request, response) => void response.writeHead(200).flushHeaders(),
    async (options) => {
      assert.match(
        await refusal(downloadModel("org/tiny", { ...options, stallMs: 500 })),
        /3 times \(no byte for 500 ms\)/,
      );
    },
  );
});

hub("tokens are sent to the hub and not to where it redirects", async () => {
  await withHub(send, async (other, otherLog) => {
    const redirect: Serve = (_request, response) =>
      response
        .writeHead(302, { location: `${other.endpoint}/org/tiny/resolve/${COMMIT}/model.safetensors` })
        .end();
    await withHub(redirect, async (options, log) => {
      // Another port is another origin.
      await downloadModel("org/tiny", { ...options, token: "secret" });
      assert.ok(log.every((line) => line.endsWith("Bearer secret")));
      assert.equal(
        otherLog.filter((line) => line.includes("secret")),
        [],
      );
    });
  });
});

hub("errors say what to do", async () => {
  await withHub(send, async (options) => {
    assert.match(
      await refusal(downloadModel("org/private", options)),
      /org\/private is private, gated or not there \(401\): set HF_TOKEN/,
    );
    assert.match(
      await refusal(downloadModel("org/private", { ...options, token: "x" })),
      /the token does not open it/,
    );
    assert.match(
      await refusal(downloadModel("org/none", options)),
      /does not exist \(404\); is the name right\?/,
    );
    assert.match(
      await refusal(downloadModel("org/tiny", { ...options, offline: true })),
      /org\/tiny \(main\) is not in the cache .*HF_HUB_OFFLINE/,
    );
    assert.match(await refusal(downloadModel("../etc", options)), /"\.\.\/etc" is no name of a repository/);
    assert.match(
      await refusal(downloadModel("org/tiny", { ...options, revision: "../x" })),
      /no branch, tag or commit/,
    );
  });
  const closed = { cacheFolder: tmpdir(), endpoint: "http://127.0.0.1:9", token: null };
  assert.match(
    await refusal(downloadModel("org/tiny", closed)),
    /127\.0\.0\.1:9 cannot be reached \(.*\), and org\/tiny is not in the cache; look at the network, or name a folder/,
  );
});

hub("a hub that does not answer is no reason to do without what is in the cache", async () => {
  await withHub(send, async (options) => {
    const folder = await downloadModel("org/tiny", options);
    for (const endpoint of ["http://127.0.0.1:9", `${options.endpoint}/broken`])
      assert.is(await downloadModel("org/tiny", { ...options, endpoint }), folder, endpoint);
    assert.match(
      await refusal(
        downloadModel("org/tiny", { ...options, endpoint: `${options.endpoint}/broken`, revision: "v2" }),
      ),
      /revision\/v2\?blobs=true answered 503; try again later/,
    );
    assert.match(await refusal(downloadModel("org/private", options)), /private, gated or not there/);
  });
});

hub("sharded weights are fetched with their index, which may name no other place", async () => {
  const text = (value: object): Uint8Array => new TextEncoder().encode(JSON.stringify(value));
  const shards = { "a.bin": Uint8Array.of(1, 2, 3), "b.bin": Uint8Array.of(4) };
  const index = text({ weight_map: { x: "a.bin", y: "b.bin", z: "a.bin" } });
  const whole = { "pytorch_model.bin.index.json": index, ...shards };
  await withHub(
    send,
    async (options) => {
      const folder = await downloadModel("org/tiny", options);
      assert.equal(readdirSync(folder).sort(), [
        "a.bin",
        "b.bin",
        "config.json",
        "pytorch_model.bin.index.json",
      ]);
      assert.equal([...readFileSync(join(folder, "a.bin"))], [1, 2, 3]);
    },
    whole,
  );
  const away = { "model.safetensors.index.json": text({ weight_map: { x: "../../../away.bin" } }) };
  await withHub(
    send,
    async (options) =>
      assert.match(
        await refusal(downloadModel("org/tiny", options)),
        /index\.json: it names the file "\.\.\/\.\.\/\.\.\/away\.bin"; expected a plain name/,
      ),
    away,
  );
  await withHub(
    send,
    async (options) =>
      assert.match(await refusal(downloadModel("org/tiny", options)), /has no weights that can be read/),
    { "notes.txt": Uint8Array.of(1) },
  );
});

hub("the cache folder and repository names", async () => {
  await withEnv("HF_HUB_CACHE", "/somewhere", async () => assert.is(hubCacheFolder(), "/somewhere"));
  await withEnv("HF_HOME", tmpdir(), async () => assert.is(hubCacheFolder(), join(tmpdir(), "hub")));
  for (const name of ["roberta-large", "org/name", "a.b/c_d-1"]) assert.ok(isRepoName(name), name);
  for (const name of ["./model", "/model", "a/b/c", "..", "org/", "models--x", ""])
    assert.not.ok(isRepoName(name), name);
});

hub.run();
