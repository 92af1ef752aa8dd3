import { readFileSync } from "node:fs";

/** What to install on this system so that an adapter is found: one way per line, the simplest first. */
export function howToInstall(): string[] {
  switch (process.platform) {
    case "linux":
      return linuxHelp(osRelease(), process.arch);
    case "darwin":
      return [
        "macOS needs nothing to install: Metal is part of it (macOS 12 or newer, not in a bare virtual machine)",
      ];
    case "win32":
      return ["install the graphics card's driver, or any DirectX 12 driver; Windows 10 1809 or newer"];
    default:
      return [
        `there is no build of the npm package webgpu for ${process.platform}: use Linux, macOS or Windows`,
      ];
  }
}

/** What a system lacks on which a graphics card is there and is not found. */
export function hardwareHelp(): string[] {
  if (process.platform !== "linux") return ["install the graphics card's driver"];
  return [
    "install the graphics card's Vulkan driver and the Vulkan loader (package libvulkan1 or vulkan-loader)",
    "in a container an NVIDIA card needs NVIDIA_DRIVER_CAPABILITIES=all, or graphics among its words",
    "where the driver's file is in an unusual place, set VK_DRIVER_FILES to it (nvidia_icd.json)",
  ];
}

/** The same for a Linux named by the text of its /etc/os-release. */
export function linuxHelp(release: string, arch: string): string[] {
  const ids = /^ID(?:_LIKE)?=.*$/gm;
  const family = (release.match(ids) ?? []).join(" ").toLowerCase();
  if (/alpine/.test(family)) {
    return [
      "the npm package webgpu needs glibc, and Alpine has musl: use an image with glibc, such as node:20-bookworm",
    ];
  }
  const help = systemDriver(family, release);
  if (arch === "x64")
    help.push("no system driver: npm install @sparticuz/chromium@147.0.0 (its SwiftShader is used)");
  return help;
}

function systemDriver(family: string, release: string): string[] {
  if (/debian/.test(family) && /^VERSION_ID="?12/m.test(release)) {
    return [
      "Debian 12's own Mesa is too old; take it from backports:",
      "  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Codename: bookworm' | head -n 1)",
      '  echo "deb $mirror bookworm-backports main" > /etc/apt/sources.list.d/backports.list',
      "  apt-get update && apt-get install -t bookworm-backports mesa-vulkan-drivers libvulkan1",
    ];
  }
  if (/debian|ubuntu/.test(family))
    return ["apt-get install mesa-vulkan-drivers libvulkan1 (Mesa 23.1 or newer)"];
  if (/fedora|rhel|centos/.test(family)) return ["dnf install mesa-vulkan-drivers vulkan-loader"];
  if (/arch/.test(family)) return ["pacman -S vulkan-swrast vulkan-icd-loader"];
  if (/suse/.test(family)) return ["zypper install Mesa-vulkan-drivers libvulkan1"];
  return ["install Mesa's Vulkan drivers (23.1 or newer) and the Vulkan loader, libvulkan.so.1"];
}

function osRelease(): string {
  try {
    return readFileSync("/etc/os-release", "utf8");
  } catch {
    return "";
  }
}
