// A file of RoBERTa-large's size, sharded and in f16: how much memory loading it takes, and how fast it is. Needs
// about 3 GB of memory and 0.8 GB of disk; about a minute on two cores.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Stream } from "../../src/autograd/index.ts";
import { parseRobertaConfig, RobertaForSequenceClassification } from "../../src/models/index.ts";
import { loadModel, saveModel } from "../../src/train/index.ts";
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

/** The most memory that this process held since the last call with `reset`. */
function peakBytes({ reset = false } = {}): number {
  if (reset) writeFileSync("/proc/self/clear_refs", "5");
  const kilobytes = /^VmHWM:\s+(\d+) kB/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1];
  return Number(kilobytes) * 1024;
}

const name =
  "it loads with no more memory than the model and 1.3 of its largest tensor, at more than 300 MB/s";
if (process.platform !== "linux") skipped(test, name, "memory is read from /proc");
else
  test(name, async () => {
    const folder = mkdtempSync(join(tmpdir(), "adamix-large-"));
    try {
      // From before anything was made: what freed memory the process still holds helps nobody.
      const before = process.memoryUsage().rss;
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
      const expected = await model.roberta.encoder.layer[23]?.output.dense.weight.data();
      model.dispose();
      gpu.device.trim();
      await gpu.device.recorder.throttle();
      globalThis.gc?.();
      peakBytes({ reset: true });
      const started = performance.now();
      const cpu = process.cpuUsage();
      const options = { task: "sequence-classification", dtype: "f16" } as const;
      const loaded = await loadModel(gpu, folder, options);
      await gpu.device.recorder.throttle();
      const used = process.cpuUsage(cpu);
      // Where other processes hold the cores, its own time is what it took.
      const seconds = Math.min((performance.now() - started) / 1000, (used.user + used.system) / 1e6);
      const grown = peakBytes() - before;
      const bytes = (parameter: { size: number; dtype: string }) =>
        parameter.size * (parameter.dtype === "f16" ? 2 : 4);
      const sizes = loaded.model.parameters().map(bytes);
      const total = sizes.reduce((sum, size) => sum + size, 0);
      const largest = Math.max(...sizes);
      const parts = [total, largest, grown].map((n) => (n / MB).toFixed(0));
      console.log(
        `  ${parts[0]} MB of parameters, the largest ${parts[1]} MB: memory grew by ${parts[2]} MB, ${(total / MB / seconds).toFixed(0)} MB/s`,
      );
      const weight = (loaded.model as RobertaForSequenceClassification).roberta.encoder.layer[23]?.output
        .dense.weight;
      assert.equal(await weight?.data(), expected, "the last layer's bytes");
      assert.ok(grown < total + 1.3 * largest, `${grown} bytes, allowed ${total + 1.3 * largest}`);
      assert.ok(total / seconds > 300 * MB, `${(total / MB / seconds).toFixed(0)} MB/s`);
      loaded.model.dispose();
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });

test.run();
