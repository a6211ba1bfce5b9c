import js from "@eslint/js";
import globals from "globals";

export default [
  js.configs.recommended,
  {
    linterOptions: { reportUnusedDisableDirectives: "error" },
    rules: {
      "no-unused-vars": ["error", { argsIgnorePattern: "^_" }],
      "no-shadow": "error",
      "no-use-before-define": ["error", { functions: false, classes: false, variables: false }],
      "no-var": "error",
      "no-implicit-coercion": "error",
      "prefer-const": "error",
      "object-shorthand": "error",
      eqeqeq: "error",
      // modules.py joins modules by their static imports.
      "no-restricted-syntax": ["error", "ImportExpression"],
      "max-len": ["error", 120],
      "max-lines": ["error", 220],
    },
  },
  { files: ["**/js/*.js"], languageOptions: { globals: { ...globals.browser, Plotly: "readonly" } } },
  { files: ["**/tests/js/*.js"], languageOptions: { globals: globals.node } },
];
