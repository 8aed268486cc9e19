import effect from "@effect/eslint-plugin"
import tseslint from "typescript-eslint"

const real = (what, instead) => ({ message: `${what} cannot be tested: use ${instead}.` })

export default tseslint.config(
  { ignores: ["**/dist/**", "**/build/**", "**/coverage/**", "**/node_modules/**"] },
  ...tseslint.configs.recommended,
  {
    plugins: { "@effect": effect },
    rules: {
      "@effect/dprint": ["error", {
        config: {
          indentWidth: 2,
          lineWidth: 120,
          semiColons: "asi",
          quoteStyle: "alwaysDouble",
          trailingCommas: "never",
          operatorPosition: "maintain",
          "arrowFunction.useParentheses": "force"
        }
      }],
      "@typescript-eslint/array-type": ["error", { default: "generic", readonly: "generic" }],
      "@typescript-eslint/consistent-type-imports": "error",
      "@typescript-eslint/no-empty-object-type": "off",
      "@typescript-eslint/no-namespace": "off",
      "@typescript-eslint/no-unused-vars": ["error", { argsIgnorePattern: "^_", varsIgnorePattern: "^_" }],
      "@typescript-eslint/no-unsafe-declaration-merging": "off",
      "object-shorthand": "error"
    }
  },
  {
    files: ["packages/*/src/**/*.ts"],
    rules: {
      "@effect/no-import-from-barrel-package": ["error", { packageNames: ["effect"] }],
      "@typescript-eslint/no-non-null-assertion": "error",
      "no-console": "error",
      "no-restricted-properties": [
        "error",
        { object: "Date", property: "now", ...real("The wall clock", "Clock") },
        { object: "Math", property: "random", ...real("Math.random", "Random") }
      ],
      "no-restricted-globals": [
        "error",
        { name: "setTimeout", ...real("A bare timer", "internal/timer.ts") },
        { name: "setInterval", ...real("A bare timer", "internal/timer.ts") }
      ]
    }
  },
  {
    files: ["packages/core/src/**/*.ts"],
    ignores: ["packages/core/src/node.ts"],
    rules: {
      "no-restricted-imports": ["error", {
        patterns: [{ group: ["node:*"], message: "What needs Node stands in node.ts: the rest runs anywhere." }]
      }]
    }
  },
  {
    files: ["packages/*/src/internal/**/*.ts"],
    rules: { "@typescript-eslint/no-explicit-any": "off" }
  },
  {
    files: ["**/*.test.ts", "**/test/**/*.ts", "**/*.tst.ts", "bench/**/*.ts"],
    rules: { "@typescript-eslint/no-explicit-any": "off" }
  },
  {
    // What an instance is called is text, whatever it looks like.
    files: ["packages/http/src/internal/dashboard/page/*.js"],
    rules: {
      "no-restricted-properties": [
        "error",
        ...["innerHTML", "outerHTML", "insertAdjacentHTML", "write", "eval"].map((property) => ({
          property,
          message: "All text gets into the page as text: use h() of dom.js."
        }))
      ]
    }
  },
  {
    files: ["**/*.mjs"],
    languageOptions: { globals: { process: "readonly", console: "readonly", URL: "readonly" } }
  }
)
