// The command line on models of one's own: a BERT folder trains, scores and predicts; a repository is downloaded.
import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Stream } from "../src/autograd/index.ts";
import { BertForSequenceClassification, parseBertConfig } from "../src/models/index.ts";
import { initBertWeights } from "../src/nn/index.ts";
import { saveModel } from "../src/train/index.ts";
import { adamix, scratchFolder, succeed } from "./cli-process.ts";
import { gpu as testGpu, withEnv } from "./device.ts";

const gpu = await testGpu();
const test = suite("command line, other models");
const scratch = scratchFolder();

const WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "soup", "was", "the"];

/** A random BERT with its vocabulary. */
async function writeBert(folder: string): Promise<void> {
  const model = new BertForSequenceClassification(
    gpu,
    parseBertConfig({
      model_type: "bert",
      vocab_size: WORDS.length,
      hidden_size: 8,
      num_hidden_layers: 1,
      num_attention_heads: 2,
      intermediate_size: 12,
      max_position_embeddings: 16,
    }),
  );
  initBertWeights(model, Stream.seed(4), 0.3);
  await saveModel(folder, model);
  model.dispose();
  writeFileSync(join(folder, "vocab.txt"), `${WORDS.join("\n")}\n`);
}

const repo = join(scratch, "repo");
await writeBert(repo);
const texts = join(scratch, "texts");
mkdirSync(texts);
const rows = ["the soup\twas good\tyes", "the soup\twas bad\tno", "good\tsoup\tyes", "bad\tsoup\tno"];
for (const split of ["train", "dev"])
  writeFileSync(join(texts, `${split}.tsv`), `text\tpair\tlabel\n${rows.join("\n")}\n`);

/** Serves `repo` as "org/bert" the way the hub does, and counts requests for files. */
async function withHub(body: (requests: string[]) => Promise<void>): Promise<void> {
  const requests: string[] = [];
  const sha = "0123456789abcdef0123456789abcdef01234567";
  const siblings = readdirSync(repo).map((rfilename) => {
    const bytes = readFileSync(join(repo, rfilename));
    const hash = createHash("sha256").update(bytes).digest("hex");
    return { rfilename, size: bytes.length, lfs: { sha256: hash, size: bytes.length } };
  });
  const server = createServer((request, response) => {
    const url = request.url ?? "";
    if (url.startsWith("/api/models/org/bert/")) {
      response.end(JSON.stringify({ sha, siblings }));
      return;
    }
    const name = /^\/org\/bert\/resolve\/\w+\/([\w.-]+)$/.exec(url)?.[1];
    if (!name) {
      response.statusCode = 404;
      response.end();
      return;
    }
    requests.push(name);
    response.end(readFileSync(join(repo, name)));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  try {
    await withEnv("HF_ENDPOINT", endpoint, () =>
      withEnv("HF_HUB_CACHE", join(scratch, "cache"), () => body(requests)),
    );
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

test("a repository is downloaded once; its name is a model for train, evaluate and predict", async () => {
  await withHub(async (requests) => {
    const printed = await succeed("download", "org/bert");
    assert.match(printed, /model\.safetensors {2}0\.0 of 0\.0 MB/);
    assert.match(printed, /org\/bert is in .*models--org--bert.snapshots/);
    assert.match(printed, /bert, BertForSequenceClassification/);
    assert.equal(requests.sort(), ["config.json", "model.safetensors", "vocab.txt"]);
    const run = join(scratch, "run");
    const task = ["--task", "text", "--labels", "no,yes", "--data", texts, "--model", "org/bert"];
    const method = ["--method", "adamix-adapter", "--steps", "3", "--batch-size", "4", "--dtype", "f16"];
    const trained = await succeed("train", ...task, ...method, "--out", run);
    assert.match(trained, /dev, merged experts: accuracy/);
    const config = JSON.parse(readFileSync(join(run, "config.json"), "utf8"));
    assert.equal([config.model, config.dtype], ["org/bert", "f16"]);
    assert.match(await succeed("evaluate", run, "--dtype", "f32"), /4 examples; majority class 0\.500/);
    const told = await succeed("predict", run, "--text", "the soup", "--pair", "was good");
    assert.match(told, /the soup \| was good/);
    assert.is(requests.length, 3, "nothing is downloaded twice");
    const { code, stderr } = await adamix("download", "org/other");
    assert.is(code, 1);
    assert.match(stderr, /^adamix: hub: .*org\/other.* does not exist \(404\); is the name right\?/);
  });
});

test("what does not go together is refused before anything is opened", async () => {
  const full = await adamix("train", "--task", "sentiment", "--method", "full", "--dtype", "f16");
  assert.equal(
    [full.code, full.stderr.trim()],
    [2, "adamix: dtype is f16; method full trains the whole encoder, which needs f32"],
  );
  const name = await adamix("download", "../bert");
  assert.equal(
    [name.code, name.stderr.trim()],
    [2, 'adamix: download: "../bert" is no name of a repository; expected ORG/NAME'],
  );
});

test.run();
