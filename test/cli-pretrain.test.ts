// adamix pretrain --objective causal: text files to a folder that generate reads, stopped and gone on with.
import { cpSync, existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { UsageError } from "../src/cli/failure.ts";
import { pretrain } from "../src/cli/pretrain.ts";
import { type PretrainCommand, pretrainCommand } from "../src/cli/pretrain-flags.ts";
import { readTexts } from "../src/cli/pretrain-texts.ts";
import { pretrainingLines } from "../src/data/index.ts";
import { adamix, scratchFolder, succeed } from "./cli-process.ts";

const cli = suite("adamix pretrain --objective causal");
const folder = scratchFolder();
const text = join(folder, "text.txt");
const out = join(folder, "model");
const sizes = ["--vocab", "300", "--hidden", "16", "--layers", "1", "--heads", "2", "--max-length", "16"];
const command = ["pretrain", text, "--objective", "causal", ...sizes, "--batch", "4", "--steps", "12"];

writeFileSync(text, pretrainingLines(120, { seed: 2 }).join("\n"));

cli("a GPT-2: its folder, its scores, and text that generate makes of it", async () => {
  const printed = await succeed(...command, "--evaluate-every", "5", "--out", out);
  assert.match(printed, /gpt2: 1 layers of 16 channels, vocabulary 300; [\d,]+ characters, [\d,]+ held out/);
  assert.match(printed, /8,368 parameters, [\d,]+ tokens to train on/);
  assert.is(printed.match(/^step (5|10)\/12 {2}held out: loss \d\.\d{6} {2}perplexity /gm)?.length, 2);
  assert.match(printed, /^held out: loss \d\.\d{6} {2}perplexity [\d.]+ {2}bits per byte \d\.\d{4}$/m);
  assert.equal(readdirSync(out).sort(), [
    "config.json",
    "merges.txt",
    "model.safetensors",
    "tokenizer_config.json",
    "training.json",
    "vocab.json",
  ]);
  const written = await succeed("generate", out, "--prompt", "the soup", "--max-new", "8");
  assert.match(written, /^the soup/);
});

cli(
  "a Llama with shared heads, stopped after a save: what goes on with it writes the same files",
  async () => {
    const [whole, stopped] = [join(folder, "whole"), join(folder, "stopped")];
    const llama = [...command, "--architecture", "llama", "--kv-heads", "1", "--schedule", "linear"];
    // --save-every 8 leaves the state after step 8 in the folder until the end replaces it.
    const saving = succeed(...llama, "--save-every", "8", "--out", stopped);
    const kept = join(folder, "kept");
    const watch = setInterval(() => {
      if (!existsSync(kept) && existsSync(join(stopped, "optimizer.safetensors")))
        cpSync(stopped, kept, { recursive: true });
    }, 1);
    await Promise.all([saving, succeed(...llama, "--out", whole)]);
    clearInterval(watch);
    assert.ok(existsSync(join(kept, "optimizer.safetensors")), "the save of step 8 was seen");
    const resume = ["pretrain", text, "--objective", "causal", "--resume", "--out", kept];
    const printed = await succeed(...resume);
    assert.match(printed, /reading the training so far/);
    assert.match(printed, /^step 12\/12/m);
    assert.equal(readdirSync(kept).sort(), readdirSync(whole).sort());
    for (const name of readdirSync(whole))
      assert.ok(readFileSync(join(kept, name)).equals(readFileSync(join(whole, name))), name);
    const again = await adamix(...resume);
    assert.is(again.code, 2);
    assert.match(again.stderr, /--resume: .* has no optimizer\.safetensors: its training has finished/);
    assert.match(await succeed("generate", kept, "--prompt", "", "--max-new", "4"), /\n$/);
  },
);

cli("a tuned training keeps its kernels; another one takes them and writes the same model", async () => {
  const [tuned, again] = [join(folder, "tuned"), join(folder, "again")];
  assert.match(await succeed(...command, "--tune", "--out", tuned), /tuned: \d of 8 kinds of products/);
  await succeed(...command, "--kernels", tuned, "--out", again);
  assert.ok(readdirSync(again).includes("kernels.json"));
  for (const name of readdirSync(tuned))
    assert.ok(readFileSync(join(again, name)).equals(readFileSync(join(tuned, name))), name);
});

cli("files, paragraphs and lines are texts", async () => {
  const path = join(folder, "paragraphs.txt");
  writeFileSync(path, "one\r\ntwo\r\n\r\n  three\n \n\nfour");
  const sources = [path];
  assert.equal(await readTexts({ sources }), ["one\ntwo\n\n  three\n \n\nfour"]);
  assert.equal(await readTexts({ sources }, "paragraph"), ["one\ntwo", "three", "four"]);
  assert.equal(await readTexts({ sources }, "line"), ["one", "two", "  three", "four"]);
});

cli("flags of the other objective, and recipes that make no model, are refused in one line", async () => {
  const base = { out: "x", tune: false, resume: false, force: false };
  const refused = (options: Record<string, unknown>, message: RegExp): void => {
    assert.throws(() => pretrainCommand(["a"], { ...base, ...options }), message);
  };
  refused(
    { objective: "masked", kvHeads: 2, saveEvery: 3 },
    /--kv-heads, --save-every of --objective causal, which is masked here/,
  );
  refused(
    { objective: "causal", spectralLines: 3 },
    /--spectral-lines of --objective masked, which is causal here/,
  );
  refused(
    { objective: "causal", resume: true, lr: 1 },
    /--resume goes on with the recipe in x; leave --lr out/,
  );
  refused(
    { objective: "causal", column: "a", split: "line" },
    /--split line is for files; with --column each row/,
  );
  refused({ objective: "masked", resume: true }, /--resume of --objective causal/);
  refused({ objective: "masked", tune: true }, /--tune of --objective causal, which is masked here/);
  refused({ objective: "causal", tune: true, kernels: "y" }, /--tune and --kernels: .* give one/);
  refused({ objective: "causal", resume: true, tune: true }, /the recipe in x; leave --tune out/);
  const small = { vocabSize: 300, hiddenSize: 16, heads: 2, layers: 1, steps: 12 };
  const fails = async (recipe: PretrainCommand["recipe"], message: RegExp, to = "none"): Promise<void> => {
    const given: PretrainCommand = {
      ...base,
      sources: [text],
      out: join(folder, to),
      objective: "causal",
      recipe,
    };
    const error = await pretrain(given).catch((reason: Error) => reason);
    assert.instance(error, UsageError);
    assert.match(String(error), message);
  };
  await fails(
    { ...small, keyValueHeads: 1 },
    /--kv-heads 1 is for --architecture llama; gpt2 has as many as --heads, 2/,
  );
  await fails({ ...small, heads: 3 }, /16 channels do not split into 3 heads/);
  await fails({ ...small, vocabSize: 256 }, /--vocab is 256, expected at least 257/);
  await fails({ ...small, dropout: 1 }, /--dropout is 1, expected a share p, 0 <= p < 1/);
  await fails({ ...small, warmupSteps: 13 }, /--warmup is 13, of 12 steps in all/);
  await fails(small, /already holds a model; name another with --out, or add --force/, "model");
  assert.not.ok(existsSync(join(folder, "none")));
});

cli("an encoder in fewer steps than its recipe warms up", async () => {
  const printed = await succeed(
    "pretrain",
    text,
    ...sizes,
    "--batch",
    "4",
    "--steps",
    "5",
    "--out",
    join(folder, "encoder"),
  );
  assert.match(printed, /5 steps of 4 lines/);
  assert.match(printed, /^held out: loss \d/m);
});

cli.run();
