// The host's part: recording, and replaying what was recorded.
import { capture, tidy } from "../src/index.ts";
import { normal } from "./cases.ts";
import type { Case } from "./measure.ts";

const DISPATCHES = 200; // fewer than a submit holds: nothing is submitted while the host's clock runs

function replayCase(): Case {
  return {
    name: "host: replay an add",
    amount: 1,
    unit: "dispatches/s",
    clock: "host",
    inside: DISPATCHES,
    setup(gpu) {
      const x = normal(gpu, "x", [64]);
      const step = capture(gpu, () => {
        let y = x;
        for (let i = 0; i < DISPATCHES; i++) y = y.add(x);
      });
      for (let i = 0; i < 2; i++) step.run(); // every sample is a replay
      return {
        run: () => step.run(),
        dispose() {
          step.dispose();
          x.dispose();
        },
      };
    },
  };
}

/** Dispatches of tensors of 64 elements. */
export function hostCases(): Case[] {
  const record = (name: string, withTape: boolean): Case => ({
    name,
    amount: 1,
    unit: "dispatches/s",
    clock: "host",
    inside: DISPATCHES,
    setup(gpu) {
      const x = normal(gpu, "x", [64]);
      x.requiresGrad = withTape;
      const chain = (): void => {
        let y = x;
        for (let i = 0; i < DISPATCHES; i++) y = y.add(x);
      };
      return { run: () => tidy(chain), dispose: () => x.dispose() };
    },
  });
  return [
    record("host: record an add", false),
    record("host: record an add with a tape", true),
    replayCase(),
  ];
}
