// A file of RoBERTa-large's size, sharded and in f16: how much memory loading it takes, and how fast it is. Needs
// about 3 GB of memory and 0.8 GB of disk; about a minute on two cores.
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Stream } from "../../src/autograd/index.ts";
import { parseRobertaConfig, RobertaForSequenceClassification } from "../../src/models/index.ts";
import { saveModel } from "../../src/train/index.ts";
import { gpu as testGpu } from "../device.ts";
import { skipped } from "../skip.ts";

const gpu = await testGpu();
const test = suite("a model of RoBERTa-large's size");

const config = parseRobertaConfig({
  model_type: "roberta",
  vocab_size: 50_265,
  hidden_size: 1024,
  num_hidden_layers: 24,
  num_attention_heads: 16,
  intermediate_size: 4096,
  max_position_embeddings: 514,
});
const MB = 1e6;

const name =
  "it loads with no more memory than the model and 1.3 of its largest tensor, at more than 300 MB/s";
if (process.platform !== "linux") skipped(test, name, "memory is read from /proc");
else
  test(name, async () => {
    const folder = mkdtempSync(join(tmpdir(), "adamix-large-"));
    try {
      const model = new RobertaForSequenceClassification(gpu, config);
      const stream = Stream.seed(1);
      // Parts of one table of bits, each from another place on.
      const bits = new Uint16Array(1 << 21).map((_, i) => ((i % 2) << 15) | (0x1c00 + (i % 0x7ff)));
      for (const [path, parameter] of model.namedParameters()) {
        if (parameter.shape.length < 2) continue;
        const writer = parameter.partWriter("f16");
        const first = 2 * stream.fold(path).integer(1 << 19);
        for (let left = parameter.size; left > 0; left -= 1 << 20)
          writer.write(bits.slice(first, first + Math.min(left, 1 << 20)));
        writer.end();
      }
      await saveModel(folder, model, { maxShardBytes: 200 * MB });
      const weight = (await model.roberta.encoder.layer[23]?.output.dense.weight.data()) as Float32Array;
      const expected = weight.reduce((total, v, n) => total + v * ((n % 97) + 1), 0);
      model.dispose();
      gpu.device.trim();
      const program = fileURLToPath(new URL("load-process.ts", import.meta.url));
      const { stdout } = await promisify(execFile)(process.execPath, ["--import", "tsx", program, folder]);
      const { bytes, largest, grown, seconds, sum } = JSON.parse(stdout) as Record<string, number>;
      if (!bytes || !largest || !grown || !seconds) throw new Error(`load-process.ts printed ${stdout}`);
      const parts = [bytes, largest, grown].map((n) => (n / MB).toFixed(0));
      console.log(
        `  ${parts[0]} MB of parameters, the largest ${parts[1]} MB: memory grew by ${parts[2]} MB, ${(bytes / MB / seconds).toFixed(0)} MB/s`,
      );
      assert.is(sum, expected, "the last layer's values");
      assert.ok(grown < bytes + 1.3 * largest, `${grown} bytes, allowed ${bytes + 1.3 * largest}`);
      assert.ok(bytes / seconds > 300 * MB, `${(bytes / MB / seconds).toFixed(0)} MB/s`);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });

test.run();
