import { constants } from "node:os";

/**
 * Whether a Vulkan loader is there for Dawn to find; true on systems where Dawn needs none. Dawn itself says
 * on stderr that it is missing, which is no news where an embedded driver is next.
 */
export function loaderIsInstalled(): boolean {
  if (process.platform !== "linux") return true;
  try {
    process.dlopen({ exports: {} }, "libvulkan.so.1", constants.dlopen.RTLD_NOW);
    return true;
  } catch (error) {
    return error instanceof Error && error.message.includes("did not self-register");
  }
}
