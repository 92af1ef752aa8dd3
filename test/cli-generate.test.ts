// adamix generate: what it prints, and what it refuses in one line.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Stream } from "../src/autograd/index.ts";
import { type GenerateCommand, generate } from "../src/cli/generate.ts";
import { characterTokenizer, scoredTokenizer } from "../src/data/index.ts";
import { decodeSafetensors, encodeSafetensors, readStateDict, toInt32 } from "../src/io/index.ts";
import { Gpt2LMHeadModel, parseGpt2Config } from "../src/models/index.ts";
import { initNormal } from "../src/nn/index.ts";
import { adamix, scratchFolder, succeed } from "./cli-process.ts";
import { gpu as testGpu } from "./device.ts";
import { GENERATE } from "./generate-command.ts";
import { skipped } from "./skip.ts";

const gpu = await testGpu();
const test = suite("adamix generate");
const folder = scratchFolder();
const model = join(folder, "model");
const config = {
  model: "gpt2-like",
  vocab_size: 92,
  n_positions: 24,
  n_embd: 16,
  n_layer: 1,
  n_head: 2,
  activation: "relu",
  tied: false,
  lm_head_bias: true,
};

{
  const made = new Gpt2LMHeadModel(gpu, parseGpt2Config(config));
  for (const [name, parameter] of made.namedParameters())
    initNormal(parameter, Stream.seed(1).fold(name), 0.5);
  mkdirSync(model);
  writeFileSync(join(model, "config.json"), JSON.stringify(config));
  writeFileSync(
    join(model, "model.safetensors"),
    encodeSafetensors(await readStateDict(made.namedParameters())),
  );
  made.dispose();
}

test("the prompt and what follows, the same for the same seed", async () => {
  const command = ["generate", model, "--prompt", "Once", "--max-new", "15"];
  const drawn = [...command, "--temperature", "1.2", "--top-k", "30", "--top-p", "0.9"];
  const [greedy, first, again, other, beams] = await Promise.all([
    succeed(...command),
    succeed(...drawn),
    succeed(...drawn),
    succeed(...drawn, "--seed", "1"),
    succeed(...command, "--beams", "3", "--block-ngrams", "2", "--length-penalty", "0.8"),
  ]);
  for (const text of [greedy, first, other, beams]) {
    assert.match(text, /^Once/);
    assert.is(text.length, 4 + 15 + 1);
  }
  assert.is(first, again);
  assert.not.equal(first, other);
  assert.not.equal(first, greedy);
});

test("what is wrong is told in one line", async () => {
  const strange = join(folder, "strange");
  mkdirSync(strange);
  writeFileSync(join(strange, "config.json"), JSON.stringify({ ...config, activation: "mish" }));
  const two = join(folder, "two");
  mkdirSync(two);
  for (const name of ["tokenizer.bin", "a.bin", "b.bin"]) writeFileSync(join(two, name), "");
  const flags = { ...GENERATE, path: model, prompt: "Once" };
  const refused = async (change: Partial<GenerateCommand>, message: RegExp): Promise<void> => {
    const error = await generate({ ...flags, ...change }).then(
      () => new Error("no error"),
      (reason: Error) => reason,
    );
    assert.match(error.message, message);
  };
  await refused({ prompt: "" }, /--prompt is empty/);
  await refused({ beams: 2, topK: 3 }, /--beams finds the best text, --top-k draw one/);
  await refused({ blockNgrams: 2 }, /--block-ngrams without --beams/);
  await refused({ temperature: 0, topK: 2 }, /leave --top-k and --top-p out/);
  await refused({ topP: 1.5 }, /--top-p is 1.5, expected a share/);
  await refused({ path: strange }, /config\.json: config: activation_function is "mish"; supported/);
  await refused({ path: two }, /2 checkpoints \(a\.bin, b\.bin\) beside tokenizer\.bin/);
  const [missing, long] = await Promise.all([
    adamix("generate", model),
    adamix("generate", model, "--prompt", "Once", "--max-new", "30"),
  ]);
  assert.is(missing.code, 2);
  assert.match(missing.stderr, /^adamix: required option '--prompt <text>' not specified\n$/);
  assert.is(long.code, 2);
  assert.is(long.stdout, "");
  assert.match(
    long.stderr,
    /^adamix: generate: --max-new is 30 after a prompt of 4; .* ask for 21 at most\n$/,
  );
});

const weights = fileURLToPath(new URL("../../shared/weights/", import.meta.url));
const REAL = [
  { name: "stories260K", start: 1, key: "ids", tokenizer: "tokenizer.bin" },
  { name: "chargpt-tinystories-223k", start: 12, key: "greedy", tokenizer: null },
];

for (const { name, start, key, tokenizer: file } of REAL) {
  const path = `${weights}${name}/`;
  const title = `${name}: the golden text, word for word`;
  if (!existsSync(path)) skipped(test, title, `../shared/weights/${name} is not here`);
  else
    test(title, async () => {
      const golden = decodeSafetensors(readFileSync(`${path}golden.safetensors`)).tensors.get(key);
      const ids = golden ? [...toInt32(golden)] : [];
      const tokenizer = file ? scoredTokenizer(readFileSync(`${path}${file}`)) : characterTokenizer();
      const prompt = tokenizer.decode(ids.slice(0, start));
      const maxNew = `${ids.length - start}`;
      const printed = await succeed("generate", path, "--prompt", prompt, "--max-new", maxNew);
      assert.is(printed, `${tokenizer.decode(ids)}\n`);
    });
}

test.run();
