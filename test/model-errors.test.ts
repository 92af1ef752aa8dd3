// What is told about models that cannot be used: each fault through the code of its command, as one line that names the
// file, the value, and the way out.
import { cpSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { loadEncoder, openEncoder } from "../src/cli/encoder.ts";
import { describeFailure } from "../src/cli/failure.ts";
import { type GenerateCommand, generate } from "../src/cli/generate.ts";
import { liveBytes, gpu as testGpu } from "./device.ts";
import { GENERATE } from "./generate-command.ts";
import {
  bytes,
  config,
  ENCODER,
  folder,
  GOLDEN,
  GPT2,
  header,
  index,
  LLAMA,
  type Spoil,
  TOKENS,
  tensors,
  weight,
} from "./spoilt-models.ts";

const gpu = await testGpu();
const errors = suite("errors of models");

interface Fault {
  readonly of: string;
  readonly spoil?: Spoil;
  /** What is changed of the command `generate`. */
  readonly flags?: Partial<GenerateCommand>;
  readonly message: RegExp;
}

const FAULTS: Readonly<Record<string, Fault>> = {
  "another architecture": {
    of: GPT2,
    spoil: config({ model_type: "t5" }),
    message:
      /another-architecture\/config\.json: config: model_type is "t5"; supported: "bert", "roberta", "gpt2", "llama", "qwen2"$/,
  },
  "no model_type": {
    of: GPT2,
    spoil: config({ model_type: undefined }),
    message: /config\.json: config: no "model_type"; supported: "bert", /,
  },
  "another head": {
    of: GPT2,
    spoil: config({ architectures: ["GPT2ForSequenceClassification"] }),
    message:
      /config: architectures is \["GPT2ForSequenceClassification"\]; supported: GPT2Model, GPT2LMHeadModel$/,
  },
  "an encoder where a decoder is wanted": {
    of: ENCODER,
    flags: { maxNew: 1 },
    message:
      /model: roberta has no model for causal-lm; it has sequence-classification, masked-lm, and gpt2, llama, qwen2 have causal-lm$/,
  },
  "a decoder where an encoder is wanted": {
    of: GPT2,
    message:
      /model: gpt2 has no model for sequence-classification; it has causal-lm, and bert, roberta have sequence-classification$/,
  },
  "config.json is no JSON": {
    of: GPT2,
    spoil: bytes("config.json", () => "{"),
    message: /config\.json: Expected property name or '}' in JSON/,
  },
  "config.json is a list": {
    of: GPT2,
    spoil: bytes("config.json", () => "[]"),
    message: /config\.json: config: not a JSON object$/,
  },
  "no config.json": {
    of: GPT2,
    spoil: bytes("config.json", () => null),
    message:
      /model: no config\.json in .*no-config-json \(expected a folder with config\.json, weights and a tokenizer; a repository/,
  },
  "gpt2: cross-attention": {
    of: GPT2,
    spoil: config({ add_cross_attention: true }),
    message: /config: add_cross_attention is true; supported: false$/,
  },
  "gpt2: an activation": {
    of: GPT2,
    spoil: config({ activation_function: "mish" }),
    message: /config: activation_function is "mish"; supported: "gelu_new", /,
  },
  "gpt2: heads that do not divide": {
    of: GPT2,
    spoil: config({ n_head: 3 }),
    message: /config: n_embd 8 does not split into 3 heads$/,
  },
  "gpt2: a size that is a text": {
    of: GPT2,
    spoil: config({ n_layer: "12" }),
    message: /config: n_layer is "12", expected a whole number of 1 or more$/,
  },
  "gpt2: a size that is missing": {
    of: GPT2,
    spoil: config({ n_embd: undefined }),
    message: /config: n_embd is missing, expected a whole number of 1 or more$/,
  },
  "gpt2: a dropout beyond 1": {
    of: GPT2,
    spoil: config({ attn_pdrop: 1.5 }),
    message: /config: attn_pdrop is 1\.5, expected a share p, 0 <= p < 1$/,
  },
  "llama: an activation": {
    of: LLAMA,
    spoil: config({ hidden_act: "gelu" }),
    message: /config: hidden_act is "gelu"; supported: "silu"$/,
  },
  "llama: scaling of angles": {
    of: LLAMA,
    spoil: config({ rope_scaling: { rope_type: "yarn", factor: 4 } }),
    message: /config: rope_scaling of type "yarn"; supported: "default", "linear", "llama3"$/,
  },
  "llama: a sliding window": {
    of: LLAMA,
    spoil: config({ use_sliding_window: true }),
    message: /config: use_sliding_window is true; supported: false$/,
  },
  "llama: heads that are not shared evenly": {
    of: LLAMA,
    spoil: config({ num_key_value_heads: 3 }),
    message: /config: num_attention_heads 2 do not share num_key_value_heads 3 evenly$/,
  },
  "llama: an odd head": {
    of: LLAMA,
    spoil: config({ head_dim: 3 }),
    message: /config: head_dim is 3, expected an even number$/,
  },
  "roberta: relative positions": {
    of: ENCODER,
    spoil: config({ position_embedding_type: "relative_key" }),
    message: /config: position_embedding_type is "relative_key"; supported: "absolute"$/,
  },
  "roberta: pruned heads": {
    of: ENCODER,
    spoil: config({ pruned_heads: { 1: [0] } }),
    message: /config: pruned_heads names layers 1; supported: \{\}$/,
  },
  "roberta: an activation": {
    of: ENCODER,
    spoil: config({ hidden_act: "mish" }),
    message: /config: hidden_act is "mish"; supported: "gelu", /,
  },
  "roberta: several labels for one text": {
    of: ENCODER,
    spoil: config({ problem_type: "multi_label_classification" }),
    message:
      /config: problem_type is "multi_label_classification" with 2 labels; supported: "single_label_classification"$/,
  },
  "no weights": {
    of: GPT2,
    spoil: bytes("model.safetensors", () => null),
    message: /model: no weights in .*no-weights \(expected model\.safetensors, /,
  },
  "weights that are missing, left over, of other shape and of whole numbers": {
    of: GPT2,
    spoil: tensors((all) => {
      all.delete("transformer.ln_f.weight");
      all.set("transformer.h.1.ln_1.weight", weight(8));
      all.set("transformer.wpe.weight", weight(16, 8));
      all.set("transformer.ln_f.bias", { dtype: "I32", shape: [8], data: new Int32Array(8) });
    }),
    message:
      /1 missing: transformer\.ln_f\.weight; 1 unexpected: transformer\.h\.1\.ln_1\.weight; 1 of other shape: transformer\.wpe\.weight \[16, 8\] vs \[8, 8\] of the model; 1 not of floating point: transformer\.ln_f\.bias I32$/,
  },
  "an index that leads out of its folder": {
    of: GPT2,
    spoil: index({ a: "../../secret.safetensors" }),
    message:
      /index\.json: it names the file "\.\.\/\.\.\/secret\.safetensors"; expected a plain name beside it$/,
  },
  "an index whose file is missing": {
    of: GPT2,
    spoil: index({ a: "b.safetensors" }),
    message: /index\.json: b\.safetensors is missing beside it; download it too$/,
  },
  "an index without a map": {
    of: GPT2,
    spoil: (path) => {
      index({})(path);
    },
    message: /index\.json: its "weight_map" is empty$/,
  },
  "weights cut short": {
    of: GPT2,
    spoil: bytes("model.safetensors", (old) => old.subarray(0, -100)),
    message:
      /weights-cut-short\/model\.safetensors: safetensors: "transformer\.\S+" ends at byte \d+, outside the file's \d+ bytes of data: it is cut short, download it again$/,
  },
  "weights cut within the header": {
    of: GPT2,
    spoil: bytes("model.safetensors", (old) => old.subarray(0, 40)),
    message: /safetensors: truncated, the header ends at byte \d+ of a file of 40; download it again$/,
  },
  "an empty file of weights": {
    of: GPT2,
    spoil: bytes("model.safetensors", () => ""),
    message: /model\.safetensors: it is empty; download it again$/,
  },
  "a page of HTML for weights": {
    of: GPT2,
    spoil: bytes("model.safetensors", () => "<!doctype html><title>404</title>"),
    message: /model\.safetensors: a page of HTML, not weights; download the file again$/,
  },
  "a pointer of git-lfs for weights": {
    of: GPT2,
    spoil: bytes(
      "model.safetensors",
      () => "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 548105171\n",
    ),
    message:
      /model\.safetensors: a pointer of git-lfs, not the weights themselves; fetch them with git lfs pull$/,
  },
  "a header that is no JSON": {
    of: GPT2,
    spoil: bytes("model.safetensors", () => Uint8Array.of(3, 0, 0, 0, 0, 0, 0, 0, 0x7b, 0x7b, 0x7b)),
    message: /safetensors: header is not valid JSON: /,
  },
  "a header that lies about a size": {
    of: GPT2,
    spoil: bytes("model.safetensors", () =>
      header({ a: { dtype: "F32", shape: [4], data_offsets: [0, 12] } }),
    ),
    message: /safetensors: "a" F32 \[4\] takes 16 bytes, data_offsets \[0, 12\] hold 12$/,
  },
  "a header whose tensors overlap": {
    of: GPT2,
    spoil: bytes("model.safetensors", () =>
      header({
        a: { dtype: "F32", shape: [4], data_offsets: [0, 16] },
        b: { dtype: "F32", shape: [1], data_offsets: [8, 12] },
      }),
    ),
    message: /safetensors: "b" overlaps "a": begins at byte 8, expected 16$/,
  },
  "a type that is not known": {
    of: GPT2,
    spoil: bytes("model.safetensors", () =>
      header({ a: { dtype: "F8_E4M3", shape: [16], data_offsets: [0, 16] } }),
    ),
    message: /safetensors: "a" has unknown dtype "F8_E4M3"; known: F64, I64, F32, /,
  },
  "a pickle that wants to run something": {
    of: GPT2,
    spoil: (path) => {
      rmSync(join(path, "model.safetensors"));
      cpSync(join(GOLDEN, "malicious.bin"), join(path, "pytorch_model.bin"));
    },
    message:
      /pytorch_model\.bin: pickle: it wants posix\.system, which weights do not need; the file is refused \(take a safetensors file\)$/,
  },
  "a file of an old torch.save": {
    of: GPT2,
    spoil: (path) => {
      rmSync(join(path, "model.safetensors"));
      cpSync(join(GOLDEN, "legacy.bin"), join(path, "pytorch_model.bin"));
    },
    message:
      /pytorch: a file of torch\.save before 1\.6; load it in Python and save it again, best as safetensors$/,
  },
  "no tokenizer": {
    of: GPT2,
    spoil: (path) => {
      for (const name of ["vocab.json", "merges.txt"]) rmSync(join(path, name));
    },
    message:
      /model: no tokenizer in .*no-tokenizer \(expected tokenizer\.json, or vocab\.json with merges\.txt, /,
  },
  "half a tokenizer": {
    of: GPT2,
    spoil: bytes("merges.txt", () => null),
    message:
      /model: vocab\.json alone is no tokenizer in .*half-a-tokenizer \(expected tokenizer\.json, or vocab\.json with merges\.txt, /,
  },
  "merges of another vocabulary": {
    of: GPT2,
    spoil: bytes("merges.txt", () => "#version: 0.2\nt hequick\n"),
    message:
      /tokenizer: merges\.txt line 2: "hequick" is not in the vocabulary \(are both files of one model\?\)$/,
  },
  "a vocabulary that is no JSON": {
    of: GPT2,
    spoil: bytes("vocab.json", () => "{"),
    message: /tokenizer: vocab\.json is not JSON: Expected property name/,
  },
  "a vocabulary without the token that ends texts": {
    of: GPT2,
    spoil: bytes("vocab.json", (old) => old.toString().replace("<|endoftext|>", "<end>")),
    message: /tokenizer: vocab\.json lacks the special token <\|endoftext\|>$/,
  },
  "a tokenizer with more tokens than the model": {
    of: GPT2,
    spoil: bytes("vocab.json", (old) => old.toString().replace(/\}\s*$/, `,"zebra":${TOKENS + 4}}`)),
    message:
      /its tokenizer has \d+ tokens, config\.json says vocab_size \d+: "zebra" is \d+ \(are both of one model\?\)$/,
  },
  "a tokenizer.json of a kind that is not known": {
    of: GPT2,
    spoil: (path) =>
      writeFileSync(join(path, "tokenizer.json"), JSON.stringify({ model: { type: "Unigram", vocab: [] } })),
    message: /tokenizer: tokenizer\.json has a model of type Unigram; BPE and WordPiece are read$/,
  },
  "an encoder's tokenizer with more tokens than it": {
    of: ENCODER,
    spoil: config({ vocab_size: 1000 }),
    message: /its tokenizer has 1024 tokens, config\.json says vocab_size 1000$/,
  },
  "an encoder that pads with another token": {
    of: ENCODER,
    spoil: config({ pad_token_id: 2 }),
    message: /padding is token 1 of its tokenizer, config\.json says pad_token_id 2$/,
  },
  "a prompt longer than the positions": {
    of: GPT2,
    flags: { prompt: "one two three one two three" },
    message: /generate: --prompt has 16 tokens; the model has positions for 8 \(cut it\)$/,
  },
  "more new tokens than positions": {
    of: GPT2,
    flags: { maxNew: 9 },
    message:
      /generate: --max-new is 9 after a prompt of 2; the model has positions for 8, so ask for 7 at most$/,
  },
  "top-p of 0": {
    of: GPT2,
    flags: { topP: 0 },
    message: /generate: --top-p is 0, expected a share, 0 < p <= 1$/,
  },
  "a negative temperature": {
    of: GPT2,
    flags: { temperature: -1 },
    message: /generate: --temperature is -1, expected 0 or more$/,
  },
  "beams that draw": {
    of: GPT2,
    flags: { beams: 2, temperature: 1 },
    message: /generate: --beams finds the best text, --temperature draw one; give either$/,
  },
  "more beams than tokens": {
    of: GPT2,
    flags: { beams: 100_000 },
    message: /beams is 100000; a text goes on in \d+ ways, so ask for that many at most$/,
  },
  "a folder that is not there": {
    of: join(folder, "nowhere"),
    flags: {},
    message: /model: no config\.json in .*nowhere \(expected a folder/,
  },
};

async function told(name: string, { of, spoil, flags }: Fault): Promise<string> {
  let path = of;
  if (spoil) {
    path = join(folder, name.replaceAll(/[^a-z0-9]+/g, "-"));
    mkdirSync(path);
    cpSync(of, path, { recursive: true });
    spoil(path);
  }
  const isEncoder = !flags && (of === ENCODER || name.includes("where an encoder"));
  const action = isEncoder
    ? openEncoder(path).then((source) => loadEncoder(gpu, source, { labels: ["no", "yes"], seed: 0 }))
    : generate({ ...GENERATE, path, ...flags });
  return action.then(
    () => "no error",
    (error: unknown) => describeFailure(error),
  );
}

for (const [name, fault] of Object.entries(FAULTS))
  errors(name, async () => {
    const before = liveBytes(gpu);
    const line = await told(name, fault);
    assert.match(line, /^adamix: [^\n]+$/);
    assert.match(line, fault.message);
    assert.is(liveBytes(gpu), before, "nothing is left on the device");
  });

errors.run();
