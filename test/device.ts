import { openGpu } from "../src/array/index.ts";

/** One device for all tests of a process, chosen by ADAMIX_DEVICE. */
export const gpu = await openGpu();
