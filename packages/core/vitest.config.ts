import { defineProject } from "vitest/config"

const conditions = ["@effect-resilience/source", "module", "node", "import", "default"]

export default defineProject({
  resolve: { conditions },
  ssr: { resolve: { conditions } },
  // The property tests take a second or two each, and many times that where coverage is on and the machine is busy.
  test: {
    setupFiles: ["test/utils/setup.ts"],
    name: "core",
    include: ["test/**/*.test.ts"],
    testTimeout: 120_000
  }
})
