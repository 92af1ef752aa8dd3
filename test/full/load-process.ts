// Loads a model and says, as JSON, how much memory and time that took: a process of its own, whose memory nothing else
// has used before. `node --import tsx load-process.ts FOLDER`.
import { readFileSync, writeFileSync } from "node:fs";
import { loadModel } from "../../src/train/index.ts";
import { gpu as testGpu } from "../device.ts";

const [folder = ""] = process.argv.slice(2);
const gpu = await testGpu();
const before = process.memoryUsage().rss;
writeFileSync("/proc/self/clear_refs", "5"); // the peak is counted anew
const started = performance.now();
const cpu = process.cpuUsage();
const { model } = await loadModel(gpu, folder, { task: "sequence-classification", dtype: "f16" });
await gpu.device.recorder.throttle();
const used = process.cpuUsage(cpu);
// Where other processes hold the cores, its own time is what it took.
const seconds = Math.min((performance.now() - started) / 1000, (used.user + used.system) / 1e6);
const peak = Number(/^VmHWM:\s+(\d+) kB/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1]) * 1024;
const sizes = model.parameters().map(({ size, dtype }) => size * (dtype === "f16" ? 2 : 4));
const last = model.stateDict().get("roberta.encoder.layer.23.output.dense.weight");
const values = ((await last?.data()) ?? new Float32Array()) as Float32Array;
const sum = values.reduce((total, v, i) => total + v * ((i % 97) + 1), 0);
console.log(
  JSON.stringify({
    bytes: sizes.reduce((total, size) => total + size, 0),
    largest: Math.max(...sizes),
    grown: peak - before,
    seconds,
    sum,
  }),
);
process.exit(0);
