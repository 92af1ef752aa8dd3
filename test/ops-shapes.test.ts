// Every row of ops.table.ts over the shape classes that are made for it (ops-table/classes.ts), and the kernels
// that this takes: other sizes of the same classes must not compile.
//
//     ADAMIX_UPDATE_GOLDEN=1 npm test -- ops-shapes      writes golden/shape-classes.txt anew
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Gpu } from "../src/array/index.ts";
import { bothKernels, gpu as openTestGpu } from "./device.ts";
import { table } from "./ops.table.ts";
import { compare } from "./ops-table/check.ts";
import { shapeClasses } from "./ops-table/classes.ts";
import { composed } from "./ops-table/composed.ts";
import { record } from "./ops-table/evaluate.ts";
import { compareGrid } from "./ops-table/grid.ts";
import { compareHalves } from "./ops-table/halves.ts";
import { attributesOf, type Subject, subjectOf } from "./ops-table/subject.ts";
import { watchKernels } from "./pipelines.ts";
import { summary } from "./summary.ts";

/** Kernels of an op: forward and backward of each input, for groups of four and for single elements. */
const PIPELINES = 16;

const golden = new URL("golden/shape-classes.txt", import.meta.url);
const isUpdating = process.env.ADAMIX_UPDATE_GOLDEN === "1";
const gpu = await openTestGpu();
const variants = await bothKernels();
const only = process.env.ADAMIX_TEST_OPS?.split(",");
const subjects = [...table, ...composed]
  .map(subjectOf)
  .filter(({ name }) => !only || only.includes(name))
  .map((subject) => ({ subject, devices: devicesOf(subject.variants) }));
const classes = suite("ops, shape classes");
const lines: string[] = [];

for (const { subject, devices } of subjects) {
  const cases = shapeClasses(gpu, subject);
  const kernels = watchKernels(gpu.device);
  cases.forEach((c, i) => {
    const layouts = i % 2 === 0 ? (["columns"] as const) : (["window"] as const);
    for (const device of devices) {
      classes(`${subject.name}, ${c.name}${shown(device, devices)}`, () =>
        kernels.during(() => compare(device, subject, c, { layouts })),
      );
    }
  });
  const found = new Set<string>(cases.map(({ shapeClass }) => shapeClass));
  if (subject.workgroup) {
    found.add("grid");
    // The kernels without barriers: 65,536 barriers take half a minute on a software adapter.
    const device = subject.variants ? variants.software : gpu;
    classes(`${subject.name}, more than 65,535 workgroups`, () => compareGrid(device, subject));
  }
  const small = cases.find(({ shapeClass }) => shapeClass === "primes") ?? subject.cases[0];
  for (const dtype of subject.halves === false ? [] : (["f16", "bf16"] as const)) {
    if (!small) break;
    found.add(dtype);
    classes(`${subject.name} in ${dtype}`, () => compareHalves(gpu, subject, small, dtype));
  }
  classes(`${subject.name} compiles nothing for other sizes`, async () => {
    const most = PIPELINES * devices.length;
    assert.ok(kernels.names.size <= most, `${kernels.names.size} kernels, allowed are ${most}`);
    // A composed function that goes another way from some size on has a case of that size.
    if (!subject.op) await kernels.during(async () => recordCases(gpu, subject));
    const others = watchKernels(gpu.device);
    for (const device of devices) await others.during(async () => recordOtherSizes(device, subject));
    assert.equal(
      [...others.names].filter((name) => !kernels.names.has(name)),
      [],
    );
  });
  lines.push(`${subject.name}: ${[...found].sort().join(", ")}`);
  summary.classes += found.size;
  summary.compared += cases.length * devices.length;
}
summary.rows += subjects.length;

if (!only) {
  classes("the classes of each row are those of golden/shape-classes.txt", () => {
    const actual = `${lines.sort().join("\n")}\n`;
    if (isUpdating) writeFileSync(golden, actual);
    const expected = existsSync(golden) ? readFileSync(golden, "utf8") : "";
    const changed = lines.filter((line) => !expected.split("\n").includes(line));
    if (actual === expected) return;
    throw new Error(
      `ops-shapes: other shape classes than golden/shape-classes.txt says; if none is lost, run ` +
        `ADAMIX_UPDATE_GOLDEN=1 npm test -- ops-shapes\n    ${changed.join("\n    ")}`,
    );
  });
}

classes.run();

function devicesOf(bothVariants = false): readonly Gpu[] {
  return bothVariants ? [variants.software, variants.hardware] : [gpu];
}

function shown(device: Gpu, devices: readonly Gpu[]): string {
  return devices.length === 1 ? "" : `, kernels for ${device.isSoftware ? "software" : "GPUs"}`;
}

/** Forward and backward of the row's own cases, without looking at the results. */
function recordCases(device: Gpu, subject: Subject): void {
  for (const c of subject.cases)
    record(device, { run: subject.run, inputs: c.inputs, attrs: attributesOf(device, c) });
  device.device.recorder.flush();
}

/** Forward and backward of every class with longer dimensions, without looking at the results. */
function recordOtherSizes(device: Gpu, subject: Subject): void {
  for (const longer of ["first", "last"] as const)
    for (const c of shapeClasses(device, subject, { longer }))
      record(device, { run: subject.run, inputs: c.inputs, attrs: attributesOf(device, c) });
  device.device.recorder.flush();
}
