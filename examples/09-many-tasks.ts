// Many tasks on one frozen encoder: adapters by name, a batch whose rows belong to different tasks, and files that other
// tools load.
//
//     npm run build && node --import tsx examples/09-many-tasks.ts
import { openGpu, Stream } from "adamix";
import { SENTIMENT_LABELS } from "adamix/data";
import { AdaptationSet, adamixAdapter, lora } from "adamix/peft";
import {
  Adapters,
  demoTrainingSentences,
  exportAdapter,
  fineTune,
  importAdapter,
  loadClassifier,
  MergedView,
  openPretrained,
  predictRows,
  saveAdapter,
} from "adamix/train";

const folder = process.argv[2] ?? "runs/example-10";
const gpu = await openGpu();
const pretrained = await openPretrained("embedded");
const encode = (text: string) => ({ ids: pretrained.tokenizer.encode(text) });

// Two tasks with labels of their own: how a sentence feels, and whether it holds a negation.
const sentences = demoTrainingSentences(0);
const TASKS = {
  sentiment: {
    labels: [...SENTIMENT_LABELS],
    method: adamixAdapter({ bottleneck: 8 }),
    examples: sentences.map(({ text, label }) => ({ ...encode(text), label })),
  },
  negation: {
    labels: ["plain", "negated"],
    method: lora({ rank: 4 }),
    examples: sentences.map(({ text }) => ({ ...encode(text), label: / not /.test(text) ? 1 : 0 })),
  },
};

async function train(name: keyof typeof TASKS): Promise<void> {
  const { labels, examples, method } = TASKS[name];
  const model = await loadClassifier(gpu, pretrained, { labels, seed: 0 });
  const set = new AdaptationSet(gpu, model, method, { stream: Stream.seed(0) });
  await fineTune(gpu, model, set, { train: examples, steps: 60, batchSize: 8, lr: 0.01, seed: 0 });
  const merged = new MergedView(model, set);
  await merged.use(() => saveAdapter(`${folder}/${name}`, model, merged.set, { base: "embedded", labels }));
  model.dispose();
}

await train("sentiment");
await train("negation");

// One encoder in memory, both tasks on it; every request names the adapter that it is for.
const model = await loadClassifier(gpu, pretrained, { labels: ["unused"], seed: 0 });
const adapters = new Adapters(gpu, model);
adapters.load("sentiment", `${folder}/sentiment`).load("negation", `${folder}/negation`);
const requests = [
  ["sentiment", "we loved the soup ."],
  ["negation", "we did not like the soup ."],
  ["sentiment", "we did not like the soup ."],
  ["negation", "we loved the soup ."],
] as const;
const logits = await predictRows(
  gpu,
  adapters,
  requests.map(([, text]) => encode(text)),
  requests.map(([name]) => name),
);
for (const [i, [name, text]] of requests.entries()) {
  const own = [...(logits[i] ?? [])];
  console.log(`${name}: "${text}" is ${TASKS[name].labels[own.indexOf(Math.max(...own))]}`);
}
for (const { name, method, adapterBytes, headBytes } of adapters.memory().tasks)
  console.log(`${name}: ${method}, ${adapterBytes} bytes, its head ${headBytes}`);

// Files for others. This encoder's head reads the mean of all tokens, which theirs does not: it stays behind.
for (const [name, format] of [
  ["negation", "peft"],
  ["sentiment", "adapters"],
] as const) {
  const files = exportAdapter(`${folder}/${name}`, `${folder}/${name}-${format}`, {
    format,
    name,
    head: false,
  });
  console.log(`${format}: ${files.map((file) => file.name).join(", ")}`);
}
const { config } = importAdapter(`${folder}/negation-peft`, `${folder}/back`);
console.log(
  `back from peft: ${config.peft?.method} of rank ${config.peft?.rank}, alpha ${config.peft?.alpha}`,
);

adapters.dispose();
await gpu.device.close();

// Prints:
// sentiment: "we loved the soup ." is positive
// negation: "we did not like the soup ." is negated
// sentiment: "we did not like the soup ." is negative
// negation: "we loved the soup ." is plain
// sentiment: adapter, 13152 bytes, its head 17420
// negation: lora, 12288 bytes, its head 17160
// peft: adapter_config.json, adapter_model.safetensors
// adapters: adapter_config.json, pytorch_adapter.bin, adapter.safetensors
// back from peft: lora of rank 4, alpha 8
