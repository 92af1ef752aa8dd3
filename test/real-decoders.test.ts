// Two real models, where they lie beside the project: golden logits, greedy ids and text.
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { tensor } from "../src/autograd/index.ts";
import { decodeSafetensors, toFloat32, toInt32 } from "../src/io/index.ts";
import {
  type CausalLM,
  causalPositions,
  generate,
  gpt2FromTensors,
  llamaFromTensors,
  parseGpt2Config,
  readLlama2c,
} from "../src/models/index.ts";
import { assertClose } from "./compare.ts";
import { gpu as testGpu } from "./device.ts";
import { skipped } from "./skip.ts";

const gpu = await testGpu();
const test = suite("real decoders");
const weights = fileURLToPath(new URL("../../shared/weights/", import.meta.url));

interface RealModel {
  readonly folder: string;
  readonly prompt: number;
  /** Whether the greedy ids are "greedy", beside the ids that logits are of. */
  readonly greedy: "greedy" | "ids";
  open(folder: string): CausalLM;
}

const MODELS: readonly RealModel[] = [
  {
    folder: "chargpt-tinystories-223k",
    prompt: 12,
    greedy: "greedy",
    open: (folder) =>
      gpt2FromTensors(
        gpu,
        parseGpt2Config(JSON.parse(readFileSync(`${folder}config.json`, "utf8"))),
        decodeSafetensors(readFileSync(`${folder}model.safetensors`)).tensors,
      ),
  },
  {
    folder: "stories260K",
    prompt: 1,
    greedy: "ids",
    open(folder) {
      const { config, tensors } = readLlama2c(readFileSync(`${folder}checkpoint_legacy.bin`));
      return llamaFromTensors(gpu, config, tensors);
    },
  },
];

for (const { folder, prompt, greedy, open } of MODELS) {
  const path = `${weights}${folder}/`;
  const name = `${folder}: golden logits and greedy ids`;
  if (!existsSync(path)) skipped(test, name, `../shared/weights/${folder} is not here`);
  else
    test(name, async () => {
      const model = open(path);
      const golden = decodeSafetensors(readFileSync(`${path}golden.safetensors`)).tensors;
      const raw = (key: string) => {
        const found = golden.get(key);
        if (!found) throw new Error(`${folder}: no golden "${key}"`);
        return found;
      };
      const ids = Int32Array.from(toInt32(raw("ids")));
      const shape = raw("ids").shape.length === 1 ? [1, ids.length] : raw("ids").shape;
      const length = shape.at(-1) as number;
      const positions = causalPositions(new Int32Array(ids.length).fill(1), length, model.positions);
      const logits = model.forward({
        inputIds: tensor(gpu, ids, shape),
        positionIds: tensor(gpu, positions, shape),
        attentionMask: null,
      });
      assertClose(await logits.data(), toFloat32(raw("logits")), { atol: 1e-4, name: folder });
      const expected = [...toInt32(raw(greedy))];
      const start = expected.slice(0, prompt);
      const [text] = await generate(model, [start], { maxNew: expected.length - prompt });
      assert.equal([...start, ...(text?.ids ?? [])], expected);
    });
}

test.run();
