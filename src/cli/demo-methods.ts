import { adamixAdapter, adamixLora, adapter, lora, type PeftMethod } from "../peft/index.ts";

/** One row of the demonstration: a method with the rate that suited it on the dev set. */
export interface DemoMethod {
  readonly name: string;
  readonly folder: string;
  readonly method: PeftMethod | null;
  readonly lr: number;
  readonly steps: number;
  /** False: on an encoder that was never pretrained. */
  readonly pretrained: boolean;
}

/** Optimiser steps of the demonstration. */
export const DEMO_STEPS = 60;

/**
 * Head only, single modules at equal steps and at equal forward passes (a mixture takes two in each step), the
 * mixtures, and LoRA on a random encoder. Rates were chosen on the dev split, mixtures want twice or more.
 */
export function demoMethods(steps: number): DemoMethod[] {
  const row = (
    name: string,
    method: PeftMethod | null,
    lr: number,
    rest: Partial<DemoMethod> = {},
  ): DemoMethod => ({
    name,
    folder: name.replaceAll(/[ ,]+/g, "-"),
    method,
    lr,
    steps,
    pretrained: true,
    ...rest,
  });
  const bottleneck = 8;
  const rank = 8;
  return [
    row("head only", null, 0.01),
    row("adapter", adapter({ bottleneck }), 0.02),
    row("adapter, equal passes", adapter({ bottleneck }), 0.02, { steps: 2 * steps }),
    row("lora", lora({ rank }), 0.006),
    row("lora, equal passes", lora({ rank }), 0.006, { steps: 2 * steps }),
    row("adamix-adapter", adamixAdapter({ bottleneck }), 0.04),
    row("adamix-lora", adamixLora({ rank }), 0.02),
    row("lora, random encoder", lora({ rank }), 0.006, { pretrained: false }),
  ];
}
